"""The main job: match, rewrite, verify."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx import ModelProto

from .alterations import CLOSE, Alteration, explain, floating, noise, step
from .analysis import Analysis, analyse
from .errors import ArchitectureError, LadyError
from .evidence import finite, same
from .finder import extract
from .graph import Graph, captured, load
from .groups import Symmetry
from .incoming import Incoming, incoming
from .integrity import TAMPERING, UNSURE, Finding, Undone, repaired, tampered, undo
from .matching import ASSIGNMENTS, Match, Matcher, Progress
from .permutation import Model, write_permutation
from .runtime import Verification, compare
from .scaling import scalings
from .skeleton import FLOATING, Link, connect
from .unequal import differ, extended, matched, written

NOTE = "resynced"
EVIDENCE = ("all", "incoming")
FEW = 0.25
"""Where more of the weights differ than this share, none of them is tried for what the function does not depend on."""
CHUNK = 1 << 20
"""So many values are summed up at a time."""
SHORT = 1e-5
"""Types whose numbers are further apart than this are short."""
SOFTMAX = ("Softmax", "Attention", "MultiHeadAttention")
LARGE = 5.0
"""Weights are tried with values of this deviation, in units of their largest."""


@dataclass(frozen=True)
class Resync:
    """A suspect with its units back in the reference's order.

    Attributes:
        graph: the suspect's model, re-synchronised.
        symmetry: the groups that hold in both models.
        matches: where the units of each group were found, in the order of `symmetry.groups`.
        psi_estimate: percent of units that are likely to be in their place: the mean certainty of the matches.
        similarity: the mean cosine of matched units, 1.0 for a purely permuted suspect.
        max_weight_difference: the largest difference between a weight of the reference and of the result.
        exact: whether every weight of the result is the reference's, bit for bit.
        restored: whether every weight of the result is the reference's, to rounding.
        outputs_preserved: whether the result, before any repair, computes what the suspect computed; None if not asked.
        verified_by: `run` (onnxruntime), `proof` (only elements of the symmetry were applied), or None.
        verification: what onnxruntime found, None unless it ran.
        alterations: by weight, in the reference's names, what was done to it, first things first.
        integrity: what was done to single units, in the reference's names.
        repaired: whether what was tampered with has the reference's values now.
        stripped: whether units that the reference has not and the function does not need were taken out: the result has the
            reference's nodes then.
        alike: whether both files are written node by node alike; where not, weights and groups go by the names of the
            reference in the form that onnxruntime's optimiser gives it.
        apart: of files that are written differently, operators without weights that one has more often than the other.
        seconds: how long it took.
    """

    graph: Graph
    symmetry: Symmetry
    matches: tuple[Match, ...]
    psi_estimate: float
    similarity: float
    max_weight_difference: float
    exact: bool
    restored: bool
    outputs_preserved: bool | None
    verified_by: str | None
    verification: Verification | None
    alterations: Mapping[str, tuple[Alteration, ...]]
    integrity: tuple[Finding, ...]
    repaired: bool
    stripped: bool
    alike: bool
    apart: tuple[str, ...]
    seconds: float

    @property
    def model(self) -> ModelProto:
        """The re-synchronised model."""
        return self.graph.to_model(NOTE)

    @property
    def permutations(self) -> Mapping[str, np.ndarray]:
        """What was applied to the suspect: unit j of the result is unit `permutation[j]` of the suspect."""
        return {m.group: m.permutation for m in self.matches}

    @property
    def moved(self) -> int:
        """How many units stood elsewhere in the suspect."""
        return sum(m.moved for m in self.matches)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the re-synchronised model, whole or not at all."""
        self.graph.save(Path(path), NOTE)

    def save_permutation(self, path: str | os.PathLike[str]) -> None:
        """Writes the permutation that was applied to the suspect."""
        write_permutation(path, self.symmetry.groups, self.permutations, None)


def common(link: Link) -> tuple[Analysis, Symmetry]:
    """The groups, in the reference's names, that hold in both models, and the analysis behind them.

    A weight is constant along an axis only where it is in both. Raises ArchitectureError where the models
    differ in a shape or an index that their structure hangs on.
    """
    analysis = analyse(link.reference, link.constant_along)
    for name in sorted(analysis.values & link.places.keys()):
        if not np.array_equal(link.reference.array(name), link.array(name)):
            raise ArchitectureError(
                f"{link.suspect.name}: another architecture than {link.reference.name}: the shape or index "
                f"'{link.places[name].name}' has other values; compare models exported from the same network"
            )
    symmetry = extract(analysis)
    for name in sorted({s.initializer for g in symmetry.groups for s in g.slots} - link.places.keys()):
        raise ArchitectureError(
            f"{link.suspect.name}: another architecture than {link.reference.name}: nothing stands for the reference's "
            f"weight '{name}'; compare models exported from the same network"
        )
    return analysis, symmetry


