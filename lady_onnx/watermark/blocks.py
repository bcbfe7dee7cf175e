"""Symbols in the order of units: which units hold one, and which order stands for which symbol.

Six units of a group, drawn by the key, are a block. Of their 720 orders 256, drawn by the key as
well, stand for the symbols of a byte; any other order is read as lost. So units
in wrong places cost the symbols of their blocks, and not the group.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from ..groups.model import Group
from .secrets.keys import Key

BLOCK_UNITS = 6
"""The number of units in a block. Five have 120 orders, six have 720; a byte needs 256."""
SYMBOLS = 256
"""The number of symbols."""
ORDERS = np.array(list(itertools.permutations(range(BLOCK_UNITS))), np.int64)
"""All orders of a block's units, int64 [720, 6]."""
LOST = -1
"""The symbol of a block whose order stands for none."""


@dataclass(frozen=True)
class Block:
    """Units whose order holds a symbol.

    Attributes:
        group: the id of their group.
        units: int64 [6], the units, in the order of the key.
        meanings: int64 [256], which of `ORDERS` stands for each symbol.
    """

    group: str
    units: np.ndarray
    meanings: np.ndarray

    def write(self, permutation: np.ndarray, symbol: int) -> None:
        """Bring the units into the order of a symbol, in a permutation of their group."""
        permutation[self.units] = self.units[ORDERS[self.meanings[symbol]]]

    def read(self, permutation: np.ndarray) -> int:
        """Return the symbol that the units' order stands for, `LOST` for none."""
        found = permutation[self.units]
        order = (found[:, None] == self.units).argmax(1)
        if not np.array_equal(self.units[order], found):
            return LOST
        number = np.flatnonzero((ORDERS[self.meanings] == order).all(1))
        return int(number[0]) if number.size else LOST


def draw_blocks(groups: Sequence[Group], left_out: Mapping[str, Set[int]], key: Key) -> list[Block]:
    """Draw the blocks of groups.

    Args:
        groups: the groups.
        left_out: by group id the units that are in no block.
        key: the key of the stamp.

    Returns:
        The blocks, in an order that the key draws.
    """
    blocks = []
    for group in groups:
        own = key.derive("group", group.id)
        told = np.setdiff1d(np.arange(group.size), sorted(left_out.get(group.id, ())))
        count = len(told) // BLOCK_UNITS
        drawn = told[own.derive("units").draw_order(len(told))][: count * BLOCK_UNITS]
        for number, units in enumerate(drawn.reshape(count, BLOCK_UNITS)):
            meanings = own.derive("order", str(number)).draw_order(len(ORDERS))[:SYMBOLS]
            blocks.append(Block(group.id, units, meanings))
    return [blocks[k] for k in key.derive("blocks").draw_order(len(blocks)).tolist()]


def count_block_bits(blocks: Sequence[Block]) -> float:
    """Count the symmetry bits of the units in blocks."""
    return len(blocks) * math.log2(len(ORDERS))
