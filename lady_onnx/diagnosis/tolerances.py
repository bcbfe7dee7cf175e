"""By how much a weight may differ from the reference's and still be the same, up to rounding.

An accepted suspect rests on these bounds: each is what named operations leave in that very element.
This module knows arrays alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..numerics import (
    LEAST_DEVIATION,
    SHORT_TYPE_EPSILON,
    is_float_array,
    is_same,
    is_short_float,
    machine_epsilon,
    measure_moments,
    split_blocks,
)

FACTOR_STEPS = 2.0
"""The error of a unit's factor, in steps of the weight's type.

A factor is measured on elements that were rounded themselves. In short types it is fitted until it
explains the rounding of all elements, so no error is left there.
"""
FOLDING_STEPS = 4.0
"""The difference between two tools that fold a norm into a weight, in steps of its type.

Each tool rounds a sum, a root, a quotient and a product, by half a step at most.
"""
PRODUCT_ERROR_STEPS = 2.0**-6
"""The share by which a product may lie further than half a step from its rounding.

Products are computed in double precision.
"""
ADDEND_STEPS = 8
"""The error of what is added beside a product, in steps of the weight's type."""
MIXTURE_STEPS = 8
"""The error of a weight whose units were mixed and unmixed, in steps of its type."""


def is_rounding(
    reference: np.ndarray, result: np.ndarray, room: np.ndarray | None, other: np.ndarray | None
) -> bool:
    """Tell whether a weight is the reference's, up to rounding on the way to both normal forms.

    Args:
        reference: the weight of the reference.
        result: the weight of the result, of the same shape.
        room: the bound of what the reference's form leaves in each element; None where it is exact.
        other: that of the suspect's form, with its units in place; None where it is exact.
    """
    if not is_float_array(reference) or (room is None and other is None):
        return False
    given = (np.asarray(r, np.float64) for r in (room, other) if r is not None)
    limit = sum(given, np.zeros(()))
    return bool((measure_gaps(reference, result) <= limit).all())


def measure_writing_tolerance(reference: np.ndarray) -> np.ndarray | None:
    """Return by how much elements may differ between two files that fold a norm in different ways.

    A layer that a norm was folded into has the rounding of a product in every weight. Its biases
    have that of a difference of numbers of the usual size.

    Args:
        reference: the weight of the reference.

    Returns:
        The bound of each element, float64; None for short types, which have no such tolerance.
    """
    if not is_float_array(reference) or not reference.size:
        return None
    step = machine_epsilon(reference.dtype)
    if step >= SHORT_TYPE_EPSILON:
        return None
    size = np.abs(reference).astype(np.float64)
    if reference.ndim == 1:
        # A bias may cancel to almost zero, and its rounding is that of the numbers it came from.
        size = size + np.median(size)
    return np.where(np.isfinite(size), FOLDING_STEPS * step * size, 0.0)


def is_product(
    expected: np.ndarray,
    placed: np.ndarray,
    beside: np.ndarray,
    room: np.ndarray | None,
    roundings: int = 1,
) -> bool:
    """Tell whether a weight is the product of the reference's and of factors, up to its roundings.

    Args:
        expected: the products, float64.
        placed: the suspect's weight, with its units in place.
        beside: the size of what was added to each element besides, zero where nothing was.
        room: the bounds of what the forms of both leave, None where they are exact.
        roundings: the number of groups with factors in the weight. In short types the factors of
            each group round it once more.
    """
    if not is_float_array(placed):
        return False
    unit = machine_epsilon(placed.dtype)
    known = FACTOR_STEPS if unit < SHORT_TYPE_EPSILON else 0.0
    # The spacing of an infinity is NaN. Equal infinities have no gap, and need no limit.
    with np.errstate(invalid="ignore"):
        half = 0.5 * np.spacing(np.abs(placed)).astype(np.float64)
        size = np.abs(expected)
        # Elements may have been larger or smaller at earlier roundings, and so their steps.
        earlier = (roundings - 1) * np.maximum(0.5 * unit * size, half)
        limit = (1 + PRODUCT_ERROR_STEPS) * (half + earlier) + known * unit * size
        limit = limit + ADDEND_STEPS * unit * beside
        if unit < SHORT_TYPE_EPSILON:
            # The steps of subnormal numbers no longer shrink with their size.
            smallest = float(np.finfo(placed.dtype).smallest_subnormal)
            limit = np.maximum(limit, (0.5 + known) * smallest)
        if room is not None:
            limit = limit + room
    gap = measure_gaps(expected, placed)
    return bool(((gap == 0) | (gap <= limit)).all())


