"""Candidate groups: classes of one colour under the same parents, and what lies below each unit."""

from __future__ import annotations

import itertools

import numpy as np

from .incidence import Incidence, concatenate_ranges


def list_candidates(incidence: Incidence, causes: np.ndarray) -> list[np.ndarray]:
    """List the candidate groups, outer ones before those inside their units.

    Args:
        incidence: the indexed facts.
        causes: int64 [classes], what pins each class; pinned classes are in no group.

    Returns:
        For each candidate the classes that are its units, int64 [units], by their lowest labels.
    """
    keys = incidence.colouring.keys
    class_of_point = incidence.classed.congruence.class_of_point
    is_used = np.bincount(class_of_point, minlength=incidence.class_count) > 0
    free = np.flatnonzero((causes < 0) & is_used)
    if not free.size:
        return []
    number = np.unique(keys[free], return_inverse=True)[1].ravel()
    order = np.lexsort((incidence.first_labels[free], number))
    cuts = np.flatnonzero(np.r_[True, np.diff(number[order]) != 0, True])
    candidates = [free[order[a:b]] for a, b in itertools.pairwise(cuts.tolist()) if b - a > 1]
    depths = count_depths(incidence)
    return sorted(candidates, key=lambda units: depths[units[0]])


def count_depths(incidence: Incidence) -> np.ndarray:
    """Count how many classes lie above each class, one above the other: int64 [classes]."""
    edges = incidence.below
    depths = np.zeros(incidence.class_count, np.int64)
    for _ in range(incidence.class_count):
        before = depths.copy()
        np.maximum.at(depths, edges.children, depths[edges.parents] + 1)
        if (depths == before).all():
            break
    return depths


class UnitTabulator:
    """Tabulates, for one candidate after the other, the classes below each of its units.

    A class may lie below two units, by different relations: what connects two of the groups around
    a channel shuffle, or a product of two units. There is one *layer* for each way to lie below. A
    permutation of the units moves the classes of each layer, one layer after the other.
    """

    def __init__(self, incidence: Incidence):
        """Take the indexed facts."""
        self._incidence = incidence
        # by layer, for every class the unit that it lies below, -1 for none: empty between calls
        self._owners: list[np.ndarray] = []
        self._members: list[list[np.ndarray]] = []
        self._work: list[tuple[np.ndarray, np.ndarray]] = []

    def tabulate(self, units: np.ndarray) -> list[np.ndarray] | None:
        """Tabulate the classes of every unit: itself, and those below it.

        Args:
            units: int64 [units], the classes that are the units.

        Returns:
            For each layer int64 [units, classes]; None where units do not have equally many.
        """
        starts = self._incidence.below.starts
        if (starts.take(units) == starts.take(units + 1)).all():
            return [units[:, None]]
        try:
            self._add(units, np.arange(units.size))
            while self._work:
                self._descend(*self._work.pop())
            return self._arrange(units.size)
        finally:
            # only what was written is cleared: there are many candidates, and far more classes
            for owner, found in zip(self._owners, self._members, strict=False):
                for classes in found:
                    owner[classes] = -1
            self._members, self._work = [], []

    def _add(self, classes: np.ndarray, unit: np.ndarray) -> None:
        """Add classes below units to the first layer in which they lie below no other unit."""
        for k in itertools.count():
            if k == len(self._members):
                self._members.append([])
                if k == len(self._owners):
                    self._owners.append(np.full(self._incidence.class_count, -1))
            owner = self._owners[k]
            seen = owner.take(classes)
            if ((seen < 0) | (seen == unit)).all():
                # those that the layer has already were followed down when they were added
                new, at = np.unique(classes[seen < 0], return_index=True)
                owner[new] = unit[seen < 0][at]
                self._members[k].append(new)
                self._work.append((new, owner[new]))
                return

    def _descend(self, front: np.ndarray, owner: np.ndarray) -> None:
        """Add the children of classes, which lie below the units `owner`, by each relation."""
        below = self._incidence.below
        start, stop = below.starts.take(front), below.starts.take(front + 1)
        places = concatenate_ranges(start, stop)
        child, relation = below.children.take(places), below.relations.take(places)
        unit = np.repeat(owner, stop - start)
        for number in np.unique(relation):
            self._add(child[relation == number], unit[relation == number])

    def _arrange(self, unit_count: int) -> list[np.ndarray] | None:
        """Arrange the layers as tables; None where they are not the same in every unit."""
        tables = []
        for k, found in enumerate(self._members):
            classes = np.concatenate(found)
            owner = self._owners[k][classes]
            # a class that lies below two units stands in two layers: the units of the other layers
            # come before the labels, so that all rows are in one order
            others = [self._owners[j][classes] for j in range(len(self._members)) if j != k]
            order = np.lexsort((self._incidence.first_labels[classes], *others, owner))
            if (np.bincount(owner, minlength=unit_count) * unit_count != classes.size).any():
                return None
            tables.append(classes[order].reshape(unit_count, -1))
            rows = (o[order].reshape(unit_count, -1) for o in others)
            if any((r != r[0]).any() for r in rows):
                return None
        return tables
