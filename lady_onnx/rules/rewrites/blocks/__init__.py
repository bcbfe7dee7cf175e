"""Reads maps that onnxruntime lays out in blocks of channels."""
