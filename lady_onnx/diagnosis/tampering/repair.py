"""Puts the reference's values back where a suspect was tampered with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...groups.model import Group
from ...groups.permutations import Arrays
from ..findings import REPLACEABLE, Finding


def repair_weights(
    groups: Sequence[Group], findings: Sequence[Finding], reference: Arrays, suspect: Arrays
) -> dict[str, np.ndarray]:
    """Return the weights with findings of tampering, with the reference's values in their places.

    Args:
        groups: the groups.
        findings: what was found; only units for which the reference has other values are repaired.
        reference, suspect: the weights by the same names, the units in place.

    Returns:
        The repaired weights of the suspect, as new arrays.
    """
    result: dict[str, np.ndarray] = {}
    for finding in findings:
        if finding.kind not in REPLACEABLE:
            continue
        # `np.array` copies, and a second finding goes on with the copy of the first.
        array = result.setdefault(finding.slot, np.array(suspect[finding.slot]))
        slots = [(g, s) for g in groups for s in g.slots if s.initializer == finding.slot]
        where = np.full(array.shape, finding.group is None)
        for group, slot in slots:
            if finding.group is None:
                # What belongs to no unit is all that lies in no slot.
                where[slot.region(array.shape)] = False
            elif group.id == finding.group and finding.unit is not None:
                where[np.ix_(*slot.places(array.shape, finding.unit))] = True
        array[where] = np.asarray(reference[finding.slot])[where].astype(array.dtype)
    return result
