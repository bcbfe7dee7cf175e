"""The incidence of a graph: facts, labels, roles and classes, each indexed by the others.

Candidates are many and small. The tables here are made once, so that each candidate looks up what
concerns it and costs nothing more.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..dataflow.labels.roles import sort_distinct, to_dense
from ..numerics import mix_bits
from .classes import ClassedFacts
from .colouring import Colouring

HASH_ROUNDS = 3
"""How many statements away a hash of a label looks.

Labels that look alike from there may cost a group, and never make a wrong one.
"""
ADDRESS_SALT = 1 << 32
"""Keeps the hashes of labels and addresses apart from those of the numbers of statements."""


def concatenate_ranges(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """List the integers of all ranges from `start` to `stop`, one range after the other.

    >>> concatenate_ranges(np.array([3, 8]), np.array([5, 9]))
    array([3, 4, 8])
    """
    size = stop - start
    return np.repeat(start - np.cumsum(size) + size, size) + np.arange(size.sum())


@dataclass(frozen=True)
class FactTable:
    """All equalities and relations of labels, one entry for every pair of labels.

    Attributes:
        first: int64 [entries], the label, or child.
        second: int64 [entries], the label that is equal to it, or the parent, which may be an
            address.
        statement: int64 [entries], the number of the statement.
        equal_count: how many statements are equalities; these come first.
        statement_count: how many statements there are.
        order: int64 [2 entries], sorts both columns, one after the other, by label.
        sorted_labels: int64 [2 entries], the labels in that order.
    """

    first: np.ndarray
    second: np.ndarray
    statement: np.ndarray
    equal_count: int
    statement_count: int
    order: np.ndarray
    sorted_labels: np.ndarray

    def find_entries(self, labels: np.ndarray) -> np.ndarray:
        """Find the entries that any of the labels, sorted and distinct, stands in, ascending."""
        if not self.first.size:
            return np.empty(0, np.int64)
        lo, hi = (np.searchsorted(self.sorted_labels, labels, side=s) for s in ("left", "right"))
        # both columns lie one after the other, so that the remainder is the entry
        return sort_distinct(self.order.take(concatenate_ranges(lo, hi)) % self.first.size)


@dataclass(frozen=True)
class Edges:
    """Pairs of parent and child classes, sorted by one of the two.

    Attributes:
        parents: int64 [pairs].
        children: int64 [pairs].
        relations: int64 [pairs], the numbers of the relations.
        starts: int64 [classes + 1], where the pairs of each class begin.
    """

    parents: np.ndarray
    children: np.ndarray
    relations: np.ndarray
    starts: np.ndarray

    def find(self, classes: np.ndarray) -> np.ndarray:
        """Find the places of the pairs of some classes, class after class."""
        return concatenate_ranges(self.starts.take(classes), self.starts.take(classes + 1))

    def find_one(self, number: int) -> slice:
        """Find the places of the pairs of one class."""
        return slice(self.starts[number], self.starts[number + 1])


@dataclass(frozen=True)
class Incidence:
    """Everything about one graph, indexed.

    Attributes:
        classed: the classes of the labels.
        colouring: the colours of classes and labels.
        statements: the facts.
        label_hashes: uint64 [labels], a hash of what is said of each label.
        labels: int64 [labels], sorted by class; labels of one class by what is said of them, so
            that labels which correspond stand at the same place in every class.
        label_starts: int64 [classes + 1], where the labels of each class begin.
        first_labels: int64 [classes], the lowest label of each class.
        role_classes: int64 [pairs], ascending: the classes of the pairs of class and role.
        role_numbers: int64 [pairs], the roles of these pairs.
        below: pairs of parent and child, by parent.
        above: the same pairs, by child.
    """

    classed: ClassedFacts
    colouring: Colouring
    statements: FactTable
    label_hashes: np.ndarray
    labels: np.ndarray
    label_starts: np.ndarray
    first_labels: np.ndarray
    role_classes: np.ndarray
    role_numbers: np.ndarray
    below: Edges
    above: Edges

    @functools.cached_property
    def class_count(self) -> int:
        """The number of classes."""
        return self.classed.congruence.class_count

    @functools.cached_property
    def label_count(self) -> int:
        """The number of labels."""
        return self.classed.facts.label_count

    def gather_labels(self, classes: np.ndarray) -> np.ndarray:
        """Gather the labels of some classes, class after class."""
        return self.labels.take(
            concatenate_ranges(self.label_starts.take(classes), self.label_starts.take(classes + 1))
        )

    def find_roles(self, classes: np.ndarray) -> list[int]:
        """Find the numbers of the roles in which any of some classes occurs, ascending."""
        lo, hi = (np.searchsorted(self.role_classes, classes, side=s) for s in ("left", "right"))
        return np.unique(self.role_numbers[concatenate_ranges(lo, hi)]).tolist()


def index_incidence(classed: ClassedFacts, colouring: Colouring) -> Incidence:
    """Index the facts of a graph."""
    congruence, occurrences = classed.congruence, classed.occurrences
    class_of, count = congruence.class_of_label, congruence.class_count
    table = _tabulate_facts(classed)
    labels = _sort_labels(table, classed, colouring)
    starts = np.searchsorted(class_of[labels], np.arange(count + 1))
    role_count = max(len(occurrences.roles), 1)
    found = sort_distinct(class_of[occurrences.label] * role_count + occurrences.role)
    below, above = _sort_edges(classed)
    return Incidence(
        classed=classed,
        colouring=colouring,
        statements=table,
        label_hashes=_hash_labels_exactly(table, colouring.kinds),
        labels=labels,
        label_starts=starts,
        first_labels=_find_first_labels(labels, starts),
        role_classes=found // role_count,
        role_numbers=found % role_count,
        below=below,
        above=above,
    )


def _tabulate_facts(classed: ClassedFacts) -> FactTable:
    facts = classed.facts
    pairs = [*((to_dense(a), to_dense(b)) for a, b in facts.equal), *facts.parents]
    first = np.concatenate([a for a, _ in pairs]) if pairs else np.empty(0, np.int64)
    second = np.concatenate([b for _, b in pairs]) if pairs else np.empty(0, np.int64)
    statement = np.repeat(np.arange(len(pairs)), [a.size for a, _ in pairs])
    both = np.concatenate([first, second])
    order = np.argsort(both, kind="stable")
    return FactTable(first, second, statement, len(facts.equal), len(pairs), order, both[order])


def _hash_labels(
    table: FactTable, kinds: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Hash what is said of every label: by which statement, on which side, and of what.

    The hashes of the columns are taken for addresses, children and parents. Of an equal label its
    own hash is taken.

    Args:
        table: the facts.
        kinds: uint64 [labels], what each label starts with.
        first: uint64 [entries], a hash of the first column.
        second: uint64 [entries], a hash of the second column.

    Returns:
        uint64 [labels].
    """
    hashed = mix_bits(kinds)
    is_equality = table.statement < table.equal_count
    tied = is_equality & (table.first >= 0) & (table.second >= 0)
    for _ in range(HASH_ROUNDS):
        new = mix_bits(hashed)
        for one, other, what, side in (
            (table.first, table.second, second, 0),
            (table.second, table.first, first, 1),
        ):
            # an address is negative; `tied` takes nothing of it
            label = np.maximum(other, 0)
            said = mix_bits(
                mix_bits(table.statement * 2 + side) ^ np.where(tied, hashed[label], what)
            )
            # a sum: in which order a label stands in statements is no matter
            np.add.at(new, one[one >= 0], said[one >= 0])
        hashed = new
    return hashed


