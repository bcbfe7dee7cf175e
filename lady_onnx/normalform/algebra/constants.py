"""TODO."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from .numbering import Terms
from .term import Leaf, Term

MAX_MAGNITUDE = 1e12
"""Constants are multiplied and added up while they and their inverses are smaller: nothing overflows or vanishes."""


MAX_CANCELLATION = 64
"""Constants are added up where none is so many times as large as the sum, and as the middle one of the sums beside it."""


MAX_ERROR_STEPS = 256
"""Constants are computed with while rounding may have moved no element by more than so many steps of that."""


MAX_CONSTANT_ELEMENTS = 1 << 26
"""No constant that is computed has more elements."""


MACHINE_EPSILON = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}


def is_in_range(array: np.ndarray) -> bool:
    """Are numbers such that products and sums of a few of them do not overflow, nor vanish?"""
    largest = float(np.abs(array).max(initial=0.0))
    return largest == 0 or 1 / MAX_MAGNITUDE < largest < MAX_MAGNITUDE


def may_broadcast(arrays: Sequence[np.ndarray]) -> bool:
    """Do constants broadcast to one that is not too large?"""
    try:
        return math.prod(np.broadcast_shapes(*(a.shape for a in arrays))) <= MAX_CONSTANT_ELEMENTS
    except ValueError:
        return False


def compute_constant(terms: Terms, operator: str, sides: Sequence[Leaf]) -> Term | None:
    """A sum, product, quotient or root of constants, with room for its rounding; None where it may overflow."""
    if any(
        s.array.dtype not in MACHINE_EPSILON or not is_in_range(s.array) for s in sides
    ) or not may_broadcast([s.array for s in sides]):
        return None
    values = [s.array.astype(np.float64) for s in sides]
    rooms = [np.zeros(()) if s.room is None else s.room for s in sides]
    with np.errstate(all="ignore"):
        match operator:
            case "Add":
                found, room = values[0] + values[1], rooms[0] + rooms[1]
            case "Mul":
                found = values[0] * values[1]
                room = np.abs(values[0]) * rooms[1] + np.abs(values[1]) * rooms[0]
            case "Reciprocal":
                found = 1 / values[0]
                room = rooms[0] * found**2
            case "Sqrt":
                found = np.sqrt(values[0])
                room = rooms[0] / (2 * found)
            case _:
                raise AssertionError(operator)
    dtype = sides[0].array.dtype
    if not np.isfinite(found).all() or not is_in_range(found):
        return None
    if operator == "Add":
        # what large numbers leave of each other is rounding
        largest, left = np.maximum(np.abs(values[0]), np.abs(values[1])), np.abs(found)
        if (largest > MAX_CANCELLATION * (left + np.median(left) if left.size else left)).any():
            return None
    if (
        room
        > MAX_ERROR_STEPS
        * MACHINE_EPSILON[dtype]
        * (np.abs(found) + np.median(np.abs(found)) if found.size else 1)
    ).any():
        return None
    rounded = found.astype(dtype)
    larger = np.abs(found) if operator != "Add" else np.maximum(np.abs(found), np.abs(values[0]))
    # what is exact leaves no room
    room = np.where(rounded == found, 0.0, MACHINE_EPSILON[dtype] * larger) + room
    return terms.constant(rounded, sides[0].hint, room if room.any() else None)


def negate_constant(terms: Terms, leaf: Leaf) -> Term:
    """A constant times minus one."""
    return terms.constant(-leaf.array, leaf.hint, leaf.room)


def may_reassociate(factor: float) -> bool:
    """May numbers like this be multiplied in any order?"""
    return 1e-6 < abs(factor) < 1e6


def is_moderate(array: np.ndarray) -> bool:
    """May a constant be multiplied with others in any order?"""
    size = np.abs(array[array != 0])
    return not size.size or bool(size.max() < 1e6 and size.max() > 1e-6)


def is_vector(array: np.ndarray) -> bool:
    """Does a constant differ along one axis at most?"""
    return sum(n > 1 for n in array.shape) < 2


def make_number(terms: Terms, value: float, like: Term) -> Term:
    """A constant of one number, of the type of a term."""
    return terms.constant(np.array(value, onnx.helper.tensor_dtype_to_np_dtype(like.dtype)))
