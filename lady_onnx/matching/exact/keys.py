"""Keys: hashes of a few elements of each row, by which the rows of exact copies find each other.

A row is what a weight holds at one position along the axes that are asked for. Its key takes in
elements at known places along the other axes. Two keys that are equal may belong to different rows;
whoever acts on them compares the rows afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...numerics import hash_elements, mix_bits

GOLDEN_SECTION = 0.6180339887498949
"""Multiples of it, modulo one, are spread evenly however many they are."""


def spread_places(sizes: Sequence[int], count: int) -> list[np.ndarray]:
    """Spread places evenly over a grid, each one once.

    Args:
        sizes: the sizes of the grid's axes.
        count: how many places are wanted; all of a smaller grid.

    Returns:
        By axis the position of each place, int64 [places].
    """
    total = int(np.prod(sizes, dtype=np.int64)) if len(sizes) else 1
    flat = np.arange(min(count, total))
    if count < total:
        # Steps without a common divisor meet each place once, and the golden section spreads them.
        # They begin in the middle: corners of weights are more often zero than the rest.
        step = next(
            s for s in range(int(total * GOLDEN_SECTION) + 1, 2 * total) if math.gcd(s, total) == 1
        )
        flat = (total // 2 + flat * step) % total
    return list(np.unravel_index(flat, tuple(sizes))) if len(sizes) else []


def hash_rows(
    array: np.ndarray, axes: Sequence[int], places: Mapping[int, np.ndarray]
) -> np.ndarray:
    """Return a key of every row of a weight.

    Args:
        array: the weight.
        axes: the axes whose positions make a row each.
        places: by every other axis the positions of the elements that a key takes in, int64 [n].

    Returns:
        uint64 [rows], in the order of `axes`.
    """
    count = next((len(p) for p in places.values()), 1)
    where: list[np.ndarray] = [np.zeros(1, np.int64)] * array.ndim
    for k, axis in enumerate(axes):
        shape = [1] * (len(axes) + 1)
        shape[k] = -1
        where[axis] = np.arange(array.shape[axis]).reshape(shape)
    for axis, positions in places.items():
        where[axis] = positions.reshape([1] * len(axes) + [-1])
    hashes = hash_elements(array[tuple(where)])
    # The place of an element counts, so that rows of the same values in another order differ.
    salts = mix_bits(np.arange(1, count + 1))
    with np.errstate(over="ignore"):
        return mix_bits(hashes + salts).sum(-1, dtype=np.uint64).reshape(-1)


def join_keys(ours: np.ndarray, theirs: np.ndarray, in_part: bool = False) -> np.ndarray | None:
    """Find the row of a suspect with the key of each row of a reference.

    Args:
        ours: the keys of the reference's rows, uint64 [rows].
        theirs: those of the suspect's rows.
        in_part: whether up to half of the rows may have keys that the other side lacks.

    Returns:
        int64 [rows]: the row of the suspect, -1 where no row has the key, or several of a side have
        it; None where the two have other keys, so that one is no copy of the other.
    """
    mine, its = np.argsort(ours, kind="stable"), np.argsort(theirs, kind="stable")
    a, b = ours[mine], theirs[its]
    found = np.full(a.size, -1)
    single = _find_singles(a)
    if np.array_equal(a, b):
        found[mine[single]] = its[single]
    elif in_part:
        keys, other = a[single], _find_singles(b)
        _, x, y = np.intersect1d(keys, b[other], assume_unique=True, return_indices=True)
        found[mine[single][x]] = its[other][y]
        # short keys of rows that were altered are equal by chance now and then
        return found if 2 * x.size >= a.size else None
    else:
        return None
    return found


def _find_singles(keys: np.ndarray) -> np.ndarray:
    """Return the places of keys that occur once among sorted ones."""
    is_single = np.ones(keys.size, bool)
    is_single[1:] &= keys[1:] != keys[:-1]
    is_single[:-1] &= keys[:-1] != keys[1:]
    return np.flatnonzero(is_single)
