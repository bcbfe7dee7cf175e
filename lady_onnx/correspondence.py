"""Which weight of the suspect is which of the reference: two graphs, node by node."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from .errors import ArchitectureError
from .graph import Graph, by_name, in_function, inside, label, ordered

MANY = ("group", "num_heads", "q_num_heads", "kv_num_heads")
"""Attributes that say how many units there are of a kind."""
MOST_AXES = 8
"""Tensors have no more axes."""


def correspond(reference: Graph, suspect: Graph, sizes: bool = True) -> dict[str, str]:
    """For every weight of the reference the name of the suspect's.

    Both graphs must have the same nodes in the same order, wired alike, in their subgraphs and functions too;
    names are free. Without `sizes`, axes of weights may be longer or shorter, and numbers of groups of channels and of
    heads others. Raises ArchitectureError with the place where they part.
    """
    walk = _Walk(reference, suspect, sizes)
    walk.graphs(_Side(reference), _Side(suspect), reference.model.graph, suspect.model.graph)
    for domain in sorted({n.domain for g in (reference, suspect) for n in g.model.graph.node}):
        versions = [g.opset(domain) for g in (suspect, reference)]
        if versions[0] != versions[1]:
            raise walk.part(
                "the operator sets", f"'{domain or 'ai.onnx'}' has version {versions[0]}, the reference's {versions[1]}"
            )
    ours, theirs = (sorted(g.model.functions, key=in_function) for g in (reference, suspect))
    if [in_function(f) for f in ours] != [in_function(f) for f in theirs]:
        raise walk.part("the functions", "their names differ")
    for f, g in zip(ours, theirs, strict=True):
        for what in ("attribute", "attribute_proto", "opset_import"):
            mine, other = (sorted(_bytes(a) for a in getattr(x, what)) for x in (f, g))
            if mine != other:
                raise walk.part(f"the function '{f.name}'", f"its {what} is another")
        one, two = _Side(reference, in_function(f)), _Side(suspect, in_function(g))
        walk.values(one, two, "input", f.input, g.input)
        walk.nodes(one, two, f.node, g.node)
        walk.values(one, two, "output", f.output, g.output)
    return {a: b for a, b in walk.names.items() if a in reference.tensors}


@dataclass(frozen=True)
class _Side:
    """One of the two models, inside one of its graphs."""

    graph: Graph
    prefix: str = ""
    own: frozenset[str] = frozenset()
    outer: _Side | None = None

    def name(self, name: str) -> str:
        """What a name stands for, in the whole model."""
        if not name:
            return ""
        if self.outer is None or name in self.own or self.prefix + name in self.graph.tensors:
            return self.prefix + name
        return self.outer.name(name)

    def inner(self, node: NodeProto, attribute: AttributeProto) -> _Side:
        own = {i.name for i in attribute.g.input} | {o for n in attribute.g.node for o in n.output}
        return _Side(self.graph, self.prefix + inside(node, attribute.name), frozenset(own), self)


@dataclass
class _Walk:
    reference: Graph
    suspect: Graph
    sizes: bool
    names: dict[str, str] = field(default_factory=dict)
    back: dict[str, str] = field(default_factory=dict)

    def part(self, where: str, what: str) -> ArchitectureError:
        return ArchitectureError(
            f"{self.suspect.name}: another architecture than {self.reference.name}: at {where}, {what}; "
            "compare models exported from the same network"
        )

    def same(self, a: str, b: str, where: str) -> None:
        if not self.sizes and self._counts(self.reference, a) and self._counts(self.suspect, b):
            # exporters write equal shapes once: which are equal depends on the sizes
            self.names.setdefault(a, b)
        elif (a == "") != (b == "") or self.names.setdefault(a, b) != b or self.back.setdefault(b, a) != a:
            raise self.part(where, f"'{b}' stands where the reference has '{a}'")

    @staticmethod
    def _counts(graph: Graph, name: str) -> bool:
        """Is this one of the constants that say how long axes are?"""
        if name not in graph.tensors or graph.tensors[name].data_type not in (TensorProto.INT64, TensorProto.INT32):
            return False
        shape = graph.shape(name)
        return len(shape) < 2 and math.prod(shape) <= MOST_AXES

    def values(self, one: _Side, two: _Side, kind: str, ours: Iterable[str], theirs: Iterable[str]) -> None:
        """The inputs or outputs of a graph."""
        a = [one.name(v) for v in ours if kind == "output" or one.name(v) not in self.reference.tensors]
        b = [two.name(v) for v in theirs if kind == "output" or two.name(v) not in self.suspect.tensors]
        if len(a) != len(b):
            raise self.part(f"the {kind}s", f"there are {len(b)} where the reference has {len(a)}")
        for x, y in by_name(a, b):
            self.same(x, y, f"the {kind}s")

    def graphs(self, one: _Side, two: _Side, a: GraphProto, b: GraphProto) -> None:
        self.values(one, two, "input", [v.name for v in a.input], [v.name for v in b.input])
        if len(a.output) != len(b.output):
            raise self.part("the outputs", f"there are {len(b.output)} where the reference has {len(a.output)}")
        self.nodes(one, two, a.node, b.node)
        self.values(one, two, "output", [v.name for v in a.output], [v.name for v in b.output])

    def nodes(self, one: _Side, two: _Side, a: Iterable[NodeProto], b: Iterable[NodeProto]) -> None:
        mine = [n for n in ordered(a) if not {one.name(o) for o in n.output} & self.reference.tensors.keys()]
        other = [n for n in ordered(b) if not {two.name(o) for o in n.output} & self.suspect.tensors.keys()]
        for x, y in itertools.zip_longest(mine, other):
            if x is None or y is None:
                raise self.part("the last node", f"it has {len(other)} nodes where the reference has {len(mine)}")
            self._node(one, two, x, y)

    def _node(self, one: _Side, two: _Side, a: NodeProto, b: NodeProto) -> None:
        where = f"node {label(b)}"
        if (a.op_type, a.domain) != (b.op_type, b.domain):
            raise self.part(where, f"the reference has {label(a)}")
        if len(a.input) != len(b.input) or len(a.output) != len(b.output):
            raise self.part(where, "the number of operands differs")
        for x, y in zip(_renamed(one, [*a.input, *a.output]), _renamed(two, [*b.input, *b.output]), strict=True):
            self._tensors(x, y, where)
            if x or y:
                self.same(x, y, where)
        ours, theirs = ({x.name: x for x in n.attribute} for n in (a, b))
        if ours.keys() != theirs.keys():
            raise self.part(where, "the attributes differ")
        for name, mine in ours.items():
            other = theirs[name]
            if mine.type == AttributeProto.GRAPH and other.type == AttributeProto.GRAPH:
                self.graphs(one.inner(a, mine), two.inner(b, other), mine.g, other.g)
            elif name in MANY and not self.sizes:
                continue
            elif mine.SerializeToString(deterministic=True) != other.SerializeToString(deterministic=True):
                raise self.part(where, "the attributes differ")

    def _tensors(self, a: str, b: str, where: str) -> None:
        ours, theirs = self.reference, self.suspect
        if (a in ours.tensors) != (b in theirs.tensors):
            raise self.part(where, f"'{b}' is a weight in one model and computed in the other")
        if a not in ours.tensors:
            return
        if ours.shape(a) != theirs.shape(b) and (self.sizes or len(ours.shape(a)) != len(theirs.shape(b))):
            what = f"shape {list(theirs.shape(b))}, the reference's {list(ours.shape(a))}"
            raise self.part(where, f"weight '{b}' has {what}")
        if ours.tensors[a].data_type != theirs.tensors[b].data_type:
            kinds = [TensorProto.DataType.Name(t.data_type) for t in (theirs.tensors[b], ours.tensors[a])]
            raise self.part(where, f"weight '{b}' is {kinds[0]}, the reference's {kinds[1]}")


def _bytes(entry: str | Message) -> bytes:
    return entry.encode() if isinstance(entry, str) else entry.SerializeToString(deterministic=True)


def _renamed(side: _Side, names: Sequence[str]) -> list[str]:
    return [side.name(n) for n in names]
