"""Finds the order of an exact copy from a few elements of each row.

Weights of which all axes but one are in a known order say where the positions along that one went.
What they say of groups makes the order of other weights known. Rows of equal keys tell nothing, and
more elements are read then. Where a suspect was altered in part, the other rows tell what they can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from ...groups.model import Group
from ...groups.permutations import Arrays
from .keys import hash_rows, join_keys, spread_places
from .orders import UNKNOWN, NoCopyError, Orders

FIRST_PLACES = 8
"""The number of elements that a key takes in at first."""
PLACES_GROWTH = 16
"""How many times more elements a key takes in where those before did not tell rows apart."""
MAX_KEY_ELEMENTS = 1 << 26
"""The number of elements that the keys of one weight take in at most."""


@dataclass
class _View:
    """A weight with the axes whose order it may tell.

    Attributes:
        weight: The weight's name.
        axes: Its axes whose positions make a row each.
        groups: The groups that lie along these.
        known: How many elements of each row had known places when it was read last.
    """

    weight: str
    axes: tuple[int, ...]
    groups: list[str] = field(default_factory=list)
    known: int = 0


def find_order(
    groups: Sequence[Group], reference: Arrays, suspect: Arrays
) -> dict[str, np.ndarray] | None:
    """Find the permutations that make a suspect the reference, if it is an exact copy.

    The caller has to compare all weights: what is found follows from a part of the elements.

    Args:
        groups: the groups, inner ones first.
        reference, suspect: weights of the same names and shapes.

    Returns:
        By the suspect's group where each unit of the reference lies, int64 [size]; None where that
        is not found.
    """
    orders = Orders(groups, reference)
    views = _list_views(orders)
    try:
        while not orders.are_all_known:
            # what tells most comes first; a small weight may still be the only one that tells
            views.sort(key=lambda v: -_count_places(orders, v))
            read = [v for v in views if _read_view(orders, v, reference, suspect)]
            if not read and not _settle_ties(orders, views, reference, suspect):
                return None
    except NoCopyError:
        return None
    return orders.list_permutations()


def find_partial_order(
    groups: Sequence[Group], reference: Arrays, suspect: Arrays, left_out: Set[str] = frozenset()
) -> dict[str, np.ndarray]:
    """Find what equal rows say of the order of a suspect of which a part is a copy.

    The caller has to look at all weights again: what is found here is likely, and no more.

    Args:
        groups: the groups, inner ones first.
        reference, suspect: weights of the same names and shapes.
        left_out: the weights that are not asked.

    Returns:
        By the suspect's group where each unit of the reference lies, int64 [size], for groups of
        which half of the units are found at least. The others keep their places where they may.
    """
    orders = Orders(groups, reference)
    views = [v for v in _list_views(orders) if v.weight not in left_out]
    has_read = True
    while has_read:
        views.sort(key=lambda v: -_count_places(orders, v))
        has_read = False
        for view in views:
            if has_read and _count_places(orders, view) < FIRST_PLACES:
                # a small weight is asked where larger ones say no more: it may be the altered one
                break
            # what contradicts a weight that was read before has fewer elements, and is not read
            with suppress(NoCopyError):
                has_read |= _read_view(orders, view, reference, suspect, in_part=True)
    for name, units in orders.units.items():
        if name in orders.twins and 2 * (units != UNKNOWN).sum() >= units.size:
            orders.settle(name, *np.zeros((2, units.size), np.uint64))
    return orders.list_permutations()


def _list_views(orders: Orders) -> list[_View]:
    """List the views of all weights that groups touch."""
    views = []
    for weight, slots in orders.slots.items():
        linked = tuple(sorted(orders.linked[weight]))
        axes = sorted({g.slots[k].axis for g, k in slots} - set(linked))
        for own in [linked] * bool(linked) + [(a,) for a in axes if not linked]:
            groups = [g.id for g, k in slots if g.slots[k].axis in own]
            views.append(_View(weight, own, groups))
    return views


def _find_known_places(orders: Orders, view: _View) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return the positions along the other axes of a view whose places in the suspect are known.

    Returns:
        By axis the positions in the reference and in the suspect, int64 [positions] each.
    """
    found = {}
    for axis in range(len(orders.shapes[view.weight])):
        if axis not in view.axes:
            order = orders.map_axis(view.weight, axis)
            known = np.flatnonzero(order != UNKNOWN)
            found[axis] = known, order[known]
    return found


