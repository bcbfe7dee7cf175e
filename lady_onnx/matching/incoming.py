"""The paper's own matching: units are recognised by the cosine of their incoming weights alone.

Source: "Find the Lady" (AAAI 2024), equation 8 and Algorithm 1. Layer after layer in the order of the data: the rows
of a layer are compared once the units that it reads are in place, and nothing is looked at twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays
from ..groups.scaling import Scaling
from ..numerics import as_finite
from .evidence.probabilities import balance_odds
from .evidence.scores import compute_cosines
from .matcher import Matcher, Progress
from .matches import Match

SHARP = 100.0
"""By what cosines are multiplied to be taken for log-odds, where certainties are asked for."""


class IncomingMatcher(Matcher):
    """Aligns units by the rows of the weights that make them; `told` are the slots of each group that do."""

    def __init__(
        self,
        groups: Sequence[Group],
        reference: Arrays,
        suspect: Arrays,
        told: Mapping[str, Sequence[Slot]],
        assignment: str = "optimal",
    ):
        super().__init__(groups, reference, suspect, assignment=assignment)
        self.told = told
        self.telling = True

    def run(self, progress: Progress | None = None) -> list[Match]:
        self.anchor(progress)
        return self.found()

    def evidence(self, group: Group) -> Sequence[Slot]:
        return self.told.get(group.id) or group.slots

    def values(self, arrays: Arrays, name: str, own: Set[int]) -> np.ndarray:
        return as_finite(arrays[name])

    def compared(
        self,
        group: Group,
        slots: Sequence[Slot],
        ours: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, y = np.concatenate(ours, 1), np.concatenate(theirs, 1)
        return compute_cosines(x, y).astype(np.float64), x, y

    def certainty(
        self,
        name: str,
        scores: np.ndarray,
        found: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        other: np.ndarray,
    ) -> np.ndarray:
        return balance_odds(SHARP * scores)[np.arange(found.size), found]


def find_incoming_slots(
    groups: Sequence[Group], scalings: Mapping[str, Scaling]
) -> dict[str, tuple[Slot, ...]]:
    """By each group's id the slots whose elements make its units, and do not read them."""
    found = {}
    for group in groups:
        if group.id in scalings:
            s = scalings[group.id]
            made = {
                (slot.initializer, slot.axis)
                for slot, own in zip(s.slots, s.incoming, strict=True)
                if own
            }
            found[group.id] = tuple(
                slot for slot in group.slots if (slot.initializer, slot.axis) in made
            )
    return found
