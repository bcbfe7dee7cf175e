"""Searches for where every unit went, and calibrates how certain that is.

The module knows arrays and groups, no ONNX. What follows from a match for the suspect is the
business of `diagnosis`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..groups.model import Group
from ..groups.permutations import Arrays
from ..reporting import Progress
from .alignment import AlignmentState
from .calibration import calibrate_search
from .evidence.copies import Calibration
from .evidence.noise import Scales
from .matches import Match
from .search import Search
from .strategies import LikelihoodStrategy, Prior, keep_scores


class Matcher:
    """Aligns the weights of a suspect with those of a reference, group after group.

    Args:
        groups: the groups, inner ones first.
        reference, suspect: weights of the same names and shapes. Axes outside the groups keep
            their order.
        assignment: the name of a way to assign, a key of `assignment.ASSIGNMENTS`.
        prior: what is known of pairs of units beside their weights.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        reference: Arrays,
        suspect: Arrays,
        assignment: str = "optimal",
        prior: Prior = keep_scores,
    ):
        self.alignment = AlignmentState(groups, reference, suspect, assignment)
        strategy = LikelihoodStrategy(Scales(self.alignment.reference), prior)
        self._search = Search(self.alignment, strategy)

    @property
    def calibrations(self) -> Mapping[str, Calibration]:
        """By group id what rehearsals found; nothing if there was no need for them."""
        return self._search.strategy.calibrations

    @property
    def settled(self) -> bool:
        """Whether every weight of a group is equal to the reference's, bit for bit."""
        return self.alignment.is_exact

    def run(self, progress: Progress | None = None) -> list[Match]:
        """Search quickly, then thoroughly; return for every group where its units lie."""
        self.begin(progress)
        self.finish()
        return self.found()

    def begin(self, progress: Progress | None = None) -> None:
        """Search quickly: anchored groups first, then their neighbours, then all of them."""
        self._search.search_quickly(progress)

    def finish(self) -> None:
        """Search thoroughly where doubts are left, and calibrate the certainties if they stay."""
        if self.settled:
            return
        self._search.search_thoroughly()
        # Calibration takes two searches more, so it is for doubtful matches alone.
        if self._search.is_doubtful():
            calibrations = calibrate_search(self._search)
            self._search.strategy = replace(self._search.strategy, calibrations=calibrations)
            self._search.measure_figures()

    def found(self) -> list[Match]:
        """Return what is known so far, in the order of the groups."""
        return self.alignment.list_matches()

    def moved(self) -> dict[str, np.ndarray]:
        """Return the weights of which units were moved, all units in the reference's order."""
        return self.alignment.collect_moved_weights()
