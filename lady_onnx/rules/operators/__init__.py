"""Operators of the default domain (https://onnx.ai/onnx/operators/), one family a module."""
