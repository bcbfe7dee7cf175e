"""Walks two graphs side by side, from their outputs back.

Two values are equal where their operators mean the same, every attribute is equal, and their
operands are equal, position by position; bodies and functions are walked likewise. What differs is
a difference: nothing is equal because nobody thought of it (`semantics.fields`).
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto

from ..graph.model import Graph
from ..graph.nodes import prefix_of_function
from ..semantics.messages import is_same_message, is_same_type
from ..vocabulary.classes import RANDOM_OPERATORS
from ..vocabulary.schemas import find_schema, list_defaults
from ..vocabulary.structure import normalise_domain
from .declaration_comparison import DeclarationComparison
from .findings import Findings
from .node_comparison import (
    NodePair,
    find_difference_of_meaning,
    find_function,
    find_misfit,
)
from .operands import OperandMatcher
from .scopes import NameScope, Value, describe_value
from .weight_comparison import compare_weights

COUNT_ATTRIBUTES = ("group", "num_heads", "q_num_heads", "kv_num_heads")
"""Attributes that say how many units of a kind there are.

They follow from the sizes of weights, so that they count where those do.
"""


class Walk:
    """Walks two graphs side by side.

    Args:
        reference, suspect: the graphs.
        with_sizes: whether lengths of axes, and counts of groups and heads, count.

    Attributes:
        findings: what is found.
    """

    def __init__(self, reference: Graph, suspect: Graph, with_sizes: bool):
        self._reference = reference
        self._suspect = suspect
        self._with_sizes = with_sizes
        self.findings = Findings()
        self._declarations = DeclarationComparison(self.findings)
        self._waiting: list[tuple[Value, Value, str]] = []
        """Pairs of values that are still to be compared, and where they are met."""
        self._seen: set[tuple[object, object]] = set()
        self._paired_scopes: set[tuple[int, int]] = set()
        self._drawn: dict[tuple[int, object], object] = {}
        """The one counterpart of a random value, by its side and key."""
        self._functions: dict[tuple[int, str], NameScope] = {}
        self._compared_nodes: set[tuple[int, int]] = set()
        self._operands = OperandMatcher(with_sizes)

    def run(self) -> Findings:
        """Walk the graphs, and return what is found."""
        reference, suspect = self._reference, self._suspect
        inputs = [[v.name for v in g.required_inputs] for g in (reference, suspect)]
        if set(inputs[0]) == set(inputs[1]):
            # another order is a difference, but inputs of one name are still each other's
            inputs[1] = inputs[0]
        one, two = (
            # an input that has a default is a weight
            NameScope(
                g,
                g.model.graph.node,
                names,
                g.opsets,
                declared=(*g.model.graph.value_info, *g.model.graph.input),
            )
            for g, names in zip((reference, suspect), inputs, strict=True)
        )
        self._paired_scopes.add((id(one), id(two)))
        ends = reference.model.graph.output, suspect.model.graph.output
        self._declarations.compare_interface(
            "input", reference.required_inputs, suspect.required_inputs
        )
        self._declarations.compare_interface("output", *ends)
        names = [[v.name for v in end] for end in ends]
        if set(names[0]) == set(names[1]):
            names[1] = names[0]
        for a, b in zip(*names, strict=False):
            self._queue(one, a, two, b, f"output '{b}'")
        while self._waiting:
            self._compare_values(*self._waiting.pop())
        return self.findings

    # ---- values

    def _queue(self, one: NameScope, a: str, two: NameScope, b: str, place: str) -> None:
        """Queue what two names stand for, and compare at once what is declared of them."""
        self._waiting.append((one.find_value(a), two.find_value(b), place))
        self.findings.values[b] = a
        self._declarations.compare_values(one, a, two, b, place)

    def _compare_values(self, a: Value, b: Value, place: str) -> None:
        if (a.key, b.key) in self._seen:
            return
        self._seen.add((a.key, b.key))
        if a.weight or b.weight:
            compare_weights(
                self.findings, self._reference, self._suspect, a, b, place, self._with_sizes
            )
        elif a.node is not None and b.node is not None:
            self._compare_results(a, b, NodePair(a.scope, a.node, b.scope, b.node))
        elif (
            a.node is not None
            or b.node is not None
            or a.missing
            or b.missing
            or (id(a.scope), id(b.scope)) not in self._paired_scopes
            or a.position != b.position
        ):
            what = f"it reads {describe_value(b)} where the reference reads {describe_value(a)}"
            self.findings.add_difference(place, what, is_final=True)

    def _compare_results(self, a: Value, b: Value, pair: NodePair) -> None:
        """Compare two results of nodes."""
        if a.position != b.position:
            what = f"result {b.position} stands where the reference has result {a.position}"
            self.findings.add_difference(pair.place, what, is_final=True)
            return
        if pair.key not in self._compared_nodes:
            self._compared_nodes.add(pair.key)
            before = len(self.findings.differences)
            if self._compare_nodes(pair):
                self._compare_operands(pair)
            elif len(self.findings.differences) == before:
                raise AssertionError("a difference that is not named")
        operator, domain = pair.a.op_type, pair.a.domain
        version = a.scope.read_version(domain)
        if operator in RANDOM_OPERATORS or find_schema(operator, domain, version) is None:
            self._compare_random_values(a, b, pair.place)

    def _compare_random_values(self, a: Value, b: Value, place: str) -> None:
        """Compare values that differ from node to node: each has one counterpart.

        Such values are drawn, or given by an operator that nothing is known about.
        """
        if (id(a.scope), id(b.scope)) not in self._paired_scopes:
            self.findings.add_difference(
                place, "what is drawn anew in a body is not drawn anew in the other model"
            )
        if (
            self._drawn.setdefault((0, a.key), b.key) != b.key
            or self._drawn.setdefault((1, b.key), a.key) != a.key
        ):
            self.findings.add_difference(
                place, "one node stands where the reference has several, or the other way round"
            )

    # ---- nodes

    def _compare_nodes(self, pair: NodePair) -> bool:
        """Compare two nodes but for their operands; False where they are no counterparts."""
        what = find_misfit(pair)
        if what:
            self.findings.add_difference(pair.place, what, is_final=True)
            return False
        ours, theirs = (find_function(scope.graph, node) for scope, node in pair.sides)
        if ours is not None and theirs is not None:
            self._compare_functions(ours, theirs, pair.place)
        else:
            what = find_difference_of_meaning(pair)
            if what:
                self.findings.add_difference(pair.place, what)
        self._compare_attributes(pair)
        return True

    def _compare_operands(self, pair: NodePair) -> None:
        operands = self._operands.pair_operands(pair)
        # the last one waits on top: what is found first lies nearest to the outputs
        for x, y in reversed(operands):
            if bool(x) != bool(y):
                self.findings.add_difference(
                    pair.place,
                    "an operand that may be left out is left out in one model",
                    is_final=True,
                )
            elif x:
                self._queue(pair.one, x, pair.two, y, pair.place)

    def _compare_attributes(self, pair: NodePair) -> None:
        ours, theirs = (
            _read_attributes(node, scope.read_version(node.domain)) for scope, node in pair.sides
        )
        for name in sorted(ours.keys() | theirs.keys()):
            if name in COUNT_ATTRIBUTES and not self._with_sizes:
                continue
            x, y = ours.get(name), theirs.get(name)
            if x is None or y is None:
                self.findings.add_difference(
                    pair.place, f"attribute '{name}' stands in one model alone"
                )
            elif x.type == y.type and x.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                self._compare_bodies(pair, x, y)
            elif not is_same_message(x, y):
                self.findings.add_difference(pair.place, f"attribute '{name}' is another")

    # ---- bodies

    def _compare_bodies(self, pair: NodePair, x: AttributeProto, y: AttributeProto) -> None:
        """Compare the bodies that two attributes hold."""
        ours, theirs = ([t.g] if t.type == AttributeProto.GRAPH else list(t.graphs) for t in (x, y))
        if len(ours) != len(theirs):
            self.findings.add_difference(
                pair.place, f"attribute '{x.name}' has another number of bodies"
            )
        for k, (g, h) in enumerate(zip(ours, theirs, strict=False)):
            if len(g.input) != len(h.input) or len(g.output) != len(h.output):
                self.findings.add_difference(
                    pair.place,
                    f"the body '{x.name}' has other numbers of inputs or outputs",
                    is_final=True,
                )
                continue
            one = pair.one.open_body(pair.a, x, g, k)
            two = pair.two.open_body(pair.b, y, h, k)
            self._compare_body(one, g, two, h, pair.place, x.name)

    def _compare_body(
        self, one: NameScope, g: GraphProto, two: NameScope, h: GraphProto, place: str, name: str
    ) -> None:
        """Compare two bodies that have as many inputs and outputs."""
        ends = zip((*g.input, *g.output), (*h.input, *h.output), strict=True)
        for p, q in ends:
            # a type that contradicts the values makes a runtime stop
            if not is_same_type(p.type, q.type):
                self.findings.add_difference(
                    place, f"the body '{name}' declares another type or shape of '{q.name}'"
                )
        inside = f"{place}, body '{name}'"
        for is_given, starts in ((True, (g.input, h.input)), (False, (g.output, h.output))):
            for p, q in zip(*starts, strict=True):
                self._declarations.compare_lengths(
                    inside, two.prefix + q.name, p.type, q.type, is_given
                )
        self._paired_scopes.add((id(one), id(two)))
        for p, q in zip(g.output, h.output, strict=True):
            self._queue(one, p.name, two, q.name, inside)

    # ---- functions

    def _compare_functions(self, a: FunctionProto, b: FunctionProto, place: str) -> None:
        """Compare two local functions, once."""
        one, two = (self._open_function(k, f) for k, f in enumerate((a, b)))
        if (id(one), id(two)) in self._paired_scopes:
            return
        self._paired_scopes.add((id(one), id(two)))
        if len(a.input) != len(b.input) or len(a.output) != len(b.output):
            self.findings.add_difference(
                place,
                f"the function '{b.name}' has other numbers of inputs or outputs",
                is_final=True,
            )
            return
        ours, theirs = ({x.name: x for x in f.attribute_proto} for f in (a, b))
        if set(a.attribute) != set(b.attribute) or ours.keys() != theirs.keys():
            self.findings.add_difference(place, f"the function '{b.name}' has other attributes")
        for name in sorted(ours.keys() & theirs.keys()):
            if not is_same_message(ours[name], theirs[name]):
                self.findings.add_difference(
                    place, f"the default of '{name}' of the function '{b.name}' is another"
                )
        for x, y in zip(a.output, b.output, strict=True):
            self._queue(one, x, two, y, f"{place}, function '{b.name}'")

    def _open_function(self, side: int, function: FunctionProto) -> NameScope:
        """Return the scope of a local function; there is one for each function of a side."""
        graph = (self._reference, self._suspect)[side]
        prefix = prefix_of_function(function)
        if (side, prefix) not in self._functions:
            opsets = {normalise_domain(o.domain): o.version for o in function.opset_import}
            self._functions[side, prefix] = NameScope(
                graph, function.node, function.input, opsets, prefix, declared=function.value_info
            )
        return self._functions[side, prefix]


def _read_attributes(node: NodeProto, version: int) -> Mapping[str, AttributeProto]:
    """Read the attributes of a node, with the defaults of those that it leaves out."""
    return {
        **list_defaults(node.op_type, node.domain, version),
        **{a.name: a for a in node.attribute},
    }
