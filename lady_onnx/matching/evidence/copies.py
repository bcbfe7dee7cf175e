"""Estimates whether matches are copies at all, or just the best that unrelated weights offer.

The question is put to rows that are matched already. The share of a row x that is recovered in its
match y is x y / x x: about 1 in a copy x + noise, and about 0 in an unrelated row. But the best of
many unrelated rows always looks like a copy to some degree. What the search finds in pure chance,
and in copies with the suspect's noise, is the yardstick (`Calibration`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...numerics import MIN_DIVISOR

MIN_CHANCE_GAP = 0.1
"""If other rows have a larger share than one less this, copies cannot be told from them for sure.

It is used where the share that copies recover is not known, and is taken for one.
"""
MIN_GAP_DEVIATIONS = 3
"""Nor can they for sure if chance recovers as much as copies do, to within so many deviations."""
MIN_COPY_SHARE = 1e-3
"""No group is taken to hold a smaller share of copies, or of others, than this.

A share of 0 or 1 would overrule whatever a single row says.
"""
MAX_LOG_ODDS = 700
"""Exponentials of larger numbers leave double precision."""
Recoveries = Mapping[str, tuple[float, float]]
"""By group id how much of the group's rows was recovered, and the power of these rows."""


@dataclass(frozen=True)
class Calibration:
    """What the search that matched a group finds in weights of which the answer is known.

    Attributes:
        other: The share of the group's rows that is recovered from weights without any order.
        whole: The share that is recovered from copies with the noise that the suspect seems to
            have.
        trust: The number of matches in these copies that are right, over the sum of their
            certainties. Above 1 the search is too cautious.
        share: The probability that the suspect holds copies at all, the same for all groups.
    """

    other: float
    whole: float
    trust: float
    share: float


def measure_recovery(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Measure how much of the rows `x` is recovered in the rows `y` that were matched with them.

    Args:
        x, y: float [units, elements], in units of the noise; the last element of each row is one.

    Returns:
        The recovered share, which is 1 for copies, and the power of the rows `x`: the sum of their
        squares, without the ones.
    """
    # The one at the end of every row adds one to every product.
    power = float(np.einsum("ij,ij", x, x, dtype=np.float64)) - len(x)
    recovered = float(np.einsum("ij,ij", x, y, dtype=np.float64)) - len(x)
    return recovered / max(power, MIN_DIVISOR), power


def estimate_copies(
    x: np.ndarray,
    y: np.ndarray,
    other: np.ndarray | float,
    whole: float | None = None,
    likely: float = 0,
) -> np.ndarray:
    """Estimate for each of the rows `x` the probability that its match in `y` is its copy.

    Args:
        x, y: float [units, elements], in units of the noise; the last element of each row is one.
        other: what unrelated rows recover at best: a share, or the likeliest other rows,
            float [units, elements], to measure it.
        whole: the share that copies recover; all of it by default.
        likely: the share of copies where `other` and `whole` are alike, and nothing can be told.

    Returns:
        float64 [units].
    """
    power = np.maximum(np.einsum("ij,ij->i", x, x, dtype=np.float64) - 1, MIN_DIVISOR)
    gain = (np.einsum("ij,ij->i", x, y, dtype=np.float64) - 1) / power
    if isinstance(other, np.ndarray):
        second = (np.einsum("ij,ij->i", x, other, dtype=np.float64) - 1) / power
        other = float((second * power).sum() / power.sum())
    else:
        second = np.full(len(x), other)
    # The recovered share has the variance 1 / power, as rows are in units of the noise. So these
    # are the log-odds of a copy, with share 1, against the best of others; they are even where
    # others recover as much.
    odds = ((gain - np.minimum(second, 1)) ** 2 - (gain - 1) ** 2) * power / 2
    # The recovery of all units together tells how many are copies, before any single one is asked:
    # it lies between that of others and that of copies as their shares say. Where these two are
    # too near each other to tell, `likely` stands in.
    room = MIN_CHANCE_GAP if whole is None else MIN_GAP_DEVIATIONS / power.sum() ** 0.5
    whole = 1.0 if whole is None else whole
    told = np.clip((whole - other) / room, 0, 1)
    share = (
        told * (measure_recovery(x, y)[0] - other) / max(whole - other, room) + (1 - told) * likely
    )
    share = np.clip(share, MIN_COPY_SHARE, 1 - MIN_COPY_SHARE)
    return _compute_probabilities(odds + np.log(share / (1 - share)))


def estimate_copy_share(found: Recoveries, other: Recoveries, whole: Recoveries) -> float:
    """Estimate the probability that a suspect holds copies at all.

    Args:
        found: what was recovered from the suspect, group by group.
        other: what is recovered from weights without any order, for the same groups.
        whole: what is recovered from copies with the suspect's noise, for the same groups.
    """
    power = np.array([p for _, p in found.values()])
    f, o, w = (np.array([g for g, _ in x.values()]) for x in (found, other, whole))
    # One group that is told from chance suffices, unless it is one of too many groups: of n groups
    # the best looks n times likelier than it is. Groups that chance fits as well say nothing.
    odds = (
        np.where(w > o, (f - o) ** 2 - (f - w) ** 2, -np.inf) * np.maximum(power, MIN_DIVISOR) / 2
    )
    return float(_compute_probabilities(odds.max() - np.log(odds.size)))


def _compute_probabilities(odds: np.ndarray) -> np.ndarray:
    """Return the probabilities of log-odds: the logistic function, without scipy's to load."""
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -MAX_LOG_ODDS, MAX_LOG_ODDS))))