def _count_places(orders: Orders, view: _View) -> int:
    """Return how many elements of each row have a known place in the suspect."""
    return math.prod(len(ours) for ours, _ in _find_known_places(orders, view).values())


def _hash_both(
    view: _View,
    known: dict[int, tuple[np.ndarray, np.ndarray]],
    count: int,
    reference: Arrays,
    suspect: Arrays,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys of all rows of a view in both models, by so many elements of each."""
    chosen = spread_places([len(ours) for ours, _ in known.values()], count)
    sides = (
        {
            axis: pair[side][places]
            for (axis, pair), places in zip(known.items(), chosen, strict=True)
        }
        for side in (0, 1)
    )
    ours, theirs = (
        hash_rows(arrays[view.weight], view.axes, places)
        for arrays, places in zip((reference, suspect), sides, strict=True)
    )
    return ours, theirs


def _read_view(
    orders: Orders, view: _View, reference: Arrays, suspect: Arrays, in_part: bool = False
) -> bool:
    """Read the places of units off one weight; return whether anything new is known.

    Args:
        orders: what is known, which grows.
        view: the weight, with the axes that it may tell.
        reference, suspect: the weights.
        in_part: whether rows may differ, where keys are long enough to tell.

    Raises:
        NoCopyError: the weight shows that the suspect is no exact copy.
    """
    if all(orders.is_known(g) for g in view.groups):
        return False
    known = _find_known_places(orders, view)
    total = math.prod(len(ours) for ours, _ in known.values())
    if total <= view.known:
        return False
    view.known = total
    rows_count = math.prod(orders.shapes[view.weight][a] for a in view.axes)
    count, has_read = FIRST_PLACES, False
    while True:
        keys = _hash_both(view, known, count, reference, suspect)
        rows = join_keys(*keys, in_part and total >= FIRST_PLACES)
        if rows is None:
            raise NoCopyError(f"{view.weight} has other elements")
        is_new = orders.read_rows(view.weight, view.axes, rows)
        has_read |= is_new
        # no longer key tells a row that was altered
        is_done = count >= total or (in_part and not is_new)
        if is_done or all(orders.is_known(g) for g in view.groups):
            return has_read
        count *= PLACES_GROWTH
        if min(count, total) * rows_count > MAX_KEY_ELEMENTS:
            return has_read


def _settle_ties(
    orders: Orders, views: Sequence[_View], reference: Arrays, suspect: Arrays
) -> bool:
    """Give units that nothing tells apart places in their order.

    Such units are dead, or copies of each other. Each keeps its place where it may. Of groups whose
    units are all alike every one is settled. Of others one is, since its units may tell more then.

    Returns:
        Whether there was such a group.

    Raises:
        NoCopyError: the units that are left are not those of the reference.
    """
    has_settled = False
    for name in reversed([g.id for g in orders.family.order]):
        if orders.is_known(name) or not orders.find_twin(name):
            continue
        told = [v for v in views if name in v.groups and _count_places(orders, v)]
        if not told:
            continue
        ours, theirs = (np.zeros(orders.family.groups[name].size, np.uint64) for _ in range(2))
        for view in told:
            known = _find_known_places(orders, view)
            rows_count = math.prod(orders.shapes[view.weight][a] for a in view.axes)
            count = max(1, MAX_KEY_ELEMENTS // rows_count)
            keys = _hash_both(view, known, count, reference, suspect)
            ours += orders.sum_over_units(name, view.weight, view.axes, keys[0])
            theirs += orders.sum_over_units(orders.twins[name], view.weight, view.axes, keys[1])
        are_alike = np.unique(ours[orders.units[name] == UNKNOWN]).size == 1
        if are_alike or not has_settled:
            orders.settle(name, ours, theirs)
            has_settled = True
    return has_settled
