"""A suspect with more or fewer units than the reference: removed, inserted, cloned or split ones.

Both are brought to one size: where a model lacks units, units of zeros stand, which compute nothing. What is matched with
zeros is missing, or extra, attention heads with all that lies inside them. Extra units whose outgoing weights are zero, or
cancel among units that compute the same, leave the function as it is: obfuscation (Yan et al. 2023, neural structural
obfuscation), and can be taken out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ArchitectureError
from ..groups.model import Group, Slot
from ..groups.permutations import Arrays, Nesting
from ..groups.rows import take_rows
from ..numerics import is_float_array
from .matcher import Matcher, Progress
from .matches import Match

LEAST = 0.3
"""Below this similarity a unit is no other's copy."""
EQUAL = 1e-5
"""So much of what units pass on may be left of outgoing weights that cancel."""
TINY = 1e-300
"""The size of a row of zeros."""


@dataclass(frozen=True)
class Extended:
    """The weights of two models, and the groups, all units of both in them.

    Attributes:
        groups: those of the reference, with as many units as the larger model has.
        reference, suspect: by the reference's names; zeros where a model has no such unit.
        mine, theirs: by each group's id, how many units the reference and the suspect have; 0 of a group that lies inside
            a unit which that one lacks.
        twins: by each group's id, the suspect's own, where it has one.
        names: the suspect's weights by the reference's names.
        places: by weight and axis, where the suspect's positions lie.
    """

    groups: tuple[Group, ...]
    reference: dict[str, np.ndarray]
    suspect: dict[str, np.ndarray]
    mine: dict[str, int]
    theirs: dict[str, int]
    twins: dict[str, Group]
    names: Mapping[str, str]
    places: dict[tuple[str, int], np.ndarray]


def extend_models(
    reference: Arrays,
    suspect: Arrays,
    names: Mapping[str, str],
    ours: Sequence[Group],
    theirs: Sequence[Group],
) -> Extended:
    """Both models with all units of both, those that one lacks as zeros.

    Args:
        names: the suspect's weights by the reference's names.
        ours, theirs: the groups of each, in its own names.

    Raises ArchitectureError where another number of units does not explain the length of an axis.
    """
    back = {b: a for a, b in names.items()}
    one, two = Nesting(ours), Nesting(theirs)
    twins = _twins(one, two, names)
    lengths = {name: list(reference[name].shape) for name in names}
    longer: dict[str, Group] = {}
    for group in one.tops():
        twin = twins[group.id]
        many = {(back[s.initializer], s.axis): s.index.shape[1] for s in twin.slots}
        slots = []
        for slot in group.slots:
            name, axis = slot.initializer, slot.axis
            if slot.index.shape[1] != many[name, axis]:
                raise _part(name)
            index, lengths[name][axis] = _longer(slot.index, twin.size, lengths[name][axis])
            slots.append(replace(slot, index=index))
        longer[group.id] = replace(group, size=max(group.size, twin.size), slots=tuple(slots))
    groups = [*_added(longer, one, two, twins), *(longer.get(g.id, g) for g in ours)]
    places: dict[tuple[str, int], np.ndarray] = {}
    for group in groups:
        there = (
            {(back[s.initializer], s.axis): s for s in twins[group.id].slots}
            if group.id in twins
            else {}
        )
        for slot in group.slots if there else ():
            name, axis = slot.initializer, slot.axis
            where = places.setdefault((name, axis), np.full(suspect[names[name]].shape[axis], -1))
            own = there[name, axis].index
            where[own.ravel()] = slot.index[: len(own)].ravel()
    for name, its in names.items():
        if len(reference[name].shape) != len(suspect[its].shape):
            raise _part(name)
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
                raise _part(name)
            where[where < 0] = free
    whole = {n: np.zeros(lengths[n], reference[n].dtype) for n in names}
    second = {n: np.zeros(lengths[n], suspect[b].dtype) for n, b in names.items()}
    for name, its in names.items():
        whole[name][tuple(slice(n) for n in reference[name].shape)] = reference[name]
        array = suspect[its]
        second[name][np.ix_(*(places[name, a] for a in range(array.ndim)))] = array
    mine = {g.id: one.groups[g.id].size if g.id in one.groups else 0 for g in groups}
    sizes = {g.id: twins[g.id].size if g.id in twins else 0 for g in groups}
    return Extended(tuple(groups), whole, second, mine, sizes, twins, names, places)


