"""Words that all packages may use: the names of operators, sets of them, and element types.

What a single operator does is said by its rule, and not here.
"""
