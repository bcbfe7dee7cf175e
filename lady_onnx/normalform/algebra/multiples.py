"""Factors that are one number: they stand behind what they scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...vocabulary.names import CONV, CONV_TRANSPOSE, MUL, SCALE
from .constants import compute_constant
from .movements import move_like, split_movement, strip_movement
from .numbering import Terms
from .term import Leaf, Term
from .units import scale_units


def split_factor(terms: Terms, term: Term) -> tuple[Term, float]:
    """Split a term into a term and the number that this is multiplied by."""
    inner = term.operands[0] if term.operands else None
    if term.operator == SCALE and inner is not None:
        return inner, term.scale
    if inner is not None and inner.operator == SCALE and split_movement(term) is not None:
        assert inner.operands[0] is not None
        return move_like(terms, inner.operands[0], term), inner.scale
    return term, 1.0


def make_multiple(terms: Terms, term: Term, factor: float) -> Term:
    """Multiply a term by a number; a movement stands behind the number."""
    core, own = split_factor(terms, term)
    factor = factor * own
    if factor == 1.0:
        return core
    if core.leaf is not None:
        made = compute_constant(
            terms, MUL, [core.leaf, Leaf(np.array(factor, core.leaf.array.dtype), core.leaf.hint)]
        )
        if made is not None:
            return made
    # a matrix product keeps its factor behind it: `make_linear` moves factors from before it there
    if core.operator in (CONV, CONV_TRANSPOSE):
        folded = scale_units(terms, core, np.array(factor))
        if folded is not None:
            return folded
    if split_movement(core) is not None:
        return move_like(terms, make_multiple(terms, strip_movement(core), factor), core)
    return terms.make_term(SCALE, [core], dtype=core.dtype, shape=core.shape, scale=factor)


def apply_linear(terms: Terms, term: Term, make: Callable[[Term], Term]) -> Term:
    """Apply a linear function to a term, with the factor of the term behind the result."""
    core, factor = split_factor(terms, term)
    return make_multiple(terms, make(core), factor)
