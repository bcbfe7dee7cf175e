"""What was done to single units of a suspect, once they are in place. Knows arrays and groups, no ONNX.

A unit may have been multiplied by factors that its structure lets pass: a rescaling, which is undone. What is left of a
unit's rows that differs from what all others show is tampering: a row that was multiplied, a row or a single weight
that was replaced. How much others differ is measured on the suspect itself, with medians, so that a fine-tuned copy,
in which everything moved, has no findings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .alterations import floating, step
from .evidence import rows_of, same
from .groups import Group, Slot
from .matching import DOUBT, Arrays, Match, Progress
from .rewrite import permuted
from .scaling import Scaling
from .unscaling import FAINT, Factors, Unscaler, nearest, ratios, row_ratios

UNSURE = 1e-3
"""Where factors were taken out, smaller differences, in units of a weight's largest element, may be theirs."""
SURE = 6
"""A factor is one if it is nearer than this many times its error."""
EXACT = 1e-5
"""Factors nearer than this are equal: the rounding of single precision."""
ALIKE = 0.5
"""Below this mean similarity of the units, factors taken out, the models have nothing in common."""
ODD = 0.5
"""A unit whose similarity is below this has no copy, where others are a quarter of it from theirs."""
PLACED = 0.7
"""Below this median factor units are not compared with their own copies."""
FEW = 0.05
"""Where fewer units than this share were multiplied, half-compensated ones count as not compensated at all."""
APART = 12
"""So many times the common deviation a row or a weight must differ to be told from the others."""
STEP = 0.03
"""A row's factor must differ by this much from those of the others, a weight by this share of the mean size of all."""
GAP = 3
"""So many times the next largest difference of a weight must be, for it and those above to be replaced ones."""
CHANCE = 1e-5
"""Such a gap must be rarer than this among differences whose largest ones follow a power law, as those of training do."""
TAIL = 0.05
"""This share of the differences, the largest, says what law,"""
LEAST, ENOUGH = 64, 1000
"""so many at least, and at most."""
MOST = 0.1
"""Where a larger share of the units or weights differ, it is no tampering of single ones."""
REPLACEABLE = ("scaled", "replaced")
"""Findings of units that the reference has other values for."""
TAMPERING = (*REPLACEABLE, "inserted")
"""Findings that change the function."""
LIKE = 1e-3
"""Of a row that was multiplied, nothing else differs by more than this share of it."""
TELLING = 8
"""Rows of fewer elements say nothing of a factor."""


@dataclass(frozen=True)
class Finding:
    """Something that was done to a unit of the suspect besides moving it.

    Attributes:
        kind: `rescaled`, a factor that leaves the function as it was, undone; `mixed`, all units of a group, by a map that
            leaves the function as it was, undone; `inert`, a weight that the function does not depend on, undone;
            `shifted`, a bias, and another behind it that takes it back, undone; `scaled`, a factor that changes the
            function; `replaced`, other values; `removed`, a unit that the suspect has not; `obfuscated`, a unit that the
            reference has not and the function does not need; `inserted`, one that it needs.
        group, unit: the unit concerned, as it lies in the reference, or, if the reference has it not, in the suspect;
            None for weights that belong to none.
        slot: the initializer concerned.
        factor: the factor that it was multiplied by, None where that is not what happened.
        size: the size of the change, in units of what the other units or weights of the tensor show.
    """

    kind: str
    group: str | None
    unit: int | None
    slot: str
    factor: float | None
    size: float


