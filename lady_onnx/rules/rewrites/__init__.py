"""Rewrites of nodes into normal form, one operator family a module.

Importing the package imports every family, so that the registry is complete wherever a module of
it is in use.
"""

from . import activations, arithmetic, layers, norms, parts, reductions, resizing, shaping, types

__all__ = [
    "activations",
    "arithmetic",
    "layers",
    "norms",
    "parts",
    "reductions",
    "resizing",
    "shaping",
    "types",
]
