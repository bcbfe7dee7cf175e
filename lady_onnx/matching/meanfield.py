"""All groups matched at once, with probabilities: for residual streams and noise that leave no group to begin with.

The probabilities of a group are those that the expected weights of its neighbours give it (mean field), doubly
stochastic (Sinkhorn), from warm to cold; before anything is known, by what no order of other axes changes.
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

HEATS = (8, 6, 4, 3, 2.5, 2, 1.7, 1.5, 1.3, 1.2, 1.1, 1, 1, 1)
"""By what the log-odds are divided, step by step."""
LEAST = 0.2
"""The least noise of a weight, in units of its own deviation: with less there is nothing to weigh."""


def match_by_mean_field(
    groups: Sequence[Group], reference: Arrays, suspect: Arrays
) -> dict[str, np.ndarray]:
    """Permutations of groups that hold no others: unit j of the reference is unit `permutation[j]` of the suspect."""
    slots: dict[str, list[tuple[Group, Slot]]] = {}
    for g in groups:
        for s in g.slots:
            slots.setdefault(s.initializer, []).append((g, s))
    scales = {n: measure_scale(reference[n]) for n in slots}
    ours, theirs = (
        {n: as_finite(x[n]) - np.float32(scales[n][0]) for n in slots} for x in (reference, suspect)
    )
    power = {n: _power(ours[n], theirs[n], scales[n][1]) for n in slots}
    likely = {
        g.id: balance_odds(_lengths(g, ours, theirs, power)).astype(np.float32) for g in groups
    }

    def expected(name: str, apart: Slot) -> np.ndarray:
        array = theirs[name].copy()
        for g, s in slots[name]:
            if s is not apart:
                front = np.moveaxis(array, s.axis, 0)
                front[s.index] = np.tensordot(likely[g.id], front[s.index], 1)
        return array

    for heat in HEATS:
        for g in groups:
            score = np.zeros((g.size, g.size))
            for s in g.slots:
                a, b = take_rows(ours[s.initializer], s), take_rows(expected(s.initializer, s), s)
                score += (a @ b.T) / power[s.initializer]
            likely[g.id] = balance_odds(score / heat).astype(np.float32)
    return {g.id: assign_rows(likely[g.id]) for g in groups}


def _power(ours: np.ndarray, theirs: np.ndarray, spread: float) -> float:
    """The variance of independent noise that was added to a weight: what it has gained."""
    gained = np.square(theirs, dtype=np.float64).mean() - np.square(ours, dtype=np.float64).mean()
    return max(float(gained), (LEAST * spread) ** 2)


def _lengths(group: Group, ours: Arrays, theirs: Arrays, power: Mapping[str, float]) -> np.ndarray:
    """The log-likelihood of units by the lengths of their rows alone, slot by slot."""
    score = np.zeros((group.size, group.size))
    for s in group.slots:
        a, b = (np.square(take_rows(x[s.initializer], s), dtype=np.float64) for x in (ours, theirs))
        many, noise = a.shape[1], power[s.initializer]
        gap = a.sum(1)[:, None] - (b.sum(1) - many * noise)[None]
        score -= np.square(gap) / (2 * (4 * noise * a.sum(1).mean() + 2 * many * noise**2))
    return score
