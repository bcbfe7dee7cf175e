"""Stages 2 and 3 of the main job for two models that share a part alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..diagnosis.alterations import RELATIVE_TOLERANCE, Alteration
from ..diagnosis.interchangeable import find_interchangeable_units
from ..diagnosis.tolerances import measure_difference, measure_noise
from ..diagnosis.undone import Undone
from ..editing.permuting import permute_graph
from ..errors import ArchitectureError
from ..groups.model import Group, Symmetry, restrict_states
from ..matching.matcher import Matcher
from ..matching.matches import Match
from ..matching.shared.copies import (
    MIN_COMMON_LAYERS,
    MIN_TOLD_UNITS,
    Common,
    find_copied_groups,
    find_copied_weights,
)
from ..matching.unequal.extension import Extended
from ..matching.unequal.surplus import Unequal, match_extended, write_matched
from ..numerics import is_same
from ..reporting import Progress, count_things, format_share
from ..scaling.walk import find_scalings
from .alignment import Alignment, explain_weights
from .pairing import CommonPairing, Pairing
from .result import Diagnosis

Units = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Placed:
    """The weights of a part with all units in the reference's order, and where each came from.

    Attributes:
        groups: the groups by which the part was matched, inner ones first.
        matches: where their units were found.
        partners: by id of these groups the number of units that may have a copy.
        own: by id of these groups the match of the suspect's own group, under its own id; groups
            that the suspect has not are left out.
        reference, suspect: the weights by the reference's names. Where one model lacks a unit, both
            hold zeros.
    """

    groups: Sequence[Group]
    matches: Sequence[Match]
    partners: Mapping[str, int]
    own: Mapping[str, Match]
    reference: Mapping[str, np.ndarray]
    suspect: Mapping[str, np.ndarray]


def align_common_part(pairing: Pairing, progress: Progress | None) -> Alignment:
    """Match the units of the part that two models share, by the weights that both have."""
    if pairing.extension is not None:
        unequal = match_extended(pairing.extension.models, {}, set(), progress)
        return Alignment(unequal.matches, pairing.reference_weights, unequal=unequal)
    ours, theirs = pairing.reference_weights, pairing.suspect_weights
    altered, steps = explain_weights(ours, theirs)
    matcher = Matcher(pairing.symmetry.groups, altered, theirs)
    matches = matcher.run(progress)
    undone = Undone(matches, matcher.moved(), {}, {}, ())
    return Alignment(matches, altered, steps, undone)


def _place_units(pairing: Pairing, common: CommonPairing, alignment: Alignment) -> _Placed:
    """Return the weights of a part whose layers have as many units in both models."""
    groups, matches = pairing.symmetry.groups, alignment.matches
    known = {g.id for g in common.theirs.groups}
    return _Placed(
        groups,
        matches,
        {g.id: g.size for g in groups},
        {m.group: m for m in matches if m.group in known},
        pairing.reference_weights,
        {**pairing.suspect_weights, **alignment.undone.arrays},
    )


def _place_unequal_units(models: Extended, found: Unequal) -> _Placed:
    """Return the weights of a part whose layers have other numbers of units in each model."""
    groups, matches, _ = write_matched(models, found)
    own = {
        group.id: replace(match, group=models.twins[group.id].id)
        for group, match in zip(groups, matches, strict=True)
    }
    reference, suspect = (
        {name: np.array(array) for name, array in side.items()}
        for side in (models.reference, found.arrays)
    )
    by_group = {m.group: m for m in found.matches}
    for group in models.groups:
        alone = np.flatnonzero(by_group[group.id].similarity == 0)
        for slot in group.slots if alone.size else ():
            for side in (reference, suspect):
                for unit in alone.tolist():
                    places = slot.places(side[slot.initializer].shape, unit)
                    side[slot.initializer][np.ix_(*places)] = 0
    partners = {g.id: min(models.mine[g.id], models.theirs[g.id]) for g in models.groups}
    return _Placed(models.groups, found.matches, partners, own, reference, suspect)


def diagnose_common_part(
    pairing: Pairing, common: CommonPairing, alignment: Alignment
) -> Diagnosis:
    """Say what two models share, and put the units of that into the reference's order.

    Raises:
        ArchitectureError: the units of the part are no copies, or too few of them are.
    """
    link = pairing.link
    if pairing.extension is not None and alignment.unequal is not None:
        placed = _place_unequal_units(pairing.extension.models, alignment.unequal)
    else:
        placed = _place_units(pairing, common, alignment)
    copied = find_copied_groups(placed.groups, placed.matches, placed.partners, {})
    alike: Mapping[str, Units] = {}
    if len(copied) < len(placed.matches):
        # The factors of a model take a walk over its graph, which is seldom asked for.
        alike = _find_interchangeable_units(pairing, common)
        copied = find_copied_groups(placed.groups, placed.matches, placed.partners, alike)
    names = find_copied_weights(placed.groups, copied, placed.reference, placed.suspect)
    _check_copies(pairing, common, placed, copied, names)
    kept = [placed.own[g.id] for g in placed.groups if g.id in copied and g.id in placed.own]
    known = {m.group for m in kept}
    aligned = permute_graph(
        link.suspect, common.theirs.groups, {m.group: m.permutation for m in kept}
    )
    written = link.written(aligned)
    certain = [m for m in placed.matches if m.group in copied]
    changed = [n for n in names if not is_same(placed.reference[n], placed.suspect[n])]
    theirs = tuple(g for g in common.theirs.groups if g.id in known)
    by_id = {m.group: m for m in kept}
    return Diagnosis(
        findings=(),
        aligned=written,
        result=written,
        weights={name: placed.suspect[name] for name in names},
        symmetry=Symmetry(
            theirs,
            (),
            common.theirs.unknown_operators,
            restrict_states(common.theirs.states, known),
        ),
        matches=tuple(by_id[g.id] for g in theirs),
        certainty=np.concatenate([m.certainty[m.similarity != 0] for m in certain]),
        similarity=np.concatenate([m.similarity[m.similarity != 0] for m in certain]),
        differences={
            n: measure_difference(placed.reference[n], placed.suspect[n]) for n in changed
        },
        restored=False,
        alterations=_list_alterations(alignment, names, placed),
        interchangeable={
            placed.own[name].group: units
            for name, units in alike.items()
            if name in copied and name in placed.own
        },
        apart=link.apart,
        alike=link.forms is None,
        common=_measure_common(pairing, common, copied, names, placed),
    )


def _check_copies(
    pairing: Pairing,
    common: CommonPairing,
    placed: _Placed,
    copied: frozenset[str],
    names: Sequence[str],
) -> None:
    """Check that the copies that were found are a part that means something.

    Raises:
        ArchitectureError: they are not; the message says why the two are not one network either.
    """
    count = sum(placed.partners[name] for name in copied)
    told = sum(max(placed.partners[name] - 1, 0) for name in copied)
    size = sum(_count_common_elements(pairing, name) for name in names)
    layers = sum(placed.reference[name].ndim > 1 for name in names)
    is_small = layers < MIN_COMMON_LAYERS or told < MIN_TOLD_UNITS
    if not is_small and common.is_large(count, size):
        return
    what, _, mend = common.refusal.rpartition("; ")
    units = count_things(count, "unit")
    share = format_share(size / max(min(common.part.ours, common.part.theirs), 1))
    raise ArchitectureError(
        f"{what}; copies are found of {units}, and of {share} of the weights of the smaller model, "
        f"too few for a part; {mend}"
    )


def _measure_common(
    pairing: Pairing,
    common: CommonPairing,
    copied: frozenset[str],
    names: Sequence[str],
    placed: _Placed,
) -> Common:
    """Measure how much of each model the other has copies of."""
    # An axis without a group in one model may have one in the other: each counts its own units.
    places = {(s.initializer, s.axis) for g in placed.groups if g.id in copied for s in g.slots}
    link = pairing.link
    back = {place.name: name for name, place in link.places.items()}
    ours = _count_units(common.ours.groups, {name: name for name in link.places}, places)
    theirs = _count_units(common.theirs.groups, back, places)
    if pairing.extension is not None:
        # where a layer has more units in one model, the others of that layer have no copies
        found = [m.similarity for m in placed.matches if m.group in copied]
        ours = theirs = sum(int(np.count_nonzero(similarity)) for similarity in found)
    elements = sum(_count_common_elements(pairing, name) for name in names)
    part = common.part
    return Common(
        weights=elements / max(part.ours, 1),
        units=ours / max(common.our_units, 1),
        suspect_weights=elements / max(part.theirs, 1),
        suspect_units=theirs / max(common.their_units, 1),
        equal=all(is_same(placed.reference[n], placed.suspect[n]) for n in names),
        parts_at=link.apart[0],
    )


def _count_common_elements(pairing: Pairing, name: str) -> int:
    """Count the elements that a weight has in both models."""
    ours = pairing.reference.shape(name)
    theirs = pairing.link.suspect.shape(pairing.link.places[name].name)
    return math.prod(map(min, zip(ours, theirs, strict=True)))


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
    alignment: Alignment, names: Sequence[str], placed: _Placed
) -> dict[str, tuple[Alteration, ...]]:
    """Return the steps by which each weight of the part was altered; the last one may be noise."""
    found = {}
    for name in names:
        steps, now = alignment.explained.get(name, ()), placed.suspect[name]
        expected = alignment.altered[name] if steps else placed.reference[name]
        level = 0.0 if is_same(expected, now) else measure_noise(expected, now)
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
