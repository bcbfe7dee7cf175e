"""What is known of the order of a suspect: group by group, and along the axes of its weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ...groups.model import Group, Slot
from ...groups.permutations import Arrays, Nesting
from ...numerics import mix_bits

UNKNOWN = -1


class NoCopyError(Exception):
    """The suspect is no exact copy of the reference, so far as its order would be found."""


class Orders:
    """Where the units of a reference lie in a suspect, as far as that is known.

    Args:
        groups: the groups, inner ones first.
        reference: the weights of the reference, for their shapes.

    Attributes:
        family: How the groups lie inside each other.
        units: By group of the reference, int64 [size]: the suspect's unit, `UNKNOWN` where it is
            not known yet.
        twins: By group of the reference the suspect's group that its units are in, for those that
            are known.
        slots: By weight the groups that touch it, each with the number of its slot.
        linked: By weight the axes along which places hang on each other: those of a slot that is
            confined along others, and these.
    """

    def __init__(self, groups: Sequence[Group], reference: Arrays):
        self.family = Nesting(groups)
        self.units = {g.id: np.full(g.size, UNKNOWN) for g in groups}
        self.twins = {g.id: g.id for g in groups if not g.parents}
        self.slots: dict[str, list[tuple[Group, int]]] = defaultdict(list)
        self.linked: dict[str, set[int]] = defaultdict(set)
        self.shapes: dict[str, tuple[int, ...]] = {}
        for group in groups:
            for number, slot in enumerate(group.slots):
                self.slots[slot.initializer].append((group, number))
                self.shapes[slot.initializer] = reference[slot.initializer].shape
                if slot.within:
                    self.linked[slot.initializer] |= {slot.axis, *(a for a, _ in slot.within)}
        self._known: set[str] = set()
        self._orders: dict[tuple[str, int], tuple[int, np.ndarray]] = {}
        self._kinds: dict[str, tuple] = {}
        self._owners: dict[tuple[str, int, tuple, int], tuple[np.ndarray, np.ndarray]] = {}
        self._names = [g.id for g in self.family.order]
        self._numbers = {name: k for k, name in enumerate(self._names)}

    # ---- what is known

    def is_known(self, group: str) -> bool:
        """Tell whether the place of every unit of a group is known."""
        is_new = group not in self._known and group in self.twins
        if is_new and (self.units[group] != UNKNOWN).all():
            self._known.add(group)
        return group in self._known

    @property
    def are_all_known(self) -> bool:
        """Whether the place of every unit is known."""
        return all(self.is_known(name) for name in self.units)

    def list_permutations(self) -> dict[str, np.ndarray]:
        """Return the permutations of the groups that are known, by the suspect's groups."""
        return {self.twins[n]: self.units[n] for n in self.units if self.is_known(n)}

    def map_axis(self, weight: str, axis: int) -> np.ndarray:
        """Return where in the suspect the positions along an axis of a weight lie.

        Returns:
            int64 [length of the axis]; `UNKNOWN` where a unit at the position is not known. Axes
            whose places hang on each other are unknown as a whole.
        """
        length = self.shapes[weight][axis]
        if axis in self.linked[weight]:
            return np.full(length, UNKNOWN)
        # what was known before stays as it is, so that the count of what is known tells of news
        beside = [(g, g.slots[k]) for g, k in self.slots[weight] if g.slots[k].axis == axis]
        count = sum(self._count_told(g) for g, _ in beside)
        known, order = self._orders.get((weight, axis), (-1, None))
        if known != count or order is None:
            if len(beside) == 1 and beside[0][0].kind == "channels":
                order = _place_units(beside[0][1], self.units[beside[0][0].id], length)
            else:
                order = self._compose_order(weight, axis, length)
            self._orders[weight, axis] = count, order
        return order

    def _count_told(self, group: Group) -> int:
        """Return of how many units of a group the place is known."""
        if self.is_known(group.id):
            return group.size
        return int((self.units[group.id] != UNKNOWN).sum())

    def _compose_order(self, weight: str, axis: int, length: int) -> np.ndarray:
        """Compose the order along an axis of a weight out of those of several groups on it."""
        order, hidden = np.arange(length), np.zeros(length, bool)
        for group, number in self.slots[weight]:
            slot = group.slots[number]
            if slot.axis != axis:
                continue
            if self.is_known(group.id):
                # the suspect's group lies where the twin of this one lies
                twin = self.family.groups[self.twins[group.id]]
                moved = Slot(weight, 0, twin.slots[number].index)
                moved.permute(order, self.units[group.id])
            else:
                hidden[slot.index] = True
        # An inner group is applied where it lies in the suspect, and what holds it moves it on. So
        # the reference's places are hidden, which are those after all moves.
        order[hidden] = UNKNOWN
        return order

    def find_twin(self, group: str) -> str | None:
        """Return the suspect's group that a group's units are in, None where it is not known."""
        parents = self.family.groups[group].parents
        if group not in self.twins and all(
            p in self.twins and self.units[p][unit] != UNKNOWN for p, unit in parents
        ):
            self.twins[group] = self.family.moved(
                group, lambda p, unit: (self.twins[p], int(self.units[p][unit]))
            )
        return self.twins.get(group)

    def sum_over_units(
        self, group: str, weight: str, axes: Sequence[int], keys: np.ndarray
    ) -> np.ndarray:
        """Return a key of every unit that no order of its rows changes, uint64 [size].

        Args:
            group: a group.
            weight: a weight that it touches.
            axes: the axes whose positions make a row each.
            keys: the key of every row, uint64 [rows].
        """
        shape = tuple(self.shapes[weight][a] for a in axes)
        total = np.zeros(self.family.groups[group].size, np.uint64)
        for number, slot in enumerate(self.family.groups[group].slots):
            if slot.initializer == weight and slot.axis in axes:
                rows = mix_bits(keys[_list_rows(slot, axes, shape)])
                total += mix_bits(rows.sum(1, dtype=np.uint64) + np.uint64(number))
        return total

    def settle(self, group: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Give the units of a group that are left places by their keys.

        Of equal keys each unit keeps its place where it may; the others come in their order.

        Args:
            group: the group.
            ours: the keys of the reference's units, uint64 [size].
            theirs: those of the suspect's, in the twin of the group.

        Raises:
            NoCopyError: the two have other keys.
        """
        units = self.units[group]
        free = np.setdiff1d(np.arange(units.size), units)
        stay = (units == UNKNOWN) & (ours == theirs) & np.isin(np.arange(units.size), free)
        units[stay] = np.flatnonzero(stay)
        left, free = np.flatnonzero(units == UNKNOWN), np.setdiff1d(free, units)
        mine = left[np.argsort(ours[left], kind="stable")]
        its = free[np.argsort(theirs[free], kind="stable")]
        if not np.array_equal(ours[mine], theirs[its]):
            raise NoCopyError(f"{group} has other units")
        units[mine] = its

    # ---- what rows say of groups

    def read_rows(self, weight: str, axes: Sequence[int], rows: np.ndarray) -> bool:
        """Read the places of units off the places of rows.

        Args:
            weight: the weight.
            axes: the axes whose positions make a row each.
            rows: int64 [rows]: the suspect's row for each row of the reference; `UNKNOWN` where it
                is not known.

        Returns:
            Whether anything new is known.

        Raises:
            NoCopyError: rows of one unit lie in several, or units of one group in several groups.
        """
        shape = tuple(self.shapes[weight][a] for a in axes)
        has_read = False
        # Outer groups first: where an inner one lies follows from where its unit went.
        for group, number in reversed(self.slots[weight]):
            slot = group.slots[number]
            if slot.axis in axes and not self.is_known(group.id):
                has_read |= self._read_group(group, number, axes, shape, rows)
        return has_read

    def _read_group(
        self,
        group: Group,
        number: int,
        axes: Sequence[int],
        shape: tuple[int, ...],
        rows: np.ndarray,
    ) -> bool:
        places = _list_rows(group.slots[number], axes, shape)
        targets = rows[places]
        known = targets != UNKNOWN
        if not known.any():
            return False
        owner, unit = self._find_owners(group, number, axes, shape)
        found = np.where(known, owner[targets], UNKNOWN)
        homes = np.unique(found[known])
        if homes.size != 1 or homes[0] < 0:
            raise NoCopyError(f"units of {group.id} lie in several groups")
        twin = self._names[int(homes[0])]
        if self.twins.get(group.id, twin) != twin:
            raise NoCopyError(f"{group.id} lies in two groups")
        first = known.argmax(1)
        chosen = unit[targets[np.arange(group.size), first]]
        is_told = known.any(1)
        if (np.where(known, unit[targets], chosen[:, None]) != chosen[:, None]).any():
            raise NoCopyError(f"a unit of {group.id} lies in several units")
        units = self.units[group.id]
        is_new = units == UNKNOWN
        if (is_told & ~is_new & (units != chosen)).any():
            raise NoCopyError(f"a unit of {group.id} lies in two units")
        now = np.where(is_told, chosen, units)
        if np.unique(now[now != UNKNOWN]).size != (now != UNKNOWN).sum():
            raise NoCopyError(f"two units of {group.id} lie in one")
        # nothing is learnt from a weight that contradicts itself, or what is known
        self.twins[group.id], units[:] = twin, now
        return bool((is_told & is_new).any())

    def _find_owners(
        self, group: Group, number: int, axes: Sequence[int], shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which group, and which of its units, has each row, among groups of one kind.

        Returns:
            The numbers of the groups and of the units, int64 [rows]; `UNKNOWN` where none of them
            has the row.
        """
        weight, kind = group.slots[number].initializer, self._find_kind(group)
        # a weight has one view for each axis, and those that hang on each other are in one view
        key = (weight, group.slots[number].axis, kind, number)
        if key not in self._owners:
            size = int(np.prod(shape, dtype=np.int64))
            owner, unit = np.full(size, UNKNOWN), np.full(size, UNKNOWN)
            for other, k in self.slots[weight]:
                if k == number and self._find_kind(other) == kind:
                    rows = _list_rows(other.slots[number], axes, shape)
                    owner[rows] = self._numbers[other.id]
                    unit[rows] = np.arange(other.size)[:, None]
            self._owners[key] = owner, unit
        return self._owners[key]

    def _find_kind(self, group: Group) -> tuple:
        """Return what groups in the same place of different units have in common."""
        if group.id not in self._kinds:
            above = tuple(self._find_kind(self.family.groups[p]) for p, _ in group.parents)
            place = self.family.place(group.id) if group.parents else group.id
            self._kinds[group.id] = (*above, place)
        return self._kinds[group.id]


def _list_rows(slot: Slot, axes: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """Return the rows that each unit of a slot has, int64 [units, rows]."""
    within = dict(slot.within)
    parts = [
        slot.index if a == slot.axis else within.get(a, np.arange(n))
        for a, n in zip(axes, shape, strict=True)
    ]
    # the units come first, and every axis then
    total = np.zeros((len(slot.index), *[1] * len(axes)), np.int64)
    for k, part in enumerate(parts):
        step = int(np.prod(shape[k + 1 :], dtype=np.int64))
        side = [1] * (len(axes) + 1)
        side[k + 1] = part.shape[-1]
        if part.ndim == 2:
            side[0] = len(part)
        total = total + step * part.reshape(side)
    return total.reshape(len(slot.index), -1)


def _place_units(slot: Slot, units: np.ndarray, length: int) -> np.ndarray:
    """Return the order along an axis on which one group lies alone, unit by unit.

    The group holds no groups and lies in none, so that a unit's place says all of its positions.

    Args:
        slot: where the group lies.
        units: int64 [size], the suspect's unit of each unit; `UNKNOWN` where it is not known.
        length: the length of the axis.
    """
    order, told = np.arange(length), units != UNKNOWN
    order[slot.index[~told]] = UNKNOWN
    order[slot.index[told]] = slot.index[units[told]]
    return order
