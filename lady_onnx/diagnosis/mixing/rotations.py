"""Undoes rotations of residual streams that only norms and sums meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...groups.model import Group, Slot
from ...groups.permutations import Arrays
from ...groups.rows import join_slots, put_rows
from ...groups.scaling import Scaling
from ...matching.matches import Match
from ..findings import Finding
from ..undone import Enlargements, Unmixed
from .fits import (
    MAX_MISFIT,
    MAX_MIXED_SIMILARITY,
    MIN_MIXING,
    MIN_SINGULAR_SHARE,
    are_floating,
    average_similarities,
    measure_misfit,
    measure_mixing,
)

ELEMENTS_PER_UNIT = 8
"""About this many elements of each unit tell a rotation."""
ROTATION_ENLARGEMENT = 8.0
"""A rotation may enlarge the rounding of what it changes by this much.

Its rows have length one, so it enlarges none by itself; the rest is room.
"""


def undo_rotations(
    groups: Sequence[Group],
    scalings: Mapping[str, Scaling],
    reference: Arrays,
    suspect: Arrays,
    matches: Sequence[Match],
) -> Unmixed:
    """Turn residual streams back to where the reference has them.

    The weights that no other group touches say by how much a stream was turned. Nothing else moves
    in them, so their rows are the reference's, rotated (orthogonal Procrustes problem). A rotation
    is its own inverse transposed, so weights that read the stream are turned like those that make
    it. A norm that subtracts the mean lets only those rotations pass that keep it, and this is not
    asked here: the caller has to confirm rotations by a run.

    Args:
        groups: the groups, inner ones first.
        scalings: by group id the factors that its units may have.
        reference, suspect: the weights by the same names.
        matches: where the units are if none were mixed.

    Returns:
        The suspect's weights with rotations undone, in the reference's order of the turned units.
    """
    similarity = average_similarities(matches)
    axes: dict[str, set[int]] = {}
    for group in groups:
        for slot in group.slots:
            axes.setdefault(slot.initializer, set()).add(slot.axis)
    changed: dict[str, np.ndarray] = {}
    grown: Enlargements = {}
    findings = []
    for group in groups:
        s = scalings.get(group.id)
        # A group that is not squared and summed is left to `maps`.
        if s is None or not (s.linear and s.turned) or similarity[group.id] > MAX_MIXED_SIMILARITY:
            continue
        slots = [
            slot
            for slot in group.slots
            if axes[slot.initializer] == {slot.axis} and not slot.within
        ]
        if not slots or not are_floating(group.slots, reference, suspect):
            continue
        rotation = _fit_rotation(group.size, slots, reference, suspect)
        if rotation is None:
            continue
        for slot in group.slots:
            changed.setdefault(slot.initializer, np.array(suspect[slot.initializer]))
            grown.setdefault(slot.initializer, {})[slot.axis] = ROTATION_ENLARGEMENT
            put_rows(changed, [slot], rotation.T @ join_slots(changed, [slot]))
        name = slots[0].initializer
        findings.append(Finding("mixed", group.id, None, name, None, measure_mixing(rotation)))
    return Unmixed(changed, grown, tuple(findings))


def _fit_rotation(
    size: int, slots: Sequence[Slot], reference: Arrays, suspect: Arrays
) -> np.ndarray | None:
    """Fit the rotation of a group of `size` units; None if there is none that fits exactly."""
    ours, theirs = (join_slots(a, slots) for a in (reference, suspect))
    thin = slice(None, None, max(ours.shape[1] // (ELEMENTS_PER_UNIT * size), 1))
    ours, theirs = ours[:, thin], theirs[:, thin]
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return None
    # Of all orthogonal R, u v brings R ours nearest to theirs (Schoenemann 1966).
    u, sizes, v = np.linalg.svd(theirs @ ours.T)
    rotation = u @ v
    if (
        measure_misfit(ours, rotation.T @ theirs) > MAX_MISFIT
        or sizes[-1] <= MIN_SINGULAR_SHARE * sizes[0]
        or measure_mixing(rotation) <= MIN_MIXING
    ):
        return None
    return rotation
