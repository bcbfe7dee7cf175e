"""Units that were multiplied as well as moved: their order, and by what. Knows arrays and groups, no ONNX.

Groups are matched by the directions of their rows alone, those with the best anchored evidence first; of the matched
rows the factors follow, and are taken out before the neighbours, whose rows they would distort, have their turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays
from ..groups.rows import take_rows
from ..groups.scaling import Scaling
from ..matching.evidence.scores import join_rows
from ..matching.matcher import Matcher, Progress
from ..matching.matches import Match
from ..numerics import as_finite, is_float_array, machine_epsilon

ROUNDS = 4
"""At most so often all groups are matched after the first time."""
PASSES = 30
"""At most so many passes over the factors of all groups, each of which makes those of its neighbours surer."""
FEW = 4
"""So many at least."""
MOST = 0.99
"""Factors are settled once those of this share of the units stay as they are."""
SETTLED = 3
"""A factor stays as it is if it changes by less than this many times the error of factors."""
CLOSE = 1e-7
"""Factors nearer to one need no other pass."""
STEPS = 16
"""Steps towards the factors that agree with most slots."""
ENOUGH = 400
"""Of rows of more elements about so many tell the factor."""
NEAR = (0.1, 0.03, 0.01, 1e-3, 1e-4)
"""How near factors must be to agree, in the last of these steps."""
COARSE_ERROR = 0.03
"""Factors that are surer than this are as good as each other."""
AGREE = 6
"""Slots agree whose factors are nearer than this many times their error."""
SHARP = 1e-6
"""Directions that differ by less, as one less their cosine, are the same."""
TOLD = 1e-9
"""What a system of equations says fainter than this, beside the rest, counts for nothing."""
FAINT_ROW_SHARE = 1e-6
"""Rows whose elements are smaller than this share of those of the median row."""
ROUNDED = 0.25
"""Of a step: by how much rounding changes an element, usually."""
TELLING = 8
"""Rows of so many elements that agree on a factor were multiplied by it, however small they are."""
ALIKE = 1e-4
"""Elements agree that differ by less than this share on average."""
STAY = 0.1
"""Of likelihood, as a logarithm: less than this moves no unit that its direction was found by."""
TINY = np.finfo(np.float32).tiny
MOST_FLIPS = 8
"""Of more independent signs than this only these are tried."""


@dataclass(frozen=True)
class Factors:
    """By what the units of a group were multiplied, slot by slot.

    Attributes:
        scaling: what is allowed, and the slots.
        ratio: float64 [slots, units]: the suspect's elements by the reference's, the median; nan where there are none.
        error: float64 [slots, units]: the deviation of `ratio`, by how much the elements differ from it.
        allowed: float64 [slots, units]: the factors nearest to these that leave the function as it is.
    """

    scaling: Scaling
    ratio: np.ndarray
    error: np.ndarray
    allowed: np.ndarray


class Unscaler(Matcher):
    """Aligns a suspect whose units may have been multiplied by factors that leave its function as it is."""

    def __init__(
        self,
        groups: Sequence[Group],
        reference: Arrays,
        suspect: Arrays,
        scalings: Mapping[str, Scaling],
    ):
        super().__init__(groups, reference, suspect)
        self.current = {
            n: a.astype(np.float64) if is_float_array(a) else a for n, a in self.current.items()
        }
        self.scalings = {g: s for g, s in scalings.items() if s.free}
        for name in {
            shift.bias for s in self.scalings.values() for shift in s.shifts
        } - self.current.keys():
            self.reference[name], self.current[name] = (
                reference[name],
                suspect[name].astype(np.float64),
            )
        for s in self.scalings.values():
            for slot, offset in zip(s.slots, s.offsets.tolist(), strict=True):
                if offset:
                    # what was pruned stays nothing whatever it is multiplied by
                    array = self.current[slot.initializer]
                    self.current[slot.initializer] = np.where(array == 0, -offset, array)
        self.applied = {
            g: np.ones((len(s.slots), len(s.slots[0].index))) for g, s in self.scalings.items()
        }
        self.searching = True
        self.errors: list[float] = []
        """The errors of the factors of each group, in the last pass."""
        self.steps: list[np.ndarray] = []
        """By how much those of each unit changed in it."""
        self.unscaled: set[str] = set()
        self.across: dict[tuple[str, int], set[str]] = {}
        """By a weight and an axis of it, the groups along its other axes whose units may have been multiplied."""
        for g, s in self.scalings.items():
            for slot in s.slots:
                for axis in range(self.reference[slot.initializer].ndim):
                    if axis != slot.axis:
                        self.across.setdefault((slot.initializer, axis), set()).add(g)
        self.kinds: dict[str, dict[tuple, int]] = {}
        for g, s in self.scalings.items():
            numbers: dict[tuple, int] = {}
            own = self.kinds[g] = {}
            for k, slot in enumerate(s.slots):
                number = numbers.setdefault(
                    (s.scales[:, k].tobytes(), s.signs[:, k].tobytes()), len(numbers)
                )
                for column in slot.index[0].tolist():
                    own[slot.initializer, slot.axis, column] = number

    def run(
        self, progress: Progress | None = None, is_nearer: Callable[[Arrays], bool] | None = None
    ) -> list[Match]:
        """As that of a plain suspect; nothing where what is found at first `is_nearer` to no copy."""
        tops = self.family.tops()
        self.anchor(progress)
        meeting = self._meeting()
        for number in range(ROUNDS):
            # where groups meet in no weight, factors change no direction, and nothing more can be told
            moved = [meeting and self._align(g.id, anchored=False) for g in tops]
            self.settle()
            if number == 0 and is_nearer and not is_nearer(self.current):
                return []
            if not any(moved):
                break
        # with the factors out, what is left is told as of any suspect
        self.searching = False
        self._tell()
        return self.found()

    def settle(self) -> None:
        """Takes out the factors of all groups, with the units where they are, until they no longer change."""
        tops = self.family.tops()
        self.aligned.update(g.id for g in tops)
        for number in range(PASSES):
            self.errors.clear()
            self.steps.clear()
            if max((self._unscale(g.id) for g in tops), default=0.0) < CLOSE:
                break
            if number + 1 >= FEW and self._still():
                break

    def _still(self) -> bool:
        """Did the last pass change factors by no more than what they are sure to?"""
        return bool(
            np.quantile(np.concatenate(self.steps), MOST) < SETTLED * np.median(self.errors)
        )

    def _align(self, name: str, anchored: bool) -> bool:
        moved = super()._align(name, anchored)
        if moved:
            self._follow(name)
        if anchored:
            # the neighbours, whose rows these factors would distort, are next
            self._unscale(name)
        return moved

    def _follow(self, name: str) -> None:
        """The factors that were taken out belong to units, and move with them."""
        moves = {g.id: self.matches[g.id].permutation for g in self._members(name)}
        inverse = {n: np.argsort(p) for n, p in moves.items()}
        old = dict(self.applied)
        for group in moves.keys() & old.keys():
            self.applied[self.family.twin(group, inverse)] = old[group][:, moves[group]]

    def values(self, arrays: Arrays, name: str, own: Set[int]) -> np.ndarray:
        if not self.searching:
            return super().values(arrays, name, own)
        return as_finite(arrays[name]) / np.float32(self.scale(name)[1])

    def orderless(self, arrays: Arrays, slots: Sequence[Slot]) -> list[np.ndarray]:
        return [
            np.sort(np.abs(as_finite(take_rows(arrays[s.initializer], s))), 1)
            / np.float32(self.scale(s.initializer)[1])
            for s in slots
        ]

    def compared(
        self,
        group: Group,
        slots: Sequence[Slot],
        ours: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if group.id not in self.scalings or not self.searching:
            return super().compared(group, slots, ours, theirs)
        known = self.kinds[group.id]
        sides: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {}
        for slot, x, y in zip(slots, ours, theirs, strict=True):
            columns = slot.index[0].tolist()
            pieces = (np.split(z, len(columns), axis=1) for z in (x, y))
            for column, a, b in zip(columns, *pieces, strict=True):
                kind = known.get((slot.initializer, slot.axis, column), -1)
                mine, its = sides.setdefault(kind, ([], []))
                mine.append(a)
                its.append(b)
        score = np.zeros((group.size, group.size), np.float32)
        signed = bool(self.scalings[group.id].signs.size)
        for mine, its in sides.values():
            a, b = (np.concatenate(z, 1) for z in (mine, its))
            (a, faint), (b, other) = (_directions(z) for z in (a, b))
            cosine = a @ b.T
            apart = 1 - (np.abs(cosine) if signed else cosine)
            # of a dead unit the direction is noise, unless it is another's
            silent = (faint[:, None] | other) & ((apart > ALIKE) | (a.shape[1] < TELLING))
            apart[silent] = 1
            # what two vectors that have their direction alone in common tell, of noise that is not known
            score -= np.float32(a.shape[1] / 2) * np.log(np.maximum(apart, 0) + np.float32(SHARP))
        return score, join_rows(ours, group.size), join_rows(theirs, group.size)

    def weighed(self, group: Group, scores: np.ndarray) -> np.ndarray:
        # what directions tell of dead units, their size beside others does not: they stay where they are found
        return scores if self.searching else scores + STAY * np.eye(group.size, dtype=scores.dtype)

    # ---- factors

    def _unscale(self, name: str) -> float:
        """Takes out of the suspect what the units of a group, and of those inside it, were multiplied by; the most of it."""
        changed = 0.0
        waiting = [g.id for g in self._members(name) if g.id in self.scalings]
        usable = {
            g: np.array([self._usable(s, name) for s in self.scalings[g].slots]) for g in waiting
        }

        def plain(group: str) -> np.ndarray:
            """In which slots do only the group's own factors stand?"""
            slots = self.scalings[group].slots
            return usable[group] & [
                self.across.get((s.initializer, s.axis), set()) <= self.unscaled for s in slots
            ]

        while waiting:
            group = max(waiting, key=lambda g: plain(g).sum())
            waiting.remove(group)
            scaling = self.scalings[group]
            ratio, error = measure_factors(scaling, self.reference, self.current)
            ratio[~plain(group)] = np.nan
            self.unscaled.add(group)
            factors = fit_allowed_factors(scaling, ratio, error, robust=False)
            if np.abs(np.abs(factors) - 1).max(initial=0) > 1e-9 or (factors < 0).any():
                scaling.apply(self.current, 1 / factors)
                self.applied[group] = self.applied[group] * factors
                sure = ~np.isnan(ratio)
                # what is well within a unit's own error is no change
                share = np.divide(
                    error, np.abs(ratio), out=np.zeros_like(ratio), where=sure & (ratio != 0)
                )
                changed = max(
                    changed, float((np.abs(factors - 1) - share / 3)[sure].max(initial=0))
                )
                if sure.any():
                    self.errors.append(float(np.median(share[sure])))
                    self.steps.append(np.abs(factors - 1).max(0))
        return changed

    def factors(self) -> dict[str, Factors]:
        """By each group's id, what its units were multiplied by, in the order of the reference."""
        found = {}
        for group, scaling in self.scalings.items():
            applied = self.applied[group]
            ratio, error = measure_factors(scaling, self.reference, self.current, applied)
            ratio, error = ratio * applied, error * np.abs(applied)
            found[group] = Factors(
                scaling, ratio, error, fit_allowed_factors(scaling, ratio, error)
            )
        return found


