"""Takes the elements of units out of weights as rows of numbers, and puts them back.

A row has the positions of a unit first, and the other axes of the weight, in their order, behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from ..numerics import BLOCK_ELEMENTS
from .model import Slot
from .permutations import Arrays

Thin = Mapping[int, slice]
"""By axis the positions that are taken of a weight, where some of its elements say enough."""
NO_THINNING: Thin = MappingProxyType({})


def take_rows(array: np.ndarray, slot: Slot, thin: Thin = NO_THINNING) -> np.ndarray:
    """Return the elements of every unit in a slot, [units, elements], in the weight's own type.

    Args:
        array: the weight.
        slot: the slot.
        thin: by other axes the positions that are taken; all by default.
    """
    return lay_rows(take_elements(array, slot, {}, thin), slot)


def lay_rows(elements: np.ndarray, slot: Slot) -> np.ndarray:
    """Return elements of a slot, as `take_elements` gives them, as rows [units, elements]."""
    front = np.moveaxis(elements, slot.axis, 0)
    return front.reshape(len(slot.index), slot.index.shape[1] * math.prod(front.shape[1:]))


@dataclass(frozen=True)
class SlotPart:
    """A part of the elements of a slot: all elements of some units, or some of all units.

    Attributes:
        slot: The slot.
        units: Which units.
        thin: Which positions along an axis that the slot leaves whole.
    """

    slot: Slot
    units: slice
    thin: Thin

    def take_elements(self, array: np.ndarray) -> np.ndarray:
        """Return the part's elements, as `take_elements` does."""
        slot = replace(self.slot, index=self.slot.index[self.units])
        return take_elements(array, slot, {}, self.thin)


def take_elements(
    array: np.ndarray, slot: Slot, taken: Mapping[int, np.ndarray], thin: Thin
) -> np.ndarray:
    """Return the elements of a slot, of the weight's axes.

    Along the slot's axis lie the positions of unit 0, then those of unit 1, and so on.

    Args:
        array: the weight.
        slot: the slot.
        taken: by axis the positions to take along it, in place of those of `slot.within`.
        thin: by other axes the positions that are taken.
    """
    return take_positions(array, list_positions(slot, taken), thin)


def list_positions(slot: Slot, taken: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """List by axis the positions that `take_elements` takes."""
    return {**dict(slot.within), **taken, slot.axis: slot.index.ravel()}


def take_positions(
    array: np.ndarray, positions: Mapping[int, np.ndarray], thin: Thin
) -> np.ndarray:
    """Return the elements of a weight at some positions along axes; thin the others, or not."""
    array = array[tuple(thin.get(a, slice(None)) for a in range(array.ndim))]
    for axis, places in positions.items():
        is_whole = places.size == array.shape[axis]
        if not is_whole or (places != np.arange(places.size)).any():
            array = array.take(places, axis)
    return array


def split_slot(shape: Sequence[int], slot: Slot) -> Iterator[SlotPart]:
    """Split the elements of a slot into parts that lie together in memory.

    Args:
        shape: the weight's shape.
        slot: the slot.
    """
    size, free = len(slot.index), list_free_axes(shape, slot)
    total = max(count_row_elements(shape, slot), 1)
    cut = min(free, default=slot.axis)
    if slot.axis <= cut:
        many = max(BLOCK_ELEMENTS // total, 1)
        for start in range(0, size, many):
            yield SlotPart(slot, slice(start, start + many), {})
        return
    many = max(BLOCK_ELEMENTS * shape[cut] // (total * size), 1)
    for start in range(0, shape[cut], many):
        yield SlotPart(slot, slice(None), {cut: slice(start, start + many)})


def count_row_elements(shape: Sequence[int], slot: Slot, thin: Thin = NO_THINNING) -> int:
    """Count the elements of a unit in a slot of a weight of `shape`; see `take_rows`."""
    within = dict(slot.within)
    sizes = (
        len(within[a]) if a in within else len(range(n)[thin.get(a, slice(None))])
        for a, n in enumerate(shape)
        if a != slot.axis
    )
    return slot.index.shape[1] * math.prod(sizes)


def list_free_axes(shape: Sequence[int], slot: Slot) -> list[int]:
    """Return the axes of a weight along which a slot has all positions."""
    return [a for a in range(len(shape)) if a != slot.axis and a not in dict(slot.within)]


def thin_slot(shape: Sequence[int], slot: Slot, step: int, start: int = 0) -> Thin:
    """Return every so many positions along the longest axis of a weight that is free for that.

    Args:
        shape: the weight's shape.
        slot: the slot.
        step: one in so many positions is taken, and one at least.
        start: the first of these, less than `step`.
    """
    free = list_free_axes(shape, slot)
    if not free:
        return {}
    longest = max(free, key=lambda a: shape[a])
    step = min(step, max(shape[longest], 1))
    return {longest: slice(start % step, None, step)}


def multiply_lines(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    """Return the sums of the products of two arrays at each position along an axis, float64."""
    shape = (math.prod(a.shape[:axis]), a.shape[axis], math.prod(a.shape[axis + 1 :]))
    x, y = (z.reshape(shape) for z in (a, b))
    if shape[2] == 1:
        # the loop over two axes takes a third of the time of that over three
        return np.einsum("ij,ij->j", x[..., 0], y[..., 0]).astype(np.float64)
    return np.einsum("ijk,ijk->j", x, y).astype(np.float64)


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
