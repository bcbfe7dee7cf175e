"""The classes of a folded graph: their labels in the weights, and how many each stands for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..dataflow.labels.facts import Facts
from ..dataflow.labels.roles import to_dense
from .congruence import Congruence, close_congruence
from .run_folding import Fold


@dataclass(frozen=True)
class Occurrences:
    """Where labels occur in the weights. One entry stands for one label in one role.

    Attributes:
        roles: the roles of all weights, each with the weight's name.
        label: int64 [entries], the label.
        role: int64 [entries], the number of the role.
        times: uint64 [entries], how often the label occurs in the role.
    """

    roles: list[tuple[str, np.ndarray]]
    label: np.ndarray
    role: np.ndarray
    times: np.ndarray


@dataclass(frozen=True)
class Multiplicities:
    """How many real classes and labels those of a folded graph stand for.

    A run that was folded is two classes: the first stands for itself, the second for all others.

    Attributes:
        is_paired: bool [classes], whether the class is one of such a pair.
        spans: int64 [classes], the length of the run, 1 for a class of no pair.
        of_class: uint64 [classes], how many classes each stands for.
        of_label: uint64 [labels], how many labels of its class each stands for.
    """

    is_paired: np.ndarray
    spans: np.ndarray
    of_class: np.ndarray
    of_label: np.ndarray


@dataclass(frozen=True)
class ClassedFacts:
    """The folded facts of a graph with the classes of its labels.

    Attributes:
        fold: the folded graph.
        congruence: the classes.
        occurrences: where the labels occur in the weights.
        multiplicities: how many classes and labels each stands for.
    """

    fold: Fold
    congruence: Congruence
    occurrences: Occurrences
    multiplicities: Multiplicities

    @property
    def facts(self) -> Facts:
        """The facts on the labels that the fold keeps."""
        return self.fold.analysis.facts


def merge_labels(fold: Fold) -> ClassedFacts:
    """Merge the labels of a folded graph into classes."""
    congruence = close_congruence(fold.analysis.facts)
    return ClassedFacts(fold, congruence, _list_occurrences(fold), _multiply(fold, congruence))


def _list_occurrences(fold: Fold) -> Occurrences:
    weights = fold.analysis.weights
    roles = [(w, to_dense(r)) for w, each in weights.items() for r in each]
    members = [_count_distinct(r) for _, r in roles]
    none = np.empty(0, np.int64)
    return Occurrences(
        roles,
        label=np.concatenate([label for label, _ in members] or [none]),
        role=np.repeat(np.arange(len(members)), [label.size for label, _ in members]),
        times=np.concatenate([times for _, times in members] or [none]).astype(np.uint64),
    )


def _count_distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the distinct values, sorted, and how often each occurs.

    It is fast where the values are sorted and distinct already.
    """
    flat = values.ravel()
    if (flat[1:] > flat[:-1]).all():
        return flat, np.ones(flat.size, np.int64)
    return np.unique(flat, return_counts=True)


def _multiply(fold: Fold, congruence: Congruence) -> Multiplicities:
    """Carry the lengths of folded runs from labels to classes, and up to their parents."""
    length, is_second = fold.length, fold.is_second
    class_of, count = congruence.class_of_label, congruence.class_count
    partner = np.arange(count)
    folded = np.flatnonzero(length > 1)
    # the two labels that are kept of a run are neighbours
    partner[class_of[folded]] = class_of[folded + 1 - 2 * is_second[folded]]
    spans = np.ones(count, np.int64)
    spans[class_of[folded]] = length[folded]
    is_behind = np.zeros(count, bool)
    is_behind[class_of[folded]] = is_second[folded]
    bare = np.ones(count, bool)
    bare[congruence.class_of_address] = False
    bare[congruence.set_classes] = False
    bare[class_of] = False
    grown = bool(folded.size and bare.any())
    while grown:
        # a class without labels, above others, stands for as many as they do
        grown = False
        for child, parent in congruence.relations:
            at = np.minimum(np.searchsorted(child, partner[child]), child.size - 1)
            # both labels of a run may have one parent, which then stands for itself alone
            new = (
                bare[parent]
                & (spans[parent] == 1)
                & (child[at] == partner[child])
                & (parent[at] != parent)
            )
            if new.any():
                grown = True
                c, p = child[new], parent[new]
                partner[p], spans[p], is_behind[p] = parent[at[new]], spans[c], is_behind[c]
    is_paired = partner != np.arange(count)
    spans = np.where(is_paired, spans, 1)
    of_class = np.where(is_paired & is_behind, spans - 1, 1)
    # both labels of a run may be of one class, which then holds all labels of the run
    of_label = np.where(is_second & ~is_paired[class_of], length - 1, 1)
    return Multiplicities(is_paired, spans, of_class.astype(np.uint64), of_label.astype(np.uint64))
