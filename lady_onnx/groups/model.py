"""Groups of interchangeable units, their slots, and the axes that are pinned."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..reporting import MAX_SHOWN_ENTRIES, Report, count_things, format_table


@dataclass(frozen=True)
class Slot:
    """A place where a group occurs: one axis of one weight.

    Attributes:
        initializer: The weight's name.
        axis: The axis along which units lie, counted from the front. Where operators read several
            numbers in each byte of a weight, its last axis counts numbers.
        index: int64 [units, positions]. Where along `axis` each unit has its elements, in the same
            order for every unit. A unit has several positions where a map was flattened, or where
            it is a head.
        within: For a group inside another, the positions along other axes to which it is confined,
            as `(axis, int64 [positions])`.
    """

    initializer: str
    axis: int
    index: np.ndarray = field(repr=False)
    within: tuple[tuple[int, np.ndarray], ...] = field(default=(), repr=False)

    def permute(self, array: np.ndarray, permutation: np.ndarray) -> None:
        """Reorder `array` in place: unit j of the result is unit `permutation[j]` of the input."""
        # Most units of a suspect may stand where they belong; only the others are copied.
        moving = np.flatnonzero(permutation != np.arange(len(permutation)))
        if not moving.size:
            return
        to, source = self.index[moving].ravel(), self.index[permutation[moving]].ravel()
        # Indexing by arrays copies what is read before anything is written, so nothing is lost
        # where units change places.
        if not self.within:
            front = np.moveaxis(array, self.axis, 0)
            front[to] = front[source]
            return
        array[self._grid(array.shape, to)] = array[self._grid(array.shape, source)]

    def region(self, shape: Sequence[int]) -> tuple[np.ndarray, ...]:
        """Return an index of the elements of all units in a weight of `shape`.

        Along `axis` the result of indexing has the positions of unit 0, then those of unit 1, and
        so on; the other axes stay where they are.
        """
        return self._grid(shape, self.index.ravel())

    def places(self, shape: Sequence[int], unit: int) -> list[np.ndarray]:
        """Return, for every axis of a weight of `shape`, the positions of one unit's elements."""
        return self.places_of(shape, np.array([unit]))

    def places_of(self, shape: Sequence[int], units: np.ndarray) -> list[np.ndarray]:
        """Return, for every axis of a weight of `shape`, the positions of some units' elements."""
        axes = {**dict(self.within), self.axis: self.index[units].ravel()}
        return [axes.get(a, np.arange(n)) for a, n in enumerate(shape)]

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object; `within` only where the group is confined."""
        fields = {"initializer": self.initializer, "axis": self.axis, "index": self.index}
        within = [{"axis": axis, "positions": positions} for axis, positions in self.within]
        return {**fields, "within": within} if within else fields

    def _grid(self, shape: Sequence[int], places: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return an index of `places` along the slot's axis, and of all that `within` leaves."""
        axes = {**dict(self.within), self.axis: places}
        return np.ix_(*(axes.get(a, np.arange(n)) for a, n in enumerate(shape)))


@dataclass(frozen=True)
class Group:
    """A set of interchangeable units: permuting them in every slot leaves the function as it was.

    Attributes:
        id: Made of the group's first slot; unique in its model.
        kind: `channels`, `blocks` (its units hold groups of their own) or `inner` (it lies inside a
            unit).
        size: The number of its units.
        parents: `(group id, unit)` of each group that has this one inside one of its units; empty
            for a top group.
        slots: Where it occurs.
    """

    id: str
    kind: str
    size: int
    parents: tuple[tuple[str, int], ...]
    slots: tuple[Slot, ...]

    @property
    def bits(self) -> float:
        """The log2 of the number of permutations of this group."""
        # lgamma(n + 1) is the logarithm of n!, which itself would overflow from 171 units on.
        return math.lgamma(self.size + 1) / math.log(2)

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return {
            "id": self.id,
            "kind": self.kind,
            "size": self.size,
            "parents": [{"group": group, "unit": unit} for group, unit in self.parents],
            "slots": self.slots,
        }


