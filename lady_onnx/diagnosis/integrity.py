"""What was done to single units of a suspect, once they are in place. Knows arrays and groups, no ONNX.

Factors that a structure lets pass are taken out before (`undoing`). What is left is judged against training, which is what
an honest copy may have gone through. Training moves what had a gradient and leaves the rest: dead units, frozen layers and
words that were not read stay as they are, or shrink by one factor where weights decay. So a deviation is judged among
what moved alone, once the common factor is out, by three tests:

* Rows. The sizes by which the rows of one weight moved are taken for lognormal above their median. The largest, at most a
  tenth of them, stand out if Student's t of their logarithms against the rest is rarer than `RARE`, tested from many to one
  as in the generalised extreme deviate test (Rosner 1983, Technometrics 25:165), and they are `APART` times the median besides.
* Single weights. The largest moves of a weight's elements are taken for a power law; the logarithms of its spacings are
  exponential (Renyi 1953, Hill 1975). A gap rarer than `CHANCE` parts tampering from the rest. A gradient is a sum of products,
  one number of a row by one of a column: so the usual size of an element's row and of its column is taken out first.
* What moved beside nothing. Where hardly anything of a weight moved, there is no such law. If nothing else in the model decayed
  or moved in bulk, nothing was trained, and what moved is tampering. If something did, a few units of this weight may have
  been the only ones alive: then their biases, and what reads them, moved with them. So tampering is a unit, or an element
  alone in its row and in its column (gradients move rows and columns), that moved as one of a few in no other weight; a row
  that was multiplied and moved in no other way; and a move too large for the law that the rest of the model shows (Student's
  t of its logarithm, at `CHANCE`). Anything else is `partly trained`.

Large weights decay far: what moved by a smaller share of its own size than half of all that moved is no finding.
`benchmarks/trainings.py` measures how often that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays
from ..groups.rows import take_rows
from ..matching.evidence.scores import MAX_SCORE
from ..numerics import is_float_array, is_same, machine_epsilon
from .alterations import RELATIVE_TOLERANCE, SAMPLED_ELEMENTS
from .unscaling import FAINT_ROW_SHARE, measure_row_factors

UNDOING_TOLERANCE = 1e-3
"""Where factors were taken out, smaller differences, in units of a weight's largest element, may be theirs."""
APART = 12
"""So many times the common deviation a row or a weight must differ to be told from the others."""
STEP = 0.03
"""A row's factor must differ by this much from those of the others, a weight by this share of the mean size of all."""
GAP = 3
"""So many times the next largest difference of a weight must be, for it and those above to be replaced ones."""
CHANCE = 1e-5
"""What stands out must be rarer than this, a probability, if training did it."""
RARE = 1e-3
"""The same of rows, which must differ by `APART` and by `STEP` besides."""
LAG = 0.5
"""By this part of its decay an element may lag behind: steps of less than a rounding unit are lost."""
TAIL = 0.05
"""The share of the differences, the largest, that says what law."""
LEAST, ENOUGH = 64, 1000
"""So many of them at least, and at most, say it."""
MOST = 0.1
"""Where a larger share of the units or weights differ, it is no tampering of single ones: they moved in bulk."""
REPLACEABLE = ("scaled", "replaced")
"""Findings of units that the reference has other values for."""
TAMPERING = (*REPLACEABLE, "inserted")
"""Findings that change the function."""
PARTLY_TRAINED = "partly trained"
"""The kind of a finding that is no tampering: a few weights moved beside many that stayed, as training moves them."""
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
            reference has not and the function does not need; `inserted`, one that it needs; `partly trained`, a weight of
            which training reached a part.
        group, unit: the unit concerned, as it lies in the reference, or, if the reference has it not, in the suspect;
            None for weights that belong to none.
        slot: the initializer concerned.
        factor: the factor that it was multiplied by, None where that is not what happened.
        size: the size of the change, in units of what the other units or weights of the tensor show; of `partly trained`
            the share of the weights that moved.
    """

    kind: str
    group: str | None
    unit: int | None
    slot: str
    factor: float | None
    size: float


def find_tampering(
    groups: Sequence[Group], frames: Sequence[tuple[Arrays, Arrays]], least: float = 0.0
) -> tuple[Finding, ...]:
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


def _tampered(
    groups: Sequence[Group], reference: Arrays, suspect: Arrays, least: float
) -> list[Finding]:
    slots: dict[str, list[tuple[Group, Slot]]] = {}
    for group in groups:
        for slot in group.slots:
            slots.setdefault(slot.initializer, []).append((group, slot))
    found: list[Finding] = []
    law = _Law.of(slots, reference, suspect, least)
    for name in reference:
        own, x, y = slots.get(name, []), np.asarray(reference[name]), np.asarray(suspect[name])
        if _numbers(x) and _numbers(y) and not is_same(x, y):
            found += _in_weight(name, own, _Moves.between(x, y, least), law)
    dead = {
        g.id: _dead(g, reference) & _dead(g, suspect)
        for g in groups
        if any(f.group == g.id for f in found)
    }
    alive = [f for f in found if f.group is None or not dead[f.group][f.unit]]
    return _told(alive, slots, reference, suspect)


def _stands(finding: Finding, groups: Sequence[Group], reference: Arrays, suspect: Arrays) -> bool:
    """Does its unit differ here, too, far more than others do, or in one weight far more than in its others?"""
    if finding.group is None:
        return True
    for slot in (
        s for g in groups if g.id == finding.group for s in g.slots if s.initializer == finding.slot
    ):
        x, y = (
            take_rows(np.asarray(a[finding.slot]), slot).astype(np.float64)
            for a in (reference, suspect)
        )
        gap = _gap(x, y)
        left, own = np.linalg.norm(gap, axis=1), gap[finding.unit]
        # a few elements differ by as much as a factor makes of them
        far = APART if own.size >= TELLING else APART * GAP
        if left[finding.unit] > far * np.median(left) or (
            own.size >= TELLING and own.max() > far * np.median(own)
        ):
            return True
    return False


def is_nearly_equal(reference: np.ndarray, result: np.ndarray) -> bool:
    """Are all weights but those that may have been tampered with equal to rounding?"""
    x, y = (np.asarray(a).astype(np.float64) for a in (reference, result))
    return (
        bool((np.abs(y - x) > RELATIVE_TOLERANCE * np.abs(x).max(initial=0)).mean() <= MOST)
        if x.size
        else True
    )


def _gap(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far elements are from each other; infinities of one sign are equal."""
    return np.nan_to_num(np.abs(y - x), nan=0.0, posinf=MAX_SCORE)


