"""A drawing of a graph and its groups, in the DOT language of Graphviz."""

from __future__ import annotations

import colorsys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from onnx import NodeProto

from ..graph.model import Graph
from ..graph.nodes import describe_node
from ..groups.model import Symmetry
from ..reporting import quote_name, to_printable

AxisColours = Mapping[tuple[str, int], set[str]]
"""The colours of the groups along every axis of a weight."""


def draw_dot(graph: Graph, symmetry: Symmetry) -> str:
    """Draw a graph in DOT: its operators, and the axes of their weights in the groups' colours.

    A group inside another has the colour of the outermost one.
    """
    axes = _colour_axes(symmetry)
    lines = ["digraph groups {", "  rankdir=TB;", '  node [fontname="Helvetica", fontsize=10];']
    makers: dict[str, str] = {}
    for number, node in enumerate(graph.nodes):
        if set(node.output) & graph.tensors.keys():
            continue
        lines.append(f"  n{number} [shape=ellipse, label={quote_name(describe_node(node))}];")
        for line in _draw_operands(graph, node, number, makers, axes, len(lines)):
            lines.append(line)
        makers.update((o, f"n{number}") for o in node.output)
    return "\n".join([*lines, "}"]) + "\n"


def _colour_axes(symmetry: Symmetry) -> AxisColours:
    groups = [g for g in symmetry.groups if not g.parents]
    colours = {g.id: _choose_colour(i, len(groups)) for i, g in enumerate(groups)}
    # inner groups come first in a symmetry: backwards each finds its parent's colour
    outermost = {g.id: g.id for g in groups}
    for group in reversed(symmetry.groups):
        if group.parents:
            outermost[group.id] = outermost[group.parents[0][0]]
    axes: dict[tuple[str, int], set[str]] = defaultdict(set)
    for group in symmetry.groups:
        for slot in group.slots:
            axes[slot.initializer, slot.axis].add(colours[outermost[group.id]])
    return axes


def _draw_operands(
    graph: Graph,
    node: NodeProto,
    number: int,
    makers: Mapping[str, str],
    axes: AxisColours,
    line_count: int,
) -> Iterator[str]:
    """Yield the arrows to a node, and its weights that have groups.

    Args:
        graph: the graph.
        node: the node.
        number: its number.
        makers: what draws the node that makes each tensor.
        axes: the colours of the weights' axes.
        line_count: how many lines there are already; weights are numbered by their lines.
    """
    for name in dict.fromkeys(node.input):
        if name in makers:
            yield f"  {makers[name]} -> n{number};"
            line_count += 1
            continue
        shape = graph.shape(name) if name in graph.tensors else ()
        if not any((name, a) in axes for a in range(len(shape))):
            continue
        cells = "".join(_draw_cell(n, sorted(axes.get((name, a), ()))) for a, n in enumerate(shape))
        row = f"<tr><td>{_escape(name)}</td>{cells}</tr>"
        table = f'<table border="0" cellborder="1" cellspacing="0">{row}</table>'
        weight = f"w{number}_{line_count}"
        yield f"  {weight} [shape=plain, label=<{table}>];"
        yield f"  {weight} -> n{number} [style=dashed, arrowhead=none];"
        line_count += 2


def _draw_cell(size: int, colours: Sequence[str]) -> str:
    return f'<td bgcolor="{":".join(colours[:2])}">{size}</td>' if colours else f"<td>{size}</td>"


def _choose_colour(number: int, count: int) -> str:
    lightness = 0.75 if number % 2 else 0.6
    red, green, blue = colorsys.hls_to_rgb(number / max(count, 1), lightness, 0.7)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _escape(text: str) -> str:
    return to_printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