def _directions(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows with length one, and which of them are all but zero beside the others."""
    largest = np.abs(rows).max(1, keepdims=True, initial=0)
    # the squares of small numbers would be zero
    rows = rows / np.maximum(largest, TINY)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    lengths = (largest * norms)[:, 0]
    return rows / np.maximum(norms, TINY), lengths <= FAINT_ROW_SHARE * np.median(lengths)


def measure_factors(
    scaling: Scaling, reference: Arrays, suspect: Arrays, applied: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """By how much the elements of every unit are larger in the suspect, and how sure that is, [slots, units].

    A single element says nothing of its error: it is taken to be that of the elements of other slots, or what the same
    element of other units differs by, whichever is more.
    """
    found, many, apart = [], [], []
    for k, (slot, offset) in enumerate(zip(scaling.slots, scaling.offsets, strict=True)):
        x, y = (take_rows(a, slot).astype(np.float64) for a in _thinned(reference, suspect, slot))
        if not np.abs(x).sum(1).all():
            x, y = (
                take_rows(np.asarray(a[slot.initializer]), slot).astype(np.float64)
                for a in (reference, suspect)
            )
        found.append(measure_row_factors(x, y, offset, pruned=True))
        x, y = x + offset, y + offset
        many.append(x.shape[1])
        if applied is None:
            apart.append(np.zeros(len(x)))
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            # it was there before the factors that were taken out, or came after them; half of them may be fitted exactly
            both = (np.ones(len(x)), np.abs(applied[k]))
            rows = [
                np.quantile(np.abs(y - x).max(1) * c, 0.75) / 1.15 / (np.abs(x).max(1) * c)
                for c in both
            ]
            apart.append(np.nan_to_num(np.max(rows, 0), posinf=0.0))
    ratio, error = np.array([r for r, _ in found]), np.array([e for _, e in found])
    count = np.array(many)[:, None]
    known = np.isfinite(ratio) & (ratio != 0) & (count > 1)
    each = (
        float(np.median((error * np.sqrt(count) / np.abs(np.where(known, ratio, 1.0)))[known]))
        if known.any()
        else 1.0
    )
    alone = np.maximum(each * np.abs(np.where(np.isfinite(ratio), ratio, 1.0)), np.array(apart))
    error = np.where(count == 1, alone, error)
    # what was multiplied was rounded, however few of the others were
    steps = np.array(
        [machine_epsilon(np.asarray(reference[s.initializer]).dtype) for s in scaling.slots]
    )[:, None]
    is_rounded = np.isfinite(ratio) & (ratio != 1)
    return ratio, np.maximum(
        error, np.where(is_rounded, ROUNDED * steps / np.sqrt(count) * np.abs(ratio), 0.0)
    )


def _thinned(reference: Arrays, suspect: Arrays, slot: Slot) -> list[np.ndarray]:
    """A weight in both models, of its longest other axis only some positions where a few tell enough."""
    arrays = [np.asarray(a[slot.initializer]) for a in (reference, suspect)]
    shape = arrays[0].shape
    axes = [a for a in range(len(shape)) if a != slot.axis and a not in dict(slot.within)]
    step = arrays[0].size // max(shape[slot.axis] * ENOUGH, 1)
    if not axes or step < 2:
        return arrays
    longest = max(axes, key=lambda a: shape[a])
    thin = (*[slice(None)] * longest, slice(None, None, min(step, shape[longest])))
    return [a[thin] for a in arrays]


def measure_row_factors(
    x: np.ndarray, y: np.ndarray, offset: float = 0.0, pruned: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Of every row of `y` the ratio to that of `x`, the median weighted by the size of its elements, and its error.

    nan for rows of zeros, and for those that are all but that. `offset` is added to both first. With `pruned`, what is left
    tells the ratio where most of a row is zeros in `y`.
    """
    gone = ((y == 0) | (y == -offset)) & pruned
    x, y = x + offset, y + offset
    weight = np.abs(x)
    left = ~(gone & ((weight * gone).sum(1, keepdims=True) >= weight.sum(1, keepdims=True) / 2))
    weight = weight * left
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = np.where(weight > 0, y / x, 1.0)
    order = np.argsort(share, axis=1)
    summed = np.cumsum(np.take_along_axis(weight, order, 1), 1)
    middle = (summed >= summed[:, -1:] / 2).argmax(1)
    ratio = np.take_along_axis(share, np.take_along_axis(order, middle[:, None], 1), 1)[:, 0]
    error = (
        (np.abs(y - ratio[:, None] * x) * left).sum(1)
        / np.maximum(weight.sum(1), 1e-300)
        / np.sqrt(x.shape[1])
    )
    # the median is one of the elements itself: the others say how far it may be off
    error *= x.shape[1] / max(x.shape[1] - 1, 1)
    # a row that is all but zero beside the others says nothing, unless all of its elements say the same
    silent = ~np.isfinite(ratio) | ~np.isfinite(error)
    faint = silent | (weight.sum(1) == 0)
    unsure = (x.shape[1] < TELLING) | ~(error * np.sqrt(x.shape[1]) <= ALIKE * np.abs(ratio))
    for total in (weight.sum(1), (np.abs(y) * left).sum(1)):
        faint |= (total <= FAINT_ROW_SHARE * np.median(total)) & unsure
    return np.where(faint, np.nan, ratio), np.where(faint, 0.0, error)


def fit_allowed_factors(
    scaling: Scaling, ratio: np.ndarray, error: np.ndarray, robust: bool = True
) -> np.ndarray:
    """The factors that a structure allows, [slots, units], 1 where nothing is known.

    Those that most slots agree with, or, not `robust`, those nearest to all.
    """
    known = np.isfinite(ratio) & (ratio != 0)
    logs = np.log(np.abs(np.where(known, ratio, 1.0)))
    trust = np.where(known, 1.0, 0.0)
    result = np.zeros_like(logs)
    least = np.maximum(error / np.maximum(np.abs(np.where(known, ratio, 1.0)), 1e-30), 1e-7)
    # units of which no slot differs by more than its error were not multiplied
    units = (
        np.flatnonzero((np.abs(logs) > AGREE * least).any(0))
        if robust
        else np.flatnonzero(logs.any(0))
    )
    for chosen in _apart(scaling.scales != 0) if units.size else ():
        own = np.flatnonzero((scaling.scales[chosen] != 0).any(0))
        basis = scaling.scales[chosen][:, own].T
        here = np.ix_(own, units)
        result[here] = _fitted(basis, logs[here], trust[here], least[here], robust)
    signs = np.ones_like(logs)
    observed = np.where(known, np.sign(np.where(known, ratio, 1.0)), 0.0)
    for rows in _apart(scaling.signs):
        own = scaling.signs[rows]
        slots = own.any(0)
        best = np.full(ratio.shape[1], -np.inf)
        # of many that hang together one at a time
        tried = (
            itertools.product((0, 1), repeat=len(own))
            if len(own) <= MOST_FLIPS
            else np.eye(len(own), dtype=int).tolist()
        )
        for chosen in [(0,) * len(own), *tried]:
            flips = 1 - 2 * (np.array(chosen) @ own % 2)[slots]
            agree = (observed[slots] * flips[:, None]).sum(0)
            better = agree > best + 1e-9
            best = np.where(better, agree, best)
            signs[slots] = np.where(better, flips[:, None], signs[slots])
    return signs * np.exp(result)


def _fitted(
    basis: np.ndarray, logs: np.ndarray, trust: np.ndarray, least: np.ndarray, robust: bool
) -> np.ndarray:
    """Of every unit the combination of the columns of `basis`, [slots, factors], nearest to `logs`, [slots, units]."""
    result = np.zeros_like(logs)
    # slots count alike but those that say little
    each = trust / np.maximum(least, COARSE_ERROR) if robust else trust / least**2
    weight = each
    for number in range(STEPS if robust else 1):
        root = np.sqrt(weight.T)
        result = (basis[None] @ _least(root[:, :, None] * basis[None], root * logs.T))[:, :, 0].T
        # least absolute differences, step by step; at last the mean of those that agree
        weight = each / np.maximum(np.abs(logs - result), least)
        if number >= STEPS - len(NEAR):
            near = np.maximum(AGREE * least, NEAR[number - STEPS])
            weight = np.where(np.abs(logs - result) <= near, trust / least**2, 0.0)
    return result


def _least(systems: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The least-squares solutions of many small systems, [systems, unknowns, 1]; what none tells is zero."""
    count = systems.shape[2]
    ridge = TOLD * np.maximum(np.linalg.norm(systems, axis=(1, 2)), 1e-150)
    whole = np.concatenate([systems, ridge[:, None, None] * np.eye(count)], 1)
    q, r = np.linalg.qr(whole)
    return np.linalg.solve(r, np.swapaxes(q[:, : systems.shape[1]], 1, 2) @ targets[:, :, None])


def _apart(rows: np.ndarray) -> list[list[int]]:
    """The numbers of the rows in sets that have no column in common."""
    sets: list[tuple[list[int], np.ndarray]] = []
    for number, row in enumerate(rows):
        touching = [s for s in sets if (s[1] & row).any()]
        sets = [s for s in sets if not (s[1] & row).any()]
        sets.append(
            (
                [*itertools.chain.from_iterable(n for n, _ in touching), number],
                np.any([row, *(c for _, c in touching)], 0),
            )
        )
    return [numbers for numbers, _ in sets]
