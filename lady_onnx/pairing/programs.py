"""A graph as a list of nodes that can be held against those of another graph.

Two nodes agree where their operators mean the same, every attribute is equal, and their operands
are of one kind: weights of one type and shape, or values that are computed. Integers that may say
how long axes are, or where elements go, agree only where they are equal.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from onnx import AttributeProto, NodeProto, TensorProto

from ..equality.node_comparison import trim_names
from ..equality.versions import find_oldest_meaning
from ..equality.walk import COUNT_ATTRIBUTES
from ..graph.model import Graph
from ..graph.nodes import describe_node, find_live_nodes, list_bodies
from ..vocabulary.classes import COMMUTATIVE_OPERATORS
from ..vocabulary.schemas import list_defaults
from ..vocabulary.structure import CONSTANT, IDENTITY, normalise_domain
from ..vocabulary.types import FLOAT_TYPES

MAX_RANK = 8
"""The largest number of axes that a tensor is taken to have."""
FLOAT = "float"
"""The type of all floats: a copy may be kept in another precision."""


@dataclass(frozen=True)
class Operand:
    """What a node reads: a weight, a result of a node, an input, or nothing.

    Attributes:
        weight: the weight's name.
        node: the number of the node that computes it, None for anything else.
        position: which result of that node it is, or which input of the graph.
    """

    weight: str = ""
    node: int | None = None
    position: int = -1

    @property
    def is_given(self) -> bool:
        """Whether it is an operand at all: one that may be left out can be missing."""
        return bool(self.weight) or self.node is not None or self.position >= 0


class Program:
    """The nodes of a graph that its outputs depend on, and what each must have in common.

    Args:
        graph: the graph.
        inputs: the names of its inputs; those that the other graph has, too, in a common order.
        with_sizes: whether lengths of axes count. If not, weights may be longer or shorter, and the
            numbers of groups of channels and of heads may differ.

    Attributes:
        graph: the graph.
        nodes: the nodes, every one after those that it reads from. Constants and nodes that give a
            value another name are left out.
        operands: of every node what it reads.
        signatures: of every node what another one must have in common with it to agree; None for a
            node that agrees with no other, because it holds graphs or calls a function.
        ends: what the outputs of the graph are.
    """

    def __init__(self, graph: Graph, inputs: Sequence[str], with_sizes: bool = True):
        self.graph = graph
        self.nodes: list[NodeProto] = []
        self.operands: list[list[Operand]] = []
        self.signatures: list[Hashable | None] = []
        self._with_sizes = with_sizes
        self._kinds: dict[str, Hashable] = {}
        self._values = {name: Operand(position=k) for k, name in enumerate(inputs)}
        self._values |= {name: Operand(weight=name) for name in graph.tensors}
        outputs = graph.model.graph.output
        for node in find_live_nodes(graph.nodes, [v.name for v in outputs]):
            self._add_node(node)
        self.ends = [self._values.get(v.name, Operand()) for v in outputs]

    def describe(self, number: int) -> str:
        """Name a node for a message."""
        return f"node {describe_node(self.nodes[number])}"

    def is_commutative(self, number: int) -> bool:
        """Tell whether a node computes the same with its operands in another order."""
        return self.nodes[number].op_type in COMMUTATIVE_OPERATORS

    def describe_operands(self, number: int, classes: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Describe what a node reads by the classes of the nodes that compute it."""
        found = [
            (classes[o.node] if o.node is not None else -1, o.position)
            for o in self.operands[number]
        ]
        return tuple(sorted(found) if self.is_commutative(number) else found)

    def list_weights(self, number: int) -> list[str]:
        """List the weights that a node reads, by name."""
        return [o.weight for o in self.operands[number] if o.weight]

    def count_elements(self, name: str) -> int:
        """Count the elements of a weight that does not count by its values; 0 for any other."""
        return 0 if self._is_value(name) else math.prod(self.graph.shape(name))

    def _add_node(self, node: NodeProto) -> None:
        """Add a node whose operands are known."""
        domain = normalise_domain(node.domain)
        if domain == "" and node.op_type == CONSTANT:
            return
        if domain == "" and node.op_type == IDENTITY and node.input[0] in self._values:
            self._values[node.output[0]] = self._values[node.input[0]]
            return
        number = len(self.nodes)
        names = trim_names(node.input)
        operands = [self._values.get(name, Operand()) for name in names]
        self.nodes.append(node)
        self.operands.append(operands)
        self.signatures.append(self._sign_node(node, operands))
        for k, name in enumerate(node.output):
            if name:
                self._values[name] = Operand(node=number, position=k)

    def _sign_node(self, node: NodeProto, operands: Sequence[Operand]) -> Hashable | None:
        """Collect what another node must have in common with a node to agree with it."""
        domain = normalise_domain(node.domain)
        is_call = (domain, node.op_type, node.overload) in self.graph.functions
        if is_call or any(True for _ in list_bodies(node)):
            return None
        version = self.graph.opset(domain)
        attributes = {
            **list_defaults(node.op_type, domain, version),
            **{a.name: a for a in node.attribute},
        }
        left_out = () if self._with_sizes else COUNT_ATTRIBUTES
        # an input stands where another program computes a value
        kinds: list[Hashable] = [
            self._find_kind(o.weight)
            if o.weight
            else (o.position if o.node is not None else 0 if o.is_given else None)
            for o in operands
        ]
        return (
            domain,
            node.op_type,
            find_oldest_meaning(node.op_type, domain, version),
            tuple(bool(name) for name in trim_names(node.output)),
            # the operands of a sum may stand in another order
            tuple(sorted(kinds, key=repr) if node.op_type in COMMUTATIVE_OPERATORS else kinds),
            tuple(
                (name, _encode_attribute(attributes[name]))
                for name in sorted(attributes.keys() - set(left_out))
            ),
        )

    def _find_kind(self, name: str) -> Hashable:
        """Find what another weight must have in common with a weight."""
        if name not in self._kinds:
            self._kinds[name] = self._make_kind(name)
        return self._kinds[name]

    def _make_kind(self, name: str) -> Hashable:
        tensor, shape = self.graph.tensors[name], self.graph.shape(name)
        kind = FLOAT if tensor.data_type in FLOAT_TYPES else tensor.data_type
        if self._is_value(name):
            if not self._with_sizes and _is_shape(tensor.data_type, shape):
                return kind
            return kind, shape, self.graph.array(name).tobytes()
        return kind, (shape if self._with_sizes else len(shape))

    def _is_value(self, name: str) -> bool:
        """Tell whether a weight counts by its values: shapes, axes, indices, masks, words."""
        kind, shape = self.graph.tensors[name].data_type, self.graph.shape(name)
        # a longer one of 32 bits may be the bias of a quantised layer
        return kind in (TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING) or _is_shape(
            kind, shape
        )


def _is_shape(data_type: int, shape: Sequence[int]) -> bool:
    """Tell whether a constant of a type and shape may say how long axes are."""
    is_whole = data_type in (TensorProto.INT64, TensorProto.INT32)
    return is_whole and len(shape) < 2 and math.prod(shape) <= MAX_RANK


def _encode_attribute(attribute: AttributeProto) -> bytes:
    """Encode an attribute without what is said of it for people."""
    if not attribute.doc_string:
        return attribute.SerializeToString(deterministic=True)
    plain = AttributeProto()
    plain.CopyFrom(attribute)
    plain.ClearField("doc_string")
    return plain.SerializeToString(deterministic=True)
