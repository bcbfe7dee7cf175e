"""What was done to single units of a suspect, once they are in place. Knows arrays and groups, no ONNX.

Factors that a structure lets pass are taken out before (`undoing`). What is left of a unit's rows that differs from
what all others show is tampering: a row that was multiplied, a row or a single weight that was replaced. How much
others differ is measured on the suspect itself, with medians, so that a fine-tuned copy, in which everything moved,
has no findings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .alterations import CLOSE, floating, step
from .evidence import HUGE, rows_of, same
from .groups import Group, Slot
from .rewrite import Arrays
from .unscaling import FAINT, row_ratios

UNSURE = 1e-3
"""Where factors were taken out, smaller differences, in units of a weight's largest element, may be theirs."""
APART = 12
"""So many times the common deviation a row or a weight must differ to be told from the others."""
STEP = 0.03
"""A row's factor must differ by this much from those of the others, a weight by this share of the mean size of all."""
GAP = 3
"""So many times the next largest difference of a weight must be, for it and those above to be replaced ones."""
CHANCE = 1e-5
"""Such a gap must be rarer than this among differences whose largest ones follow a power law, as those of training do."""
TAIL = 0.05
"""The share of the differences, the largest, that says what law."""
LEAST, ENOUGH = 64, 1000
"""So many of them at least, and at most, say it."""
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


def tampered(groups: Sequence[Group], frames: Sequence[tuple[Arrays, Arrays]], least: float = 0.0) -> tuple[Finding, ...]:
    """Single units and weights of a suspect, with all units in place, that differ otherwise than the rest.

    Args:
        groups: the groups.
        frames: the weights of the reference, all of them, also those that no group touches, and of the suspect; where factors
            were taken out, as they are with them and without: a unit's weights must stand out in both, with the factor and
            the size that the first of them shows.
        least: differences smaller than this times a weight's largest element count as none.
    """
    found: dict[tuple[str, str | None, int | None], Finding] = {}
    for frame in frames:
        others = [other for other in frames if other is not frame]
        for finding in _tampered(groups, *frame, least):
            if all(_stands(finding, groups, *other) for other in others):
                found.setdefault((finding.slot, finding.group, finding.unit), finding)
    return tuple(found.values())


def _tampered(groups: Sequence[Group], reference: Arrays, suspect: Arrays, least: float) -> list[Finding]:
    slots: dict[str, list[tuple[Group, Slot]]] = {}
    for group in groups:
        for slot in group.slots:
            slots.setdefault(slot.initializer, []).append((group, slot))
    found: list[Finding] = []
    usual = _usual(reference, suspect)
    for name in reference:
        own, x, y = slots.get(name, []), np.asarray(reference[name]), np.asarray(suspect[name])
        if _numbers(x) and _numbers(y) and not same(x, y):
            eps = step(y.dtype if floating(y) else np.dtype(np.float32))
            found += _in_weight(name, own, x.astype(np.float64), y.astype(np.float64), eps, least, usual)
    dead = {g.id: _dead(g, reference) & _dead(g, suspect) for g in groups if any(f.group == g.id for f in found)}
    alive = [f for f in found if f.group is None or not dead[f.group][f.unit]]
    return _told(alive, slots, reference, suspect)


def _stands(finding: Finding, groups: Sequence[Group], reference: Arrays, suspect: Arrays) -> bool:
    """Does its unit differ here, too, far more than others do, or in one weight far more than in its others?"""
    if finding.group is None:
        return True
    for slot in (s for g in groups if g.id == finding.group for s in g.slots if s.initializer == finding.slot):
        x, y = (rows_of(np.asarray(a[finding.slot]), slot).astype(np.float64) for a in (reference, suspect))
        gap = _gap(x, y)
        left, own = np.linalg.norm(gap, axis=1), gap[finding.unit]
        # a few elements differ by as much as a factor makes of them
        far = APART if own.size >= TELLING else APART * GAP
        if left[finding.unit] > far * np.median(left) or (own.size >= TELLING and own.max() > far * np.median(own)):
            return True
    return False


