"""Brings the units of a suspect into the reference's order, group by group.

`AlignmentState` holds the state of a matching: the weights in the order found so far, the
permutations that led there, and the matches. It can match one group by any evidence strategy, or
every group once, the best anchored ones first. Repeated sweeps are the business of `search`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..groups.model import Group
from ..groups.moved import MovedWeights
from ..groups.permutations import Arrays, compose_permutations
from ..numerics import is_same
from .evidence.assignment import ASSIGNMENTS
from .exact.search import find_partial_order
from .exact.votes import count_votes
from .flat import UnmovedGroups, match_flat
from .layout import Layout
from .matches import Match
from .nested import match_nested
from .strategies import Comparison, EvidenceStrategy, Judge


@dataclass(frozen=True)
class Snapshot:
    """The state of an alignment at one moment; the attributes are those of `AlignmentState`."""

    current: dict[str, np.ndarray]
    permutations: dict[str, np.ndarray]
    matches: dict[str, Match]


class AlignmentState:
    """The weights of a suspect beside those of the reference, unit by unit put in place.

    Args:
        groups: the groups, inner ones first.
        reference, suspect: weights of the same names and shapes. Axes outside the groups keep
            their order.
        assignment: the name of a way to assign, a key of `ASSIGNMENTS`.

    Attributes:
        layout: Which groups lie along which axes of which weights.
        reference: The weights of the reference that any group touches.
        current: Those of the suspect in the order found so far. An array that moves is replaced,
            and never changed in place: snapshots and `unmoved` hold the old ones. It is laid anew
            only once all of it is asked for.
        permutations: By group id what led to that order: unit j of `current` is unit
            `permutation[j]` of the suspect.
        matches: By group id the last match. It says what moved then, and not in all; `list_matches`
            says the latter.
        aligned: The ids of the top groups that were matched at least once.
        unmoved: The groups that need no new match.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        reference: Arrays,
        suspect: Arrays,
        assignment: str = "optimal",
    ):
        self.layout = Layout(groups)
        self.assignment = assignment
        names = dict.fromkeys(s.initializer for g in groups for s in g.slots)
        self.reference = {n: np.asarray(reference[n]) for n in names}
        self.current = MovedWeights({n: suspect[n] for n in names})
        self.permutations: dict[str, np.ndarray] = {}
        self.matches: dict[str, Match] = {}
        self.aligned: set[str] = set()
        self.unmoved = UnmovedGroups()

    @property
    def is_exact(self) -> bool:
        """Whether every weight of a group is equal to the reference's, bit for bit."""
        return all(self._is_group_exact(g.id) for g in self.layout.tops)

    def list_matches(self) -> list[Match]:
        """Return what is known so far, in the order of the groups.

        An inner group goes by the id of the place where it lies in the suspect.
        """
        inverse = {n: np.argsort(p) for n, p in self.permutations.items()}
        found = []
        for group in self.layout.groups:
            # The figures belong to where the group lies in the reference's order.
            here = self.matches[self.layout.family.twin(group.id, inverse)]
            permutation = self.permutations.get(group.id, self.matches[group.id].permutation)
            found.append(replace(here, group=group.id, permutation=permutation))
        return found

    def collect_moved_weights(self) -> dict[str, np.ndarray]:
        """Return the weights of which units were moved, all units in the reference's order."""
        names = dict.fromkeys(
            s.initializer
            for m in self.list_matches()
            if m.moved
            for s in self.layout.family.groups[m.group].slots
        )
        return {name: self.current[name] for name in names}

    def take_snapshot(self) -> Snapshot:
        """Return the present state. Arrays are shared: none of them is ever changed in place."""
        return Snapshot(dict(self.current), dict(self.permutations), dict(self.matches))

    def restore_snapshot(self, snapshot: Snapshot) -> None:
        """Go back to an earlier state."""
        self.current = MovedWeights(snapshot.current)
        self.permutations = snapshot.permutations
        self.matches = snapshot.matches

    def apply_permutations(self, found: Mapping[str, np.ndarray]) -> None:
        """Move the units of all groups at once, and take them for matched exactly.

        Whoever calls this knows an exact copy, or sweeps afterwards for the figures of the matches.

        Args:
            found: permutations of the units as they lie in `current`, by group id.
        """
        if found:
            self._move_units(found)
            self.matches = {g.id: Match.in_place(g.id, g.size) for g in self.layout.groups}

    def place_equal_units(self) -> None:
        """Move the units that equal rows tell, and take their groups for aligned.

        Where only a few weights were altered, most units are found in this way.
        """
        groups = self.layout.groups
        left_out: set[str] = set()
        while found := find_partial_order(groups, self.reference, self.current, left_out):
            self.apply_permutations(found)
            votes = count_votes(groups, self.reference, self.current)
            if votes.outvoted <= left_out:
                sure = votes.sure & found.keys()
                self.aligned.update(
                    g.id
                    for g in self.layout.tops
                    if all(m.id in sure for m in self.layout.list_members(g.id))
                )
                return
            # each turn leaves out more weights, so the loop ends
            left_out |= votes.outvoted

    def anchor_groups(
        self, strategy: EvidenceStrategy, judge: Judge | None = None
    ) -> Iterator[tuple[str, bool]]:
        """Match every group once by what is aligned already, the best anchored ones first.

        No order is guessed: a group that nothing anchors is matched by its sorted elements.

        Args:
            strategy: how units are recognised.
            judge: how certain matches are, None if figures are not asked for.

        Yields:
            The id of each top group as it is matched, and whether any of its units moved.
        """
        waiting = [g.id for g in self.layout.tops if g.id not in self.aligned]
        while waiting:
            name = max(
                waiting,
                key=lambda n: self.layout.measure_anchoring(n, self.aligned, self.reference),
            )
            waiting.remove(name)
            has_moved = self.align_group(name, strategy, judge, is_anchored=True)
            self.aligned.add(name)
            yield name, has_moved
        self.current.lay_all()

    def align_group(
        self, name: str, strategy: EvidenceStrategy, judge: Judge | None, is_anchored: bool
    ) -> bool:
        """Match a top group with all that lies inside it, and move its units accordingly.

        Args:
            name: the group's id.
            strategy: how units are recognised.
            judge: how certain matches are, None if figures are not asked for.
            is_anchored: whether only slots count whose other axes are aligned.

        Returns:
            Whether any unit moved.
        """
        if is_anchored or not self._is_group_exact(name):
            found = self._match_group(name, strategy, judge, is_anchored)
        else:
            members = self.layout.list_members(name)
            found = {g.id: Match.in_place(g.id, g.size) for g in members}
        # The matches speak of the order before the move.
        self.matches.update(found)
        moves = {n: m.permutation for n, m in found.items() if m.moved}
        if moves:
            self._move_units(moves)
        return bool(moves)

    def _move_units(self, moves: Mapping[str, np.ndarray]) -> None:
        """Move units by permutations of the present order, and add these to the permutations."""
        self.current.move_units(self.layout.groups, moves)
        self.permutations = compose_permutations(self.layout.family, self.permutations, moves)

    def _is_group_exact(self, name: str) -> bool:
        """Return whether the weights of a top group and of its inner groups are equal already."""
        names = {s.initializer for g in self.layout.list_members(name) for s in g.slots}
        return all(is_same(self.reference[n], self.current[n]) for n in names)

    def _match_group(
        self, name: str, strategy: EvidenceStrategy, judge: Judge | None, is_anchored: bool
    ) -> dict[str, Match]:
        """Find the matches of a top group, and of all that lies inside it, by their ids."""
        family = self.layout.family
        group = family.groups[name]
        slots = strategy.select_slots(group)
        if is_anchored:
            # A weight with the group on two axes is evidence only once the group is aligned: rows
            # are compared element by element, and its other axis is in another order.
            slots = [
                s
                for s in slots
                if self.layout.is_usable(s, name, self.aligned)
                and sum(t.initializer == s.initializer for t in group.slots) == 1
            ]
        comparison = Comparison(
            self.reference,
            self.current,
            self.permutations,
            strategy,
            ASSIGNMENTS[self.assignment],
            judge,
        )
        if family.inside(name, 0):
            return match_nested(comparison, family, group, slots)
        # By anchored slots alone a group may stay where all its slots would move it.
        unmoved = None if is_anchored else self.unmoved
        return {name: match_flat(comparison, group, slots, unmoved)}
