"""Bodies of operators: subgraphs and functions, run through node by node.

Every name inside a body gets one of its own in the walk. So two calls of a function, or two turns
of a loop, share their weights and nothing else. What each kind of operator does with its bodies is
in `control_flow`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto

from ..graph.model import Graph
from ..graph.nodes import (
    find_live_nodes,
    list_captured_names,
    prefix_of_body,
    prefix_of_function,
    sort_topologically,
)
from ..rules import Elementwise, normalise_domain
from ..rules.plain_forms import has_plain_form, spell_out
from ..vocabulary import structure
from .state import COPY_OPERATOR, Result, WalkState

CONSTANT_OPERATOR = structure.CONSTANT
LEAVING_OPERATOR = structure.LOOP
"""The operator of the step that is recorded where no single node says what becomes of a tensor."""


@dataclass(frozen=True)
class Scope:
    """How the names of a body are called in the walk.

    Attributes:
        weights: what stands before the names of its weights.
        nodes: what stands before the names of its nodes.
        call: what stands before all other names; each run through a body has one of its own.
        names: names from outside, by the name inside.
    """

    weights: str = ""
    nodes: str = ""
    call: str = ""
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlacedNode:
    """A node and where it stands.

    Attributes:
        node: the node with the names of the walk, without subgraphs if it stands in a body.
        origin: the node as it is written, with its subgraphs.
        scope: the body that it stands in.
    """

    node: NodeProto
    origin: NodeProto
    scope: Scope


class BodyRunner:
    """Runs bodies through a walk.

    Attributes:
        state: the state of the walk.
    """

    def __init__(self, state: WalkState, step: Callable[[NodeProto], None]):
        """Take the function that walks over one node."""
        self.state = state
        self._step = step
        # names alone, without domains: most nodes call nothing, and are told so by one look-up
        self._called = {f.name for f in state.graph.model.functions}
        # by the identity of a node, which stays its own as the node itself is kept in `_placed`
        self._placed: dict[int, PlacedNode] = {}
        self._written: dict[int, NodeProto] = {}
        # no name in a file holds a null character
        self._calls = (f"\0{number}/" for number in itertools.count())

    def place_node(self, node: NodeProto) -> PlacedNode:
        """Return the node with its origin and scope."""
        return self._placed.get(id(node)) or PlacedNode(node, node, Scope())

    def is_in_body(self, node: NodeProto) -> bool:
        """Tell whether this is a node of a body, or of a plain form."""
        return id(node) in self._placed

    def is_call(self, node: NodeProto) -> bool:
        """Tell whether the node calls one of the model's own functions."""
        return node.op_type in self._called and bool(self._list_functions(node))

    def list_captured(self, node: NodeProto) -> list[str]:
        """List what a node reads besides its operands.

        These are the tensors that its subgraphs read from outside, and all weights inside its
        subgraphs and inside the functions that it calls.
        """
        placed = self.place_node(node)
        names = [placed.scope.names.get(n, n) for n in list_captured_names(placed.origin)]
        prefixes = tuple(set(self._list_prefixes(placed.origin, placed.scope.weights)))
        if not prefixes:
            return names
        return names + [w for w in self.state.graph.tensors if w.startswith(prefixes)]

    def _list_prefixes(self, node: NodeProto, prefix: str) -> Iterator[str]:
        """Yield what stands before the names of the weights that a node has inside."""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                home = prefix + prefix_of_body(node, attribute.name)
                yield home
                for inner in attribute.g.node:
                    yield from self._list_prefixes(inner, home)
        for function in self._list_functions(node):
            home = prefix_of_function(function)
            yield home
            for inner in function.node:
                yield from self._list_prefixes(inner, home)

    def _list_functions(self, node: NodeProto) -> list[FunctionProto]:
        """List the model's own functions of a node's name."""
        return [
            f
            for f in self.state.graph.model.functions
            if (f.domain, f.name) == (node.domain, node.op_type)
        ]

    def open_body(self, placed: PlacedNode, attribute: str) -> tuple[GraphProto, Scope]:
        """Find a subgraph of a node, and make a new scope for one run through it."""
        body = next(a.g for a in placed.origin.attribute if a.name == attribute)
        weights = placed.scope.weights + prefix_of_body(placed.origin, attribute)
        nodes = f"{placed.node.name or placed.node.op_type}/{attribute}/"
        return body, Scope(weights, nodes, next(self._calls), placed.scope.names)

    def renew_scope(self, scope: Scope) -> Scope:
        """Return the scope for another run through the same body."""
        return replace(scope, call=next(self._calls))

    def run_graph(self, graph: GraphProto, scope: Scope, given: Mapping[str, str]) -> list[str]:
        """Run a subgraph.

        Args:
            graph: the subgraph.
            scope: how its names are called in the walk.
            given: what its inputs are called in the walk, by their names inside.

        Returns:
            What its outputs are called in the walk.
        """
        weights = [t.name for t in graph.initializer]
        weights += [s.values.name for s in graph.sparse_initializer]
        scope = replace(scope, names={**scope.names, **given})
        return self._run_nodes(graph.node, weights, [o.name for o in graph.output], scope, None)

    def call_function(self, node: NodeProto, function: FunctionProto) -> list[Result | None]:
        """Run a function where it is called; None for a result whose shape is not known."""
        given = dict(zip(function.input, node.input, strict=False))
        for missing in function.input[len(node.input) :]:
            given[missing] = ""
        # a default of the function counts where the call leaves an attribute out
        values = NodeProto()
        values.CopyFrom(node)
        present = {a.name for a in node.attribute}
        values.attribute.extend(a for a in function.attribute_proto if a.name not in present)
        nodes = f"{node.name or node.op_type}/{function.name}/"
        scope = Scope(prefix_of_function(function), nodes, next(self._calls), given)
        outputs = self._run_nodes(function.node, [], function.output, scope, values)
        for name, inner in zip(node.output, outputs, strict=False):
            self.state.inference.copy_tensor(name, inner)
            self.pass_result(inner, name)
        # what made a result of unknown shape has pinned what it read
        found = zip(outputs, node.output, strict=False)
        return [self.state.find_result(name) for name, _ in found]

    def spell_out(self, node: NodeProto) -> list[NodeProto] | None:
        """Spell a fused operator out in plain ones; None where it has no plain form."""
        # most nodes are plain: they are sent away before any rank is looked up
        if not normalise_domain(node.domain) and not has_plain_form(node):
            return None
        ranks: dict[str, int] = {}
        for name in node.input:
            tensor = self.state.find_tensor(name) if name else None
            if tensor is not None:
                ranks[name] = len(tensor.shape)
        call = next(self._calls)
        numbers = itertools.count()
        return spell_out(node, ranks.get, lambda name: f"{call}{next(numbers)}/{name}")

    def find_written(self, node: NodeProto) -> NodeProto:
        """Find the node of the file that a node stands for: of a plain form the fused one."""
        return self._written.get(id(node), node)

    def run_plain_form(self, node: NodeProto, plain: Sequence[NodeProto]) -> None:
        """Walk over the plain operators that a fused node stands for; they make its results."""
        for inner in plain:
            self._placed[id(inner)] = PlacedNode(inner, inner, Scope())
            self._written[id(inner)] = node
            self.state.inference.versions.note_plain(inner)
            self._step(inner)

    def pass_result(self, inner: str, name: str) -> None:
        """Record that a tensor inside a body is the tensor of that name outside."""
        node = NodeProto(op_type=COPY_OPERATOR, input=[inner], output=[name])
        self.state.record_step(node, Elementwise())

    def leave_results(self, outputs: Sequence[str]) -> None:
        """Record that no single node says what becomes of the tensors that a body returns."""
        self.state.record_step(NodeProto(op_type=LEAVING_OPERATOR, input=outputs), None)

    def _run_nodes(
        self,
        nodes: Sequence[NodeProto],
        weights: Iterable[str],
        outputs: Sequence[str],
        scope: Scope,
        values: NodeProto | None,
    ) -> list[str]:
        """Run the nodes of a body, and return what its outputs are called in the walk.

        Args:
            nodes: the nodes, in any order.
            weights: the names of its weights, inside.
            outputs: the names of its outputs, inside.
            scope: how its names are called in the walk.
            values: has the attributes of a call, where the body is a function.
        """
        names = dict(scope.names)
        names.update({w: scope.weights + w for w in weights})
        known = self.state.graph.tensors
        # the results of all nodes are named first: a name inside hides the same name outside
        for node in nodes:
            for o in node.output:
                if o:
                    constant = node.op_type == CONSTANT_OPERATOR and scope.weights + o in known
                    names[o] = (scope.weights if constant else scope.call) + o
        inner = replace(scope, names=names)
        for node in find_live_nodes(sort_topologically(nodes), outputs):
            copy = _copy_node(node, inner, values)
            if node.op_type == CONSTANT_OPERATOR and copy.output[0] in known:
                continue
            # the copy is kept with its origin: its identity must stay its own
            self._placed[id(copy)] = PlacedNode(copy, node, inner)
            self._step(copy)
        return [names.get(o, o) for o in outputs]


