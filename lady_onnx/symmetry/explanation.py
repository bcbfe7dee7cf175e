"""Why an axis of a weight is pinned, or what it is tied to: the nodes that lead there. And a drawing of it all."""

from __future__ import annotations

import colorsys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..dataflow.engine import Analysis, analyse_graph
from ..dataflow.labels.roles import find_varying_axes, to_dense
from ..errors import LadyError
from ..graph.model import Graph
from ..graph.nodes import describe_node
from ..groups.model import Slot, Symmetry
from .finder import extract_groups


@dataclass(frozen=True)
class Tie:
    """What one axis is tied to.

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

    Attributes:
        initializer, axis: the axis explained.
        groups: the ids of the groups along it.
        ties: the other places of these groups, and what pins the axis or a part of it. Neither: the weight is
            constant along the axis, or nothing reads it.
    """

    initializer: str
    axis: int
    groups: tuple[str, ...]
    ties: tuple[Tie, ...]


class _Paths:
    """Shortest chains of facts between labels."""

    def __init__(self, analysis: Analysis):
        facts = analysis.facts
        equal = [(to_dense(a), to_dense(b)) for a, b in facts.equal]
        pairs = [
            *zip(equal, facts.equal_nodes, strict=True),
            *zip(facts.parents, facts.parent_nodes, strict=True),
        ]
        a, b = (np.concatenate([p[i] for p, _ in pairs] or [np.empty(0, np.int64)]) for i in (0, 1))
        event = np.repeat(np.arange(len(pairs)), [p[0].size for p, _ in pairs])
        known = (a >= 0) & (b >= 0)
        ends = np.concatenate([a[known], b[known]])
        order = np.argsort(ends, kind="stable")
        self.nodes = [n for _, n in pairs]
        self.start, self.stop = ends[order], np.concatenate([b[known], a[known]])[order]
        self.event = np.tile(event[known], 2)[order]
        self.count = facts.label_count

    def chain(self, source: np.ndarray, goal: np.ndarray) -> tuple[str, ...]:
        """The nodes on the way from one set of labels to another."""
        before = np.full(self.count, -1)
        through = np.full(self.count, -1)
        wanted = np.zeros(self.count, bool)
        wanted[goal] = True
        front = np.unique(source)
        before[front] = front
        while front.size and not wanted[front].any():
            lo, hi = (np.searchsorted(self.start, front, side=s) for s in ("left", "right"))
            size = hi - lo
            take = np.repeat(lo - np.cumsum(size) + size, size) + np.arange(size.sum())
            here, there, event = np.repeat(front, size), self.stop[take], self.event[take]
            new = before[there] < 0
            front, at = np.unique(there[new], return_index=True)
            before[front], through[front] = here[new][at], event[new][at]
        if not wanted[front].any():
            return ()
        at_, found = int(front[wanted[front]][0]), []
        while before[at_] != at_:
            found.append(self.nodes[through[at_]])
            at_ = int(before[at_])
        return tuple(dict.fromkeys(found[::-1]))


def explain_axes(
    graph: Graph, initializer: str, axis: int | None = None
) -> tuple[Explanation, ...]:
    """What holds each axis of a weight, or one of them.

    Raises LadyError for a weight or an axis that the model has not.
    """
    if initializer not in graph.tensors:
        raise LadyError(
            f"{graph.name}: no weight '{initializer}'; `lady-onnx groups --json` lists them"
        )
    rank = len(graph.shape(initializer))
    if axis is not None and not 0 <= axis < rank:
        raise LadyError(
            f"{graph.name}: weight '{initializer}' has {rank} axes, counted from 0, and no axis {axis}"
        )
    analysis = analyse_graph(graph)
    symmetry = extract_groups(analysis)
    paths = _Paths(analysis)
    return tuple(
        _axis(analysis, symmetry, paths, initializer, a)
        for a in (range(rank) if axis is None else (axis,))
    )