def divergence(factor: float, mean: float = 0.0, deviation: float = 1.0, relu: bool = False) -> float:
    """How far the output of a unit that was multiplied by `factor` is from what it was, in nats.

    The Kullback-Leibler divergence of its sum of weighted inputs, normal with this `mean` and `deviation`, from that of the
    multiplied unit; with `relu`, of what a ReLU makes of a sum of mean zero, which depends on the factor alone.

    Source: "Find the Lady" (AAAI 2024), equations 10 and 11, with k = factor - 1. As printed, equation 11 is twice
    equation 10 at mean zero; of the two halves of the sum a ReLU keeps one, and of the divergence half.

    Raises ValueError for a factor of zero, a deviation that is not positive, or `relu` with a mean or a negative factor.
    """
    if not factor or deviation <= 0 or (relu and (mean or factor < 0)):
        raise ValueError("a factor of zero, no deviation, or a ReLU with a mean that is not zero or a negative factor")
    k = factor - 1
    whole = np.log(abs(factor)) + (deviation**2 + (k * mean) ** 2) / (2 * factor**2 * deviation**2) - 0.5
    return float(whole / 2 if relu else whole)


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
    """

    matches: list[Match]
    arrays: dict[str, np.ndarray]
    placed: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    findings: tuple[Finding, ...]
    settled: bool = False
    grown: Mapping[str, float] = field(default_factory=dict)


def undo(
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
    aligned = {**suspect, **permuted(suspect, groups, {m.group: m.permutation for m in matches})}
    certain = np.concatenate([m.certainty for m in matches] or [np.ones(1)]).mean()
    similar = np.concatenate([m.similarity for m in matches] or [np.ones(1)])
    # units that are like no other among many that are like their copies, or all of them
    middle = float(np.median(similar))
    odd = middle < ODD or (float(similar.min()) < ODD and middle > 1 - ODD / 4)
    if not free or (certain >= DOUBT and not odd and not _multiplied(groups, free, reference, aligned)):
        return None
    unscaler = Unscaler(groups, reference, suspect, free)
    found = unscaler.run(progress)
    names = list(unscaler.reference)
    alike = np.concatenate([m.similarity for m in found]).mean()
    if alike < ALIKE or not _distance(reference, unscaler.current, names) < _distance(reference, aligned, names):
        return None
    factors = unscaler.factors()
    chosen = _taken(factors)
    placed = permuted(suspect, groups, {m.group: m.permutation for m in found})
    arrays = dict(placed)
    expected: dict[str, np.ndarray] = {}
    findings = []
    for group, c in chosen.items():
        units = np.flatnonzero((c != 1).any(0))
        if not units.size:
            continue
        scaling = factors[group].scaling
        for name in scaling.names:
            arrays[name] = np.asarray(arrays.get(name, suspect[name])).astype(np.float64)
            expected[name] = np.asarray(expected.get(name, reference[name])).astype(np.float64)
        scaling.apply(arrays, 1 / c)
        scaling.apply(expected, c)
        for unit in units.tolist():
            # of the slots the one that says it best
            slot = int(np.abs(c[:, unit] - 1).argmax())
            factor = float(c[slot, unit])
            size = abs(factor - 1) / max(float(factors[group].error[slot, unit]), EXACT)
            findings.append(Finding("rescaled", group, unit, scaling.slots[slot].initializer, factor, size))
    if not findings:
        return None
    arrays = {n: a.astype(np.asarray(suspect[n]).dtype) for n, a in arrays.items()}
    return Undone(found, arrays, placed, expected, tuple(findings))


def _floating(scaling: Scaling, suspect: Arrays) -> bool:
    """Are the weights that may be multiplied floating-point numbers?"""
    may = (scaling.scales != 0).any(0) | scaling.signs.any(0)
    return all(floating(np.asarray(suspect[s.initializer])) for s, m in zip(scaling.slots, may, strict=True) if m)


def _multiplied(groups: Sequence[Group], scalings: Mapping[str, Scaling], reference: Arrays, suspect: Arrays) -> bool:
    """Do any units differ by a factor, or so many by all factors that they are not in their place?"""
    found = [ratios(s, reference, suspect) for s in scalings.values()]
    every = np.concatenate([r[np.isfinite(r)] for r, _ in found])
    if every.size and float(np.median(every)) < PLACED:
        return True
    seen = zip(scalings.items(), found, strict=True)
    factors = {g: Factors(s, ratio, error, nearest(s, ratio, error)) for (g, s), (ratio, error) in seen}
    if any((c != 1).any() for c in _taken(factors).values()):
        return True
    # where all were multiplied, the factors of neighbours hide each other: they go step by step
    unscaler = Unscaler(groups, reference, suspect, scalings)
    unscaler.settle()
    return any((c != 1).any() for c in _taken(unscaler.factors()).values())


def _distance(reference: Arrays, suspect: Arrays, names: Sequence[str]) -> float:
    """How unlikely the differences are: the sum of the logarithms of their size, weight by weight."""
    total = 0.0
    for name in names:
        x, y = np.asarray(reference[name]), np.asarray(suspect[name])
        if floating(x):
            spread = float(np.abs(x).max(initial=0)) or 1.0
            gap = float(np.sqrt(np.square(y.astype(np.float64) - x).mean())) / spread
            total += x.size * np.log(max(gap, EXACT / 100))
    return total


def _taken(factors: Mapping[str, Factors]) -> dict[str, np.ndarray]:
    """By each group's id the factors to take out; where those are few, only such as all slots have."""
    chosen = {g: _chosen(f) for g, f in factors.items()}
    changed = {g: (c != 1).any(0) for g, c in chosen.items()}
    if sum(int(c.sum()) for c in changed.values()) < FEW * sum(c.size for c in changed.values()):
        chosen = {g: np.where(_compensated(factors[g], c), c, 1.0) for g, c in chosen.items()}
    return chosen


