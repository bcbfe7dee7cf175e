"""Marks in weights: whose model is this?

Needs the extra `watermark`: `pip install lady-onnx[watermark]`.

A **mark** changes weights a little, so that a key and a mark file read a payload from them
(`embedding`). It is read after any order of the units, because the suspect is brought back to a
reference first (`extraction`).

`schemes` has the interface of the ways to write bits into weights; each is a module by itself.
`payloads` seals and corrects what is written, `keys` has all secrets.
"""
