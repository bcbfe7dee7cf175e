"""Stage 2 of the main job: where every unit lies.

What was done to whole weights and whole groups is undone on the way, because units are not found
without that.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..diagnosis.alterations import Alteration, describe_pruning, explain_alterations
from ..diagnosis.mixing.maps import undo_mixing
from ..diagnosis.mixing.rotations import undo_rotations
from ..diagnosis.pruning import count_pruned_elements, guess_pruned_elements, prune_array
from ..diagnosis.tampering.moves import is_nearly_equal
from ..diagnosis.undoing import undo_rescaling
from ..diagnosis.undone import Undone, join_enlargements
from ..graph.model import lay_out_weights
from ..groups.permutations import Arrays
from ..matching.incoming import IncomingMatcher, find_incoming_slots
from ..matching.matcher import Matcher
from ..matching.matches import Match
from ..matching.unequal.surplus import Unequal, match_extended
from ..numerics import hash_values, is_float_array
from ..reporting import Progress
from ..threads import map_in_threads
from .options import Options
from .pairing import Pairing
from .verification import have_equal_outputs

MIN_SURE_CERTAINTY = 0.99
"""Where units are less certain on average, weights with many zeros may have been pruned."""
MIN_GAINED_CERTAINTY = 0.1
"""Weights with long tails are taken for pruned if units are surer by this on average."""
TRIED_SHARES = (1.0, 0.5, 0.25)
"""Tails say how many elements pruning left. Noise hides how few these are, so fewer are tried."""
Align = Callable[[Arrays, Arrays], Undone]
"""Finds the units of a reference in a suspect, given the weights of both by the same names."""


@dataclass(frozen=True)
class Alignment:
    """The place of every unit in the suspect, and what was undone to find it.

    Attributes:
        matches: for every group where its units lie in the suspect.
        altered: the reference's weights with the alterations of the suspect: quantised, pruned, ...
        explained: by weight the steps of its alteration, for those that are known.
        undone: the suspect with its units in place, and with factors and maps taken out.
        pruned: the weights that were pruned, as their zeros or tails say, if it is in doubt where
            units are and no alteration explains them. Of single units in them nothing is said.
        unequal: what became of the units where the models have different numbers of them, else
            None.
    """

    matches: list[Match]
    altered: Mapping[str, np.ndarray]
    explained: Mapping[str, tuple[Alteration, ...]] = field(default_factory=dict)
    undone: Undone = field(default_factory=lambda: Undone([], {}, {}, {}, ()))
    pruned: frozenset[str] = frozenset()
    unequal: Unequal | None = None


def align_units(pairing: Pairing, options: Options, progress: Progress | None) -> Alignment:
    """Find where every unit of the reference lies in the suspect.

    Args:
        pairing: the two models.
        options: which evidence and which assignment are used.
        progress: called with the number of groups that are matched, and that of all.
    """
    if pairing.extension is not None:
        return _align_unequal(pairing, progress)
    if options.evidence == "incoming":
        return _align_as_the_paper_does(pairing, options, progress)
    return _align_with_alterations(pairing, options, progress)


def _align_unequal(pairing: Pairing, progress: Progress | None) -> Alignment:
    """Match the units of both models, and tell which of them only one has."""
    assert pairing.extension is not None
    scalings = pairing.scalings
    # Units inside a head may meet in other ways than a sum: the head as a whole is summed over.
    summed = [
        g
        for g in pairing.symmetry.groups
        if g.id in scalings and (g.parents or not scalings[g.id].crossed)
    ]
    slots = find_incoming_slots(summed, scalings)
    silent = {name for name, scaling in scalings.items() if scaling.is_zero_kept}
    found = match_extended(pairing.extension.models, slots, silent, progress)
    return Alignment(found.matches, pairing.reference_weights, unequal=found)


def _align_as_the_paper_does(
    pairing: Pairing, options: Options, progress: Progress | None
) -> Alignment:
    """Match units by their incoming weights alone; explain no alteration and undo no factor.

    The cosines tell which unit is the nearest, also among those of a stranger. So how certain the
    matches are is what all evidence says of the same ones.
    """
    altered, groups = pairing.reference_weights, pairing.symmetry.groups
    slots = find_incoming_slots(groups, pairing.scalings)
    matcher = IncomingMatcher(groups, altered, pairing.suspect_weights, slots, options.assignment)
    matches, moved = matcher.run(progress), matcher.moved()
    usual = {m.group: m for m in _align_with_alterations(pairing, Options(), None).matches}
    matches = [
        replace(
            m,
            certainty=np.where(
                m.permutation == usual[m.group].permutation, usual[m.group].certainty, 0.0
            ),
        )
        for m in matches
    ]
    return Alignment(matches, altered, undone=Undone(matches, moved, moved, {}, ()))


def _align_with_alterations(
    pairing: Pairing, options: Options, progress: Progress | None
) -> Alignment:
    """Explain alterations of whole weights, match all units, and undo factors and maps."""

    def align(reference: Arrays, suspect: Arrays) -> Undone:
        return _align_and_unscale(pairing, options.assignment, reference, suspect)

    lay_out_weights(pairing.given)
    ours, theirs = pairing.reference_weights, pairing.suspect_weights
    altered, steps = explain_weights(ours, theirs)
    found = _align_and_unscale(pairing, options.assignment, altered, theirs, progress)
    aligned = Alignment(found.matches, altered, steps, found)
    aligned = _reconsider_scaled(ours, theirs, aligned, align)
    aligned = _reconsider_pruned(ours, theirs, aligned, align)

    # Models are run only if a rotation was found, so this is asked later, and not computed here.
    def is_preserved() -> bool:
        return have_equal_outputs(pairing.reference, pairing.given, options)

    undone = _undo_maps(pairing, aligned.altered, theirs, aligned.undone, align, is_preserved)
    return replace(aligned, matches=undone.matches, undone=undone)


def _measure_certainty(found: Undone) -> float:
    """Return the mean certainty of all units, one where there are none."""
    certainties = [m.certainty for m in found.matches]
    return float(np.concatenate(certainties).mean()) if certainties else 1.0


def explain_weights(
    reference: Arrays, suspect: Arrays
) -> tuple[dict[str, np.ndarray], dict[str, tuple[Alteration, ...]]]:
    """Explain how weights were altered, whatever their order.

    Returns:
        The reference's weights with the alterations of the suspect, and by weight the steps of its
        alteration, for those that are known.
    """
    names = [name for name, array in reference.items() if is_float_array(array)]
    found = map_in_threads(lambda name: explain_alterations(reference[name], suspect[name]), names)
    done = {name: each for name, each in zip(names, found, strict=True) if each[1]}
    altered = {**reference, **{name: array for name, (array, _) in done.items()}}
    return altered, {name: how for name, (_, how) in done.items()}


def _align_and_unscale(
    pairing: Pairing,
    assignment: str,
    reference: Arrays,
    suspect: Arrays,
    progress: Progress | None = None,
) -> Undone:
    """Find the suspect's units, and take out the factors by which they were multiplied."""
    groups = pairing.symmetry.groups
    matcher = Matcher(groups, reference, suspect, assignment=assignment)
    # Factors are measured on what the quick search found; the thorough one may then be left out.
    matcher.begin(progress)
    touched = {s.initializer for g in groups for s in g.slots}
    # Weights with the same values in another order were not multiplied. Small ones tell it first.
    names = sorted(touched, key=lambda n: (reference[n].size, n))
    is_reordered = all(hash_values(reference[n]) == hash_values(suspect[n]) for n in names)
    if not matcher.settled and not is_reordered:
        undone = undo_rescaling(
            groups,
            pairing.scalings,
            reference,
            suspect,
            matcher.found(),
            matcher.moved(),
            progress,
        )
        if undone is not None:
            return undone
    matcher.finish()
    moved = matcher.moved()
    return Undone(matcher.found(), moved, moved, {}, (), settled=matcher.settled)


