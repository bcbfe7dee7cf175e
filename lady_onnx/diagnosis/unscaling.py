"""Finds the order of units that were multiplied as well as moved, and by what they were multiplied.

Groups are matched by the directions of their rows alone, those with the best anchored evidence
first. The factors follow from the matched rows. They are taken out before the group's neighbours,
whose rows they would distort, have their turn.

Whether the factors are real, and not the drift of training, is the business of `factors.choice`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..groups.model import Group
from ..groups.permutations import Arrays, Permutations
from ..groups.scaling import Scaling
from ..matching.alignment import AlignmentState
from ..matching.evidence.noise import Scales
from ..matching.matches import Match
from ..matching.search import Search
from ..matching.strategies import LikelihoodStrategy
from ..numerics import is_float_array
from ..reporting import Progress
from .directions import DirectionStrategy
from .factors.fitting import Factors, fit_allowed_factors
from .factors.measuring import measure_factors

MAX_MATCHING_ROUNDS = 4
"""The maximum number of times that all groups are matched after the first time."""
MAX_FACTOR_PASSES = 30
"""The maximum number of passes over the factors of all groups.

Each pass makes the factors of a group's neighbours surer.
"""
MIN_FACTOR_PASSES = 4
"""The minimum number of such passes, unless a pass changes next to nothing."""
STEADY_UNITS_SHARE = 0.99
"""Factors are steady once those of this share of the units stay as they are."""
STEADY_ERRORS = 3
"""A factor stays as it is if it changes by less than this many times the error of factors."""
MIN_FACTOR_CHANGE = 1e-7
"""If all factors change by less than this, no other pass is needed."""
STAYING_BONUS = 0.1
"""Once factors are out, a unit moves only if that is likelier by more than this many nats."""


@dataclass(frozen=True)
class _FactorChange:
    """By how much the factors of one group changed in one pass.

    Attributes:
        largest: The largest change that its unit's own error does not explain.
        error: The median error of the factors, as a share of them.
        steps: float64 [units]: the largest change of every unit.
    """

    largest: float
    error: float
    steps: np.ndarray


class Unscaler:
    """Aligns a suspect whose units may have been multiplied by factors that change nothing.

    Args:
        groups: the groups, inner ones first.
        reference, suspect: weights of the same names and shapes.
        scalings: by group id the factors that leave the function as it is.

    Attributes:
        alignment: Where the units are so far. Its weights of the suspect are float64, with the
            factors so far taken out.
        scalings: Those of the groups that may have factors at all.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        reference: Arrays,
        suspect: Arrays,
        scalings: Mapping[str, Scaling],
    ):
        self.alignment = AlignmentState(groups, reference, suspect)
        self.scalings = {g: s for g, s in scalings.items() if s.free}
        _prepare_weights(self.alignment, self.scalings, reference, suspect)
        self._scales = Scales(self.alignment.reference)
        self._strategy = DirectionStrategy.from_scalings(self._scales, self.scalings, groups)
        self._applied = {
            g: np.ones((len(s.slots), len(s.slots[0].index))) for g, s in self.scalings.items()
        }
        """By group id the factors that were taken out, float64 [slots, units]."""
        self._unscaled: set[str] = set()
        """The groups whose factors were taken out at least once."""
        self._across = _find_crossing_groups(self.scalings)

    def run(
        self, progress: Progress | None = None, is_nearer: Callable[[Arrays], bool] | None = None
    ) -> list[Match]:
        """Find the order of the units, and take out their factors.

        Args:
            progress: called with how many of how many groups are matched.
            is_nearer: whether weights are nearer to the reference than the suspect's were. It is
                asked once, after the first round.

        Returns:
            Where the units of every group lie, or nothing if `is_nearer` says no.
        """
        layout = self.alignment.layout
        steps = self.alignment.anchor_groups(self._strategy)
        for number, (name, has_moved) in enumerate(steps, 1):
            if has_moved:
                self._move_factors(name)
            # The neighbours, whose rows these factors would distort, are next.
            self._take_out_factors(name)
            if progress:
                progress(number, len(layout.tops))
        # If no groups meet, factors change no direction, and no more can be told.
        is_meeting = layout.has_meeting_groups()
        for number in range(MAX_MATCHING_ROUNDS):
            moved = [is_meeting and self._align_group(g.id) for g in layout.tops]
            self.settle()
            if number == 0 and is_nearer and not is_nearer(self.alignment.current):
                return []
            if not any(moved):
                break
        # With the factors out, certainties are judged as those of any suspect.
        search = Search(self.alignment, LikelihoodStrategy(self._scales, prior=prefer_staying))
        for name in search.measure_figures():
            self._move_factors(name)
        return self.alignment.list_matches()

    def settle(self) -> None:
        """Take out the factors of all groups until these are steady, and move no units."""
        tops = self.alignment.layout.tops
        self.alignment.aligned.update(g.id for g in tops)
        for number in range(MAX_FACTOR_PASSES):
            changes = [c for g in tops for c in self._take_out_factors(g.id)]
            if max((c.largest for c in changes), default=0.0) < MIN_FACTOR_CHANGE:
                break
            if number + 1 >= MIN_FACTOR_PASSES and _are_steady(changes):
                break

    def collect_factors(self) -> dict[str, Factors]:
        """Measure by what units were multiplied, by group id, in the order of the reference."""
        found = {}
        for group, scaling in self.scalings.items():
            applied = self._applied[group]
            ratio, error = measure_factors(
                scaling, self.alignment.reference, self.alignment.current, applied
            )
            ratio, error = ratio * applied, error * np.abs(applied)
            found[group] = Factors(
                scaling, ratio, error, fit_allowed_factors(scaling, ratio, error)
            )
        return found

    def _align_group(self, name: str) -> bool:
        """Match a group by all its slots; returns whether any unit moved."""
        moved = self.alignment.align_group(name, self._strategy, None, is_anchored=False)
        if moved:
            self._move_factors(name)
        return moved

    def _move_factors(self, name: str) -> None:
        """Move the factors that were taken out with the units that they belong to."""
        layout = self.alignment.layout
        members = layout.list_members(name)
        moves = {g.id: self.alignment.matches[g.id].permutation for g in members}
        inverse = {n: np.argsort(p) for n, p in moves.items()}
        old = dict(self._applied)
        # Where outer units moved, the factors of a group inside one go where that unit went.
        for group in [g for g in moves if g in old]:
            self._applied[layout.family.twin(group, inverse)] = old[group][:, moves[group]]

    def _take_out_factors(self, name: str) -> list[_FactorChange]:
        """Take out the factors of a top group and of those inside it, the best known ones first."""
        members = self.alignment.layout.list_members(name)
        waiting = [g.id for g in members if g.id in self.scalings]
        usable = {
            group: np.array(
                [
                    self.alignment.layout.is_usable(s, name, self.alignment.aligned)
                    for s in self.scalings[group].slots
                ]
            )
            for group in waiting
        }

        def find_plain_slots(group: str) -> np.ndarray:
            """Return the slots in which only the group's own factors stand."""
            slots = self.scalings[group].slots
            return usable[group] & [
                self._across.get((group, s.initializer, s.axis), set()) <= self._unscaled
                for s in slots
            ]

        changes = []
        while waiting:
            # Each group that is out leaves others more plain slots, so these are counted anew.
            group = max(waiting, key=lambda g: find_plain_slots(g).sum())
            waiting.remove(group)
            change = self._take_out_group_factors(group, find_plain_slots(group))
            if change:
                changes.append(change)
        return changes

    def _take_out_group_factors(self, group: str, plain: np.ndarray) -> _FactorChange | None:
        """Take out the factors of one group, as its `plain` slots tell them, bool [slots]."""
        scaling = self.scalings[group]
        ratio, error = measure_factors(scaling, self.alignment.reference, self.alignment.current)
        ratio[~plain] = np.nan
        self._unscaled.add(group)
        # Every slot has a say: one that disagrees may hold a neighbour's factor, which a later pass
        # takes out.
        factors = fit_allowed_factors(scaling, ratio, error, robust=False)
        if not (np.abs(np.abs(factors) - 1).max(initial=0) > 1e-9 or (factors < 0).any()):
            return None
        scaling.apply(self.alignment.current, 1 / factors)
        self._applied[group] = self._applied[group] * factors
        sure = ~np.isnan(ratio)
        if not sure.any():
            return None
        share = np.divide(error, np.abs(ratio), out=np.zeros_like(ratio), where=sure & (ratio != 0))
        # What lies well within a unit's own error is no change.
        largest = float((np.abs(factors - 1) - share / 3)[sure].max(initial=0))
        return _FactorChange(largest, float(np.median(share[sure])), np.abs(factors - 1).max(0))


