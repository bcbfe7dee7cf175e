"""Pairs the weights of two graphs that are written differently, by where they stand in them.

Names, exporter, opset and precision may differ, and a BatchNorm may be folded on one side. Both
graphs are in the form that onnxruntime's optimiser writes. Only the nodes that hold weights are
compared, with which of them follow each other (`weighted_nodes`, `node_classes`). Nodes that are
alike in all of this are paired by the operands that they become, and by the values of their
weights, whatever the order of these.
"""

from __future__ import annotations

import numpy as np

from ..errors import ArchitectureError
from ..graph.model import Graph
from ..graph.nodes import pair_by_name
from ..numerics import MIN_DIVISOR, as_finite, assign_optimally
from ..vocabulary.types import HALF_TYPES
from .links import Place
from .node_classes import classify_nodes
from .weighted_nodes import Skeleton, WeightedNode, build_skeleton

ROUTE_MISMATCH_COST = 1e6
"""The cost of pairing two nodes, beside their values, for each operand that they differ in.

It outweighs any gap between values, which is at most 2 for each weight.
"""
QUANTILE_COUNT = 65
"""The number of quantiles that stand for a weight's values: the ends of 64 equal parts."""
SIGNIFICANT_DIGITS = 6
"""The digits that numbers of operators are compared to."""
HALF_SIGNIFICANT_DIGITS = 2
"""The same where a graph holds weights in half precision."""


def pair_skeletons(reference: Graph, suspect: Graph) -> tuple[dict[str, Place], tuple[str, ...]]:
    """Pair the weights that nodes of the main graphs hold.

    Returns:
        The place of every weight of the reference. And the operators, among those that hold no
        weights and do more than move elements, that one graph has more often than the other, or
        with other numbers.

    Raises:
        ArchitectureError: if a node has no counterpart; the message names the first.
    """
    sides = (reference, suspect)
    ends = [
        pair_by_name(
            *([v.name for v in g.model.graph.input if v.name not in g.tensors] for g in sides)
        ),
        pair_by_name(*([v.name for v in g.model.graph.output] for g in sides)),
    ]
    one, two = (
        build_skeleton(g, *([pair[k] for pair in end] for end in ends)) for k, g in enumerate(sides)
    )
    places = _pair_weights(one, two)
    # bfloat16 has eight bits of precision, which are between two and three digits
    is_half = any(t.data_type in HALF_TYPES for g in sides for t in g.tensors.values())
    digits = HALF_SIGNIFICANT_DIGITS if is_half else SIGNIFICANT_DIGITS
    ours, theirs = (side.count_operations(digits) for side in (one, two))
    return places, tuple(sorted({what[0] for what in (ours - theirs) + (theirs - ours)}))


def _pair_weights(one: Skeleton, two: Skeleton) -> dict[str, Place]:
    """Pair the weights of two skeletons, class by class.

    Raises:
        ArchitectureError: if a node has no counterpart, or if a weight stands for several.
    """
    ours, theirs = classify_nodes(one, two)
    found: dict[str, Place] = {}
    back: dict[str, str] = {}
    our_values, their_values = WeightQuantiles(one.graph), WeightQuantiles(two.graph)
    for number in sorted(set(ours)):
        a, b = ([k for k, n in enumerate(side) if n == number] for side in (ours, theirs))
        # nothing in the structure tells these apart: the pairing that fits best in total is taken
        if len(a) > 1:
            costs = np.array(
                [
                    [our_values.measure_gap(one.nodes[i], their_values, two.nodes[j]) for j in b]
                    for i in a
                ]
            )
            costs += ROUTE_MISMATCH_COST * np.array(
                [[len(one.routes[i] ^ two.routes[j]) for j in b] for i in a]
            )
            b = [b[j] for j in assign_optimally(costs)]
        for i, j in zip(a, b, strict=True):
            pairs = zip(one.nodes[i].weights, two.nodes[j].weights, strict=True)
            for (name, is_transposed), (other, is_other_transposed) in pairs:
                place = Place(other, is_transposed != is_other_transposed)
                if found.setdefault(name, place) != place or back.setdefault(other, name) != name:
                    raise ArchitectureError(
                        f"{two.graph.name}: another architecture than {one.graph.name}: "
                        f"weight '{name}' and '{other}' stand for each other in one place, and "
                        "not in another; compare models exported from the same network"
                    )
    return found


class WeightQuantiles:
    """What the weights of a graph hold, whatever the order of their elements.

    Args:
        graph: the graph.
    """

    def __init__(self, graph: Graph):
        self._graph = graph
        self._quantiles: dict[str, np.ndarray] = {}

    def read_quantiles(self, name: str) -> np.ndarray:
        """Return quantiles of a weight's values, [QUANTILE_COUNT]."""
        if name not in self._quantiles:
            array = as_finite(self._graph.array(name)).ravel()
            self._quantiles[name] = np.quantile(array, np.linspace(0, 1, QUANTILE_COUNT))
        return self._quantiles[name]

    def measure_gap(self, node: WeightedNode, other: WeightQuantiles, twin: WeightedNode) -> float:
        """Measure how far the values of two nodes' weights are apart, in units of their size."""
        return sum(
            self.measure_weight_gap(name, other, twin_name)
            for (name, _), (twin_name, _) in zip(node.weights, twin.weights, strict=True)
        )

    def measure_weight_gap(self, name: str, other: WeightQuantiles, twin: str) -> float:
        """Measure how far the values of two weights are apart, in units of their size."""
        x, y = self.read_quantiles(name), other.read_quantiles(twin)
        size = max(np.abs(x).mean(), np.abs(y).mean(), MIN_DIVISOR)
        return float(np.abs(x - y).mean() / size)
