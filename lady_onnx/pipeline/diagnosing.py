"""Stage 3 of the main job: what else was done, and whether the suspect is the reference again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..biases.search import find_cancelling_biases, find_inert_biases
from ..diagnosis.alterations import RELATIVE_TOLERANCE, Alteration
from ..diagnosis.findings import PARTLY_TRAINED, REMOVED, REPLACEABLE, Finding
from ..diagnosis.interchangeable import find_interchangeable_units
from ..diagnosis.tampering.detection import find_tampering
from ..diagnosis.tampering.moves import UNDOING_TOLERANCE
from ..diagnosis.tampering.repair import repair_weights
from ..diagnosis.tolerances import (
    is_kept,
    is_mixture,
    is_product,
    is_rounding,
    measure_difference,
    measure_noise,
    measure_writing_tolerance,
)
from ..graph.model import Graph, WeightMapping
from ..graph.nodes import has_declared_values
from ..groups.model import Group, Symmetry
from ..groups.permutations import Arrays, Nesting, permute_arrays
from ..matching.matches import Match
from ..matching.unequal.surplus import Unequal, write_matched
from ..numerics import is_same
from ..pairing.forms import list_unshown
from ..threads import map_in_threads
from .alignment import Alignment
from .options import Options
from .pairing import Pairing
from .result import Diagnosis
from .verification import have_equal_outputs

WritingBounds = Mapping[str, tuple[np.ndarray | None, np.ndarray | None]]
"""By weight the bounds of what rounding on the way to the normal forms leaves in each element.

The first is that of the reference, the second that of the suspect with its units in place. None
says that a form is exact.
"""


def diagnose(pairing: Pairing, alignment: Alignment, options: Options) -> Diagnosis:
    """Find what else was done to a suspect whose units are in place.

    Args:
        pairing: the two models.
        alignment: where every unit lies.
        options: whether the result is repaired and stripped, and how outputs are compared.
    """
    if alignment.unequal is not None:
        return _diagnose_unequal(pairing, alignment, alignment.unequal, options)
    return _diagnose_equal(pairing, alignment, options)


# ---- models with the same numbers of units


def _diagnose_equal(pairing: Pairing, alignment: Alignment, options: Options) -> Diagnosis:
    """Find what else was done to a suspect with the reference's numbers of units."""
    link, groups = pairing.link, pairing.symmetry.groups
    altered, view = alignment.altered, pairing.suspect_weights
    findings, moved = _find_changes(pairing, alignment)
    aligned = _write_weights(pairing, link.suspect, moved)
    result = aligned
    if options.repair:
        # A repaired unit is as rounded or pruned as the rest of its weight in the suspect.
        fixed = repair_weights(groups, findings, altered, {**view, **moved})
        result = _write_weights(pairing, aligned, fixed)
    changed = _list_different_weights(pairing, result)
    restored = _is_restored(pairing, alignment, changed)
    if restored:
        # Some ways to write a file leave rounding in few weights, which is no training of these.
        findings = tuple(f for f in findings if f.kind != PARTLY_TRAINED)
    reference = pairing.reference_weights
    matches = alignment.matches
    return Diagnosis(
        findings=findings,
        aligned=link.written(aligned),
        result=link.written(result),
        weights=WeightMapping(pairing.names, lambda name: link.array(name, aligned)),
        symmetry=pairing.symmetry,
        matches=tuple(matches),
        certainty=_concatenate_or_one([m.certainty for m in matches]),
        similarity=_concatenate_or_one([m.similarity for m in matches]),
        differences=_measure_differences(reference, changed),
        restored=restored,
        alterations=_list_alterations(pairing, alignment, result),
        interchangeable=find_interchangeable_units(groups, pairing.scalings, reference)
        if changed
        else {},
        repaired=options.repair and any(f.kind in REPLACEABLE for f in findings),
        apart=link.apart,
        alike=link.alike,
        bits=link.bits,
        certainties=_name_certainties(groups, matches),
    )


