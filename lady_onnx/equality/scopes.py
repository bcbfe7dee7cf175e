"""Names of graphs, bodies and functions, and what they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import AttributeProto, GraphProto, NodeProto, TypeProto, ValueInfoProto

from ..graph.model import Graph
from ..graph.nodes import describe_node, prefix_of_body
from ..vocabulary.structure import normalise_domain


class NameScope:
    """The names of one graph, body or function, and what they stand for.

    Args:
        graph: the graph that holds the weights.
        nodes: the nodes of the scope.
        formals: the names of its inputs.
        opsets: the version of every domain.
        prefix: what stands before the names of its weights in the graph's table.
        outer: the scope around it, whose values it may read.
        declared: what the file declares of its values.
    """

    def __init__(
        self,
        graph: Graph,
        nodes: Iterable[NodeProto],
        formals: Sequence[str],
        opsets: Mapping[str, int],
        prefix: str = "",
        outer: NameScope | None = None,
        declared: Iterable[ValueInfoProto] = (),
    ):
        self.graph = graph
        self.prefix = prefix
        self.opsets = opsets
        self._outer = outer
        self._formals = {name: k for k, name in enumerate(formals)}
        # holds the nodes: protobuf makes an object anew for a message that nobody holds, and the
        # identities of nodes tell values, bodies and pairs apart
        self._makers = {
            name: (node, k) for node in nodes for k, name in enumerate(node.output) if name
        }
        self._declared: dict[str, list[TypeProto]] = {}
        for value in declared:
            self._declared.setdefault(value.name, []).append(value.type)
        self._bodies: dict[tuple[int, str, int], NameScope] = {}

    def find_value(self, name: str) -> Value:
        """Find what a name stands for, here or in the scopes around."""
        # the results of constant nodes are among the weights of the graph, too
        if self.prefix + name in self.graph.tensors:
            return Value(self, weight=self.prefix + name)
        if name in self._makers:
            node, k = self._makers[name]
            return Value(self, node=node, position=k)
        if name in self._formals:
            return Value(self, position=self._formals[name])
        if self._outer is not None:
            return self._outer.find_value(name)
        return Value(self, missing=name)

    def open_body(
        self, node: NodeProto, attribute: AttributeProto, graph: GraphProto, k: int = 0
    ) -> NameScope:
        """Return the scope of a body of a node; there is one for each body.

        Args:
            node: the node.
            attribute: the attribute that holds the body.
            graph: the body.
            k: its position in a list of bodies.
        """
        key = id(node), attribute.name, k
        if key not in self._bodies:
            prefix = self.prefix + prefix_of_body(node, attribute.name)
            inputs = [v.name for v in graph.input]
            self._bodies[key] = NameScope(
                self.graph, graph.node, inputs, self.opsets, prefix, self, graph.value_info
            )
        return self._bodies[key]

    def list_types(self, name: str) -> Iterator[tuple[str, TypeProto]]:
        """List what the file declares of a value.

        That is what it declares here, and in the graphs around that the value may come from.

        Yields:
            The full name of the value, and what is declared under it.
        """
        for kind in self._declared.get(name, ()):
            yield self.prefix + name, kind
        if self._outer is not None and name not in self._makers and name not in self._formals:
            yield from self._outer.list_types(name)

    def read_version(self, domain: str) -> int:
        """Return the version of a domain."""
        return self.opsets.get(normalise_domain(domain), 1)


@dataclass(frozen=True)
class Value:
    """What a name stands for.

    It is a weight, a result of a node, an input of a graph, or nothing.

    Attributes:
        scope: the scope that it belongs to.
        weight: the weight that it is.
        node: the node that computes it.
        position: which result of the node it is, or which input of the scope.
        missing: the name, if nothing makes it.
    """

    scope: NameScope
    weight: str = ""
    node: NodeProto | None = None
    position: int = 0
    missing: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from other values of its file."""
        if self.weight:
            return ("weight", self.weight)
        return (id(self.scope), id(self.node), self.position, self.missing)


def describe_value(value: Value) -> str:
    """Name a value for a message."""
    if value.weight:
        return f"weight '{value.weight}'"
    if value.node is not None:
        return describe_node(value.node)
    if value.missing:
        return f"'{value.missing}', which nothing makes"
    return f"input {value.position}"
