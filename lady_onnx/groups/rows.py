"""Takes the elements of units out of weights as rows of numbers, and puts them back.

A row has the positions of a unit first, and the other axes of the weight, in their order, behind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .model import Slot
from .permutations import Arrays


def take_rows(array: np.ndarray, slot: Slot) -> np.ndarray:
    """Return the elements of every unit in a slot, [units, elements], in the weight's own type."""
    for axis, positions in slot.within:
        array = array.take(positions, axis)
    return np.moveaxis(array, slot.axis, 0)[slot.index].reshape(len(slot.index), -1)


def join_slots(arrays: Arrays, slots: Sequence[Slot]) -> np.ndarray:
    """Return the elements of units in some slots side by side, float64 [units, elements]."""
    return np.concatenate(
        [take_rows(np.asarray(arrays[s.initializer]), s).astype(np.float64) for s in slots], 1
    )


def put_rows(arrays: dict[str, np.ndarray], slots: Sequence[Slot], values: np.ndarray) -> None:
    """Put rows back where `join_slots` takes them from, in place.

    Args:
        arrays: the weights, which are changed; each keeps its type.
        slots: the slots, in the order in which they were joined.
        values: float [units, elements of all slots].
    """
    start = 0
    for slot in slots:
        array = arrays[slot.initializer]
        where = slot.region(array.shape)
        # The region has the elements in the order in which `take_rows` reads them.
        front = np.moveaxis(array[where], slot.axis, 0)
        many = front.size // len(slot.index)
        part = values[:, start : start + many].reshape(front.shape)
        array[where] = np.moveaxis(part, 0, slot.axis).astype(array.dtype)
        start += many
