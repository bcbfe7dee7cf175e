"""Explanations: why an axis of a weight is pinned, or what it is tied to.

An explanation names the nodes whose statements lead from one axis to another, along a shortest
chain of facts. Drawings of a whole graph are in `drawing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..dataflow.engine import Analysis, analyse_graph
from ..dataflow.labels.facts import Facts
from ..dataflow.labels.roles import find_varying_axes, to_dense
from ..errors import LadyError
from ..graph.model import Graph
from ..groups.model import Group, Slot, Symmetry
from .finder import extract_groups
from .incidence import concatenate_ranges


@dataclass(frozen=True)
class Tie:
    """What one axis is tied to, or what pins it.

    Attributes:
        initializer, axis: the other place of the group; empty and -1 for what pins the axis.
        reason: why it is pinned, empty for a tie.
        chain: the nodes that lead from the axis to there.
    """

    initializer: str
    axis: int
    reason: str
    chain: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What holds one axis of a weight.

    Where there are neither groups nor ties, the weight is constant along the axis, or nothing reads
    it.

    Attributes:
        initializer, axis: the axis explained.
        groups: the ids of the groups along it.
        ties: the other places of these groups, and what pins the axis or a part of it.
    """

    initializer: str
    axis: int
    groups: tuple[str, ...]
    ties: tuple[Tie, ...]


class _FactGraph:
    """Labels as points, and the facts between them as edges, each with the node that said it."""

    def __init__(self, facts: Facts):
        equal = [(to_dense(a), to_dense(b)) for a, b in facts.equal]
        pairs = [*equal, *facts.parents]
        a, b = (np.concatenate([p[i] for p in pairs] or [np.empty(0, np.int64)]) for i in (0, 1))
        statement = np.repeat(np.arange(len(pairs)), [p[0].size for p in pairs])
        known = (a >= 0) & (b >= 0)
        ends = np.concatenate([a[known], b[known]])
        order = np.argsort(ends, kind="stable")
        self._nodes = [*facts.equal_nodes, *facts.parent_nodes]
        self._start = ends[order]
        self._stop = np.concatenate([b[known], a[known]])[order]
        self._statement = np.tile(statement[known], 2)[order]
        self._label_count = facts.label_count

    def find_chain(self, source: np.ndarray, goal: np.ndarray) -> tuple[str, ...]:
        """Find the nodes on a shortest way from any label of `source` to any of `goal`.

        The search goes breadth first. The answer is empty where there is no way.
        """
        before = np.full(self._label_count, -1)
        through = np.full(self._label_count, -1)
        is_goal = np.zeros(self._label_count, bool)
        is_goal[goal] = True
        front = np.unique(source)
        # where the search starts a label comes before itself: that ends the way back
        before[front] = front
        while front.size and not is_goal[front].any():
            lo, hi = (np.searchsorted(self._start, front, side=s) for s in ("left", "right"))
            edges = concatenate_ranges(lo, hi)
            here, there = np.repeat(front, hi - lo), self._stop[edges]
            statement = self._statement[edges]
            new = before[there] < 0
            front, at = np.unique(there[new], return_index=True)
            before[front], through[front] = here[new][at], statement[new][at]
        if not is_goal[front].any():
            return ()
        label, found = int(front[is_goal[front]][0]), []
        while before[label] != label:
            found.append(self._nodes[through[label]])
            label = int(before[label])
        return tuple(dict.fromkeys(found[::-1]))


def explain_axes(
    graph: Graph, initializer: str, axis: int | None = None
) -> tuple[Explanation, ...]:
    """Explain what holds each axis of a weight.

    Args:
        graph: the graph.
        initializer: the weight's name.
        axis: one axis, counted from 0; by default all of them.

    Raises:
        LadyError: the model does not have the weight or the axis.
    """
    if initializer not in graph.tensors:
        raise LadyError(
            f"{graph.name}: no weight '{initializer}'; `lady-onnx groups --json` lists them"
        )
    rank = len(graph.shape(initializer))
    if axis is not None and not 0 <= axis < rank:
        raise LadyError(
            f"{graph.name}: weight '{initializer}' has {rank} axes, counted from 0, "
            f"and no axis {axis}"
        )
    analysis = analyse_graph(graph)
    symmetry = extract_groups(analysis)
    fact_graph = _FactGraph(analysis.facts)
    return tuple(
        _explain_axis(analysis, symmetry, fact_graph, initializer, a)
        for a in (range(rank) if axis is None else (axis,))
    )


def _explain_axis(
    analysis: Analysis, symmetry: Symmetry, fact_graph: _FactGraph, initializer: str, axis: int
) -> Explanation:
    ties: list[Tie] = []
    names = []
    for group in symmetry.groups:
        own = [s for s in group.slots if (s.initializer, s.axis) == (initializer, axis)]
        if own:
            names.append(group.id)
            ties += _list_group_ties(analysis, fact_graph, group, own[0])
    ties += _list_pin_ties(analysis, symmetry, fact_graph, initializer, axis)
    return Explanation(initializer, axis, tuple(names), tuple(ties))


def _list_group_ties(
    analysis: Analysis, fact_graph: _FactGraph, group: Group, own: Slot
) -> Iterator[Tie]:
    """Yield the other slots of a group, with the chains that lead there from one of its slots."""
    for slot in group.slots:
        if slot is not own:
            chain = fact_graph.find_chain(_find_labels(analysis, own), _find_labels(analysis, slot))
            yield Tie(slot.initializer, slot.axis, "", chain)


def _list_pin_ties(
    analysis: Analysis, symmetry: Symmetry, fact_graph: _FactGraph, initializer: str, axis: int
) -> Iterator[Tie]:
    """Yield what pins an axis, with the chains that lead there."""
    roles = map(to_dense, analysis.weights.get(initializer, ()))
    along = [np.unique(r) for r in roles if axis in find_varying_axes(r)]
    labels = np.concatenate(along or [np.empty(0, np.int64)])
    for pin in symmetry.pinned:
        if (pin.initializer, pin.axis) != (initializer, axis):
            continue
        goals = [
            to_dense(p)
            for p, reason, node in analysis.facts.pins
            if (reason, node) == (pin.reason, pin.node)
        ]
        chain = fact_graph.find_chain(labels, np.concatenate(goals)) if goals else ()
        nodes = [*chain, pin.node] if pin.node else chain
        yield Tie("", -1, pin.reason, tuple(dict.fromkeys(nodes)))


def _find_labels(analysis: Analysis, slot: Slot) -> np.ndarray:
    """Find the labels of a group's first unit where it first stands in a slot."""
    place = {**{a: int(p[0]) for a, p in slot.within}, slot.axis: int(slot.index[0, 0])}
    found = []
    for role in map(to_dense, analysis.weights[slot.initializer]):
        if slot.axis in find_varying_axes(role):
            where = tuple(place.get(a, 0) if n > 1 else 0 for a, n in enumerate(role.shape))
            found.append(role[where])
    return np.array(found, np.int64)