def nearly(reference: np.ndarray, result: np.ndarray) -> bool:
    """Are all weights but those that may have been tampered with equal to rounding?"""
    x, y = (np.asarray(a).astype(np.float64) for a in (reference, result))
    return bool((np.abs(y - x) > CLOSE * np.abs(x).max(initial=0)).mean() <= MOST) if x.size else True


def _gap(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far elements are from each other; infinities of one sign are equal."""
    return np.nan_to_num(np.abs(y - x), nan=0.0, posinf=HUGE)


def _numbers(array: np.ndarray) -> bool:
    """Does it hold numbers with a meaning, floating-point or quantised ones, and not sizes or places?"""
    return floating(array) or (array.dtype.kind in "iu" and array.dtype.itemsize == 1)


def _usual(reference: Arrays, suspect: Arrays) -> float:
    """By what share of its size half of all weights changed: what training does to a weight of which it saw a part."""
    shares = [0.0]
    for name in reference:
        x, y = np.asarray(reference[name]).ravel(), np.asarray(suspect[name]).ravel()
        if x.size and _numbers(x) and _numbers(y):
            thin = slice(None, None, max(x.size // ENOUGH, 1))
            x, y = (z[thin].astype(np.float64) for z in (x, y))
            known = np.isfinite(x) & np.isfinite(y)
            size = float(np.abs(x[known]).mean()) if known.any() else 0.0
            shares.append(float(np.median(np.abs(y - x)[known])) / size if size else 0.0)
    return float(np.median(shares))


def _dead(group: Group, reference: Arrays) -> np.ndarray:
    """Units whose rows are all but zero wherever they have many elements: what happens to the rest of them is nothing."""
    dead = np.zeros(group.size, bool)
    seen = False
    for slot in group.slots:
        rows = rows_of(np.asarray(reference[slot.initializer]), slot)
        if rows.shape[1] >= TELLING and _numbers(rows):
            lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
            faint = lengths <= FAINT * np.median(lengths)
            dead, seen = (dead & faint) if seen else faint, True
    return dead


def _in_weight(
    name: str, own: Sequence[tuple[Group, Slot]], x: np.ndarray, y: np.ndarray, eps: float, least: float, usual: float
) -> list[Finding]:
    # of a scalar the difference is a number
    gap = np.asarray(_gap(x, y))
    x, y = (np.where(np.isfinite(z), z, 0.0) for z in (x, y))
    gap[gap <= np.maximum(8 * eps * np.maximum(np.abs(x), np.abs(y)), least * np.abs(x).max(initial=0))] = 0.0
    found = []
    middling = float(np.median(gap)) / 0.6745 if own else 0.0
    for group, slot in own:
        a, b, d = (rows_of(z, slot) for z in (x, y, gap))
        if a.shape[1] < TELLING:
            continue
        lengths, left = np.linalg.norm(a, axis=1), np.linalg.norm(d, axis=1)
        common = float(np.median(left))
        if not (left > APART * common).any():
            continue
        ratio, error = row_ratios(a, b)
        known = np.isfinite(ratio)
        if known.sum() < 2:
            continue
        middle = float(np.median(ratio[known]))
        spread = 1.4826 * float(np.median(np.abs(ratio[known] - middle)))
        spreads = np.maximum(np.maximum(spread, error), eps)
        away = np.where(known, np.abs(ratio - middle), 0.0)
        scaled = (away > np.maximum(APART * spreads, STEP)) & (left > APART * common)
        other = (left > np.maximum(APART * common, 0.5 * float(np.median(lengths)))) & ((d > GAP * middling).mean(1) > 0.5)
        odd = np.flatnonzero(scaled | other)
        if not odd.size or odd.size > max(MOST * group.size, 1):
            continue
        for unit in odd.tolist():
            k = float(ratio[unit])
            rest = np.linalg.norm(b[unit] - k * a[unit])
            straight = rest <= max(0.2 * abs(k) * lengths[unit], APART * common)
            size = float(away[unit] / spreads[unit] if straight else left[unit] / max(common, eps * lengths[unit], 1e-300))
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
            if k is not None and np.isfinite(b).all() and np.abs(b - k * a).max() <= LIKE * np.abs(b).max():
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