def prefer_staying(group: Group, scores: np.ndarray, permutations: Permutations) -> np.ndarray:
    """Return scores with a bonus for units that stay where they are: a prior.

    Directions tell where dead units lie; their size beside others, which is noise, does not.
    """
    return scores + STAYING_BONUS * np.eye(group.size, dtype=scores.dtype)


def _prepare_weights(
    alignment: AlignmentState, scalings: Mapping[str, Scaling], reference: Arrays, suspect: Arrays
) -> None:
    """Make an alignment's weights ready for factors, in place.

    They become float64, so that factors that are taken out step by step do not round them. Biases
    that change with signs, and belong to no group, are added.
    """
    current = alignment.current
    for name, array in current.items():
        if is_float_array(array):
            current[name] = array.astype(np.float64)
    biases = {shift.bias for s in scalings.values() for shift in s.shifts}
    for name in sorted(biases - current.keys()):
        alignment.reference[name] = reference[name]
        current[name] = suspect[name].astype(np.float64)
    for s in scalings.values():
        for slot, offset in zip(s.slots, s.offsets.tolist(), strict=True):
            if offset:
                # A factor multiplies the sum of a value and its offset. What was pruned stays zero
                # whatever its unit is multiplied by, so its sum is made zero.
                array = current[slot.initializer]
                current[slot.initializer] = np.where(array == 0, -offset, array)


def _find_crossing_groups(
    scalings: Mapping[str, Scaling],
) -> dict[tuple[str, str, int], set[str]]:
    """Find, by group, weight and axis, the others whose units may be multiplied there as well.

    They lie along other axes, or have positions along the same one, as heads and dimensions have.
    """
    places: dict[str, list[tuple[str, int, np.ndarray]]] = {}
    for g, s in scalings.items():
        for slot in s.slots:
            places.setdefault(slot.initializer, []).append((g, slot.axis, np.unique(slot.index)))
    across: dict[tuple[str, str, int], set[str]] = {}
    for name, own in places.items():
        for (g, axis, mine), (other, beside, its) in itertools.permutations(own, 2):
            # most lie apart, and the ends of both tell that
            is_met = axis != beside or (
                g != other
                and mine[0] <= its[-1]
                and its[0] <= mine[-1]
                and bool(np.isin(mine, its, assume_unique=True).any())
            )
            if is_met:
                across.setdefault((g, name, axis), set()).add(other)
    return across


def _are_steady(changes: Sequence[_FactorChange]) -> bool:
    """Return whether factors changed by no more than their errors explain."""
    steps = np.concatenate([c.steps for c in changes])
    errors = [c.error for c in changes]
    return bool(np.quantile(steps, STEADY_UNITS_SHARE) < STEADY_ERRORS * np.median(errors))
