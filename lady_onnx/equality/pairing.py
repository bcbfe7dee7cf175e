"""Total equality: do two graphs say one program, and which weight of one is which of the other?

Both graphs are walked from their outputs back, side by side. Two values are equal where their operators mean the same,
every attribute is equal, and their operands are equal, position by position; bodies and functions are walked likewise.
Weights are equal so far: they are paired, and whoever asks compares their values, whole. What differs is a difference:
nothing is equal because nobody thought of it (`fields`).
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import onnx.numpy_helper
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
)

from ..errors import ArchitectureError
from ..graph.model import Graph
from ..graph.nodes import describe_node, prefix_of_body, prefix_of_function
from .declared import (
    Said,
    is_covered,
    length_of_dimension,
    list_declared_axes,
    list_declared_lengths,
    name_of_length,
)
from .fields import IGNORED
from .meanings import find_oldest_meaning, find_schema, list_defaults, normalise_domain

COUNTS = ("group", "num_heads", "q_num_heads", "kv_num_heads")
"""Attributes that say how many units of a kind there are."""
MOST_AXES = 8
"""Tensors have no more axes."""
RANDOM_OPERATORS = (
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
"""Operators of which two nodes give two results."""


@dataclass(frozen=True)
class Difference:
    """Where two graphs part.

    Attributes:
        place: the node, the input or the output, as the suspect calls it.
        what: what differs there.
        final: whether what lies before that place has no counterpart.
    """

    place: str
    what: str
    final: bool

    def __str__(self) -> str:
        return f"at {self.place}, {self.what}"


@dataclass(frozen=True)
class Pairing:
    """Two graphs, side by side.

    Attributes:
        weights: the pairs of weights, by name, that stand for each other somewhere, in the order of the walk.
        differences: where the graphs part; none where they say one program, whatever the values of the weights.
        declared: the values of which the suspect declares what the reference does not; it has to follow from the nodes.
        said: what the reference says of the lengths of the suspect's values.
        values: by a value of the suspect, without the prefix of its body, one of the reference's that it is.
    """

    weights: tuple[tuple[str, str], ...]
    differences: tuple[Difference, ...]
    declared: frozenset[str] = frozenset()
    said: Said = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def one_to_one(self) -> dict[str, str] | None:
        """The suspect's weight by the reference's; None where one stands for several."""
        names, back = dict(self.weights), {b: a for a, b in self.weights}
        return names if len(names) == len(back) == len(self.weights) else None


def pair_graphs(reference: Graph, suspect: Graph, sizes: bool = True) -> Pairing:
    """Walks two graphs side by side.

    Args:
        reference, suspect: the graphs.
        sizes: whether the lengths of axes count; without, weights may be longer or shorter, and numbers of groups of
            channels and of heads others.
    """
    walk = _Walk(reference, suspect, sizes)
    walk.run()
    return Pairing(
        tuple(walk.weights),
        tuple(walk.differences),
        frozenset(walk.declared),
        walk.said,
        walk.values,
    )


def pair_weights(reference: Graph, suspect: Graph, sizes: bool = True) -> dict[str, str]:
    """For every weight of the reference that is read the name of the suspect's.

    Raises ArchitectureError with the place where the graphs part.
    """
    found = pair_graphs(reference, suspect, sizes)
    if found.differences:
        raise make_parting_error(reference, suspect, found.differences[0])
    names = found.one_to_one
    if names is None:
        raise make_parting_error(reference, suspect, find_shared_weight(found))
    return names


def find_shared_weight(pairing: Pairing) -> Difference:
    """The first weight that stands for several of the other side."""
    names: dict[str, str] = {}
    back: dict[str, str] = {}
    for a, b in pairing.weights:
        if names.setdefault(a, b) != b or back.setdefault(b, a) != a:
            return Difference(
                f"weight '{b}'",
                f"it and '{a}' stand for each other in one place, and not in another",
                True,
            )
    raise AssertionError(pairing)


def make_parting_error(
    reference: Graph, suspect: Graph, difference: Difference
) -> ArchitectureError:
    """The error that says where two graphs part."""
    return ArchitectureError(
        f"{suspect.name}: another architecture than {reference.name}: {difference}; "
        "compare models exported from the same network"
    )


class _Scope:
    """The names of one graph, body or function, and what they stand for."""

    def __init__(
        self,
        graph: Graph,
        nodes: Iterable[NodeProto],
        formals: Sequence[str],
        opsets: Mapping[str, int],
        prefix: str = "",
        outer: _Scope | None = None,
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
        self._bodies: dict[tuple[int, str, int], _Scope] = {}

    def find(self, name: str) -> _Value:
        """What a name stands for."""
        if self.prefix + name in self.graph.tensors:
            return _Value(self, weight=self.prefix + name)
        if name in self.makers:
            node, k = self.makers[name]
            return _Value(self, node=node, position=k)
        if name in self.formals:
            return _Value(self, position=self.formals[name])
        if self.outer is not None:
            return self.outer.find(name)
        return _Value(self, missing=name)

    def body(
        self, node: NodeProto, attribute: AttributeProto, graph: GraphProto, k: int = 0
    ) -> _Scope:
        """The scope of a body of a node."""
        key = id(node), attribute.name, k
        if key not in self._bodies:
            prefix = self.prefix + prefix_of_body(node, attribute.name)
            inputs = [v.name for v in graph.input]
            self._bodies[key] = _Scope(
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
class _Value:
    """A weight, a result of a node, an input of a graph, or a name that nothing makes."""

    scope: _Scope
    weight: str = ""
    node: NodeProto | None = None
    position: int = 0
    missing: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        if self.weight:
            return ("weight", self.weight)
        return (id(self.scope), id(self.node), self.position, self.missing)


@dataclass
class _Walk:
    reference: Graph
    suspect: Graph
    sizes: bool
    weights: dict[tuple[str, str], None] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    waiting: list[tuple[_Value, _Value, str]] = field(default_factory=list)
    seen: set[tuple[object, object]] = field(default_factory=set)
    scopes: set[tuple[int, int]] = field(default_factory=set)
    drawn: dict[tuple[int, object], object] = field(default_factory=dict)
    """By side and random value its counterpart, of which there is one."""
    functions: dict[tuple[int, str], _Scope] = field(default_factory=dict)
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
            _Scope(
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
            if kind == "input" and not _same_type(a.type, b.type):
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
        for k, (x, y) in enumerate(
            zip_longest(list_declared_axes(ours), list_declared_axes(theirs))
        ):
            said = length_of_dimension(x)
            if said is not None:
                self.said[name, k] = said
            called = name_of_length(y) if y is not None else ""
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

    def _wait(self, one: _Scope, a: str, two: _Scope, b: str, where: str) -> None:
        """What two names stand for is compared in its turn, what is declared of them at once."""
        self.waiting.append((one.find(a), two.find(b), where))
        self.values[b] = a
        ours = [kind for _, kind in one.types(a)] or [TypeProto()]
        for name, theirs in two.types(b):
            own = next((kind for kind in ours if is_within(theirs, kind)), None)
            if own is None:
                self.declared.add(name)
            self._lengths(where, name, ours[0] if own is None else own, theirs, is_given=False)

    def _values(self, a: _Value, b: _Value, where: str) -> None:
        if (a.key, b.key) in self.seen:
            return
        self.seen.add((a.key, b.key))
        if a.weight or b.weight:
            self._weights(a, b, where)
        elif a.node is not None and b.node is not None:
            self._nodes(a, b)
        elif a.node is not None or b.node is not None:
            this = f"it reads {_called(b)} where the reference reads {_called(a)}"
            self.differ(where, this, final=True)
        elif (
            a.missing
            or b.missing
            or (id(a.scope), id(b.scope)) not in self.scopes
            or a.position != b.position
        ):
            self.differ(
                where, f"it reads {_called(b)} where the reference reads {_called(a)}", final=True
            )

    def _weights(self, a: _Value, b: _Value, where: str) -> None:
        if not (a.weight and b.weight):
            name = b.weight or _called(b)
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

    def _nodes(self, a: _Value, b: _Value) -> None:
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

    def _random(self, a: _Value, b: _Value, place: str) -> None:
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

    def _operators(self, one: _Scope, a: NodeProto, two: _Scope, b: NodeProto, place: str) -> bool:
        """Compares two nodes but for their operands; False where these are no counterparts."""
        functions = [_function(s.graph, n) for s, n in ((one, a), (two, b))]
        mine = [(n.op_type, normalise_domain(n.domain), n.overload) for n in (a, b)]
        if (functions[0] is None) != (functions[1] is None) or (
            mine[0] != mine[1] and any(functions)
        ):
            self.differ(place, f"the reference has {describe_node(a)}", final=True)
            return False
        if [bool(n) for n in _trimmed(a.output)] != [bool(n) for n in _trimmed(b.output)]:
            self.differ(
                place,
                f"its results are others than those of the reference's {describe_node(a)}",
                final=True,
            )
            return False
        if len(_trimmed(a.input)) != len(_trimmed(b.input)):
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

    def _operands(self, one: _Scope, a: NodeProto, two: _Scope, b: NodeProto, place: str) -> None:
        # the last one waits on top: what is found first lies nearest to the outputs
        for x, y in reversed(list(zip(_trimmed(a.input), _trimmed(b.input), strict=True))):
            if bool(x) != bool(y):
                self.differ(
                    place, "an operand that may be left out is left out in one model", final=True
                )
            elif x:
                self._wait(one, x, two, y, place)

    def _attributes(self, one: _Scope, a: NodeProto, two: _Scope, b: NodeProto, place: str) -> None:
        ours, theirs = (_attributes(n, s.version(n.domain)) for n, s in ((a, one), (b, two)))
        for name in sorted(ours.keys() | theirs.keys()):
            if name in COUNTS and not self.sizes:
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
        one: _Scope,
        a: NodeProto,
        x: AttributeProto,
        two: _Scope,
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
                if not _same_type(p.type, q.type):
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

    def _scope_of(self, side: int, function: FunctionProto) -> _Scope:
        graph = (self.reference, self.suspect)[side]
        prefix = prefix_of_function(function)
        if (side, prefix) not in self.functions:
            opsets = {normalise_domain(o.domain): o.version for o in function.opset_import}
            self.functions[side, prefix] = _Scope(
                graph, function.node, function.input, opsets, prefix, declared=function.value_info
            )
        return self.functions[side, prefix]


def _called(value: _Value) -> str:
    if value.weight:
        return f"weight '{value.weight}'"
    if value.node is not None:
        return describe_node(value.node)
    return f"'{value.missing}', which nothing makes" if value.missing else f"input {value.position}"


def _trimmed(names: Sequence[str]) -> list[str]:
    """Operands or results without the empty names at the end, which are left out."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def _function(graph: Graph, node: NodeProto) -> FunctionProto | None:
    """The local function that a node calls."""
    return graph.functions.get((normalise_domain(node.domain), node.op_type, node.overload))


