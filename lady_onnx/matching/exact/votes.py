"""Lets the weights of a partly altered suspect vote on the order of its units.

A weight in which two units were swapped is an exact copy, of another order. It must not be believed
against all the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...groups.model import Group, Slot
from ...groups.permutations import Arrays
from ...numerics import is_same


@dataclass(frozen=True)
class Votes:
    """What the weights of a suspect say of an order.

    Attributes:
        sure: The ids of the groups of which every unit is where most weights say.
        outvoted: The weights that say of some unit what most others do not.
    """

    sure: frozenset[str]
    outvoted: frozenset[str]


def count_votes(groups: Sequence[Group], reference: Arrays, placed: Arrays) -> Votes:
    """Count which weights agree with an order, unit by unit.

    A weight has a vote if at least half of the units are equal in it.

    Args:
        groups: the groups.
        reference: the weights of the reference.
        placed: those of the suspect, the units in the order that was found.
    """
    lines: dict[tuple[str, int], np.ndarray] = {}

    def find_equal_units(slot: Slot) -> np.ndarray:
        key = slot.initializer, slot.axis
        if key not in lines:
            x, y = reference[slot.initializer], placed[slot.initializer]
            others = tuple(a for a in range(x.ndim) if a != slot.axis)
            same = is_same(x, y)
            lines[key] = np.ones(x.shape[slot.axis], bool) if same else (x == y).all(others)
        return lines[key][slot.index].all(1)

    sure: set[str] = set()
    outvoted: set[str] = set()
    for group in groups:
        equal = np.array([find_equal_units(s) for s in group.slots])
        has_vote = 2 * equal.sum(1) >= group.size
        yes, count = equal[has_vote].sum(0), int(has_vote.sum())
        if (2 * yes > count).all():
            sure.add(group.id)
        losers = has_vote & equal[:, 2 * yes < count].any(1)
        outvoted.update(
            s.initializer for s, is_out in zip(group.slots, losers, strict=True) if is_out
        )
    return Votes(frozenset(sure), frozenset(outvoted))