def _name_certainties(groups: Sequence[Group], matches: Sequence[Match]) -> dict[str, np.ndarray]:
    """Return the certainty of every unit by the id that its group has in the reference.

    A match of a group inside another goes by where that lies in the suspect.
    """
    family = Nesting(groups)
    where = {m.group: np.argsort(m.permutation) for m in matches}
    return {family.twin(m.group, where): m.certainty for m in matches}


def _find_changes(
    pairing: Pairing, alignment: Alignment
) -> tuple[tuple[Finding, ...], dict[str, np.ndarray]]:
    """Return all findings, and the weights of the suspect with harmless changes undone."""
    undone, altered, view = alignment.undone, alignment.altered, pairing.suspect_weights
    moved = dict(undone.arrays)
    # What was added before units were multiplied grew with them, and what was added later did not.
    # So changes are looked for in both frames.
    frames: list[tuple[Arrays, Arrays]] = [
        ({**altered, **undone.expected}, {**view, **undone.placed})
    ]
    if undone.expected:
        frames.append((altered, {**view, **moved}))
    # What was undone is rounded, and its rounding is no finding.
    least = UNDOING_TOLERANCE if undone.findings else 0.0
    told = find_tampering(pairing.symmetry.groups, frames, least)
    findings = undone.findings + tuple(f for f in told if f.slot not in alignment.pruned)
    now = {**view, **moved}
    graph = pairing.reference
    free: list[tuple[str, tuple[str, ...]]] = [
        ("inert", (n,)) for n in find_inert_biases(graph, altered, now)
    ]
    free += [("shifted", pair) for pair in find_cancelling_biases(graph, altered, now)]
    # A bias that the function does not depend on may have any value: it was not tampered with.
    for kind, biases in free:
        kept = (f for f in findings if f.slot not in biases)
        findings = (*kept, Finding(kind, None, None, biases[0], None, 0.0))
        moved.update({name: altered[name] for name in biases})
    return findings, moved


def _write_weights(pairing: Pairing, graph: Graph, arrays: Arrays) -> Graph:
    """Return a copy of a suspect with other weights, given by the reference's names."""
    result = graph.copy()
    for name, array in arrays.items():
        pairing.link.replace(result, name, array)
    return result


def _measure_differences(reference: Arrays, weights: Arrays) -> dict[str, float]:
    """Measure the largest difference in each of some weights."""
    names = list(weights)
    found = map_in_threads(lambda n: measure_difference(reference[n], weights[n]), names)
    return dict(zip(names, found, strict=True))


def _list_different_weights(pairing: Pairing, result: Graph) -> dict[str, np.ndarray]:
    """Return the weights of a result that are not the reference's, bit for bit."""
    weights = {n: pairing.link.array(n, result) for n in pairing.names}
    names = list(weights)
    same = map_in_threads(lambda n: is_same(pairing.reference.array(n), weights[n]), names)
    return {n: weights[n] for n, is_equal in zip(names, same, strict=True) if not is_equal}


def _is_restored(pairing: Pairing, alignment: Alignment, changed: Mapping[str, np.ndarray]) -> bool:
    """Tell whether every weight is the reference's, up to rounding on the way there and back."""
    bounds = _measure_writing_bounds(pairing, alignment.matches)
    added: set[str] = set()
    if alignment.undone.expected:
        # the factors of a model take a walk over its graph, which is seldom asked for
        added = {shift.bias for s in pairing.scalings.values() for shift in s.shifts}
    return all(
        _is_weight_restored(pairing, alignment, bounds, name in added, name, array)
        for name, array in changed.items()
    )


