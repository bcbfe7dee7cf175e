"""Maps in blocks of channels as terms, and how channels that only fill a block are cut off."""

from __future__ import annotations

import math

import numpy as np
import onnx.helper

from ....normalform.algebra.constants import may_reassociate
from ....normalform.algebra.multiples import make_multiple, split_factor
from ....normalform.algebra.normalisations import make_reduction
from ....normalform.algebra.numbering import Terms
from ....normalform.algebra.sums import combine_terms, make_product, make_sum
from ....normalform.algebra.term import NoNormalFormError, Term
from ....semantics.lengths import Length
from ....vocabulary.classes import UNARY_OPERATORS

BLOCKED_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
"""Pools that act on every channel alone."""
CHANNELWISE_OPERATORS = (*UNARY_OPERATORS, *BLOCKED_POOLS, "Resize", "Scale")
"""Operators of one map that act on every channel alone, beside reductions."""


def is_blocked(term: Term | None) -> bool:
    """Tell whether a term is a map in blocks of channels."""
    return term is not None and term.operator == "Blocked"


def make_blocked(terms: Terms, term: Term, map_shape: tuple[Length, ...]) -> Term:
    """Lay a map out in blocks.

    Args:
        terms: makes terms.
        term: the map, or what is left of it where only its numbers and how they lie count.
        map_shape: the shape of the map.
    """
    made = terms.make_term(
        "Blocked", [term], (("of", repr(map_shape).encode()),), dtype=term.dtype, shape=term.shape
    )
    made.layout = (map_shape, ())
    return made


def read_map(term: Term) -> Term:
    """Return the map that lies in blocks.

    Raises:
        NoNormalFormError: if the term is no map in blocks, or was reshaped.
    """
    inner = term.operands[0] if is_blocked(term) else None
    if inner is None or inner.shape != term.layout[0]:
        raise NoNormalFormError(
            "a map that does not lie in blocks of channels is read as if it did"
        )
    return inner


def count_channels(term: Term) -> int:
    """Return the number of channels of a map.

    Raises:
        NoNormalFormError: if it is not known.
    """
    if term.shape is None or len(term.shape) < 3 or not isinstance(term.shape[1], int):
        raise NoNormalFormError("a map of unknown channels")
    return term.shape[1]


def keep_channels(terms: Terms, term: Term, count: int) -> Term | None:
    """Make the first channels of a map, computed without the others.

    There is one term for all that ask.

    Args:
        terms: makes terms.
        term: the map.
        count: how many channels are kept.

    Returns:
        The term; None where the channels cannot be computed without the others.
    """
    key = (id(term), count)
    if key not in terms.kept_channels:
        terms.kept_channels[key] = _find_kept_channels(terms, term, count)
    return terms.kept_channels[key]


def _find_kept_channels(terms: Terms, term: Term, count: int) -> Term | None:
    """Make the first channels of a map, as `keep_channels` does, for each kind of operator."""
    if term.shape is None or term.rank is None or term.rank < 3:
        return None
    if term.shape[1] == count:
        return term
    operator = term.operator
    if operator == "Conv":
        return _keep_channels_of_convolution(terms, term, count)
    if operator in ("Sum", "Product", "Add", "Mul"):
        return _keep_channels_of_combination(terms, term, count)
    first = term.operands[0] if term.operands else None
    if first is None:
        return None
    if operator == "Pad" and first.shape is not None and first.shape[1] == count:
        return first if is_filling(term) else None
    return _keep_channels_of_function(terms, term, first, count)


def _keep_channels_of_combination(terms: Terms, term: Term, count: int) -> Term | None:
    """Make a sum or product of the first channels of maps."""
    assert term.shape is not None
    shape = (term.shape[0], count, *term.shape[2:])
    parts = [
        None if o is None else _keep_channels_of_operand(terms, o, term, count)
        for o in term.operands
    ]
    if any(p is None for p in parts):
        return None
    sides = [p for p in parts if p is not None]
    if term.operator == "Sum":
        return combine_terms(terms, term.operator, sides, shape)
    if term.operator == "Product":
        cores, factors = zip(*(split_factor(terms, side) for side in sides), strict=True)
        factor = math.prod(factors)
        if not may_reassociate(factor):
            cores, factor = tuple(sides), 1.0
        return make_multiple(terms, combine_terms(terms, term.operator, cores, shape), factor)
    # one of two is a constant, which may change places with what is before it now
    a, b = sides
    return (make_sum if term.operator == "Add" else make_product)(terms, a, b)


def is_filling(term: Term) -> bool:
    """Tell whether a padding adds zeros behind the channels of a map, and nowhere else."""
    pads = (
        term.operands[1].integers
        if len(term.operands) == 2 and term.operands[1] is not None
        else None
    )
    assert term.rank is not None
    return pads is not None and np.flatnonzero(pads).tolist() == [term.rank + 1]


def _keep_channels_of_function(terms: Terms, term: Term, first: Term, count: int) -> Term | None:
    """Make a function of the first channels of a map that acts on every channel alone."""
    assert term.shape is not None
    operator = term.operator
    is_reduction = operator.startswith("Reduce")
    axes = term.read_attribute("axes") if is_reduction else []
    if isinstance(axes, list) and 1 in axes:
        return None
    if not is_reduction and operator not in CHANNELWISE_OPERATORS:
        return None
    # a fourth operand of a Resize is the shape of the result, channels included
    are_constant = all(o is None or o.leaf is not None for o in term.operands[1:])
    is_cut = are_constant and len(term.operands) < 4
    inner = keep_channels(terms, first, count) if is_cut else None
    if inner is None:
        return None
    if operator == "Scale":
        return make_multiple(terms, inner, term.scale)
    if is_reduction and isinstance(axes, list):
        return make_reduction(terms, operator, inner, axes)
    shape = (term.shape[0], count, *term.shape[2:])
    return terms.make_term(
        operator, [inner, *term.operands[1:]], term.attributes, dtype=term.dtype, shape=shape
    )


def _keep_channels_of_operand(terms: Terms, side: Term, whole: Term, count: int) -> Term | None:
    """Make what is added to the first channels of a map, or multiplied with them."""
    if side.shape is None or whole.shape is None:
        return None
    axis = len(side.shape) - len(whole.shape) + 1
    if axis < 0 or side.shape[axis] == 1:
        return side
    if side.shape[axis] != whole.shape[1]:
        return None
    if side.leaf is not None:
        where = (*[slice(None)] * axis, slice(count))
        return terms.move_constant(side.leaf, lambda a: a[where])
    return keep_channels(terms, side, count) if axis == 1 else None


def _keep_channels_of_convolution(terms: Terms, term: Term, count: int) -> Term | None:
    """Make a convolution of fewer units; a depthwise one reads fewer channels as well."""
    x, weight, bias = term.operands
    group = term.read_attribute("group")
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
    weight = terms.move_constant(weight.leaf, lambda a: a[:count])
    bias = terms.move_constant(bias.leaf, lambda a: a[:count])
    shape = (term.shape[0], count, *term.shape[2:])
    return terms.make_term("Conv", [x, weight, bias], attributes, dtype=term.dtype, shape=shape)