# a suspect's weights may be as large as they like
@np.errstate(over="ignore", invalid="ignore")
def resync(
    reference: Model,
    suspect: Model,
    *,
    verify: str = "auto",
    provider: str = "auto",
    samples: int = 4,
    seed: int = 0,
    repair: bool = False,
    strip: bool = False,
    evidence: str = "all",
    assignment: str = "optimal",
    progress: Progress | None = None,
) -> Resync:
    """Finds where every unit of the reference lies in the suspect, and puts it back.

    Args:
        reference, suspect: paths or models of one architecture.
        verify: `run` compares the outputs with onnxruntime, `proof` relies on the analysis alone, `auto` runs
            where onnxruntime can, `none` leaves `outputs_preserved` open.
        provider: `auto`, `cpu` or `cuda`.
        samples, seed: how many random inputs to run, and their seed.
        repair: gives what was tampered with the reference's values.
        strip: takes out units that the reference has not, if the function needs none of them.
        evidence: `all` slots of a unit, or `incoming` weights alone, as the paper has it: no noise is estimated, no
            alteration explained, no factor undone.
        assignment: `optimal`, or `argmax`, for every unit the likeliest; with `incoming`, the paper's Algorithm 1.
        progress: called with how many of how many groups are matched.

    Raises LadyError where a model cannot be read or holds NaN, ArchitectureError where the two are not the
    same network.
    """
    if evidence not in EVIDENCE or assignment not in ASSIGNMENTS:
        raise LadyError(f"evidence is one of {', '.join(EVIDENCE)}, assignment one of {', '.join(ASSIGNMENTS)}")
    start = time.perf_counter()
    ours, theirs = load(reference), load(suspect)
    ours.check_numbers()
    theirs.check_numbers()
    given = theirs
    try:
        link = connect(ours, theirs)
    except ArchitectureError as error:
        longer = differ(ours, theirs)
        if longer is None:
            raise
        if evidence != "all" or assignment != "optimal":
            raise LadyError(
                f"{theirs.name}: has other numbers of units; give evidence 'all' and assignment 'optimal'"
            ) from error
        try:
            return _unequal(ours, theirs, longer, verify, provider, samples, seed, strip, repair, start, progress)
        except ArchitectureError:
            raise error from None
    ours, theirs = link.reference, link.suspect
    analysis, symmetry = common(link)
    names = list(link.places)
    view = {name: link.array(name) for name in names}
    if evidence == "incoming":
        done, altered = {}, {name: ours.array(name) for name in names}
        told = incoming(symmetry.groups, scalings(ours, analysis, symmetry.groups))
        paper = Incoming(symmetry.groups, altered, view, told, assignment)
        matches = paper.run(progress)
        undone = Undone(matches, moved := paper.moved(), moved, {}, ())
    else:
        done = {name: explained for name in names if (explained := _explained(ours.array(name), view[name])) is not None}
        altered = {name: done[name][0] if name in done else ours.array(name) for name in names}
        undone = _matched(ours, analysis, symmetry, altered, view, assignment, progress)
    matches, moved = undone.matches, undone.arrays
    least = UNSURE if undone.findings else 0.0
    findings = undone.findings + tampered(symmetry.groups, {**altered, **undone.expected}, {**view, **undone.placed}, least)
    for name in _inert(ours, {n: a for n, a in altered.items() if n in names}, {**view, **moved}):
        findings = (*(f for f in findings if f.slot != name), Finding("inert", None, None, name, None, 0.0))
        moved = {**moved, name: altered[name]}
    whole = theirs.copy()
    for name, array in moved.items():
        link.replace(whole, name, array)
    result = whole
    if repair:
        result = whole.copy()
        for name, array in repaired(symmetry.groups, findings, altered, {**view, **moved}).items():
            link.replace(result, name, array)
    apart = {n: link.array(n, result) for n in names if not same(ours.array(n), link.array(n, result))}
    differences = {n: _difference(ours.array(n), a) for n, a in apart.items()}
    verification, preserved, how = _preserved(given, whole, verify, provider, samples, seed)
    similarity = np.concatenate([m.similarity for m in matches]) if matches else np.ones(1)
    certainty = np.concatenate([m.certainty for m in matches]) if matches else np.ones(1)
    alterations = {}
    for name in names:
        steps = done[name][1] if name in done else ()
        array = link.array(name, result)
        level = 0.0 if same(altered[name], array) else noise(altered[name], array)
        if level > (CLOSE if steps else 0):
            steps = (*steps, Alteration("noise", {"level": level}))
        if steps:
            alterations[name] = steps
    return Resync(
        graph=result,
        symmetry=symmetry,
        matches=tuple(matches),
        psi_estimate=float(100 * certainty.mean()),
        similarity=float(similarity.mean()),
        max_weight_difference=max(differences.values(), default=0.0),
        exact=not differences,
        restored=all(_rounded(ours.array(n), a, view[n]) for n, a in apart.items()),
        outputs_preserved=preserved,
        verified_by=how,
        verification=verification,
        alterations=alterations,
        integrity=findings,
        repaired=repair and any(f.kind in TAMPERING for f in findings),
        stripped=False,
        alike=link.alike,
        apart=link.apart,
        seconds=time.perf_counter() - start,
    )


