"""Labels merged into classes, and the order of their parents completed."""

from __future__ import annotations

import itertools

import numpy as np

from ..dataflow.labels.facts import Facts
from ..dataflow.labels.roles import find_components, sort_distinct, to_dense


class CongruenceClosure:
    """Labels merged into classes, with their parents; nodes are the addresses first, then the labels.

    Addresses differ for good, and what they mean differs from one tensor to the next: they are parents, but
    are never merged. A class that would have to be one with an address is pinned.

    Attributes:
        shift: the number of address nodes.
        of: the class of every node.
        maps: for each relation the classes of the children and of their parents, one parent a child.
        pinned: nodes that an address pins.
    """

    def __init__(self, facts: Facts):
        lowest = min((int(p.min(initial=0)) for _, p in facts.parents), default=0)
        self.shift = -lowest
        self.maps: list[tuple[np.ndarray, np.ndarray]] = []
        self.pinned: set[int] = set()
        self._relations = {
            i: (self._node(c), self._node(p)) for i, (c, p) in enumerate(facts.parents)
        }
        self._numbers = itertools.count(len(self._relations))
        self._nodes = self.shift + facts.label_count
        self._equal = [(self._node(to_dense(a)), self._node(to_dense(b))) for a, b in facts.equal]
        self._closed: set[tuple[int, int]] = set()
        while self._merge() or self._close():
            pass

    def _node(self, labels: np.ndarray) -> np.ndarray:
        return np.where(labels < 0, -1 - labels, labels + self.shift)

    def _merge(self) -> bool:
        """Merges what is equal; True if two parents of one child turn out to be equal too."""
        a, b = (
            np.concatenate([p[i] for p in self._equal] or [np.empty(0, np.int64)]) for i in (0, 1)
        )
        self._equal = [(a, b)]
        self.of = find_components(a, b, self._nodes)
        self._first = np.unique(self.of, return_index=True)[1]
        self._address = self._first < self.shift
        self.maps = []
        known = set()
        for number, (child, parent) in list(self._relations.items()):
            # in the order of the children, then of the parents
            c, p = np.divmod(
                sort_distinct(self.of[child] * self._first.size + self.of[parent]), self._first.size
            )
            again = c[1:] == c[:-1]
            if again.any():
                kept = self._one(p[1:][again], p[:-1][again])
                self.pinned.update(self._first[c[1:][again][~kept]].tolist())
            first = np.r_[True, ~again][: c.size]
            c, p = c[first], p[first]
            if (text := c.tobytes() + p.tobytes()) in known:
                del self._relations[number]
                continue
            known.add(text)
            self.maps.append((c, p))
        return len(self._equal) > 1

    def _one(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The classes `a` and `b` are to be merged, or pinned where one is an address; which are merged."""
        free = ~(self._address[a] | self._address[b])
        self.pinned.update(self._first[a[~free]].tolist(), self._first[b[~free]].tolist())
        if (a != b)[free].any():
            self._equal.append((self._first[a[free]], self._first[b[free]]))
        return free

    def _close(self) -> bool:
        """What the parents of the same children must be to each other, by two relations; True if that is new.

        Parents that divide their children alike are one; one whose children are all below another is its child;
        where they cross, both get a common parent.
        """
        known = len(self._relations)
        numbers = list(self._relations)
        crossing = []
        for i, j in self._overlapping():
            (a, up), (b, across) = self.maps[i], self.maps[j]
            _, at, there = np.intersect1d(a, b, assume_unique=True, return_indices=True)
            p, q = up[at], across[there]
            if self._address[p].all() or self._address[q].all() or np.array_equal(p, q):
                continue
            all_of = np.bincount(p, minlength=self._first.size) == np.bincount(
                up, minlength=self._first.size
            )
            all_across = np.bincount(q, minlength=self._first.size) == np.bincount(
                across, minlength=self._first.size
            )
            p, q = np.divmod(sort_distinct(p * self._first.size + q), self._first.size)
            whole, whole_too = all_of[p], all_across[q]
            inside = whole & (np.bincount(p)[p] == 1)
            outside = whole_too & (np.bincount(q)[q] == 1)
            self._one(p[inside & outside], q[inside & outside])
            if (pair := (numbers[i], numbers[j])) not in self._closed:
                crossing.append((pair, p, q, inside, outside, whole & whole_too))
        if len(self._equal) > 1:
            # fewer are left to cross once these are merged
            return True
        for pair, p, q, inside, outside, whole in crossing:
            self._closed.add(pair)
            for here, lower, upper in ((inside & ~outside, p, q), (outside & ~inside, q, p)):
                if here.any():
                    self._relations[next(self._numbers)] = (
                        self._first[lower[here]],
                        self._first[upper[here]],
                    )
            self._meet(p, q, whole)
        return len(self._relations) > known

    def _overlapping(self) -> list[tuple[int, int]]:
        """The pairs of relations that share children."""
        if not self.maps:
            return []
        child = np.concatenate([c for c, _ in self.maps])
        number = np.repeat(np.arange(len(self.maps)), [c.size for c, _ in self.maps])
        order = np.argsort(child, kind="stable")
        child, number = child[order], number[order]
        many = len(self.maps)
        found = [np.empty(0, np.int64)]
        for step in range(1, int(np.bincount(child).max(initial=0))):
            same = child[step:] == child[:-step]
            found.append(sort_distinct(number[:-step][same] * many + number[step:][same]))
        return [divmod(pair, many) for pair in sort_distinct(np.concatenate(found)).tolist()]

    def _meet(self, p: np.ndarray, q: np.ndarray, whole: np.ndarray) -> None:
        """A common parent for those of the pairs `p` and `q` that cross, if there are several such."""
        where = np.unique(p, return_inverse=True)[1], np.unique(q, return_inverse=True)[1]
        size = int(where[0].max()) + 1
        meet = find_components(where[0], where[1] + size, size + int(where[1].max()) + 1)[where[0]]
        count = int(meet.max()) + 1
        sides = [
            np.bincount(meet[np.unique(w, return_index=True)[1]], minlength=count) for w in where
        ]
        crossing = (
            (np.bincount(meet, ~whole, minlength=count) == 0) & (sides[0] > 1) & (sides[1] > 1)
        )
        here = crossing[meet]
        if count > 1 and here.any():
            top = meet[here] + self._nodes
            self._nodes += count
            for side in (p, q):
                self._relations[next(self._numbers)] = self._first[side[here]], top
