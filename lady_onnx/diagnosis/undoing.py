"""Takes out of a suspect the factors by which its units were multiplied, where their structure lets these pass.

Knows arrays and groups, no ONNX. Which of the factors that `unscaling` measures are such, and not the drift of
training, is decided here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..groups.model import Group
from ..groups.permutations import Arrays, permute_arrays
from ..groups.rows import take_rows
from ..groups.scaling import Scaling
from ..matching.matcher import MIN_MEAN_CERTAINTY, Progress
from ..matching.matches import Match
from ..numerics import is_float_array, machine_epsilon
from .alterations import SHORT_TYPE_EPSILON
from .integrity import Finding
from .unscaling import COARSE_ERROR, Factors, Unscaler, fit_allowed_factors, measure_factors

SURE = 6
"""A factor is one if it is nearer than this many times its error."""
EXACT = 1e-5
"""Factors nearer than this are equal: the rounding of single precision."""
ALIKE = 0.5
"""Below this mean similarity of the units, factors taken out, the models have nothing in common."""
ODD = 0.5
"""A unit whose similarity is below this has no copy, where others are a quarter of it from theirs."""
GROWING = 0.1
"""Differences whose logarithms correlate less with those of the weights do not grow with these."""
ENOUGH = 10_000
"""So many elements of a weight tell that."""
PLACED = 0.7
"""Below this median factor units are not compared with their own copies."""
MANY = 2048
"""Units in one group, of which a round of search takes long."""
FITS = 3
"""So often the factors of each group are fitted to the rounding, with those of the others as they are then."""
FEW = 0.05
"""Where fewer units than this share were multiplied, half-compensated ones count as not compensated at all."""


@dataclass(frozen=True)
class Undone:
    """A suspect whose units are in place, and no longer multiplied.

    Attributes:
        matches: where the units are.
        arrays: the weights with the units in place, and not multiplied.
        placed: these with the units in place, as they are multiplied in the suspect.
        expected: the reference's weights, multiplied in the same way.
        findings: one for every unit that was multiplied, and every group that was mixed.
        settled: whether every weight of a group is the reference's, bit for bit.
        grown: by how much more than their own size weights may have been rounded, where units were mixed.
        roundings: by weight of a short type how many groups have factors in it, each of which rounds it.
    """

    matches: list[Match]
    arrays: dict[str, np.ndarray]
    placed: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    findings: tuple[Finding, ...]
    settled: bool = False
    grown: Mapping[str, float] = field(default_factory=dict)
    roundings: Mapping[str, int] = field(default_factory=dict)


def undo_rescaling(
    groups: Sequence[Group],
    scalings: Mapping[str, Scaling],
    reference: Arrays,
    suspect: Arrays,
    matches: Sequence[Match],
    progress: Progress | None = None,
) -> Undone | None:
    """Takes out of the suspect the factors that its structure lets pass; None where there are none.

    Args:
        groups, scalings: the groups, inner ones first, and the factors that they may have.
        reference, suspect: the weights by the same names.
        matches: where the units are if none was multiplied.
        progress: called with how many of how many groups are done.
    """
    free = {g: s for g, s in scalings.items() if s.free and _floating(s, suspect)}
    aligned = {
        **suspect,
        **permute_arrays(suspect, groups, {m.group: m.permutation for m in matches}),
    }
    certain = np.concatenate([m.certainty for m in matches] or [np.ones(1)]).mean()
    similar = np.concatenate([m.similarity for m in matches] or [np.ones(1)])
    # units that are like no other among many that are like their copies, or all of them
    middle = float(np.median(similar))
    odd = middle < ODD or (float(similar.min()) < ODD and middle > 1 - ODD / 4)
    sure, names = certain >= MIN_MEAN_CERTAINTY, {s.initializer for g in groups for s in g.slots}
    added = sure and (odd or middle < ALIKE) and _added(sorted(names), reference, aligned)
    # what was added to units in their places hides factors, and leaves too little alike to be sure of them
    if added and middle < ALIKE:
        return None
    # of what was added small units are no longer like their copies
    if not free or (
        sure and (not odd or added) and not _multiplied(groups, free, reference, aligned)
    ):
        return None
    unscaler = Unscaler(groups, reference, suspect, free)
    # of many units what is found at first tells whether more will be
    is_wide = max(g.size for g in groups) > MANY
    found = unscaler.run(
        progress,
        (lambda now: _closer(reference, {n: now[n] for n in now.keys() & names}, aligned))
        if is_wide
        else None,
    )
    if not found:
        return None
    alike = np.concatenate([m.similarity for m in found]).mean()
    if alike < ALIKE:
        return None
    factors = unscaler.factors()
    chosen = _taken(factors)
    placed = permute_arrays(suspect, groups, {m.group: m.permutation for m in found})
    roundings = _roundings(factors, chosen, suspect)
    if roundings:
        chosen = _rounded(factors, chosen, reference, {**suspect, **placed}, roundings)
    findings = []
    for group, c in chosen.items():
        for unit in np.flatnonzero((c != 1).any(0)).tolist():
            # of the slots the one that says it best
            slot = int(np.abs(c[:, unit] - 1).argmax())
            factor = float(c[slot, unit])
            size = abs(factor - 1) / max(float(factors[group].error[slot, unit]), EXACT)
            findings.append(
                Finding(
                    "rescaled",
                    group,
                    unit,
                    factors[group].scaling.slots[slot].initializer,
                    factor,
                    size,
                )
            )
    arrays, expected = _applied(factors, chosen, reference, {**suspect, **placed})
    if not findings or not _closer(reference, arrays, aligned):
        return None
    arrays = {n: a.astype(np.asarray(suspect[n]).dtype) for n, a in {**placed, **arrays}.items()}
    return Undone(found, arrays, placed, expected, tuple(findings), roundings=roundings)


def _roundings(
    factors: Mapping[str, Factors], chosen: Mapping[str, np.ndarray], suspect: Arrays
) -> dict[str, int]:
    """By weight of a short type how many groups have factors in it."""
    counts: Counter[str] = Counter()
    for group, c in chosen.items():
        counts.update(
            {
                s.initializer
                for s, row in zip(factors[group].scaling.slots, c, strict=True)
                if (row != 1).any()
            }
        )
    return {
        n: many
        for n, many in counts.items()
        if machine_epsilon(np.asarray(suspect[n]).dtype) >= SHORT_TYPE_EPSILON
    }


def _rounded(
    factors: Mapping[str, Factors],
    chosen: Mapping[str, np.ndarray],
    reference: Arrays,
    suspect: Arrays,
    roundings: Mapping[str, int],
) -> dict[str, np.ndarray]:
    """Factors of short weights, as sure as all elements of a unit together tell them.

    Each element says between which numbers a factor lies that it is rounded from; what lies between all of these is right.
    """
    result = dict(chosen)
    _, expected = _applied(factors, chosen, reference, suspect)
    for group in [g for _ in range(FITS) for g, c in chosen.items() if (c != 1).any()]:
        scaling = factors[group].scaling
        units = (result[group] != 1).any(0)
        low, high = np.full(result[group].shape, -np.inf), np.full(result[group].shape, np.inf)
        for k, slot in enumerate(scaling.slots):
            if slot.initializer in roundings and not scaling.offsets[k]:
                x = np.abs(take_rows(expected[slot.initializer], slot))
                y = np.abs(take_rows(np.asarray(suspect[slot.initializer]), slot))
                half = 0.5 * np.spacing(y).astype(np.float64)
                room = half + (roundings[slot.initializer] - 1) * np.maximum(
                    0.5 * machine_epsilon(y.dtype) * y, half
                )
                with np.errstate(divide="ignore", invalid="ignore"):
                    low[k] = np.where(x > 0, np.log(np.maximum(y - room, 0) / x), -np.inf).max(1)
                    high[k] = np.where(x > 0, np.log((y + room) / x), np.inf).min(1)
        moved = np.zeros_like(low)
        for exponents in scaling.scales:
            own = exponents != 0
            by = exponents[own][:, None]
            ends = np.sort([(low - moved)[own] / by, (high - moved)[own] / by], axis=0)
            middle = (ends[0].max(0) + ends[1].min(0)) / 2
            moved += np.outer(exponents, np.where(np.isfinite(middle) & units, middle, 0))
        scaling.apply(expected, np.exp(moved))
        result[group] = result[group] * np.exp(moved)
    return result


def _applied(
    factors: Mapping[str, Factors],
    chosen: Mapping[str, np.ndarray],
    reference: Arrays,
    suspect: Arrays,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The suspect's weights divided by factors, and the reference's multiplied: those that they change, as float64."""
    arrays: dict[str, np.ndarray] = {}
    expected: dict[str, np.ndarray] = {}
    for group, c in chosen.items():
        if (c == 1).all():
            continue
        scaling = factors[group].scaling
        for name in scaling.names:
            arrays[name] = np.asarray(arrays.get(name, suspect[name])).astype(np.float64)
            expected[name] = np.asarray(expected.get(name, reference[name])).astype(np.float64)
        scaling.apply(arrays, 1 / c)
        scaling.apply(expected, c)
    return arrays, expected


