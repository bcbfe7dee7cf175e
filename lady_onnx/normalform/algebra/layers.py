"""TODO."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .constants import compute_constant
from .numbering import Terms
from .term import Leaf, Term


def make_zero_bias(terms: Terms, units: int, weight: Term) -> Term:
    """The bias of a layer that has none."""
    assert weight.leaf is not None
    return terms.constant(np.zeros(units, weight.leaf.array.dtype), f"{weight.leaf.hint}.bias")


def read_numbers_per_unit(term: Term, array: np.ndarray) -> np.ndarray | None:
    """Numbers for every unit of a layer, or one for all; None where a constant that is added or multiplied is neither."""
    rank = term.rank
    weight = term.operands[1]
    assert weight is not None
    assert weight.leaf is not None
    if rank is None or array.ndim > rank:
        return None
    if array.size == 1:
        return array.reshape(())
    axis = rank - 1 if term.operator == "Linear" else 1
    place = array.ndim - (rank - axis)
    if place < 0 or any(n != 1 for a, n in enumerate(array.shape) if a != place):
        return None
    return array.reshape(-1) if array.size == count_units(term) else None


def count_units(term: Term) -> int:
    """How many units a layer has."""
    weight = term.operands[1]
    assert weight is not None
    assert weight.leaf is not None
    if term.operator == "Linear":
        return weight.leaf.array.shape[1]
    if term.operator == "Conv":
        return weight.leaf.array.shape[0]
    groups = term.attribute("group")
    assert isinstance(groups, int)
    return weight.leaf.array.shape[1] * groups


def is_layer(term: Term) -> bool:
    """Is it a layer whose weight and bias are constants?"""
    return term.operator in ("Linear", "Conv", "ConvTranspose") and all(
        o is not None and o.leaf is not None for o in term.operands[1:3]
    )


def scale_units(
    terms: Terms, term: Term, factor: np.ndarray, leaf: Leaf | None = None
) -> Term | None:
    """A layer whose units are multiplied by constants; None where these belong to no units."""
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
    room = (
        None
        if leaf is None or leaf.room is None
        else read_numbers_per_unit(term, np.broadcast_to(leaf.room, factor.shape))
    )
    units = count_units(term)
    flat = Leaf(
        np.broadcast_to(own, (units,)).astype(dtype),
        weight.leaf.hint,
        None,
        None if room is None else np.broadcast_to(room, (units,)),
    )
    new_bias = compute_constant(terms, "Mul", [bias.leaf, flat])
    shaped = _align_with_weight(term, flat, weight.leaf.array.shape)
    new_weight = (
        compute_constant(terms, "Mul", [weight.leaf, shaped]) if shaped is not None else None
    )
    if new_bias is None or new_weight is None:
        return None
    return _replace_operands(terms, term, [x, new_weight, new_bias])


def _align_with_weight(term: Term, flat: Leaf, shape: tuple[int, ...]) -> Leaf | None:
    """Numbers for every unit, laid out as the weight of a layer."""
    if term.operator == "Linear":
        to: tuple[int, ...] = (1, -1)
    elif term.operator == "Conv":
        to = (-1, *[1] * (len(shape) - 1))
    else:
        groups = term.attribute("group")
        if groups != 1:
            return None
        to = (1, -1, *[1] * (len(shape) - 2))
    room = None if flat.room is None else flat.room.reshape(to)
    return Leaf(flat.array.reshape(to), flat.hint, None, room)


def _replace_operands(terms: Terms, term: Term, operands: Sequence[Term]) -> Term:
    return terms.make(term.operator, operands, term.attributes, dtype=term.dtype, shape=term.shape)


def shift_units(terms: Terms, layer: Term, leaf: Leaf, own: np.ndarray) -> Term | None:
    x, weight, bias = layer.operands
    assert bias is not None
    assert bias.leaf is not None
    assert x is not None
    assert weight is not None
    units = count_units(layer)
    room = (
        None
        if leaf.room is None
        else read_numbers_per_unit(layer, np.broadcast_to(leaf.room, leaf.array.shape))
    )
    if not bias.leaf.array.any() and own.ndim and leaf.room is None:
        # a bias of zeros leaves the other as it is
        made: Term | None = terms.moved(leaf, lambda a: a.reshape(-1))
    else:
        whole = Leaf(
            np.broadcast_to(own, (units,)),
            leaf.hint,
            None,
            None if room is None else np.broadcast_to(room, (units,)),
        )
        made = compute_constant(
            terms, "Add", [Leaf(bias.leaf.array, leaf.hint, None, bias.leaf.room), whole]
        )
    return None if made is None else _replace_operands(terms, layer, [x, weight, made])
