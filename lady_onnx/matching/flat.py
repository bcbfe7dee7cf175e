"""Matches the units of one group that holds no other groups.

Groups whose units hold others are the business of `nested`; which group comes when is that of
`alignment`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..groups.model import Group, Slot
from ..groups.moved import take_slot
from ..groups.permutations import Arrays
from ..groups.rows import lay_rows, take_rows
from .evidence.exact import match_exactly
from .evidence.scores import MAX_DENSE_UNITS
from .matches import Match
from .strategies import (
    Comparison,
    EvidenceStrategy,
    ScoredPairs,
)
from .sure import match_surely


class UnmovedGroups:
    """The groups that were matched in place with the weights that they still have.

    They need no new match as long as the noise is the same as well. So the weights of the match are
    kept, if they are the very arrays from which the noise was estimated then. Arrays are never
    changed in place here: whatever moves becomes a new one, and the same object says that nothing
    moved.
    """

    def __init__(self) -> None:
        self._noise_source: Arrays = {}
        self._weights: dict[str, list[np.ndarray]] = {}

    def note_noise_source(self, current: Arrays) -> None:
        """Remember the weights that the noise is estimated from."""
        self._noise_source = dict(current)

    def has_group(self, name: str, weights: Sequence[np.ndarray]) -> bool:
        """Return whether a group was matched in place with these very arrays."""
        return are_identical(weights, self._weights.get(name, []))

    def record_match(
        self, name: str, slots: Sequence[Slot], weights: list[np.ndarray], found: np.ndarray
    ) -> None:
        """Remember a group whose units all stayed, if its noise is that of its present weights.

        Args:
            name: the group's id.
            slots: the slots by which it was matched.
            weights: the suspect's weights in these slots.
            found: int64 [size]: the match of each unit.
        """
        sources = [self._noise_source.get(s.initializer) for s in slots]
        if are_identical(weights, sources) and (found == np.arange(found.size)).all():
            self._weights[name] = weights


def match_flat(
    comparison: Comparison, group: Group, slots: Sequence[Slot], unmoved: UnmovedGroups | None
) -> Match:
    """Match the units of a group that holds no others.

    Args:
        comparison: the models, and how they are compared.
        group: the group.
        slots: those of its slots that may be used. If there are none, the sorted elements of all
            slots are compared, which no order of the other axes changes.
        unmoved: the groups that were matched in place; None if every group is to be matched anew.
    """
    weights = [comparison.current[s.initializer] for s in slots if unmoved is not None]
    if slots:
        # Rows as they are, before any weighing: an exact copy needs no likelihood.
        exact = _match_copies(comparison, slots)
        if exact is not None:
            ones = np.ones(group.size)
            return Match(group.id, exact[0], ones, exact[1], ones)
        sure = match_surely(comparison, group.id, slots, group.size)
        if sure is not None and unmoved is not None:
            unmoved.record_match(group.id, slots, weights, sure.permutation)
        if sure is not None:
            return sure
        ours, theirs = comparison.weigh_both(slots)
    else:
        slots = group.slots
        ours, theirs = (
            comparison.strategy.take_unordered_rows(x, slots)
            for x in (comparison.reference, comparison.current)
        )
    pairs = _score_tiles(comparison.strategy, group, slots, ours, theirs)
    scores = comparison.strategy.apply_prior(group, pairs.scores, comparison.permutations)
    pairs = replace(pairs, scores=scores)
    # A group in which nothing moved is not assigned again. Its figures are computed even so: an
    # earlier sweep may have left them out.
    if unmoved is not None and unmoved.has_group(group.id, weights):
        found = np.arange(group.size)
    else:
        found = comparison.assign(scores)
        if unmoved is not None:
            unmoved.record_match(group.id, slots, weights, found)
    return Match(group.id, found, *comparison.measure_figures(group.id, pairs, found))


def _match_copies(
    comparison: Comparison, slots: Sequence[Slot]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Match rows that are equal bit for bit, see `match_exactly`; None if any has no copy."""
    sides = comparison.reference, comparison.current
    for slot in slots:
        # one element of each unit tells most that are no copies, without all the others
        rank = comparison.reference[slot.initializer].ndim
        heads = [_take_one_each(arrays, slot, rank) for arrays in sides]
        if match_exactly(heads[:1], heads[1:]) is None:
            return None
    ours, theirs = ([take_rows(arrays[s.initializer], s) for s in slots] for arrays in sides)
    return match_exactly(ours, theirs)


def _take_one_each(arrays: Arrays, slot: Slot, rank: int) -> np.ndarray:
    """Return one element of every unit in a slot of a weight of so many axes, [units, 1]."""
    taken = {axis: positions[:1] for axis, positions in slot.within}
    others = set(range(rank)) - {slot.axis, *taken}
    head = replace(slot, index=slot.index[:, :1])
    return lay_rows(take_slot(arrays, head, taken, dict.fromkeys(others, slice(1))), head)


def _score_tiles(
    strategy: EvidenceStrategy,
    group: Group,
    slots: Sequence[Slot],
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
) -> ScoredPairs:
    """Score the pairs of a group; if it has many units, tile by tile and in single precision.

    So what the strategy needs on the way, in double precision, has the size of a tile.
    """
    if group.size <= MAX_DENSE_UNITS:
        return strategy.score_pairs(group, slots, ours, theirs)
    tile = replace(group, size=MAX_DENSE_UNITS)
    # The last tile overlaps the one before, so that all have one size. Its scores are the same.
    starts = [
        *range(0, group.size - MAX_DENSE_UNITS, MAX_DENSE_UNITS),
        group.size - MAX_DENSE_UNITS,
    ]
    ends = [*starts[1:], group.size]
    scores = np.empty((group.size, group.size), np.float32)
    mine: dict[int, np.ndarray] = {}
    its: dict[int, np.ndarray] = {}
    for i, j in itertools.product(starts, starts):
        rows = [z[i : i + MAX_DENSE_UNITS] for z in ours]
        columns = [z[j : j + MAX_DENSE_UNITS] for z in theirs]
        part = strategy.score_pairs(tile, slots, rows, columns)
        scores[i : i + MAX_DENSE_UNITS, j : j + MAX_DENSE_UNITS] = part.scores
        mine[i], its[j] = part.ours, part.theirs
    x, y = (
        np.concatenate([side[k][: n - k] for k, n in zip(starts, ends, strict=True)])
        for side in (mine, its)
    )
    return ScoredPairs(scores, x, y)


def are_identical(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray | None]) -> bool:
    """Return whether two sequences hold the same array objects, one by one.

    Equal arrays that are not one object do not count, so that the test costs next to nothing.
    """
    return len(ours) == len(theirs) and all(a is b for a, b in zip(ours, theirs, strict=True))
