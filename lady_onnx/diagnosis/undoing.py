"""Takes the factors out of a suspect that its structure lets pass, once it is sure of them.

This module decides whether a suspect was multiplied at all, drives `unscaling`, and keeps the
result only if the suspect is nearer to the reference with the factors out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..groups.model import Group
from ..groups.permutations import Arrays, permute_arrays
from ..groups.scaling import Scaling
from ..matching.matches import Match
from ..matching.search import MIN_MEAN_CERTAINTY
from ..numerics import is_float_array
from ..reporting import Progress
from ..threads import map_in_threads
from .factors.choice import EQUAL_FACTOR_TOLERANCE, choose_factors
from .factors.fitting import Factors, fit_allowed_factors
from .factors.measuring import are_in_proportion, measure_factors
from .factors.rounding import apply_factors, count_roundings, refine_rounded_factors
from .findings import Finding
from .undone import Undone
from .unscaling import Unscaler

MIN_MEAN_SIMILARITY = 0.5
"""Below this mean similarity of the units, factors out, the models have nothing in common."""
MIN_UNIT_SIMILARITY = 0.5
"""A unit below this similarity has no copy, if the median unit has one.

The median unit has one if its similarity is above one less a quarter of this.
"""
MIN_GROWTH_CORRELATION = 0.1
"""If logarithms of differences and of weights correlate less, differences do not grow with weights.
"""
SAMPLED_ELEMENTS_PER_WEIGHT = 10_000
"""About this many elements of a weight tell that correlation."""
MIN_PLACED_FACTOR = 0.7
"""Below this median factor units are not compared with their own copies.

