"""The skeleton of a graph: the nodes that hold weights, and which of them follow each other.

What lies between these nodes is not compared node by node: exporters and optimisers write it in
many ways. What it does beside moving elements is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx.defs
import onnx.helper
from onnx import NodeProto

from ..errors import ArchitectureError
from ..graph.model import Graph
from ..graph.nodes import describe_node, read_attributes
from ..vocabulary.classes import COMMUTATIVE_OPERATORS, MOVING_OPERATORS, PASSING_OPERATORS
from ..vocabulary.names import (
    BATCH_NORMALIZATION,
    CAST,
    CONCAT,
    DROPOUT,
    GEMM,
    MAT_MUL,
    SHAPE,
    SIZE,
)
from ..vocabulary.types import FLOAT_TYPES

IDENTIFYING_ATTRIBUTES = (
    "activation",
    "activation_params",
    "axis",
    "dilations",
    "direction",
    "group",
    "hidden_size",
    "kernel_shape",
    "strides",
)
"""Attributes that two nodes must have in common to be counterparts."""
AXIS_OPERANDS = ("axes", "axis", "k")
"""Operands that say where an operator acts; other exporters give them as attributes."""
MATRIX_PRODUCT = "linear"
"""The kind of a product with a matrix, whichever operator writes it."""

Neighbour = int | tuple[str, int]
"""The number of a weighted node, or an input or output of the graph by its position."""


@dataclass(frozen=True)
class NodeKind:
    """What two nodes must have in common to be counterparts.

    Attributes:
        operator: the operator, or `MATRIX_PRODUCT`.
        places: the positions of the weights among the operands; 0 where these have no order.
        shapes: the lengths of the weights' axes that are longer than one, as if none lay
            transposed.
        attributes: the identifying attributes, by name, as text.
    """

    operator: str
    places: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    attributes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class WeightedNode:
    """A node that holds weights.

    Attributes:
        node: the node.
        kind: what its counterpart must have in common with it.
        weights: the name of every weight, and whether it lies transposed, by position.
    """

    node: NodeProto
    kind: NodeKind
    weights: tuple[tuple[str, bool], ...]


@dataclass
class Skeleton:
    """The nodes of a graph that hold weights, and which of them follow each other.

    Attributes:
        graph: the graph.
        nodes: the weighted nodes, by number.
        before: for every number the neighbours that the node follows.
        after: for every number the neighbours that follow the node.
        routes: for every number the operators that read what the node computes, each with the
            position of the operand; only those whose operands have an order.
        others: the nodes without weights that do more than move elements.
    """

    graph: Graph
    nodes: list[WeightedNode] = field(default_factory=list)
    before: dict[int, set[Neighbour]] = field(default_factory=dict)
    after: dict[int, set[Neighbour]] = field(default_factory=dict)
    routes: dict[int, set[tuple[str, int]]] = field(default_factory=dict)
    others: list[NodeProto] = field(default_factory=list)

    def count_operations(self, digits: int) -> Counter[tuple[Any, ...]]:
        """Count what the nodes do beside their weights: operators, with their numbers.

        Args:
            digits: the number of significant digits that numbers are compared to.
        """
        # by their digits and not exactly: other exporters and precisions round constants
        found = Counter(self._describe_operation(node, digits) for node in self.others)
        # of a normalisation that was folded away nothing is left to compare
        given = [
            _read_attributes_with_defaults(n.node)
            for n in self.nodes
            if n.node.op_type != BATCH_NORMALIZATION
        ]
        return found + Counter(
            ("epsilon", f"{g['epsilon']:.{digits}g}") for g in given if "epsilon" in g
        )

    def _describe_operation(self, node: NodeProto, digits: int) -> tuple[Any, ...]:
        """Describe an operator by its name and by the numbers and words that it is given.

        Along which axes it acts is left out: exporters give that as an attribute or as an operand,
        and any two runs show it.
        """
        # the word `none` is the default of several attributes, and the same as leaving them out
        given = [
            v
            for v in read_attributes(node).values()
            if isinstance(v, float | bytes) and v != b"none"
        ]
        is_known = onnx.defs.has(node.op_type, node.domain)
        inputs = (
            [i.name for i in onnx.defs.get_schema(node.op_type, node.domain).inputs]
            if is_known
            else []
        )
        for k, name in enumerate(node.input):
            is_axis = k < len(inputs) and inputs[k] in AXIS_OPERANDS
            if name in self.graph.tensors and not is_axis:
                # floats here are one number, or many equal ones: a node with others is weighted
                given += self.graph.array(name).ravel()[:1].tolist()
        texts = (f"{v:.{digits}g}" if isinstance(v, float) else str(v) for v in given)
        return node.op_type, tuple(sorted(texts))


def build_skeleton(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Skeleton:
    """Build the skeleton of a graph.

    Args:
        graph: the graph.
        inputs: the names of its inputs, in an order that both graphs have in common.
        outputs: the names of its outputs, likewise.

    Raises:
        ArchitectureError: if a node has bodies.
    """
    builder = _SkeletonBuilder(graph, inputs)
    for node in graph.nodes:
        builder.add_node(node)
    builder.add_outputs(outputs)
    return builder.skeleton


class _SkeletonBuilder:
    """Builds a skeleton node by node, in topological order."""

    def __init__(self, graph: Graph, inputs: Sequence[str]):
        self.skeleton = Skeleton(graph)
        self._reach: dict[str, Set[Neighbour]] = {
            name: frozenset({("input", k)}) for k, name in enumerate(inputs)
        }
        """The weighted nodes and inputs that every tensor follows."""
        self._held = {name: name for name in graph.tensors}
        """The weight that a tensor is, itself or passed on."""
        self._valued = {
            v.name: v.type.tensor_type.elem_type in FLOAT_TYPES
            for v in graph.model.graph.input
            if v.name not in self._held
        }
        """The tensors that depend on the inputs' values, and whether they are floats."""

    def add_node(self, node: NodeProto) -> None:
        """Add a node whose operands are known."""
        skeleton = self.skeleton
        if any(a.HasField("g") for a in node.attribute):
            raise ArchitectureError(
                f"{skeleton.graph.name}: node {describe_node(node)} has subgraphs"
            )
        # a weight that is cast or reshaped is held by whoever reads it in the end
        if node.op_type in PASSING_OPERATORS and node.input[0] in self._held:
            self._held[node.output[0]] = self._held[node.input[0]]
            return
        here: Set[Neighbour] = frozenset().union(
            *(self._reach.get(name, frozenset()) for name in node.input)
        )
        own = self._read_weights(node)
        is_movement = node.op_type in MOVING_OPERATORS and not self._depends_on_values(node)
        if any(name in self._valued for name in node.input) and node.op_type not in (SHAPE, SIZE):
            self._valued.update(dict.fromkeys(node.output, self._gives_floats(node)))
        # what follows a weighted node follows that one alone: the ones before it are its own matter
        if own is not None:
            here = frozenset({self._add_weighted_node(own, here)})
        elif not is_movement:
            self._add_other_node(node)
        self._reach.update(dict.fromkeys(node.output, here))

    def add_outputs(self, outputs: Sequence[str]) -> None:
        """Note which nodes the outputs follow."""
        for k, value in enumerate(outputs):
            for other in self._reach.get(value, frozenset()):
                if isinstance(other, int):
                    self.skeleton.after[other].add(("output", k))

    def _add_weighted_node(self, own: WeightedNode, here: Set[Neighbour]) -> int:
        skeleton = self.skeleton
        number = len(skeleton.nodes)
        skeleton.nodes.append(own)
        skeleton.before[number] = set(here)
        skeleton.after[number] = set()
        skeleton.routes[number] = set()
        for other in here:
            if isinstance(other, int):
                skeleton.after[other].add(number)
        return number

    def _add_other_node(self, node: NodeProto) -> None:
        self.skeleton.others.append(node)
        # which operand of a sum is which differs from exporter to exporter
        if node.op_type in COMMUTATIVE_OPERATORS:
            return
        for k, name in enumerate(node.input):
            for other in self._reach.get(name, frozenset()):
                if isinstance(other, int):
                    self.skeleton.routes[other].add((node.op_type, k))

    def _read_weights(self, node: NodeProto) -> WeightedNode | None:
        """Read the weights of a node; None where it holds none."""
        graph, held, operator = self.skeleton.graph, self._held, node.op_type
        is_commutative = operator in COMMUTATIVE_OPERATORS
        own = [(k, held[name]) for k, name in enumerate(node.input) if name in held]
        floats = [(k, name) for k, name in own if _is_float(graph, name)]
        weights = [(k, name) for k, name in floats if int(np.prod(graph.shape(name))) > 1]
        if not weights or (
            is_commutative and all(_is_constant(graph, name) for _, name in weights)
        ):
            return None
        if not is_commutative:
            # a layer of one unit has a bias of one element
            weights = floats
        second = held[node.input[1]] if node.input[1:] and node.input[1] in held else None
        given = _read_attributes_with_defaults(node, graph.shape(second) if second else ())
        is_transposed = dict.fromkeys(range(len(node.input)), False)
        # exporters write a layer as either, and lay its matrix out in either way
        if operator in (GEMM, MAT_MUL) and weights[0][0] == 1:
            operator = MATRIX_PRODUCT
            is_transposed[1] = bool(given.get("transB", 0))
        places = tuple(0 if is_commutative else k for k, _ in weights)
        shapes = []
        for k, name in weights:
            shape = [n for n in graph.shape(name) if n > 1]
            shapes.append(tuple(reversed(shape) if is_transposed[k] else shape))
        attributes = tuple(
            (a, str(given[a]))
            for a in IDENTIFYING_ATTRIBUTES
            if a in given and operator != MATRIX_PRODUCT
        )
        kind = NodeKind(operator, places, tuple(shapes), attributes)
        return WeightedNode(node, kind, tuple((name, is_transposed[k]) for k, name in weights))

    def _depends_on_values(self, node: NodeProto) -> bool:
        """Tell whether what a moving operator does depends on the values of the inputs.

        It may move elements to places that depend on them, or round them to integers.
        """
        if node.op_type == CAST:
            is_rounding = read_attributes(node)["to"] not in FLOAT_TYPES
            return self._valued.get(node.input[0], False) and is_rounding
        return node.op_type not in (CONCAT, DROPOUT) and any(
            name in self._valued for name in node.input[1:]
        )

    def _gives_floats(self, node: NodeProto) -> bool:
        """Tell whether results that depend on the inputs' values may be floats."""
        if node.op_type == CAST:
            return read_attributes(node)["to"] in FLOAT_TYPES
        first = node.input[:1] if node.op_type in MOVING_OPERATORS else node.input
        return any(self._valued.get(name, True) for name in first if name)


def _read_attributes_with_defaults(
    node: NodeProto, weight_shape: Sequence[int] = ()
) -> Mapping[str, Any]:
    """Read the attributes of a node, with those that have a default, or follow from its weight."""
    is_known = onnx.defs.has(node.op_type, node.domain)
    schema = onnx.defs.get_schema(node.op_type, node.domain).attributes if is_known else {}
    defaults = {
        k: onnx.helper.get_attribute_value(a.default_value)
        for k, a in schema.items()
        if a.default_value.name
    }
    found = defaults | read_attributes(node)
    # the specification takes a kernel that is left out from the weight, and the rest as ones
    if "kernel_shape" in schema:
        found.setdefault("kernel_shape", list(weight_shape[2:]))
        for name in ("dilations", "strides"):
            found.setdefault(name, [1] * len(found["kernel_shape"]))
    return found


def _is_float(graph: Graph, name: str) -> bool:
    return graph.tensors[name].data_type in FLOAT_TYPES


def _is_constant(graph: Graph, name: str) -> bool:
    """Tell whether all elements of a weight are one number."""
    return all(graph.constant_along(name, axis) for axis in range(len(graph.shape(name))))
