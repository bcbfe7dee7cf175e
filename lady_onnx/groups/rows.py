"""The elements of units as rows."""

from __future__ import annotations

import numpy as np

from .model import Slot


def take_rows(array: np.ndarray, slot: Slot) -> np.ndarray:
    """The elements of every unit in a slot, [units, elements]."""
    for axis, positions in slot.within:
        array = array.take(positions, axis)
    return np.moveaxis(array, slot.axis, 0)[slot.index].reshape(len(slot.index), -1)