def _twins(one: Nesting, two: Nesting, names: Mapping[str, str]) -> dict[str, Group]:
    """By the id of a group of the reference the suspect's in its place; none for those in units that the suspect lacks."""
    known, back = {n: n for n in names}, {b: a for a, b in names.items()}
    found: dict[tuple, list[Group]] = {}
    for group in two.tops():
        found.setdefault(_key(group, back), []).append(group)
    waiting: list[tuple[Group, Group]] = []
    for group in one.tops():
        others = found.get(_key(group, known))
        if not others:
            raise _part(group.slots[0].initializer)
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
                fits = a and b and _key(a, known) == _key(b, back) and a.size == b.size
                if not fits or (group.size != twin.size and len(a.parents) > 1):
                    raise _part((a or group).slots[0].initializer)
                waiting.append((a, b))
    return twins


def _key(group: Group, names: Mapping[str, str]) -> tuple:
    """What groups of two models have in common that are each other's."""
    return (
        tuple(sorted((names.get(s.initializer, ""), s.axis) for s in group.slots)),
        group.kind,
        len(group.parents),
    )


def _added(
    longer: Mapping[str, Group], one: Nesting, two: Nesting, twins: dict[str, Group]
) -> list[Group]:
    """What lies inside units that only the suspect has, as inside the first unit of the reference; adds their `twins`."""
    found = []

    def add(group: Group, twin: Group, top: Group, unit: int) -> None:
        for k in range(group.size):
            for a, b in zip(one.inside(group.id, k), two.inside(twin.id, k), strict=True):
                add(one.groups[a], two.groups[b], top, unit)
        name, *above = (
            n.replace(f"{top.id}[0]", f"{top.id}[{unit}]", 1)
            for n in (group.id, *(p for p, _ in group.parents))
        )
        parents = tuple(
            (p, unit if p == top.id else u) for p, (_, u) in zip(above, group.parents, strict=True)
        )
        slots = tuple(_moved(s, top, unit) for s in group.slots)
        found.append(replace(group, id=name, parents=parents, slots=slots))
        twins[name] = twin

    for top in longer.values():
        for unit in range(one.groups[top.id].size, top.size):
            inner = one.inside(top.id, 0), two.inside(twins[top.id].id, unit)
            for a, b in zip(*inner, strict=True):
                add(one.groups[a], two.groups[b], top, unit)
    return found


def _moved(slot: Slot, top: Group, unit: int) -> Slot:
    """A slot inside the first unit of a group, as it lies in another one."""

    def there(axis: int, positions: np.ndarray) -> np.ndarray:
        for own in top.slots:
            if (own.initializer, own.axis) == (slot.initializer, axis):
                order = np.argsort(own.index[0])
                return own.index[unit][
                    order[np.searchsorted(own.index[0], positions, sorter=order)]
                ]
        return positions

    within = tuple((axis, there(axis, positions)) for axis, positions in slot.within)
    return replace(slot, index=there(slot.axis, slot.index), within=within)


def _longer(index: np.ndarray, size: int, length: int) -> tuple[np.ndarray, int]:
    """A slot's positions with those of further units at the end of the axis, and the axis' length."""
    more = max(size - len(index), 0)
    added = length + np.arange(more * index.shape[1]).reshape(more, index.shape[1])
    return np.concatenate([index, added]), length + added.size


def _part(name: str) -> ArchitectureError:
    return ArchitectureError(f"weight '{name}' has other units than can be told")