def _preserved(
    suspect: Graph, result: Graph, verify: str, provider: str, samples: int, seed: int
) -> tuple[Verification | None, bool | None, str | None]:
    """Does the result compute what the suspect did? What onnxruntime found, the answer, and who gave it."""
    if verify in ("auto", "run"):
        try:
            found = compare(suspect, result, samples=samples, seed=seed, provider_name=provider)
            return found, found.equal, "run"
        except LadyError:
            if verify == "run":
                raise
    return None, None if verify == "none" else True, None if verify == "none" else "proof"


def _alike(a: Graph, b: Graph, samples: int, seed: int) -> bool:
    """Do two models run, and compute the same?"""
    try:
        return compare(a, b, samples=samples, seed=seed, provider_name="cpu").equal
    except LadyError:
        return False


def _into_softmax(graph: Graph, name: str) -> bool:
    """Does whatever a weight does pass a softmax? What other operators hide in some inputs, others show."""
    reached = {name}
    for node in graph.nodes:
        if node.op_type not in SOFTMAX and reached & {*node.input, *captured(node)}:
            reached.update(node.output)
    return not any(v.name in reached for v in graph.model.graph.output)


def _inert(graph: Graph, reference: Mapping[str, np.ndarray], suspect: Mapping[str, np.ndarray]) -> list[str]:
    """Weights with one axis that differ where the function does not depend on them: the bias of keys in attention.

    There the reference computes the same with any values: with large random ones, of both signs, which no one chose.
    """
    apart = [n for n, a in reference.items() if floating(a) and not same(a, suspect[n])]
    kinds = (v.type.tensor_type.elem_type for v in graph.model.graph.output)
    if len(apart) > FEW * len(reference) or any(k not in FLOATING for k in kinds):
        return []
    found = []
    generator = np.random.default_rng(0)
    for name in apart:
        array = graph.array(name)
        if array.size != max(array.shape, default=0) or array.size < 2 or not _into_softmax(graph, name):
            continue
        changed = array.copy()
        where = ~np.isclose(finite(array), finite(suspect[name]), rtol=1e-5)
        drawn = generator.normal(0, LARGE * max(float(np.abs(finite(array)).max()), 1.0), int(where.sum()))
        changed[where] = drawn.astype(array.dtype)
        twin = graph.copy()
        twin.replace(name, changed)
        if where.any() and _alike(graph, twin, 2, 0):
            found.append(name)
    return found