def _reconsider_scaled(ours: Arrays, theirs: Arrays, aligned: Alignment, align: Align) -> Alignment:
    """Take weights that seem to be multiplied as a whole for weights whose units are multiplied.

    Both look the same in a single weight. Factors of units explain it better where another weight
    has the inverse factor, because then the function is as it was.

    Args:
        ours, theirs: the weights of the reference and of the suspect.
        aligned: what was found so far.
        align: finds the units.

    Returns:
        What is found without the alterations that factors explain.
    """
    steps = aligned.explained
    scaled = {name for name, how in steps.items() if [s.kind for s in how] == ["scaled"]}
    while scaled:
        plain = {**aligned.altered, **{name: ours[name] for name in scaled}}
        trial = align(plain, theirs)
        back = {n for n in scaled if is_nearly_equal(plain[n], trial.arrays.get(n, theirs[n]))}
        # Each turn drops a weight that factors of units do not explain, or ends the loop.
        if back == scaled:
            kept = {name: how for name, how in steps.items() if name not in scaled}
            return Alignment(trial.matches, plain, kept, trial)
        scaled = back
    return aligned


def _reconsider_pruned(ours: Arrays, theirs: Arrays, aligned: Alignment, align: Align) -> Alignment:
    """Take weights with many zeros or long tails for pruned ones, if units are surer then.

    Args:
        ours, theirs, aligned, align: as for `_reconsider_scaled`.

    Returns:
        What is found with these weights pruned, if it was in doubt where units are.
    """
    if _measure_certainty(aligned.undone) >= MIN_SURE_CERTAINTY:
        return aligned
    trials = _list_pruning_trials(ours, theirs, aligned.explained)
    zeros, _ = trials[0]
    best = replace(aligned, pruned=frozenset(zeros))
    for counts, least_gain in trials:
        least = _measure_certainty(best.undone) + least_gain
        if not counts or least >= 1:
            continue
        guessed = {n: prune_array(ours[n], k) for n, k in counts.items()}
        altered = {**aligned.altered, **guessed}
        trial = align(altered, theirs)
        if _measure_certainty(trial) > least:
            told = {n: (describe_pruning(a, is_guess=n not in zeros),) for n, a in guessed.items()}
            steps = {**aligned.explained, **told}
            best = Alignment(trial.matches, altered, steps, trial, frozenset(guessed))
    return best


