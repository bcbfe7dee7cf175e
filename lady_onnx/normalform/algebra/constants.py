"""Arithmetic of constants, with a bound for the rounding of every element.

Constants are computed with only while nothing overflows, vanishes or cancels, so that what is
computed once in the normal form stays within its bound of what a runtime computes on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from ...vocabulary.names import ADD, MUL, RECIPROCAL, SQRT
from .numbering import Terms
from .term import Leaf, Term

MAX_MAGNITUDE = 1e12
"""Bound for the largest element of a constant that is computed with, and for its inverse.

Products and sums of a few such constants neither overflow nor vanish.
"""
MAX_CANCELLATION = 64
"""The largest ratio of an addend to the sum, at any element, for which constants are added up.

To the sum the median of all sums is added, so that a single sum of zero does no harm.
"""
MAX_ERROR_STEPS = 256
"""Bound for the rounding of every element of a constant that is computed.

The unit is the machine epsilon, times the element and the median of all elements.
"""
MAX_COPIED_ELEMENTS = 1 << 16
"""The largest number of elements of a constant that is gathered, repeated or chosen together."""
MACHINE_EPSILON = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}
"""The relative rounding of one operation, by type; other types are not computed with.

It is the step between numbers, and so twice what one correctly rounded operation may err by.
"""
REASSOCIABLE_MAGNITUDES = (1e-6, 1e6)
"""Numbers of sizes between these may be multiplied in any order."""

Arrays = Sequence[np.ndarray]


def is_in_range(array: np.ndarray) -> bool:
    """Tell whether products and sums of a few such arrays neither overflow nor vanish."""
    # of a NaN the maximum is NaN, and no comparison with it holds
    largest = float(np.abs(array).max(initial=0.0))
    return largest == 0 or 1 / MAX_MAGNITUDE < largest < MAX_MAGNITUDE


def may_broadcast(terms: Terms, arrays: Arrays) -> bool:
    """Tell whether arrays broadcast to one that is not too large."""
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        return math.prod(shape) * arrays[0].itemsize <= terms.left_bytes
    except ValueError:
        return False


# Each of these returns a result in float64, and what the error bounds of the operands make of it.


def _add_arrays(values: Arrays, error_bounds: Arrays) -> tuple[np.ndarray, np.ndarray]:
    return values[0] + values[1], error_bounds[0] + error_bounds[1]


def _multiply_arrays(values: Arrays, error_bounds: Arrays) -> tuple[np.ndarray, np.ndarray]:
    error_bound = np.abs(values[0]) * error_bounds[1] + np.abs(values[1]) * error_bounds[0]
    return values[0] * values[1], error_bound


def _invert_array(values: Arrays, error_bounds: Arrays) -> tuple[np.ndarray, np.ndarray]:
    found = 1 / values[0]
    return found, error_bounds[0] * found**2


def _take_root_of_array(values: Arrays, error_bounds: Arrays) -> tuple[np.ndarray, np.ndarray]:
    found = np.sqrt(values[0])
    return found, error_bounds[0] / (2 * found)


_ARITHMETIC: dict[str, Callable[[Arrays, Arrays], tuple[np.ndarray, np.ndarray]]] = {
    ADD: _add_arrays,
    MUL: _multiply_arrays,
    RECIPROCAL: _invert_array,
    SQRT: _take_root_of_array,
}


def compute_constant(terms: Terms, operator: str, operands: Sequence[Leaf]) -> Term | None:
    """Compute a sum, product, inverse or root of constants, with a bound for its rounding.

    Args:
        terms: makes the term of the result.
        operator: `Add`, `Mul`, `Reciprocal` or `Sqrt`.
        operands: the constants.

    Returns:
        The result; None where it may overflow, vanish or cancel, or is rounded too often.
    """
    if any(
        leaf.array.dtype not in MACHINE_EPSILON or not is_in_range(leaf.array) for leaf in operands
    ) or not may_broadcast(terms, [leaf.array for leaf in operands]):
        return None
    values = [leaf.array.astype(np.float64) for leaf in operands]
    error_bounds = [
        np.zeros(()) if leaf.error_bound is None else leaf.error_bound for leaf in operands
    ]
    # in double precision, so that the result is rounded once; what divides by zero is refused below
    with np.errstate(all="ignore"):
        found, error_bound = _ARITHMETIC[operator](values, error_bounds)
    dtype = operands[0].array.dtype
    if not np.isfinite(found).all() or not is_in_range(found):
        return None
    if operator == ADD and _is_cancelled(values, found):
        return None
    if _is_rounded_too_often(found, error_bound, MACHINE_EPSILON[dtype]):
        return None
    rounded = found.astype(dtype)
    # a runtime may round the first addend as well; the second is at most twice the larger of these
    larger = np.abs(found) if operator != ADD else np.maximum(np.abs(found), np.abs(values[0]))
    # where the rounded result is the exact one, this operation adds nothing to the bound
    error_bound = np.where(rounded == found, 0.0, MACHINE_EPSILON[dtype] * larger) + error_bound
    return terms.make_constant(
        rounded, operands[0].hint, error_bound if error_bound.any() else None
    )


def _is_cancelled(values: Arrays, found: np.ndarray) -> bool:
    """Tell whether large numbers cancel somewhere: what they leave of each other is rounding."""
    largest, left = np.maximum(np.abs(values[0]), np.abs(values[1])), np.abs(found)
    return bool(
        (largest > MAX_CANCELLATION * (left + np.median(left) if left.size else left)).any()
    )


def _is_rounded_too_often(found: np.ndarray, error_bound: np.ndarray, epsilon: float) -> bool:
    size = np.abs(found) + np.median(np.abs(found)) if found.size else 1
    return bool((error_bound > MAX_ERROR_STEPS * epsilon * size).any())


def negate_constant(terms: Terms, leaf: Leaf) -> Term:
    """Make a constant times minus one; its error bound stays."""
    return terms.make_constant(-leaf.array, leaf.hint, leaf.error_bound)


def make_number(terms: Terms, value: float, like: Term) -> Term:
    """Make a constant of no axes, of the type of a term."""
    return terms.make_constant(np.array(value, onnx.helper.tensor_dtype_to_np_dtype(like.dtype)))


def may_reassociate(factor: float) -> bool:
    """Tell whether a number may be multiplied with others in any order."""
    smallest, largest = REASSOCIABLE_MAGNITUDES
    return smallest < abs(factor) < largest


def is_moderate(array: np.ndarray) -> bool:
    """Tell whether the elements of a constant may be multiplied with others in any order."""
    # by the largest element alone: where a small one vanishes, the large ones hide the difference
    smallest, largest = REASSOCIABLE_MAGNITUDES
    size = np.abs(array[array != 0])
    return not size.size or bool(size.max() < largest and size.max() > smallest)


def is_vector(array: np.ndarray) -> bool:
    """Tell whether an array has at most one axis that is longer than one.

    >>> is_vector(np.zeros((1, 8, 1, 1))), is_vector(np.zeros((2, 8)))
    (True, False)
    """
    return sum(n > 1 for n in array.shape) < 2
