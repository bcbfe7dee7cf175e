"""Applies permutations to weights, composes and inverts them; groups may lie inside groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ..numerics import BLOCK_ELEMENTS
from ..storage import store_blocks
from ..threads import map_in_threads
from .model import Group, Slot

Arrays = Mapping[str, np.ndarray]
"""Weights by name."""
Permutations = Mapping[str, np.ndarray]
"""By group id, int64 [size]: unit j of the result is unit `permutation[j]` of the input.

A group inside a unit goes by the id that it has in the input, before that unit moves.
"""


def permute_arrays(
    arrays: Arrays, groups: Sequence[Group], permutations: Permutations
) -> dict[str, np.ndarray]:
    """Return the arrays that permutations change, as new arrays.

    Groups are applied in their order, inner ones before the groups that hold them. So the
    permutation of an inner group speaks of the units as they lie in the input.

    Args:
        arrays: the weights; none of them is changed.
        groups: the groups, inner ones first.
        permutations: the permutations; a group without one keeps its order.
    """
    slots = list_moved_slots(groups, permutations)

    def permute(name: str) -> np.ndarray:
        array = np.asarray(arrays[name])
        orders = compose_axes(slots[name], array.shape)
        if orders is None:
            return move_slots(array, slots[name])
        return reorder_axes(array, orders)

    names = list(slots)
    elements = sum(np.size(arrays[n]) for n in names)
    return dict(zip(names, map_in_threads(permute, names, elements), strict=True))


def move_slots(array: np.ndarray, moved: Sequence[tuple[Slot, np.ndarray]]) -> np.ndarray:
    """Return a copy of a weight whose slots are moved, one after the other."""
    array = np.array(array)
    for slot, permutation in moved:
        slot.permute(array, permutation)
    return array


def reorder_axes(array: np.ndarray, orders: Mapping[int, np.ndarray]) -> np.ndarray:
    """Return a weight with its positions in other orders, as a new array.

    Args:
        array: the weight.
        orders: by axis, int64 [length]: position j of the result is position `order[j]`. However
            many groups lie along an axis, its elements move once.
    """
    first = orders.get(0, np.arange(len(array)))
    step = max(BLOCK_ELEMENTS * len(array) // max(array.size, 1), 1)

    def list_blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(array), step):
            block = array[first[start : start + step]] if 0 in orders else array[start:][:step]
            for axis, order in orders.items():
                if axis:
                    block = block.take(order, axis)
            yield block

    return store_blocks(list_blocks, array.shape, array.dtype, array)


def list_moved_slots(
    groups: Sequence[Group], permutations: Permutations
) -> dict[str, list[tuple[Slot, np.ndarray]]]:
    """List by weight the slots that permutations move, each with its permutation.

    Args:
        groups: the groups, inner ones first: slots of a weight are moved in this order.
        permutations: the permutations; a group without one keeps its order.
    """
    found: dict[str, list[tuple[Slot, np.ndarray]]] = {}
    for group in groups:
        permutation = permutations.get(group.id)
        if permutation is not None and (permutation != np.arange(group.size)).any():
            for slot in group.slots:
                found.setdefault(slot.initializer, []).append((slot, permutation))
    return found


def compose_axes(
    moved: Sequence[tuple[Slot, np.ndarray]], shape: Sequence[int]
) -> dict[int, np.ndarray] | None:
    """Compose what permutations do to a weight, axis by axis.

    Args:
        moved: the slots that move, each with its permutation.
        shape: the weight's shape.

    Returns:
        By axis, int64 [length]: position j of the result is position `order[j]` of the input. None
        where what moves along one axis hangs on the place along another.
    """
    if any(slot.within for slot, _ in moved):
        return None
    orders: dict[int, np.ndarray] = {}
    for slot, permutation in moved:
        order = orders.setdefault(slot.axis, np.arange(shape[slot.axis]))
        Slot(slot.initializer, 0, slot.index).permute(order, permutation)
    return orders


class Nesting:
    """How the groups of a model lie inside each other.

    Args:
        groups: the groups, inner ones first. Groups inside like units come in the same order.

    Attributes:
        groups: The groups by id.
        order: The groups, inner ones first.
        holders: The ids of groups in whose units others lie.
    """

    def __init__(self, groups: Sequence[Group]):
        self.groups = {g.id: g for g in groups}
        self.order = list(groups)
        self.holders = {parent for g in groups for parent, _ in g.parents}
        self._children: dict[tuple[str, int], list[str]] = {}
        self._alike: dict[tuple[tuple[str, int], ...], list[str]] = {}
        for group in groups:
            if group.parents:
                # A group inside units of several groups counts as a child of the first alone, so
                # that a walk downwards meets it once.
                self._children.setdefault(group.parents[0], []).append(group.id)
                self._alike.setdefault(group.parents, []).append(group.id)

    def tops(self) -> list[Group]:
        """Return the groups that lie in no other, in the order of the symmetry."""
        return [g for g in self.order if not g.parents]

    def inside(self, group: str, unit: int) -> list[str]:
        """Return the ids of the groups inside a unit, in the same order for all units."""
        return self._children.get((group, unit), [])

    def place(self, group: str) -> int:
        """Return the number of a group among those with the very same parents, from 0."""
        return self._alike[self.groups[group].parents].index(group)

    def moved(self, group: str, unit: Callable[[str, int], tuple[str, int]]) -> str:
        """Return the id of the group that lies in other units as `group` lies in its own.

        Args:
            group: the group's id; a top group is its own answer.
            unit: maps each of the group's parents, `(group id, unit)`, to another one.
        """
        # Groups inside like units come in the same order, so the number tells which is which.
        parents = self.groups[group].parents
        return (
            self._alike[tuple(unit(*p) for p in parents)][self.place(group)] if parents else group
        )

    def twin(self, group: str, inverse: Permutations) -> str:
        """Return the id that a group has once permutations moved the units that hold it.

        Args:
            group: the id before.
            inverse: by group id, int64 [size]: where each unit went. These are the permutations
                inverted one by one, under the ids before.
        """

        def move_unit(parent: str, unit: int) -> tuple[str, int]:
            place = int(inverse[parent][unit]) if parent in inverse else unit
            return self.twin(parent, inverse), place

        return self.moved(group, move_unit)


def compose_permutations(
    family: Nesting, first: Permutations, then: Permutations
) -> dict[str, np.ndarray]:
    """Return the permutations that do `first`, and `then` on its result.

    Args:
        family: how the groups lie inside each other.
        first: the permutations of the input.
        then: those of what `first` makes of it, by the ids that groups have there.

    Returns:
        For every group a permutation of the input.
    """
    inverse = {name: np.argsort(p) for name, p in first.items() if name in family.holders}
    result = {}
    for name, group in family.groups.items():
        mine = first[name] if name in first else np.arange(group.size)
        later = then.get(family.twin(name, inverse))
        # Unit j in the end is unit later[j] of what `first` makes, which is mine[later[j]] before.
        result[name] = mine if later is None else mine[later]
    return result


def invert_permutations(family: Nesting, permutations: Permutations) -> dict[str, np.ndarray]:
    """Return the permutations that undo `permutations`.

    Their input is the result of `permutations`, so inner groups go by the ids that they have there.
    """
    inverse = {name: np.argsort(p) for name, p in permutations.items()}
    return {family.twin(name, inverse): p for name, p in inverse.items()}
