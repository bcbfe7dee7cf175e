"""Matches all groups at once, with probabilities (mean field).

It is for residual streams under noise, where no group is anchored to begin with. Every group has a
table of probabilities, doubly stochastic (Sinkhorn). Group after group, the table is computed anew
from the weights that are expected under the tables of the other groups, from warm to cold. The
first tables follow from the lengths of rows, which no order of other axes changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays
from ..groups.rows import take_rows
from ..numerics import as_finite
from .evidence.assignment import assign_rows
from .evidence.noise import measure_scale
from .evidence.probabilities import balance_odds

TEMPERATURE_STEPS = (8, 6, 4, 3, 2.5, 2, 1.7, 1.5, 1.3, 1.2, 1.1, 1, 1, 1)
"""What the log-odds are divided by, step by step.

Warm steps keep early guesses from settling (deterministic annealing). Divided by one, the log-odds
are those of the likelihood.
"""
MIN_AGREEING_SHARE = 0.5
"""A group agrees with the matches so far if its table puts so many of its units where they are.

Chance puts one unit there, whatever the size. Tables that agree in every group lead back to the
matches that are known already, or to next to the same.
"""
MIN_TELLING_UNITS = 16
"""Of fewer units than this chance agrees too often: such groups are not asked."""
MAX_QUICK_PAIRS = 1 << 24
"""Of no more pairs of units all steps are taken, whatever the tables agree with.

They take seconds, and may still place a unit better.
"""
MIN_MEAN_FIELD_NOISE = 0.2
"""The least noise that a weight is taken to have, in units of its own standard deviation.

Log-odds are divided by its square: with less they would be certain from the first step on.
"""


def match_by_mean_field(
    groups: Sequence[Group], reference: Arrays, suspect: Arrays
) -> dict[str, np.ndarray] | None:
    """Match groups that hold no others, all of them at once.

    Args:
        groups: the groups.
        reference, suspect: weights of the same names and shapes, the suspect's in the order of the
            matches so far.

    Returns:
        By group id the permutation, int64 [size]: unit j of the reference is unit `permutation[j]`
        of the suspect. None where the matches so far are what it comes to.
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
        # The suspect's weight in the reference's order along all slots but `apart`, as a mean over
        # all orders, each as likely as the tables of the other groups say.
        array = theirs[name].copy()
        for g, s in slots[name]:
            if s is not apart:
                front = np.moveaxis(array, s.axis, 0)
                front[s.index] = np.tensordot(likely[g.id], front[s.index], 1)
        return array

    is_long = sum(g.size**2 for g in groups) > MAX_QUICK_PAIRS
    for temperature in TEMPERATURE_STEPS:
        for g in groups:
            score = np.zeros((g.size, g.size), np.float32)
            for s in g.slots:
                a, b = (
                    take_rows(ours[s.initializer], s),
                    take_rows(expect_weight(s.initializer, s), s),
                )
                # Of the log-likelihood -|a - b|^2 / 2 power this is the part that depends on pairs;
                # the squares of a row or a column are divided out by balancing.
                score += (a / np.float32(power[s.initializer] * temperature)) @ b.T
            likely[g.id] = balance_odds(score)
        if is_long and _agree_with_matches(groups, likely):
            return None
    return {g.id: assign_rows(likely[g.id]) for g in groups}


def _agree_with_matches(groups: Sequence[Group], likely: Mapping[str, np.ndarray]) -> bool:
    """Return whether the tables put the units of every group where they are."""
    shares = [
        float((likely[g.id].argmax(1) == np.arange(g.size)).mean())
        for g in groups
        if g.size >= MIN_TELLING_UNITS
    ]
    return bool(shares) and min(shares) >= MIN_AGREEING_SHARE


def _measure_noise_power(ours: np.ndarray, theirs: np.ndarray, spread: float) -> float:
    """Measure the variance that independent noise added to a weight, whatever its order."""
    gained = np.square(theirs, dtype=np.float64).mean() - np.square(ours, dtype=np.float64).mean()
    return max(float(gained), (MIN_MEAN_FIELD_NOISE * spread) ** 2)


def _score_lengths(
    group: Group, ours: Arrays, theirs: Arrays, power: Mapping[str, float]
) -> np.ndarray:
    """Score units by the lengths of their rows alone, slot by slot.

    Returns:
        float64 [size, size]: log-likelihoods, up to a constant.
    """
    score = np.zeros((group.size, group.size))
    for s in group.slots:
        a, b = (np.square(take_rows(x[s.initializer], s), dtype=np.float64) for x in (ours, theirs))
        many, noise = a.shape[1], power[s.initializer]
        # For b = a + e, with n elements and normal noise e of variance v, |b|^2 has the mean
        # |a|^2 + n v and the variance 4 v |a|^2 + 2 n v^2; the mean |a|^2 stands for all rows.
        gap = a.sum(1)[:, None] - (b.sum(1) - many * noise)[None]
        score -= np.square(gap) / (2 * (4 * noise * a.sum(1).mean() + 2 * many * noise**2))
    return score
