"""Brings two models of different numbers of units to one size, with the units of both.

Where a model lacks units, units of zeros stand, which compute nothing. What becomes of them in
matching is the business of `surplus`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import ArchitectureError
from ...groups.model import Group, Slot
from ...groups.permutations import Arrays, Nesting

Places = dict[tuple[str, int], np.ndarray]
"""By weight and axis, int64 [positions of the suspect]: where each lies in the extended weight."""


@dataclass(frozen=True)
class Extended:
    """The weights of two models, and the groups, with the units of both.

    Attributes:
        groups: Those of the reference, with as many units as the larger model has.
        reference, suspect: The weights by the reference's names; zeros where a model has no such
            unit. The reference's own units come first along every axis.
        mine, theirs: By group id, how many units the reference and the suspect have; 0 for a group
            that lies inside a unit which that model lacks.
        twins: By group id, the suspect's own group, where it has one.
        names: The suspect's weights by the reference's names.
        places: By weight, under the reference's name, and axis, where the suspect's positions lie.
    """

    groups: tuple[Group, ...]
    reference: dict[str, np.ndarray]
    suspect: dict[str, np.ndarray]
    mine: dict[str, int]
    theirs: dict[str, int]
    twins: dict[str, Group]
    names: Mapping[str, str]
    places: Places


def extend_models(
    reference: Arrays,
    suspect: Arrays,
    names: Mapping[str, str],
    ours: Sequence[Group],
    theirs: Sequence[Group],
) -> Extended:
    """Bring two models to one size, with the units of both; units that one lacks are zeros.

    Args:
        reference, suspect: the weights of each model, by its own names.
        names: the suspect's weights by the reference's names.
        ours, theirs: the groups of each model, in its own names, inner ones first.

    Raises:
        ArchitectureError: if another number of units does not explain the length of an axis.
    """
    one, two = Nesting(ours), Nesting(theirs)
    twins = _find_twins(one, two, names)
    lengths = {name: list(reference[name].shape) for name in names}
    longer = _lengthen_groups(one, twins, names, lengths)
    # Added inner groups come first: inner ones stand before the groups that hold them.
    groups = [
        *_copy_inner_groups(longer, one, two, twins),
        *(longer.get(g.id, g) for g in ours),
    ]
    places = _locate_units(groups, twins, names, suspect)
    _locate_others(places, ours, names, reference, suspect)
    whole = {n: np.zeros(lengths[n], reference[n].dtype) for n in names}
    second = {n: np.zeros(lengths[n], suspect[b].dtype) for n, b in names.items()}
    for name, its in names.items():
        whole[name][tuple(slice(n) for n in reference[name].shape)] = reference[name]
        array = suspect[its]
        second[name][np.ix_(*(places[name, a] for a in range(array.ndim)))] = array
    mine = {g.id: one.groups[g.id].size if g.id in one.groups else 0 for g in groups}
    sizes = {g.id: twins[g.id].size if g.id in twins else 0 for g in groups}
    return Extended(tuple(groups), whole, second, mine, sizes, twins, names, places)


def _find_twins(one: Nesting, two: Nesting, names: Mapping[str, str]) -> dict[str, Group]:
    """Find for each group of the reference the suspect's group in its place, by id.

    Groups inside units that the suspect lacks have none.
    """
    known, back = {n: n for n in names}, {b: a for a, b in names.items()}
    # Groups of one key, if there are several, are twins in their order.
    found: dict[tuple, list[Group]] = {}
    for group in two.tops():
        found.setdefault(_get_key(group, back), []).append(group)
    waiting: list[tuple[Group, Group]] = []
    for group in one.tops():
        others = found.get(_get_key(group, known))
        if not others:
            raise _refuse_weight(group.slots[0].initializer)
        waiting.append((group, others.pop(0)))
    twins = {}
    while waiting:
        group, twin = waiting.pop()
        twins[group.id] = twin
        for unit in range(min(group.size, twin.size)):
            inner = (
                [one.groups[n] for n in one.inside(group.id, unit)],
                [two.groups[n] for n in two.inside(twin.id, unit)],
            )
            for a, b in itertools.zip_longest(*inner):
                # Only top groups may differ in size. A group inside units of several groups cannot
                # be copied into units that one of these gains.
                fits = a and b and _get_key(a, known) == _get_key(b, back) and a.size == b.size
                if not fits or (group.size != twin.size and len(a.parents) > 1):
                    raise _refuse_weight((a or group).slots[0].initializer)
                waiting.append((a, b))
    return twins


def _get_key(group: Group, names: Mapping[str, str]) -> tuple:
    """Return what a group of one model and its twin of the other have in common.

    Args:
        group: the group.
        names: the reference's names of the weights of the group's model.
    """
    return (
        tuple(sorted((names.get(s.initializer, ""), s.axis) for s in group.slots)),
        group.kind,
        len(group.parents),
    )


def _lengthen_groups(
    one: Nesting,
    twins: Mapping[str, Group],
    names: Mapping[str, str],
    lengths: dict[str, list[int]],
) -> dict[str, Group]:
    """Return the top groups of the reference with the units of both models.

    Further units lie at the ends of the axes, whose `lengths` grow accordingly, in place.

    Raises:
        ArchitectureError: a unit has other numbers of positions in the two models.
    """
    back = {b: a for a, b in names.items()}
    longer = {}
    for group in one.tops():
        twin = twins[group.id]
        positions = {(back[s.initializer], s.axis): s.index.shape[1] for s in twin.slots}
        slots = []
        for slot in group.slots:
            name, axis = slot.initializer, slot.axis
            if slot.index.shape[1] != positions[name, axis]:
                raise _refuse_weight(name)
            index, lengths[name][axis] = _lengthen_index(slot.index, twin.size, lengths[name][axis])
            slots.append(replace(slot, index=index))
        longer[group.id] = replace(group, size=max(group.size, twin.size), slots=tuple(slots))
    return longer


def _lengthen_index(index: np.ndarray, size: int, length: int) -> tuple[np.ndarray, int]:
    """Return a slot's positions with those of further units at the end, and the axis' length."""
    more = max(size - len(index), 0)
    added = length + np.arange(more * index.shape[1]).reshape(more, index.shape[1])
    return np.concatenate([index, added]), length + added.size


def _copy_inner_groups(
    longer: Mapping[str, Group], one: Nesting, two: Nesting, twins: dict[str, Group]
) -> list[Group]:
    """Return groups for what lies inside units that only the suspect has; adds their `twins`.

    They are copies of the groups inside the first unit of the reference.
    """
    found = []

    def add(group: Group, twin: Group, top: Group, unit: int) -> None:
        for k in range(group.size):
            for a, b in zip(one.inside(group.id, k), two.inside(twin.id, k), strict=True):
                add(one.groups[a], two.groups[b], top, unit)
        # Ids of inner groups begin with the unit that holds them, such as `wk:1[3]/`.
        name, *above = (
            n.replace(f"{top.id}[0]", f"{top.id}[{unit}]", 1)
            for n in (group.id, *(p for p, _ in group.parents))
        )
        parents = tuple(
            (p, unit if p == top.id else u) for p, (_, u) in zip(above, group.parents, strict=True)
        )
        slots = tuple(_move_slot(s, top, unit) for s in group.slots)
        found.append(replace(group, id=name, parents=parents, slots=slots))
        twins[name] = twin

    for top in longer.values():
        for unit in range(one.groups[top.id].size, top.size):
            inner = one.inside(top.id, 0), two.inside(twins[top.id].id, unit)
            for a, b in zip(*inner, strict=True):
                add(one.groups[a], two.groups[b], top, unit)
    return found


def _move_slot(slot: Slot, top: Group, unit: int) -> Slot:
    """Return a slot inside the first unit of a group as it lies in another unit.

    Args:
        slot: the slot.
        top: the group that holds units.
        unit: the other unit.
    """

    def move(axis: int, positions: np.ndarray) -> np.ndarray:
        for own in top.slots:
            if (own.initializer, own.axis) == (slot.initializer, axis):
                # A position goes to where the other unit has it, counted among the unit's own.
                order = np.argsort(own.index[0])
                return own.index[unit][
                    order[np.searchsorted(own.index[0], positions, sorter=order)]
                ]
        return positions

    within = tuple((axis, move(axis, positions)) for axis, positions in slot.within)
    return replace(slot, index=move(slot.axis, slot.index), within=within)


def _locate_units(
    groups: Iterable[Group], twins: Mapping[str, Group], names: Mapping[str, str], suspect: Arrays
) -> Places:
    """Locate the positions of the suspect that belong to units; -1 for all others."""
    back = {b: a for a, b in names.items()}
    places: Places = {}
    for group in groups:
        if group.id not in twins:
            continue
        there = {(back[s.initializer], s.axis): s for s in twins[group.id].slots}
        for slot in group.slots if there else ():
            name, axis = slot.initializer, slot.axis
            where = places.setdefault((name, axis), np.full(suspect[names[name]].shape[axis], -1))
            own = there[name, axis].index
            where[own.ravel()] = slot.index[: len(own)].ravel()
    return places


def _locate_others(
    places: Places,
    ours: Sequence[Group],
    names: Mapping[str, str],
    reference: Arrays,
    suspect: Arrays,
) -> None:
    """Locate, in `places`, the positions of the suspect that belong to no unit, in their order.

    Raises:
        ArchitectureError: the models have other numbers of such positions.
    """
    for name, its in names.items():
        if len(reference[name].shape) != len(suspect[its].shape):
            raise _refuse_weight(name)
        for axis, (n, m) in enumerate(zip(reference[name].shape, suspect[its].shape, strict=True)):
            where = places.setdefault((name, axis), np.full(m, -1))
            taken = {
                int(p)
                for g in ours
                for s in g.slots
                if (s.initializer, s.axis) == (name, axis)
                for p in s.index.ravel()
            }
            free = [p for p in range(n) if p not in taken]
            if len(free) != int((where < 0).sum()):
                raise _refuse_weight(name)
            where[where < 0] = free


def _refuse_weight(name: str) -> ArchitectureError:
    """Make the error that another number of units does not explain the shape of a weight."""
    return ArchitectureError(f"weight '{name}' differs in more than its number of units")
