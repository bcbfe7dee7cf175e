"""Matches the units of one group that holds no other groups.

Groups whose units hold others are the business of `nested`; which group comes when is that of
`alignment`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays, Permutations
from ..groups.rows import take_rows
from ..numerics import MIN_DIVISOR
from .evidence.exact import match_exactly
from .evidence.probabilities import find_runners_up
from .evidence.scores import MAX_DENSE_UNITS
from .matches import Match
from .strategies import (
    EvidenceStrategy,
    Judge,
    MatchedRows,
    ScoredPairs,
    weigh_rows,
)


@dataclass(frozen=True)
class Comparison:
    """Two models whose units are compared, and how.

    Attributes:
        reference, current: The weights by name; `current` are the suspect's, in the order found so
            far.
        permutations: By group id the permutations that led to that order.
        strategy: How units are recognised.
        assign: Gives each row of a table of scores its column.
        judge: Says how certain matches are; None if their figures are not asked for, which saves
            more time than the matching itself takes.
    """

    reference: Arrays
    current: Arrays
    permutations: Permutations
    strategy: EvidenceStrategy
    assign: Callable[[np.ndarray], np.ndarray]
    judge: Judge | None

    def weigh_both(self, slots: Sequence[Slot]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the weighed rows of the reference, and of the suspect, in some slots."""
        ours, theirs = (
            [weigh_rows(self.strategy, arrays, s) for s in slots]
            for arrays in (self.reference, self.current)
        )
        return ours, theirs

    def measure_figures(
        self, name: str, pairs: ScoredPairs, found: np.ndarray
    ) -> Sequence[np.ndarray]:
        """Return similarity, margin and certainty of every match, or ones if not asked for.

        Args:
            name: the group's id.
            pairs: its scored pairs.
            found: int64 [size]: for each unit of the reference its match.

        Returns:
            Three arrays, float64 [size] each.
        """
        if self.judge is None:
            return [np.ones(found.size)] * 3
        x, y = pairs.ours, pairs.theirs
        mine = y[found]
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(mine, axis=1)
        similarity = np.einsum("ij,ij->i", x, mine, dtype=np.float64) / np.maximum(
            norms, MIN_DIVISOR
        )
        second, margin = find_runners_up(pairs.scores, found)
        rows = MatchedRows(name, pairs.scores, found, x, mine, y[second])
        return similarity, margin, self.judge(rows)


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
    if slots:
        ours = [take_rows(comparison.reference[s.initializer], s) for s in slots]
        theirs = [take_rows(comparison.current[s.initializer], s) for s in slots]
        # Rows as they are, before any weighing: an exact copy needs no likelihood.
        exact = match_exactly(ours, theirs)
        if exact is not None:
            ones = np.ones(group.size)
            return Match(group.id, exact[0], ones, exact[1], ones)
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
    weights = [comparison.current[s.initializer] for s in slots]
    if unmoved is not None and unmoved.has_group(group.id, weights):
        found = np.arange(group.size)
    else:
        found = comparison.assign(scores)
        if unmoved is not None:
            unmoved.record_match(group.id, slots, weights, found)
    return Match(group.id, found, *comparison.measure_figures(group.id, pairs, found))


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
