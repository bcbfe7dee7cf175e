"""Keys of units that no order of any group changes, by colour refinement.

The key of a unit is a sum over its elements, so that their order does not matter. Each element
counts with its bits, and with the keys of the units that it belongs to along all axes. Keys are
computed anew until they tell no more units apart.

Source: Weisfeiler and Leman 1968, The reduction of a graph to canonical form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays
from ..numerics import view_bits

Keys = Mapping[str, np.ndarray]
"""By group id, uint64 [size]: the key of every unit."""

_STEP, _FIRST, _SECOND = (
    np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
"""The constants of SplitMix64."""
BLOCK_ELEMENTS = 1 << 20
"""So many elements are hashed at once."""


def mix(numbers: np.ndarray) -> np.ndarray:
    """Scatter numbers over all of uint64; equal ones stay equal.

    Source: Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators.

    >>> mix(np.arange(2, dtype=np.uint64)).tolist()
    [16294208416658607535, 10451216379200822465]
    """
    found = numbers + _STEP
    found ^= found >> np.uint64(30)
    found *= _FIRST
    found ^= found >> np.uint64(27)
    found *= _SECOND
    found ^= found >> np.uint64(31)
    return found


def salt(*numbers: int) -> np.uint64:
    """Return a number for a role, as different roles must not count alike."""
    found = np.zeros(1, np.uint64)
    for number in numbers:
        found = mix(found + np.uint64(number % 2**64))
    return found[0]


@dataclass(frozen=True)
class _Place:
    """A slot of a group.

    Attributes:
        group: the group's id.
        slot: the slot.
        number: the number of the slot among the group's along the same axis of the weight.
        depth: in how many groups, one in the other, the group lies.
    """

    group: str
    slot: Slot
    number: int
    depth: int


class Weights:
    """The weights that groups touch, with all places of groups in each.

    Args:
        groups: the groups.
        arrays: the weights.
        names: the names of weights in an order that all copies have in common.
    """

    def __init__(self, groups: Sequence[Group], arrays: Arrays, names: Sequence[str]):
        self.groups = {g.id: g for g in groups}
        self._arrays = arrays
        places: dict[str, list[_Place]] = {}
        for group in groups:
            depth, seen = self._count_depth(group), Counter[tuple[str, int]]()
            for slot in group.slots:
                # not the number in the group, where slots stand by the names of weights
                axis = slot.initializer, slot.axis
                place = _Place(group.id, slot, seen[axis], depth)
                seen[axis] += 1
                places.setdefault(slot.initializer, []).append(place)
        # outer ones first
        self._places = {n: sorted(places[n], key=lambda p: p.depth) for n in names if n in places}

    def _count_depth(self, group: Group) -> int:
        parents = {g for g, _ in group.parents}
        return 1 + max((self._count_depth(self.groups[p]) for p in parents), default=-1)

    def refine(self, keys: Keys) -> dict[str, np.ndarray]:
        """Compute the keys of all units once more, from those of the units around them."""
        sums = {g: np.zeros(k.size, np.uint64) for g, k in keys.items()}
        for number, (name, places) in enumerate(self._places.items()):
            array = np.asarray(self._arrays[name])
            colours = [_Colours(a, array.shape, places, keys) for a in range(array.ndim)]
            for place, found in zip(places, _sum_elements(array, colours, places), strict=True):
                role = salt(number, place.slot.axis, place.number)
                sums[place.group] += mix(role ^ found)
        return {g: mix(keys[g] + mix(s)) for g, s in sums.items()}

    def hash_in_place(self, keys: Keys) -> dict[str, np.ndarray]:
        """Hash every unit with its elements at the positions where they are.

        Units of one group with the same hash are copies of each other: nothing changes where two of
        them change places.
        """
        sums = {g: np.zeros(k.size, np.uint64) for g, k in keys.items()}
        for number, (name, places) in enumerate(self._places.items()):
            array = np.asarray(self._arrays[name])
            for place in places:
                axis = place.slot.axis
                others = [
                    _Colours(a, array.shape, [], keys) for a in range(array.ndim) if a != axis
                ]
                own = _Colours(axis, array.shape, [place], {place.group: keys[place.group] * 0})
                (found,) = _sum_elements(array, [*others, own], [place])
                sums[place.group] += mix(salt(number, axis, place.number) ^ found)
        return sums


class _Colours:
    """What the positions along one axis of a weight add to the hash of an element.

    These are the keys of the units that have a position, and the smallest position that it can take
    the place of, whatever the order of units.
    """

    def __init__(self, axis: int, shape: Sequence[int], places: Sequence[_Place], keys: Keys):
        self._axis = axis
        own = [p for p in places if p.slot.axis == axis]
        line = [-1 if a == axis else 1 for a in range(len(shape))]
        # one number a position, unless it hangs on the place along other axes
        is_plain = not any(p.slot.within for p in own)
        size = [n if a == axis or not is_plain else 1 for a, n in enumerate(shape)]
        units = np.zeros(size, np.uint64)
        for place in own:
            slot = place.slot
            grid = replace(slot, within=()).region(size) if is_plain else slot.region(size)
            known = mix(keys[place.group] + salt(axis, place.depth))
            units[grid] += np.repeat(known, slot.index.shape[1]).reshape(line)
        orbits = mix(_find_orbits(shape[axis], own).astype(np.uint64) + salt(axis))
        self._colours = mix(orbits.reshape(line) + units)

    def add_to(self, elements: np.ndarray, start: int) -> None:
        """Add the colours to the elements of a block that starts at a row, in place."""
        colours = self._colours
        if self._axis == 0 or len(colours) > 1:
            colours = colours[start : start + len(elements)]
        elements += colours


def _find_orbits(length: int, places: Sequence[_Place]) -> np.ndarray:
    """Find for every position the smallest one that units bring to its place, int64 [length]."""
    orbits = np.arange(length)
    while True:
        before = orbits.copy()
        for place in places:
            index = place.slot.index
            orbits[index] = orbits[index].min(0)
        if np.array_equal(before, orbits):
            return orbits


def _sum_elements(
    array: np.ndarray, colours: Sequence[_Colours], places: Sequence[_Place]
) -> list[np.ndarray]:
    """Sum the hashes of every unit's elements in a weight: for each place, uint64 [units]."""
    sums = [np.zeros(len(p.slot.index), np.uint64) for p in places]
    for start, block in _list_blocks(array):
        elements = _hash_bits(block)
        for colour in colours:
            colour.add_to(elements, start)
        elements = mix(elements)
        for total, place in zip(sums, places, strict=True):
            total += _sum_units(elements, start, place.slot)
    return sums


