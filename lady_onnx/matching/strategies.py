"""Defines evidence strategies: what speaks for a unit, how it is weighed, how pairs are scored.

A strategy says *how* units are recognised. Which groups are matched, in which order and how often
is the business of `alignment` and `search`. This module defines what a strategy is
(`EvidenceStrategy`), and the usual one (`LikelihoodStrategy`): every weight of the suspect is
taken for a noisy copy of the reference's weight. The others are `incoming.IncomingStrategy` (the
paper's cosines) and `diagnosis.directions.DirectionStrategy` (units that were multiplied).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import numpy as np

from ..groups.lines import sum_lines
from ..groups.model import Group, Slot
from ..groups.moved import take_slot
from ..groups.permutations import Arrays, Permutations
from ..groups.rows import NO_THINNING, Thin, lay_rows, take_rows
from ..numerics import MIN_DIVISOR, as_finite, is_same
from ..threads import map_in_threads
from .evidence.copies import Calibration, estimate_copies
from .evidence.noise import MIN_RELATIVE_NOISE, Noise, Scales
from .evidence.probabilities import compute_certainties, find_runners_up
from .evidence.scores import compute_log_likelihoods, join_rows
from .layout import Layout

Prior = Callable[[Group, np.ndarray, Permutations], np.ndarray]
"""Returns the scores of a group's pairs, [size, size], with what is known beside the weights.

It may change the table that it is given. The third argument is the permutations found so far, by
group id.
"""


@dataclass(frozen=True)
class ScoredPairs:
    """The scores of all pairs of units of one group, and the rows that they follow from.

    Attributes:
        scores: float [size, size]: reference by suspect. Only differences between scores count.
        ours, theirs: float32 [size, elements]: the rows of the reference and of the suspect.
    """

    scores: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray


@dataclass(frozen=True)
class MatchedRows:
    """The rows of one group after matching: what the certainty of its matches is judged by.

    Attributes:
        group: The group's id.
        scores: float [size, size]: reference by suspect; None where no table was made, as every row
            is certain of its match.
        permutation: int64 [size]: for each row of the reference the row of the suspect.
        ours: float32 [size, elements]: the rows of the reference.
        theirs: float32 [size, elements]: the rows of the suspect that were matched with them.
        runners_up: float32 [size, elements]: for each row the likeliest row of the suspect that it
            was not matched with.
    """

    group: str
    scores: np.ndarray | None
    permutation: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray
    runners_up: np.ndarray


Judge = Callable[[MatchedRows], np.ndarray]
"""Returns the probability of every match of a group, float64 [size]."""


class EvidenceStrategy(Protocol):
    """Says how the units of a group are recognised.

    Attributes:
        gives_copies_zero: Whether equal rows score 0 and no others more, as with log-likelihoods.
    """

    gives_copies_zero: ClassVar[bool]

    def select_slots(self, group: Group) -> Sequence[Slot]:
        """Return the slots by which the units of a group are recognised."""

    def weigh_values(
        self, values: np.ndarray, name: str, own: Set[int], thin: Thin = NO_THINNING
    ) -> np.ndarray:
        """Return elements of a weight as float32, each in proportion to what it says.

        Args:
            values: the elements of one model's weight, whole along all axes but `own` and those of
                `thin`.
            name: the weight's name.
            own: the axes along which units and their positions are chosen. Along these nothing may
                be weighed by position: the suspect's units may stand at other positions.
            thin: by axis the positions that were taken.
        """

    def take_unordered_rows(self, arrays: Arrays, slots: Sequence[Slot]) -> list[np.ndarray]:
        """Return evidence, [size, elements] for each slot, that no order of other axes changes."""

    def score_pairs(
        self,
        group: Group,
        slots: Sequence[Slot],
        ours: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
    ) -> ScoredPairs:
        """Score every pair of units by their weighed rows in some slots."""

    def apply_prior(
        self, group: Group, scores: np.ndarray, permutations: Permutations
    ) -> np.ndarray:
        """Return the scores of a group with what is known beside its weights; see `Prior`."""


def weigh_rows(
    strategy: EvidenceStrategy,
    arrays: Arrays,
    slot: Slot,
    taken: Mapping[int, np.ndarray] | None = None,
    thin: Thin = NO_THINNING,
) -> np.ndarray:
    """Return the weighed elements of every unit in a slot, float32 [units, elements].

    Args:
        strategy: how elements are weighed.
        arrays: the weights of one model.
        slot: where the units lie.
        taken: by axis the positions to take along it, in this order. They replace those of
            `slot.within`: the same positions in the order of another group.
        thin: by other axes the positions that are taken; all by default.
    """
    taken = taken or {}
    # What is not taken need not be weighed: a head is a small part of its weight.
    values = take_slot(arrays, slot, taken, thin)
    restricted = {slot.axis, *dict(slot.within), *taken}
    return lay_rows(strategy.weigh_values(values, slot.initializer, restricted, thin), slot)


def sort_rows(scales: Scales, arrays: Arrays, slots: Sequence[Slot]) -> list[np.ndarray]:
    """Return the sorted elements of every unit, float32 [units, elements] for each slot.

    They are in units of the weight's deviation, its mean taken out. No order of the other axes
    changes them.
    """
    parts = []
    for slot in slots:
        mean, deviation = scales.measure(slot.initializer)
        rows = as_finite(take_rows(arrays[slot.initializer], slot))
        parts.append((np.sort(rows, 1) - np.float32(mean)) / np.float32(deviation))
    return parts


def score_likelihoods(
    size: int, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]
) -> ScoredPairs:
    """Score pairs of units by the likelihood that one is the other's noisy copy."""
    x, y = join_rows(ours, size), join_rows(theirs, size)
    return ScoredPairs(compute_log_likelihoods(x, y), x, y)


