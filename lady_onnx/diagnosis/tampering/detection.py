"""Runs the tests of tampering on all weights of a suspect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...groups.model import Group, Slot
from ...groups.permutations import Arrays
from ...groups.rows import take_rows
from ...numerics import is_same
from ...threads import map_in_threads
from ..factors.measuring import FAINT_ROW_SHARE, measure_row_factors
from ..findings import Finding
from .elements import find_odd_elements
from .lone_moves import report_part_training
from .moves import (
    MIN_ROW_ELEMENTS,
    Moves,
    has_meaningful_numbers,
    measure_gaps,
)
from .outliers import MIN_DEVIATIONS, MIN_GAP_RATIO
from .rows import find_odd_rows
from .summaries import MoveSummary
from .training import SlotsByWeight, TrainingLaw

MULTIPLE_TOLERANCE = 1e-3
"""A row is a multiple of another if no element differs by a larger share of the row's largest."""


def find_tampering(
    groups: Sequence[Group], frames: Sequence[tuple[Arrays, Arrays]], least: float = 0.0
) -> tuple[Finding, ...]:
    """Find single units and weights of a suspect that differ otherwise than the rest.

    Args:
        groups: the groups.
        frames: all weights of the reference, also those that no group touches, and of the suspect,
            its units in place. Where factors were taken out, there is one frame with them and one
            without. Noise from before the units were multiplied is even in the latter, and noise
            from later in the former, so a unit's weights must stand out in both. The finding has
            the factor and the size that the first of these frames shows.
        least: differences count as none that are smaller than this times a weight's largest
            element.
    """
    found: dict[tuple[str, str | None, int | None], Finding] = {}
    for frame in frames:
        others = [other for other in frames if other is not frame]
        for finding in _find_in_frame(groups, *frame, least):
            if all(_is_standing_out(finding, groups, *other) for other in others):
                found.setdefault((finding.slot, finding.group, finding.unit), finding)
    return tuple(found.values())


def _find_in_frame(
    groups: Sequence[Group], reference: Arrays, suspect: Arrays, least: float
) -> list[Finding]:
    """Find what differs otherwise than the rest in one frame."""
    slots: dict[str, list[tuple[Group, Slot]]] = {}
    for group in groups:
        for slot in group.slots:
            slots.setdefault(slot.initializer, []).append((group, slot))
    sides = {n: (np.asarray(reference[n]), np.asarray(suspect[n])) for n in reference}
    changed = [n for n, (x, y) in sides.items() if _may_have_moved(x, y)]
    summed = map_in_threads(lambda n: MoveSummary.between(*sides[n], least), changed)
    summaries = dict(zip(changed, summed, strict=True))
    law = TrainingLaw.of(slots, reference, suspect, summaries)
    found: list[Finding] = []
    for name, summary in summaries.items():
        own = slots.get(name, [])
        if summary.may_stand_out(own):
            found += _find_in_weight(name, own, Moves.between(*sides[name], least), law)
    # A unit is left out if it is dead in both models: one that was revived, or killed, does count.
    dead = {
        g.id: _find_dead_units(g, reference) & _find_dead_units(g, suspect)
        for g in groups
        if any(f.group == g.id for f in found)
    }
    alive = [f for f in found if f.group is None or not dead[f.group][f.unit]]
    return _name_factors(alive, slots, reference, suspect)


def _may_have_moved(x: np.ndarray, y: np.ndarray) -> bool:
    """Tell whether two arrays are different weights, and not sizes or indices."""
    return has_meaningful_numbers(x) and has_meaningful_numbers(y) and not is_same(x, y)


def _find_in_weight(
    name: str, own: Sequence[tuple[Group, Slot]], moves: Moves, law: TrainingLaw
) -> list[Finding]:
    """Find odd rows of one weight, then odd elements of what is left of it."""
    # Rows that are found are struck out of the copy, so that no element of them is found again.
    gap = moves.gap.copy()
    found = []
    for group, slot in own:
        odd = find_odd_rows(name, group, slot, moves, gap, law)
        for unit in [f.unit for f in odd if f.unit is not None]:
            gap[np.ix_(*slot.places(gap.shape, unit))] = 0.0
        found += odd
    found += find_odd_elements(name, own, moves, gap, law)
    return found or report_part_training(name, moves)


def _is_standing_out(
    finding: Finding, groups: Sequence[Group], reference: Arrays, suspect: Arrays
) -> bool:
    """Return whether a finding's unit differs in this frame, too.

    It differs if it is far more different than other units, or far more in one element than in its
    others.
    """
    if finding.group is None:
        # Factors multiply units alone, and hide nothing here.
        return True
    for slot in (
        s for g in groups if g.id == finding.group for s in g.slots if s.initializer == finding.slot
    ):
        x, y = (
            take_rows(np.asarray(a[finding.slot]), slot).astype(np.float64)
            for a in (reference, suspect)
        )
        gap = measure_gaps(x, y)
        left, own = np.linalg.norm(gap, axis=1), gap[finding.unit]
        # A row of few elements may differ by as much as a factor makes of them.
        is_long = own.size >= MIN_ROW_ELEMENTS
        far = MIN_DEVIATIONS if is_long else MIN_DEVIATIONS * MIN_GAP_RATIO
        if left[finding.unit] > far * np.median(left) or (
            is_long and own.max() > far * np.median(own)
        ):
            return True
    return False


def _find_dead_units(group: Group, arrays: Arrays) -> np.ndarray:
    """Find units whose rows are all but zero wherever they have many elements, bool [units].

    Whatever happens to the rest of such a unit changes nothing.
    """
    dead = np.zeros(group.size, bool)
    is_seen = False
    for slot in group.slots:
        rows = take_rows(np.asarray(arrays[slot.initializer]), slot)
        # Short rows may be small by chance. A group that has no others has no dead units here.
        if rows.shape[1] >= MIN_ROW_ELEMENTS and has_meaningful_numbers(rows):
            lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
            faint = lengths <= FAINT_ROW_SHARE * np.median(lengths)
            dead, is_seen = (dead & faint) if is_seen else faint, True
    return dead


def _name_factors(
    found: Sequence[Finding], slots: SlotsByWeight, reference: Arrays, suspect: Arrays
) -> list[Finding]:
    """Return findings with the factors of rows that were too short for the test of rows.

    Such a row was multiplied if one factor explains all of it: that of another row of the unit, or
    else its own. A lone element has none of its own.
    """
    factors = {(f.group, f.unit): f.factor for f in found if f.factor is not None}
    result = []
    for finding in found:
        if finding.kind == "replaced" and finding.group is not None:
            slot = next(s for g, s in slots[finding.slot] if g.id == finding.group)
            a, b = (
                take_rows(np.asarray(z[finding.slot]), slot)[finding.unit].astype(np.float64)
                for z in (reference, suspect)
            )
            k = factors.get((finding.group, finding.unit))
            if k is None and a.size > 1:
                k = float(measure_row_factors(a[None], b[None])[0][0])
            if (
                k is not None
                and np.isfinite(b).all()
                and np.abs(b - k * a).max() <= MULTIPLE_TOLERANCE * np.abs(b).max()
            ):
                finding = replace(finding, kind="scaled", factor=k)
        result.append(finding)
    return result
