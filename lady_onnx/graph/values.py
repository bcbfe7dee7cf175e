"""What can be asked of the values of one weight without knowing its graph."""

from __future__ import annotations

import numpy as np

CORNER_SIZE = 4
"""The length of the corner that is compared before a whole weight is read."""
STEP_GROWTH = 4
"""How much longer each run of positions is than the one before, while a weight is compared."""


def is_constant_along(array: np.ndarray, axis: int) -> bool:
    """Tell whether an array is constant along an axis; stop at the first difference.

    >>> is_constant_along(np.array([[1, 2], [1, 2]]), 0)
    True
    >>> is_constant_along(np.array([[1, 2], [1, 2]]), 1)
    False
    """
    if array.shape[axis] < 2:
        return True
    if array.dtype.kind in "OSU":
        return False
    # Most weights differ in a corner, and a corner lies close together in the file.
    origin = [0] * array.ndim
    second = [int(a == axis) for a in range(array.ndim)]
    if array.size and array.item(*origin) != array.item(*second):
        return False
    corner = array[tuple(slice(CORNER_SIZE) for _ in array.shape)]
    if (corner != corner.take([0], axis)).any():
        return False
    # Runs that grow: a difference early on is found soon, and a constant weight takes few of them.
    moved = np.moveaxis(array, axis, 0)
    first, step = moved[:1], 1
    start = 1
    while start < moved.shape[0]:
        if (moved[start : start + step] != first).any():
            return False
        start, step = start + step, step * STEP_GROWTH
    return True
