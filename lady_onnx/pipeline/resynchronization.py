"""The main job: match, rewrite, verify."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..dataflow.engine import Analysis, analyse_graph
from ..diagnosis.alterations import (
    RELATIVE_TOLERANCE,
    Alteration,
    explain_alterations,
    measure_noise,
)
from ..diagnosis.findings import PARTLY_TRAINED, REPLACEABLE, Finding
from ..diagnosis.interchangeable import find_interchangeable_units
from ..diagnosis.mixing.maps import undo_mixing
from ..diagnosis.mixing.rotations import undo_rotations
from ..diagnosis.tampering.detection import find_tampering
from ..diagnosis.tampering.moves import UNDOING_TOLERANCE, is_nearly_equal
from ..diagnosis.tampering.repair import repair_weights
from ..diagnosis.undoing import undo_rescaling
from ..diagnosis.undone import Undone
from ..errors import ArchitectureError, LadyError, check_choice, check_whole_number
from ..graph.loading import load_graph
from ..groups.model import Symmetry
from ..groups.permutations import Arrays, permute_arrays
from ..groups.scaling import Scaling
from ..matching.alignment import Progress
from ..matching.assignment import ASSIGNMENTS
from ..matching.incoming import IncomingMatcher, find_incoming_slots
from ..matching.matcher import Matcher
from ..matching.matches import Match
from ..numerics import is_float_array, is_same
from ..pairing.counterparts import Link, pair_by_name_alone, pair_models
from ..runtime.sessions import PROVIDERS
from ..scaling.biases import find_cancelling_biases, find_inert_biases
from ..scaling.walk import find_scalings
from ..symmetry.finder import extract_groups
from .outcome import (
    Resync,
    have_equal_outputs,
    is_mixture,
    is_product,
    is_rounding,
    measure_difference,
    measure_writing_tolerance,
    verify_result,
)
from .permuting import Model
from .sizes import resync_sizes

EVIDENCE = ("all", "incoming")
VERIFY = ("auto", "run", "proof", "none")
CHUNK = 1 << 20
"""So many values are summed up at a time."""


def common(link: Link) -> tuple[Analysis, Symmetry]:
    """The groups, in the reference's names, that hold in both models, and the analysis behind them.

    A weight is constant along an axis, and two numbers are equal, only where they are in both. Raises ArchitectureError
    where the models differ in a shape or an index that their structure hangs on.
    """
    analysis = analyse_graph(link.reference, link.constant_along, link.number)
    for name in sorted(analysis.values & link.places.keys()):
        if not np.array_equal(link.reference.array(name), link.array(name)):
            raise ArchitectureError(
                f"{link.suspect.name}: another architecture than {link.reference.name}: the shape or index "
                f"'{link.places[name].name}' has other values; compare models exported from the same network"
            )
    symmetry = extract_groups(analysis)
    for name in sorted(
        {s.initializer for g in symmetry.groups for s in g.slots} - link.places.keys()
    ):
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
    check_choice("verify", verify, VERIFY)
    check_choice("provider", provider, PROVIDERS)
    check_choice("evidence", evidence, EVIDENCE)
    check_choice("assignment", assignment, ASSIGNMENTS)
    check_whole_number("samples", samples, 1)
    check_whole_number("seed", seed)
    start = time.perf_counter()
    ours, theirs = load_graph(reference), load_graph(suspect)
    ours.check_numbers()
    theirs.check_numbers()
    given = theirs
    try:
        link = pair_models(ours, theirs)
    except ArchitectureError as error:
        longer = pair_by_name_alone(ours, theirs)
        if longer is None:
            raise
        if evidence != "all" or assignment != "optimal":
            raise LadyError(
                f"{theirs.name}: has other numbers of units; give evidence 'all' and assignment 'optimal'"
            ) from error
        try:
            return resync_sizes(
                ours,
                theirs,
                longer,
                verify,
                provider,
                samples,
                seed,
                strip,
                repair,
                start,
                progress,
            )
        except ArchitectureError:
            raise error from None
    ours, theirs = link.reference, link.suspect
    analysis, symmetry = common(link)
    names = list(link.places)
    view = {name: link.array(name) for name in names}
    factors = functools.cache(lambda: find_scalings(ours, analysis, symmetry.groups))
    if evidence == "incoming":
        done, altered = {}, {name: ours.array(name) for name in names}
        told = find_incoming_slots(symmetry.groups, factors())
        paper = IncomingMatcher(symmetry.groups, altered, view, told, assignment)
        matches = paper.run(progress)
        undone = Undone(matches, moved := paper.moved(), moved, {}, ())
    else:
        done = {
            name: explained
            for name in names
            if (explained := _explained(ours.array(name), view[name])) is not None
        }
        altered = {name: done[name][0] if name in done else ours.array(name) for name in names}
        align = functools.partial(_aligned, symmetry, factors, assignment)
        found = align(altered, view, progress)
        # a weight that was multiplied as a whole may be taken back by others
        scaled = {
            name for name, (_, steps) in done.items() if [s.kind for s in steps] == ["scaled"]
        }
        while scaled:
            plain = {**altered, **{name: ours.array(name) for name in scaled}}
            trial = align(plain, view)
            back = {n for n in scaled if is_nearly_equal(plain[n], trial.arrays.get(n, view[n]))}
            if back == scaled:
                done = {name: explained for name, explained in done.items() if name not in scaled}
                altered, found = plain, trial
                break
            scaled = back
        undone = _unmixed(
            symmetry,
            factors,
            align,
            altered,
            view,
            found,
            lambda: have_equal_outputs(ours, given, samples, seed),
        )
    matches, moved = undone.matches, undone.arrays
    least = UNDOING_TOLERANCE if undone.findings else 0.0
    # what was added before units were multiplied grew with them, what was added after did not
    frames = [({**altered, **undone.expected}, {**view, **undone.placed})]
    if undone.expected:
        frames.append((altered, {**view, **moved}))
    odd = find_tampering(symmetry.groups, frames, least)
    findings = undone.findings + odd
    now = {**view, **moved}
    free: list[tuple[str, tuple[str, ...]]] = [
        ("inert", (n,)) for n in find_inert_biases(ours, altered, now)
    ]
    free += [("shifted", pair) for pair in find_cancelling_biases(ours, altered, now)]
    for kind, biases in free:
        findings = (
            *(f for f in findings if f.slot not in biases),
            Finding(kind, None, None, biases[0], None, 0.0),
        )
        moved = {**moved, **{name: altered[name] for name in biases}}
    whole = theirs.copy()
    for name, array in moved.items():
        link.replace(whole, name, array)
    result = whole
    if repair:
        result = whole.copy()
        for name, array in repair_weights(
            symmetry.groups, findings, altered, {**view, **moved}
        ).items():
            link.replace(result, name, array)
    apart = {
        n: link.array(n, result) for n in names if not is_same(ours.array(n), link.array(n, result))
    }
    differences = {n: measure_difference(ours.array(n), a) for n, a in apart.items()}
    rooms = _rooms(link, symmetry, matches)
    added = (
        {shift.bias for s in factors().values() for shift in s.shifts} if undone.expected else set()
    )

    def is_restored(name: str, array: np.ndarray) -> bool:
        mine, (room, other) = ours.array(name), rooms.get(name, (None, None))
        if name in done and not is_same(altered[name], mine):
            # what was expected below is the reference's weight as it was altered
            return False
        if name in undone.grown:
            return is_mixture(mine, array, undone.grown[name])
        if not link.alike:
            left = measure_writing_tolerance(mine)
            room = left if room is None or left is None else room + left
        if name not in undone.expected:
            return is_rounding(mine, array, room, other)
        expected, placed = undone.expected[name], undone.placed.get(name, view[name])
        own = [np.asarray(r) for r in (room, other) if r is not None]
        share = np.divide(expected, mine, out=np.ones_like(expected), where=mine != 0)
        left = sum(o * np.maximum(np.abs(share), 1) for o in own) if own else None
        beside = (
            np.maximum(np.abs(mine), np.abs(placed)).astype(np.float64)
            if name in added
            else np.zeros(())
        )
        return is_product(expected, placed, beside, left, undone.roundings.get(name, 1))

    restored = all(is_restored(n, a) for n, a in apart.items())
    if restored:
        # rounding that the ways to write a file leave in few weights is no training of these
        findings = tuple(f for f in findings if f.kind != PARTLY_TRAINED)
    shown = result
    whole, result = link.written(whole), link.written(result)
    verification, kept_outputs, how = verify_result(given, whole, verify, provider, samples, seed)
    similarity = np.concatenate([m.similarity for m in matches]) if matches else np.ones(1)
    certainty = np.concatenate([m.certainty for m in matches]) if matches else np.ones(1)
    alterations = {}
    for name in names:
        steps = done[name][1] if name in done else ()
        array = link.array(name, shown)
        level = 0.0 if is_same(altered[name], array) else measure_noise(altered[name], array)
        # what was undone left its rounding
        if level > (
            RELATIVE_TOLERANCE if steps or name in undone.expected or name in undone.grown else 0
        ):
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
        restored=restored,
        outputs_preserved=kept_outputs,
        verified_by=how,
        verification=verification,
        alterations=alterations,
        integrity=findings,
        interchangeable=find_interchangeable_units(
            symmetry.groups, factors(), {n: ours.array(n) for n in names}
        )
        if differences
        else {},
        repaired=repair and any(f.kind in REPLACEABLE for f in findings),
        stripped=False,
        alike=link.alike,
        apart=link.apart,
        bits=link.bits,
        seconds=time.perf_counter() - start,
    )


def _rooms(
    link: Link, symmetry: Symmetry, matches: Sequence[Match]
) -> dict[str, tuple[np.ndarray | None, np.ndarray | None]]:
    """By weight what rounding on the way to the forms leaves: the reference's, and the suspect's with its units in place."""
    found = {name: link.room(name) for name in link.places}
    theirs = {name: np.array(other) for name, (_, other) in found.items() if other is not None}
    groups = [g for g in symmetry.groups if any(s.initializer in theirs for s in g.slots)]
    # slots in weights that are exact have nothing to move
    whole = {
        s.initializer: np.zeros(link.reference.shape(s.initializer))
        for g in groups
        for s in g.slots
    }
    placed = {
        **theirs,
        **permute_arrays({**whole, **theirs}, groups, {m.group: m.permutation for m in matches}),
    }
    return {
        name: (mine, placed.get(name) if other is not None else None)
        for name, (mine, other) in found.items()
    }


def _unmixed(
    symmetry: Symmetry,
    factors: Callable[[], Mapping[str, Scaling]],
    align: Callable[..., Undone],
    reference: Arrays,
    suspect: Arrays,
    undone: Undone,
    kept: Callable[[], bool],
) -> Undone:
    """What `align` found, or, where units were mixed, what it finds once that is undone; `kept` says if the function is."""
    if undone.settled:
        return undone
    rotated = undo_rotations(symmetry.groups, factors(), reference, suspect, undone.matches)
    # not every norm allows every rotation
    if rotated.findings and not kept():
        return undone
    if rotated.findings:
        suspect = {**suspect, **rotated.arrays}
        undone = align(reference, suspect)
    mixed = undo_mixing(symmetry.groups, factors(), reference, suspect, undone.matches, align)
    if mixed.findings:
        undone = align(reference, {**suspect, **mixed.arrays})
    plain = {**rotated.arrays, **mixed.arrays}
    return replace(
        undone,
        arrays={**plain, **undone.arrays},
        placed={**plain, **undone.placed},
        findings=(*rotated.findings, *mixed.findings, *undone.findings),
        grown={**rotated.grown, **mixed.grown},
    )


def _aligned(
    symmetry: Symmetry,
    factors: Callable[[], Mapping[str, Scaling]],
    assignment: str,
    reference: Arrays,
    suspect: Arrays,
    progress: Progress | None = None,
) -> Undone:
    """The suspect with its units in place, and no longer multiplied."""
    matcher = Matcher(symmetry.groups, reference, suspect, assignment=assignment)
    matcher.begin(progress)
    touched = {s.initializer for g in symmetry.groups for s in g.slots}
    # the same values in another order were not multiplied
    if not matcher.settled and any(
        _hash_values(reference[n]) != _hash_values(suspect[n]) for n in touched
    ):
        undone = undo_rescaling(
            symmetry.groups, factors(), reference, suspect, matcher.found(), progress
        )
        if undone is not None:
            return undone
    matcher.finish()
    moved = matcher.moved()
    return Undone(matcher.found(), moved, moved, {}, (), settled=matcher.settled)


def _explained(
    reference: np.ndarray, suspect: np.ndarray
) -> tuple[np.ndarray, tuple[Alteration, ...]] | None:
    """How a weight was altered, whatever its order; None where it was not, or not in a way that is known."""
    if not is_float_array(reference) or _hash_values(reference) == _hash_values(suspect):
        return None
    altered, how = explain_alterations(reference, suspect)
    return (altered, how) if how else None


def _hash_values(array: np.ndarray) -> int:
    """The same for the same values in another order, and hardly for others."""
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(-1)
    total = 0
    for start in range(0, bits.size, CHUNK):
        # a sign is a bit that adds up with others: it has to touch them
        mixed = (bits[start : start + CHUNK].astype(np.uint64) + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        mixed ^= mixed >> np.uint64(32)
        total += int((mixed * mixed).sum(dtype=np.uint64))
    return total
