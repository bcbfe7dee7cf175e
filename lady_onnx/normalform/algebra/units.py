"""The units of layers with constant weights: of `Linear`, `Conv` and `ConvTranspose`.

A factor or an addend for every unit becomes part of the weight and the bias. How a layer is made of
what it reads is in `linear`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...vocabulary.names import ADD, CONV, CONV_TRANSPOSE, LINEAR, MUL
from .constants import compute_constant
from .numbering import Terms
from .term import Leaf, Term


def make_zero_bias(terms: Terms, units: int, weight: Term) -> Term:
    """Make the bias of a layer that has none."""
    assert weight.leaf is not None
    return terms.make_constant(np.zeros(units, weight.leaf.array.dtype), f"{weight.leaf.hint}.bias")


def read_numbers_per_unit(term: Term, array: np.ndarray) -> np.ndarray | None:
    """Read a constant that combines with a layer's result as one number for every unit.

    Args:
        term: a layer.
        array: a constant that is added to its result, or multiplied with it.

    Returns:
        The numbers [units], or one number without axes for all units; None where the constant
        varies along another axis.
    """
    rank = term.rank
    weight = term.operands[1]
    assert weight is not None
    assert weight.leaf is not None
    if rank is None or array.ndim > rank:
        return None
    if array.size == 1:
        return array.reshape(())
    # the units of a matrix product lie along the last axis, those of a convolution along the second
    axis = rank - 1 if term.operator == LINEAR else 1
    place = array.ndim - (rank - axis)
    if place < 0 or any(n != 1 for a, n in enumerate(array.shape) if a != place):
        return None
    return array.reshape(-1) if array.size == count_units(term) else None


def count_units(term: Term) -> int:
    """Return the number of units of a layer."""
    weight = term.operands[1]
    assert weight is not None
    assert weight.leaf is not None
    if term.operator == LINEAR:
        return weight.leaf.array.shape[1]
    if term.operator == CONV:
        return weight.leaf.array.shape[0]
    # the weight of a transposed convolution is [inputs, units in a group, ...]
    groups = term.read_attribute("group")
    assert isinstance(groups, int)
    return weight.leaf.array.shape[1] * groups


def is_layer(term: Term) -> bool:
    """Tell whether a term is a layer whose weight and bias are constants."""
    return term.operator in (LINEAR, CONV, CONV_TRANSPOSE) and all(
        o is not None and o.leaf is not None for o in term.operands[1:3]
    )


def scale_units(
    terms: Terms, term: Term, factor: np.ndarray, leaf: Leaf | None = None
) -> Term | None:
    """Multiply the units of a layer by constants.

    Args:
        terms: makes terms.
        term: any term.
        factor: the constants.
        leaf: the constant that they come from, for its error bound.

    Returns:
        The layer; None where the term is none, or where the constants belong to no units.
    """
    if not is_layer(term):
        return None
    own = read_numbers_per_unit(term, factor)
    if own is None:
        return None
    x, weight, bias = term.operands
    assert x is not None
    assert weight is not None
    assert weight.leaf is not None
    assert bias is not None
    assert bias.leaf is not None
    dtype = weight.leaf.array.dtype
    error_bound = (
        None
        if leaf is None or leaf.error_bound is None
        else read_numbers_per_unit(term, np.broadcast_to(leaf.error_bound, factor.shape))
    )
    units = count_units(term)
    # in the type of the weight, which the constants of the file have as well
    flat = Leaf(
        np.broadcast_to(own, (units,)).astype(dtype),
        weight.leaf.hint,
        None,
        None if error_bound is None else np.broadcast_to(error_bound, (units,)),
    )
    new_bias = compute_constant(terms, MUL, [bias.leaf, flat])
    shaped = _align_with_weight(term, flat, weight.leaf.array.shape)
    new_weight = compute_constant(terms, MUL, [weight.leaf, shaped]) if shaped is not None else None
    if new_bias is None or new_weight is None:
        return None
    return _replace_operands(terms, term, [x, new_weight, new_bias])


def _align_with_weight(term: Term, flat: Leaf, shape: tuple[int, ...]) -> Leaf | None:
    """Lay numbers for every unit out along the units' axis of a weight.

    None for a transposed convolution of several groups, whose units lie along two axes.
    """
    if term.operator == LINEAR:
        to: tuple[int, ...] = (1, -1)
    elif term.operator == CONV:
        to = (-1, *[1] * (len(shape) - 1))
    else:
        groups = term.read_attribute("group")
        if groups != 1:
            return None
        to = (1, -1, *[1] * (len(shape) - 2))
    error_bound = None if flat.error_bound is None else flat.error_bound.reshape(to)
    return Leaf(flat.array.reshape(to), flat.hint, None, error_bound)


def _replace_operands(terms: Terms, term: Term, operands: Sequence[Term]) -> Term:
    return terms.make_term(
        term.operator, operands, term.attributes, dtype=term.dtype, shape=term.shape
    )


def shift_units(terms: Terms, layer: Term, leaf: Leaf, own: np.ndarray) -> Term | None:
    """Add constants to the bias of a layer.

    Args:
        terms: makes terms.
        layer: the layer.
        leaf: the constant that is added to its result.
        own: its numbers for every unit, or one for all.

    Returns:
        The layer; None where the sum is not computed.
    """
    x, weight, bias = layer.operands
    assert bias is not None
    assert bias.leaf is not None
    assert x is not None
    assert weight is not None
    units = count_units(layer)
    error_bound = (
        None
        if leaf.error_bound is None
        else read_numbers_per_unit(layer, np.broadcast_to(leaf.error_bound, leaf.array.shape))
    )
    if not bias.leaf.array.any() and own.ndim and leaf.error_bound is None:
        # what is added to zeros is not rounded, and keeps its place in the file
        made: Term | None = terms.move_constant(leaf, lambda a: a.reshape(-1))
    else:
        whole = Leaf(
            np.broadcast_to(own, (units,)),
            leaf.hint,
            None,
            None if error_bound is None else np.broadcast_to(error_bound, (units,)),
        )
        made = compute_constant(
            terms, ADD, [Leaf(bias.leaf.array, leaf.hint, None, bias.leaf.error_bound), whole]
        )
    return None if made is None else _replace_operands(terms, layer, [x, weight, made])
