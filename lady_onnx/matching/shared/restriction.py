"""Groups of a whole model, restricted to a part that it shares with another model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...groups.model import Group, Slot
from ...groups.permutations import Nesting

OWN_PREFIX = "reference:"
"""Stands before the ids of groups that only the reference has."""


def restrict_groups(groups: Sequence[Group], names: Mapping[str, str]) -> list[Group]:
    """Return groups with their slots in some weights alone.

    A group without such a slot is left out, with all that lies inside its units.

    Args:
        groups: the groups, inner ones first.
        names: the weights that count, with the names that they get.

    Returns:
        The groups, inner ones first, under the ids that they have.
    """
    found: dict[str, Group] = {}
    # in reverse, so that groups come before those inside their units
    for group in reversed(groups):
        slots = tuple(
            replace(slot, initializer=names[slot.initializer])
            for slot in group.slots
            if slot.initializer in names
        )
        if slots and all(parent in found for parent, _ in group.parents):
            found[group.id] = replace(group, slots=slots)
    return [found[g.id] for g in groups if g.id in found]


def join_groups(first: Sequence[Group], second: Sequence[Group]) -> list[Group]:
    """Return groups, and those of a second list that lie where none of the first does.

    Args:
        first: the groups that all stay, inner ones first.
        second: other groups of the same weights, inner ones first. They get ids of their own.

    Returns:
        The groups, inner ones first.
    """
    taken = _mark_positions(slot for group in first for slot in group.slots)
    family = Nesting(second)
    kept: set[str] = set()
    for top in family.tops():
        members = list_members(family, top.id)
        slots = [s for name in members for s in family.groups[name].slots]
        if not any(np.isin(s.index, taken.get((s.initializer, s.axis), [])).any() for s in slots):
            kept.update(members)
    return [*first, *(_rename_group(g) for g in second if g.id in kept)]


def _mark_positions(slots: Iterable[Slot]) -> dict[tuple[str, int], np.ndarray]:
    """Return by weight and axis the positions that some slots take."""
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    for slot in slots:
        found.setdefault((slot.initializer, slot.axis), []).append(slot.index.ravel())
    return {place: np.unique(np.concatenate(parts)) for place, parts in found.items()}


def list_members(family: Nesting, top: str) -> list[str]:
    """Return the id of a group and those of all groups inside its units."""
    found, waiting = [], [top]
    while waiting:
        name = waiting.pop()
        found.append(name)
        for unit in range(family.groups[name].size):
            waiting += family.inside(name, unit)
    return found


def _rename_group(group: Group) -> Group:
    parents = tuple((f"{OWN_PREFIX}{name}", unit) for name, unit in group.parents)
    return replace(group, id=f"{OWN_PREFIX}{group.id}", parents=parents)
