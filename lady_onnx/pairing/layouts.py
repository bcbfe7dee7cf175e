"""Maps weights and units of a normal form back to its source file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph.model import WeightMapping
from ..groups.model import Group, Slot
from ..numerics import is_float_array

if TYPE_CHECKING:
    from ..normalform.form import Form

FACTOR_TOLERANCE = 1e-3
"""A constant is a weight times a factor if no more than this share of the largest element is left.
"""


def lay_out_weights(form: Form, weights: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Lay weights out as the source of a normal form has them.

    Args:
        form: the normal form.
        weights: those of another model with the same form, by the names of its constants.

    Returns:
        The float weights of the source, as far as they are known, by name. Unknown elements are
        NaN. A constant may be a weight of the source times factors along one axis, as a folded norm
        makes it; it is divided by these factors.
    """
    source, parts, scaled = form.source, dict[str, list[str]](), dict[str, str]()
    for name, leaf in form.leaves.items():
        if name not in weights:
            continue
        if leaf.origin is not None:
            parts.setdefault(leaf.origin[0], []).append(name)
        elif leaf.hint in source.tensors:
            scaled[leaf.hint] = name
    known = [n for n in {**scaled, **parts} if is_float_array(source.array(n))]

    def lay_out(weight: str) -> np.ndarray:
        ours = source.array(weight)
        result = np.full_like(ours, np.nan)
        if weight in parts:
            for name in parts[weight]:
                origin = form.leaves[name].origin
                assert origin is not None
                result.reshape(-1)[origin[1]().ravel()] = weights[name].ravel()
            return result
        name = scaled[weight]
        factors = _find_factors(ours, form.leaves[name].array)
        return result if factors is None else (weights[name] / factors).astype(ours.dtype)

    return WeightMapping(known, lay_out)


def find_own_units(
    form: Form, groups: Sequence[Group], own: Sequence[Group]
) -> dict[str, tuple[str, np.ndarray]]:
    """Find the unit of the source for each unit of a normal form.

    Args:
        form: the normal form.
        groups: groups of the form.
        own: the groups of its source.

    Returns:
        By the id of a group of the form the id of its counterpart, and `units`, int64 [size]:
        `units[k]` is the unit of the source that is unit k of the form. Groups without a
        counterpart of their size are left out.
    """
    slots: dict[str, list[tuple[Group, Slot]]] = {}
    for group in own:
        for slot in group.slots:
            slots.setdefault(slot.initializer, []).append((group, slot))
    found = {}
    for group in groups:
        for slot in group.slots:
            name = _find_own_group(form, group, slot, slots)
            if name is not None:
                found[group.id] = name
                break
    return found


def _find_own_group(
    form: Form, group: Group, slot: Slot, slots: Mapping[str, list[tuple[Group, Slot]]]
) -> tuple[str, np.ndarray] | None:
    """Find the group of a form's source that a slot of the form belongs to."""
    leaf = form.leaves.get(slot.initializer)
    if leaf is None:
        return None
    shape = leaf.array.shape
    if leaf.origin is not None:
        weight, places = leaf.origin[0], leaf.origin[1]().reshape(shape)
    elif leaf.hint in form.source.tensors and form.source.shape(leaf.hint) == shape:
        weight, places = leaf.hint, np.arange(leaf.array.size).reshape(shape)
    else:
        return None
    # of every unit the first and the last element
    ends = [
        places[np.ix_(*slot.places(shape, unit))].ravel()[[0, -1]] for unit in range(group.size)
    ]
    where = np.unravel_index(np.array(ends), form.source.shape(weight))
    for other, its in slots.get(weight, ()) if group.size else ():
        inside = [np.isin(where[axis], positions).all() for axis, positions in its.within]
        unit_at = np.full(form.source.shape(weight)[its.axis], -1)
        unit_at[its.index.ravel()] = np.repeat(np.arange(other.size), its.index.shape[1])
        units = unit_at[where[its.axis]]
        is_one = all(inside) and (units[:, 0] == units[:, 1]).all()
        if is_one and np.array_equal(np.sort(units[:, 0]), np.arange(other.size)):
            return other.id, units[:, 0]
    return None


def _find_factors(weight: np.ndarray, constant: np.ndarray) -> np.ndarray | None:
    """Find the factors along one axis by which a weight was multiplied to give a constant.

    Returns:
        float64, as many as that axis has places and one along all others; None if there is no such
        axis.
    """
    if weight.shape != constant.shape or not weight.size:
        return None
    x, y = weight.astype(np.float64), constant.astype(np.float64)
    for axis in range(x.ndim):
        others = tuple(a for a in range(x.ndim) if a != axis)
        power = (x * x).sum(others, keepdims=True)
        factors = (x * y).sum(others, keepdims=True) / np.where(power > 0, power, 1.0)
        left = np.abs(y - factors * x).max(others, keepdims=True)
        size = np.abs(y).max(others, keepdims=True)
        if (left <= FACTOR_TOLERANCE * size).all() and (factors != 0).all():
            return factors
    return None
