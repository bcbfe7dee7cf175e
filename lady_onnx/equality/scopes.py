"""TODO."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import AttributeProto, GraphProto, NodeProto, TypeProto, ValueInfoProto

from ..graph.model import Graph
from ..graph.nodes import describe_node, prefix_of_body
from ..semantics.schemas import normalise_domain


class NameScope:
    """The names of one graph, body or function, and what they stand for."""

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
        self.outer = outer
        self.formals = {name: k for k, name in enumerate(formals)}
        self.makers = {
            name: (node, k) for node in nodes for k, name in enumerate(node.output) if name
        }
        self.declared: dict[str, list[TypeProto]] = {}
        for value in declared:
            self.declared.setdefault(value.name, []).append(value.type)
        self._bodies: dict[tuple[int, str, int], NameScope] = {}

    def find(self, name: str) -> Value:
        """What a name stands for."""
        if self.prefix + name in self.graph.tensors:
            return Value(self, weight=self.prefix + name)
        if name in self.makers:
            node, k = self.makers[name]
            return Value(self, node=node, position=k)
        if name in self.formals:
            return Value(self, position=self.formals[name])
        if self.outer is not None:
            return self.outer.find(name)
        return Value(self, missing=name)

    def body(
        self, node: NodeProto, attribute: AttributeProto, graph: GraphProto, k: int = 0
    ) -> NameScope:
        """The scope of a body of a node."""
        key = id(node), attribute.name, k
        if key not in self._bodies:
            prefix = self.prefix + prefix_of_body(node, attribute.name)
            inputs = [v.name for v in graph.input]
            self._bodies[key] = NameScope(
                self.graph, graph.node, inputs, self.opsets, prefix, self, graph.value_info
            )
        return self._bodies[key]

    def types(self, name: str) -> Iterator[tuple[str, TypeProto]]:
        """What the file declares of a value, here and in the graphs around that it may come from, under its full name."""
        for kind in self.declared.get(name, ()):
            yield self.prefix + name, kind
        if self.outer is not None and name not in self.makers and name not in self.formals:
            yield from self.outer.types(name)

    def version(self, domain: str) -> int:
        return self.opsets.get(normalise_domain(domain), 1)


@dataclass(frozen=True)
class Value:
    """A weight, a result of a node, an input of a graph, or a name that nothing makes."""

    scope: NameScope
    weight: str = ""
    node: NodeProto | None = None
    position: int = 0
    missing: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        if self.weight:
            return ("weight", self.weight)
        return (id(self.scope), id(self.node), self.position, self.missing)


def describe_value(value: Value) -> str:
    if value.weight:
        return f"weight '{value.weight}'"
    if value.node is not None:
        return describe_node(value.node)
    return f"'{value.missing}', which nothing makes" if value.missing else f"input {value.position}"
