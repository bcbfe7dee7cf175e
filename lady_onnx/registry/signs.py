"""One choice of signs for the units of a model, where several leave its function as it is.

A unit may have other signs in several weights at a time. Which ones go together, `Scaling` says. Of
these a choice is made by the signs that the smallest weights have, such as gains and the kernels of
depthwise convolutions: their largest element is not negative then. What is left free changes the
sign of all that is said of a unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np

from ..groups.model import Slot
from ..groups.permutations import Arrays
from ..groups.scaling import Scaling, locate_units


class SignedArrays(Mapping[str, np.ndarray]):
    """The weights of a model with signs that are chosen; each is made when it is asked for.

    Args:
        arrays: the weights.
        scalings: by group the factors that its units may have.

    Attributes:
        free: by group, weight and axis which of the signs that are left free change there, as bits.
            Where two places have the same, the signs of a unit change in both or in none.
        parts: by weight and axis, where the positions of a unit may have several factors, which
            positions have one: int64 [length].
    """

    def __init__(self, arrays: Arrays, scalings: Mapping[str, Scaling]):
        self._arrays = arrays
        self._flips: dict[str, list[tuple[Slot, np.ndarray]]] = {}
        axes: dict[str, set[int]] = {}
        for scaling in scalings.values():
            for slot in scaling.slots:
                axes.setdefault(slot.initializer, set()).add(slot.axis)
        self.parts: dict[tuple[str, int], np.ndarray] = {}
        for scaling in scalings.values():
            places = Counter((s.initializer, s.axis) for s in scaling.slots if not s.within)
            for number, slot in enumerate(scaling.slots):
                where = slot.initializer, slot.axis
                if places[where] > 1:
                    length = arrays[slot.initializer].shape[slot.axis]
                    self.parts.setdefault(where, np.zeros(length, np.int64))[slot.index] = number
        # where units meet those of another group, signs are those of both
        shared = {name for name, own in axes.items() if len(own) > 1}
        self.free: dict[tuple[str, str, int], bytes] = {}
        for scaling in scalings.values():
            chosen, left = _choose_signs(arrays, scaling, shared)
            for slot, signs, bits in zip(scaling.slots, chosen, left.T, strict=True):
                if bits.any():
                    place = scaling.group, slot.initializer, slot.axis
                    self.free[place] = self.free.get(place, b"") + bits.tobytes()
                if (signs < 0).any():
                    self._flips.setdefault(slot.initializer, []).append((slot, signs))

    def __getitem__(self, name: str) -> np.ndarray:
        array = self._arrays[name]
        if name not in self._flips:
            return array
        array = np.array(array)
        for slot, signs in self._flips[name]:
            line = [-1 if a == slot.axis else 1 for a in range(array.ndim)]
            where = np.ix_(*locate_units(slot, array.shape))
            by = np.repeat(signs, slot.index.shape[1]).reshape(line)
            array[where] = (array[where] * by).astype(array.dtype)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _choose_signs(
    arrays: Arrays, scaling: Scaling, shared: Set[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the signs of a group's units.

    Returns:
        float64 [slots, units], 1, or -1 where a sign changes; and bool [flips, slots], what is left
        free.
    """
    units = len(scaling.slots[0].index) if scaling.slots else 0
    signs = np.ones((len(scaling.slots), units))
    if not scaling.signs.size:
        return signs, scaling.signs
    # the weights whose signs tell most surely: no zeros, and few elements
    sizes = {
        k: _count_elements(arrays[s.initializer].shape, s)
        for k, s in enumerate(scaling.slots)
        if s.initializer not in shared
    }
    largest = {k: _find_largest(arrays, scaling.slots[k]) for k in sizes}
    order = sorted(sizes, key=lambda k: (not largest[k].all(), sizes[k]))
    rows, pivots = _reduce_rows(scaling.signs, order)
    for row, pivot in pivots.items():
        signs[np.ix_(rows[row], largest[pivot] < 0)] *= -1
    left = [r for r in range(len(rows)) if r not in pivots]
    return signs, rows[left]


def _count_elements(shape: tuple[int, ...], slot: Slot) -> int:
    """Return how many elements a unit has in a slot."""
    lengths = {slot.axis: slot.index.shape[1], **{a: p.size for a, p in slot.within}}
    return int(np.prod([lengths.get(a, n) for a, n in enumerate(shape)]))


def _reduce_rows(rows: np.ndarray, columns: Sequence[int]) -> tuple[np.ndarray, dict[int, int]]:
    """Reduce a basis modulo two, until columns are set in one row alone.

    Args:
        rows: bool [rows, columns], independent.
        columns: the columns in the order in which they are taken.

    Returns:
        The rows, and by row the column that is set in no other one.
    """
    rows = rows.copy()
    left = list(range(len(rows)))
    pivots: dict[int, int] = {}
    for column in columns:
        here = [r for r in left if rows[r, column]]
        if not here:
            continue
        own = here[0]
        left.remove(own)
        pivots[own] = column
        for other in range(len(rows)):
            if other != own and rows[other, column]:
                rows[other] ^= rows[own]
    return rows, pivots


def _find_largest(arrays: Arrays, slot: Slot) -> np.ndarray:
    """Find the largest element, by its size, of each unit in a slot, float64 [units]."""
    array = arrays[slot.initializer]
    units = len(slot.index)
    part = array[np.ix_(*slot.places_of(array.shape, np.arange(units)))]
    lines = np.moveaxis(part, slot.axis, 0).reshape(units, -1).astype(np.float64)
    found: np.ndarray = lines[np.arange(units), np.abs(lines).argmax(1)]
    return found
