"""Finds the groups whose units any invertible map may mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...groups.model import Group, Slot
from ...groups.scaling import Scaling


@dataclass(frozen=True)
class StraightGroup:
    """A group whose units any invertible map A may mix.

    Attributes:
        group: The group's id.
        made: The slots that the map multiplies by A.
        read: The slots that it multiplies by the inverse of A's transpose.
    """

    group: str
    made: tuple[Slot, ...]
    read: tuple[Slot, ...]


def find_straight_groups(
    groups: Sequence[Group], scalings: Mapping[str, Scaling]
) -> list[StraightGroup]:
    """Find the groups whose units may be mixed.

    These are the groups that any factor passes, and that meet nothing but sums.

    Args:
        groups: the groups.
        scalings: by group id the factors that its units may have.
    """
    found = []
    for group in groups:
        s = scalings.get(group.id)
        # Offsets are those of variances and of reflected biases, neither of which a map passes.
        if s is None or not s.linear or s.turned or s.offsets.any():
            continue
        # There is one factor of any sign for all slots; some have its inverse. A diagonal map is
        # such a factor, so no map passes where that does not.
        alone = len(s.scales) == len(s.signs) == 1 and bool(s.signs.all())
        up = s.scales[0] > 0 if alone else np.ones(1, bool)
        if up.all() or not up.any() or not np.allclose(np.abs(s.scales[0]), abs(s.scales[0][0])):
            continue
        made, read = (tuple(s.slots[k] for k in np.flatnonzero(up == own)) for own in (True, False))
        # A weight that makes units of the group from others of it would need a map on both sides.
        if not any(a.initializer == b.initializer and a.axis != b.axis for a in made for b in read):
            found.append(StraightGroup(group.id, made, read))
    return found