def _chosen(factors: Factors) -> np.ndarray:
    """The factors to take out: those by which a unit differs far more than its slots differ from each other.

    Training moves the incoming and the outgoing weights of a unit too, but each as it likes.
    """
    ratio, allowed = factors.ratio, factors.allowed
    known = np.isfinite(ratio) & (ratio != 0)
    size = np.abs(np.where(known, ratio, 1.0))
    logs = np.log(np.abs(allowed))
    apart = np.where(known, np.log(size) - logs, 0.0)
    spare = np.maximum(known.sum(0) - len(factors.scaling.scales), 1)
    usual = float(np.median(np.sqrt(np.square(apart).sum(0) / spare)))
    far = np.abs(logs) > np.maximum(SURE * np.maximum(factors.error / size, usual), EXACT)
    far |= (allowed < 0) & (size > SURE * factors.error)
    # where a dead unit's rows are unknown, what is left of it has nothing to agree with
    enough = known.sum(0) >= min(2, len(known))
    return np.where((far & known).any(0) & enough, allowed, 1.0)


def _compensated(factors: Factors, chosen: np.ndarray) -> np.ndarray:
    """Which units have all of these factors, [units]."""
    known = np.isfinite(factors.ratio)
    near = np.abs(factors.ratio / chosen - 1) <= np.maximum(SURE * factors.error, EXACT * 10)
    return (near | ~known).all(0)


def tampered(groups: Sequence[Group], reference: Arrays, suspect: Arrays, least: float = 0.0) -> tuple[Finding, ...]:
    """Single units and weights of a suspect, with all units in place, that differ otherwise than the rest.

    All weights of `reference` are looked at, also those that no group touches. Differences smaller than `least` times a
    weight's largest element count as none.
    """
    slots: dict[str, list[tuple[Group, Slot]]] = {}
    for group in groups:
        for slot in group.slots:
            slots.setdefault(slot.initializer, []).append((group, slot))
    found: list[Finding] = []
    usual = _usual(reference, suspect)
    for name in reference:
        own, x, y = slots.get(name, []), np.asarray(reference[name]), np.asarray(suspect[name])
        if floating(x) and floating(y) and not same(x, y):
            found += _in_weight(name, own, x.astype(np.float64), y.astype(np.float64), step(y.dtype), least, usual)
    dead = {g.id: _dead(g, reference) for g in groups if any(f.group == g.id for f in found)}
    alive = [f for f in found if f.group is None or not dead[f.group][f.unit]]
    return tuple(_told(alive, slots, reference, suspect))