def _closer(reference: Arrays, arrays: Arrays, before: Arrays) -> bool:
    """Are the models nearer once factors are taken out than `before`?"""
    return _distance(reference, arrays, list(arrays)) < _distance(reference, before, list(arrays))


def _floating(scaling: Scaling, suspect: Arrays) -> bool:
    """Are the weights that may be multiplied floating-point numbers?"""
    may = (scaling.scales != 0).any(0) | scaling.signs.any(0)
    return all(
        is_float_array(np.asarray(suspect[s.initializer]))
        for s, m in zip(scaling.slots, may, strict=True)
        if m
    )


def _added(names: Sequence[str], reference: Arrays, suspect: Arrays) -> bool:
    """Do large and small elements differ by as much, as where noise was added? What was multiplied differs by its own size."""
    total = many = 0.0
    for name in dict.fromkeys(names):
        x, y = (np.asarray(a[name]).ravel() for a in (reference, suspect))
        thin = slice(None, None, max(x.size // ENOUGH, 1))
        x, y = (z[thin].astype(np.float64) if is_float_array(z) else np.zeros(0) for z in (x, y))
        told = np.flatnonzero((x != y) & (x != 0))
        size, gap = (np.log(np.abs(z[told])) for z in (x, y - x))
        if told.size > 1 and size.std() and gap.std():
            many += told.size
            total += told.size * float(np.corrcoef(size, gap)[0, 1])
    # of few elements the correlation is chance
    return total + 3 * many**0.5 < GROWING * many


def _multiplied(
    groups: Sequence[Group], scalings: Mapping[str, Scaling], reference: Arrays, suspect: Arrays
) -> bool:
    """Do any units differ by a factor, or so many by all factors that they are not in their place?"""
    found = [measure_factors(s, reference, suspect) for s in scalings.values()]
    every = np.concatenate([r[np.isfinite(r)] for r, _ in found])
    if every.size and float(np.median(every)) < PLACED:
        return True
    seen = zip(scalings.items(), found, strict=True)
    factors = {
        g: Factors(s, ratio, error, fit_allowed_factors(s, ratio, error))
        for (g, s), (ratio, error) in seen
    }
    if any((c != 1).any() for c in _taken(factors).values()):
        return True
    # where all were multiplied, the factors of neighbours hide each other: they go step by step
    unscaler = Unscaler(groups, reference, suspect, scalings)
    unscaler.settle()
    factors = unscaler.factors()
    arrays, _ = _applied(factors, _taken(factors), reference, suspect)
    return bool(arrays) and _closer(reference, arrays, suspect)


def _distance(reference: Arrays, suspect: Arrays, names: Sequence[str]) -> float:
    """How unlikely the differences are: the sum of the logarithms of their size, weight by weight."""
    total = 0.0
    for name in names:
        x, y = np.asarray(reference[name]), np.asarray(suspect[name])
        if is_float_array(x):
            known = np.isfinite(x) & np.isfinite(y)
            x, y = x[known].astype(np.float64), y[known].astype(np.float64)
            spread = float(np.abs(x).max(initial=0)) or 1.0
            gap = float(np.sqrt(np.square(y - x).sum() / max(x.size, 1))) / spread
            total += x.size * np.log(max(gap, EXACT / 100))
    return total


def _taken(factors: Mapping[str, Factors]) -> dict[str, np.ndarray]:
    """By each group's id the factors to take out; where those are few, only such as all slots have."""
    chosen = {g: _chosen(f, confirmed=True) for g, f in factors.items()}
    changed = {g: (c != 1).any(0) for g, c in chosen.items()}
    if sum(int(c.sum()) for c in changed.values()) < FEW * sum(c.size for c in changed.values()):
        return {g: np.where(_against(factors[g], c), 1.0, c) for g, c in chosen.items()}
    # where many were multiplied, one that hardly anything speaks against was as well
    also = {g: ~changed[g] & (_against(f, f.allowed) <= 1) for g, f in factors.items()}
    return {g: np.where(also[g], _chosen(f), chosen[g]) for g, f in factors.items()}


def _chosen(factors: Factors, confirmed: bool = False) -> np.ndarray:
    """The factors to take out: those by which slots of a unit differ far more than they differ from each other.

    Training moves the incoming and the outgoing weights of a unit too, but each as it likes: with `confirmed` only slots
    count that others bear out.
    """
    size = np.abs(np.where(_known(factors), factors.ratio, 1.0))
    logs = np.log(np.abs(factors.allowed))
    far = np.abs(logs) > np.maximum(SURE * np.maximum(factors.error / size, _usual(factors)), EXACT)
    far |= (factors.allowed < 0) & (size > SURE * factors.error)
    far &= _agree(factors, factors.allowed) & _known(factors)
    if confirmed:
        far &= _confirmed(factors.scaling.scales, far)
    return np.where(far.any(0), factors.allowed, 1.0)


def _confirmed(scales: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Which of some slots, [slots, units], say nothing that others of them do not say as well.

    What is said by one slot alone in any unit needs no other.
    """
    alone = np.isclose(_leverage(scales), 1)
    patterns, which = np.unique(far, axis=1, return_inverse=True)
    each = [~np.isclose(_leverage(scales * pattern), 1) | alone for pattern in patterns.T]
    return np.transpose(each)[:, which.ravel()]


def _leverage(scales: np.ndarray) -> np.ndarray:
    """How much of what is fitted to each slot is its own, 0 to 1, by the exponents of the factors, [factors, slots]."""
    return np.einsum("fs,sf->s", scales, np.linalg.pinv(scales))


def _known(factors: Factors) -> np.ndarray:
    return np.isfinite(factors.ratio) & (factors.ratio != 0)


def _usual(factors: Factors) -> float:
    """By how much, beyond their errors, logarithms of factors of a unit differ from what is allowed; the median unit."""
    known = _known(factors)
    size = np.abs(np.where(known, factors.ratio, 1.0))
    share = factors.error / size
    apart = np.maximum(np.square(np.log(size / np.abs(factors.allowed))) - np.square(share), 0.0)
    weight = known / np.square(np.maximum(share, COARSE_ERROR))
    mean = (weight * apart).sum(0) / np.maximum(weight.sum(0), 1e-30)
    spare = np.maximum(known.sum(0) - len(factors.scaling.scales), 1)
    return float(np.median(np.sqrt(mean * known.sum(0) / spare)))


def _agree(factors: Factors, chosen: np.ndarray) -> np.ndarray:
    """Which slots have factors like these, [slots, units]."""
    near = np.maximum(
        SURE * factors.error, max(SURE * _usual(factors), 10 * EXACT) * np.abs(chosen)
    )
    return np.abs(factors.ratio - chosen) <= near


def _against(factors: Factors, chosen: np.ndarray) -> np.ndarray:
    """How many slots of each unit have others than these factors."""
    return (np.isfinite(factors.ratio) & ~_agree(factors, chosen)).sum(0)