The median ratio of unrelated numbers is about zero.
"""
MAX_QUICK_UNITS = 2048
"""If a group has more units than this, a round of search takes long."""


def undo_rescaling(
    groups: Sequence[Group],
    scalings: Mapping[str, Scaling],
    reference: Arrays,
    suspect: Arrays,
    matches: Sequence[Match],
    moved: Arrays,
    progress: Progress | None = None,
) -> Undone | None:
    """Take the factors out of a suspect that its structure lets pass.

    Args:
        groups: the groups, inner ones first.
        scalings: by group id the factors that its units may have.
        reference, suspect: the weights by the same names.
        matches: where the units are if none was multiplied.
        moved: the weights of the suspect of which units were moved, in their places by that.
        progress: called with how many of how many groups are done.

    Returns:
        The suspect without factors, or None if there are none.
    """
    aligned = {**suspect, **moved}
    names = {s.initializer for g in groups for s in g.slots}
    free = {g: s for g, s in scalings.items() if s.free and _are_weights_floating(s, suspect)}
    if not _may_be_multiplied(groups, free, names, reference, aligned, matches):
        return None
    unscaler = Unscaler(groups, reference, suspect, free)

    def is_nearer(now: Arrays) -> bool:
        return _are_nearer(reference, {n: a for n, a in now.items() if n in names}, aligned)

    # Of many units, what is found at first tells whether there is anything to be found.
    is_wide = max(g.size for g in groups) > MAX_QUICK_UNITS
    found = unscaler.run(progress, is_nearer if is_wide else None)
    if not found:
        return None
    if np.concatenate([m.similarity for m in found]).mean() < MIN_MEAN_SIMILARITY:
        return None
    placed = permute_arrays(suspect, groups, {m.group: m.permutation for m in found})
    # The chosen factors are taken out of the suspect's own weights, at once. Those of `unscaler`
    # were divided in steps, also by factors that are not chosen.
    choice = _choose_and_refine(unscaler.collect_factors(), reference, {**suspect, **placed})
    findings = _report_factors(choice)
    arrays, expected = apply_factors(
        choice.factors, choice.chosen, reference, {**suspect, **placed}
    )
    if not findings or not _are_nearer(reference, arrays, aligned):
        return None
    arrays = {n: a.astype(np.asarray(suspect[n]).dtype) for n, a in {**placed, **arrays}.items()}
    return Undone(found, arrays, placed, expected, tuple(findings), roundings=choice.roundings)


@dataclass(frozen=True)
class _Choice:
    """The factors to take out.

    Attributes:
        factors: By group id what was measured.
        chosen: By group id the factors, float64 [slots, units].
        roundings: By weight of a short type how many groups have factors in it.
    """

    factors: Mapping[str, Factors]
    chosen: Mapping[str, np.ndarray]
    roundings: Mapping[str, int]


def _choose_and_refine(
    factors: Mapping[str, Factors], reference: Arrays, placed: Arrays
) -> _Choice:
    """Choose the factors to take out, and refine those of short weights."""
    chosen = choose_factors(factors)
    roundings = count_roundings(factors, chosen, placed)
    if roundings:
        chosen = refine_rounded_factors(factors, chosen, reference, placed, roundings)
    return _Choice(factors, chosen, roundings)


def _report_factors(choice: _Choice) -> list[Finding]:
    """Return a finding for every unit that was multiplied, with the slot that says it best."""
    findings = []
    for group, c in choice.chosen.items():
        own = choice.factors[group]
        for unit in np.flatnonzero((c != 1).any(0)).tolist():
            slot = int(np.abs(c[:, unit] - 1).argmax())
            factor = float(c[slot, unit])
            error = max(float(own.error[slot, unit]), EQUAL_FACTOR_TOLERANCE)
            name = own.scaling.slots[slot].initializer
            findings.append(Finding("rescaled", group, unit, name, factor, abs(factor - 1) / error))
    return findings


def _may_be_multiplied(
    groups: Sequence[Group],
    scalings: Mapping[str, Scaling],
    names: set[str],
    reference: Arrays,
    aligned: Arrays,
    matches: Sequence[Match],
) -> bool:
    """Return whether it is worth while to look for factors.

    The search takes long. It is left out where units are surely matched and nothing shows factors,
    and where noise was added that hides them.

    Args:
        groups: the groups.
        scalings: by group id the factors that its units may have.
        names: the weights of all groups.
        reference, aligned: the weights, the suspect's units as they were matched.
        matches: where the units are if none was multiplied.
    """
    is_certain = (
        np.concatenate([m.certainty for m in matches] or [np.ones(1)]).mean() >= MIN_MEAN_CERTAINTY
    )
    similar = np.concatenate([m.similarity for m in matches] or [np.ones(1)])
    middle = float(np.median(similar))
    # Either some units are like no other where most are like their copies, or most are like none.
    is_odd = middle < MIN_UNIT_SIMILARITY or (
        float(similar.min()) < MIN_UNIT_SIMILARITY and middle > 1 - MIN_UNIT_SIMILARITY / 4
    )
    is_unlike = middle < MIN_MEAN_SIMILARITY
    is_noisy = is_certain and was_noise_added(sorted(names), reference, aligned)
    # Noise on units in their places hides factors, and leaves too little alike to be sure of them.
    if (is_noisy and is_unlike) or not scalings:
        return False
    # Under noise small units are no longer like their copies: that says nothing of factors.
    if is_certain and (not is_odd or is_noisy):
        return _show_factors(groups, scalings, reference, aligned, is_noisy)
    return True


def was_noise_added(names: Sequence[str], reference: Arrays, suspect: Arrays) -> bool:
    """Return whether large and small elements differ by as much, as where noise was added.

    What was multiplied differs by its own size.

    Args:
        names: the weights that are looked at.
        reference, suspect: the weights, the units in place.
    """
    total = many = 0.0
    for name in dict.fromkeys(names):
        x, y = (np.asarray(a[name]).ravel() for a in (reference, suspect))
        thin = slice(None, None, max(x.size // SAMPLED_ELEMENTS_PER_WEIGHT, 1))
        x, y = (z[thin].astype(np.float64) if is_float_array(z) else np.zeros(0) for z in (x, y))
        told = np.flatnonzero((x != y) & (x != 0))
        size, gap = (np.log(np.abs(z[told])) for z in (x, y - x))
        if told.size > 1 and size.std() and gap.std():
            many += told.size
            total += told.size * float(np.corrcoef(size, gap)[0, 1])
    # The correlation of few elements is chance: that of n independent ones has a deviation of one
    # over the root of n. So `total` has one of the root of `many`, and must be low with three more.
    return total + 3 * many**0.5 < MIN_GROWTH_CORRELATION * many


def _show_factors(
    groups: Sequence[Group],
    scalings: Mapping[str, Scaling],
    reference: Arrays,
    suspect: Arrays,
    is_noisy: bool,
) -> bool:
    """Return whether units differ by factors, or were not found because of factors.

    Where differences do not grow with weights, no factors hide each other.
    """
    # What follows takes longer than all the matching, and noise that was added hides most factors.
    if is_noisy and are_in_proportion(groups, reference, suspect):
        return False
    found = map_in_threads(
        lambda s: measure_factors(s, reference, suspect), list(scalings.values())
    )
    every = np.concatenate([r[np.isfinite(r)] for r, _ in found])
    if every.size and float(np.median(every)) < MIN_PLACED_FACTOR:
        return True
    seen = zip(scalings.items(), found, strict=True)
    factors = {
        g: Factors(s, ratio, error, fit_allowed_factors(s, ratio, error))
        for (g, s), (ratio, error) in seen
    }
    if any((c != 1).any() for c in choose_factors(factors).values()):
        return True
    if is_noisy:
        return False
    # Where all units were multiplied, the factors of neighbours hide each other: they have to be
    # taken out step by step.
    unscaler = Unscaler(groups, reference, suspect, scalings)
    unscaler.settle()
    factors = unscaler.collect_factors()
    arrays, _ = apply_factors(factors, choose_factors(factors), reference, suspect)
    return bool(arrays) and _are_nearer(reference, arrays, suspect)


def _are_nearer(reference: Arrays, arrays: Arrays, before: Arrays) -> bool:
    """Return whether `arrays` are nearer to the reference than the same weights `before`."""
    names = list(arrays)
    return _measure_distance(reference, arrays, names) < _measure_distance(reference, before, names)


def _measure_distance(reference: Arrays, suspect: Arrays, names: Sequence[str]) -> float:
    """Measure how unlikely differences are: the logarithms of their size, over all elements.

    Up to a constant it is minus the log-likelihood of normal differences, each weight's at the
    deviation that suits it best.
    """
    total = 0.0
    for name in names:
        x, y = np.asarray(reference[name]), np.asarray(suspect[name])
        if is_float_array(x):
            known = np.isfinite(x) & np.isfinite(y)
            x, y = x[known].astype(np.float64), y[known].astype(np.float64)
            spread = float(np.abs(x).max(initial=0)) or 1.0
            gap = float(np.sqrt(np.square(y - x).sum() / max(x.size, 1))) / spread
            # Below the rounding of single precision all are equally near.
            total += x.size * np.log(max(gap, EQUAL_FACTOR_TOLERANCE / 100))
    return total


def _are_weights_floating(scaling: Scaling, suspect: Arrays) -> bool:
    """Return whether the weights that may be multiplied are floating-point numbers."""
    may = (scaling.scales != 0).any(0) | scaling.signs.any(0)
    return all(
        is_float_array(np.asarray(suspect[s.initializer]))
        for s, m in zip(scaling.slots, may, strict=True)
        if m
    )
