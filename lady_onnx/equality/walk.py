"""TODO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, TypeProto, ValueInfoProto

from ..graph.model import Graph
from ..graph.nodes import describe_node, prefix_of_function
from ..rules.classes import RANDOM_OPERATORS
from ..semantics.declarations import read_length, read_length_name, walk_dimensions
from ..semantics.messages import is_same_message, is_same_type, is_within
from ..semantics.schemas import find_schema, list_defaults, normalise_domain
from .findings import Difference
from .scopes import NameScope, Value, describe_value
from .versions import find_oldest_meaning

COUNT_ATTRIBUTES = ("group", "num_heads", "q_num_heads", "kv_num_heads")
"""Attributes that say how many units of a kind there are."""


MAX_RANK = 8
"""Tensors have no more axes."""


@dataclass
class Walk:
    reference: Graph
    suspect: Graph
    sizes: bool
    weights: dict[tuple[str, str], None] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    waiting: list[tuple[Value, Value, str]] = field(default_factory=list)
    seen: set[tuple[object, object]] = field(default_factory=set)
    scopes: set[tuple[int, int]] = field(default_factory=set)
    drawn: dict[tuple[int, object], object] = field(default_factory=dict)
    """By side and random value its counterpart, of which there is one."""
    functions: dict[tuple[int, str], NameScope] = field(default_factory=dict)
    lengths: dict[str, object] = field(default_factory=dict)
    """By the suspect's name of a length what the reference calls it."""
    said: dict[tuple[str, int], int | str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)
    alike: dict[tuple[int, int], bool] = field(default_factory=dict)
    """Of two nodes, by identity, whether they differ in nothing but their operands."""

    def differ(self, place: str, what: str, final: bool = False) -> None:
        self.differences.append(Difference(place, what, final))

    def run(self) -> None:
        inputs = [[v.name for v in g.required_inputs] for g in (self.reference, self.suspect)]
        if set(inputs[0]) == set(inputs[1]):
            # another order is a difference; what has one name is each other's all the same
            inputs[1] = inputs[0]
        sides = zip((self.reference, self.suspect), inputs, strict=True)
        one, two = (
            # an input that has a default is a weight
            NameScope(
                g,
                g.model.graph.node,
                names,
                g.opsets,
                declared=(*g.model.graph.value_info, *g.model.graph.input),
            )
            for g, names in sides
        )
        self.scopes.add((id(one), id(two)))
        self._interface("input", self.reference.required_inputs, self.suspect.required_inputs)
        ends = self.reference.model.graph.output, self.suspect.model.graph.output
        self._interface("output", *ends)
        names = [[v.name for v in end] for end in ends]
        if set(names[0]) == set(names[1]):
            names[1] = names[0]
        for a, b in zip(*names, strict=False):
            self._wait(one, a, two, b, f"output '{b}'")
        while self.waiting:
            self._values(*self.waiting.pop())

    # ---- the interface

    def _interface(
        self, kind: str, ours: Sequence[ValueInfoProto], theirs: Sequence[ValueInfoProto]
    ) -> None:
        if len(ours) != len(theirs):
            self.differ(
                f"the {kind}s", f"there are {len(theirs)} where the reference has {len(ours)}"
            )
        for a, b in zip(ours, theirs, strict=False):
            if a.name != b.name:
                self.differ(f"{kind} '{b.name}'", f"the reference has '{a.name}' in its place")
                continue
            elem_types = [v.type.tensor_type.elem_type for v in (a, b)]
            if kind == "input" and not is_same_type(a.type, b.type):
                self.differ(
                    f"{kind} '{b.name}'",
                    "its declared type or shape is another than the reference's",
                )
            elif len(set(elem_types)) > 1:
                self.differ(
                    f"{kind} '{b.name}'",
                    "its declared element type is another than the reference's",
                )
            elif not is_within(b.type, a.type):
                # what an output's shape is follows from the nodes
                self.declared.add(b.name)
            self._lengths(f"{kind} '{b.name}'", b.name, a.type, b.type, kind == "input")

    def _lengths(
        self, place: str, name: str, ours: TypeProto, theirs: TypeProto, is_given: bool
    ) -> None:
        """Compares what two files say by giving lengths one name: that they are equal.

        What is given to a graph follows from nothing: the reference has to say the same.
        """
        for k, (x, y) in enumerate(zip_longest(walk_dimensions(ours), walk_dimensions(theirs))):
            said = read_length(x)
            if said is not None:
                self.said[name, k] = said
            called = read_length_name(y) if y is not None else ""
            if not called:
                continue
            if said is None and not is_given:
                self.declared.add(name)
                continue
            named = ("nothing", name, k) if said is None else said
            if self.lengths.setdefault(called, named) != named:
                if is_given:
                    what = f"length {k} is called '{called}', like others that the reference does not say to be equal"
                    self.differ(place, what)
                self.declared.add(name)

    # ---- values

    def _wait(self, one: NameScope, a: str, two: NameScope, b: str, where: str) -> None:
        """What two names stand for is compared in its turn, what is declared of them at once."""
        self.waiting.append((one.find(a), two.find(b), where))
        self.values[b] = a
        ours = [kind for _, kind in one.types(a)] or [TypeProto()]
        for name, theirs in two.types(b):
            own = next((kind for kind in ours if is_within(theirs, kind)), None)
            if own is None:
                self.declared.add(name)
            self._lengths(where, name, ours[0] if own is None else own, theirs, is_given=False)

    def _values(self, a: Value, b: Value, where: str) -> None:
        if (a.key, b.key) in self.seen:
            return
        self.seen.add((a.key, b.key))
        if a.weight or b.weight:
            self._weights(a, b, where)
        elif a.node is not None and b.node is not None:
            self._nodes(a, b)
        elif a.node is not None or b.node is not None:
            this = f"it reads {describe_value(b)} where the reference reads {describe_value(a)}"
            self.differ(where, this, final=True)
        elif (
            a.missing
            or b.missing
            or (id(a.scope), id(b.scope)) not in self.scopes
            or a.position != b.position
        ):
            self.differ(
                where,
                f"it reads {describe_value(b)} where the reference reads {describe_value(a)}",
                final=True,
            )

    def _weights(self, a: Value, b: Value, where: str) -> None:
        if not (a.weight and b.weight):
            name = b.weight or describe_value(b)
            self.differ(
                where, f"'{name}' is a weight in one model and computed in the other", final=True
            )
            return
        ours, theirs = self.reference, self.suspect
        shapes = ours.shape(a.weight), theirs.shape(b.weight)
        if not self.sizes and all(
            _is_count(g, n) for g, n in ((ours, a.weight), (theirs, b.weight))
        ):
            # exporters write equal shapes once: which are equal depends on the sizes
            if all(a.weight != name for name, _ in self.weights):
                self.weights[a.weight, b.weight] = None
            return
        if shapes[0] != shapes[1] and (self.sizes or len(shapes[0]) != len(shapes[1])):
            what = f"weight '{b.weight}' has shape {list(shapes[1])}, the reference's {list(shapes[0])}"
            self.differ(where, what, final=True)
        elif ours.tensors[a.weight].data_type != theirs.tensors[b.weight].data_type:
            kinds = [
                TensorProto.DataType.Name(g.tensors[n].data_type)
                for g, n in ((theirs, b.weight), (ours, a.weight))
            ]
            self.differ(
                where, f"weight '{b.weight}' is {kinds[0]}, the reference's {kinds[1]}", final=True
            )
        else:
            self.weights[a.weight, b.weight] = None

    def _nodes(self, a: Value, b: Value) -> None:
        x, y = a.node, b.node
        assert x is not None
        assert y is not None
        place = f"node {describe_node(y)}"
        if a.position != b.position:
            self.differ(
                place,
                f"result {b.position} stands where the reference has result {a.position}",
                final=True,
            )
            return
        key = id(x), id(y)
        if key not in self.alike:
            before = len(self.differences)
            self.alike[key] = self._operators(a.scope, x, b.scope, y, place)
            if self.alike[key]:
                self._operands(a.scope, x, b.scope, y, place)
            elif len(self.differences) == before:
                raise AssertionError("a difference that is not named")
        if (
            x.op_type in RANDOM_OPERATORS
            or find_schema(x.op_type, x.domain, a.scope.version(x.domain)) is None
        ):
            self._random(a, b, place)

    def _random(self, a: Value, b: Value, place: str) -> None:
        """What two nodes draw, or an operator that nothing is known about gives, is one thing for each node."""
        if (id(a.scope), id(b.scope)) not in self.scopes:
            self.differ(place, "what is drawn anew in a body is not drawn anew in the other model")
        if (
            self.drawn.setdefault((0, a.key), b.key) != b.key
            or self.drawn.setdefault((1, b.key), a.key) != a.key
        ):
            self.differ(
                place, "one node stands where the reference has several, or the other way round"
            )

    # ---- nodes

    def _operators(
        self, one: NameScope, a: NodeProto, two: NameScope, b: NodeProto, place: str
    ) -> bool:
        """Compares two nodes but for their operands; False where these are no counterparts."""
        functions = [_find_function(s.graph, n) for s, n in ((one, a), (two, b))]
        mine = [(n.op_type, normalise_domain(n.domain), n.overload) for n in (a, b)]
        if (functions[0] is None) != (functions[1] is None) or (
            mine[0] != mine[1] and any(functions)
        ):
            self.differ(place, f"the reference has {describe_node(a)}", final=True)
            return False
        if [bool(n) for n in _trim_names(a.output)] != [bool(n) for n in _trim_names(b.output)]:
            self.differ(
                place,
                f"its results are others than those of the reference's {describe_node(a)}",
                final=True,
            )
            return False
        if len(_trim_names(a.input)) != len(_trim_names(b.input)):
            self.differ(
                place,
                f"the number of operands is another than that of the reference's {describe_node(a)}",
                final=True,
            )
            return False
        if functions[0] is not None and functions[1] is not None:
            self._call(functions[0], functions[1], place)
        elif mine[0] != mine[1]:
            self.differ(place, f"the reference has {describe_node(a)}")
        else:
            versions = [
                find_oldest_meaning(n.op_type, n.domain, s.version(n.domain))
                for s, n in ((one, a), (two, b))
            ]
            if versions[0] != versions[1]:
                its = [s.version(n.domain) for s, n in ((two, b), (one, a))]
                text = f"it is an operator of version {its[0]} of its domain, in the reference of {its[1]}, and they differ"
                self.differ(place, text)
        self._attributes(one, a, two, b, place)
        return True

    def _operands(
        self, one: NameScope, a: NodeProto, two: NameScope, b: NodeProto, place: str
    ) -> None:
        # the last one waits on top: what is found first lies nearest to the outputs
        for x, y in reversed(list(zip(_trim_names(a.input), _trim_names(b.input), strict=True))):
            if bool(x) != bool(y):
                self.differ(
                    place, "an operand that may be left out is left out in one model", final=True
                )
            elif x:
                self._wait(one, x, two, y, place)

    def _attributes(
        self, one: NameScope, a: NodeProto, two: NameScope, b: NodeProto, place: str
    ) -> None:
        ours, theirs = (_read_attributes(n, s.version(n.domain)) for n, s in ((a, one), (b, two)))
        for name in sorted(ours.keys() | theirs.keys()):
            if name in COUNT_ATTRIBUTES and not self.sizes:
                continue
            x, y = ours.get(name), theirs.get(name)
            if x is None or y is None:
                self.differ(place, f"attribute '{name}' stands in one model alone")
            elif x.type == y.type and x.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                self._bodies(one, a, x, two, b, y, place)
            elif not is_same_message(x, y):
                self.differ(place, f"attribute '{name}' is another")

    def _bodies(
        self,
        one: NameScope,
        a: NodeProto,
        x: AttributeProto,
        two: NameScope,
        b: NodeProto,
        y: AttributeProto,
        place: str,
    ) -> None:
        graphs = [[t.g] if t.type == AttributeProto.GRAPH else list(t.graphs) for t in (x, y)]
        if len(graphs[0]) != len(graphs[1]):
            self.differ(place, f"attribute '{x.name}' has another number of bodies")
        for k, (g, h) in enumerate(zip(*graphs, strict=False)):
            if len(g.input) != len(h.input) or len(g.output) != len(h.output):
                self.differ(
                    place, f"the body '{x.name}' has other numbers of inputs or outputs", final=True
                )
                continue
            ends = zip((*g.input, *g.output), (*h.input, *h.output), strict=True)
            for p, q in ends:
                # a type that contradicts the values makes a runtime stop
                if not is_same_type(p.type, q.type):
                    self.differ(
                        place, f"the body '{x.name}' declares another type or shape of '{q.name}'"
                    )
            mine, other = one.body(a, x, g, k), two.body(b, y, h, k)
            for is_given, starts in ((True, (g.input, h.input)), (False, (g.output, h.output))):
                for p, q in zip(*starts, strict=True):
                    self._lengths(
                        f"{place}, body '{x.name}'", other.prefix + q.name, p.type, q.type, is_given
                    )
            self.scopes.add((id(mine), id(other)))
            for p, q in zip(g.output, h.output, strict=True):
                self._wait(mine, p.name, other, q.name, f"{place}, body '{x.name}'")

    # ---- functions

    def _call(self, a: FunctionProto, b: FunctionProto, place: str) -> None:
        """Compares two local functions, once."""
        scopes = [self._scope_of(k, f) for k, f in enumerate((a, b))]
        pair = id(scopes[0]), id(scopes[1])
        if pair in self.scopes:
            return
        self.scopes.add(pair)
        if len(a.input) != len(b.input) or len(a.output) != len(b.output):
            self.differ(
                place, f"the function '{b.name}' has other numbers of inputs or outputs", final=True
            )
            return
        defaults = [{x.name: x for x in f.attribute_proto} for f in (a, b)]
        if set(a.attribute) != set(b.attribute) or defaults[0].keys() != defaults[1].keys():
            self.differ(place, f"the function '{b.name}' has other attributes")
        for name in sorted(defaults[0].keys() & defaults[1].keys()):
            if not is_same_message(defaults[0][name], defaults[1][name]):
                self.differ(place, f"the default of '{name}' of the function '{b.name}' is another")
        for x, y in zip(a.output, b.output, strict=True):
            self._wait(scopes[0], x, scopes[1], y, f"{place}, function '{b.name}'")

    def _scope_of(self, side: int, function: FunctionProto) -> NameScope:
        graph = (self.reference, self.suspect)[side]
        prefix = prefix_of_function(function)
        if (side, prefix) not in self.functions:
            opsets = {normalise_domain(o.domain): o.version for o in function.opset_import}
            self.functions[side, prefix] = NameScope(
                graph, function.node, function.input, opsets, prefix, declared=function.value_info
            )
        return self.functions[side, prefix]


def _trim_names(names: Sequence[str]) -> list[str]:
    """Operands or results without the empty names at the end, which are left out."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def _find_function(graph: Graph, node: NodeProto) -> FunctionProto | None:
    """The local function that a node calls."""
    return graph.functions.get((normalise_domain(node.domain), node.op_type, node.overload))


def _read_attributes(node: NodeProto, version: int) -> dict[str, AttributeProto]:
    """The attributes of a node, with the defaults of those that it leaves out."""
    return {
        **list_defaults(node.op_type, node.domain, version),
        **{a.name: a for a in node.attribute},
    }


def _is_count(graph: Graph, name: str) -> bool:
    """Is this one of the constants that say how long axes are?"""
    if graph.tensors[name].data_type not in (TensorProto.INT64, TensorProto.INT32):
        return False
    shape = graph.shape(name)
    return len(shape) < 2 and math.prod(shape) <= MAX_RANK
