"""The main job for a suspect with more or fewer units than the reference."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..dataflow.engine import analyse_graph
from ..diagnosis.alterations import Alteration, measure_noise
from ..diagnosis.findings import Finding
from ..diagnosis.tampering.detection import find_tampering
from ..diagnosis.tampering.moves import UNDOING_TOLERANCE
from ..diagnosis.tampering.repair import repair_weights
from ..graph.model import Graph, map_weights
from ..matching.alignment import Progress
from ..matching.incoming import find_incoming_slots
from ..matching.unequal.extension import extend_models
from ..matching.unequal.surplus import match_extended, write_matched
from ..numerics import is_same
from ..pairing.counterparts import Link, list_unshown
from ..pairing.skeleton import Place
from ..scaling.walk import find_scalings
from ..symmetry.finder import extract_groups
from .outcome import Resync, have_equal_outputs, is_product, measure_difference, verify_result


def resync_sizes(
    ours: Graph,
    theirs: Graph,
    names: Mapping[str, str],
    verify: str,
    provider: str,
    samples: int,
    seed: int,
    strip: bool,
    repair: bool,
    start: float,
    progress: Progress | None,
) -> Resync:
    """The main job for a suspect with more or fewer units: `names` are its weights by the reference's names.

    The rest is as `resync` has it. Raises ArchitectureError where another number of units explains no difference.
    """
    back = {b: a for a, b in names.items()}
    link = Link(ours, theirs, {a: Place(b) for a, b in names.items()}, True)
    mirrored = Link(theirs, ours, {b: Place(a) for b, a in back.items()}, True)
    analysis = analyse_graph(ours, link.constant_along, link.number)
    symmetry = extract_groups(analysis)
    own = extract_groups(analyse_graph(theirs, mirrored.constant_along, mirrored.number))
    both = extend_models(map_weights(ours), map_weights(theirs), names, symmetry.groups, own.groups)
    factors = find_scalings(ours, analysis, symmetry.groups)
    # inside a head units may meet as they like: the head as a whole is summed
    summed = [
        g for g in symmetry.groups if g.id in factors and (g.parents or not factors[g.id].crossed)
    ]
    found = match_extended(both, find_incoming_slots(summed, factors), progress)
    groups, matches, arrays = write_matched(both, found)
    whole = theirs.copy()
    for name, array in arrays.items():
        whole.replace(names[name], array)
    kept = {n: np.array(a[tuple(slice(k) for k in ours.shape(n))]) for n, a in found.plain.items()}
    plain = ours.copy()
    for name in kept.keys() - analysis.values:
        plain.replace(name, kept[name])
    # what the analysis says of units that were inserted has to be seen as well
    idle = (
        found.idle == sorted(found.extra)
        and not found.missing
        and have_equal_outputs(theirs, plain, samples, seed)
    )
    first = {g.id: g.slots[0].initializer for g in symmetry.groups}
    kinds = ["obfuscated" if idle and e in found.idle else "inserted" for e in found.extra]
    findings = [
        Finding(kind, *e, first[e[0]], None, 0.0)
        for kind, e in zip(kinds, found.extra, strict=True)
    ]
    findings += [Finding("removed", *m, first[m[0]], None, 0.0) for m in found.missing]
    reference = {n: np.array(ours.array(n)) for n in kept.keys() - analysis.values}
    kept = {n: kept[n] for n in reference}
    for group, unit in found.missing:
        for slot in symmetry.group(group).slots:
            for side in (reference, kept):
                side[slot.initializer][np.ix_(*slot.places(side[slot.initializer].shape, unit))] = 0
    findings += find_tampering(symmetry.groups, [(reference, kept)], UNDOING_TOLERANCE)
    stripped = strip and idle and bool(found.extra)
    result = plain if stripped else whole
    fixed = (
        repair_weights(symmetry.groups, findings, reference, kept) if repair and stripped else {}
    )
    differences = {n: measure_difference(reference[n], kept[n]) for n in reference}
    verification, kept_outputs, how = verify_result(theirs, result, verify, provider, samples, seed)
    if fixed:
        result = result.copy()
        for name, array in fixed.items():
            result.replace(name, array)
    similar, certain = [], []
    for match in found.matches:
        many = both.mine[match.group]
        there = np.flatnonzero(match.similarity[:many])
        similar.append(match.similarity[:many])
        certain.append(match.certainty[there])
    return Resync(
        graph=result,
        symmetry=replace(own, groups=tuple(groups)),
        matches=tuple(matches),
        psi_estimate=float(100 * np.concatenate(certain).mean())
        if sum(c.size for c in certain)
        else 0.0,
        similarity=float(np.concatenate(similar).mean()),
        max_weight_difference=max(differences.values()),
        exact=False,
        restored=idle and all(_is_restored(reference[n], kept[n]) for n in reference),
        outputs_preserved=kept_outputs,
        verified_by=how,
        verification=verification,
        alterations={
            n: (Alteration("noise", {"level": measure_noise(reference[n], kept[n])}),)
            for n, d in differences.items()
            if d
        },
        integrity=tuple(findings),
        interchangeable={},
        repaired=bool(fixed),
        stripped=stripped,
        alike=False,
        apart=list_unshown(theirs, {}, frozenset(), is_formed=True)
        if theirs.declares_inner_values
        else (),
        bits=False,
        seconds=time.perf_counter() - start,
    )


def _is_restored(reference: np.ndarray, kept: np.ndarray) -> bool:
    """Is a weight without the units that were inserted the reference's, to the rounding of what they passed on?"""
    if is_same(reference, kept):
        return True
    return is_product(
        reference.astype(np.float64), kept, np.abs(reference).astype(np.float64), None
    )
