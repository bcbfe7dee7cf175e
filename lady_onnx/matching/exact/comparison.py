"""Compares a weight with the reference's in a given order, a few rows at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...numerics import has_nan, is_same

BLOCK_BYTES = 1 << 20
"""The bytes of a weight that are compared at once: they stay in the processor's cache."""


def compare_ordered(
    ours: np.ndarray, theirs: np.ndarray, orders: Mapping[int, np.ndarray]
) -> tuple[bool, bool]:
    """Compare a weight with another one, whose positions are taken in an order.

    Args:
        ours: the weight of the reference.
        theirs: that of the suspect, of the same shape and type.
        orders: by axis where the reference's positions lie in the suspect, int64 [length]; an axis
            that is left out keeps its order.

    Returns:
        Whether the two are equal, bit for bit; and whether the reference's holds a NaN, as far as
        it was read: a difference ends the comparison.
    """
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