def _is_weight_restored(
    pairing: Pairing,
    alignment: Alignment,
    bounds: WritingBounds,
    is_shifted: bool,
    name: str,
    array: np.ndarray,
) -> bool:
    """Tell whether a weight is the reference's, up to rounding.

    Args:
        pairing: the two models.
        alignment: where every unit lies, and what was undone.
        bounds: what rounding on the way to the normal forms leaves.
        is_shifted: whether a reflection may have added something to the weight.
        name: the weight's name.
        array: its values in the result.
    """
    undone, mine = alignment.undone, pairing.reference.array(name)
    bound, other = bounds.get(name, (None, None))
    if name in alignment.explained and not is_same(alignment.altered[name], mine):
        # The weights expected below have this alteration, so that they are not the reference's.
        return False
    if name in undone.grown:
        return is_mixture(mine, array, undone.grown[name])
    if not pairing.link.alike:
        # A short type has no such tolerance. The bound goes as well, and only equal weights pass.
        left = measure_writing_tolerance(mine)
        bound = left if bound is None or left is None else bound + left
    if name not in undone.expected:
        return is_rounding(mine, array, bound, other)
    expected = undone.expected[name]
    placed = undone.placed.get(name, pairing.suspect_weights[name])
    own = [np.asarray(r) for r in (bound, other) if r is not None]
    # The bounds hold for weights without factors. A factor above one makes them larger as well.
    share = np.divide(expected, mine, out=np.ones_like(expected), where=mine != 0)
    total = sum(o * np.maximum(np.abs(share), 1) for o in own) if own else None
    beside = np.zeros(())
    if is_shifted:
        beside = np.maximum(np.abs(mine), np.abs(placed)).astype(np.float64)
    return is_product(expected, placed, beside, total, undone.roundings.get(name, 1))


def _measure_writing_bounds(pairing: Pairing, matches: Sequence[Match]) -> WritingBounds:
    """Return the bounds of what rounding on the way to the normal forms leaves, by weight."""
    link = pairing.link
    found = {name: link.room(name) for name in link.places}
    theirs = {name: np.array(other) for name, (_, other) in found.items() if other is not None}
    groups = [g for g in pairing.symmetry.groups if any(s.initializer in theirs for s in g.slots)]
    # All weights of a group are moved together; zeros stand for those whose forms are exact.
    names = {s.initializer for g in groups for s in g.slots}
    whole = {n: np.zeros(link.reference.shape(n)) for n in names}
    permutations = {m.group: m.permutation for m in matches}
    placed = {**theirs, **permute_arrays({**whole, **theirs}, groups, permutations)}
    return {
        name: (mine, placed.get(name) if other is not None else None)
        for name, (mine, other) in found.items()
    }


def _list_alterations(
    pairing: Pairing, alignment: Alignment, result: Graph
) -> dict[str, tuple[Alteration, ...]]:
    """Return the steps by which each weight was altered; the last one may be noise."""
    undone = alignment.undone

    def list_steps(name: str) -> tuple[Alteration, ...]:
        steps = alignment.explained.get(name, ())
        expected, array = alignment.altered[name], pairing.link.array(name, result)
        level = 0.0 if is_same(expected, array) else measure_noise(expected, array)
        # Where something was undone, its rounding is left.
        is_rounded = bool(steps) or name in undone.expected or name in undone.grown
        if level > (RELATIVE_TOLERANCE if is_rounded else 0):
            steps = (*steps, Alteration("noise", {"level": level}))
        return steps

    found = zip(pairing.names, map_in_threads(list_steps, pairing.names), strict=True)
    return {name: steps for name, steps in found if steps}


