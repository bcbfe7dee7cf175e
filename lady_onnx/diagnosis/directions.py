"""An evidence strategy for units that were multiplied: only the directions of their rows count.

A factor leaves the direction of a row as it is. Two factors in one row would turn it, so slots with
different factors are compared apart. Which factors these were is the business of `unscaling`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays, Permutations
from ..groups.rows import NO_THINNING, Thin, take_rows
from ..groups.scaling import Scaling
from ..matching.evidence.noise import Scales
from ..matching.evidence.scores import join_rows
from ..matching.strategies import ScoredPairs, score_likelihoods
from ..numerics import as_finite
from .factors.measuring import AGREEMENT_TOLERANCE, FAINT_ROW_SHARE, MIN_AGREEING_ELEMENTS

EQUAL_DIRECTIONS_TOLERANCE = 1e-6
"""Two directions are the same if one less their cosine is smaller than this."""
MIN_LENGTH = np.finfo(np.float32).tiny
"""Stands for zero where a row is divided by its length."""
FactorKinds = Mapping[tuple[str, int, int], int]
"""By weight, axis and position of a group's first unit: which of the group's factors stands there.

The first unit names a position for all units: each unit has its positions in the same order.
"""


@dataclass(frozen=True)
class DirectionStrategy:
    """Units are recognised by the directions of their rows.

    Attributes:
        scales: Mean and deviation of the reference's weights.
        scalings: By group id the factors that its units may have; other groups have none.
        kinds: By group id which of its positions are given the same factor.
        scaled: By weight and axis the positions that may have a factor, of each group.
        parents: By group id the units that the group lies inside.
    """

    gives_copies_zero: ClassVar[bool] = False
    scales: Scales
    scalings: Mapping[str, Scaling]
    kinds: Mapping[str, FactorKinds]
    scaled: Mapping[tuple[str, int], Mapping[str, np.ndarray]]
    parents: Mapping[str, tuple[tuple[str, int], ...]]

    @classmethod
    def from_scalings(
        cls, scales: Scales, scalings: Mapping[str, Scaling], groups: Sequence[Group]
    ) -> DirectionStrategy:
        """Return the strategy for units that may have some factors."""
        scaled: dict[tuple[str, int], dict[str, np.ndarray]] = {}
        for group, s in scalings.items():
            for k, slot in enumerate(s.slots):
                if s.scales[:, k].any() or s.signs[:, k].any():
                    own = scaled.setdefault((slot.initializer, slot.axis), {})
                    before = own.get(group, np.zeros(0, np.int64))
                    own[group] = np.append(before, slot.index)
        kinds = {g: _number_factor_kinds(s) for g, s in scalings.items()}
        return cls(scales, scalings, kinds, scaled, {g.id: g.parents for g in groups})

    def select_slots(self, group: Group) -> Sequence[Slot]:
        """Return all slots of the group."""
        return group.slots

    def weigh_values(
        self, values: np.ndarray, name: str, own: Set[int], thin: Thin = NO_THINNING
    ) -> np.ndarray:
        """Return elements of a weight in units of its deviation; its mean stays in them.

        A factor multiplies distances from zero, and not from the mean.
        """
        return as_finite(values) / np.float32(self.scales.measure(name)[1])

    def take_unordered_rows(self, arrays: Arrays, slots: Sequence[Slot]) -> list[np.ndarray]:
        """Return the sorted magnitudes of every unit, which no sign changes."""
        return [
            np.sort(np.abs(as_finite(take_rows(arrays[s.initializer], s))), 1)
            / np.float32(self.scales.measure(s.initializer)[1])
            for s in slots
        ]

    def score_pairs(
        self,
        group: Group,
        slots: Sequence[Slot],
        ours: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
    ) -> ScoredPairs:
        """Score every pair of units by the directions that they have in common.

        The score is the log-likelihood of two vectors that have their direction alone in common,
        under noise of unknown size. With the best factor and noise for n elements that is -n/2
        log(1 - cosine^2), up to a constant. Near one, 1 - cosine is half of 1 - cosine^2, and where
        no sign passes it also tells a direction from its opposite.
        """
        own = self.scalings.get(group.id)
        kinds = {**self.kinds.get(group.id, {}), **self._number_positions(group.id, slots)}
        if own is None:
            rows = zip(slots, ours, theirs, strict=True)
            pairs = [self._balance(group, slot, x, y) for slot, x, y in rows]
            ours, theirs = [x for x, _ in pairs], [y for _, y in pairs]
        if not kinds:
            return score_likelihoods(group.size, ours, theirs)
        sides = _split_by_kind(kinds, slots, ours, theirs)
        score = np.zeros((group.size, group.size), np.float32)
        has_signs = own is None or bool(own.signs.size) or len(kinds) > len(self.kinds[group.id])
        for mine, its in sides:
            a, b = (np.concatenate(z, 1) for z in (mine, its))
            (a, faint), (b, other) = (_measure_directions(z) for z in (a, b))
            cosine = a @ b.T
            apart = 1 - (np.abs(cosine) if has_signs else cosine)
            # The direction of a dead unit is noise, unless another unit has the very same one. A
            # silent pair counts as orthogonal, which adds nothing to its score.
            silent = (faint[:, None] | other) & (
                (apart > AGREEMENT_TOLERANCE) | (a.shape[1] < MIN_AGREEING_ELEMENTS)
            )
            apart[silent] = 1
            score -= np.float32(a.shape[1] / 2) * np.log(
                np.maximum(apart, 0) + np.float32(EQUAL_DIRECTIONS_TOLERANCE)
            )
        return ScoredPairs(score, join_rows(ours, group.size), join_rows(theirs, group.size))

    def _balance(
        self, group: Group, slot: Slot, ours: np.ndarray, theirs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows without the factors of units of the same head along other axes of the weight.

        Such a factor is that of a column. It multiplies the column's length, which no order of the
        rows changes, and it may change the sign. The factors of other groups are taken out before.
        """
        is_across = bool(group.parents) and any(
            self.parents[other] == group.parents
            for (name, axis), others in self.scaled.items()
            if name == slot.initializer and axis != slot.axis
            for other in others
        )
        if not is_across:
            return ours, theirs
        lengths = (np.linalg.norm(z, axis=0) / len(z) ** 0.5 for z in (ours, theirs))
        x, y = (
            np.abs(z) / np.maximum(n, MIN_LENGTH)
            for z, n in zip((ours, theirs), lengths, strict=True)
        )
        return x, y

    def _number_positions(self, group: str, slots: Sequence[Slot]) -> FactorKinds:
        """Number the positions of units that lie across others which may have factors.

        A head, say, has a position for every dimension, and each dimension may have its factor. The
        numbers follow those of the group's own factors.
        """
        found: dict[tuple[str, int, int], int] = {}
        first = 1 + max(self.kinds.get(group, {}).values(), default=-1)
        for slot in slots:
            others = self.scaled.get((slot.initializer, slot.axis), {})
            scaled = np.concatenate(
                [np.zeros(0, np.int64), *(p for g, p in others.items() if g != group)]
            )
            for column in np.flatnonzero(np.isin(slot.index, scaled).any(0)).tolist():
                position = int(slot.index[0, column])
                found[slot.initializer, slot.axis, position] = first + len(found)
        return found

    def apply_prior(
        self, group: Group, scores: np.ndarray, permutations: Permutations
    ) -> np.ndarray:
        """Return the scores as they are."""
        return scores