def _axis(
    analysis: Analysis, symmetry: Symmetry, paths: _Paths, initializer: str, axis: int
) -> Explanation:
    ties = []
    names = []
    for group in symmetry.groups:
        own = [s for s in group.slots if (s.initializer, s.axis) == (initializer, axis)]
        names += [group.id] if own else []
        for slot in group.slots if own else ():
            if slot is not own[0]:
                ties.append(
                    Tie(
                        slot.initializer,
                        slot.axis,
                        "",
                        paths.chain(_label(analysis, own[0]), _label(analysis, slot)),
                    )
                )
    roles = [
        r
        for r in map(to_dense, analysis.weights.get(initializer, ()))
        if axis in find_varying_axes(r)
    ]
    labels = np.concatenate([np.unique(r) for r in roles] or [np.empty(0, np.int64)])
    for pin in symmetry.pinned:
        if (pin.initializer, pin.axis) == (initializer, axis):
            goals = [
                to_dense(p)
                for p, reason, node in analysis.facts.pins
                if (reason, node) == (pin.reason, pin.node)
            ]
            chain = paths.chain(labels, np.concatenate(goals)) if goals else ()
            ties.append(
                Tie(
                    "",
                    -1,
                    pin.reason,
                    tuple(dict.fromkeys([*chain, *([pin.node] if pin.node else [])])),
                )
            )
    return Explanation(initializer, axis, tuple(names), tuple(ties))


def _label(analysis: Analysis, slot: Slot) -> np.ndarray:
    """The labels of a group's first unit where it first stands in a slot."""
    within = {a: int(p[0]) for a, p in slot.within}
    found = []
    for role in map(to_dense, analysis.weights[slot.initializer]):
        if slot.axis in find_varying_axes(role):
            place = {**within, slot.axis: int(slot.index[0, 0])}
            found.append(
                role[tuple(place.get(a, 0) if n > 1 else 0 for a, n in enumerate(role.shape))]
            )
    return np.array(found, np.int64)


def draw_dot(graph: Graph, symmetry: Symmetry) -> str:
    """The graph as a DOT drawing: operators, and the axes of their weights in one colour a group."""
    groups = [g for g in symmetry.groups if not g.parents]
    colours = {g.id: _colour(i, len(groups)) for i, g in enumerate(groups)}
    top = {g.id: g.id for g in groups}
    for group in reversed(symmetry.groups):
        if group.parents:
            top[group.id] = top[group.parents[0][0]]
    axes: dict[tuple[str, int], set[str]] = defaultdict(set)
    for group in symmetry.groups:
        for slot in group.slots:
            axes[slot.initializer, slot.axis].add(colours[top[group.id]])
    lines = ["digraph groups {", "  rankdir=TB;", '  node [fontname="Helvetica", fontsize=10];']
    made: dict[str, str] = {}
    for number, node in enumerate(graph.nodes):
        if set(node.output) & graph.tensors.keys():
            continue
        lines.append(f"  n{number} [shape=ellipse, label={_quoted(describe_node(node))}];")
        for name in dict.fromkeys(node.input):
            if name in made:
                lines.append(f"  {made[name]} -> n{number};")
            elif any(
                (name, a) in axes
                for a in range(len(graph.shape(name)) if name in graph.tensors else 0)
            ):
                cells = "".join(
                    _cell(n, sorted(axes[name, a])) for a, n in enumerate(graph.shape(name))
                )
                table = f'<table border="0" cellborder="1" cellspacing="0"><tr><td>{_escaped(name)}</td>{cells}</tr></table>'
                lines.append(f"  w{number}_{len(lines)} [shape=plain, label=<{table}>];")
                lines.append(
                    f"  w{number}_{len(lines) - 1} -> n{number} [style=dashed, arrowhead=none];"
                )
        made.update((o, f"n{number}") for o in node.output)
    return "\n".join([*lines, "}"]) + "\n"


def _cell(size: int, colours: Sequence[str]) -> str:
    return f'<td bgcolor="{":".join(colours[:2])}">{size}</td>' if colours else f"<td>{size}</td>"


def _colour(number: int, count: int) -> str:
    red, green, blue = colorsys.hls_to_rgb(number / max(count, 1), 0.75 if number % 2 else 0.6, 0.7)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