@dataclass(frozen=True)
class Unequal:
    """What became of the units of two models.

    Attributes:
        matches: by group, in the order of the reference, where each of all units lies; of units of one model alone the
            similarity is 0.
        missing: `(group, unit)` of the reference without a partner.
        extra: `(group, unit)` of the suspect without a partner.
        idle: those of `extra` that the function does not need: obfuscation.
        arrays: the suspect's weights with all units in the reference's places, extra ones behind them.
        plain: the same without what `idle` units do: their share given back to those that they share it with.
    """

    matches: list[Match]
    missing: list[tuple[str, int]]
    extra: list[tuple[str, int]]
    idle: list[tuple[str, int]]
    arrays: dict[str, np.ndarray]
    plain: dict[str, np.ndarray]


class _Rectangular(Matcher):
    """Aligns groups of which one model has fewer units: what is left over is so whatever it is."""

    def __init__(self, both: Extended):
        super().__init__(both.groups, both.reference, both.suspect)
        self.both = both

    def weighed(self, group: Group, scores: np.ndarray) -> np.ndarray:
        places = self.total.get(group.id, np.arange(group.size))
        scores[self.both.mine[group.id] :] = 0
        scores[:, places >= self.both.theirs[group.id]] = 0
        return scores


def match_extended(
    both: Extended, incoming: Mapping[str, Sequence[Slot]], progress: Progress | None = None
) -> Unequal:
    """Which unit of the suspect is which of the reference's, and what the others do.

    Args:
        both: the models.
        incoming: by each group's id, the slots whose rows make its units; what the others hold reads them.
    """
    matcher = _Rectangular(both)
    found = {m.group: m for m in matcher.run(progress)}
    arrays = {**both.suspect, **{n: np.array(a) for n, a in matcher.current.items()}}
    inverse = {n: np.argsort(p) for n, p in matcher.total.items()}
    missing: list[tuple[str, int]] = []
    extra: list[tuple[str, int]] = []
    taken: dict[str, np.ndarray] = {}
    for group in reversed(both.groups):
        match, many = found[group.id], both.mine[group.id]
        # inner groups go by where they lie in the suspect
        inside = all(taken[p][u] for p, u in group.parents)
        size = group.size if group.parents else both.theirs[group.id]
        present = inside & (match.permutation < size) & (match.similarity >= LEAST)
        if not group.parents:
            present[many:] = False
        taken[group.id] = np.zeros(group.size, bool)
        taken[group.id][match.permutation[present]] = True
        similarity, certainty = (
            np.where(present, a, 0.0) for a in (match.similarity, match.certainty)
        )
        found[group.id] = replace(match, similarity=similarity, certainty=certainty)
        if inside:
            name = matcher.family.twin(group.id, inverse)
            missing += [
                (name, int(u)) for u in np.flatnonzero(~present) if group.parents or u < many
            ]
            extra += [(group.id, int(u)) for u in np.flatnonzero(~taken[group.id][:size])]
    order = {g.id: k for k, g in enumerate(both.groups)}
    for units in (missing, extra):
        units.sort(key=lambda unit: (order[unit[0]], unit[1]))
    matches = [found[g.id] for g in both.groups]
    plain = {n: a.astype(np.float64) if is_float_array(a) else a for n, a in arrays.items()}
    idle = _idle(both, {m.group: m for m in matches}, extra, incoming, plain)
    plain = {n: a.astype(arrays[n].dtype) for n, a in plain.items()}
    return Unequal(matches, missing, extra, idle, arrays, plain)


