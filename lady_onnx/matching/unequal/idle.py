"""Finds extra units that the function does not need, and takes them out.

Such a unit's outgoing weights are zero, or cancel among units that compute the same. It leaves the
function as it is: obfuscation (Yan et al. 2023, neural structural obfuscation). Units are taken to
compute the same where their incoming weights are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...groups.model import Group, Slot
from ...groups.permutations import Arrays, Nesting
from ...groups.rows import take_rows
from ..matches import Match
from .extension import Extended

MAX_LEFT_SHARE = 1e-5
"""Outgoing weights cancel if no larger share is left of what units usually pass on."""
MIN_ROW_SIZE = 1e-300
"""Stands for the size of a row of zeros: less than that of any row in single precision."""


@dataclass(frozen=True)
class _Roles:
    """The slots of a group: those that make its units, and those that read them."""

    made: list[Slot]
    read: list[Slot]


def remove_idle_units(
    both: Extended,
    matches: Mapping[str, Match],
    extra: Sequence[tuple[str, int]],
    incoming: Mapping[str, Sequence[Slot]],
    arrays: dict[str, np.ndarray],
) -> list[tuple[str, int]]:
    """Take the extra units that the function does not need out of `arrays`, in place.

    What reads such a unit is added to what reads another one that computes the same.

    Args:
        both: the models, brought to one size.
        matches: by group id where units lie.
        extra: `(group, unit)` of the units of the suspect without a partner.
        incoming: by group id, the slots whose rows make the group's units.
        arrays: the suspect's weights with its units in place, float64 where they are numbers.

    Returns:
        `(group, unit)` of the units that were taken out, in ascending order.
    """
    family = Nesting(both.groups)
    waiting: dict[str, list[int]] = {}
    for name, unit in extra:
        waiting.setdefault(name, []).append(unit)
    found: list[tuple[str, int]] = []
    has_changed = True
    # What a unit reads from idle units is zero once these are taken out. Then it may compute the
    # same as another unit, and be idle, too: all groups are gone through again.
    while has_changed:
        has_changed = False
        for name, units in waiting.items():
            group = family.groups[name]
            roles = _find_roles(family, group, incoming)
            if roles is None:
                continue
            # Arrays have units in the reference's order; `extra` counts those of the suspect.
            places = np.argsort(matches[name].permutation)
            idle = _silence_units(group, roles, places[units], both.reference, arrays)
            gone = [unit for unit, is_idle in zip(units, idle, strict=True) if is_idle]
            found += [(name, unit) for unit in gone]
            waiting[name] = [unit for unit in units if unit not in gone]
            has_changed |= bool(gone)
    return sorted(found)


def _find_roles(
    family: Nesting, group: Group, incoming: Mapping[str, Sequence[Slot]]
) -> _Roles | None:
    """Find what makes a group's units and what reads them; None if that cannot be told."""
    # A unit that holds others is made by whatever makes any of these.
    names = [group.id, *family.inside(group.id, 0)]
    makes = {(s.initializer, s.axis) for n in names for s in incoming.get(n, ())}
    made, read = (
        [s for s in group.slots if ((s.initializer, s.axis) in makes) is own]
        for own in (True, False)
    )
    # Without slots that read units, every unit would look unread.
    return _Roles(made, read) if made and read and not group.parents else None


def _silence_units(
    group: Group,
    roles: _Roles,
    places: Sequence[int] | np.ndarray,
    reference: Arrays,
    arrays: dict[str, np.ndarray],
) -> list[bool]:
    """Take units out, one after the other, if the function does not need them.

    Args:
        group: the units' group.
        roles: what makes its units, and what reads them.
        places: where the units to try lie.
        reference: the weights of the reference.
        arrays: the weights of the suspect, which are changed in place.

    Returns:
        Which of the units were taken out.
    """
    rows = np.concatenate(
        [take_rows(arrays[s.initializer], s).astype(np.float64) for s in roles.made], 1
    )
    sizes = np.maximum(np.linalg.norm(rows, axis=1), MIN_ROW_SIZE)
    silenced = []
    for place in map(int, places):
        same = (rows == rows[place]).all(1)
        same[place] = False
        # Units made of zeros keep nothing: zeros also stand where a model lacks a unit.
        same &= sizes > MIN_ROW_SIZE
        # The reference's own units lie before extra ones, and come first.
        keeper = next((int(p) for p in np.flatnonzero(same)), None)
        if keeper is not None:
            for slot in roles.read:
                front = np.moveaxis(arrays[slot.initializer], slot.axis, 0)
                front[slot.index[keeper]] += front[slot.index[place]]
                front[slot.index[place]] = 0
        is_idle = all(
            _is_unread(arrays[s.initializer], reference[s.initializer], s, place, sizes)
            for s in roles.read
        )
        if is_idle:
            for slot in group.slots:
                np.moveaxis(arrays[slot.initializer], slot.axis, 0)[slot.index[place]] = 0
            rows[place] = 0
            sizes[place] = MIN_ROW_SIZE
        silenced.append(is_idle)
    return silenced


def _is_unread(
    array: np.ndarray, reference: np.ndarray, slot: Slot, place: int, sizes: np.ndarray
) -> bool:
    """Return whether a unit passes on nothing, beside what units of the reference do.

    A unit passes on its own size times what reads it. How an activation grows is not known: a unit
    that is larger than any of the reference's has to be read by zeros.

    Args:
        array: the suspect's weight that reads units.
        reference: the reference's.
        slot: where the weight reads them.
        place: the unit's place.
        sizes: float64 [units]: the norms of the rows that make units.
    """
    # The median unit says what is usual: single large ones hide nothing.
    reading = np.abs(take_rows(reference, slot)).max(1, initial=0)
    usual = reading * sizes
    own, usual = sizes[reading > 0], usual[usual > MIN_ROW_SIZE]
    row = float(np.abs(take_rows(array, slot)[place]).max(initial=0))
    return not row or (
        usual.size > 0
        and sizes[place] <= own.max()
        and row * float(sizes[place]) <= MAX_LEFT_SHARE * float(np.median(usual))
    )
