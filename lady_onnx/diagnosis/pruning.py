"""Pruning by magnitude, and weights that were pruned and then altered in other ways."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..groups.permutations import Arrays
from ..numerics import as_finite, is_float_array
from ..threads import map_in_threads

MIN_PRUNED_ELEMENTS, MIN_PRUNED_SHARE = 4, 0.25
"""Weights of so many elements were pruned if that share of them more is zero."""
MIN_MEASURED_ELEMENTS, MAX_MEASURED_ELEMENTS = 1 << 8, 1 << 20
"""The tails of smaller weights say nothing, and of larger ones as many elements say enough."""
EVENING_TURNS, MIN_LINE_ELEMENTS = 3, 16
"""Lines of at least so many elements are brought to one size, so often along every axis."""
MIN_KURTOSIS_GAIN, MIN_DEVIATIONS = 0.5, 5.0
"""Tails are longer if the kurtosis is larger by this, and by so many deviations of both."""


def prune_array(array: np.ndarray, count: int) -> np.ndarray:
    """Set the `count` smallest magnitudes to zero, and all that equal the largest of these.

    Which of equal magnitudes a tool prunes depends on its order, and the order is not known here.
    """
    if count <= 0:
        return array.copy()
    return prune_below(array, find_pruning_limit(array, count))


def find_pruning_limit(array: np.ndarray, count: int) -> np.floating:
    """Return the largest of the `count` smallest magnitudes; `count` is one at least."""
    sizes = np.abs(array).reshape(-1)
    # in place: a weight may be as large as memory has room for
    sizes.partition(count - 1)
    limit: np.floating = sizes[count - 1]
    return limit


def prune_below(array: np.ndarray, limit: np.floating) -> np.ndarray:
    """Set all magnitudes to zero that are a limit at most."""
    return np.where((array <= limit) & (array >= -limit), array.dtype.type(0), array)


def count_pruned_elements(reference: Arrays, suspect: Arrays) -> dict[str, int]:
    """Count zeros in weights that have many more in a suspect than in a reference.

    What was pruned and then multiplied, rounded or trained on has other values than the pruned
    reference, and is like it all the same. Its zeros say how much was pruned.

    Args:
        reference, suspect: weights of the same names and shapes, units in any order.

    Returns:
        By name how many elements are zero in the suspect.
    """

    def count_zeros(name: str) -> int:
        ours, theirs = (int(np.count_nonzero(side[name] == 0)) for side in (reference, suspect))
        return theirs if theirs - ours > MIN_PRUNED_SHARE * reference[name].size else 0

    return _count_in_weights(count_zeros, reference, MIN_PRUNED_ELEMENTS)


def guess_pruned_elements(reference: Arrays, suspect: Arrays) -> dict[str, int]:
    """Guess how many elements were pruned in weights to which noise was added afterwards.

    No zero is left then. Pruning takes what is small, so it makes tails long, and normal noise
    leaves the fourth cumulant as it was. Factors of units make tails long as well: they are taken
    out first. Other changes make long tails, too, so that a guess has to be confirmed.

    Args:
        reference, suspect: weights of the same names and shapes, units in any order.

    Returns:
        By name the number, for weights with longer tails than in the reference. Nothing, if weights
        with such tails have less than half of all elements.
    """
    found = _count_in_weights(
        lambda name: _guess_pruned_count(reference[name], suspect[name]),
        reference,
        MIN_MEASURED_ELEMENTS,
    )
    # Tools prune most weights. Weights of strangers have other tails now and then.
    sizes = {name: reference[name].size for name in _list_weights(reference, MIN_MEASURED_ELEMENTS)}
    return found if 2 * sum(sizes[n] for n in found) >= sum(sizes.values()) else {}


def _list_weights(weights: Arrays, least: int) -> list[str]:
    return [n for n, a in weights.items() if a.size >= least and is_float_array(a)]


def _count_in_weights(count: Callable[[str], int], weights: Arrays, least: int) -> dict[str, int]:
    """Return by name what was counted in float weights of enough elements, without zeros."""
    names = _list_weights(weights, least)
    counts = zip(names, map_in_threads(count, names), strict=True)
    return {name: number for name, number in counts if number}


def _guess_pruned_count(reference: np.ndarray, suspect: np.ndarray) -> int:
    squares = [np.square(_even_lines(_take_part(side))) for side in (reference, suspect)]
    spreads = [float(s.mean()) for s in squares]
    if min(spreads) <= 0:
        return 0
    kurtoses, errors = zip(*map(_measure_kurtosis, squares), strict=True)
    if not kurtoses[1] - kurtoses[0] > max(MIN_KURTOSIS_GAIN, MIN_DEVIATIONS * math.hypot(*errors)):
        return 0
    sizes = np.sort(squares[0], axis=None)[::-1]
    # by how many of the largest elements are left: the second moment and the fourth cumulant
    second = np.cumsum(sizes) / sizes.size
    fourth = np.cumsum(np.square(sizes)) / sizes.size - 3 * np.square(second)
    # from where the cumulant is largest it falls, the more elements are left
    peak = int(fourth.argmax())
    tails = kurtoses[1] * spreads[1] ** 2
    left = 1 + peak + int(np.count_nonzero(fourth[peak + 1 :] > tails))
    return round((1 - left / sizes.size) * reference.size)


def _measure_kurtosis(squares: np.ndarray) -> tuple[float, float]:
    """Return the excess kurtosis of numbers around zero, and its error, given their squares."""
    spread = float(squares.mean())
    fourth = np.square(squares)
    error = float(fourth.std()) / math.sqrt(squares.size)
    return float(fourth.mean()) / spread**2 - 3, error / spread**2


def _take_part(array: np.ndarray) -> np.ndarray:
    """Return a part of a large array, drawn along its longest axes, or all of a small one.

    Returns:
        float64, of as many axes.
    """
    rng = np.random.default_rng(0)
    while array.size > MAX_MEASURED_ELEMENTS:
        axis = int(np.argmax(array.shape))
        count = max(MAX_MEASURED_ELEMENTS * array.shape[axis] // array.size, 1)
        array = array.take(np.sort(rng.permutation(array.shape[axis])[:count]), axis)
    with np.errstate(over="ignore"):
        return as_finite(array).astype(np.float64)


def _even_lines(array: np.ndarray) -> np.ndarray:
    """Bring the lines of an array to one size along every axis, and keep the mean of their logs.

    Lines of zeros stay as they are.
    """
    for _ in range(EVENING_TURNS):
        for axis in range(array.ndim):
            if array.size < MIN_LINE_ELEMENTS * array.shape[axis]:
                continue
            others = tuple(k for k in range(array.ndim) if k != axis)
            size = np.sqrt(np.square(array).mean(others, keepdims=True))
            logs = np.log(size, where=size > 0, out=np.zeros_like(size))
            usual = logs.sum() / max(np.count_nonzero(size), 1)
            array = array * np.where(size > 0, np.exp(usual - logs), 1.0)
    return array
