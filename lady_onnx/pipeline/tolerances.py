"""By how much a weight may differ from the reference's and still be it, to rounding. Arrays alone.

A yes rests on these bounds: each is what named operations leave in that very element.
"""

from __future__ import annotations

import numpy as np

from ..numerics import SHORT_TYPE_EPSILON, is_float_array, machine_epsilon

FACTOR_STEPS = 2.0
"""How well the factors of a unit are known, in steps of the weight's type; of short types exactly."""
FOLDING_STEPS = 4.0
"""By how many steps of its type two tools may fold a norm into a weight differently."""
PRODUCT_ERROR_STEPS = 2.0**-6
"""How much more than half a step may lie between a product and its rounding: products are computed
in double precision."""


def is_rounding(
    reference: np.ndarray, result: np.ndarray, room: np.ndarray | None, other: np.ndarray | None
) -> bool:
    """Is every element as near to the reference's as rounding on the way to both forms leaves it?

    Args:
        reference, result: the weights.
        room: what the reference's form leaves, by element; None where it is exact.
        other: what the suspect's form leaves, with its units in place; None where it is exact.
    """
    if not is_float_array(reference) or (room is None and other is None):
        return False
    given = (np.asarray(r, np.float64) for r in (room, other) if r is not None)
    limit = sum(given, np.zeros(()))
    return bool((measure_gaps(reference, result) <= limit).all())


def measure_writing_tolerance(reference: np.ndarray) -> np.ndarray | None:
    """Return by how much elements may differ between two files that fold a norm in different ways.

    A layer that a norm was folded into before it was written has the rounding of a product in every
    weight. Its biases have that of a difference of numbers of the usual size. Short types have no
    such tolerance: None.
    """
    if not is_float_array(reference) or not reference.size:
        return None
    step = machine_epsilon(reference.dtype)
    if step >= SHORT_TYPE_EPSILON:
        return None
    size = np.abs(reference).astype(np.float64)
    if reference.ndim == 1:
        size = size + np.median(size)
    return np.where(np.isfinite(size), FOLDING_STEPS * step * size, 0.0)


def is_product(
    expected: np.ndarray,
    placed: np.ndarray,
    beside: np.ndarray,
    room: np.ndarray | None,
    roundings: int = 1,
) -> bool:
    """Is a weight the product of the reference's and the factors, rounded as often as it was multiplied?

    Args:
        expected: the products, float64.
        placed: the suspect's weight, with its units in place.
        beside: the size of what was added to each element besides, zero where nothing was.
        room: what the forms of both leave, None where they are exact.
        roundings: how many groups have factors in the weight. Where these are short, they round it
            one after the other.
    """
    if not is_float_array(placed):
        return False
    unit = machine_epsilon(placed.dtype)
    known = FACTOR_STEPS if unit < SHORT_TYPE_EPSILON else 0.0
    with np.errstate(invalid="ignore"):
        half = 0.5 * np.spacing(np.abs(placed)).astype(np.float64)
        size = np.abs(expected)
        # what was rounded before may have had fewer digits left
        earlier = (roundings - 1) * np.maximum(0.5 * unit * size, half)
        limit = (1 + PRODUCT_ERROR_STEPS) * (half + earlier) + known * unit * size
        limit = limit + 8 * unit * beside
        if unit < SHORT_TYPE_EPSILON:
            # the steps of numbers that are all but zero no longer shrink with their size
            smallest = float(np.finfo(placed.dtype).smallest_subnormal)
            limit = np.maximum(limit, (0.5 + known) * smallest)
        if room is not None:
            limit = limit + room
    gap = measure_gaps(expected, placed)
    return bool(((gap == 0) | (gap <= limit)).all())


def is_mixture(reference: np.ndarray, result: np.ndarray, grown: float) -> bool:
    """Is the result as near to the reference as rounding leaves a weight that was mixed?

    Args:
        reference, result: the weights.
        grown: by how much undoing the map may have enlarged the rounding.
    """
    if not is_float_array(reference) or machine_epsilon(reference.dtype) >= SHORT_TYPE_EPSILON:
        return False
    most = max(float(np.abs(a.astype(np.float64)).max(initial=0)) for a in (reference, result))
    limit = 8 * machine_epsilon(reference.dtype) * grown * most
    return bool((measure_gaps(reference, result) <= limit).all())


def measure_gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how far elements are from each other, float64.

    Equal infinities are no gap. What is no number is infinitely far from everything.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.asarray(np.where(x == y, 0.0, np.abs(x - y)))
    return np.nan_to_num(gap, nan=np.inf)


def measure_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference of two weights of one shape; 1 where text or truth values differ."""
    if not a.size:
        return 0.0
    if a.dtype == object or a.dtype.kind in "SUb":
        return float((a != b).any())
    return float(np.nan_to_num(measure_gaps(a, b)).max())
