"""What is known of tensors besides their labels: element types, shapes, and some values.

`versions` says which operator set a node speaks, `types` holds types and shapes, `values` computes
what follows from constants and shapes, and `results` infers the types of a node's results. Labels
are in `lady_onnx.dataflow.labels`.
"""
