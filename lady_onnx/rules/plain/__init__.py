"""Plain forms of fused operators, one operator family a module.

`lady_onnx.rules.plain_forms` has the language in which they are written, and their registry.
"""