@dataclass(frozen=True)
class Pin:
    """An axis that must keep its order, or some positions of it, and why."""

    initializer: str
    axis: int
    reason: str
    node: str


@dataclass(frozen=True)
class StateOrder:
    """An output that is fed back as an input, and the groups whose order both have.

    Attributes:
        output: The output's name.
        input: The input's name.
        groups: The ids of the groups whose units lie in it.
    """

    output: str
    input: str
    groups: tuple[str, ...]


def restrict_states(states: Sequence[StateOrder], known: Set[str]) -> tuple[StateOrder, ...]:
    """Return states with those of their groups that are known.

    Args:
        states: The states.
        known: The ids of groups.
    """
    return tuple(replace(s, groups=tuple(g for g in s.groups if g in known)) for s in states)


@dataclass(frozen=True, repr=False)
class Symmetry(Report):
    """The permutation symmetry of a graph.

    Attributes:
        groups: All groups, inner ones before the groups that hold them.
        pinned: What must keep its order.
        unknown_operators: The operators without a rule, by name, in ascending order.
        states: The outputs that are fed back as inputs, such as the keys and values of a cache.
    """

    groups: tuple[Group, ...]
    pinned: tuple[Pin, ...]
    unknown_operators: tuple[str, ...]
    states: tuple[StateOrder, ...] = ()

    @property
    def symmetry_bits(self) -> float:
        """The log2 of the number of function-preserving permutations found."""
        # Rounded once, so that the order of the groups makes no difference.
        return math.fsum(g.bits for g in self.groups)

    def group(self, name: str) -> Group:
        """Return the group with the id `name`.

        Raises:
            KeyError: there is no such group.
        """
        for group in self.groups:
            if group.id == name:
                return group
        raise KeyError(name)

    def list_moved_states(self, permutations: Mapping[str, np.ndarray]) -> tuple[StateOrder, ...]:
        """List the states that have another order once permutations are applied.

        Args:
            permutations: by group id, int64 [size].
        """
        moved = {g for g, p in permutations.items() if (p != np.arange(p.size)).any()}
        return tuple(s for s in self.states if not moved.isdisjoint(s.groups))

    def headline(self) -> str:
        """Say in one line how many groups there are."""
        groups = count_things(len(self.groups), "group")
        units = count_things(sum(g.size for g in self.groups), "unit")
        bits = f"{self.symmetry_bits:.1f} symmetry bits"
        return f"{groups} of interchangeable units, {units}, {bits}"

    def details(self, limit: int | None = MAX_SHOWN_ENTRIES) -> list[str]:
        """List the groups, those with most permutations first, and count what is pinned.

        Groups inside the units of one group that are alike share a line.
        """
        alike: Counter[tuple[str, str, int, int]] = Counter()
        bits: dict[tuple[str, str, int, int], float] = {}
        for g in self.groups:
            name = f"in each unit of {g.parents[0][0]}" if g.parents else g.id
            row = (name, g.kind, g.size, len(g.slots))
            alike[row] += 1
            bits[row] = bits.get(row, 0.0) + g.bits
        rows = [
            (name, kind, f"{alike[row]} x {size}" if alike[row] > 1 else size, slots)
            for row in sorted(alike, key=lambda row: (-bits[row], row))
            for name, kind, size, slots in [row]
        ]
        lines = format_table(("group", "kind", "size", "slots"), rows, limit)
        if self.states:
            free = sum(bool(s.groups) for s in self.states)
            lines.append(f"states: {free} of {len(self.states)} take the order of their groups")
        for reason, count in Counter(p.reason for p in self.pinned).most_common(limit):
            lines.append(f"pinned: {count_things(count, 'axis', 'axes')}, {reason}")
        if self.unknown_operators:
            names = ", ".join(self.unknown_operators)
            lines.append(f"unknown operators, whose operands are pinned: {names}")
        return lines

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return {
            "groups": self.groups,
            "symmetry_bits": self.symmetry_bits,
            "pinned": self.pinned,
            "unknown_operators": self.unknown_operators,
            "states": self.states,
        }
