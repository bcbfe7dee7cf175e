"""What a whole model shows of training: whether it was trained, and how far training moved it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ...groups.model import Group, Slot
from ...groups.permutations import Arrays
from ..findings import MAX_CHANCE
from .moves import MIN_ROW_ELEMENTS
from .outliers import count_most_tampered, have_mostly_stayed, predict_limit
from .summaries import MoveSummary

SlotsByWeight = Mapping[str, list[tuple[Group, Slot]]]
"""By weight the slots in it, each with its group."""


@dataclass(frozen=True)
class TrainingLaw:
    """What a whole model shows of training.

    Attributes:
        is_trained: Whether any weight decayed, or moved in bulk.
        logs: float64: the logarithms of how far elements moved of weights that moved in bulk, in
            units of their weight's own size.
        few: By group and unit the weights in which the unit is one of a few that moved.
    """

    is_trained: bool
    logs: np.ndarray
    few: Mapping[tuple[str, int], set[str]]

    @classmethod
    def of(
        cls,
        slots: SlotsByWeight,
        reference: Arrays,
        suspect: Arrays,
        summaries: Mapping[str, MoveSummary],
    ) -> TrainingLaw:
        """Measure what a suspect shows of training.

        Args:
            slots: the slots in each weight.
            reference, suspect: the weights, the units in place.
            summaries: how the elements of those weights moved that differ.
        """
        is_trained, logs = False, [np.zeros(0)]
        few: dict[tuple[str, int], set[str]] = {}
        for name, moves in summaries.items():
            own, arrays = slots.get(name, []), (reference[name], suspect[name])
            rows = [moves.find_moved_units(slot, *arrays) for _, slot in own]
            # A weight without units counts element by element.
            counts = [(int(r.sum()), r.size) for r in rows] or [(moves.moved, moves.size)]
            # A few rows that moved as a whole touch all columns, so every axis has to show it.
            is_bulk = moves.scale > 0 and all(n > count_most_tampered(total) for n, total in counts)
            is_trained |= is_bulk or moves.threshold.has_decayed
            for (group, _), moved in zip(own, rows, strict=True):
                for unit in np.flatnonzero(moved).tolist() if have_mostly_stayed(moved) else ():
                    few.setdefault((group.id, unit), set()).add(name)
            if is_bulk:
                logs.append(np.log(moves.sample / moves.scale))
        return cls(is_trained, np.concatenate(logs), few)

    def has_support(self, units: Iterable[tuple[str, int]], name: str) -> bool:
        """Return whether any unit moved as one of a few in another weight than `name`."""
        return any(self.few.get(unit, set()) - {name} for unit in units)

    def find_too_large(self, moved: np.ndarray, scale: float) -> np.ndarray:
        """Return which moves are too large for the law.

        Args:
            moved: float64 [n]: how far elements moved, or the root mean square of a row's.
            scale: the size of their weight.

        Returns:
            bool [n]; none where the model shows too little for a law.
        """
        if self.logs.size < MIN_ROW_ELEMENTS or not scale:
            return np.zeros(moved.shape, bool)
        return moved > scale * np.exp(predict_limit(self.logs, MAX_CHANCE / max(moved.size, 1)))
