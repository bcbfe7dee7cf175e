"""Whether matches are copies at all, or the best that unrelated weights offer. Knows arrays alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

ROOM = 0.1
"""Where others have more than all but this share of the rows, copies cannot be told from them."""
TELLING = 3
"""Nor where chance finds as much again as copies do, to within so many deviations."""
MIN_DIVISOR = 1e-30
"""In place of zero, below a fraction."""
RARE = 1e-3
"""No group is taken to hold a smaller share of copies, or of others, than this."""
Gains = Mapping[str, tuple[float, float]]
"""By each group's id how much of its rows is found again, and how large they are."""


@dataclass(frozen=True)
class Calibration:
    """What the search that matched a group finds in weights of which the answer is known.

    Attributes:
        other: how much of the group's rows is found again in weights without any order.
        whole: and in copies with the noise that the suspect seems to have.
        trust: how many of the matches there are right, by how many are said to be.
        share: how likely it is that the suspect holds copies at all.
    """

    other: float
    whole: float
    trust: float
    share: float


def measure_recovery(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """How much of the rows `x` is found again in `y`, of copies all, and how large they are, both in units of the noise.

    Both end with a one.
    """
    power = float(np.einsum("ij,ij", x, x, dtype=np.float64)) - len(x)
    return (float(np.einsum("ij,ij", x, y, dtype=np.float64)) - len(x)) / max(
        power, MIN_DIVISOR
    ), power


def estimate_copies(
    x: np.ndarray,
    y: np.ndarray,
    other: np.ndarray | float,
    whole: float | None = None,
    likely: float = 0,
) -> np.ndarray:
    """For each of the rows `x` the probability that its match in `y` is a copy and no other's.

    Of a copy all of the row is found again, or `whole`; of the best among unrelated ones hardly more than in `other`, the
    rows of the likeliest other, or than that share. `likely` says how many are copies where the two are alike.
    """
    power = np.maximum(np.einsum("ij,ij->i", x, x, dtype=np.float64) - 1, MIN_DIVISOR)
    gain = (np.einsum("ij,ij->i", x, y, dtype=np.float64) - 1) / power
    if isinstance(other, np.ndarray):
        second = (np.einsum("ij,ij->i", x, other, dtype=np.float64) - 1) / power
        other = float((second * power).sum() / power.sum())
    else:
        second = np.full(len(x), other)
    odds = np.clip(((gain - np.minimum(second, 1)) ** 2 - (gain - 1) ** 2) * power / 2, -700, 700)
    # over all units the gain says how many are copies, before any one of them is asked
    room = ROOM if whole is None else TELLING / power.sum() ** 0.5
    whole = 1.0 if whole is None else whole
    told = np.clip((whole - other) / room, 0, 1)
    share = (
        told * (measure_recovery(x, y)[0] - other) / max(whole - other, room) + (1 - told) * likely
    )
    return expit(odds + logit(np.clip(share, RARE, 1 - RARE)))


def estimate_copy_share(found: Gains, other: Gains, whole: Gains) -> float:
    """How likely it is that there are copies, by what was found, beside what chance and copies with its noise offer."""
    power = np.array([p for _, p in found.values()])
    f, o, w = (np.array([g for g, _ in x.values()]) for x in (found, other, whole))
    # one group that is told from chance is enough to say that there are copies, unless it is one of too many
    odds = (
        np.where(w > o, (f - o) ** 2 - (f - w) ** 2, -np.inf) * np.maximum(power, MIN_DIVISOR) / 2
    )
    return float(expit(odds.max() - np.log(odds.size)))
