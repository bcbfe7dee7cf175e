"""Compares weights with the reference's in a given order, a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...numerics import has_nan, is_same
from ...threads import map_in_threads

BLOCK_BYTES = 1 << 20
"""The bytes of a weight that are compared at once: they stay in the processor's cache."""


Sides = tuple[np.ndarray, np.ndarray, Mapping[int, np.ndarray]]
"""A weight of the reference, that of the suspect, and its order: what `compare_ordered` takes."""


def compare_all(names: Sequence[str], take: Callable[[str], Sides]) -> tuple[bool, str | None]:
    """Compare all weights of two models, each in an order.

    Args:
        names: the weights.
        take: returns what is compared for a name. It is called when its turn comes.

    Returns:
        Whether all are equal, bit for bit; and the first one of the reference that holds a NaN,
        None where they differ.
    """
    has_failed = False

    def compare(name: str) -> bool:
        nonlocal has_failed
        if has_failed:
            return False
        is_equal, is_odd = compare_ordered(*take(name))
        if not is_equal:
            has_failed = True
        return is_odd

    odd = map_in_threads(compare, names)
    if has_failed:
        return False, None
    return True, next((name for name, is_odd in zip(names, odd, strict=True) if is_odd), None)


def compare_ordered(
    ours: np.ndarray, theirs: np.ndarray, orders: Mapping[int, np.ndarray]
) -> tuple[bool, bool]:
    """Compare a weight with another one, whose positions are taken in an order.

    Args:
        ours: the weight of the reference.
        theirs: that of the suspect.
        orders: by axis where the reference's positions lie in the suspect, int64 [length]; an axis
            that is left out keeps its order.

    Returns:
        Whether the two are equal, bit for bit; and whether the reference's holds a NaN, as far as
        it was read: a difference ends the comparison.
    """
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False, False
    if not ours.ndim or not ours.size:
        return is_same(ours, theirs), has_nan(ours)
    rows = max(1, BLOCK_BYTES * len(ours) // max(ours.nbytes, 1))
    inner = {axis: order for axis, order in orders.items() if axis}
    is_odd = False
    for start in range(0, len(ours), rows):
        mine = np.ascontiguousarray(ours[start : start + rows])
        its = (
            theirs[orders[0][start : start + rows]] if 0 in orders else theirs[start : start + rows]
        )
        for axis, order in inner.items():
            its = its.take(order, axis)
        if not is_same(mine, np.ascontiguousarray(its)):
            return False, is_odd
        is_odd |= has_nan(mine)
    return True, is_odd
