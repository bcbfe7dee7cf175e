"""Finds extra units that the function does not need, and takes them out.

Such a unit's outgoing weights are zero, or cancel among units that compute the same. It leaves the
function as it is: obfuscation (Yan et al. 2023, neural structural obfuscation). Units are taken to
compute the same where their incoming weights are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from ...groups.model import Group, Slot
from ...groups.permutations import Arrays, Nesting
from ...groups.rows import take_rows
from ...numerics import is_float_array, machine_epsilon
from ..matches import Match
from .extension import Extended

MAX_LEFT_SHARE = 1e-5
"""Outgoing weights cancel if no larger share is left of what units usually pass on."""
MAX_LEFT_ROUNDINGS = 2.0
"""Nor may more be left than so many roundings of the weights that cancel.

What reads a single unit has to be zero, however small it is: the size of inputs is not known.
"""


@dataclass(frozen=True)
class _Roles:
    """The slots of a group: those that make its units, and those that read them."""

    made: list[Slot]
    read: list[Slot]


Rooms = dict[tuple[str, int, tuple[int, ...]], np.ndarray]
"""By weight, axis and positions, float64: by how much weights that were added up were rounded."""


Spent = dict[tuple[str, int, tuple[int, ...]], np.ndarray]
"""By weight, axis and positions of the first unit, float64 [sources]: what units pass on in all."""


def remove_idle_units(
    both: Extended,
    matches: Mapping[str, Match],
    extra: Sequence[tuple[str, int]],
    incoming: Mapping[str, Sequence[Slot]],
    arrays: dict[str, np.ndarray],
    silent: Set[str],
) -> list[tuple[str, int]]:
    """Take the extra units that the function does not need out of `arrays`, in place.

    What reads such a unit is added to what reads another one that computes the same.

    Args:
        both: the models, brought to one size.
        matches: by group id where units lie.
        extra: `(group, unit)` of the units of the suspect without a partner.
        incoming: by group id, the slots whose rows make the group's units.
        arrays: the suspect's weights with its units in place, float64 where they are numbers.
        silent: the ids of groups whose units compute zero if zeros make them.

    Returns:
        `(group, unit)` of the units that were taken out, in ascending order.
    """
    family = Nesting(both.groups)
    waiting: dict[str, list[int]] = {}
    for name, unit in extra:
        waiting.setdefault(name, []).append(unit)
    found: list[tuple[str, int]] = []
    rooms: Rooms = {}
    spent: Spent = {}
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
            idle = _silence_units(
                group, roles, places[units], both, arrays, rooms, spent, name in silent
            )
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
    both: Extended,
    arrays: dict[str, np.ndarray],
    rooms: Rooms,
    spent: Spent,
    is_silent: bool,
) -> list[bool]:
    """Take units out, one after the other, if the function does not need them.

    Args:
        group: the units' group.
        roles: what makes its units, and what reads them.
        places: where the units to try lie.
        both: the models, brought to one size.
        arrays: the weights of the suspect, which are changed in place.
        rooms: the roundings of weights that were added up so far, which are changed in place.
        spent: what units that were taken out so far passed on, which is changed in place.
        is_silent: whether units that zeros make compute zero; behind a sigmoid, say, they may be
            any number.

    Returns:
        Which of the units were taken out.
    """
    rows = np.concatenate(
        [take_rows(arrays[s.initializer], s).astype(np.float64) for s in roles.made], 1
    )
    sizes = _measure_sizes(rows)
    usual = [_measure_usual(take_rows(both.reference[s.initializer], s), rows) for s in roles.read]
    silenced = []
    for place in map(int, places):
        same = (rows == rows[place]).all(1)
        same[place] = False
        # Units made of zeros keep nothing: zeros also stand where a model lacks a unit.
        same &= sizes > 0
        # The reference's own units lie before extra ones, and come first.
        keeper = next((int(p) for p in np.flatnonzero(same)), None)
        if keeper is not None:
            for slot in roles.read:
                _add_reading(slot, keeper, place, both.suspect, arrays, rooms)
        is_idle = all(
            _is_unread(arrays[s.initializer], s, place, rows[place], is_silent, most, rooms, spent)
            for s, most in zip(roles.read, usual, strict=True)
            if sizes[place] > 0 or not is_silent
        )
        if is_idle:
            for slot in group.slots:
                np.moveaxis(arrays[slot.initializer], slot.axis, 0)[slot.index[place]] = 0
            rows[place] = 0
            sizes[place] = 0
        silenced.append(is_idle)
    return silenced


def _add_reading(
    slot: Slot,
    keeper: int,
    place: int,
    suspect: Arrays,
    arrays: dict[str, np.ndarray],
    rooms: Rooms,
) -> None:
    """Add what reads a unit to what reads another one, and note by how much both were rounded.

    Args:
        slot: where a weight reads units.
        keeper, place: where the other unit lies, and the unit.
        suspect: the suspect's weights, in their own types.
        arrays: the same in double precision, which are changed in place.
        rooms: the roundings, which are changed in place.
    """
    name, front = slot.initializer, np.moveaxis(arrays[slot.initializer], slot.axis, 0)
    step = machine_epsilon(suspect[name].dtype) if is_float_array(suspect[name]) else 0.0
    own, other = (
        rooms.pop(
            (name, slot.axis, _list_positions(slot, p)), step / 2 * np.abs(front[slot.index[p]])
        )
        for p in (keeper, place)
    )
    rooms[name, slot.axis, _list_positions(slot, keeper)] = own + other
    front[slot.index[keeper]] += front[slot.index[place]]
    front[slot.index[place]] = 0


def _list_positions(slot: Slot, unit: int) -> tuple[int, ...]:
    """List the positions of a unit along the axis of a slot."""
    return tuple(np.atleast_1d(slot.index[unit]).tolist())


def _measure_sizes(rows: np.ndarray) -> np.ndarray:
    """Measure the norms of rows, float64 [rows], also of those whose squares would vanish."""
    peaks = np.abs(rows).max(1, initial=0)
    return peaks * np.linalg.norm(rows / np.where(peaks > 0, peaks, 1)[:, None], axis=1)


@dataclass(frozen=True)
class _Usual:
    """What the reference's units pass on to one slot that reads them.

    Attributes:
        largest: The size of the largest row of a unit that is read.
        passed: How much the median unit passes on: single large ones hide nothing.
        by_source: float64 [sources]: how much the units pass on at most of each element of what
            makes them.
    """

    largest: float
    passed: float
    by_source: np.ndarray


def _measure_usual(reading: np.ndarray, rows: np.ndarray) -> _Usual:
    """Measure how much the reference's units pass on: what makes them times what reads them.

    Args:
        reading: float [units, elements]: what reads units in the reference, zeros for extra ones.
        rows: float64 [units, sources]: the rows that make units.
    """
    sizes, weight = _measure_sizes(rows), np.abs(reading).max(1, initial=0)
    passed = weight * sizes
    passed = passed[passed > 0]
    by_source = (np.abs(rows) * weight[:, None]).max(0, initial=0)
    if not passed.size:
        return _Usual(0.0, 0.0, by_source)
    return _Usual(float(sizes[weight > 0].max()), float(np.median(passed)), by_source)


def _is_unread(
    array: np.ndarray,
    slot: Slot,
    place: int,
    row: np.ndarray,
    is_silent: bool,
    usual: _Usual,
    rooms: Rooms,
    spent: Spent,
) -> bool:
    """Return whether a unit passes on nothing but rounding, and little beside other units.

    How an activation grows is not known. So what is read only to rounding must be made of what the
    reference's units pass on as well, and be no larger than these.

    Args:
        array: the suspect's weight that reads units.
        slot: where the weight reads them.
        place: the unit's place.
        row: float64 [sources]: what makes the unit.
        is_silent: whether zeros make zero.
        usual: what `_measure_usual` says of this slot.
        rooms: the roundings of weights that were added up.
        spent: what units that were taken out so far passed on; this one is added to it.
    """
    left = np.abs(np.moveaxis(array, slot.axis, 0)[slot.index[place]])
    own = slot.initializer, slot.axis, _list_positions(slot, place)
    room = rooms.get(own, np.zeros(()))
    key = slot.initializer, slot.axis, _list_positions(slot, 0)
    if not (left <= MAX_LEFT_ROUNDINGS * room).all():
        return False
    most = float(left.max(initial=0))
    if not most:
        return True
    # rounding of each may be more of many
    total = spent.get(key, np.zeros(row.size)) + most * np.abs(row)
    if (
        not is_silent
        or float(_measure_sizes(row[None])[0]) > usual.largest
        or float(_measure_sizes(total[None])[0]) > MAX_LEFT_SHARE * usual.passed
        or (total > MAX_LEFT_SHARE * usual.by_source).any()
    ):
        return False
    spent[key] = total
    return True