def _number_factor_kinds(scaling: Scaling) -> FactorKinds:
    """Number the factors of a group: slots of the same exponents and signs have the same one."""
    numbers: dict[tuple, int] = {}
    kinds = {}
    for k, slot in enumerate(scaling.slots):
        key = (scaling.scales[:, k].tobytes(), scaling.signs[:, k].tobytes())
        number = numbers.setdefault(key, len(numbers))
        for column in slot.index[0].tolist():
            kinds[slot.initializer, slot.axis, column] = number
    return kinds


def _split_by_kind(
    kinds: FactorKinds,
    slots: Sequence[Slot],
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Split rows into parts that are given one factor each, in the order of the slots."""
    sides: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for slot, x, y in zip(slots, ours, theirs, strict=True):
        columns = slot.index[0].tolist()
        pieces = (np.split(z, len(columns), axis=1) for z in (x, y))
        for column, a, b in zip(columns, *pieces, strict=True):
            kind = kinds.get((slot.initializer, slot.axis, column), -1)
            mine, its = sides.setdefault(kind, ([], []))
            mine.append(a)
            its.append(b)
    return list(sides.values())


def _measure_directions(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows with length one, and which of them are all but zero beside the others."""
    largest = np.abs(rows).max(1, keepdims=True, initial=0)
    # Squares of small numbers would be zero in single precision, and those of large ones infinite.
    rows = rows / np.maximum(largest, MIN_LENGTH)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    lengths = (largest * norms)[:, 0]
    return rows / np.maximum(norms, MIN_LENGTH), lengths <= FAINT_ROW_SHARE * np.median(lengths)
