"""Slots that have elements of a weight in common, joined so that no element moves twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .model import Slot


def join_overlapping_slots(slots: Sequence[Slot]) -> list[Slot] | None:
    """Join slots that have elements of a weight in common: each element moves once.

    Two roles of a weight may say of one element that it belongs to a unit.

    Returns:
        Slots without a common element along the same axis; None where two have a part of their
        elements in common.
    """
    joined: dict[tuple[str, int], list[Slot]] = {}
    for slot in slots:
        beside = joined.setdefault((slot.initializer, slot.axis), [])
        mine = slot
        for other in [o for o in beside if _have_common_places(slot, o)]:
            beside.remove(other)
            both = _join_pair(other, mine)
            if both is None:
                return None
            mine = both
        beside.append(mine)
    return [slot for beside in joined.values() for slot in beside]


def _join_pair(first: Slot, second: Slot) -> Slot | None:
    """Join two slots along one axis of a weight that have elements in common."""
    if _list_within(first) != _list_within(second):
        wide, narrow = sorted((first, second), key=lambda s: len(s.within))
        return wide if not wide.within and np.array_equal(wide.index, narrow.index) else None
    # positions that only the second has come behind, in each unit in the same order
    more = [
        [p for p in row if p not in set(known)]
        for row, known in zip(second.index.tolist(), first.index.tolist(), strict=True)
    ]
    if len({len(row) for row in more}) > 1:
        return None
    index = np.concatenate([first.index, np.array(more, np.int64).reshape(len(more), -1)], 1)
    return Slot(first.initializer, first.axis, index, first.within)


def _have_common_places(a: Slot, b: Slot) -> bool:
    """Tell whether two slots along one axis of a weight have elements in common."""
    theirs = dict(b.within)
    shared = all(axis not in theirs or np.isin(p, theirs[axis]).any() for axis, p in a.within)
    return shared and bool(np.isin(a.index, b.index).any())


def _list_within(slot: Slot) -> list[tuple[int, list[int]]]:
    return [(axis, positions.tolist()) for axis, positions in slot.within]
