"""Tells which groups lie along which axes of which weights, and which weights speak for a group.

The layout follows from the groups alone and never changes; what is aligned so far is the business
of `alignment`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays, Nesting


class Layout:
    """The groups of a model by the weights that they touch.

    A top group is one that lies inside no other. It stands for all groups inside its units.

    Attributes:
        groups: The groups, inner ones first.
        family: How the groups lie inside each other.
        tops: The top groups, in the order of `groups`.
    """

    def __init__(self, groups: Sequence[Group]):
        self.groups = groups
        self.family = Nesting(groups)
        self.tops = self.family.tops()
        self._top_of = {g.id: self._find_top(g) for g in groups}
        self._touching: dict[str, set[str]] = {}
        """By weight the ids of the top groups that touch it."""
        self._axes: dict[tuple[str, str], set[int]] = {}
        """By weight and top group the axes along which that group or its inner ones lie."""
        self._members: dict[str, list[Group]] = {}
        """By top group that group and all groups inside its units, inner ones first."""
        self._beside: dict[tuple[int, str], tuple[Slot, bool]] = {}
        """What `_lies_beside` said, by the identity of the slot and the group.

        The slot is kept, so that no other one gets its identity.
        """
        for group in groups:
            top = self._top_of[group.id]
            self._members.setdefault(top, []).append(group)
            for slot in group.slots:
                self._touching.setdefault(slot.initializer, set()).add(top)
                self._axes.setdefault((slot.initializer, top), set()).add(slot.axis)

    def _find_top(self, group: Group) -> str:
        while group.parents:
            group = self.family.groups[group.parents[0][0]]
        return group.id

    def list_members(self, top: str) -> list[Group]:
        """Return a top group and all groups inside its units, inner ones first."""
        return self._members[top]

    def list_axes(self, weight: str) -> list[int]:
        """Return the axes of a weight along which any group lies, in ascending order."""
        return sorted({s.axis for g in self.groups for s in g.slots if s.initializer == weight})

    def has_meeting_groups(self) -> bool:
        """Return whether several groups meet in any weight.

        If none do, no group's order says anything of another's, and all that can be known is known
        from the beginning.
        """
        # More than one axis of one top group, or more than one top group.
        return any(
            len(self._axes[name, top]) + len(tops) > 2
            for name, tops in self._touching.items()
            for top in tops
        )

    def is_usable(self, slot: Slot, top: str, aligned: Set[str]) -> bool:
        """Return whether all other groups that touch the rows of a slot are aligned.

        Args:
            slot: a slot of the group `top` or of one inside it.
            top: the id of the top group.
            aligned: the ids of the top groups that are aligned.
        """
        touching = self._touching[slot.initializer]
        return all(t == top or t in aligned or self._lies_beside(slot, t) for t in touching)

    def _lies_beside(self, slot: Slot, top: str) -> bool:
        """Return whether a group lies along the axis of a slot, but in other positions.

        Such a group does not touch the slot's rows.
        """
        if self._axes[slot.initializer, top] != {slot.axis}:
            return False
        key = id(slot), top
        if key not in self._beside:
            slots = (s for g in self._members[top] for s in g.slots)
            others = (s for s in slots if s.initializer == slot.initializer)
            is_beside = not any(np.isin(slot.index, o.index).any() for o in others)
            self._beside[key] = slot, is_beside
        return self._beside[key][1]

    def measure_anchoring(
        self, top: str, aligned: Set[str], reference: Arrays
    ) -> tuple[float, float]:
        """Measure how much of a group's evidence is aligned.

        Args:
            top: the group's id.
            aligned: the ids of the top groups that are aligned.
            reference: the weights, whose sizes count.

        Returns:
            The aligned elements for each unit, and their share of all elements.
        """
        group = self.family.groups[top]
        usable = total = 0.0
        for slot in group.slots:
            size = reference[slot.initializer].size / group.size
            total += size
            # A group on two axes of one weight must be aligned before that weight speaks for it.
            if self.is_usable(slot, top, aligned) and len(self._axes[slot.initializer, top]) == 1:
                usable += size
        return usable, usable / total if total else 0.0
