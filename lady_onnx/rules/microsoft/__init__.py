"""Rules of operators of the domain `com.microsoft` that have no plain form, or not for all nodes.

onnxruntime's optimisers and quantisation tools write them.
"""
