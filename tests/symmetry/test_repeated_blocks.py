"""Groups inside the units of a block, carried from one unit to another."""

from __future__ import annotations

import numpy as np

from lady_onnx.groups.model import Slot
from lady_onnx.symmetry.repeated_blocks import carry_slot


def slot(axis: int, *rows: list[int], within: tuple[tuple[int, np.ndarray], ...] = ()) -> Slot:
    return Slot("w", axis, np.array(rows), within)


BLOCK = slot(0, [0, 1, 2], [3, 4, 5])
"""Two heads of three rows each."""
INNER = slot(0, [0], [2])
"""In the first head the first and the last row."""


def test_a_slot_lies_in_the_other_unit_as_in_the_first() -> None:
    there = carry_slot(INNER, [BLOCK], 0, 2)
    assert there is not None
    assert [s.index.tolist() for s in there] == [[[0], [2]], [[3], [5]]]
    # along another axis nothing moves, but where it is confined to does
    confined = carry_slot(slot(1, [7], [9], within=((0, np.array([2, 0])),)), [BLOCK], 0, 2)
    assert confined is not None
    assert [s.index.tolist() for s in confined] == [[[7], [9]]] * 2
    assert [s.within[0][1].tolist() for s in confined] == [[0, 2], [3, 5]]


def test_what_is_not_plain_is_not_carried() -> None:
    # the block lies twice on one axis, or is confined itself, or holds the group in part
    assert carry_slot(INNER, [BLOCK, slot(0, [6], [7])], 0, 2) is None
    assert (
        carry_slot(INNER, [slot(0, [0, 1, 2], [3, 4, 5], within=((1, np.array([0])),))], 0, 2)
        is None
    )
    assert carry_slot(slot(0, [0], [8]), [BLOCK], 0, 2) is None


def test_what_lies_outside_the_block_stays() -> None:
    outside = slot(0, [8], [9])
    for block in ([BLOCK], []):
        there = carry_slot(outside, block, 1, 2)
        assert there is not None
        assert [s.index.tolist() for s in there] == [[[8], [9]]] * 2