def _unequal(
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
    """The same for a suspect with more or fewer units."""
    back = {b: a for a, b in names.items()}
    analysis = analyse(ours, lambda n, axis: ours.constant_along(n, axis) and theirs.constant_along(names[n], axis))
    symmetry = extract(analysis)
    own = extract(analyse(theirs, lambda n, axis: theirs.constant_along(n, axis) and ours.constant_along(back[n], axis)))
    both = extended(ours, theirs, names, symmetry.groups, own.groups)
    factors = scalings(ours, analysis, symmetry.groups)
    summed = [g for g in symmetry.groups if g.id in factors and not factors[g.id].crossed]
    found = matched(both, incoming(summed, factors), progress)
    matches, arrays = written(both, found)
    whole = theirs.copy()
    for name, array in arrays.items():
        whole.replace(names[name], array)
    kept = {n: np.array(a[tuple(slice(k) for k in ours.shape(n))]) for n, a in found.plain.items()}
    plain = ours.copy()
    for name in kept.keys() - analysis.values:
        plain.replace(name, kept[name])
    # what the analysis says of units that were inserted has to be seen as well
    idle = found.idle == sorted(found.extra) and not found.missing and _alike(theirs, plain, samples, seed)
    first = {g.id: g.slots[0].initializer for g in symmetry.groups}
    kinds = ["obfuscated" if idle and e in found.idle else "inserted" for e in found.extra]
    findings = [Finding(kind, *e, first[e[0]], None, 0.0) for kind, e in zip(kinds, found.extra, strict=True)]
    findings += [Finding("removed", *m, first[m[0]], None, 0.0) for m in found.missing]
    reference = {n: np.array(ours.array(n)) for n in kept.keys() - analysis.values}
    kept = {n: kept[n] for n in reference}
    for group, unit in found.missing:
        for slot in symmetry.group(group).slots:
            for side in (reference, kept):
                side[slot.initializer][np.ix_(*slot.places(side[slot.initializer].shape, unit))] = 0
    findings += tampered(symmetry.groups, reference, kept, UNSURE)
    stripped = strip and idle and bool(found.extra)
    result = plain if stripped else whole
    fixed = repaired(symmetry.groups, findings, reference, kept) if repair and stripped else {}
    differences = {n: _difference(reference[n], kept[n]) for n in reference}
    verification, preserved, how = _preserved(theirs, result, verify, provider, samples, seed)
    if fixed:
        result = result.copy()
        for name, array in fixed.items():
            result.replace(name, array)
    missing = {(g, u) for g, u in found.missing}
    similar, certain = [], []
    for match in found.matches:
        many = both.mine[match.group]
        there = [u for u in range(many) if (match.group, u) not in missing]
        similar.append(match.similarity[:many])
        certain.append(match.certainty[there])
    return Resync(
        graph=result,
        symmetry=replace(own, groups=tuple(replace(both.twins[g.id], id=g.id, parents=g.parents) for g in symmetry.groups)),
        matches=tuple(matches),
        psi_estimate=float(100 * np.concatenate(certain).mean()) if sum(c.size for c in certain) else 0.0,
        similarity=float(np.concatenate(similar).mean()),
        max_weight_difference=max(differences.values()),
        exact=False,
        restored=idle and all(_rounded(reference[n], kept[n], kept[n]) for n in reference),
        outputs_preserved=preserved,
        verified_by=how,
        verification=verification,
        alterations={n: (Alteration("noise", {"level": noise(reference[n], kept[n])}),) for n, d in differences.items() if d},
        integrity=tuple(findings),
        repaired=bool(fixed),
        stripped=stripped,
        alike=False,
        apart=(),
        seconds=time.perf_counter() - start,
    )


def _matched(
    graph: Graph,
    analysis: Analysis,
    symmetry: Symmetry,
    reference: Mapping[str, np.ndarray],
    suspect: Mapping[str, np.ndarray],
    assignment: str,
    progress: Progress | None,
) -> Undone:
    """The suspect with its units in place, and no longer multiplied."""
    matcher = Matcher(symmetry.groups, reference, suspect, assignment=assignment)
    matcher.begin(progress)
    touched = {s.initializer for g in symmetry.groups for s in g.slots}
    # the same values in another order were not multiplied
    if not matcher.settled and any(_sums(reference[n]) != _sums(suspect[n]) for n in touched):
        factors = scalings(graph, analysis, symmetry.groups)
        undone = undo(symmetry.groups, factors, reference, suspect, matcher.found(), progress)
        if undone is not None:
            return undone
    matcher.finish()
    moved = matcher.moved()
    return Undone(matcher.found(), moved, moved, {}, ())


def _explained(reference: np.ndarray, suspect: np.ndarray) -> tuple[np.ndarray, tuple[Alteration, ...]] | None:
    """How a weight was altered, whatever its order; None where it was not, or not in a way that is known."""
    if not floating(reference) or _sums(reference) == _sums(suspect):
        return None
    altered, how = explain(reference, suspect)
    return (altered, how) if how else None


def _sums(array: np.ndarray) -> int:
    """The same for the same values in another order, and hardly for others."""
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(-1)
    total = 0
    for start in range(0, bits.size, CHUNK):
        # a sign is a bit that adds up with others: it has to touch them
        mixed = (bits[start : start + CHUNK].astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
        total += int((mixed * mixed).sum(dtype=np.uint64))
    return total


def _rounded(reference: np.ndarray, result: np.ndarray, suspect: np.ndarray) -> bool:
    """Is the result no further from the reference than rounding leaves a weight that was like the suspect's?"""
    if not floating(reference):
        return not _difference(reference, result)
    x, y, z = (finite(a).astype(np.float64) for a in (reference, result, suspect))
    most = max(float(np.abs(a).max(initial=0)) for a in (x, z))
    unit = step(reference.dtype)
    if unit < SHORT:
        return float(np.abs(x - y).max(initial=0)) <= 8 * unit * most
    # a step of a short type is no small change: each element by itself
    return bool((np.abs(x - y) <= unit * (4 * np.maximum(np.abs(x), np.abs(y)) + most / 16)).all())


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if not a.size:
        return 0.0
    if a.dtype == object or a.dtype.kind in "SUb":
        return float((a != b).any())
    with np.errstate(invalid="ignore"):
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(np.nan_to_num(gap, nan=0.0).max())
