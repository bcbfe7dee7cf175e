"""Finds where every unit went, by the likelihood of its weights. Arrays and groups, no ONNX."""
