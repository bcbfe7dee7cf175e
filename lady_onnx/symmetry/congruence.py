"""Congruence closure: equal labels merged into classes, and their parents made consistent.

If two labels are equal, so are their parents by the same relation. Parents by different relations
are compared as well: they divide the same children, and what that says of them is added. The result
is the coarsest picture of which elements must move together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..dataflow.labels.facts import Facts
from ..dataflow.labels.roles import find_components, sort_distinct, to_dense

Relation = tuple[np.ndarray, np.ndarray]
"""Children and their parents, one parent a child."""


@dataclass(frozen=True)
class Congruence:
    """Labels merged into classes, with their parents.

    *Points* are the addresses first, then the labels, then parents that the closure adds. Addresses
    differ for good, and what they mean differs from one tensor to the next. They are parents, but
    are never merged: a class that would have to be one with an address is pinned. Labels of one
    class may stand at several addresses, such as the two of a rotated pair. The set of these
    addresses counts as an address.

    Attributes:
        class_count: the number of classes.
        class_of_address: int64 [addresses], the class of every address.
        class_of_label: int64 [labels], the class of every label.
        class_of_point: int64 [points], the class of every point.
        relations: for each relation the classes of the children, ascending, and of their parents.
        fixed_classes: classes that an address pins.
        set_classes: int64 [sets], the classes of sets of addresses.
    """

    class_count: int
    class_of_address: np.ndarray
    class_of_label: np.ndarray
    class_of_point: np.ndarray
    relations: list[Relation]
    fixed_classes: np.ndarray
    set_classes: np.ndarray

    def number_points(self, labels: np.ndarray) -> np.ndarray:
        """Return the points of labels and addresses."""
        return number_points(labels, self.class_of_address.size)


def number_points(labels: np.ndarray, address_count: int) -> np.ndarray:
    """Return the points of labels and addresses: first all addresses, then the labels.

    >>> number_points(np.array([-1, -2, 0, 1]), 2)
    array([0, 1, 2, 3])
    """
    return np.where(labels < 0, -1 - labels, labels + address_count)


def close_congruence(facts: Facts) -> Congruence:
    """Find the classes of equal labels of a graph, with all that follows for their parents.

    Args:
        facts: the facts; their addresses and labels are the points.
    """
    # an address is below zero, and stands in relations alone: equalities leave it out
    lowest = min((int(p.min(initial=0)) for _, p in facts.parents), default=0)
    closure = _Closure(facts, -lowest)
    # parents are compared only once nothing is left to merge: merging is cheap, and leaves fewer
    while closure.merge_points() or closure.compare_parents():
        pass
    of = closure.class_of
    pinned = np.array(sorted(closure.pinned), np.int64)
    sets = np.array(list(closure.address_sets.values()), np.int64)
    return Congruence(
        class_count=int(of.max(initial=-1)) + 1,
        class_of_address=of[:-lowest],
        class_of_label=of[-lowest : facts.label_count - lowest],
        class_of_point=of,
        relations=[(c, p) for c, p in closure.maps if c.size],
        fixed_classes=of[pinned],
        set_classes=of[sets],
    )


@dataclass(frozen=True)
class _Crossing:
    """Two relations that share children.

    Attributes:
        numbers: the numbers of the relations.
        p, q: the distinct pairs of parents that a shared child has by one and by the other.
        inside: whether all children of the first parent lie below the second.
        outside: whether all children of the second parent lie below the first.
        whole: whether both parents have shared children alone.
    """

    numbers: tuple[int, int]
    p: np.ndarray
    q: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    whole: np.ndarray


def _number_parents(
    parents: np.ndarray, known: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the parents of shared children.

    Args:
        parents: int64 [children], the parent of each shared child.
        known: int64 [parents], all parents of the relation, ascending.
        sizes: int64 [parents], how many children each of them has.

    Returns:
        int64 [found], the distinct parents; int64 [children], the place of each child's parent
        among them; and bool [found], whether all children of a parent are shared. Where it has
        others, what holds for the shared ones says nothing of it.
    """
    found, place = np.unique(parents, return_inverse=True)
    return found, place, np.bincount(place) == sizes[np.searchsorted(known, found)]


