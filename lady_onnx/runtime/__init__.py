"""Running models: the only package that uses onnxruntime.

It opens sessions, makes inputs that tell two models apart, and compares outputs.
"""