def is_mixture(reference: np.ndarray, result: np.ndarray, grown: Mapping[int, float]) -> bool:
    """Tell whether a weight whose units were unmixed is the reference's, up to rounding.

    What was mixed along an axis has, at each place of the others, the rounding of the largest of
    all units there.

    Args:
        reference: the weight of the reference.
        result: the weight of the result.
        grown: by axis along which units were mixed the factor by which undoing that may have
            enlarged the rounding.
    """
    if not is_float_array(reference) or machine_epsilon(reference.dtype) >= SHORT_TYPE_EPSILON:
        return False
    size = np.maximum(*(np.abs(a.astype(np.float64)) for a in (reference, result)))
    limit: np.ndarray | float = np.inf
    for axis in grown:
        limit = np.minimum(limit, size.max(axis, initial=0, keepdims=True))
    limit = MIXTURE_STEPS * machine_epsilon(reference.dtype) * math.prod(grown.values()) * limit
    return bool((measure_gaps(reference, result) <= limit).all())


def measure_gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how far the elements of two arrays are from each other, float64.

    Equal infinities have no gap. NaN is infinitely far from everything.

    >>> measure_gaps(np.array([1.0, np.inf, np.nan]), np.array([3.0, np.inf, 0.0])).tolist()
    [2.0, 0.0, inf]
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.asarray(np.where(x == y, 0.0, np.abs(x - y)))
    return np.nan_to_num(gap, nan=np.inf)


def measure_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference of two weights of one shape.

    It is 1 where texts or truth values differ.
    """
    if not a.size:
        return 0.0
    if a.dtype == object or a.dtype.kind in "SUb":
        return float((a != b).any())
    is_short = is_short_float(a) and is_short_float(b)
    largest = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for block in split_blocks(a.shape):
            x, y = np.asarray(a[block]), np.asarray(b[block])
            if is_short:
                gap = np.abs(y.astype(np.float32, copy=False) - x.astype(np.float32, copy=False))
                top = gap.max()
                if top < np.float32(largest):
                    continue
                if np.isfinite(top):
                    # rounding keeps the order, so the largest is among those that look largest
                    x, y = x[gap == top], y[gap == top]
            gap = np.nan_to_num(measure_gaps(x, y))
            largest = max(largest, float(gap.max()))
    return largest


def measure_noise(reference: np.ndarray, suspect: np.ndarray) -> float:
    """Measure how far a weight lies from the reference's, the units in place.

    The result is in units of the standard deviation of the reference's weight.
    """
    if reference.dtype.kind not in "fiub" and not is_float_array(reference):
        return 0.0
    apart, spread = _measure_sizes(reference, suspect)
    if not np.isfinite(apart + spread):
        known = np.isfinite(reference) & np.isfinite(suspect)
        apart, spread = _measure_sizes(*(z[known].astype(np.float64) for z in (reference, suspect)))
    return apart / spread


def _measure_sizes(reference: np.ndarray, suspect: np.ndarray) -> tuple[float, float]:
    """Measure the root mean square of differences, and the deviation of a weight."""
    if not reference.size:
        return 0.0, 1.0
    apart = 0.0
    if is_short_float(reference) and is_short_float(suspect):
        apart = _measure_distance(reference, suspect, np.dtype(np.float32))
    # squares of large and of small numbers have no place in single precision
    if not LEAST_DEVIATION < apart < math.inf:
        apart = _measure_distance(reference, suspect, np.dtype(np.float64))
    mean, spread = measure_moments(reference)
    # Elements that are all the same have no deviation; zeros have no size either.
    return apart, spread or abs(mean) or 1.0


def _measure_distance(reference: np.ndarray, suspect: np.ndarray, dtype: np.dtype) -> float:
    """Measure the root mean square of differences in one precision."""
    square = 0.0
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for block in split_blocks(reference.shape):
            a, b = (np.asarray(z[block]).astype(dtype, copy=False) for z in (reference, suspect))
            apart = (b - a).ravel()
            square += float(np.vdot(apart, apart))
    return math.sqrt(square / reference.size)


def is_kept(reference: np.ndarray, kept: np.ndarray) -> bool:
    """Tell whether a weight without inserted units is the reference's, up to its own rounding.

    What large weights of clones leave of each other is no rounding of a small weight, let alone of
    zero: it would make a function of what had no say.
    """
    if is_same(reference, kept):
        return True
    size = np.abs(reference).astype(np.float64)
    return is_product(reference.astype(np.float64), kept, size, None)