def _attributes(node: NodeProto, version: int) -> dict[str, AttributeProto]:
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
    return len(shape) < 2 and math.prod(shape) <= MOST_AXES


@functools.cache
def _fields(name: str, descriptor: object) -> tuple[FieldDescriptor, ...]:
    fields: Sequence[FieldDescriptor] = descriptor.fields  # type: ignore[attr-defined]
    return tuple(f for f in fields if f"{name}.{f.name}" not in IGNORED)


def is_same_message(a: Message, b: Message) -> bool:
    """Are two messages of one kind equal, field by field, but for fields that cannot change what is computed?"""
    if isinstance(a, TensorProto) and isinstance(b, TensorProto):
        return _same_tensor(a, b)
    name = a.DESCRIPTOR.full_name.removeprefix("onnx.")
    return all(_same_field(a, b, f) for f in _fields(name, a.DESCRIPTOR))


def _same_field(a: Message, b: Message, f: FieldDescriptor) -> bool:
    x, y = getattr(a, f.name), getattr(b, f.name)
    if f.is_repeated:
        return len(x) == len(y) and all(_same_item(p, q, f) for p, q in zip(x, y, strict=True))
    if f.message_type is not None and not (a.HasField(f.name) and b.HasField(f.name)):
        return a.HasField(f.name) == b.HasField(f.name)
    # a number that is not given is zero
    return _same_item(x, y, f)


