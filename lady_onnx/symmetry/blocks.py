"""What is true inside one unit of a block is true inside all: groups there are found once, and carried over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..groups.model import Slot


class Blocks:
    """Accepted groups whose units hold others, and what was accepted inside one of their units.

    `count` is how many classes of labels there are; units are numbers of classes.
    """

    def __init__(self, count: int):
        self.slots: list[tuple[int, dict[str, list[Slot]]]] = []
        """By block its number of units and, by weight, its slots."""
        self.block_of, self.row_of, self.place_of = np.full((3, count), -1)
        """By class the block that holds it, in which of its units, and at which place there."""
        self.known: dict[tuple[int, bytes], tuple[int, list[Slot]]] = {}
        """By block and the places of a group inside its units, one unit in which it is known, and its slots there."""
        self.everywhere: dict[tuple[int, bytes], list[list[Slot]] | None] = {}
        """By the same its slots in every unit, None where they cannot be told; made when they are first asked for."""

    def again(self, units: np.ndarray) -> list[Slot] | None:
        """The slots of a candidate inside one unit of a block that holds the like of it in another unit; else None.

        The permutations of the block take the one to the other, and map every fact onto itself.
        """
        where = self._inside(units)
        if where is None or where[::2] not in self.known:
            return None
        block, row, place = where
        if (block, place) not in self.everywhere:
            there, slots = self.known[block, place]
            count, own = self.slots[block]
            moved = [carry_slot(s, own.get(s.initializer, []), there, count) for s in slots]
            whole = [m for m in moved if m is not None]
            self.everywhere[block, place] = (
                [list(r) for r in zip(*whole, strict=True)] if len(whole) == len(moved) else None
            )
        rows = self.everywhere[block, place]
        return rows[row] if rows else None

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
            self.slots.append((units.size, own))

    def _inside(self, units: np.ndarray) -> tuple[int, int, bytes] | None:
        """The block, its unit, and the places in it, of units that lie in one; else None."""
        block, row = self.block_of.take(units).tolist(), self.row_of.take(units).tolist()
        if block[0] < 0 or block.count(block[0]) < len(block) or row.count(row[0]) < len(row):
            return None
        return block[0], row[0], self.place_of.take(units).tobytes()


def carry_slot(slot: Slot, block: Sequence[Slot], there: int, count: int) -> list[Slot] | None:
    """A slot inside the unit `there` of a block of `count` units, as it lies in every one; None where that is not plain.

    `block` are the block's slots in the same weight.
    """
    axes = {b.axis: b.index for b in block}
    if len(axes) < len(block) or any(b.within for b in block):
        return None
    moved = {}
    for axis, places in ((slot.axis, slot.index), *slot.within):
        moved[axis] = np.broadcast_to(places, (count, *places.shape))
        if axis in axes:
            own = axes[axis][there]
            rank = np.full(max(int(own.max()), int(places.max())) + 1, -1)
            rank[own] = np.arange(own.size)
            inside = rank[places]
            if inside.min() >= 0:
                moved[axis] = axes[axis][:, inside]
            elif inside.max() >= 0:
                return None
    within = [(a, np.sort(moved[a], 1)) for a, _ in slot.within]
    return [
        Slot(slot.initializer, slot.axis, index, tuple((a, places[row]) for a, places in within))
        for row, index in enumerate(moved[slot.axis])
    ]
