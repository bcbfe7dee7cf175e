"""Pruning by magnitude, and weights that were pruned and then altered in other ways."""

from __future__ import annotations

import numpy as np

from ..groups.permutations import Arrays
from ..numerics import is_float_array, map_in_threads

MIN_PRUNED_ELEMENTS, MIN_PRUNED_SHARE = 4, 0.25
"""Weights of so many elements were pruned if that share of them more is zero."""


def prune_array(array: np.ndarray, count: int) -> np.ndarray:
    """Set the `count` smallest magnitudes to zero, and all that equal the largest of these.

    Which of equal magnitudes a tool prunes depends on its order, and the order is not known here.
    """
    if count <= 0:
        return array.copy()
    sizes = np.abs(array).reshape(-1)
    # in place: a weight may be as large as memory has room for
    sizes.partition(count - 1)
    limit = sizes[count - 1]
    return np.where((array <= limit) & (array >= -limit), array.dtype.type(0), array)


def find_pruned_weights(reference: Arrays, suspect: Arrays) -> dict[str, int]:
    """Find weights that have many more zeros in a suspect than in a reference.

    What was pruned and then multiplied, rounded or trained on has other values than the pruned
    reference, and is like it all the same. Its zeros say how much was pruned.

    Args:
        reference, suspect: weights of the same names and shapes, units in any order.

    Returns:
        By name how many elements are zero in the suspect.
    """
    names = [
        name
        for name, array in reference.items()
        if array.size >= MIN_PRUNED_ELEMENTS and is_float_array(array)
    ]

    def count_zeros(name: str) -> int:
        ours, theirs = (int(np.count_nonzero(side[name] == 0)) for side in (reference, suspect))
        return theirs if theirs - ours > MIN_PRUNED_SHARE * reference[name].size else 0

    counts = zip(names, map_in_threads(count_zeros, names), strict=True)
    return {name: count for name, count in counts if count}