def _list_pruning_trials(
    ours: Arrays, theirs: Arrays, explained: Container[str]
) -> list[tuple[dict[str, int], float]]:
    """List what may have been pruned in weights that nothing else explains.

    Returns:
        By weight how many elements were pruned, and by how much surer units have to be with that.
        What zeros say is the first.
    """
    zeros = {n: k for n, k in count_pruned_elements(ours, theirs).items() if n not in explained}
    trials = [(zeros, 0.0)]
    tails = guess_pruned_elements(ours, theirs)
    left = {n: ours[n].size - k for n, k in tails.items() if not (n in zeros or n in explained)}
    # Zeros are seen. Tails are a guess, which counts only if units are much surer with it.
    for share in TRIED_SHARES if left else ():
        fewer = {n: ours[n].size - round(k * share) for n, k in left.items()}
        trials.append(({**zeros, **fewer}, MIN_GAINED_CERTAINTY))
    return trials


def _undo_maps(
    pairing: Pairing,
    reference: Arrays,
    suspect: Arrays,
    undone: Undone,
    align: Align,
    is_preserved: Callable[[], bool],
) -> Undone:
    """Undo rotations and mixing of whole groups, and align what is left.

    Args:
        pairing: the two models.
        reference: the weights of the reference.
        suspect: the weights of the suspect.
        undone: the result of `align`.
        align: finds the units.
        is_preserved: tells whether the suspect computes what the reference does.
    """
    if undone.settled:
        return undone
    groups, scalings = pairing.symmetry.groups, pairing.scalings
    rotated = undo_rotations(groups, scalings, reference, suspect, undone.matches)
    # Not every norm allows every rotation, so a run has to confirm them.
    if rotated.findings and not is_preserved():
        return undone
    if rotated.findings:
        suspect = {**suspect, **rotated.arrays}
        undone = align(reference, suspect)
    mixed = undo_mixing(groups, scalings, reference, suspect, undone.matches, align)
    if mixed.findings:
        undone = align(reference, {**suspect, **mixed.arrays})
    # The last alignment moved some of the unmixed weights on, so its arrays go over theirs.
    plain = {**rotated.arrays, **mixed.arrays}
    return replace(
        undone,
        arrays={**plain, **undone.arrays},
        placed={**plain, **undone.placed},
        findings=(*rotated.findings, *mixed.findings, *undone.findings),
        grown=join_enlargements(rotated.grown, mixed.grown),
    )
