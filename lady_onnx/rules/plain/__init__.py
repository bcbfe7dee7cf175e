"""Plain forms of fused operators, one operator family a module.

`writer` has the language in which they are written, and their registry.
"""
