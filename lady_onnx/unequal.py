"""A suspect with more or fewer units than the reference: removed, inserted, cloned or split ones.

Both are brought to one size: where a model lacks units, units of zeros stand, which compute nothing. What is matched with
zeros is missing, or extra. Extra units whose outgoing weights are zero, or cancel among units that compute the same, leave
the function as it is: obfuscation (Yan et al. 2023, neural structural obfuscation), and can be taken out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .alterations import floating
from .correspondence import correspond
from .errors import ArchitectureError
from .evidence import Match, rows_of
from .graph import Graph
from .groups import Group, Slot
from .matching import Matcher, Progress

LEAST = 0.3
"""Below this similarity a unit is no other's copy."""
EQUAL = 1e-5
"""So much of what units pass on may be left of outgoing weights that cancel."""
TINY = 1e-300
"""The size of a row of zeros."""
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Extended:
    """The weights of two models, and the groups, all units of both in them.

    Attributes:
        groups: those of the reference, with as many units as the larger model has.
        reference, suspect: by the reference's names; zeros where a model has no such unit.
        mine, theirs: by each group's id, how many units the reference and the suspect have.
        twins: by each group's id, the suspect's own.
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


def differ(reference: Graph, suspect: Graph) -> dict[str, str] | None:
    """The suspect's weights by the reference's names if they differ in nothing but the length of axes, else None."""
    try:
        names = correspond(reference, suspect, sizes=False)
    except ArchitectureError:
        return None
    return names if any(reference.shape(a) != suspect.shape(b) for a, b in names.items()) else None


def extended(
    reference: Graph, suspect: Graph, names: Mapping[str, str], ours: Sequence[Group], theirs: Sequence[Group]
) -> Extended:
    """Both models with all units of both, those that one lacks as zeros.

    Args:
        names: the suspect's weights by the reference's names.
        ours, theirs: the groups of each, in its own names.

    Raises ArchitectureError where another number of units does not explain the length of an axis.
    """
    back = {b: a for a, b in names.items()}
    found: dict[tuple, list[Group]] = {}
    for group in theirs:
        found.setdefault(_key(group, back), []).append(group)
    twins: dict[str, Group] = {}
    for group in ours:
        others = found.get(_key(group, {n: n for n in names}), [])
        if others:
            twins[group.id] = others.pop(0)
    lengths = {name: list(reference.shape(name)) for name in names}
    places: dict[tuple[str, int], np.ndarray] = {}
    groups: dict[str, Group] = {}
    for group in ours:
        twin = twins.get(group.id)
        nested = bool(group.parents) or group.kind == "blocks"
        if twin is None or (nested and twin.size != group.size):
            raise _part(reference, suspect, group.slots[0].initializer)
        slots = []
        there = {(back[s.initializer], s.axis): s for s in twin.slots}
        for slot in group.slots:
            name, axis = slot.initializer, slot.axis
            twins_slot = there[name, axis]
            if slot.index.shape[1] != twins_slot.index.shape[1]:
                raise _part(reference, suspect, name)
            index, lengths[name][axis] = _longer(slot.index, twin.size, lengths[name][axis])
            slots.append(replace(slot, index=index))
            where = places.setdefault((name, axis), np.full(suspect.shape(names[name])[axis], -1))
            where[twins_slot.index.ravel()] = index[: twin.size].ravel()
        groups[group.id] = replace(group, size=max(group.size, twin.size), slots=tuple(slots))
    for name, other in names.items():
        for axis, (n, m) in enumerate(zip(reference.shape(name), suspect.shape(other), strict=True)):
            where = places.setdefault((name, axis), np.full(m, -1))
            taken = {int(p) for g in ours for s in g.slots if (s.initializer, s.axis) == (name, axis) for p in s.index.ravel()}
            free = [p for p in range(n) if p not in taken]
            if len(free) != int((where < 0).sum()):
                raise _part(reference, suspect, name)
            where[where < 0] = free
    whole = {n: np.zeros(lengths[n], reference.array(n).dtype) for n in names}
    second = {n: np.zeros(lengths[n], suspect.array(b).dtype) for n, b in names.items()}
    for name, own in names.items():
        whole[name][tuple(slice(n) for n in reference.shape(name))] = reference.array(name)
        array = suspect.array(own)
        second[name][np.ix_(*(places[name, a] for a in range(array.ndim)))] = array
    mine, sizes = {g.id: g.size for g in ours}, {g: t.size for g, t in twins.items()}
    return Extended(tuple(groups.values()), whole, second, mine, sizes, twins, names, places)


def _key(group: Group, names: Mapping[str, str]) -> tuple:
    """What groups of two models have in common that are each other's."""
    return tuple(sorted((names.get(s.initializer, ""), s.axis) for s in group.slots)), group.kind, len(group.parents)


