"""Elementwise functions: they are applied before the movements of their operands."""

from __future__ import annotations

from collections.abc import Sequence

from ...vocabulary.classes import UNARY_OPERATORS
from ...vocabulary.names import RECIPROCAL, SQRT
from .constants import compute_constant
from .movements import move_like, split_movement, strip_movement
from .multiples import make_multiple, split_factor
from .numbering import Terms
from .term import Attributes, Term, make_attributes


def apply_before_movement(
    terms: Terms, operator: str, operands: Sequence[Term | None], attributes: Attributes
) -> Term | None:
    """Apply an elementwise function before the movement of its operand.

    Args:
        terms: makes terms.
        operator: the function.
        operands: the moved term, and constants of one element.
        attributes: the attributes of the function.

    Returns:
        The moved result; None where the term moves nothing, or the function has other operands.
    """
    term = operands[0]
    if operator not in UNARY_OPERATORS or term is None or split_movement(term) is None:
        return None
    if any(o is not None and (o.leaf is None or o.leaf.array.size != 1) for o in operands[1:]):
        return None
    inner = strip_movement(term)
    made = apply_before_movement(terms, operator, [inner, *operands[1:]], attributes)
    if made is None:
        made = terms.make_term(
            operator, [inner, *operands[1:]], attributes, dtype=term.dtype, shape=inner.shape
        )
    return move_like(terms, made, term)


def make_reciprocal(terms: Terms, term: Term) -> Term:
    """Divide one by a term; a factor stands behind the inverse."""
    # a factor of zero raises an error here, and the graph has no normal form
    core, factor = split_factor(terms, term)
    if core.leaf is not None:
        made = compute_constant(terms, RECIPROCAL, [core.leaf])
        if made is not None:
            return make_multiple(terms, made, 1 / factor)
    return make_multiple(terms, apply_unary(terms, RECIPROCAL, core), 1 / factor)


def make_square_root(terms: Terms, term: Term) -> Term:
    """Make the square root of a term."""
    if term.leaf is not None:
        made = compute_constant(terms, SQRT, [term.leaf])
        if made is not None:
            return made
    return apply_unary(terms, SQRT, term)


def apply_unary(terms: Terms, operator: str, term: Term, **attributes: object) -> Term:
    """Apply an elementwise function to a term."""
    made = apply_before_movement(terms, operator, [term], make_attributes(**attributes))
    if made is not None:
        return made
    return terms.make_term(
        operator, [term], make_attributes(**attributes), dtype=term.dtype, shape=term.shape
    )