def _usual(reference: Arrays, suspect: Arrays) -> float:
    """By what share of its size half of all weights changed: what training does to a weight of which it saw a part."""
    shares = [0.0]
    for name in reference:
        x, y = np.asarray(reference[name]).ravel(), np.asarray(suspect[name]).ravel()
        if x.size and floating(x) and floating(y):
            thin = slice(None, None, max(x.size // ENOUGH, 1))
            size = float(np.abs(x[thin]).mean()) or 1.0
            shares.append(float(np.median(np.abs(y[thin].astype(np.float64) - x[thin]))) / size)
    return float(np.median(shares))


def _dead(group: Group, reference: Arrays) -> np.ndarray:
    """Units whose rows are all but zero wherever they have many elements: what happens to the rest of them is nothing."""
    dead = np.zeros(group.size, bool)
    seen = False
    for slot in group.slots:
        rows = rows_of(np.asarray(reference[slot.initializer]), slot)
        if rows.shape[1] >= TELLING and floating(rows):
            lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
            faint = lengths <= FAINT * np.median(lengths)
            dead, seen = (dead & faint) if seen else faint, True
    return dead


def _in_weight(
    name: str, own: Sequence[tuple[Group, Slot]], x: np.ndarray, y: np.ndarray, eps: float, least: float, usual: float
) -> list[Finding]:
    gap = np.abs(y - x)
    gap[gap <= np.maximum(8 * eps * np.maximum(np.abs(x), np.abs(y)), least * np.abs(x).max(initial=0))] = 0.0
    found = []
    middling = float(np.median(gap)) / 0.6745 if own else 0.0
    for group, slot in own:
        a, b, d = (rows_of(z, slot) for z in (x, y, gap))
        if a.shape[1] < TELLING or not d.any():
            continue
        ratio, error = row_ratios(a, b)
        known = np.isfinite(ratio)
        if known.sum() < 2:
            continue
        middle = float(np.median(ratio[known]))
        spread = 1.4826 * float(np.median(np.abs(ratio[known] - middle)))
        spreads = np.maximum(np.maximum(spread, error), eps)
        away = np.where(known, np.abs(ratio - middle), 0.0)
        lengths, left = np.linalg.norm(a, axis=1), np.linalg.norm(d, axis=1)
        common = float(np.median(left))
        scaled = (away > np.maximum(APART * spreads, STEP)) & (left > APART * common)
        other = (left > np.maximum(APART * common, 0.5 * float(np.median(lengths)))) & ((d > GAP * middling).mean(1) > 0.5)
        odd = np.flatnonzero(scaled | other)
        if not odd.size or odd.size > max(MOST * group.size, 1):
            continue
        for unit in odd.tolist():
            k = float(ratio[unit])
            rest = np.linalg.norm(b[unit] - k * a[unit])
            straight = rest <= max(0.2 * abs(k) * lengths[unit], APART * common)
            size = float(away[unit] / spreads[unit] if straight else left[unit] / max(common, eps * lengths[unit]))
            found.append(Finding("scaled" if straight else "replaced", group.id, unit, name, k if straight else None, size))
            gap[np.ix_(*slot.places(gap.shape, unit))] = 0.0
    return found + _single(name, own, x, gap, eps, usual)


def _single(
    name: str, own: Sequence[tuple[Group, Slot]], x: np.ndarray, gap: np.ndarray, eps: float, usual: float
) -> list[Finding]:
    """Weights that differ by far more than all others; where most are equal, by far more than is `usual`."""
    most = max(int(MOST * gap.size), 1)
    least, mean = eps * float(np.abs(x).max(initial=0)), float(np.abs(x).mean())
    flat = gap.ravel()
    count = min(most + 1, flat.size)
    top = np.argpartition(flat, flat.size - count)[flat.size - count :]
    top = top[np.argsort(-flat[top])]
    values = flat[top]
    typical = (float(np.median(flat)) or usual * mean) / 0.6745
    after = np.append(values[1:], 0.0) if count == flat.size else values[1:]
    steps = np.flatnonzero((values[: after.size] > GAP * np.maximum(after, least)) & (values[: after.size] > APART * typical))
    if typical > 0:
        steps = steps[(steps < 16) & (values[steps] > STEP * mean)]
        steps = np.array([k for k in steps.tolist() if _chance(flat, k + 1, typical) < CHANCE][:1], int)
    if not steps.size:
        return []
    found: dict[tuple[str | None, int | None], Finding] = {}
    for place in top[: steps[-1] + 1].tolist():
        where = np.unravel_index(place, gap.shape)
        holders = (
            (group.id, int(np.flatnonzero((slot.index == where[slot.axis]).any(1))[0]))
            for group, slot in own
            if where[slot.axis] in slot.index and all(where[a] in p for a, p in slot.within)
        )
        key: tuple[str | None, int | None] = next(holders, (None, None))
        size = float(flat[place] / max(typical, least, 1e-300))
        if key not in found or found[key].size < size:
            found[key] = Finding("replaced", *key, name, None, size)
    return list(found.values())


def _chance(gaps: np.ndarray, count: int, least: float) -> float:
    """How likely the largest `count` of some differences are that much larger than the rest, if all are of one law.

    The logarithms of the spacings of the largest values of a power law, each times its rank, are exponential, whatever the
    power (Rényi 1953, Hill 1975): the one in question over the mean of the others has Fisher's distribution.
    """
    many = min(max(int(TAIL * gaps.size), LEAST), ENOUGH, gaps.size // 4)
    if many < 2:
        return 1.0
    top = np.maximum(np.sort(np.partition(gaps, gaps.size - count - many)[gaps.size - count - many :])[::-1], least)
    logs = np.log(top)
    gap, rest = count * (logs[count - 1] - logs[count]), float((logs[count:] - logs[-1]).sum())
    return float((1 + gap / max(rest, 1e-12)) ** (1 - many))


def _told(
    found: Sequence[Finding], slots: Mapping[str, list[tuple[Group, Slot]]], reference: Arrays, suspect: Arrays
) -> list[Finding]:
    """The same, with the factor of short rows that were multiplied as a whole, or like longer rows of the same unit."""
    factors = {(f.group, f.unit): f.factor for f in found if f.factor is not None}
    result = []
    for finding in found:
        if finding.kind == "replaced" and finding.group is not None:
            slot = next(s for g, s in slots[finding.slot] if g.id == finding.group)
            a, b = (rows_of(np.asarray(z[finding.slot]), slot)[finding.unit].astype(np.float64) for z in (reference, suspect))
            k = factors.get((finding.group, finding.unit))
            if k is None and a.size > 1:
                k = float(row_ratios(a[None], b[None])[0][0])
            if k is not None and np.abs(b - k * a).max() <= LIKE * np.abs(b).max():
                finding = replace(finding, kind="scaled", factor=k)
        result.append(finding)
    return result


def repaired(groups: Sequence[Group], findings: Sequence[Finding], reference: Arrays, suspect: Arrays) -> dict[str, np.ndarray]:
    """The weights with findings of tampering, with the reference's values where they are."""
    result: dict[str, np.ndarray] = {}
    for finding in findings:
        if finding.kind not in REPLACEABLE:
            continue
        array = result.setdefault(finding.slot, np.array(suspect[finding.slot]))
        slots = [(g, s) for g in groups for s in g.slots if s.initializer == finding.slot]
        where = np.full(array.shape, finding.group is None)
        for group, slot in slots:
            if finding.group is None:
                where[slot.region(array.shape)] = False
            elif group.id == finding.group and finding.unit is not None:
                where[np.ix_(*slot.places(array.shape, finding.unit))] = True
        array[where] = np.asarray(reference[finding.slot])[where].astype(array.dtype)
    return result