def _copy_node(node: NodeProto, scope: Scope, values: NodeProto | None) -> NodeProto:
    """Copy a node of a body with the names of the walk, without subgraphs.

    An attribute that refers to one of the call takes its value from `values`.
    """
    copy = NodeProto(
        op_type=node.op_type,
        domain=node.domain,
        overload=node.overload,
        name=scope.nodes + node.name,
    )
    copy.input.extend(scope.names.get(i, i) for i in node.input)
    copy.output.extend(scope.names.get(o, o) for o in node.output)
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            every = values.attribute if values else ()
            given = next((a for a in every if a.name == attribute.ref_attr_name), None)
            if given is not None:
                copy.attribute.add().CopyFrom(given)
                copy.attribute[-1].name = attribute.name
        elif attribute.type not in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            copy.attribute.add().CopyFrom(attribute)
    return copy


def find_function(graph: Graph, node: NodeProto, types: Sequence[bytes]) -> FunctionProto | None:
    """Find the function that a node calls.

    Args:
        graph: the graph.
        node: a node of it.
        types: the serialized types of the node's operands, empty where a type is not known.

    Returns:
        A function of the model, or the one that the operator's specification gives; None where
        there is neither.
    """
    for function in graph.model.functions:
        if (function.domain, function.name, function.overload) == (
            node.domain,
            node.op_type,
            node.overload,
        ):
            return function
    version = graph.opset(node.domain)
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        return schema.function_body
    # such a function is made for the attributes and the operands' types of one node
    if schema.has_context_dependent_function:
        function = FunctionProto()
        function.ParseFromString(
            schema.get_context_dependent_function(node.SerializeToString(), list(types))
        )
        return function
    return None
