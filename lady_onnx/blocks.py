"""What is true inside one unit of a block is true inside all: groups there are found once, and carried over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .groups import Slot


class Blocks:
    """Accepted groups whose units hold others, and what was accepted inside one of their units.

    `count` is how many classes of labels there are; units are numbers of classes.
    """

    def __init__(self, count: int):
        self.slots: list[dict[str, list[Slot]]] = []
        """By block and weight, the slots of the block."""
        self.block_of, self.row_of, self.place_of = np.full((3, count), -1)
        """By class the block that holds it, in which of its units, and at which place there."""
        self.known: dict[tuple[int, bytes], tuple[int, list[Slot]]] = {}
        """By block and the places of a group inside its units, one unit in which it is known, and its slots there."""

    def again(self, units: np.ndarray) -> list[Slot] | None:
        """The slots of a candidate inside one unit of a block that holds the like of it in another unit; else None.

        The permutations of the block take the one to the other, and map every fact onto itself.
        """
        where = self._inside(units)
        if where is None or where[::2] not in self.known:
            return None
        block, here, place = where
        there, slots = self.known[block, place]
        moved = [carried(s, self.slots[block].get(s.initializer, []), there, here) for s in slots]
        return [s for s in moved if s] if all(moved) else None

    def accepted(self, units: np.ndarray, tables: Sequence[np.ndarray], slots: list[Slot]) -> None:
        """Remembers an accepted group: `tables` are the classes below its units, [units, classes], one a kind of unit."""
        where = self._inside(units)
        if where is not None:
            self.known.setdefault(where[::2], (where[1], slots))
        if len(tables) == 1 and tables[0].shape[1] > 1:
            self.block_of[tables[0]] = len(self.slots)
            self.row_of[tables[0]] = np.arange(units.size)[:, None]
            self.place_of[tables[0]] = np.arange(tables[0].shape[1])
            own: dict[str, list[Slot]] = {}
            for slot in slots:
                own.setdefault(slot.initializer, []).append(slot)
            self.slots.append(own)

    def _inside(self, units: np.ndarray) -> tuple[int, int, bytes] | None:
        """The block, its unit, and the places in it, of units that lie in one; else None."""
        block, row = self.block_of[units], self.row_of[units]
        if block[0] < 0 or (block != block[0]).any() or (row != row[0]).any():
            return None
        return int(block[0]), int(row[0]), self.place_of[units].tobytes()


def carried(slot: Slot, block: Sequence[Slot], there: int, here: int) -> Slot | None:
    """A slot inside one unit of a block, as it lies in another; None where that is not plain. `block`: its slots there."""
    axes = {b.axis: b.index for b in block}
    if len(axes) < len(block) or any(b.within for b in block):
        return None
    moved = {}
    for axis, places in ((slot.axis, slot.index), *slot.within):
        if axis in axes:
            source, target = axes[axis][there], axes[axis][here]
            found = np.full(max(int(source.max()), int(places.max())) + 1, -1)
            found[source] = target
            new = found[places]
            if new.min() >= 0:
                places = new
            elif new.max() >= 0:
                return None
        moved[axis] = places
    return Slot(slot.initializer, slot.axis, moved[slot.axis], tuple((a, np.sort(moved[a])) for a, _ in slot.within))
