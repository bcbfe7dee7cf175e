"""Matches as the paper does: units are recognised by the cosine of their incoming weights alone.

Layer after layer, the rows of a layer are compared once the units that it reads are in place, and
nothing is looked at twice.

Source: "Find the Lady" (AAAI 2024), equation 8 and Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays, Permutations
from ..groups.rows import NO_THINNING, Thin
from ..groups.scaling import Scaling
from ..numerics import as_finite
from ..reporting import Progress
from .alignment import AlignmentState
from .evidence.noise import Scales
from .evidence.probabilities import balance_odds
from .evidence.scores import compute_cosines
from .matches import Match
from .strategies import MatchedRows, ScoredPairs, sort_rows

LOG_ODDS_PER_COSINE = 100.0
"""Cosines times this are taken for log-odds, where certainties are asked for.

So a cosine that is higher by 0.01 makes a match e times as likely.
"""


@dataclass(frozen=True)
class IncomingStrategy:
    """Recognises units by the cosine of the rows of the weights that make them.

    Attributes:
        scales: Mean and deviation of the reference's weights.
        told: By group id the slots that make the group's units.
    """

    gives_copies_zero: ClassVar[bool] = False
    scales: Scales
    told: Mapping[str, Sequence[Slot]]

    def select_slots(self, group: Group) -> Sequence[Slot]:
        """Return the slots that make the group's units; all where none are known."""
        return self.told.get(group.id) or group.slots

    def weigh_values(
        self, values: np.ndarray, name: str, own: Set[int], thin: Thin = NO_THINNING
    ) -> np.ndarray:
        """Return elements of a weight as they are, in single precision."""
        return as_finite(values)

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
        """Score every pair of units by its cosine."""
        # Without the ones that `join_rows` adds: the cosine is that of the weights alone.
        x, y = np.concatenate(ours, 1), np.concatenate(theirs, 1)
        return ScoredPairs(compute_cosines(x, y).astype(np.float64), x, y)

    def apply_prior(
        self, group: Group, scores: np.ndarray, permutations: Permutations
    ) -> np.ndarray:
        """Return the scores as they are."""
        return scores

    def judge_matches(self, rows: MatchedRows) -> np.ndarray:
        """Return the probability of every match, by its cosine among those of all pairs."""
        assert rows.scores is not None
        odds = balance_odds(LOG_ODDS_PER_COSINE * rows.scores)
        return odds[np.arange(rows.permutation.size), rows.permutation]


class IncomingMatcher:
    """Aligns units by the rows of the weights that make them.

    Args:
        groups: the groups, inner ones first.
        reference, suspect: weights of the same names and shapes.
        told: by group id the slots that make the group's units.
        assignment: the name of a way to assign, a key of `assignment.ASSIGNMENTS`.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        reference: Arrays,
        suspect: Arrays,
        told: Mapping[str, Sequence[Slot]],
        assignment: str = "optimal",
    ):
        self.alignment = AlignmentState(groups, reference, suspect, assignment)
        self.strategy = IncomingStrategy(Scales(self.alignment.reference), told)

    def run(self, progress: Progress | None = None) -> list[Match]:
        """Match every group once; return for every group where its units lie."""
        count = len(self.alignment.layout.tops)
        steps = self.alignment.anchor_groups(self.strategy, self.strategy.judge_matches)
        for number, _ in enumerate(steps, 1):
            if progress:
                progress(number, count)
        return self.alignment.list_matches()

    def moved(self) -> dict[str, np.ndarray]:
        """Return the weights of which units were moved, all units in the reference's order."""
        return self.alignment.collect_moved_weights()


def find_incoming_slots(
    groups: Sequence[Group], scalings: Mapping[str, Scaling]
) -> dict[str, tuple[Slot, ...]]:
    """Find the slots whose elements make the units of a group, and do not read them.

    Args:
        groups: the groups.
        scalings: by group id what is known of the group's slots; groups without are left out.

    Returns:
        By group id the slots.
    """
    found = {}
    for group in groups:
        if group.id in scalings:
            s = scalings[group.id]
            # A scaling may split a slot by positions; what makes one part makes the whole slot.
            made = {
                (slot.initializer, slot.axis)
                for slot, own in zip(s.slots, s.incoming, strict=True)
                if own
            }
            found[group.id] = tuple(
                slot for slot in group.slots if (slot.initializer, slot.axis) in made
            )
    return found