def _numbers(array: np.ndarray) -> bool:
    """Does it hold numbers with a meaning, floating-point or quantised ones, and not sizes or places?"""
    return is_float_array(array) or (array.dtype.kind in "iu" and array.dtype.itemsize == 1)


@dataclass(frozen=True)
class _Moves:
    """How far the elements of one weight moved.

    Attributes:
        reference, suspect: float64, infinities as zeros, the reference as the decay of the whole weight left it.
        gap: float64, of each element the difference, 0 where rounding explains it.
        different: bool, of each element whether it is another number at all.
        decayed: whether most elements were multiplied by one factor.
        eps: the step from one to the next number of the suspect's type.
    """

    reference: np.ndarray
    suspect: np.ndarray
    gap: np.ndarray
    different: np.ndarray
    decayed: bool
    eps: float

    @classmethod
    def between(cls, reference: np.ndarray, suspect: np.ndarray, least: float) -> _Moves:
        eps = machine_epsilon(suspect.dtype if is_float_array(suspect) else np.dtype(np.float32))
        x, y = reference.astype(np.float64), suspect.astype(np.float64)
        different = np.asarray(x != y)
        decay, lag = _decay(x, y, eps)
        x = x * decay
        # of a scalar the difference is a number
        gap = np.asarray(_gap(x, y))
        x, y = (np.where(np.isfinite(z), z, 0.0) for z in (x, y))
        room = np.maximum(
            8 * eps * np.maximum(np.abs(x), np.abs(y)), least * np.abs(x).max(initial=0)
        )
        gap[gap <= room + lag * np.abs(x)] = 0.0
        return cls(x, y, gap, different, abs(1 - decay) > 8 * eps, eps)

    @property
    def scale(self) -> float:
        """The root of the mean square of the reference's elements."""
        return float(np.sqrt(np.square(self.reference).mean()))


