"""Stages 2 and 3 of the main job for two models that share a part alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..diagnosis.alterations import RELATIVE_TOLERANCE, Alteration, measure_noise
from ..diagnosis.interchangeable import find_interchangeable_units
from ..diagnosis.tolerances import measure_difference
from ..editing.permuting import permute_graph
from ..errors import ArchitectureError
from ..groups.model import Group, Symmetry
from ..matching.alignment import Progress
from ..matching.matcher import Matcher
from ..matching.shared.copies import Common, find_copied_groups, find_copied_weights
from ..numerics import is_same
from ..scaling.walk import find_scalings
from .alignment import Alignment, explain_weights
from .diagnosing import Diagnosis
from .pairing import CommonPairing, Pairing

Units = tuple[tuple[int, ...], ...]


def align_common_part(pairing: Pairing, progress: Progress | None) -> Alignment:
    """Match the units of the part that two models share, by the weights that both have."""
    ours, theirs = pairing.reference_weights, pairing.suspect_weights
    altered, steps = explain_weights(ours, theirs)
    matcher = Matcher(pairing.symmetry.groups, altered, theirs)
    matches = matcher.run(progress)
    moved = matcher.moved()
    alignment = Alignment(matches, altered, steps)
    return replace(alignment, undone=replace(alignment.undone, matches=matches, arrays=moved))


def diagnose_common_part(
    pairing: Pairing, common: CommonPairing, alignment: Alignment
) -> Diagnosis:
    """Say what two models share, and put the units of that into the reference's order.

    Raises:
        ArchitectureError: the units of the part are no copies, or too few of them are.
    """
    link, matches = pairing.link, alignment.matches
    copied = find_copied_groups(pairing.symmetry, matches, {})
    alike: Mapping[str, Units] = {}
    if len(copied) < len(matches):
        # The factors of a model take a walk over its graph, which is seldom asked for.
        alike = _find_interchangeable_units(pairing, common)
        copied = find_copied_groups(pairing.symmetry, matches, alike)
    count = sum(g.size for g in pairing.symmetry.groups if g.id in copied)
    if not common.is_large(count):
        raise ArchitectureError(_describe_refusal(pairing, common, count))
    placed = {**pairing.suspect_weights, **alignment.undone.arrays}
    reference = pairing.reference_weights
    names = find_copied_weights(pairing.symmetry, copied, reference, placed)
    theirs = [g for g in common.theirs.groups if g.id in copied]
    known = {g.id for g in theirs}
    kept = tuple(m for m in matches if m.group in known)
    aligned = permute_graph(
        link.suspect, common.theirs.groups, {m.group: m.permutation for m in kept}
    )
    written = link.written(aligned)
    certain = [m for m in matches if m.group in copied]
    changed = [n for n in names if not is_same(reference[n], placed[n])]
    return Diagnosis(
        findings=(),
        aligned=written,
        result=written,
        symmetry=Symmetry(tuple(theirs), (), common.theirs.unknown_operators),
        matches=kept,
        certainty=np.concatenate([m.certainty for m in certain]),
        similarity=np.concatenate([m.similarity for m in certain]),
        differences={n: measure_difference(reference[n], placed[n]) for n in changed},
        restored=False,
        alterations=_list_alterations(alignment, names, placed),
        interchangeable={name: units for name, units in alike.items() if name in known},
        apart=link.apart,
        alike=link.forms is None,
        common=_measure_common(pairing, common, copied, names, not changed),
    )


def _describe_refusal(pairing: Pairing, common: CommonPairing, count: int) -> str:
    """Say why two models are neither one network nor share a part."""
    units = sum(g.size for g in pairing.symmetry.groups)
    what, mend = common.refusal.rsplit("; ", 1)
    share = f"{100 * count / max(min(common.our_units, common.their_units), 1):.1f} %"
    return (
        f"{what}; of the {units} units of the part that both have, copies of {count} are found, "
        f"{share} of those of the smaller model; {mend}"
    )


def _measure_common(
    pairing: Pairing,
    common: CommonPairing,
    copied: frozenset[str],
    names: Sequence[str],
    is_equal: bool,
) -> Common:
    """Measure how much of each model the other has copies of."""
    # An axis without a group in one model may have one in the other: each counts its own units.
    places = {
        (s.initializer, s.axis) for g in pairing.symmetry.groups if g.id in copied for s in g.slots
    }
    link = pairing.link
    back = {place.name: name for name, place in link.places.items()}
    ours = _count_units(common.ours.groups, {name: name for name in link.places}, places)
    theirs = _count_units(common.theirs.groups, back, places)
    elements = sum(pairing.reference_weights[name].size for name in names)
    part = common.part
    return Common(
        weights=elements / max(part.ours, 1),
        units=ours / max(common.our_units, 1),
        suspect_weights=elements / max(part.theirs, 1),
        suspect_units=theirs / max(common.their_units, 1),
        equal=is_equal,
        parts_at=link.apart[0],
    )


def _count_units(
    groups: Sequence[Group], names: Mapping[str, str], places: set[tuple[str, int]]
) -> int:
    """Count the units of the groups that have a slot in one of some places."""
    return sum(
        g.size
        for g in groups
        if any((names.get(s.initializer, ""), s.axis) in places for s in g.slots)
    )


def _list_alterations(
    alignment: Alignment, names: Sequence[str], placed: Mapping[str, np.ndarray]
) -> dict[str, tuple[Alteration, ...]]:
    """Return the steps by which each weight of the part was altered; the last one may be noise."""
    found = {}
    for name in names:
        steps, expected = alignment.explained.get(name, ()), alignment.altered[name]
        level = 0.0 if is_same(expected, placed[name]) else measure_noise(expected, placed[name])
        if level > (RELATIVE_TOLERANCE if steps else 0):
            steps = (*steps, Alteration("noise", {"level": level}))
        if steps:
            found[name] = steps
    return found


def _find_interchangeable_units(pairing: Pairing, common: CommonPairing) -> dict[str, Units]:
    """Find the units of the reference that nothing tells apart, by the groups that are matched."""
    scalings = find_scalings(pairing.reference, pairing.analysis, common.ours.groups)
    weights = {
        s.initializer: pairing.reference.array(s.initializer)
        for g in common.ours.groups
        for s in g.slots
    }
    alike = find_interchangeable_units(common.ours.groups, scalings, weights)
    # A matched group has the reference's units where it lies along the same positions.
    matched = {
        (s.initializer, s.axis, s.index.tobytes()): g.id
        for g in pairing.symmetry.groups
        for s in g.slots
    }
    found = {}
    for group in common.ours.groups:
        for slot in group.slots if group.id in alike else ():
            name = matched.get((slot.initializer, slot.axis, slot.index.tobytes()))
            if name is not None:
                found[name] = alike[group.id]
                break
    return found
