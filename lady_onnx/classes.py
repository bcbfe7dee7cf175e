"""Labels merged into classes, and the order of their parents completed."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np

from .labels import Facts, components, partition, refines


class Classes:
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
        self._relations = [(self._node(c), self._node(p)) for c, p in facts.parents]
        self._nodes = self.shift + facts.count
        self._equal = [(self._node(a), self._node(b)) for a, b in facts.equal]
        self._closed: set[tuple[int, int]] = set()
        while self._merge() or self._close():
            pass

    def _node(self, labels: np.ndarray) -> np.ndarray:
        return np.where(labels < 0, -1 - labels, labels + self.shift)

    def _merge(self) -> bool:
        """Merges what is equal; True if two parents of one child turn out to be equal too."""
        a, b = (np.concatenate([p[i] for p in self._equal] or [np.empty(0, np.int64)]) for i in (0, 1))
        self._equal = [(a, b)]
        self.of = components(a, b, self._nodes)
        self._first = np.unique(self.of, return_index=True)[1]
        self._address = self._first < self.shift
        self.maps = []
        for child, parent in self._relations:
            c, p = np.unique(np.stack([self.of[child], self.of[parent]]), axis=1)
            again = c[1:] == c[:-1]
            if again.any():
                kept = self._one(p[1:][again], p[:-1][again])
                self.pinned.update(self._first[c[1:][again][~kept]].tolist())
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
        """Parents that divide the same children alike are one; a coarser one is the parent of a finer one; two
        that cross have a common parent. True if that says anything new."""
        domains: dict[bytes, list[int]] = defaultdict(list)
        for i, (child, _) in enumerate(self.maps):
            domains[child.tobytes()].append(i)
        known = len(self._relations)
        for members in domains.values():
            for i, j in itertools.combinations(members, 2):
                p, q = self.maps[i][1], self.maps[j][1]
                if (i, j) in self._closed or self._address[p].all() or self._address[q].all() or np.array_equal(p, q):
                    continue
                self._closed.add((i, j))
                a, b = partition(p), partition(q)
                down, up = refines(a, b), refines(b, a)
                if down and up:
                    self._one(p, q)
                elif down or up:
                    self._relations.append((self._first[p], self._first[q]) if down else (self._first[q], self._first[p]))
                else:
                    size = int(a.max()) + 1
                    meet = components(a, b + size, size + int(b.max()) + 1)[a]
                    count = int(meet.max()) + 1
                    if count > 1:
                        top = np.unique(meet, return_inverse=True)[1] + self._nodes
                        self._nodes += count
                        self._relations += [(self._first[p], top), (self._first[q], top)]
        return len(self._equal) > 1 or len(self._relations) > known