def _decay(x: np.ndarray, y: np.ndarray, eps: float) -> tuple[float, float]:
    """The factor that most elements have in common, 1 where there is none, and by what share of it others may lag."""
    thin = slice(None, None, max(x.size // SAMPLED_ELEMENTS, 1) | 1)
    a, b = x.ravel()[thin], y.ravel()[thin]
    told = np.isfinite(a) & np.isfinite(b) & (a != 0)
    if told.sum() < TELLING:
        return 1.0, 0.0
    a, b = a[told], b[told]
    factor = float(np.median(b / a))
    lag = min(LAG * abs(1 - factor), UNDOING_TOLERANCE)
    shared = np.abs(b - factor * a) <= (8 * eps + lag) * np.abs(a)
    return (factor, lag) if 2 * shared.sum() > shared.size else (1.0, 0.0)


@dataclass(frozen=True)
class _Law:
    """What a whole model shows of training.

    Attributes:
        trained: whether any weight decayed, or moved in bulk.
        logs: of what moved in bulk the logarithms of how far its elements moved, in units of their weight's own size.
        few: by group and unit the weights in which it is one of a few units that moved.
    """

    trained: bool
    logs: np.ndarray
    few: Mapping[tuple[str, int], set[str]]

    @classmethod
    def of(
        cls,
        slots: Mapping[str, list[tuple[Group, Slot]]],
        reference: Arrays,
        suspect: Arrays,
        least: float,
    ) -> _Law:
        trained, logs = False, [np.zeros(0)]
        few: dict[tuple[str, int], set[str]] = {}
        for name in reference:
            x, y = np.asarray(reference[name]), np.asarray(suspect[name])
            if not (_numbers(x) and _numbers(y)) or is_same(x, y):
                continue
            moves = _Moves.between(x, y, least)
            rows = [np.asarray(take_rows(moves.gap, s).any(1)) for _, s in slots.get(name, [])] or [
                moves.gap.ravel() > 0
            ]
            bulk = moves.scale > 0 and all(moved.sum() > _few(moved.size) for moved in rows)
            trained |= bulk or moves.decayed
            for (group, _), moved in zip(slots.get(name, []), rows, strict=False):
                for unit in np.flatnonzero(moved).tolist() if _stayed(moved) else ():
                    few.setdefault((group.id, unit), set()).add(name)
            if bulk:
                # many elements of one weight outweigh no others
                own = moves.gap[moves.gap > 0]
                logs.append(np.log(own[:: own.size // ENOUGH + 1] / moves.scale))
        return cls(trained, np.concatenate(logs), few)

    def supports(self, units: Iterable[tuple[str, int]], name: str) -> bool:
        """Did any of these units move as one of a few in another weight than this?"""
        return any(self.few.get(unit, set()) - {name} for unit in units)

    def beyond(self, moved: np.ndarray, scale: float) -> np.ndarray:
        """Which of some moves of a weight of this scale are too large for the law."""
        if self.logs.size < TELLING or not scale:
            return np.zeros(moved.shape, bool)
        return moved > scale * np.exp(_limit(self.logs, CHANCE / max(moved.size, 1)))


def _few(count: int) -> int:
    """So many of these can have been tampered with one by one."""
    return max(int(MOST * count), 1)


def _stayed(gaps: np.ndarray) -> bool:
    """Did all but a few stay where they were?"""
    moved = int(np.count_nonzero(gaps))
    return moved <= _few(gaps.size) and 2 * moved < gaps.size


def _outliers(logs: np.ndarray, most: int, chance: float) -> int:
    """How many of the largest of some numbers stand out of the rest, `most` at most; of the rest any does by a `chance`.

    The largest count for which the last of them does, as Rosner's generalised test has it.
    """
    values = np.sort(logs)[::-1]
    counts = range(1, min(most, values.size - 3) + 1)
    return max(
        (k for k in counts if values[k - 1] > _limit(values[k:], chance / values.size)), default=0
    )


def _limit(logs: np.ndarray, chance: float) -> float:
    """What one more number of the same kind exceeds by that chance: Student's t of the next one.

    How far they spread their upper half says: below is what hardly ever had a gradient.
    """
    upper = np.sort(logs)[logs.size // 2 :]
    middle = float(np.median(logs))
    spread = float(np.sqrt(np.square(upper - middle).mean() * (1 + 1 / upper.size)))
    return middle - spread * float(stdtrit(max(upper.size - 1, 1), chance))


def _dead(group: Group, reference: Arrays) -> np.ndarray:
    """Units whose rows are all but zero wherever they have many elements: what happens to the rest of them is nothing."""
    dead = np.zeros(group.size, bool)
    seen = False
    for slot in group.slots:
        rows = take_rows(np.asarray(reference[slot.initializer]), slot)
        if rows.shape[1] >= TELLING and _numbers(rows):
            lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
            faint = lengths <= FAINT_ROW_SHARE * np.median(lengths)
            dead, seen = (dead & faint) if seen else faint, True
    return dead


def _in_weight(
    name: str, own: Sequence[tuple[Group, Slot]], moves: _Moves, law: _Law
) -> list[Finding]:
    x, y, gap = moves.reference, moves.suspect, moves.gap.copy()
    found = []
    for group, slot in own:
        a, b, d = (take_rows(z, slot) for z in (x, y, gap))
        if a.shape[1] < TELLING:
            continue
        lengths, left = np.linalg.norm(a, axis=1), np.linalg.norm(d, axis=1)
        alone = _stayed(left)
        crowd = left >= 0 if alone else left > 0
        common = 0.0 if alone else float(np.median(left[crowd]))
        far = left > APART * common
        if not far.any():
            continue
        ratio, error = measure_row_factors(a, b)
        known = np.isfinite(ratio)
        if (known & crowd).sum() < 2:
            continue
        if not alone:
            far &= _standing_out(left, lengths)
        elif law.trained:
            lone = np.array([not law.supports([(group.id, u)], name) for u in range(group.size)])
            far &= (
                lone
                | _straight(a, b, left, ratio)
                | law.beyond(left / a.shape[1] ** 0.5, moves.scale)
            )
        middle = float(np.median(ratio[known & crowd]))
        spread = 1.4826 * float(np.median(np.abs(ratio[known & crowd] - middle)))
        spreads = np.maximum(np.maximum(spread, error), moves.eps)
        away = np.where(known, np.abs(ratio - middle), 0.0)
        scaled = far & (away > np.maximum(APART * spreads, STEP))
        middling = 0.0 if alone else float(np.median(gap[gap > 0])) / 0.6745
        other = (
            far & (left > 0.5 * float(np.median(lengths))) & ((d > GAP * middling).mean(1) > 0.5)
        )
        odd = np.flatnonzero(scaled | other)
        if not odd.size or odd.size > _few(group.size):
            continue
        for unit in odd.tolist():
            k = float(ratio[unit])
            rest = np.linalg.norm(b[unit] - k * a[unit])
            straight = rest <= max(0.2 * abs(k) * lengths[unit], APART * common)
            whole = left[unit] / max(common, moves.eps * lengths[unit], 1e-300)
            size = float(away[unit] / spreads[unit] if straight else whole)
            found.append(
                Finding(
                    "scaled" if straight else "replaced",
                    group.id,
                    unit,
                    name,
                    k if straight else None,
                    size,
                )
            )
            gap[np.ix_(*slot.places(gap.shape, unit))] = 0.0
    found += _single(name, own, moves, gap, law)
    return found or _partly(name, moves)


def _standing_out(left: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Which rows moved so much further than the others that did that training does not explain it."""
    result = np.zeros(left.size, bool)
    moved = np.flatnonzero(left > 0)
    order = moved[np.argsort(-left[moved])]
    result[order[: _outliers(np.log(left[moved]), _few(left.size), RARE)]] = True
    return result & ~_faded(left, lengths)


def _faded(gap: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which of some numbers moved by a smaller share of their own size than half of all that moved: large ones decay far."""
    share = gap / np.maximum(sizes, 1e-300)
    return share < np.median(share[gap > 0])


def _straight(a: np.ndarray, b: np.ndarray, left: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Which rows were multiplied and moved in no other way, as no gradient moves them."""
    k = np.where(np.isfinite(ratio), ratio, 1.0)
    return np.linalg.norm(b - k[:, None] * a, axis=1) <= STEP * left


def _single(
    name: str, own: Sequence[tuple[Group, Slot]], moves: _Moves, gap: np.ndarray, law: _Law
) -> list[Finding]:
    """Weights that differ by far more than all others that do; where hardly any do, by themselves."""
    flat, size = gap.ravel(), np.abs(moves.reference)
    least = moves.eps * float(size.max(initial=0))
    moved = np.flatnonzero(flat > 0)
    alone = _stayed(flat)
    typical = 0.0 if alone else float(np.median(flat[moved])) / 0.6745
    if not (flat > max(APART * typical, GAP * least)).any():
        return []
    sizes = flat[moved]
    if not alone:
        sizes = np.minimum(sizes, typical * _polished(gap).ravel()[moved])
        sizes = np.where(
            _faded(flat[moved], size.ravel()[moved]), np.minimum(sizes, typical), sizes
        )
    order = np.argsort(-sizes)[: _few(flat.size) + 1]
    values = sizes[order]
    after = np.append(values[1:], 0.0) if order.size == moved.size else values[1:]
    steps = np.flatnonzero(
        (values[: after.size] > GAP * np.maximum(after, least))
        & (values[: after.size] > APART * typical)
    )
    if alone:
        steps = steps[-1:]
    else:
        steps = steps[(steps < 16) & (values[steps] > STEP * float(size.mean()))]
        steps = np.array(
            [k for k in steps.tolist() if _chance(sizes, k + 1, typical) < CHANCE][:1], int
        )
        if sizes.size < LEAST:
            # so few tell no law of their tail
            steps = steps[
                steps < _outliers(np.log(np.maximum(sizes, 1e-300)), _few(flat.size), CHANCE)
            ]
    if not steps.size:
        return []
    chosen = moved[order[: steps[0] + 1]]
    if alone and law.trained:
        odd = _isolated(gap).ravel()[chosen]
        for number in np.flatnonzero(odd).tolist():
            # a unit that moved elsewhere as well, beside others that did not, was the only one alive
            units = _holders(own, np.unravel_index(chosen[number], gap.shape))
            odd[number] = not law.supports(units, name)
        chosen = chosen[odd | law.beyond(flat[chosen], moves.scale)]
    found: dict[tuple[str | None, int | None], Finding] = {}
    for place in chosen.tolist():
        key: tuple[str | None, int | None] = next(
            _holders(own, np.unravel_index(place, gap.shape)), (None, None)
        )
        far = float(flat[place] / max(typical, least, 1e-300))
        if key not in found or found[key].size < far:
            found[key] = Finding("replaced", *key, name, None, far)
    return list(found.values())


def _holders(
    own: Sequence[tuple[Group, Slot]], where: Sequence[np.intp]
) -> Iterator[tuple[str, int]]:
    """The groups, and the unit of each, that an element of a weight belongs to."""
    for group, slot in own:
        if where[slot.axis] in slot.index and all(where[a] in p for a, p in slot.within):
            yield group.id, int(np.flatnonzero((slot.index == where[slot.axis]).any(1))[0])


def _axes(shape: Sequence[int]) -> list[int]:
    """The axes of rows and columns: the two longest ones, if an array has two that are no longer than one."""
    longest = sorted(range(len(shape)), key=lambda a: -shape[a])[:2]
    return longest if len(longest) == 2 and shape[longest[1]] > 1 else []


def _isolated(gap: np.ndarray) -> np.ndarray:
    """Which elements moved alone in their row and in their column."""
    result = np.full(gap.shape, bool(_axes(gap.shape)))
    for axis in _axes(gap.shape):
        others = tuple(a for a in range(gap.ndim) if a != axis)
        result &= (gap > 0).sum(others, keepdims=True) == 1
    return result & (gap > 0)


def _polished(gap: np.ndarray) -> np.ndarray:
    """The sizes of what moved with those of rows, then of columns, taken out: medians of logarithms (Tukey's polish)."""
    moved = gap > 0
    logs = np.log(np.where(moved, gap, 1.0))
    logs -= np.median(logs[moved])
    for axis in _axes(gap.shape):
        lines, there = np.moveaxis(logs, axis, 0), np.moveaxis(moved, axis, 0)
        for line, own in zip(lines, there, strict=True):
            if own.sum() >= TELLING:
                line -= np.median(line[own])
    return np.where(moved, np.exp(logs), 0.0)


def _partly(name: str, moves: _Moves) -> list[Finding]:
    """That training reached a part of this weight, where all but a few elements stayed, bit for bit."""
    if not moves.gap.any() or not _stayed(moves.different):
        return []
    return [Finding(PARTLY_TRAINED, None, None, name, None, float((moves.gap > 0).mean()))]


def _chance(gaps: np.ndarray, count: int, least: float) -> float:
    """How likely the largest `count` of some differences are that much larger than the rest, if all are of one law.

    The logarithms of the spacings of the largest values of a power law, each times its rank, are exponential, whatever the
    power (Rényi 1953, Hill 1975): the one in question over the mean of the others has Fisher's distribution.
    """
    many = min(max(int(TAIL * gaps.size), LEAST), ENOUGH, gaps.size // 4)
    if many < 2:
        return 1.0
    top = np.maximum(
        np.sort(np.partition(gaps, gaps.size - count - many)[gaps.size - count - many :])[::-1],
        least,
    )
    logs = np.log(top)
    gap, rest = count * (logs[count - 1] - logs[count]), float((logs[count:] - logs[-1]).sum())
    return float((1 + gap / max(rest, 1e-12)) ** (1 - many))


def _told(
    found: Sequence[Finding],
    slots: Mapping[str, list[tuple[Group, Slot]]],
    reference: Arrays,
    suspect: Arrays,
) -> list[Finding]:
    """The same, with the factor of short rows that were multiplied as a whole, or like longer rows of the same unit."""
    factors = {(f.group, f.unit): f.factor for f in found if f.factor is not None}
    result = []
    for finding in found:
        if finding.kind == "replaced" and finding.group is not None:
            slot = next(s for g, s in slots[finding.slot] if g.id == finding.group)
            a, b = (
                take_rows(np.asarray(z[finding.slot]), slot)[finding.unit].astype(np.float64)
                for z in (reference, suspect)
            )
            k = factors.get((finding.group, finding.unit))
            if k is None and a.size > 1:
                k = float(measure_row_factors(a[None], b[None])[0][0])
            if (
                k is not None
                and np.isfinite(b).all()
                and np.abs(b - k * a).max() <= LIKE * np.abs(b).max()
            ):
                finding = replace(finding, kind="scaled", factor=k)
        result.append(finding)
    return result


def repair_weights(
    groups: Sequence[Group], findings: Sequence[Finding], reference: Arrays, suspect: Arrays
) -> dict[str, np.ndarray]:
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