def _hash_labels_exactly(table: FactTable, kinds: np.ndarray) -> np.ndarray:
    """Hash labels by which parents and children they have, and not by what these look like."""
    hashes = (mix_bits(x + ADDRESS_SALT) for x in (table.first, table.second))
    return _hash_labels(table, kinds, *hashes)


def _sort_labels(table: FactTable, classed: ClassedFacts, colouring: Colouring) -> np.ndarray:
    """Sort labels by class; those of one class by birth, by kind, and by what is said of them."""
    congruence = classed.congruence
    class_of = congruence.class_of_label
    order = np.argsort(class_of, kind="stable")
    # of classes of one label nothing is to be told apart
    several = (np.bincount(class_of, minlength=congruence.class_count) > 1)[class_of]
    crowded = np.flatnonzero(several)
    if crowded.size:
        hashes = (
            mix_bits(colouring.colours[congruence.class_of_point[congruence.number_points(x)]])
            for x in (table.first, table.second)
        )
        hashed = _hash_labels(table, colouring.kinds, *hashes)
        keys = (hashed, colouring.kinds, colouring.births, class_of)
        order[several[order]] = crowded[np.lexsort([x[crowded] for x in keys])]
    return order


def _find_first_labels(labels: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Find the lowest label of every class; the number of labels for a class that has none."""
    some = starts[:-1] < starts[1:]
    # `reduceat` gives an element for an empty range as well, and the last one may begin at the end
    return np.where(some, np.minimum.reduceat(np.r_[labels, labels.size], starts[:-1]), labels.size)


def _sort_edges(classed: ClassedFacts) -> tuple[Edges, Edges]:
    """Sort the pairs of parent and child, by parent and by child."""
    pairs = [
        np.stack([p, c, np.full(c.size, number)])
        for number, (c, p) in enumerate(classed.congruence.relations)
    ]
    table = np.concatenate([*pairs, np.empty((3, 0), np.int64)], axis=1)
    classes = np.arange(classed.congruence.class_count + 1)
    # `take` copies an array that is not contiguous, at each call
    below, above = (
        np.ascontiguousarray(table[:, np.argsort(column, kind="stable")]) for column in table[:2]
    )
    return (
        Edges(below[0], below[1], below[2], np.searchsorted(below[0], classes)),
        Edges(above[0], above[1], above[2], np.searchsorted(above[1], classes)),
    )