def _idle(
    both: Extended,
    matches: Mapping[str, Match],
    extra: Sequence[tuple[str, int]],
    incoming: Mapping[str, Sequence[Slot]],
    arrays: dict[str, np.ndarray],
) -> list[tuple[str, int]]:
    """The extra units that the function does not need; in `arrays` what they do is given to those that do the same."""
    family = Nesting(both.groups)
    groups = family.groups
    waiting = {
        g: [u for name, u in extra if name == g] for g in dict.fromkeys(name for name, _ in extra)
    }
    found: list[tuple[str, int]] = []
    changed = True
    # what a unit reads from idle ones is zero once those are merged
    while changed:
        changed = False
        for name, units in waiting.items():
            group = groups[name]
            # of a unit that holds others, what makes any of these
            told = [name, *family.inside(name, 0)]
            makes = {(s.initializer, s.axis) for n in told for s in incoming.get(n, ())}
            made, read = (
                [s for s in group.slots if ((s.initializer, s.axis) in makes) is own]
                for own in (True, False)
            )
            if not made or not read or group.parents:
                continue
            rows = np.concatenate(
                [take_rows(arrays[s.initializer], s).astype(np.float64) for s in made], 1
            )
            places = np.argsort(matches[name].permutation)
            sizes = np.maximum(np.linalg.norm(rows, axis=1), TINY)
            for unit in list(units):
                place = int(places[unit])
                same = (rows == rows[place]).all(1)
                same[place] = False
                same &= sizes > TINY
                # the reference's own unit before another extra one
                keeper = next((int(p) for p in np.flatnonzero(same)), None)
                if keeper is not None:
                    for slot in read:
                        front = np.moveaxis(arrays[slot.initializer], slot.axis, 0)
                        front[slot.index[keeper]] += front[slot.index[place]]
                        front[slot.index[place]] = 0
                if all(
                    _nothing(arrays[s.initializer], both.reference[s.initializer], s, place, sizes)
                    for s in read
                ):
                    for slot in group.slots:
                        np.moveaxis(arrays[slot.initializer], slot.axis, 0)[slot.index[place]] = 0
                    rows[place] = 0
                    sizes[place] = TINY
                    units.remove(unit)
                    found.append((name, unit))
                    changed = True
    return sorted(found)


def _nothing(
    array: np.ndarray, reference: np.ndarray, slot: Slot, place: int, sizes: np.ndarray
) -> bool:
    """Is what a unit passes on, its own size times what reads it, nothing beside what the reference's units do?"""
    usual = np.abs(take_rows(reference, slot)).max(1, initial=0) * sizes
    usual = usual[usual > TINY]
    row = float(np.abs(take_rows(array, slot)[place]).max(initial=0))
    return not row or (
        usual.size > 0 and row * float(sizes[place]) <= EQUAL * float(np.median(usual))
    )


def write_matched(
    both: Extended, found: Unequal
) -> tuple[list[Group], list[Match], dict[str, np.ndarray]]:
    """The suspect's own groups and weights: its units in the reference's order, extra ones behind them.

    Returns the suspect's groups, by the ids of `both`, the matches of their units, and the weights, of its own shapes, by the
    reference's names.
    """
    places = {key: where.copy() for key, where in both.places.items()}
    groups, matches = [], []
    for group, match in zip(both.groups, found.matches, strict=True):
        twin = both.twins.get(group.id)
        if twin is None:
            continue
        groups.append(replace(twin, id=group.id, parents=group.parents))
        if group.parents:
            # in their order already, inside units that have theirs
            matches.append(match)
            continue
        real = np.flatnonzero(match.permutation < both.theirs[group.id])
        figures = (
            a[real] for a in (match.permutation, match.similarity, match.margin, match.certainty)
        )
        matches.append(Match(group.id, *figures))
        there = {(s.initializer, s.axis): s for s in twin.slots}
        for slot in group.slots:
            twins_slot = there[both.names[slot.initializer], slot.axis]
            places[slot.initializer, slot.axis][twins_slot.index.ravel()] = slot.index[real].ravel()
    arrays = {
        n: a[np.ix_(*(places[n, axis] for axis in range(a.ndim)))] for n, a in found.arrays.items()
    }
    return groups, matches, arrays