def keep_scores(group: Group, scores: np.ndarray, permutations: Permutations) -> np.ndarray:
    """Return the scores as they are: the prior that knows nothing."""
    return scores


@dataclass(frozen=True)
class LikelihoodStrategy:
    """Recognises units by the likelihood of their rows in all slots, under estimated noise.

    Attributes:
        scales: Mean and deviation of the reference's weights.
        prior: What is known beside the weights.
        noise: By weight the noise that was estimated; before that a weight's noise is its own
            standard deviation.
        calibrations: By group id what the search finds in known weights; empty where that was not
            asked.
    """

    gives_copies_zero: ClassVar[bool] = True
    scales: Scales
    prior: Prior = keep_scores
    noise: Mapping[str, Noise] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    @property
    def adds_up(self) -> bool:
        """Whether scores are sums over elements that are never positive, and nothing else counts.

        Then some elements bound what all of them say.
        """
        return self.prior is keep_scores

    def select_slots(self, group: Group) -> Sequence[Slot]:
        """Return all slots of the group."""
        return group.slots

    def weigh_values(
        self, values: np.ndarray, name: str, own: Set[int], thin: Thin = NO_THINNING
    ) -> np.ndarray:
        """Return elements of a weight in units of its noise, its mean taken out.

        The noise at single positions counts along all axes but `own`.
        """
        # Both models are measured by the reference's mean and deviation, so what differs stays.
        mean, deviation = self.scales.measure(name)
        noise = self.noise.get(name) or Noise(deviation)
        values = as_finite(values)
        values -= np.float32(mean)
        values /= np.float32(noise.deviation)
        for axis, factor in noise.along.items():
            if axis not in own:
                part = factor[thin.get(axis, slice(None))]
                values /= part.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        return values

    def sum_weighed_lines(
        self,
        x: np.ndarray,
        y: np.ndarray,
        name: str,
        axis: int,
        own: Set[int] = frozenset(),
        thin: Thin = NO_THINNING,
    ) -> np.ndarray:
        """Sum up products of weighed elements along an axis; see `groups.lines.sum_lines`.

        Args:
            x, y: the elements of a weight in both models.
            name: the weight's name.
            axis: the axis.
            own, thin: as `weigh_values` has them; nothing is weighed along `axis` anyway.

        Returns:
            float64 [3, positions].
        """
        mean, deviation = self.scales.measure(name)
        noise = self.noise.get(name) or Noise(deviation)
        importance = {
            a: 1 / np.square(factor[thin.get(a, slice(None))])
            for a, factor in noise.along.items()
            if a not in own
        }
        lines = sum_lines(x, y, (axis,), mean=mean, importance=importance)[axis]
        return lines / noise.deviation**2

    def take_unordered_rows(self, arrays: Arrays, slots: Sequence[Slot]) -> list[np.ndarray]:
        """Return the sorted elements of every unit, in units of the weight's deviation."""
        return sort_rows(self.scales, arrays, slots)

    def score_pairs(
        self,
        group: Group,
        slots: Sequence[Slot],
        ours: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
    ) -> ScoredPairs:
        """Score every pair of units by its log-likelihood."""
        return score_likelihoods(group.size, ours, theirs)

    def apply_prior(
        self, group: Group, scores: np.ndarray, permutations: Permutations
    ) -> np.ndarray:
        """Return the scores of a group with what the prior knows."""
        return self.prior(group, scores, permutations)

    def judge_matches(self, rows: MatchedRows) -> np.ndarray:
        """Return the probability that every match is right, and a copy at all."""
        among = np.ones(rows.permutation.size)
        if rows.scores is not None:
            among = compute_certainties(rows.scores, rows.permutation)
        known = self.calibrations.get(rows.group)
        if known is None:
            return _discount(among, estimate_copies(rows.ours, rows.theirs, rows.runners_up))
        certain = _discount(among, estimate_copies(rows.ours, rows.theirs, known.other))
        # Both estimates are cautious: pure chance may recover more than chance does here, and a
        # rehearsal may fail. So the larger one counts.
        trusted = np.minimum(among * known.trust, 1)
        copied = estimate_copies(rows.ours, rows.theirs, known.other, known.whole, known.share)
        return np.maximum(certain, _discount(trusted, copied))

    def estimate_noise(
        self, layout: Layout, reference: Arrays, current: Arrays
    ) -> tuple[LikelihoodStrategy, float]:
        """Estimate the noise of every weight from what differs at the matching so far.

        Args:
            layout: the groups, along whose axes the noise may vary.
            reference, current: the weights, the suspect's in the order found so far.

        Returns:
            The strategy with this noise, and the log-likelihood of the suspect's weights.
        """

        def estimate(name: str) -> Noise:
            ours, theirs, spread = reference[name], current[name], self.scales.measure(name)[1]
            # Equal weights have the least noise at every position, and need not be measured.
            if is_same(ours, theirs):
                return Noise(spread * MIN_RELATIVE_NOISE)
            return Noise.between(ours, theirs, spread, layout.list_axes(name))

        names = list(reference)
        noise = {**self.noise, **dict(zip(names, map_in_threads(estimate, names), strict=True))}
        # In units of the deviation that they have, squared differences sum up to a constant. The
        # logarithms of the deviations are what is left of the log-likelihood of normal noise.
        likelihood = -sum(
            array.size * float(np.log(noise[name].deviation)) for name, array in reference.items()
        )
        return replace(self, noise=noise), likelihood


def _discount(certainty: np.ndarray, copied: np.ndarray) -> np.ndarray:
    """Return how certain matches are, if it is not certain that they are copies.

    A unit that has no copy is matched with each of the others as likely.

    Args:
        certainty: float64 [size]: the probability of each match if it is a copy.
        copied: float64 [size]: the probability that it is one.
    """
    return certainty * copied + (1 - copied) / certainty.size


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
