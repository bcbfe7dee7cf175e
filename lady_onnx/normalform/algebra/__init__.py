"""Terms and the equalities between them: what normal forms are made of.

An equality that holds for real numbers, and for floats up to rounding, is used for floats of 32 and
64 bits alone. Nodes of files are not known here; `rewrites` turns them into terms.
"""