def _hash_bits(block: np.ndarray) -> np.ndarray:
    """Return the bits of every element, mixed, uint64 of the block's shape."""
    bits = view_bits(np.ascontiguousarray(block))
    if bits.dtype.kind not in "iub":
        # types without bits of a fixed width: by what they say
        return np.array(
            [salt(*str(v).encode()) for v in block.ravel().tolist()], np.uint64
        ).reshape(block.shape)
    return mix(bits.astype(np.uint64))


def _list_blocks(array: np.ndarray) -> Sequence[tuple[int, np.ndarray]]:
    """List parts of a weight along its first axis, each with its first row."""
    step = max(1, BLOCK_ELEMENTS * len(array) // max(array.size, 1))
    return [(start, array[start : start + step]) for start in range(0, len(array), step)]


def _sum_units(elements: np.ndarray, start: int, slot: Slot) -> np.ndarray:
    """Sum what a block holds of every unit, uint64 [units]."""
    rows = range(start, start + len(elements))
    part = elements
    for axis, positions in slot.within:
        kept = positions
        if axis == 0:
            kept = positions[(positions >= rows.start) & (positions < rows.stop)] - start
        part = part.take(kept, axis)
    along = tuple(a for a in range(part.ndim) if a != slot.axis)
    line = part.sum(along, dtype=np.uint64)
    if slot.axis:
        found: np.ndarray = line[slot.index].sum(1, dtype=np.uint64)
        return found
    is_here = (slot.index >= rows.start) & (slot.index < rows.stop)
    taken = np.where(is_here, line[np.where(is_here, slot.index - start, 0)], np.uint64(0))
    total: np.ndarray = taken.sum(1, dtype=np.uint64)
    return total
