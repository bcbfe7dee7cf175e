"""Where every unit went: the likeliest assignment, given all that its weights say. Knows arrays and groups, no ONNX.

Every weight of the suspect is taken for a noisy copy of the reference's, with a noise of its own: of the matching so
far, what differs says how large it is, weight by weight and along the axes of other groups position by position, so
that what is badly matched yet, or was altered more, counts less. Units are assigned so that all slots together are
likeliest, and the noise is estimated anew, until nothing moves. To begin with, a weight's noise is its own spread.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import (
    Arrays,
    Nesting,
    compose_permutations,
    invert_permutations,
    permute_arrays,
)
from ..groups.rows import take_rows
from ..numerics import MIN_DIVISOR, as_finite, is_same
from .assignment import ASSIGNMENTS
from .evidence.copies import Calibration, estimate_copies, estimate_copy_share, measure_recovery
from .evidence.exact import find_proven_rows, match_exactly
from .evidence.noise import MIN_RELATIVE_NOISE, Noise, measure_scale
from .evidence.probabilities import compute_certainties, find_runners_up
from .evidence.scores import MAX_DENSE_UNITS, compute_log_likelihoods, join_rows
from .matches import Match
from .meanfield import match_by_mean_field
from .nested import match_nested
from .refinement import ColourRefinement

MOST_PAIRS = 1 << 28
"""Of more pairs of units than this the probabilities are not kept at the same time."""
MIN_MEAN_CERTAINTY = 0.98
"""Below this mean certainty all groups are matched anew, at once."""
STILL = 1e-3
"""A rehearsal is over once the likelihood grows by a smaller share."""
SURE = 0.999
"""Surer matches need no other proof."""
SWEEPS = 20
"""At most so many sweeps over all groups; two or three are the rule."""
FEW = 0.1
"""After a sweep that moved units of no more than this share of the groups, the next may be the last."""
Progress = Callable[[int, int], None]


class Matcher:
    """Aligns the weights of a suspect with those of a reference, group after group.

    `reference` and `suspect` hold the same names with the same shapes. Axes outside the groups keep their order.
    `assignment` is one of `ASSIGNMENTS`.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        reference: Arrays,
        suspect: Arrays,
        assignment: str = "optimal",
        rehearsal: bool = False,
    ):
        self.rehearsal = rehearsal
        """Whether the answer is known, and only how sure the search is of it is asked."""
        self.rehearsed: dict[str, Calibration] = {}
        self.assignment, self.assign = assignment, ASSIGNMENTS[assignment]
        self.family = Nesting(groups)
        self.groups = groups
        names = {s.initializer for g in groups for s in g.slots}
        self.reference = {n: np.asarray(reference[n]) for n in names}
        self.current = {n: np.asarray(suspect[n]) for n in names}
        self.total: dict[str, np.ndarray] = {}
        self._scales: dict[str, tuple[float, float]] = {}
        self.noise: dict[str, Noise] = {}
        self.top = {g.id: self._top(g) for g in groups}
        self.touching: dict[str, set[str]] = {}
        self.axes: dict[tuple[str, str], set[int]] = {}
        for g in groups:
            for s in g.slots:
                self.touching.setdefault(s.initializer, set()).add(self.top[g.id])
                self.axes.setdefault((s.initializer, self.top[g.id]), set()).add(s.axis)
        self.aligned: set[str] = set()
        self.asked = True
        """Whether anyone asks how sure matches are."""
        self.telling = False
        """Whether matches come with their figures, which take longer than the matching."""
        self.matches: dict[str, Match] = {}
        self._heard: Arrays = {}
        """The weights of the suspect that the noise was estimated from."""
        self._unmoved: dict[str, list[np.ndarray]] = {}
        """By a group of which no unit moved the weights, and so the noise, that this was found with."""

    def _top(self, group: Group) -> str:
        while group.parents:
            group = self.family.groups[group.parents[0][0]]
        return group.id

    def scale(self, name: str) -> tuple[float, float]:
        """Mean and standard deviation of a weight of the reference."""
        if name not in self._scales:
            self._scales[name] = measure_scale(self.reference[name])
        return self._scales[name]

    def run(self, progress: Progress | None = None) -> list[Match]:
        """Everything: for every group where its units lie in the suspect."""
        self.begin(progress)
        self.finish()
        return self.found()

    def found(self) -> list[Match]:
        """What is known so far, in the order of the groups."""
        inverse = {n: np.argsort(p) for n, p in self.total.items()}
        return [self._total(g, inverse) for g in self.groups]

    @property
    def settled(self) -> bool:
        """Is every slot bit-equal?"""
        return all(self._settled(g.id) for g in self.family.tops())

    def moved(self) -> dict[str, np.ndarray]:
        """The weights of which units were moved, with all units where they are in the reference."""
        names = {
            s.initializer
            for m in self.found()
            if m.moved
            for s in self.family.groups[m.group].slots
        }
        return {name: self.current[name] for name in names}

    def begin(self, progress: Progress | None = None) -> None:
        """Anchored groups first, then their neighbours, then sweeps over all until nothing changes."""
        self.anchor(progress)
        if not self.settled:
            self._sweep()

    def anchor(self, progress: Progress | None = None) -> None:
        """Every group once, by what is aligned already: the best anchored ones first, then their neighbours."""
        tops = self.family.tops()
        waiting = [g.id for g in tops]
        while waiting:
            name = max(waiting, key=self._anchored)
            waiting.remove(name)
            self._align(name, anchored=True)
            self.aligned.add(name)
            if progress:
                progress(len(tops) - len(waiting), len(tops))

    def finish(self) -> None:
        """What takes longer, where the rest leaves doubts."""
        tops = self.family.tops()
        if self.settled:
            return
        if self._meeting() and self._doubtful() and sum(g.size**2 for g in tops) < MOST_PAIRS:
            self._try_soft()
        if not self.settled:
            # an exact copy, if need be of what the reference was altered to, is found however much its units look alike
            likely = ColourRefinement(self.groups, self.reference, self.current).likely()
            if likely is not None:
                self._apply(likely)
                self._sweep()
                if not self.settled:
                    self._apply(
                        ColourRefinement(self.groups, self.reference, self.current).exact() or {}
                    )
        if not self.rehearsal and self._doubtful():
            self._rehearse()

    def _meeting(self) -> bool:
        """Do groups meet in any weight? Elsewhere all that one could say of another is known from the beginning."""
        return any(
            len(self.axes[name, top]) + len(tops) > 2
            for name, tops in self.touching.items()
            for top in tops
        )

    def _listen(self) -> float:
        """Estimates the noise of every weight from what differs at the matching so far; returns its log-likelihood."""
        self._heard = dict(self.current)
        for name, array in self.reference.items():
            if not is_same(array, self.current[name]):
                axes = sorted(
                    {s.axis for g in self.groups for s in g.slots if s.initializer == name}
                )
                self.noise[name] = Noise.between(
                    array, self.current[name], self.scale(name)[1], axes
                )
            else:
                self.noise[name] = Noise(self.scale(name)[1] * MIN_RELATIVE_NOISE)
        return -sum(
            array.size * float(np.log(self.noise[name].deviation))
            for name, array in self.reference.items()
        )

    def weighted(
        self, arrays: Arrays, name: str, slot: Slot, taken: Mapping[int, np.ndarray] | None = None
    ) -> np.ndarray:
        """The elements of every unit in a slot, [units, elements], in units of their noise.

        `taken` are positions along other axes, in the order to take them in.
        """
        restricted = {**dict(slot.within), **(taken or {})}
        values = self.values(arrays, name, {slot.axis, *restricted})
        for axis, positions in restricted.items():
            values = values.take(positions, axis)
        return np.moveaxis(values, slot.axis, 0)[slot.index].reshape(len(slot.index), -1)

    def values(self, arrays: Arrays, name: str, own: Set[int]) -> np.ndarray:
        """A weight in units of its noise, and of the noise at every position of the axes that are not a unit's `own`."""
        mean, deviation = self.scale(name)
        noise = self.noise.get(name) or Noise(deviation)
        values = (as_finite(arrays[name]) - np.float32(mean)) / np.float32(noise.deviation)
        for axis, factor in noise.along.items():
            if axis not in own:
                values /= factor.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        return values

    def _sweep(self) -> None:
        """Matches every group by all its slots, again and again until nothing moves, or nothing gets likelier."""
        before = -np.inf
        moved, telling = 0, False
        for _ in range(SWEEPS):
            now = self._listen()
            if now <= before + (
                STILL * abs(before) if self.rehearsal and np.isfinite(before) else 0
            ):
                if self.rehearsal and telling:
                    # nothing got likelier, and its figures are those of the last sweep
                    return self._prove()
                break
            before = now
            telling = moved <= FEW * len(self.family.tops())
            moved = self._all(telling)
            if not moved and telling:
                return self._prove()
            if not moved:
                break
        self._tell()

    def _all(self, telling: bool) -> int:
        """Matches every group by all its slots; returns how many of them had units elsewhere."""
        self.telling = telling
        moved = sum(self._align(g.id, anchored=False) for g in self.family.tops())
        self.telling = False
        return moved

    def _tell(self) -> None:
        """One more sweep, for its figures."""
        self._listen()
        self._all(telling=True)
        self._prove()

    def _prove(self) -> None:
        """Matches of rows that no noise can have made are certain."""
        for g in self.groups:
            match = self.matches[g.id]
            if match.certainty.min(initial=1.0) < SURE:
                pairs = (
                    (
                        take_rows(self.reference[s.initializer], s),
                        take_rows(self.current[s.initializer], s),
                    )
                    for s in g.slots
                )
                sure = np.any([find_proven_rows(a, b) for a, b in pairs], 0)
                self.matches[g.id] = replace(match, certainty=np.where(sure, 1.0, match.certainty))

    def _doubtful(self) -> bool:
        return (
            np.concatenate([m.certainty for m in self.matches.values()] or [np.ones(1)]).mean()
            < MIN_MEAN_CERTAINTY
        )

    def _rehearse(self) -> None:
        """Judges the matches by what the same search finds where the answer is known: in chance, and in noisy copies."""
        rng = np.random.default_rng(0)
        suspect = {
            n: rng.permutation(as_finite(a).ravel()).reshape(a.shape)
            for n, a in sorted(self.current.items())
        }
        # how sure the search is of what it finds by chance matters to the search alone
        others = self._rehearsal(suspect, asked=self._meeting())._gains()
        with np.errstate(over="ignore"):
            suspect = {
                n: as_finite(a)
                + np.float32(self._noise(n)) * rng.standard_normal(a.shape, np.float32)
                for n, a in sorted(self.reference.items())
            }
        moves = {g.id: rng.permutation(g.size) for g in self.groups}
        suspect.update(permute_arrays(suspect, self.groups, moves))
        copies = self._rehearsal(suspect)
        gains, wholes = self._gains(), copies._gains()
        share = estimate_copy_share(gains, others, wholes)
        truth = invert_permutations(self.family, moves)
        where = {n: np.argsort(p) for n, p in copies.total.items()}
        for m in copies.found():
            name = self.family.twin(m.group, where)
            right = max((m.permutation == truth[m.group]).mean(), 1 / m.permutation.size)
            trust = right / max(m.certainty.mean(), MIN_DIVISOR)
            self.rehearsed[name] = Calibration(others[name][0], wholes[name][0], trust, share)
        self._tell()

    def _rehearsal(self, suspect: Arrays, asked: bool = True) -> Matcher:
        matcher = Matcher(self.groups, self.reference, suspect, self.assignment, rehearsal=True)
        matcher.asked = asked
        matcher.run()
        return matcher

    def _noise(self, name: str) -> float:
        """The deviation of what was added to a weight: what it has gained, or, at most, what differs from its match."""
        ours, theirs = (as_finite(x[name]) for x in (self.reference, self.current))
        differing = float(np.square(theirs - ours, dtype=np.float64).mean())
        gained = float(np.var(theirs, dtype=np.float64) - np.var(ours, dtype=np.float64))
        return min(differing, max(gained, (MIN_RELATIVE_NOISE * self.scale(name)[1]) ** 2)) ** 0.5

    def _gains(self) -> dict[str, tuple[float, float]]:
        """For every group how much of its rows is found again in their matches, and how large they are."""
        found = {}
        for g in self.groups:
            sides = (
                self.parts(arrays, self.evidence(g)) for arrays in (self.reference, self.current)
            )
            found[g.id] = measure_recovery(*(join_rows(parts, g.size) for parts in sides))
        return found

    def figures(
        self, name: str, x: np.ndarray, y: np.ndarray, scores: np.ndarray, found: np.ndarray
    ) -> Sequence[np.ndarray]:
        """Similarity, margin and certainty of every match of a group, or ones where they are not asked for."""
        if not (self.telling and self.asked):
            return [np.ones(found.size)] * 3
        mine = y[found]
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(mine, axis=1)
        similarity = np.einsum("ij,ij->i", x, mine, dtype=np.float64) / np.maximum(norms, 1e-30)
        second, margin = find_runners_up(scores, found)
        return similarity, margin, self.certainty(name, scores, found, x, mine, y[second])

    def certainty(
        self,
        name: str,
        scores: np.ndarray,
        found: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        other: np.ndarray,
    ) -> np.ndarray:
        """The probability of every match of a group, `y` being the rows that were found, and `other` the next best."""
        among = compute_certainties(scores, found)
        known = self.rehearsed.get(name)
        certain = self._certain(among, estimate_copies(x, y, known.other if known else other))
        if known:
            # both are cautious: what chance finds may be more than what it finds here, and a rehearsal may fail
            trusted = np.minimum(among * known.trust, 1)
            certain = np.maximum(
                certain,
                self._certain(
                    trusted, estimate_copies(x, y, known.other, known.whole, known.share)
                ),
            )
        return certain

    @staticmethod
    def _certain(certainty: np.ndarray, copied: np.ndarray) -> np.ndarray:
        """How certain matches are that are certain among copies; of units that are no copies each is as good as any."""
        return certainty * copied + (1 - copied) / certainty.size

    def _try_soft(self) -> None:
        """Matches all groups at once, and keeps what that finds if it is likelier."""
        before = self._listen(), dict(self.current), dict(self.total), dict(self.matches)
        flat = [
            g
            for g in self.family.tops()
            if not any(self.family.inside(g.id, u) for u in range(g.size))
        ]
        self._apply(match_by_mean_field(flat, self.reference, self.current))
        self._sweep()
        if self._listen() < before[0]:
            _, self.current, self.total, self.matches = before

    def _apply(self, found: Mapping[str, np.ndarray]) -> None:
        if found:
            self.current.update(permute_arrays(self.current, self.groups, found))
            self.total = compose_permutations(self.family, self.total, found)
            self.matches = {g.id: Match.in_place(g.id, g.size) for g in self.groups}

    def _total(self, group: Group, inverse: Arrays) -> Match:
        found = self.matches[group.id]
        # the figures belong to the unit of the reference; an inner group is named by where it lies in the suspect
        here = self.matches[self.family.twin(group.id, inverse)]
        return replace(
            here, group=group.id, permutation=self.total.get(group.id, found.permutation)
        )

    def _members(self, name: str) -> list[Group]:
        return [g for g in self.groups if self.top[g.id] == name]

    def _usable(self, slot: Slot, name: str) -> bool:
        touching = self.touching[slot.initializer]
        return all(
            t == name or t in self.aligned or self._lies_elsewhere(slot, t) for t in touching
        )

    def _lies_elsewhere(self, slot: Slot, name: str) -> bool:
        """Does a group lie along the axis of a slot, in other places, so that it does not touch the slot's rows?"""
        if self.axes[slot.initializer, name] != {slot.axis}:
            return False
        slots = (
            s for g in self._members(name) for s in g.slots if s.initializer == slot.initializer
        )
        return not any(np.isin(slot.index, other.index).any() for other in slots)

    def _anchored(self, name: str) -> tuple[float, float]:
        """How much evidence of a group and those inside it is aligned: elements a unit, and the share of all."""
        group = self.family.groups[name]
        usable = total = 0.0
        for slot in group.slots:
            size = self.reference[slot.initializer].size / group.size
            total += size
            if self._usable(slot, name) and len(self.axes[slot.initializer, name]) == 1:
                usable += size
        return usable, usable / total if total else 0.0

    def _align(self, name: str, anchored: bool) -> bool:
        """Matches a group with all that lies inside it, and applies what it finds; True if anything moved."""
        if anchored or not self._settled(name):
            found = self._match(name, anchored)
        else:
            found = {g.id: Match.in_place(g.id, g.size) for g in self._members(name)}
        self.matches.update(found)
        moves = {n: m.permutation for n, m in found.items() if m.moved}
        if not moves:
            return False
        self.current.update(permute_arrays(self.current, self.groups, moves))
        self.total = compose_permutations(self.family, self.total, moves)
        return True

    def _settled(self, name: str) -> bool:
        """Is every slot of a group, and of those inside it, bit-equal already?"""
        names = {s.initializer for g in self._members(name) for s in g.slots}
        return all(is_same(self.reference[n], self.current[n]) for n in names)

    # ---- one group and what lies inside it

    def _match(self, name: str, anchored: bool) -> dict[str, Match]:
        group = self.family.groups[name]
        slots = [s for s in self.evidence(group) if not anchored or self._usable(s, name)]
        single = [s for s in slots if sum(t.initializer == s.initializer for t in group.slots) == 1]
        if anchored:
            # a weight with the group on two axes is evidence only once the group is aligned
            slots = single
        if not self.family.inside(name, 0):
            return {name: self._flat(group, slots, anchored)}
        return match_nested(self, group, slots)

    def evidence(self, group: Group) -> Sequence[Slot]:
        """The slots by which a group's units are recognised."""
        return group.slots

    def parts(self, arrays: Arrays, slots: Sequence[Slot]) -> list[np.ndarray]:
        return [self.weighted(arrays, s.initializer, s) for s in slots]

    def compared(
        self,
        group: Group,
        slots: Sequence[Slot],
        ours: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The score of every pair of units, [size, size], by their elements in some slots, and all these side by side."""
        x, y = join_rows(ours, group.size), join_rows(theirs, group.size)
        return compute_log_likelihoods(x, y), x, y

    def _flat(self, group: Group, slots: Sequence[Slot], anchored: bool) -> Match:
        if slots:
            a = [take_rows(self.reference[s.initializer], s) for s in slots]
            b = [take_rows(self.current[s.initializer], s) for s in slots]
            exact = match_exactly(a, b)
            if exact is not None:
                ones = np.ones(group.size)
                return Match(group.id, exact[0], ones, exact[1], ones)
            ours, theirs = self.parts(self.reference, slots), self.parts(self.current, slots)
        else:
            slots = group.slots
            ours, theirs = (self.orderless(x, slots) for x in (self.reference, self.current))
        scores, x, y = self._tiled(group, slots, ours, theirs)
        scores = self.weighed(group, scores)
        weights = [self.current[s.initializer] for s in slots]
        if not anchored and _are_same(weights, self._unmoved.get(group.id, [])):
            permutation = np.arange(group.size)
        else:
            permutation = self.assign(scores)
            heard = [self._heard.get(s.initializer) for s in slots]
            if (
                not anchored
                and _are_same(weights, heard)
                and (permutation == np.arange(group.size)).all()
            ):
                self._unmoved[group.id] = weights
        return Match(group.id, permutation, *self.figures(group.id, x, y, scores, permutation))

    def _tiled(
        self,
        group: Group,
        slots: Sequence[Slot],
        ours: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `compared`, of many units square by square, in single precision: what it takes on the way has a square's size."""
        if group.size <= MAX_DENSE_UNITS:
            return self.compared(group, slots, ours, theirs)
        square = replace(group, size=MAX_DENSE_UNITS)
        # the last one overlaps the one before
        starts = [
            *range(0, group.size - MAX_DENSE_UNITS, MAX_DENSE_UNITS),
            group.size - MAX_DENSE_UNITS,
        ]
        ends = [*starts[1:], group.size]
        scores = np.empty((group.size, group.size), np.float32)
        sides: list[dict[int, np.ndarray]] = [{}, {}]
        for i, j in itertools.product(starts, starts):
            parts = (
                [z[k : k + MAX_DENSE_UNITS] for z in side] for side, k in ((ours, i), (theirs, j))
            )
            scores[i : i + MAX_DENSE_UNITS, j : j + MAX_DENSE_UNITS], sides[0][i], sides[1][j] = (
                self.compared(square, slots, *parts)
            )
        x, y = (
            np.concatenate([side[k][: n - k] for k, n in zip(starts, ends, strict=True)])
            for side in sides
        )
        return scores, x, y

    def weighed(self, group: Group, scores: np.ndarray) -> np.ndarray:
        """The scores of a group's units, with what is known of them beside their weights."""
        return scores

    def orderless(self, arrays: Arrays, slots: Sequence[Slot]) -> list[np.ndarray]:
        """Evidence that no order of the other axes can change: every unit's sorted elements."""
        parts = []
        for slot in slots:
            mean, deviation = self.scale(slot.initializer)
            rows = as_finite(take_rows(arrays[slot.initializer], slot))
            parts.append((np.sort(rows, 1) - np.float32(mean)) / np.float32(deviation))
        return parts


def _are_same(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray | None]) -> bool:
    """Are these the same arrays, one by one?"""
    return len(ours) == len(theirs) and all(a is b for a, b in zip(ours, theirs, strict=True))
