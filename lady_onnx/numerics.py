"""Helpers for floating-point arrays and hashes that several packages share.

Nothing here knows of models, groups or units.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence

import ml_dtypes
import numpy as np

MIN_DIVISOR = 1e-30
"""Stands for zero where a fraction is divided by it."""
BLOCK_ELEMENTS = 1 << 18
"""So many elements are worked on at once.

They stay in the processor's cache. Threads wait for each other from one block to the next, so that
smaller ones take longer.
"""
LEAST_DEVIATION = 1e-14
"""Numbers that are smaller than this are measured in double precision: their squares are lost in
single precision.
"""
LEAST_SPREAD = 1e-3
"""So are numbers that spread by a smaller share of their mean."""
PROBED_BYTES = 1 << 12
"""So many bytes of two arrays are compared before all others are."""
CHUNK_ELEMENTS = 1 << 22
"""The number of elements that are converted, or of bytes that are compared, at once."""


def as_finite(array: np.ndarray) -> np.ndarray:
    """Return the array as float32, with infinities as the largest finite magnitude in it.

    >>> as_finite(np.array([1.0, -3.0, np.inf])).tolist()
    [1.0, -3.0, 3.0]
    """
    values = array.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        limit = np.abs(values[finite]).max(initial=1.0)
        np.clip(values, -limit, limit, out=values)
    return values


def is_same(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays are equal bit for bit, type and shape included.

    Zeros of different signs are different, and a NaN is equal to itself.

    >>> is_same(np.array([0.0]), np.array([-0.0]))
    False
    """
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a is b or (a.ctypes.data == b.ctypes.data and a.strides == b.strides):
        return True
    if a.dtype.hasobject:
        return bool((a == b).all())
    flat_a, flat_b = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
    # most arrays that differ do so at their beginning, and a table of all that are equal is large
    if not np.array_equal(flat_a[:PROBED_BYTES], flat_b[:PROBED_BYTES]):
        return False
    starts = range(0, flat_a.size, CHUNK_ELEMENTS)
    return all(
        np.array_equal(flat_a[k : k + CHUNK_ELEMENTS], flat_b[k : k + CHUNK_ELEMENTS])
        for k in starts
    )


def view_bits(array: np.ndarray) -> np.ndarray:
    """Return an array's bits as integers, where it has a fixed width; else the array itself.

    Zeros of either sign are equal as numbers, and different as bits.
    """
    if array.dtype.kind not in "OSU" and array.dtype.itemsize in (1, 2, 4, 8):
        return array.view(f"u{array.dtype.itemsize}")
    return array


def has_nan(array: np.ndarray) -> bool:
    """Tell whether an array of floats holds a NaN; False for other types."""
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        return False
    flat = array.reshape(-1)
    chunks = (flat[k : k + CHUNK_ELEMENTS] for k in range(0, flat.size, CHUNK_ELEMENTS))
    for chunk in (c.astype(np.float32, copy=False) for c in chunks):
        # A sum takes half as long as a look at each number, and a NaN stays in it. One of large
        # numbers, or of infinities, may be NaN without any.
        with np.errstate(over="ignore", invalid="ignore"):
            is_clear = not np.isnan(chunk.sum())
        if not is_clear and bool(np.isnan(chunk).any()):
            return True
    return False


