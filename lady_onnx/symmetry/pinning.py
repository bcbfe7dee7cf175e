"""Pinned classes: which keep their order, and which fact is the cause.

A class is pinned by a fact, by an address that it would have to be equal to, or because no output
depends on it. A pinned child pins its parents. Later stages add classes whose candidate groups turn
out not to be symmetric.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dataflow.labels.facts import POSITION, Facts
from ..dataflow.labels.roles import to_dense
from ..dataflow.labels.weights import UNREAD
from .classes import ClassedFacts
from .congruence import Relation

FREE = -1
"""The cause of a class that is not pinned."""
OTHER_REASONS = (POSITION, UNREAD, "not a symmetric group")
"""The reasons of causes that are no pins among the facts; they are numbered after these."""


def find_cause(facts: Facts, reason: str) -> int:
    """Find the number of a cause that is none of the facts' pins."""
    return len(facts.pins) + OTHER_REASONS.index(reason)


def describe_cause(facts: Facts, cause: int) -> tuple[str, str]:
    """Find the reason and the node of a cause."""
    if cause < len(facts.pins):
        _, reason, node = facts.pins[cause]
        return reason, node
    return OTHER_REASONS[cause - len(facts.pins)], ""


def pin_classes(classed: ClassedFacts) -> np.ndarray:
    """Find the cause that pins each class.

    Returns:
        int64 [classes]: `FREE`, the number of the first pin among the facts that pins the class, or
        a higher number for one of `OTHER_REASONS`.
    """
    facts, congruence = classed.facts, classed.congruence
    causes = np.full(congruence.class_count, FREE)
    position = find_cause(facts, POSITION)
    causes[congruence.class_of_address] = position
    causes[congruence.set_classes] = position
    # from the back: of several pins the first one is the cause
    for number, (pinned, _, _) in reversed(list(enumerate(facts.pins))):
        causes[congruence.class_of_label[to_dense(pinned)]] = number
    found = congruence.class_of_label[classed.occurrences.label]
    # what is pinned counts as read, so that no cause is overwritten
    causes[found[~_find_read(classed, causes)[found]]] = find_cause(facts, UNREAD)
    fixed = congruence.fixed_classes
    causes[fixed[causes[fixed] < 0]] = position
    spread_causes(causes, congruence.relations)
    return causes


def pin_lone_children(
    causes: np.ndarray, units: Sequence[np.ndarray], relations: Sequence[Relation]
) -> None:
    """Pin, in place, the classes that stand alone under parents that are all pinned.

    Nothing can change places with such a class, and it cannot move along with a parent either.

    Args:
        causes: int64 [classes], what pins each class.
        units: the units of the groups, int64 [units] each.
        relations: the relations of children and parents.
    """
    is_lone = causes < 0
    for members in units:
        is_lone[members] = False
    # what a node says comes before what follows from the place alone
    none = np.iinfo(np.int64).max
    found = np.full(causes.size, none)
    for child, parent in relations:
        is_lone[child[causes[parent] < 0]] = False
        found[child] = np.minimum(found[child], causes[parent])
    is_lone &= found < none
    causes[is_lone] = found[is_lone]


def _find_read(classed: ClassedFacts, causes: np.ndarray) -> np.ndarray:
    """Find which classes an output may depend on, bool [classes]."""
    read = causes >= 0
    for contracted in map(to_dense, classed.facts.read):
        read[classed.congruence.class_of_label[contracted[contracted >= 0]]] = True
    for _, parent in classed.congruence.relations:
        read[parent] = True
    return read


def spread_causes(causes: np.ndarray, relations: Sequence[Relation]) -> None:
    """Pin, in place, the parents of pinned classes, for their children's cause."""
    while True:
        before = (causes >= 0).sum()
        for child, parent in relations:
            fixed = (causes[child] >= 0) & (causes[parent] < 0)
            causes[parent[fixed]] = causes[child[fixed]]
        if (causes >= 0).sum() == before:
            return
