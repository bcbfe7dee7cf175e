"""Matches all groups at once, with probabilities (mean field).

It is for residual streams under noise, which leave no group to begin with. The probabilities of a
group are those that the expected weights of its neighbours give it, doubly stochastic (Sinkhorn),
from warm to cold. Before anything is known, they follow from what no order of other axes changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays
from ..groups.rows import take_rows
from ..numerics import as_finite
from .assignment import assign_rows
from .evidence.noise import measure_scale
from .evidence.probabilities import balance_odds

TEMPERATURE_STEPS = (8, 6, 4, 3, 2.5, 2, 1.7, 1.5, 1.3, 1.2, 1.1, 1, 1, 1)
"""What the log-odds are divided by, step by step."""
MIN_MEAN_FIELD_NOISE = 0.2
"""The least noise of a weight, in units of its own deviation; with less nothing is weighed."""


def match_by_mean_field(
    groups: Sequence[Group], reference: Arrays, suspect: Arrays
) -> dict[str, np.ndarray]:
    """Match groups that hold no others.

    Returns:
        By group id the permutation, int64 [size]: unit j of the reference is unit `permutation[j]`
        of the suspect.
    """
    slots: dict[str, list[tuple[Group, Slot]]] = {}
    for g in groups:
        for s in g.slots:
            slots.setdefault(s.initializer, []).append((g, s))
    scales = {n: measure_scale(reference[n]) for n in slots}
    ours, theirs = (
        {n: as_finite(x[n]) - np.float32(scales[n][0]) for n in slots} for x in (reference, suspect)
    )
    power = {n: _measure_noise_power(ours[n], theirs[n], scales[n][1]) for n in slots}
    likely = {
        g.id: balance_odds(_score_lengths(g, ours, theirs, power)).astype(np.float32)
        for g in groups
    }

    def expect_weight(name: str, apart: Slot) -> np.ndarray:
        array = theirs[name].copy()
        for g, s in slots[name]:
            if s is not apart:
                front = np.moveaxis(array, s.axis, 0)
                front[s.index] = np.tensordot(likely[g.id], front[s.index], 1)
        return array

    for temperature in TEMPERATURE_STEPS:
        for g in groups:
            score = np.zeros((g.size, g.size))
            for s in g.slots:
                a, b = (
                    take_rows(ours[s.initializer], s),
                    take_rows(expect_weight(s.initializer, s), s),
                )
                score += (a @ b.T) / power[s.initializer]
            likely[g.id] = balance_odds(score / temperature).astype(np.float32)
    return {g.id: assign_rows(likely[g.id]) for g in groups}


def _measure_noise_power(ours: np.ndarray, theirs: np.ndarray, spread: float) -> float:
    """Return the variance that independent noise added to a weight."""
    gained = np.square(theirs, dtype=np.float64).mean() - np.square(ours, dtype=np.float64).mean()
    return max(float(gained), (MIN_MEAN_FIELD_NOISE * spread) ** 2)


def _score_lengths(
    group: Group, ours: Arrays, theirs: Arrays, power: Mapping[str, float]
) -> np.ndarray:
    """Score units by the lengths of their rows alone, slot by slot: log-likelihoods."""
    score = np.zeros((group.size, group.size))
    for s in group.slots:
        a, b = (np.square(take_rows(x[s.initializer], s), dtype=np.float64) for x in (ours, theirs))
        many, noise = a.shape[1], power[s.initializer]
        gap = a.sum(1)[:, None] - (b.sum(1) - many * noise)[None]
        score -= np.square(gap) / (2 * (4 * noise * a.sum(1).mean() + 2 * many * noise**2))
    return score
