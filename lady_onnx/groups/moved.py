"""Weights whose units move: each is laid anew only once all of it is asked for.

So a weight that several groups move, one after the other, moves once, and where some of its
elements say enough it need not move at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence

import numpy as np

from ..threads import map_in_threads
from .model import Group, Slot
from .permutations import (
    Arrays,
    Permutations,
    compose_axes,
    list_moved_slots,
    move_slots,
    reorder_axes,
)
from .rows import NO_THINNING, Thin, list_positions, take_elements, take_positions


class MovedWeights(MutableMapping[str, np.ndarray]):
    """Weights by name, in an order that changes.

    Args:
        arrays: the weights. None of them is changed: what moves is a new array.
    """

    def __init__(self, arrays: Arrays):
        # By name an array, and by axis the order that its positions are to have. One value holds
        # both, so that threads that lay a weight at the same time do the same.
        self._held: dict[str, tuple[np.ndarray, Mapping[int, np.ndarray]]] = {
            name: (np.asarray(array), {}) for name, array in arrays.items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        array, orders = self._held[name]
        if orders:
            array = reorder_axes(array, orders)
            self._held[name] = array, {}
        return array

    def __setitem__(self, name: str, array: np.ndarray) -> None:
        self._held[name] = array, {}

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def move_units(self, groups: Sequence[Group], permutations: Permutations) -> None:
        """Move units; see `permute_arrays`."""
        slots = list_moved_slots(groups, permutations)
        entangled = []
        for name, moved in slots.items():
            array, before = self._held[name]
            orders = compose_axes(moved, array.shape)
            if orders is None:
                entangled.append(name)
                continue
            later = {a: before[a][order] if a in before else order for a, order in orders.items()}
            self._held[name] = array, {**before, **later}
        laid = map_in_threads(lambda name: move_slots(self[name], slots[name]), entangled)
        self.update(zip(entangled, laid, strict=True))

    def lay_all(self) -> None:
        """Lay all weights anew that are not yet in the order that they are to have."""
        waiting = [name for name, (_, orders) in self._held.items() if orders]
        map_in_threads(self.__getitem__, waiting)

    def take_slot(self, slot: Slot, taken: Mapping[int, np.ndarray], thin: Thin) -> np.ndarray:
        """Return the elements of a slot as they lie now; see `rows.take_elements`."""
        array, orders = self._held[slot.initializer]
        # the few positions of an axis that is thinned come first, so that the rest is less
        found = {a: orders[a][part] for a, part in thin.items() if a in orders}
        for axis, positions in list_positions(slot, taken).items():
            found[axis] = orders[axis][positions] if axis in orders else positions
        whole = {a: order for a, order in orders.items() if a not in found}
        rest = {a: part for a, part in thin.items() if a not in orders}
        return take_positions(array, {**found, **whole}, rest)


def take_slot(
    arrays: Arrays, slot: Slot, taken: Mapping[int, np.ndarray], thin: Thin = NO_THINNING
) -> np.ndarray:
    """Return the elements of a slot of weights that may move; see `rows.take_elements`."""
    if isinstance(arrays, MovedWeights):
        return arrays.take_slot(slot, taken, thin)
    return take_elements(np.asarray(arrays[slot.initializer]), slot, taken, thin)
