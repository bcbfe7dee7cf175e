"""Statistics of what stands out of the rest, which the tests of tampering share."""

from __future__ import annotations

import numpy as np
import scipy

from ..findings import MAX_TAMPERED_SHARE

MIN_DEVIATIONS = 12
"""A row or an element stands out if it differs by this many times the common deviation."""
MIN_FACTOR_STEP = 0.03
"""A row's factor must differ by this much from the others' to count, an element by this share of
the mean size of all."""
MIN_GAP_RATIO = 3
"""Replaced elements differ by at least this many times the next largest difference of the weight.
"""
MAX_ROW_CHANCE = 1e-3
"""As `MAX_CHANCE`, for rows, which must differ by other measures besides."""
TAIL_SHARE = 0.05
"""The share of the differences, the largest ones, from which the law of the tail is estimated."""
MIN_TAIL_SAMPLES = 64
"""The minimum number of these differences."""
MAX_TAIL_SAMPLES = 1000
"""The maximum number of these differences."""
NORMAL_MEDIAN_MAGNITUDE = 0.6745
"""The median magnitude of normal numbers of deviation one."""


def count_most_tampered(count: int) -> int:
    """Return how many of `count` units or weights can have been tampered with one by one.

    >>> count_most_tampered(50), count_most_tampered(3)
    (5, 1)
    """
    return max(int(MAX_TAMPERED_SHARE * count), 1)


def have_mostly_stayed(gaps: np.ndarray) -> bool:
    """Return whether all but a few gaps are zero."""
    return are_few(int(np.count_nonzero(gaps)), gaps.size)


def are_few(count: int, total: int) -> bool:
    """Return whether a number is that of a few among all.

    A few are at most a tenth, or one, and fewer than half: of one or two, one is not a few.
    """
    return count <= count_most_tampered(total) and 2 * count < total


def estimate_deviation(gaps: np.ndarray) -> float:
    """Estimate the deviation of normal numbers by the median of their magnitudes."""
    return float(np.median(gaps)) / NORMAL_MEDIAN_MAGNITUDE


def count_outliers(logs: np.ndarray, most: int, chance: float) -> int:
    """Count how many of the largest numbers stand out of the rest.

    The result is the largest count for which the last of the outliers stands out, as Rosner's
    generalised test has it. A test that stopped at the first number that does not stand out would
    miss outliers that hide each other.

    Args:
        logs: float64 [n]: logarithms of sizes.
        most: the largest count that is tried.
        chance: the probability that any of the rest stands out in the same way.
    """
    values = np.sort(logs)[::-1]
    # At least three numbers are left, of which a spread can be told.
    counts = range(1, min(most, values.size - 3) + 1)
    return max(
        (k for k in counts if values[k - 1] > predict_limit(values[k:], chance / values.size)),
        default=0,
    )


def predict_limit(logs: np.ndarray, chance: float) -> float:
    """Return what one more number of the same kind exceeds with a given chance.

    It is the limit of a prediction by Student's t. The upper half says how far numbers spread:
    below it lies what hardly ever had a gradient.

    Args:
        logs: float64 [n]: logarithms of sizes.
        chance: the probability.
    """
    upper = np.sort(logs)[logs.size // 2 :]
    middle = float(np.median(logs))
    spread = float(np.sqrt(np.square(upper - middle).mean() * (1 + 1 / upper.size)))
    # The quantile of a small chance lies at the lower end, and is negative.
    return middle - spread * float(scipy.special.stdtrit(max(upper.size - 1, 1), chance))


def are_faded(gap: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return which numbers moved by a smaller share of their own size than half of all that moved.

    Such a move may be decay, which moves large weights far.

    Args:
        gap: float64 [n]: how far numbers moved.
        sizes: float64 [n]: how large they are.
    """
    share = gap / np.maximum(sizes, 1e-300)
    return share < np.median(share[gap > 0])


def compute_gap_chance(gaps: np.ndarray, count: int, least: float) -> float:
    """Compute how likely it is that the largest differences are so much larger than the rest.

    If all are of one power law, the logarithms of the spacings of its largest values, each times
    its rank, are exponential, whatever the power (Renyi 1953, Hill 1975). So the spacing in
    question over the mean of the m others has Fisher's distribution with 2 and 2 m degrees of
    freedom. Its tail has a closed form: P(F > f) = (1 + f / m) ** -m.

    Args:
        gaps: float64 [n]: the differences.
        count: how many of the largest are judged.
        least: smaller differences count as this.
    """
    many = min(max(int(TAIL_SHARE * gaps.size), MIN_TAIL_SAMPLES), MAX_TAIL_SAMPLES, gaps.size // 4)
    if many < 2:
        return 1.0
    tail = np.partition(gaps, gaps.size - count - many)[gaps.size - count - many :]
    top = np.maximum(np.sort(tail)[::-1], least)
    logs = np.log(top)
    # The sum of the spacings below, each times its rank in the whole sample, telescopes.
    gap = count * (logs[count - 1] - logs[count])
    rest = float((logs[count:] - logs[-1]).sum() + count * (logs[count] - logs[-1]))
    return float((1 + gap / max(rest, 1e-12)) ** (1 - many))
