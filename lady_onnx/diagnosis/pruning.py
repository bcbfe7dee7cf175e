"""Pruning by magnitude, and weights that were pruned and then altered in other ways."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from ..groups.permutations import Arrays
from ..numerics import is_float_array, map_in_threads

MIN_ASSUMED_ELEMENTS, MIN_ASSUMED_SHARE = 64, 0.25
"""Pruning is assumed of weights of so many elements, and with that share of zeros more."""


def prune_array(array: np.ndarray, count: int) -> np.ndarray:
    """Set the `count` smallest magnitudes to zero, and all that equal the largest of these.

    Which of equal magnitudes a tool prunes depends on its order, and the order is not known here.
    """
    if count <= 0:
        return array.copy()
    limit = np.partition(np.abs(array), count - 1, axis=None)[count - 1]
    return np.where(np.abs(array) <= limit, array.dtype.type(0), array)


def assume_pruning(
    reference: Arrays, suspect: Arrays, known: Collection[str]
) -> Mapping[str, np.ndarray]:
    """Prune weights of a reference as much as those of a suspect seem to have been.

    What was pruned and then multiplied, rounded or trained on has other values than the pruned
    reference, and is like it all the same. Its zeros say how much was pruned.

    Args:
        reference, suspect: weights of the same names and shapes, units in any order.
        known: weights that are left out, because it is known how they were altered.

    Returns:
        By name the pruned weights of the reference, for weights with many more zeros in the
        suspect.
    """
    names = [
        name
        for name, array in reference.items()
        if name not in known and array.size >= MIN_ASSUMED_ELEMENTS and is_float_array(array)
    ]

    def prune(name: str) -> np.ndarray | None:
        array = np.asarray(reference[name])
        count = int(np.count_nonzero(suspect[name] == 0))
        surplus = count - int(np.count_nonzero(array == 0))
        return prune_array(array, count) if surplus > MIN_ASSUMED_SHARE * array.size else None

    found = zip(names, map_in_threads(prune, names), strict=True)
    return {name: pruned for name, pruned in found if pruned is not None}
