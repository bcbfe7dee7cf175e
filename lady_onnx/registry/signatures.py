"""Signatures of units: vectors that move with the units, and that alterations change little.

A signature says how a unit is tied to positions whose order is known, such as the features of an
input or the words of a vocabulary: as if numbers drawn by chance were laid there and sent through
the weights alone. The units of one group get theirs from weights whose other axes are known, and
make further axes known. What is done to the order, scale or sign of other units cancels on the way.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays
from ..numerics import is_float_array
from .signs import SignedArrays

WIDTH = 32
"""The length of a signature."""
MAX_BALANCING_ROUNDS = 100
BALANCED = 1e-4
"""Factors that change by less are found."""


@dataclass(frozen=True)
class Family:
    """Units that are told by the same positions of the same weights.

    Attributes:
        groups: one group, or all of its kind that lie inside the units of another, such as the
            dimensions inside each head.
        units: their places in the table of signatures, int64 [units].
    """

    groups: tuple[Group, ...]
    units: np.ndarray


@dataclass(frozen=True)
class _Block:
    """A weight, or a part of it, where each position along an axis is of one unit or of none.

    Attributes:
        weight: the name of the weight.
        kept: for each axis the positions of the part, None where all are of it.
        owners: for each axis the unit of every position, int64 [length]; -1 for none.
        offsets: for each axis the place of every position in its unit, int64 [length].
        scaled: for each axis a number for all positions that have one factor, int64 [length]; -1
            for positions of no unit.
        families: for each axis the numbers of the families that have positions.
    """

    weight: str
    kept: list[np.ndarray] | None
    owners: list[np.ndarray]
    offsets: list[np.ndarray]
    scaled: list[np.ndarray]
    families: list[set[int]]

    def read(self, arrays: Arrays, emphasis: int) -> np.ndarray:
        """Read the part, with all units of one size, and its elements raised to a power."""
        whole = arrays[self.weight]
        part = whole if self.kept is None else whole[np.ix_(*self.kept)]
        return _emphasise(_balance(part.astype(np.float32), self.scaled), emphasis)

    def list_others(self, axis: int) -> set[int]:
        """List the families along the other axes."""
        return set().union(*(f for a, f in enumerate(self.families) if a != axis))

    def frame(self, axis: int) -> np.ndarray:
        """Return signs for the places of positions in their units, float32 [length, WIDTH]."""
        offsets = self.offsets[axis]
        return draw_frame(int(offsets.max()) + 1, is_inside=True)[offsets]


class Signatures:
    """Computes signatures of the units of a model.

    Args:
        groups: the groups, inner ones first.
        arrays: the weights, with signs that are chosen. Signs that nothing ties to each other are
            not added up.
        names: the names of the weights in the order in which the program uses them.

    Attributes:
        families: the units, in families.
    """

    def __init__(self, groups: Sequence[Group], arrays: SignedArrays, names: Sequence[str]):
        self.families: list[Family] = []
        self._start: dict[str, int] = {}
        self._count = self._gather_families(groups)
        self._family = np.zeros(self._count, np.int64)
        for number, family in enumerate(self.families):
            self._family[family.units] = number
        slots: dict[str, list[tuple[Group, Slot]]] = {}
        # outer groups first: inner ones take their positions over
        for group in reversed(groups):
            for slot in group.slots:
                slots.setdefault(slot.initializer, []).append((group, slot))
        self._arrays = arrays
        self._blocks = [
            block
            for name in names
            if name in slots and is_table(arrays[name])
            for block in self._split_weight(name, slots[name])
        ]

    def _gather_families(self, groups: Sequence[Group]) -> int:
        """Gather the families, give every unit a place in the table, and count the units."""
        alike: dict[object, list[Group]] = {}
        for group in groups:
            places = tuple((s.initializer, s.axis) for s in group.slots)
            key = (group.size, places) if group.parents else group.id
            alike.setdefault(key, []).append(group)
        count = 0
        for members in alike.values():
            start = count
            for group in members:
                self._start[group.id] = count
                count += group.size
            self.families.append(Family(tuple(members), np.arange(start, count)))
        return count

    def _split_weight(self, name: str, slots: Sequence[tuple[Group, Slot]]) -> Iterator[_Block]:
        """Split a weight into the parts to which inner groups are confined."""
        regions = {_name_region(s): s.within for _, s in slots if s.within} or {(): ()}
        for region, within in sorted(regions.items()):
            own = [(g, s) for g, s in slots if not s.within or _name_region(s) == region]
            yield self._build_block(name, dict(within), own)

    def _build_block(
        self, name: str, within: dict[int, np.ndarray], slots: Sequence[tuple[Group, Slot]]
    ) -> _Block:
        shape = self._arrays[name].shape
        owners = [np.full(n, -1) for n in shape]
        offsets = [np.zeros(n, np.int64) for n in shape]
        for group, slot in slots:
            units = self._start[group.id] + np.arange(group.size)
            owners[slot.axis][slot.index] = units[:, None]
            offsets[slot.axis][slot.index] = np.arange(slot.index.shape[1])
        kept = None
        if within:
            kept = [within.get(a, np.arange(n)) for a, n in enumerate(shape)]
            owners = [o[k] for o, k in zip(owners, kept, strict=True)]
            offsets = [o[k] for o, k in zip(offsets, kept, strict=True)]
        scaled = list(owners)
        for axis, owner in enumerate(owners):
            parts = self._arrays.parts.get((name, axis))
            if parts is not None and kept is None:
                scaled[axis] = np.where(owner >= 0, owner + self._count * parts, -1)
        families = [set(self._family[o[o >= 0]].tolist()) for o in owners]
        return _Block(name, kept, owners, offsets, scaled, families)

    def compute(self, *, is_reversed: bool, emphasis: int) -> np.ndarray:
        """Compute signatures, each family's from the first weights that can tell it.

        Args:
            is_reversed: whether to start with the last weights of the program.
            emphasis: the power that elements count with.

        Returns:
            float32 [units, WIDTH], of unit mean square or zeros; signs are free, unit by unit.
        """
        table = np.zeros((self._count, WIDTH), np.float32)
        # by family that is told, which of its signs are free
        known: dict[int, set[bytes]] = {}
        order = self._blocks[::-1] if is_reversed else self._blocks
        places: dict[int, list[tuple[int, int]]] = {}
        ready: list[tuple[int, int]] = []
        for number, block in enumerate(order):
            for axis, families in enumerate(block.families):
                for family in families:
                    places.setdefault(family, []).append((number, axis))
                if families and not block.list_others(axis):
                    heapq.heappush(ready, (number, axis))
        while ready:
            first = heapq.heappop(ready)
            new = order[first[0]].families[first[1]] - known.keys()
            tellers: dict[tuple[int, int], set[int]] = {}
            told = {f: self._find_free_signs(order[first[0]].weight, first[1], f) for f in new}
            for family in new:
                for number, axis in places[family][places[family].index(first) :]:
                    # weights that tell the family stand together; later ones take it over
                    if not self._is_told_beside(order[number], axis, known):
                        break
                    if self._find_free_signs(order[number].weight, axis, family) == told[family]:
                        tellers.setdefault((number, axis), set()).add(family)
            for (number, axis), families in tellers.items():
                part = order[number].read(self._arrays, emphasis)
                self._add_signatures(order[number], part, axis, families, table)
            for family in new:
                _make_even(table, self.families[family].units)
            known |= told
            for number in {n for family in new for n, _ in places[family]}:
                for axis, families in enumerate(order[number].families):
                    is_new = bool(families - known.keys())
                    if is_new and self._is_told_beside(order[number], axis, known):
                        heapq.heappush(ready, (number, axis))
        return table

    def _is_told_beside(self, block: _Block, axis: int, known: Mapping[int, set[bytes]]) -> bool:
        """Tell whether all units along the other axes are told, with signs that are tied to these.

        Behind an Abs the sign of a unit is no longer that of the weights before it.
        """
        return all(
            family in known and known[family] == self._find_free_signs(block.weight, a, family)
            for a, families in enumerate(block.families)
            if a != axis
            for family in families
        )

    def _find_free_signs(self, weight: str, axis: int, family: int) -> set[bytes]:
        """Find which signs of a family are free along an axis of a weight."""
        groups = self.families[family].groups
        return {self._arrays.free.get((g.id, weight, axis), b"") for g in groups}

    def _add_signatures(
        self, block: _Block, array: np.ndarray, axis: int, families: set[int], table: np.ndarray
    ) -> None:
        """Add what a block, which was read, tells of some families along an axis."""
        others = np.ones((1, WIDTH), np.float32)
        for a in range(len(block.owners)):
            if a == axis:
                continue
            known = draw_frame(block.owners[a].size)
            owners, is_owned = block.owners[a], block.owners[a] >= 0
            if is_owned.any():
                known[is_owned] = table[owners[is_owned]] * block.frame(a)[is_owned]
            # one row for each combination of positions
            others = np.einsum("iw,jw->ijw", others, known).reshape(-1, WIDTH)
        lines = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        found = (lines @ others) * block.frame(axis)
        for family in families:
            units = self.families[family].units
            owners = block.owners[axis] - units[0]
            is_own = (owners >= 0) & (owners < units.size)
            own = np.zeros((units.size, WIDTH), np.float32)
            np.add.at(own, owners[is_own], found[is_own])
            size = np.sqrt((own**2).mean())
            table[units] += own / (size if size else 1)


def _make_even(table: np.ndarray, units: np.ndarray) -> None:
    """Give all signatures of some units the mean square 1, but for zeros."""
    sizes = np.sqrt((table[units] ** 2).mean(1, keepdims=True))
    table[units] = table[units] / np.where(sizes > 0, sizes, 1)


def draw_frame(length: int, *, is_inside: bool = False) -> np.ndarray:
    """Draw signs for the positions along an axis, the same for all axes of one length.

    Args:
        length: how many positions there are.
        is_inside: whether these are the positions of a unit.

    Returns:
        float32 [length, WIDTH], 1 or -1; all 1 where there is one position.
    """
    if length == 1:
        return np.ones((1, WIDTH), np.float32)
    rng = np.random.default_rng([length, int(is_inside)])
    return (2 * rng.integers(0, 2, (length, WIDTH)) - 1).astype(np.float32)


def is_table(array: np.ndarray) -> bool:
    """Tell whether an array has floats along several axes, so that units along one tell others."""
    return is_float_array(array) and sum(n > 1 for n in array.shape) > 1


def _name_region(slot: Slot) -> tuple[tuple[int, tuple[int, ...]], ...]:
    return tuple((axis, tuple(positions.tolist())) for axis, positions in slot.within)


def _balance(array: np.ndarray, owners: Sequence[np.ndarray]) -> np.ndarray:
    """Multiply units until all along one axis have elements of one mean square, zeros left out.

    So nothing is left of factors of units. Zeros are left out because not all weights with zeros
    can be balanced otherwise (Menon and Schneider 1969): factors then grow for ever, and what they
    are in the end depends on what they were. A table of ones and zeros at the same places shows
    that these sums can be met.

    Source: Sinkhorn and Knopp 1967.

    Args:
        array: float32, changed in place.
        owners: for each axis the unit of every position, -1 for none.
    """
    axes = [a for a, o in enumerate(owners) if (o >= 0).any()]
    others = tuple(a for a in range(array.ndim) if a not in axes)
    for axis in axes:
        # squares of huge and of tiny elements would leave single precision
        along = tuple(a for a in range(array.ndim) if a != axis)
        peaks = _find_peaks(np.abs(array).max(along), owners[axis])
        array /= peaks.reshape([-1 if a == axis else 1 for a in range(array.ndim)])
    squares, counts = (t.sum(others, dtype=np.float32) for t in (np.square(array), array != 0))
    targets = [counts.sum(tuple(k for k in range(len(axes)) if k != n)) for n in range(len(axes))]
    factors = [np.ones(n, np.float32) for n in squares.shape]
    for _ in range(MAX_BALANCING_ROUNDS if len(axes) > 1 else 1):
        change = 0.0
        for number, axis in enumerate(axes):
            line = squares
            for k in reversed(range(len(axes))):
                if k != number:
                    line = np.tensordot(line, factors[k] ** 2, (k, 0))
            new = _invert_sizes(line, targets[number], owners[axis])
            change = max(change, float(np.abs(new / factors[number] - 1).max()))
            factors[number] = new
        if change < BALANCED:
            break
    for axis, factor in zip(axes, factors, strict=True):
        array *= factor.reshape([-1 if a == axis else 1 for a in range(array.ndim)])
    return array


def _find_peaks(line: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return for each position the largest size of its unit, 1 where it has none or is zero."""
    is_owned = owners >= 0
    peaks = np.zeros(int(owners.max()) + 1, line.dtype)
    np.maximum.at(peaks, owners[is_owned], line[is_owned])
    found = np.ones_like(line)
    found[is_owned] = np.where(peaks > 0, peaks, 1)[owners[is_owned]]
    return found


def _invert_sizes(squares: np.ndarray, counts: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return for each position the factor that gives the elements of its unit the mean square 1.

    Args:
        squares, counts: for each position the sum of the squares of its elements, and how many
            elements are not zero.
        owners: for each position its unit, -1 for none.
    """
    is_owned = owners >= 0
    units, places = np.unique(owners[is_owned], return_inverse=True)
    sums, many = (np.bincount(places, t[is_owned], units.size) for t in (squares, counts))
    factors = np.ones(owners.size, np.float32)
    factors[is_owned] = np.sqrt(np.divide(many, sums, where=sums > 0, out=np.ones_like(sums)))[
        places
    ]
    return factors


def _emphasise(array: np.ndarray, power: int) -> np.ndarray:
    """Raise elements to a power, in place; their signs stay."""
    if power > 1:
        array *= np.abs(array) ** (power - 1)
    return array
