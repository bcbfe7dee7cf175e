"""Finds exact copies whose units look alike, by joint colour refinement.

Where many units have the same weights up to order, for example weights of two levels, no pairing of
rows finds a permuted copy. Here the units of both models are coloured by what they hold and by the
colours of what that meets, again and again (Weisfeiler and Leman 1968). Ties that remain are broken
by trying.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..groups.model import Group
from ..groups.permutations import Arrays, Nesting, permute_arrays
from ..numerics import hash_elements, mix_bits

MAX_TRIED_COLOURINGS = 20
"""The maximum number of colourings that are tried."""
Colours = dict[str, np.ndarray]
"""By group id the colour of every unit, uint64 [size]: a hash of all that was seen of it.

Sums of hashes do not depend on order, and wrap around at 2**64 as they are meant to.
"""


class ColourRefinement:
    """Matches two models whose weights hold the same values, by a joint colouring of their units.

    If the weights do not hold the same values, no permutation is looked for.

    Args:
        groups: the groups, inner ones first.
        reference, suspect: the weights by the same names.
    """

    def __init__(self, groups: Sequence[Group], reference: Arrays, suspect: Arrays):
        names = sorted({s.initializer for g in groups for s in g.slots})
        family = Nesting(groups)
        self._search: _Search | None = None
        # small weights tell most models apart
        shortest = sorted(names, key=lambda n: reference[n].size)
        if all(_hash_weight(reference[n]) == _hash_weight(suspect[n]) for n in shortest):
            self._search = _Search(
                family, _Model(family, names, reference), _Model(family, names, suspect)
            )
            self._start = {g.id: np.full(g.size, self._search.ours.kind[g.id]) for g in groups}

    def likely(self) -> dict[str, np.ndarray] | None:
        """Return permutations that match colours, or None if the models cannot be equal."""
        return self._search.likely(self._start, dict(self._start)) if self._search else None

    def exact(self) -> dict[str, np.ndarray] | None:
        """Return permutations that make all slots bit-equal, or None if none are found."""
        return self._search.run(self._start, dict(self._start)) if self._search else None


def _hash_weight(array: np.ndarray) -> int:
    """Return a hash of all elements that does not depend on their order."""
    return int(hash_elements(array).sum(dtype=np.uint64))


class _Model:
    """The slots of one model, and what its weights say about the colours of the units in them.

    Attributes:
        family: How the groups lie inside each other.
        arrays: The weights.
        kind: By group id its first colour, the same for groups in one place of different units.
        slots: By weight the groups that touch it, each with its slot.
        fixed: By weight, uint64: the hash of every element, and of its positions along those axes
            along which no group moves it.
        alone: By weight and axis, bool: the elements that one slot alone moves along that axis.
    """

    def __init__(self, family: Nesting, names: Sequence[str], arrays: Arrays):
        self.family = family
        self.arrays = arrays
        self.kind: dict[str, np.uint64] = {}
        # Outer groups first: the kind of an inner group takes in those of its parents.
        for number, group in enumerate(reversed(family.order)):
            self.kind[group.id] = self._kind(group, number)
        self.slots = {
            n: [(g, s) for g in family.order for s in g.slots if s.initializer == n] for n in names
        }
        self.fixed = {n: hash_elements(arrays[n]) for n in names}
        self.alone: dict[tuple[str, int], np.ndarray] = {}
        for name, array in self.fixed.items():
            for axis in range(array.ndim):
                covers = np.zeros(array.shape, np.int8)
                for _, slot in self.slots[name]:
                    if slot.axis == axis:
                        covers[slot.region(array.shape)] += 1
                # What no group moves along an axis keeps its position there, which tells it apart.
                place = mix_bits(
                    mix_bits(axis + 1) + np.arange(array.shape[axis]).astype(np.uint64)
                )
                shape = [-1 if a == axis else 1 for a in range(array.ndim)]
                array += np.where(covers == 0, place.reshape(shape), np.uint64(0))
                self.alone[name, axis] = covers == 1

    def _kind(self, group: Group, number: int) -> np.uint64:
        """Return the colour of a group, the same for groups in its place in other units."""
        if not group.parents:
            return np.uint64(mix_bits(number + 1))
        above = mix_bits(np.array([self.kind[p] for p, _ in group.parents], np.uint64)).cumsum()[-1]
        return np.uint64(mix_bits(above ^ mix_bits(self.family.place(group.id) + (1 << 32))))

    def step(self, colours: Colours) -> Colours:
        """Return every unit's colour mixed with the colours of what its weights meet.

        Every element takes in the colours of all units that it belongs to, and every unit the
        elements that belong to it.
        """
        new = {name: mix_bits(c) for name, c in colours.items()}
        for group in self.family.order:
            for parent, unit in group.parents:
                new[group.id] = new[group.id] + mix_bits(colours[parent][unit])
        for name, slots in self.slots.items():
            frame = self.fixed[name].copy()
            for group, slot in slots:
                region = slot.region(frame.shape)
                side = np.moveaxis(np.zeros(frame[region].shape, np.uint64), slot.axis, 0)
                own = np.repeat(colours[group.id], slot.index.shape[1])
                # Offsets of 1 << 32 and more keep these hashes apart from those of small numbers.
                rank = np.tile(mix_bits(np.arange(slot.index.shape[1]) + (1 << 33)), group.size)
                side += mix_bits(own).reshape(-1, *[1] * (frame.ndim - 1))
                # The place inside its unit tells something unless another group lies along it.
                only = np.moveaxis(self.alone[name, slot.axis][region], slot.axis, 0)
                side += np.where(
                    only, mix_bits(own ^ rank).reshape(-1, *[1] * (frame.ndim - 1)), np.uint64(0)
                )
                frame[region] += np.moveaxis(side, 0, slot.axis)
            # Mixed before rows are summed up: else the sum of a row would not tell which colours
            # met in one element.
            frame = mix_bits(frame)
            for group, slot in slots:
                rows = (
                    np.moveaxis(frame[slot.region(frame.shape)], slot.axis, 0)
                    .reshape(group.size, -1)
                    .sum(1)
                )
                # Which slot it is counts as well: rows of two slots may hold the same values.
                salt = mix_bits(np.frombuffer(f"{name}:{slot.axis}".encode(), np.uint8)).cumsum()[
                    -1
                ]
                new[group.id] = new[group.id] + mix_bits(rows ^ salt)
        return new


class _Search:
    """Looks for permutations by refining colours of both models, and by trying where they tie.

    Attributes:
        family: How the groups lie inside each other.
        ours, theirs: The reference and the suspect.
        left: The number of colourings that may still be tried.
    """

    def __init__(self, family: Nesting, ours: _Model, theirs: _Model):
        self.family, self.ours, self.theirs = family, ours, theirs
        self.left = MAX_TRIED_COLOURINGS

    def _stable(self, ours: Colours, theirs: Colours) -> tuple[Colours, Colours] | None:
        """Refine until no step tells more units apart; None if the models' colours differ."""
        # Units of different colours never get one colour again, but for a collision of hashes. So
        # the number of colours grows until a step tells nothing more apart.
        known = 0
        while True:
            ours, theirs = self.ours.step(ours), self.theirs.step(theirs)
            if _sort_colours(ours).tobytes() != _sort_colours(theirs).tobytes():
                return None
            count = np.unique(_sort_colours(ours)).size
            if count == known:
                return ours, theirs
            known = count

    def likely(self, ours: Colours, theirs: Colours) -> dict[str, np.ndarray] | None:
        """Return the permutations that colours say, units of one colour in their order."""
        colours = self._stable(ours, theirs)
        return self._read(*colours) if colours else None

    def run(self, ours: Colours, theirs: Colours) -> dict[str, np.ndarray] | None:
        """Refine, read off the permutations, and break a tie of colours if these do not fit."""
        if not self.left:
            return None
        self.left -= 1
        colours = self._stable(ours, theirs)
        if colours is None:
            return None
        ours, theirs = colours
        found = self._read(ours, theirs)
        if found is not None and self._fits(found):
            return found
        tie = self._tie(ours)
        if tie is None:
            return None
        # Some unit of the suspect is the copy of this one. Both get a new colour, and if that is
        # wrong the next candidate is tried.
        name, unit, colour = tie
        apart = {**ours, name: ours[name].copy()}
        apart[name][unit] = mix_bits(colour)
        for other, own in theirs.items():
            for candidate in np.flatnonzero(own == colour):
                chosen = {**theirs, other: own.copy()}
                chosen[other][candidate] = mix_bits(colour)
                result = self.run(apart, chosen)
                if result is not None or not self.left:
                    return result
        return None

    @staticmethod
    def _tie(colours: Colours) -> tuple[str, int, np.uint64] | None:
        """Return a unit that shares its colour with as few others as possible; None if none does.

        Returns:
            The group's id, the unit and its colour.
        """
        value, count = np.unique(_sort_colours(colours), return_counts=True)
        if (count == 1).all():
            return None
        colour = value[count > 1][count[count > 1].argmin()]
        return next(
            (name, int(np.flatnonzero(c == colour)[0]), colour)
            for name, c in colours.items()
            if (c == colour).any()
        )

    def _read(self, ours: Colours, theirs: Colours) -> dict[str, np.ndarray] | None:
        """Return the permutations that colours say, or None if groups do not fit.

        Units of one colour stay in their order.
        """
        found: dict[str, np.ndarray] = {}
        where: dict[str, str] = {}
        # Outer groups first: which group of the suspect an inner one is follows from where the
        # units that hold it went.
        for group in reversed(self.family.order):
            here = self.family.moved(
                group.id, lambda g, unit: (where[g], int(found[where[g]][unit]))
            )
            mine, other = (
                np.argsort(ours[group.id], kind="stable"),
                np.argsort(theirs[here], kind="stable"),
            )
            if (ours[group.id][mine] != theirs[here][other]).any():
                return None
            where[group.id] = here
            found[here] = np.empty(group.size, np.int64)
            found[here][mine] = other
        return found

    def _fits(self, found: dict[str, np.ndarray]) -> bool:
        """Tell whether permutations make every weight equal to the reference's, bit for bit."""
        # Colours are hashes, and two of them may be equal by chance: the bytes decide.
        moved = {
            **self.theirs.arrays,
            **permute_arrays(self.theirs.arrays, self.family.order, found),
        }
        return all(
            np.asarray(self.ours.arrays[n]).tobytes() == np.asarray(moved[n]).tobytes()
            for n in self.ours.slots
        )


def _sort_colours(colours: Colours) -> np.ndarray:
    """Return the colours of all units, sorted, uint64 [units of all groups]."""
    return np.sort(np.concatenate([*colours.values(), np.empty(0, np.uint64)]))
