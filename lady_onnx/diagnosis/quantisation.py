"""Quantisation: the levels on which the values of a weight lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..numerics import split_blocks

MAX_BITS = 16
"""Quantisation to more bits than this is not looked for."""
SAMPLED_ELEMENTS, FEW_ELEMENTS = 1 << 12, 1 << 8
"""So many values are looked at before all are, and so few before those."""
SAMPLED_ROWS = 16
"""So many rows are looked at before all are; of long rows there may be one."""
MAX_LEVEL_DISTANCE = 0.02
"""A value may lie this far from its level, in steps between levels.

At `MAX_BITS`, single precision moves values around zero by up to 0.004 steps. A random number lies
as near as this with a chance of 4 %, so of many numbers some do not.
"""


def count_bits(suspect: np.ndarray, axis: int, low: float, high: float) -> dict[bool, int]:
    """Count the fewest bits whose levels all values of a weight lie on.

    The levels are those of `quantize_array`, as far apart as the values of each line say. The
    least and the largest value survive quantisation, so they say it.

    Args:
        suspect: the weight.
        axis: the axis along which every position has levels of its own, -1 for none.
        low, high: its least and its largest value.

    Returns:
        By whether levels lie symmetrically the number of bits, if there is one up to `MAX_BITS`.
    """
    lines = suspect.reshape(1, *suspect.shape) if axis < 0 else np.moveaxis(suspect, axis, 0)
    # The ends of a line say where its levels are: something else has to be there to lie on them.
    found = {s: 0 for s in (True, False) if lines[0].size > (1 if s else 2)}
    # Most weights lie on no levels, which a few rows show already.
    count = min(SAMPLED_ROWS, 1 + SAMPLED_ROWS * SAMPLED_ELEMENTS * len(lines) // suspect.size)
    for some in (lines[:count], lines):
        if not found:
            break
        rows = some.reshape(len(some), -1)
        lows, highs = np.array([[low], [high]])
        if axis >= 0:
            lows, highs = rows.min(1).astype(np.float64), rows.max(1).astype(np.float64)
        part = rows[:, : max(SAMPLED_ELEMENTS // len(rows), 1)] if some is not lines else rows
        bits = {s: _count_bits_in_rows(part, lows, highs, s) for s in found}
        found = {s: number for s, number in bits.items() if number}
    return found


def _count_bits_in_rows(
    rows: np.ndarray, lows: np.ndarray, highs: np.ndarray, symmetric: bool
) -> int:
    """Return the fewest bits whose levels all values lie on, 0 if there are none.

    Args:
        rows: [lines, values]: some values of each line.
        lows, highs: float64 [lines]: the least and the largest value of each line.
        symmetric: whether levels lie symmetrically.
    """
    if symmetric:
        lows, highs = np.zeros(len(rows)), np.maximum(highs, -lows)
    steps = np.where(highs == lows, 1, highs - lows)
    lows, steps = lows[:, None], steps[:, None]
    all_bits = np.arange(2, MAX_BITS + 1)
    # a few say already of most numbers of levels that the values lie elsewhere
    few = (rows[:, : max(FEW_ELEMENTS // len(rows), 1)] - lows) / steps
    likely = _are_on_levels(few, [_count_steps(bits, symmetric) for bits in all_bits.tolist()])
    for bits in all_bits[likely].tolist():
        units = ((rows[b] - lows[b[0]]) / steps[b[0]] for b in split_blocks(rows.shape))
        if all(_are_on_levels(z, [_count_steps(bits, symmetric)]).all() for z in units):
            return int(bits)
    return 0


def _count_steps(bits: int, symmetric: bool) -> int:
    """Return how many steps lie between the ends of levels, or between zero and one end."""
    return int(2 ** (bits - 1) - 1 if symmetric else 2**bits - 1)


def _are_on_levels(unit: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Tell for some numbers of steps from zero to one whether values lie on them, bool [numbers].

    Args:
        unit: float64 [lines, values]: the values, 0 and 1 at the ends.
        steps: the numbers.
    """
    levels = np.multiply.outer(np.array(steps, np.float64), unit)
    return np.asarray(np.abs(levels - np.round(levels)).max((1, 2)) < MAX_LEVEL_DISTANCE)


def move_to_levels(array: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Move values to the nearest of sorted levels, from the middle between two to the lower one."""
    place = np.searchsorted(levels, array).clip(1, max(levels.size - 1, 1))
    if levels.size == 1:
        return np.full_like(array, levels[0])
    below, above = levels[place - 1], levels[place]
    return np.where(array - below <= above - array, below, above)


def quantize_array(
    array: np.ndarray, bits: int, axis: int = -1, symmetric: bool = True
) -> np.ndarray:
    """Move the values of an array to the nearest of at most 2**bits levels, equally far apart.

    Symmetric levels are the multiples of the largest magnitude divided by 2**(bits - 1) - 1; others
    divide the range from the least to the largest value.

    Args:
        array: the weight.
        bits: the number of bits of a level.
        axis: the axis along which every position has levels of its own, -1 for none.
        symmetric: whether levels lie symmetrically.
    """
    others = tuple(a for a in range(array.ndim) if a != axis)
    wide = array.astype(np.float64)
    if symmetric:
        step = np.abs(wide).max(others, keepdims=True) / max(2 ** (bits - 1) - 1, 1)
        origin = np.zeros_like(step)
    else:
        origin = wide.min(others, keepdims=True)
        step = (wide.max(others, keepdims=True) - origin) / (2**bits - 1)
    # All values of such a line are the origin, and stay there.
    step[step == 0] = 1.0
    return (origin + np.round((wide - origin) / step) * step).astype(array.dtype)
