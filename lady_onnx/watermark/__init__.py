"""Marks in weights, and stamps in the order of units: who made a model, and who was given it.

Needs the extra `watermark`: `pip install 'lady-onnx[watermark]'`.

A **mark** changes weights a little, so that a key and a mark file read a payload from them
(`embedding`). It is read after any order of the units, because the suspect is brought back to a
reference first (`extraction`). A **stamp** changes nothing but the order (`stamping`): all copies
compute the same, and each holds a payload of its own, which names the customer (`tracing`).

`schemes` holds the ways to write bits into weights, `secrets` the keys and what they seal.
"""