class _Closure:
    """The state of a closure: merges and comparisons alternate until neither says anything new."""

    def __init__(self, facts: Facts, address_count: int):
        def number(labels: np.ndarray) -> np.ndarray:
            return number_points(labels, address_count)

        self.class_of = np.empty(0, np.int64)
        self.maps: list[Relation] = []
        self.pinned: set[int] = set()
        # by the addresses of a set the point that stands for it
        self.address_sets: dict[bytes, int] = {}
        # by class its lowest point, and whether that is an address. Classes are numbered anew by
        # each merge, so that all that has to last is kept by points
        self._first = np.empty(0, np.int64)
        self._is_address = np.empty(0, bool)
        self._address_count = address_count
        self._relations = {i: (number(c), number(p)) for i, (c, p) in enumerate(facts.parents)}
        self._numbers = itertools.count(len(self._relations))
        self._point_count = address_count + facts.label_count
        self._equal = [(number(to_dense(a)), number(to_dense(b))) for a, b in facts.equal]
        self._closed: set[tuple[int, int]] = set()

    def merge_points(self) -> bool:
        """Merge what is equal; True if two parents of one child turn out to be equal too."""
        a, b = (
            np.concatenate([p[i] for p in self._equal] or [np.empty(0, np.int64)]) for i in (0, 1)
        )
        self._equal = [(a, b)]
        self.class_of = find_components(a, b, self._point_count)
        self._first = np.unique(self.class_of, return_index=True)[1]
        self._is_address = self._first < self._address_count
        self._is_address[self.class_of[list(self.address_sets.values())]] = True
        self.maps = []
        known = set()
        for number, (child, parent) in list(self._relations.items()):
            c, p = self._merge_relation(child, parent)
            # two operators that say the same of the same classes
            if (text := c.tobytes() + p.tobytes()) in known:
                del self._relations[number]
                continue
            known.add(text)
            self.maps.append((c, p))
        return len(self._equal) > 1

    def _merge_relation(self, child: np.ndarray, parent: np.ndarray) -> Relation:
        """Make a relation between classes, with one parent a child; other parents are merged."""
        count = self._first.size
        # in the order of the children, then of the parents
        c, p = np.divmod(sort_distinct(self.class_of[child] * count + self.class_of[parent]), count)
        if (c[1:] == c[:-1]).any():
            c, p = self._gather_addresses(c, p)
        again = c[1:] == c[:-1]
        if again.any():
            kept = self._merge_classes(p[1:][again], p[:-1][again])
            self.pinned.update(self._first[c[1:][again][~kept]].tolist())
        # cut for an empty relation, which has no first entry
        first = np.r_[True, ~again][: c.size]
        return c[first], p[first]

    def _gather_addresses(self, c: np.ndarray, p: np.ndarray) -> Relation:
        """Give children that stand at several addresses, and nowhere else, the set of these.

        Whether such children are interchangeable is proven label by label (`acceptance`): the set
        says which may be.

        Args:
            c: int64 [pairs], the children, ascending.
            p: int64 [pairs], their parents, ascending for each child.
        """
        start = np.flatnonzero(np.r_[True, c[1:] != c[:-1]])
        stop = np.r_[start[1:], c.size]
        placed = np.logical_and.reduceat(self._is_address[p], start) & (stop - start > 1)
        if not placed.any():
            return c, p
        p, keep = p.copy(), np.ones(c.size, bool)
        for first, last in zip(start[placed].tolist(), stop[placed].tolist(), strict=True):
            p[first] = self._find_set(self._first[p[first:last]])
            keep[first + 1 : last] = False
        return c[keep], p[keep]

    def _find_set(self, addresses: np.ndarray) -> int:
        """Find the class that stands for a set of addresses; the first time, make it."""
        key = np.sort(addresses).tobytes()
        if key not in self.address_sets:
            self.address_sets[key] = self._point_count
            self._point_count += 1
            self.class_of = np.append(self.class_of, self._first.size)
            self._first = np.append(self._first, self.address_sets[key])
            self._is_address = np.append(self._is_address, True)
        return int(self.class_of[self.address_sets[key]])

    def _merge_classes(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Merge the classes `a` and `b`, or pin them where one is an address.

        Returns:
            bool [pairs], which pairs are merged.
        """
        free = ~(self._is_address[a] | self._is_address[b])
        self.pinned.update(self._first[a[~free]].tolist(), self._first[b[~free]].tolist())
        if (a != b)[free].any():
            self._equal.append((self._first[a[free]], self._first[b[free]]))
        return free

    def compare_parents(self) -> bool:
        """State what the parents of the same children must be to each other; True if that is new.

        Parents that divide their children alike are one. A parent whose children are all below
        another is its child. Where they cross, both get a common parent.
        """
        known = len(self._relations)
        crossings = list(self._list_crossings())
        if len(self._equal) > 1:
            # fewer are left to cross once these are merged
            return True
        for crossing in crossings:
            self._closed.add(crossing.numbers)
            p, q = crossing.p, crossing.q
            self._relate(crossing.inside & ~crossing.outside, p, q)
            self._relate(crossing.outside & ~crossing.inside, q, p)
            self._add_common_parents(p, q, crossing.whole)
        return len(self._relations) > known

    def _list_crossings(self) -> Iterator[_Crossing]:
        """Merge parents that divide their children alike, and yield what is left, if it is new."""
        numbers = list(self._relations)
        # the number of children of each parent, by relation: asked for once, and not for each pair
        sizes = [np.unique(up, return_counts=True) for _, up in self.maps]
        for i, j in self._pair_overlapping():
            (a, up), (b, across) = self.maps[i], self.maps[j]
            _, at, there = np.intersect1d(a, b, assume_unique=True, return_indices=True)
            p, q = up[at], across[there]
            # addresses are never merged, and one parent has nothing to be compared with
            if self._is_address[p].all() or self._is_address[q].all() or np.array_equal(p, q):
                continue
            # from here on by the numbers that the parents have among those met here
            p, place_p, whole_p = _number_parents(p, *sizes[i])
            q, place_q, whole_q = _number_parents(q, *sizes[j])
            one, two = np.divmod(sort_distinct(place_p * q.size + place_q), q.size)
            # all its children are shared, and have one and the same parent by the other relation
            inside = whole_p[one] & (np.bincount(one)[one] == 1)
            outside = whole_q[two] & (np.bincount(two)[two] == 1)
            self._merge_classes(p[one[inside & outside]], q[two[inside & outside]])
            if (pair := (numbers[i], numbers[j])) not in self._closed:
                whole = whole_p[one] & whole_q[two]
                yield _Crossing(pair, p[one], q[two], inside, outside, whole)

    def _pair_overlapping(self) -> list[tuple[int, int]]:
        """List the pairs of relations that share children, by their places in `maps`."""
        if not self.maps:
            return []
        child = np.concatenate([c for c, _ in self.maps])
        number = np.repeat(np.arange(len(self.maps)), [c.size for c, _ in self.maps])
        order = np.argsort(child, kind="stable")
        child, number = child[order], number[order]
        count = len(self.maps)
        found = [np.empty(0, np.int64)]
        # sorted by child, the relations of one child stand side by side: those that share it are
        # at most as many places apart as any child has relations
        for step in range(1, int(np.bincount(child).max(initial=0))):
            same = child[step:] == child[:-step]
            found.append(sort_distinct(number[:-step][same] * count + number[step:][same]))
        return [divmod(pair, count) for pair in sort_distinct(np.concatenate(found)).tolist()]

    def _relate(self, here: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Make the classes `upper` parents of `lower`, by a new relation, where `here` says so."""
        if here.any():
            relation = self._first[lower[here]], self._first[upper[here]]
            self._relations[next(self._numbers)] = relation

    def _add_common_parents(self, p: np.ndarray, q: np.ndarray, whole: np.ndarray) -> None:
        """Give those of the pairs `p` and `q` that cross common parents, if there are several.

        Pairs that hang together cross, and get one parent. One parent over everything would say
        nothing, and neither would one over a single class.
        """
        where = np.unique(p, return_inverse=True)[1], np.unique(q, return_inverse=True)[1]
        size = int(where[0].max()) + 1
        meet = find_components(where[0], where[1] + size, size + int(where[1].max()) + 1)[where[0]]
        count = int(meet.max()) + 1
        sides = [
            np.bincount(meet[np.unique(w, return_index=True)[1]], minlength=count) for w in where
        ]
        # a class that has children elsewhere may hang together with others through these
        is_whole = np.bincount(meet, ~whole, minlength=count) == 0
        here = (is_whole & (sides[0] > 1) & (sides[1] > 1))[meet]
        if count > 1 and here.any():
            top = meet[here] + self._point_count
            self._point_count += count
            for side in (p, q):
                self._relations[next(self._numbers)] = self._first[side[here]], top
