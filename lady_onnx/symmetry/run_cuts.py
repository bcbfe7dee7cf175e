"""Where runs of labels end: the cuts between consecutive labels that some fact tells apart.

A fact often says of consecutive labels what it says of their neighbours: it maps a run of labels
onto another, shifted, or onto one label. Labels between two cuts are treated alike by every fact.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ..dataflow.labels.roles import (
    LabelRun,
    Role,
    RolePair,
    find_run_start,
    find_varying_axes,
    to_dense,
)

RunPair = tuple[int, int, int]
"""The first labels of two runs, and their length."""
APART, SHIFTED, ONTO_ONE = 0, 1, 2
"""How one pair of labels follows the one before it: in no way, both labels one higher, or the first
one higher and the second the same."""


class RunCuts:
    """The cuts of the labels of one graph.

    Attributes:
        is_cut: bool [labels + 1], whether a run ends before the label.
    """

    def __init__(self, label_count: int, min_run: int):
        """Start with one run of all labels.

        Args:
            label_count: the number of labels.
            min_run: shorter runs are cut into single labels where that is simpler.
        """
        self.is_cut = np.zeros(label_count + 1, bool)
        self.is_cut[[0, label_count]] = True
        self._min_run = min_run
        # runs that must be cut alike
        self._pairs: list[RunPair] = []

    def cut_before(self, labels: np.ndarray) -> None:
        """Cut before each of the labels."""
        self.is_cut[labels] = True

    def cut_out(self, labels: np.ndarray) -> None:
        """Make each of the labels a run of its own; addresses among them are passed over."""
        labels = labels[labels >= 0]
        self.is_cut[labels] = True
        self.is_cut[labels + 1] = True

    def cut_set(self, labels: Role) -> None:
        """Cut at the ends of a set of labels: a run is a part of it, or has none of it."""
        if isinstance(labels, LabelRun):
            self._cut_ends(labels.start, labels.size)
            return
        start = find_run_start(labels)
        if start is not None:
            self._cut_ends(start, labels.size)
            return
        labels = np.unique(labels[labels >= 0])
        if not labels.size:
            return
        ends = labels[1:] != labels[:-1] + 1
        self.is_cut[labels[np.r_[True, ends]]] = True
        self.is_cut[labels[np.r_[ends, True]] + 1] = True

    def cut_pairs(self, a: Role, b: Role) -> RolePair:
        """Cut where pairs of labels do not go on as they began.

        Args:
            a: the first label of each pair, never an address.
            b: the second, which may be an address.

        Returns:
            The pairs in the order of `a`.
        """
        if isinstance(a, LabelRun) and isinstance(b, LabelRun):
            self._pair_runs(a.start, b.start, a.size)
            return a, b
        a, b = to_dense(a), to_dense(b)
        i, j = find_run_start(a), find_run_start(b)
        # the commonest case, without a look at single pairs
        if i is not None and j is not None and a.size >= self._min_run:
            self._pair_runs(i, j, a.size)
            return a, b
        if (np.diff(a) < 0).any():
            order = np.argsort(a, kind="stable")
            a, b = a[order], b[order]
        follows = _compare_neighbours(a, b)
        ends = follows == APART
        # where one way to follow turns into another, the pair in between belongs to the first
        ends[1:] |= (follows[1:] != follows[:-1]) & (follows[:-1] != APART)
        start = np.flatnonzero(np.r_[True, ends])
        size = np.diff(np.r_[start, a.size])
        is_long = size >= self._min_run
        in_short = np.repeat(~is_long, size)
        if in_short.any():
            self.cut_out(a[in_short])
            self.cut_out(b[in_short])
        at, n = start[is_long], size[is_long]
        self._cut_long(a[at], b[at], n, follows[at] == SHIFTED)
        return a, b

    def _cut_long(self, i: np.ndarray, j: np.ndarray, n: np.ndarray, shifted: np.ndarray) -> None:
        """Cut at the ends of runs of `n` pairs, shifted or onto one, that start with `i`, `j`."""
        self.is_cut[i] = self.is_cut[i + n] = True
        self.cut_out(j[~shifted])
        self.is_cut[j[shifted]] = self.is_cut[(j + n)[shifted]] = True
        paired = shifted & (i != j)
        pairs = zip(i[paired].tolist(), j[paired].tolist(), n[paired].tolist(), strict=True)
        self._pairs += pairs

    def _cut_ends(self, start: int, size: int) -> None:
        self.is_cut[start] = self.is_cut[start + size] = True

    def _pair_runs(self, i: int, j: int, n: int) -> None:
        """Cut at the ends of two runs of `n` labels, which must be cut alike."""
        self._cut_ends(i, n)
        self._cut_ends(j, n)
        if i != j:
            self._pairs.append((i, j, n))

    def cut_weight(self, roles: Sequence[Role]) -> dict[int, np.ndarray]:
        """Cut where the labels of a weight do not lie in runs along its axes.

        Args:
            roles: the roles of the weight.

        Returns:
            For every axis along which runs may lie, the labels of one line along it. Nothing for a
            weight whose roles are runs.
        """
        found: dict[int, np.ndarray] = {}
        if all(isinstance(r, LabelRun) for r in roles):
            for r in roles:
                self.cut_set(r)
            return found
        arrays = [to_dense(r) for r in roles]
        for axis in {a for r in arrays for a in find_varying_axes(r)}:
            own = [r for r in arrays if r.shape[axis] > 1]
            line = self._cut_line(own, axis)
            if line is None:
                line = self._cut_lines([np.moveaxis(r, axis, -1) for r in own])
            if line is not None:
                found[axis] = line
        # labels that are folded along no axis are all kept
        for r in arrays:
            if found.keys().isdisjoint(find_varying_axes(r)):
                self.cut_out(r.ravel())
        return found

    def _cut_line(self, roles: Sequence[np.ndarray], axis: int) -> np.ndarray | None:
        """Cut at the ends of the one line along an axis; None where there is no one long run."""
        if len(roles) != 1 or not roles[0].size == roles[0].shape[axis] >= self._min_run:
            return None
        start = find_run_start(roles[0])
        if start is None:
            return None
        self._cut_ends(start, roles[0].size)
        return roles[0].ravel()

    def _cut_lines(self, roles: Sequence[np.ndarray]) -> np.ndarray | None:
        """Cut along the last axis of roles where any line does not go on as a run.

        Returns:
            The labels of the first line; None, and nothing is cut, where no run is long.
        """
        lines = [r.reshape(-1, r.shape[-1]) for r in roles]
        ends = np.zeros(lines[0].shape[1] - 1, bool)
        for line in lines:
            ends |= (np.diff(line, axis=1) != 1).any(0)
        starts = np.flatnonzero(np.r_[True, ends])
        size = np.diff(np.r_[starts, lines[0].shape[1]])
        is_long = size >= self._min_run
        if not is_long.any():
            return None
        in_short = np.repeat(~is_long, size)
        for line in lines:
            self.cut_out(line[:, in_short].ravel())
        for at, n in zip(starts[is_long].tolist(), size[is_long].tolist(), strict=True):
            first = int(lines[0][0, at])
            for other in itertools.chain.from_iterable(line[:, at].tolist() for line in lines):
                self._pair_runs(first, other, n)
        return lines[0][0]

    def spread(self) -> None:
        """Cut both runs of every pair alike, until no cut is new.

        The pairs are gone through in turn from the front and from the back: chains of pairs are
        then done in a few rounds.
        """
        backwards = False
        while True:
            changed = False
            pairs: Iterator[RunPair] = reversed(self._pairs) if backwards else iter(self._pairs)
            for a, b, n in pairs:
                # views: what is written into them are the cuts themselves
                x, y = self.is_cut[a : a + n], self.is_cut[b : b + n]
                one, two = np.count_nonzero(x), np.count_nonzero(y)
                # each run begins with a cut, so that there is none inside either
                if one == two == 1:
                    continue
                x |= y
                both = np.count_nonzero(x)
                if both != two:
                    y |= x
                changed |= both != one or both != two
            if not changed:
                return
            backwards = not backwards


def _compare_neighbours(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compare every pair of labels but the first with the one before: int64 [pairs - 1].

    >>> _compare_neighbours(np.array([1, 2, 3, 7, 8, 9]), np.array([4, 5, 6, 0, 0, 0])).tolist()
    [1, 1, 0, 2, 2]
    """
    step, across = np.diff(a), np.diff(b)
    follows = np.where((across == 1) & (b[:-1] >= 0), SHIFTED, APART)
    follows = np.where(across == 0, ONTO_ONE, follows)
    follows = np.where(step == 1, follows, APART)
    # one step between two runs of another kind belongs to neither
    around = np.r_[APART, follows, APART]
    follows[(follows != around[:-2]) & (follows != around[2:])] = APART
    return follows