def _concatenate_or_one(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return arrays one after the other, or a single one where there are none."""
    return np.concatenate(arrays) if arrays else np.ones(1)


# ---- models with other numbers of units


def _diagnose_unequal(
    pairing: Pairing, alignment: Alignment, found: Unequal, options: Options
) -> Diagnosis:
    """Find what else was done to a suspect with other numbers of units."""
    extension, suspect = pairing.extension, pairing.link.suspect
    assert extension is not None
    reference, kept, plain = _compare_unequal(pairing, found)
    # The analysis says that inserted units are not needed; a run has to confirm it.
    is_idle = (
        found.idle == sorted(found.extra)
        and not found.missing
        and have_equal_outputs(suspect, plain, options)
    )
    findings = _list_unit_findings(pairing, found, is_idle)
    findings += find_tampering(pairing.symmetry.groups, [(reference, kept)], UNDOING_TOLERANCE)
    groups, matches, arrays = write_matched(extension.models, found)
    is_stripped = options.strip and is_idle and bool(found.extra)
    aligned = plain if is_stripped else _write_weights(pairing, suspect, arrays)
    fixed: dict[str, np.ndarray] = {}
    if options.repair and is_stripped:
        fixed = repair_weights(pairing.symmetry.groups, findings, reference, kept)
    differences = _measure_differences(reference, kept)
    certainty, similarity = _list_unequal_figures(pairing, found)
    own = {g.id for g in pairing.symmetry.groups}
    unshown: tuple[str, ...] = ()
    if has_declared_values(suspect.model):
        unshown = list_unshown(suspect, {}, frozenset(), is_formed=True)
    return Diagnosis(
        findings=tuple(findings),
        aligned=aligned,
        result=_replace_weights(aligned, fixed) if fixed else aligned,
        weights=kept,
        symmetry=Symmetry(
            tuple(groups),
            extension.symmetry.pinned,
            extension.symmetry.unknown_operators,
            extension.symmetry.states,
        ),
        matches=tuple(matches),
        certainty=certainty,
        similarity=similarity,
        differences=differences,
        restored=is_idle and all(is_kept(reference[n], kept[n]) for n in reference),
        alterations={
            n: (Alteration("noise", {"level": measure_noise(reference[n], kept[n])}),)
            for n, d in differences.items()
            if d
        },
        repaired=bool(fixed),
        stripped=is_stripped,
        apart=unshown,
        # the reference's own units come first
        certainties={
            name: units[: extension.models.mine[name]]
            for name, units in _name_certainties(extension.models.groups, found.matches).items()
            if name in own
        },
    )


def _compare_unequal(
    pairing: Pairing, found: Unequal
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Graph]:
    """Return the weights of both models without units that only one of them has.

    The weights have the reference's names and shapes. What the suspect lacks is zero in both.

    Returns:
        The weights of the reference; those of the suspect; and the reference's model with the
        latter, before zeros are written.
    """
    graph = pairing.reference
    names = [n for n in found.plain if n not in pairing.analysis.values]
    kept = {n: np.array(found.plain[n][tuple(slice(k) for k in graph.shape(n))]) for n in names}
    plain = _replace_weights(graph, kept)
    reference = {n: np.array(graph.array(n)) for n in names}
    kept = {n: np.array(kept[n]) for n in names}
    for group, unit in found.missing:
        for slot in pairing.symmetry.group(group).slots:
            for side in (reference, kept):
                places = slot.places(side[slot.initializer].shape, unit)
                side[slot.initializer][np.ix_(*places)] = 0
    return reference, kept, plain


def _list_unit_findings(pairing: Pairing, found: Unequal, is_idle: bool) -> list[Finding]:
    """Return the units that only one of the models has."""
    first = {g.id: g.slots[0].initializer for g in pairing.symmetry.groups}
    kinds = ["obfuscated" if is_idle and unit in found.idle else "inserted" for unit in found.extra]
    findings = [
        Finding(kind, *unit, first[unit[0]], None, 0.0)
        for kind, unit in zip(kinds, found.extra, strict=True)
    ]
    return findings + [Finding(REMOVED, *unit, first[unit[0]], None, 0.0) for unit in found.missing]


def _list_unequal_figures(pairing: Pairing, found: Unequal) -> tuple[np.ndarray, np.ndarray]:
    """Return the certainty of each unit that has a copy, and the similarity of each one.

    The units are the reference's, in the order of its groups.
    """
    assert pairing.extension is not None
    similar, certain = [], []
    for match in found.matches:
        many = pairing.extension.models.mine[match.group]
        similar.append(match.similarity[:many])
        # A unit without a copy has the similarity zero.
        certain.append(match.certainty[np.flatnonzero(match.similarity[:many])])
    certainty = np.concatenate(certain)
    return certainty if certainty.size else np.zeros(1), np.concatenate(similar)


def _replace_weights(graph: Graph, arrays: Arrays) -> Graph:
    """Return a copy of a graph with other weights, by its own names."""
    result = graph.copy()
    for name, array in arrays.items():
        result.replace(name, array)
    return result