def _same_item(x: object, y: object, f: FieldDescriptor) -> bool:
    if f.message_type is not None:
        assert isinstance(x, Message)
        assert isinstance(y, Message)
        return is_same_message(x, y)
    if isinstance(x, float) and isinstance(y, float):
        return struct.pack("<d", x) == struct.pack("<d", y)
    return x == y


def _is_written_alike(a: Message, b: Message) -> bool:
    """Are two messages the same bytes?"""
    return a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True)


def _same_tensor(a: TensorProto, b: TensorProto) -> bool:
    """Are two tensors that stand in attributes equal, bit for bit?"""
    if a.data_type != b.data_type or list(a.dims) != list(b.dims):
        return False
    if a.data_location == TensorProto.EXTERNAL or b.data_location == TensorProto.EXTERNAL:
        return _is_written_alike(a, b)
    if a.data_type == TensorProto.STRING:
        return list(a.string_data) == list(b.string_data)
    try:
        x, y = onnx.numpy_helper.to_array(a), onnx.numpy_helper.to_array(b)
    except (TypeError, ValueError):
        # one that holds too little is equal to itself alone
        return _is_written_alike(a, b)
    return bool(x.tobytes() == y.tobytes())


def is_within(declared: TypeProto, other: TypeProto) -> bool:
    """Does what one file declares of a value say nothing that another declaration does not say?"""
    if not declared.WhichOneof("value"):
        return True
    if not (declared.HasField("tensor_type") and other.HasField("tensor_type")):
        return is_same_message(declared, other)
    return is_covered(declared, other.tensor_type.elem_type, list_declared_lengths(other))


def _same_type(a: TypeProto, b: TypeProto) -> bool:
    """Do two inputs of a graph declare the same type and shape?"""
    return is_within(a, b) and is_within(b, a)
