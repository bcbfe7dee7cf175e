"""TODO."""

from __future__ import annotations

import numpy as np
import onnx.helper

from ...rules.classes import UNARY_OPERATORS
from ...semantics.lengths import Length
from ..algebra.multiples import make_multiple
from ..algebra.numbering import Terms
from ..algebra.reductions import make_reduction
from ..algebra.sums import combine_terms
from ..algebra.term import NoNormalForm, Term

BLOCKED_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")


def is_blocked(term: Term | None) -> bool:
    """Is it a map in blocks of channels?"""
    return term is not None and term.operator == "Blocked"


def make_blocked(terms: Terms, term: Term, map_shape: tuple[Length, ...]) -> Term:
    """A map of some shape in blocks, or what is left of it where only its numbers, and how they lie, count."""
    made = terms.make(
        "Blocked", [term], (("of", repr(map_shape).encode()),), dtype=term.dtype, shape=term.shape
    )
    made.layout = (map_shape, ())
    return made


def read_map(term: Term) -> Term:
    """The map that lies in blocks."""
    inner = term.operands[0] if is_blocked(term) else None
    if inner is None or inner.shape != term.layout[0]:
        raise NoNormalForm("a map that does not lie in blocks of channels is read as if it did")
    return inner


def count_channels(term: Term) -> int:
    """How many channels a map has."""
    if term.shape is None or len(term.shape) < 3 or not isinstance(term.shape[1], int):
        raise NoNormalForm("a map of unknown channels")
    return term.shape[1]


def keep_channels(terms: Terms, term: Term, count: int) -> Term | None:
    """The first channels of a map, computed without the others; None where that is not known. One term for all that ask."""
    key = (id(term), count)
    if key not in terms.parts:
        terms.parts[key] = _find_kept_channels(terms, term, count)
    return terms.parts[key]


def _find_kept_channels(terms: Terms, term: Term, count: int) -> Term | None:
    if term.shape is None or term.rank is None or term.rank < 3:
        return None
    if term.shape[1] == count:
        return term
    to = (term.shape[0], count, *term.shape[2:])
    first = term.operands[0] if term.operands else None
    operator = term.operator
    if operator == "Conv":
        return _keep_channels_of_convolution(terms, term, count)
    if operator in ("Sum", "Product", "Add", "Mul"):
        parts = [
            None if o is None else _keep_channels_of_operand(terms, o, term, count)
            for o in term.operands
        ]
        if any(p is None for p in parts):
            return None
        sides = [p for p in parts if p is not None]
        if operator in ("Sum", "Product"):
            return combine_terms(terms, operator, sides, to)
        return terms.make(operator, sides, term.attributes, dtype=term.dtype, shape=to)
    if first is None:
        return None
    if operator == "Pad" and first.shape is not None and first.shape[1] == count:
        pads = (
            term.operands[1].whole
            if len(term.operands) == 2 and term.operands[1] is not None
            else None
        )
        is_filled = pads is not None and np.flatnonzero(pads).tolist() == [term.rank + 1]
        return first if is_filled else None
    axes = term.attribute("axes") if operator.startswith("Reduce") else []
    if isinstance(axes, list) and 1 in axes:
        return None
    # a fourth operand of a Resize counts the channels
    numbers = (
        all(o is None or o.leaf is not None for o in term.operands[1:]) and len(term.operands) < 4
    )
    # what zeros become must be a number that zeros take back
    if operator in ("Log", "Reciprocal"):
        return None
    if operator not in (
        *UNARY_OPERATORS,
        *BLOCKED_POOLS,
        "Resize",
        "Scale",
    ) and not operator.startswith("Reduce"):
        return None
    inner = keep_channels(terms, first, count) if numbers else None
    if inner is None:
        return None
    if operator == "Scale":
        return make_multiple(terms, inner, term.scale)
    if operator.startswith("Reduce") and isinstance(axes, list):
        return make_reduction(terms, operator, inner, axes)
    return terms.make(
        operator, [inner, *term.operands[1:]], term.attributes, dtype=term.dtype, shape=to
    )


def _keep_channels_of_operand(terms: Terms, side: Term, whole: Term, count: int) -> Term | None:
    """What is added to a map or multiplied with it, for its first channels."""
    if side.shape is None or whole.shape is None:
        return None
    axis = len(side.shape) - len(whole.shape) + 1
    if axis < 0 or side.shape[axis] == 1:
        return side
    if side.shape[axis] != whole.shape[1]:
        return None
    if side.leaf is not None:
        where = (*[slice(None)] * axis, slice(count))
        return terms.moved(side.leaf, lambda a: a[where])
    return keep_channels(terms, side, count) if axis == 1 else None


def _keep_channels_of_convolution(terms: Terms, term: Term, count: int) -> Term | None:
    x, weight, bias = term.operands
    group = term.attribute("group")
    assert x is not None
    if (
        weight is None
        or bias is None
        or weight.leaf is None
        or bias.leaf is None
        or term.shape is None
    ):
        return None
    attributes = term.attributes
    if group != 1:
        if weight.leaf.array.shape[1] != 1 or weight.leaf.array.shape[0] != group:
            return None
        inner = keep_channels(terms, x, count)
        if inner is None:
            return None
        x = inner
        made = onnx.helper.make_attribute("group", count).SerializeToString(deterministic=True)
        attributes = tuple((n, made if n == "group" else v) for n, v in attributes)
    weight = terms.moved(weight.leaf, lambda a: a[:count])
    bias = terms.moved(bias.leaf, lambda a: a[:count])
    shape = (term.shape[0], count, *term.shape[2:])
    return terms.make("Conv", [x, weight, bias], attributes, dtype=term.dtype, shape=shape)
