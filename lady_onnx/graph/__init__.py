"""ONNX files in and out: weights by name, nodes, checks of what a file says, external data."""