def _longer(index: np.ndarray, size: int, length: int) -> tuple[np.ndarray, int]:
    """A slot's positions with those of further units at the end of the axis, and the axis' length."""
    more = max(size - len(index), 0)
    added = length + np.arange(more * index.shape[1]).reshape(more, index.shape[1])
    return np.concatenate([index, added]), length + added.size


def _part(reference: Graph, suspect: Graph, name: str) -> ArchitectureError:
    return ArchitectureError(f"{suspect.name}: weight '{name}' of {reference.name} has other units than can be told")


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

    def compared(
        self, group: Group, slots: Sequence[Slot], ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scores, x, y = super().compared(group, slots, ours, theirs)
        places = self.total.get(group.id, np.arange(group.size))
        scores[self.both.mine[group.id] :] = 0
        scores[:, places >= self.both.theirs[group.id]] = 0
        return scores, x, y


def matched(both: Extended, incoming: Mapping[str, Sequence[Slot]], progress: Progress | None = None) -> Unequal:
    """Which unit of the suspect is which of the reference's, and what the others do.

    Args:
        both: the models.
        incoming: by each group's id, the slots whose rows make its units; what the others hold reads them.
    """
    matcher = _Rectangular(both)
    found = {m.group: m for m in matcher.run(progress)}
    arrays = {**both.suspect, **{n: np.array(a) for n, a in matcher.current.items()}}
    missing, extra, matches = [], [], []
    for group in both.groups:
        match, many = found[group.id], both.mine[group.id]
        real = match.permutation < both.theirs[group.id]
        near = match.similarity >= LEAST
        absent = np.flatnonzero(~(real & near)[:many])
        missing += [(group.id, int(u)) for u in absent]
        taken = match.permutation[:many][(real & near)[:many]]
        extra += [(group.id, int(u)) for u in np.setdiff1d(np.arange(both.theirs[group.id]), taken)]
        similarity = np.where(real & near, match.similarity, 0.0)
        certainty = np.where(real & near, match.certainty, 0.0)
        matches.append(replace(match, similarity=similarity, certainty=certainty))
    plain = {n: a.astype(np.float64) if floating(a) else a for n, a in arrays.items()}
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
    groups = {g.id: g for g in both.groups}
    waiting = {g: [u for name, u in extra if name == g] for g in dict.fromkeys(name for name, _ in extra)}
    found: list[tuple[str, int]] = []
    changed = True
    # what a unit reads from idle ones is zero once those are merged
    while changed:
        changed = False
        for name, units in waiting.items():
            group, makes = groups[name], {(s.initializer, s.axis) for s in incoming.get(name, ())}
            made, read = ([s for s in groups[name].slots if ((s.initializer, s.axis) in makes) is own] for own in (True, False))
            if not made or not read or group.parents or group.kind == "blocks":
                continue
            rows = np.concatenate([rows_of(arrays[s.initializer], s).astype(np.float64) for s in made], 1)
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
                if all(_nothing(arrays[s.initializer], both.reference[s.initializer], s, place, sizes) for s in read):
                    for slot in group.slots:
                        np.moveaxis(arrays[slot.initializer], slot.axis, 0)[slot.index[place]] = 0
                    rows[place] = 0
                    sizes[place] = TINY
                    units.remove(unit)
                    found.append((name, unit))
                    changed = True
    return sorted(found)


def _nothing(array: np.ndarray, reference: np.ndarray, slot: Slot, place: int, sizes: np.ndarray) -> bool:
    """Is what a unit passes on, its own size times what reads it, nothing beside what the reference's units do?"""
    usual = np.abs(rows_of(reference, slot)).max(1, initial=0) * sizes
    usual = usual[usual > TINY]
    row = float(np.abs(rows_of(array, slot)[place]).max(initial=0))
    return not row or (usual.size > 0 and row * float(sizes[place]) <= EQUAL * float(np.median(usual)))


def written(both: Extended, found: Unequal) -> tuple[list[Match], dict[str, np.ndarray]]:
    """The suspect's own groups and weights: its units in the reference's order, extra ones behind them.

    Returns the matches of the suspect's units, and the weights, of its own shapes, by the reference's names.
    """
    places = {key: where.copy() for key, where in both.places.items()}
    matches = []
    for group, match in zip(both.groups, found.matches, strict=True):
        real = np.flatnonzero(match.permutation < both.theirs[group.id])
        twin = both.twins[group.id]
        figures = (a[real] for a in (match.permutation, match.similarity, match.margin, match.certainty))
        matches.append(Match(group.id, *figures))
        there = {(s.initializer, s.axis): s for s in twin.slots}
        for slot in group.slots:
            twins_slot = there[both.names[slot.initializer], slot.axis]
            places[slot.initializer, slot.axis][twins_slot.index.ravel()] = slot.index[real].ravel()
    arrays = {n: a[np.ix_(*(places[n, axis] for axis in range(a.ndim)))] for n, a in found.arrays.items()}
    return matches, arrays
