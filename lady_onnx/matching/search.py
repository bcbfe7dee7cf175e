"""Searches for the likeliest place of every unit, given all that its weights say.

Every weight of the suspect is taken for a noisy copy of the reference's, with a noise of its own.
What differs at the matching so far says how large that noise is: weight by weight, and along the
axes of other groups position by position. So weights count less that were altered more, or whose
other axes are badly matched as yet. Units are assigned so that all slots together are likeliest,
and the noise is estimated anew, until nothing moves (coordinate descent, as the weight matching of
Git Re-Basin, Ainsworth et al. 2023). Before the first sweep a weight's noise is its own spread.

`matcher` adds to this search what calibration says of its certainties.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..groups.rows import take_rows
from ..reporting import Progress
from .alignment import AlignmentState
from .evidence.copies import Recoveries, measure_recovery
from .evidence.exact import find_proven_rows
from .evidence.scores import join_rows
from .meanfield import match_by_mean_field
from .refinement import ColourRefinement
from .strategies import Judge, LikelihoodStrategy, weigh_rows

MAX_MEAN_FIELD_PAIRS = 1 << 28
"""Of more pairs of units than this the probabilities are not kept at the same time.

In single precision these take one GiB.
"""
MIN_MEAN_CERTAINTY = 0.98
"""Below this mean certainty groups are matched anew, all at once, and certainties calibrated."""
MIN_REHEARSAL_GAIN = 1e-5
"""A rehearsal is over once the log-likelihood grows by a smaller share of itself."""
PROVEN_CERTAINTY = 0.999
"""Matches that are more certain than this need no other proof."""
MAX_SWEEPS = 20
"""The maximum number of sweeps over all groups; two or three are the rule."""
LAST_SWEEP_SHARE = 0.1
"""After a sweep that moved units of no larger share of the groups, the next may be the last.

