"""Stretches of labels that every fact treats alike, folded to two labels each.

Units mostly lie side by side, and what a fact says of one it says of its neighbours: it maps a stretch of labels
onto another, shifted, or onto one label. Any permutation of the places of such stretches maps all facts onto
themselves, so two places tell as much as thousands. The cost of what follows is then one of the graph, not of
its widths.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..dataflow.engine import Analysis
from ..dataflow.labels.facts import Facts
from ..dataflow.labels.roles import (
    LabelRun,
    Role,
    RolePair,
    find_run_start,
    find_varying_axes,
    lay_along,
    to_dense,
)
from ..groups.model import Slot

Run = tuple[int, int, int]
"""The starts of two stretches and their length."""


class Unfoldable(Exception):
    """The units of a group do not lie as a fold has them."""


@dataclass
class Fold:
    """The facts of a graph, folded, and the way back.

    Attributes:
        analysis: the facts, on the labels that are kept.
        length: for every kept label how many labels its stretch has, 1 where it is not folded.
        second: is a kept label the second of its stretch, which stands for all others?
        places: for every weight and axis that is folded the positions that are kept, and for each of them the length
            of its stretch, negative for the second position of one.
    """

    analysis: Analysis
    length: np.ndarray
    second: np.ndarray
    places: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]

    def slot(
        self, slot: Slot, which: np.ndarray, distance: np.ndarray, shared: dict[tuple, np.ndarray]
    ) -> Slot:
        """A slot over the real units; Unfoldable where its positions do not follow the stretches.

        Of equal indices one is kept, in `shared`.
        """
        within = tuple([(a, self._whole(slot.initializer, a, p[None])[0]) for a, p in slot.within])
        known = self.places.get((slot.initializer, slot.axis))
        if known is None:
            index = slot.index
        elif which.size > len(slot.index):
            index = known[0].take(slot.index).take(which, 0) + distance[:, None]
        else:
            index = self._whole(slot.initializer, slot.axis, slot.index)
        if known is None and which.size > len(slot.index):
            raise Unfoldable
        index = shared.setdefault((index.shape, index.tobytes()), index)
        return Slot(slot.initializer, slot.axis, index, within)

    def _whole(self, weight: str, axis: int, index: np.ndarray) -> np.ndarray:
        """Positions where whole stretches are meant, row by row."""
        known = self.places.get((weight, axis))
        if known is None:
            return index
        places, length = known
        if (length[index] != length[index[0]]).any():
            raise Unfoldable
        real, spans = places[index], length[index[0]]
        pieces, k = [], 0
        while k < spans.size:
            # the same place of several stretches, then the next place of them all
            n = int(spans[k])
            width = (
                next((j for j, m in enumerate(spans[k:]) if m != n), spans.size - k) if n > 1 else 1
            )
            block = real[:, k : k + width, None].transpose(0, 2, 1)
            if n > 1:
                if (spans[k + width : k + 2 * width] != -n).any() or (
                    real[:, k + width : k + 2 * width] != real[:, k : k + width] + 1
                ).any():
                    raise Unfoldable
                block = block + np.arange(n)[None, :, None]
                k += width
            elif n < 0:
                raise Unfoldable
            pieces.append(block.reshape(len(index), -1))
            k += width
        return np.concatenate(pieces, 1)


def unfold_runs(analysis: Analysis) -> Fold:
    """The facts as they are."""
    count = analysis.facts.label_count
    return Fold(analysis.to_dense(), np.ones(count, np.int64), np.zeros(count, bool), {})


def fold_runs(analysis: Analysis, short: int = 8) -> Fold:
    """The facts of a graph on two labels of every stretch that they treat alike.

    Stretches of fewer than `short` labels stay as they are.
    """
    facts = analysis.facts
    cuts = _Cuts(facts.label_count, short)
    cuts.at(np.array(facts.births, np.int64))
    equal = [cuts.pairs(a, b) for a, b in facts.equal]
    parents = [cuts.pairs(c, p) for c, p in facts.parents]
    for labels in itertools.chain((p for p, _, _ in facts.pins), facts.read):
        cuts.set(labels)
    touched = facts.split_marks()
    for _, labels in touched:
        cuts.set(labels)
    lying = {w: cuts.lying(roles) for w, roles in analysis.weights.items()}
    cuts.spread()

    start = np.flatnonzero(cuts.cut[:-1])
    size = np.diff(np.r_[start, facts.label_count])
    kept = np.repeat(start, np.where(size < short, size, 2))
    block = np.searchsorted(start, kept, side="right") - 1
    kept += np.arange(kept.size) - np.searchsorted(kept, start)[block] if kept.size else kept
    length = np.where(size < short, 1, size)[block]
    second = (length > 1) & (kept > start[block])
    keep = np.zeros(facts.label_count, bool)
    keep[kept] = True

    # of many labels few are kept
    table = np.cumsum(keep) - 1 if facts.label_count < 1 << 22 else None

    def number(labels: np.ndarray) -> np.ndarray:
        # addresses are negative, and there may be more of them than labels
        found = np.searchsorted(kept, labels) if table is None else table[np.maximum(labels, 0)]
        return np.where(labels < 0, labels, found) if labels.size and labels.min() < 0 else found

    ordered = kept.tolist()

    def line(role: LabelRun) -> np.ndarray:
        return np.arange(
            bisect.bisect_left(ordered, role.start),
            bisect.bisect_left(ordered, role.start + role.size),
        )

    def both(pair: RolePair) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(pair[0], LabelRun):
            return line(pair[0]), line(pair[1])
        here = keep[pair[0]]
        return number(pair[0][here]), number(pair[1][here])

    def some(labels: Role) -> np.ndarray:
        if isinstance(labels, LabelRun):
            return line(labels)
        labels = labels[labels >= 0]
        return number(labels[keep[labels]])

    places: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    weights: dict[str, list[Role]] = {}
    for weight, roles in analysis.weights.items():
        if all(isinstance(r, LabelRun) for r in roles):
            weights[weight] = []
            for role in roles:
                assert isinstance(role, LabelRun)
                at = line(role)
                weights[weight].append(lay_along(at, role.axis, role.rank))
                if at.size < role.size:
                    places[weight, role.axis] = (
                        kept[at] - role.start,
                        np.where(second[at], -length[at], length[at]),
                    )
            continue
        arrays = [to_dense(r) for r in roles]
        for axis, row in lying[weight].items():
            stay = np.flatnonzero(keep[row])
            if stay.size == row.size:
                continue
            at = number(row[stay])
            places[weight, axis] = stay, np.where(second[at], -length[at], length[at])
            arrays = [r if r.shape[axis] == 1 else r.take(stay, axis) for r in arrays]
        weights[weight] = [number(r) for r in arrays]
    folded = Facts(
        label_count=kept.size,
        births=np.searchsorted(kept, facts.births).tolist(),
        equal=[both(p) for p in equal],
        parents=[both(p) for p in parents],
        pins=[(some(p), reason, node) for p, reason, node in facts.pins],
        read=[some(r) for r in facts.read],
        marked=[(what, some(labels)) for what, labels in touched],
    )
    return Fold(replace(analysis, facts=folded, weights=weights), length, second, places)


class _Cuts:
    """Where stretches of labels end."""

    def __init__(self, count: int, short: int):
        self.short = short
        self.cut = np.zeros(count + 1, bool)
        self.cut[[0, count]] = True
        self.runs: list[Run] = []
        """Stretches of labels that must be cut alike."""

    def at(self, labels: np.ndarray) -> None:
        self.cut[labels] = True

    def single(self, labels: np.ndarray) -> None:
        """Labels that stand for themselves alone."""
        labels = labels[labels >= 0]
        self.cut[labels] = True
        self.cut[labels + 1] = True

    def set(self, labels: Role) -> None:
        """A set of labels, of which a stretch is a part or not."""
        if isinstance(labels, LabelRun):
            self.cut[labels.start] = self.cut[labels.start + labels.size] = True
            return
        start = find_run_start(labels)
        if start is not None:
            self.cut[start] = self.cut[start + labels.size] = True
            return
        labels = np.unique(labels[labels >= 0])
        if not labels.size:
            return
        ends = labels[1:] != labels[:-1] + 1
        self.cut[labels[np.r_[True, ends]]] = True
        self.cut[labels[np.r_[ends, True]] + 1] = True

    def pairs(self, a: Role, b: Role) -> RolePair:
        """Pairs of labels, of which none of `a` is an address, in the order of `a`."""
        if isinstance(a, LabelRun) and isinstance(b, LabelRun):
            self._run(a.start, b.start, a.size)
            return a, b
        a, b = to_dense(a), to_dense(b)
        i, j = find_run_start(a), find_run_start(b)
        if i is not None and j is not None and a.size >= self.short:
            self._run(i, j, a.size)
            return a, b
        step = np.diff(a)
        if (step < 0).any():
            order = np.argsort(a, kind="stable")
            a, b = a[order], b[order]
            step = np.diff(a)
        across = np.diff(b)
        kind = np.where(
            step == 1, np.where((across == 1) & (b[:-1] >= 0), 1, np.where(across == 0, 2, 0)), 0
        )
        # one step between two stretches of another kind belongs to neither
        around = np.r_[0, kind, 0]
        kind[(kind != around[:-2]) & (kind != around[2:])] = 0
        ends = kind == 0
        ends[1:] |= (kind[1:] != kind[:-1]) & (kind[:-1] > 0)
        start = np.flatnonzero(np.r_[True, ends])
        size = np.diff(np.r_[start, a.size])
        long = size >= self.short
        short = np.repeat(~long, size)
        if short.any():
            self.single(a[short])
            self.single(b[short])
        at, n = start[long], size[long]
        i, j, alike = a[at], b[at], kind[at] == 1
        self.cut[i] = self.cut[i + n] = True
        self.single(j[~alike])
        self.cut[j[alike]] = self.cut[(j + n)[alike]] = True
        alike &= i != j
        self.runs += zip(i[alike].tolist(), j[alike].tolist(), n[alike].tolist(), strict=True)
        return a, b

    def _run(self, i: int, j: int, n: int) -> None:
        for end in (i, i + n, j, j + n):
            self.cut[end] = True
        if i != j:
            self.runs.append((i, j, n))

    def lying(self, roles: Sequence[Role]) -> dict[int, np.ndarray]:
        """For every axis of a weight along which stretches may lie, the labels of one line of it."""
        found: dict[int, np.ndarray] = {}
        if all(isinstance(r, LabelRun) for r in roles):
            # one line an axis
            for r in roles:
                self.set(r)
            return found
        arrays = [to_dense(r) for r in roles]
        for axis in {a for r in arrays for a in find_varying_axes(r)}:
            own = [r for r in arrays if r.shape[axis] > 1]
            if len(own) == 1 and own[0].size == own[0].shape[axis] >= self.short:
                start = find_run_start(own[0])
                if start is not None:
                    self.cut[start] = self.cut[start + own[0].size] = True
                    found[axis] = own[0].ravel()
                    continue
            lines = [np.moveaxis(r, axis, -1).reshape(-1, r.shape[axis]) for r in own]
            ends = np.zeros(lines[0].shape[1] - 1, bool)
            for line in lines:
                ends |= (np.diff(line, axis=1) != 1).any(0)
            starts = np.flatnonzero(np.r_[True, ends])
            size = np.diff(np.r_[starts, lines[0].shape[1]])
            long = size >= self.short
            short = np.repeat(~long, size)
            for line in lines:
                self.single(line[:, short].ravel())
            for at, n in zip(starts[long].tolist(), size[long].tolist(), strict=True):
                first = int(lines[0][0, at])
                for other in itertools.chain.from_iterable(line[:, at].tolist() for line in lines):
                    self._run(first, other, n)
            if long.any():
                found[axis] = lines[0][0]
        return found

    def spread(self) -> None:
        """Cuts both stretches of every run alike."""
        back = False
        while True:
            changed = False
            runs: Iterator[Run] = reversed(self.runs) if back else iter(self.runs)
            for a, b, n in runs:
                x, y = self.cut[a : a + n], self.cut[b : b + n]
                one, two = np.count_nonzero(x), np.count_nonzero(y)
                if one == two == 1:
                    continue
                x |= y
                both = np.count_nonzero(x)
                if both != two:
                    y |= x
                changed |= both != one or both != two
            if not changed:
                return
            back = not back