def split_blocks(shape: Sequence[int], count: int = BLOCK_ELEMENTS) -> Iterator[tuple[slice, ...]]:
    """Yield indices of the blocks of an array, which cover it in the order of its elements.

    Args:
        shape: the array's shape.
        count: the largest number of elements of a block.

    >>> list(split_blocks((3, 2), 4))
    [(slice(0, 2, None), slice(None, None, None)), (slice(2, 4, None), slice(None, None, None))]
    """
    below = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    cut = next((axis for axis, n in enumerate(below) if n <= count), 0)
    if not shape:
        yield ()
        return
    step = max(count // max(below[cut], 1), 1)
    rest = (slice(None),) * (len(shape) - cut - 1)
    for lead in np.ndindex(*shape[:cut]):
        for start in range(0, shape[cut], step):
            yield (*(slice(k, k + 1) for k in lead), slice(start, start + step), *rest)


def measure_moments(array: np.ndarray) -> tuple[float, float]:
    """Measure the mean and the standard deviation of an array; they are not finite if it is not.

    Both are zero if it has no elements.

    >>> measure_moments(np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    if not array.size:
        return 0.0, 0.0
    if is_short_float(array):
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            mean, deviation = _measure_moments(array, np.dtype(np.float32))
        # squares of large and of small numbers have no place in single precision, and a small
        # spread drowns in the rounding of the mean
        if LEAST_DEVIATION + LEAST_SPREAD * abs(mean) < deviation < math.inf:
            return mean, deviation
    return _measure_moments(array, np.dtype(np.float64))


def _measure_moments(array: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    """Do what `measure_moments` says, blocks in one precision."""
    many, mean, square = 0, 0.0, 0.0
    for block in split_blocks(array.shape):
        part = np.asarray(array[block], dtype)
        # the squares of blocks around their own means add up to those around the mean of all
        # (Chan, Golub and LeVeque 1979)
        share = part.size / (many + part.size)
        own = float(part.mean())
        part = part - dtype.type(own)
        away = own - mean
        square += float(np.vdot(part, part)) + away**2 * many * share
        mean, many = mean + away * share, many + part.size
    return mean, math.sqrt(square / many)


def assign_optimally(table: np.ndarray, maximize: bool = False) -> np.ndarray:
    """Return for each row its column, so that the sum of the numbers that are met is the least.

    Args:
        table: float [rows, columns], no more rows than columns.
        maximize: whether the sum is the largest instead.
    """
    rows, columns = table.shape
    if rows == columns and rows:
        # Every column is met once, so that what is common to a whole column decides nothing. The
        # solver starts from columns that are worth the same, and takes a tenth of the time then.
        common = table.max(0) if maximize else table.min(0)
        table = table - np.where(np.isfinite(common), common, 0).astype(np.float64)
    # files that are equal need none of it
    import scipy

    return scipy.optimize.linear_sum_assignment(table, maximize=maximize)[1]


def mix_bits(x: np.ndarray | np.uint64 | int) -> np.ndarray:
    """Return a 64-bit hash of every element (splitmix64)."""
    with np.errstate(over="ignore"):
        z = np.asarray(x).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def hash_elements(array: np.ndarray) -> np.ndarray:
    """Return a hash of every element, uint64 of the array's shape: of its bits, or of its text.

    Elements of more than 8 bytes, such as complex128, are hashed in pieces of 8.

    >>> a, b, c = hash_elements(np.array(["x", "x", "y"], object)).tolist()
    >>> a == b, a == c
    (True, False)
    """
    if array.dtype.hasobject:
        sums = [zlib.crc32(repr(element).encode()) for element in array.ravel()]
        return mix_bits(np.array(sums, np.uint64).reshape(array.shape))
    array = np.ascontiguousarray(array)
    size = array.dtype.itemsize
    if size in (1, 2, 4, 8):
        return mix_bits(view_bits(array))
    return mix_bits(mix_bits(array.view("u8").reshape(*array.shape, -1)).sum(-1, dtype=np.uint64))


def machine_epsilon(dtype: np.dtype) -> float:
    """Return the step from one to the next number of a floating-point type.

    >>> machine_epsilon(np.dtype(np.float16)) == 2.0**-10
    True
    """
    return float(np.nextafter(dtype.type(1), dtype.type(2))) - 1


def is_float_array(array: np.ndarray) -> bool:
    """Return whether an array holds floating-point numbers, bfloat16 included."""
    return array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16


def is_short_float(array: np.ndarray) -> bool:
    """Return whether an array holds floating-point numbers that single precision has."""
    return is_float_array(array) and array.dtype.itemsize <= 4


SHORT_TYPE_EPSILON = 1e-5
"""Types whose numbers are further apart than this are short.

In such types no mixture of units is told from an alteration.
"""

HASHED_ELEMENTS = 1 << 20
"""The number of elements that are hashed at a time."""
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio, odd: it spreads neighbouring numbers (Knuth, TAOCP 3, 6.4)."""


def hash_values(array: np.ndarray) -> int:
    """Returns a number that is the same for the same values in any order, and hardly for others."""
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(-1)
    total = 0
    for start in range(0, bits.size, HASHED_ELEMENTS):
        part = bits[start : start + HASHED_ELEMENTS].astype(np.uint64)
        # a sign is one bit, which must touch the others, or signs would cancel in the sum
        mixed = (part + np.uint64(1)) * HASH_FACTOR
        mixed ^= mixed >> np.uint64(32)
        total += int((mixed * mixed).sum(dtype=np.uint64))
    # a part's sum is one modulo 2**64, and how often it wraps depends on what lies in the part
    return total % 2**64
