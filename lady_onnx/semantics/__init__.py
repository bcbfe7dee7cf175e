"""What ONNX messages say of a model, and when two of them say the same.

Nothing here walks a graph or names an operator.
"""
