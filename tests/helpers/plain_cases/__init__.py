"""Cases of plain forms, one module a family; every one registers its cases when it is imported."""

from . import activations, attention, maps, moves, norms, products, quantised  # noqa: F401
