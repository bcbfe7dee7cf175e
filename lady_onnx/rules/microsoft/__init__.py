"""Operators that onnxruntime's optimisers and quantisation tools write, domain `com.microsoft`."""