So that one computes the figures of its matches at once. Figures take longer than the matching, and
those of any sweep but the last are lost.
"""


@dataclass(frozen=True)
class SearchOptions:
    """What a search is for.

    Attributes:
        is_rehearsal: Whether the answer is known, and only how sure the search is of it is asked.
            Such a search may stop a little before it is at the best.
        with_figures: Whether anyone asks how certain matches are.
    """

    is_rehearsal: bool = False
    with_figures: bool = True


class Search:
    """Searches for the likeliest place of every unit.

    Attributes:
        alignment: Where units are.
        strategy: How they are recognised, with the noise as it was last estimated.
        options: What the search is for.
    """

    def __init__(
        self,
        alignment: AlignmentState,
        strategy: LikelihoodStrategy,
        options: SearchOptions = SearchOptions(),
    ):
        self.alignment, self.strategy, self.options = alignment, strategy, options

    def run(self) -> None:
        """Search quickly, and then thoroughly where doubts are left."""
        self.search_quickly()
        self.search_thoroughly()

    def search_quickly(self, progress: Progress | None = None) -> None:
        """Match anchored groups first, then their neighbours, then sweep over all of them."""
        count = len(self.alignment.layout.tops)
        if not self.options.is_rehearsal:
            self.alignment.place_equal_units()
        done = len(self.alignment.aligned)
        for number, _ in enumerate(self.alignment.anchor_groups(self.strategy), done + 1):
            if progress:
                progress(number, count)
        if not self.alignment.is_exact:
            self.sweep_groups()

    def search_thoroughly(self) -> None:
        """Try what takes longer, if the matches are not exact."""
        if self.alignment.is_exact:
            return
        layout = self.alignment.layout
        if (
            layout.has_meeting_groups()
            and self.is_doubtful()
            and sum(g.size**2 for g in layout.tops) < MAX_MEAN_FIELD_PAIRS
        ):
            self._try_mean_field()
        if not self.alignment.is_exact:
            self._try_colour_refinement()

    def is_doubtful(self) -> bool:
        """Return whether matches are, on average, less certain than they should be."""
        certainties = [m.certainty for m in self.alignment.matches.values()]
        return bool(np.concatenate(certainties or [np.ones(1)]).mean() < MIN_MEAN_CERTAINTY)

    def sweep_groups(self) -> None:
        """Match every group by all its slots until nothing moves, or nothing gets likelier."""
        before = -np.inf
        moved, is_telling = 0, False
        for _ in range(MAX_SWEEPS):
            # The likelihood is that of the matching so far, so it is known before the next sweep.
            now = self._estimate_noise()
            is_stuck = now <= before + self._get_least_gain(before)
            if is_stuck and self.options.is_rehearsal and is_telling:
                # Nothing got likelier, and the figures of the last sweep are good enough.
                return self._prove_matches()
            if is_stuck:
                break
            before = now
            is_telling = moved <= LAST_SWEEP_SHARE * len(self.alignment.layout.tops)
            moved = len(self._match_all(is_telling))
            if not moved and is_telling:
                return self._prove_matches()
            if not moved:
                break
        self.measure_figures()

    def measure_figures(self) -> list[str]:
        """Sweep once more, for the figures of the matches under the noise of the present matching.

        Returns:
            The ids of the top groups whose units moved.
        """
        self._estimate_noise()
        moved = self._match_all(is_telling=True)
        self._prove_matches()
        return moved

    def measure_recoveries(self) -> Recoveries:
        """Measure for every group how much of its rows is recovered in their matches.

        Units lie in the reference's order by now, so row j of both sides belongs to unit j.
        """
        alignment = self.alignment
        found = {}
        for g in alignment.layout.groups:
            sides = (
                [weigh_rows(self.strategy, arrays, s) for s in self.strategy.select_slots(g)]
                for arrays in (alignment.reference, alignment.current)
            )
            found[g.id] = measure_recovery(*(join_rows(parts, g.size) for parts in sides))
        return found

    def _get_least_gain(self, likelihood: float) -> float:
        """Return by how much the log-likelihood must grow for another sweep to be worth it."""
        if self.options.is_rehearsal and np.isfinite(likelihood):
            return MIN_REHEARSAL_GAIN * abs(likelihood)
        return 0.0

    def _estimate_noise(self) -> float:
        """Estimate the noise of every weight anew; returns the log-likelihood of the suspect."""
        alignment = self.alignment
        alignment.unmoved.note_noise_source(alignment.current)
        self.strategy, likelihood = self.strategy.estimate_noise(
            alignment.layout, alignment.reference, alignment.current
        )
        return likelihood

    def _match_all(self, is_telling: bool) -> list[str]:
        """Match every group by all its slots; returns those whose units moved."""
        judge: Judge | None = None
        if is_telling and self.options.with_figures:
            judge = self.strategy.judge_matches
        return [
            g.id
            for g in self.alignment.layout.tops
            if self.alignment.align_group(g.id, self.strategy, judge, is_anchored=False)
        ]

    def _prove_matches(self) -> None:
        """Make matches certain whose rows no noise can have made: equal ones in any single slot."""
        alignment = self.alignment
        for g in alignment.layout.groups:
            match = alignment.matches[g.id]
            if match.certainty.min(initial=1.0) < PROVEN_CERTAINTY:
                pairs = (
                    (
                        take_rows(alignment.reference[s.initializer], s),
                        take_rows(alignment.current[s.initializer], s),
                    )
                    for s in g.slots
                )
                sure = np.any([find_proven_rows(a, b) for a, b in pairs], 0)
                certainty = np.where(sure, 1.0, match.certainty)
                alignment.matches[g.id] = replace(match, certainty=certainty)

    def _try_mean_field(self) -> None:
        """Match all groups at once, and keep what that finds if it is likelier."""
        alignment = self.alignment
        likelihood, before = self._estimate_noise(), alignment.take_snapshot()
        family = alignment.layout.family
        # Units that hold groups are left to the sweeps: what they hold has to be matched with them.
        flat = [
            g
            for g in alignment.layout.tops
            if not any(family.inside(g.id, u) for u in range(g.size))
        ]
        found = match_by_mean_field(flat, alignment.reference, alignment.current)
        if found is None:
            return
        alignment.apply_permutations(found)
        self.sweep_groups()
        if self._estimate_noise() < likelihood:
            alignment.restore_snapshot(before)
            # the noise is that of what was left again
            self._estimate_noise()

    def _try_colour_refinement(self) -> None:
        """Look for an exact copy, however much its units look alike.

        If the reference was altered as the suspect was, the copy is one of what it became.
        """
        alignment = self.alignment
        refinement = ColourRefinement(
            alignment.layout.groups, alignment.reference, alignment.current
        )
        likely = refinement.likely()
        # No permutation makes one of these models the other: there is no exact copy to look for.
        if likely is None:
            return
        # Units of one colour are matched in their order, which may be wrong. Sweeps may mend that;
        # if they do not, ties of colours are broken by trying.
        alignment.apply_permutations(likely)
        self.sweep_groups()
        if not alignment.is_exact:
            again = ColourRefinement(
                alignment.layout.groups, alignment.reference, alignment.current
            )
            alignment.apply_permutations(again.exact() or {})
