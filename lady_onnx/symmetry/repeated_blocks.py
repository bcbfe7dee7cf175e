"""Repeated blocks: a group found inside one unit of a block is carried over to all its units.

A *block* is an accepted group whose units hold others, such as the heads of an attention. The
permutations of the block take each unit to every other, and map every fact onto itself. So what is
true inside one unit is true inside all, and candidates there are examined once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..groups.model import Slot

BlockPlace = tuple[int, bytes]
"""A block, and the places of a group inside its units."""


class RepeatedBlocks:
    """Accepted blocks, and what was accepted inside one of their units."""

    def __init__(self, class_count: int):
        """Start without blocks; units are numbers of classes, of which there are `class_count`."""
        # by block its number of units and, by weight, its slots
        self._slots: list[tuple[int, dict[str, list[Slot]]]] = []
        # by class the block that holds it, in which of its units, and at which place there
        self._block_of, self._row_of, self._place_of = np.full((3, class_count), -1)
        # one unit in which a group is known, and its slots there
        self._known: dict[BlockPlace, tuple[int, list[Slot]]] = {}
        # the slots in every unit, None where they cannot be told; made when first asked for
        self._everywhere: dict[BlockPlace, list[list[Slot]] | None] = {}

    def recall_slots(self, units: np.ndarray) -> list[Slot] | None:
        """Recall the slots of a candidate in one unit of a block that holds the like in another.

        Args:
            units: int64 [units], the classes that are the candidate's units.

        Returns:
            The slots; None where no such group is known, or where it cannot be carried over.
        """
        where = self._find_place(units)
        if where is None or where[::2] not in self._known:
            return None
        block, row, place = where
        if (block, place) not in self._everywhere:
            self._everywhere[block, place] = self._carry_over(block, place)
        rows = self._everywhere[block, place]
        return rows[row] if rows else None

    def remember_group(
        self, units: np.ndarray, tables: Sequence[np.ndarray], slots: list[Slot]
    ) -> None:
        """Remember an accepted group, and that it is a block if its units hold others.

        Args:
            units: int64 [units], the classes that are the group's units.
            tables: for each layer int64 [units, classes], the classes below each unit.
            slots: the group's slots.
        """
        where = self._find_place(units)
        if where is not None:
            self._known.setdefault(where[::2], (where[1], slots))
        # a class in several layers lies in two units, and has no one place in a block
        if len(tables) == 1 and tables[0].shape[1] > 1:
            self._block_of[tables[0]] = len(self._slots)
            self._row_of[tables[0]] = np.arange(units.size)[:, None]
            self._place_of[tables[0]] = np.arange(tables[0].shape[1])
            own: dict[str, list[Slot]] = {}
            for slot in slots:
                own.setdefault(slot.initializer, []).append(slot)
            self._slots.append((units.size, own))

    def _carry_over(self, block: int, place: bytes) -> list[list[Slot]] | None:
        """Carry the group that is known at a place in one unit of a block to all its units."""
        there, slots = self._known[block, place]
        count, own = self._slots[block]
        moved = [carry_slot(s, own.get(s.initializer, []), there, count) for s in slots]
        whole = [m for m in moved if m is not None]
        return [list(r) for r in zip(*whole, strict=True)] if len(whole) == len(moved) else None

    def _find_place(self, units: np.ndarray) -> tuple[int, int, bytes] | None:
        """Find the block, its unit and the places there of units; None if no one unit has all."""
        block, row = self._block_of.take(units).tolist(), self._row_of.take(units).tolist()
        if block[0] < 0 or block.count(block[0]) < len(block) or row.count(row[0]) < len(row):
            return None
        return block[0], row[0], self._place_of.take(units).tobytes()


def carry_slot(slot: Slot, block: Sequence[Slot], there: int, count: int) -> list[Slot] | None:
    """Carry a slot inside one unit of a block to every unit.

    Args:
        slot: the slot.
        block: the block's slots in the same weight.
        there: the unit of the block that the slot lies in.
        count: how many units the block has.

    Returns:
        One slot for each unit. None where the block lies twice on one axis, is itself confined
        along another, or holds only some of the slot's positions.
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
            # all of its positions are the unit's own, or none is and it is the same in every unit
            if inside.min() >= 0:
                moved[axis] = axes[axis][:, inside]
            elif inside.max() >= 0:
                return None
    within = [(a, np.sort(moved[a], 1)) for a, _ in slot.within]
    return [
        Slot(slot.initializer, slot.axis, index, tuple((a, places[row]) for a, places in within))
        for row, index in enumerate(moved[slot.axis])
    ]
