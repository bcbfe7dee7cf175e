"""Operators that contain others: branches, loops, maps, and functions, run through by the engine.

Every name inside a body gets one of its own, so that two calls of a function, or two turns of a loop, share
their weights and nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto

from ..errors import UnknownStructure
from ..graph.model import Graph
from ..graph.nodes import (
    find_live_nodes,
    list_captured_names,
    prefix_of_body,
    prefix_of_function,
    read_attributes,
    sort_topologically,
)
from ..rules import Elementwise, Equation, Kind
from . import sequences
from .labels import lay_along, make_addresses
from .sequences import Result
from .tensors import Tensor, make_opaque


class Engine(sequences.Engine, Protocol):
    """What bodies ask of the engine that runs them."""

    graph: Graph

    def step(self, node: NodeProto) -> None: ...

    def saw(self, node: NodeProto, kind: Kind | None) -> None: ...

    def laid(self, tensor: Tensor) -> Tensor: ...

    def state(self, shape: tuple[int, ...]) -> Tensor: ...


@dataclass(frozen=True)
class Scope:
    """How the names of a body are called in the analysis.

    Attributes:
        weights: what stands before the names of its weights.
        nodes: what stands before the names of its nodes.
        call: what stands before the names of all else, and before nothing else.
        names: names from outside, by the name inside.
    """

    weights: str = ""
    nodes: str = ""
    call: str = ""
    names: Mapping[str, str] = field(default_factory=dict)


def find_function(graph: Graph, node: NodeProto, types: Sequence[bytes]) -> FunctionProto | None:
    """The function that a node calls: a local one, or the one that its operator's specification gives."""
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
    if schema.has_context_dependent_function:
        function = FunctionProto()
        function.ParseFromString(
            schema.get_context_dependent_function(node.SerializeToString(), list(types))
        )
        return function
    return None


class Bodies:
    """Runs the bodies of nodes through an engine."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self._called = {f.name for f in engine.graph.model.functions}
        self._origin: dict[int, tuple[NodeProto, NodeProto, Scope]] = {}
        self._calls = (f"\0{number}/" for number in itertools.count())

    def run(self, node: NodeProto) -> Sequence[Result | None]:
        """The results of a node with a body, or of one that has to do with sequences; None for an unknown shape."""
        _, origin, scope = self._origin.get(id(node), (node, node, Scope()))
        match origin.op_type if origin.domain in ("", "ai.onnx") else "":
            case "If":
                return self._if(node, origin, scope)
            case "Loop":
                return self._loop(node, origin, scope)
            case "Scan":
                return self._scan(node, origin, scope)
            case "SequenceMap":
                return self._map(node, origin, scope)
            case _ if sequences.is_sequence_node(self.engine, node):
                return sequences.run_sequence_node(self.engine, node)
        types = [self.engine.inference.type_of(n) for n in node.input]
        function = find_function(
            self.engine.graph, node, [t.SerializeToString() if t else b"" for t in types]
        )
        if function is None:
            raise UnknownStructure("no body to run through")
        return self._call(node, function)

    def captured(self, node: NodeProto) -> list[str]:
        """What the subgraphs of a node read from outside, and all weights inside them and in functions that it calls."""
        _, origin, scope = self._origin.get(id(node), (node, node, Scope()))
        names = [scope.names.get(n, n) for n in list_captured_names(origin)]
        homes = tuple(set(self._homes(origin, scope.weights)))
        return names + (
            [w for w in self.engine.graph.tensors if w.startswith(homes)] if homes else []
        )

    def _homes(self, node: NodeProto, prefix: str) -> Iterator[str]:
        """What stands before the names of the weights that a node has inside."""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                home = prefix + prefix_of_body(node, attribute.name)
                yield home
                for inner in attribute.g.node:
                    yield from self._homes(inner, home)
        for function in self._functions(node):
            home = prefix_of_function(function)
            yield home
            for inner in function.node:
                yield from self._homes(inner, home)

    def _functions(self, node: NodeProto) -> list[FunctionProto]:
        """The model's own functions of a node's name."""
        return [
            f
            for f in self.engine.graph.model.functions
            if (f.domain, f.name) == (node.domain, node.op_type)
        ]

    def holds(self, node: NodeProto) -> bool:
        """Is this a node of a body?"""
        return id(node) in self._origin

    def has_body(self, node: NodeProto) -> bool:
        """Is this a node with subgraphs, a call of one of the model's own functions, or one of sequences?"""
        operator = node.op_type
        if operator in ("If", "Loop", "Scan", "SequenceMap") and node.domain in ("", "ai.onnx"):
            return True
        return sequences.is_sequence_node(self.engine, node) or (
            operator in self._called and bool(self._functions(node))
        )

    def _nodes(
        self,
        nodes: Sequence[NodeProto],
        weights: Iterable[str],
        outputs: Sequence[str],
        scope: Scope,
        values: NodeProto | None,
    ) -> list[str]:
        """Runs the nodes of a body; returns what its outputs are called. `values` has the attributes of a call."""
        names = dict(scope.names)
        names.update({w: scope.weights + w for w in weights})
        known = self.engine.graph.tensors
        for node in nodes:
            for o in node.output:
                if o:
                    constant = node.op_type == "Constant" and scope.weights + o in known
                    names[o] = (scope.weights if constant else scope.call) + o
        for node in find_live_nodes(sort_topologically(nodes), outputs):
            copy = NodeProto(
                op_type=node.op_type,
                domain=node.domain,
                overload=node.overload,
                name=scope.nodes + node.name,
            )
            copy.input.extend(names.get(i, i) for i in node.input)
            copy.output.extend(names.get(o, o) for o in node.output)
            if node.op_type == "Constant" and copy.output[0] in known:
                continue
            for attribute in node.attribute:
                if attribute.ref_attr_name:
                    given = (
                        next(
                            (a for a in values.attribute if a.name == attribute.ref_attr_name), None
                        )
                        if values
                        else None
                    )
                    if given is not None:
                        copy.attribute.add().CopyFrom(given)
                        copy.attribute[-1].name = attribute.name
                elif attribute.type not in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                    copy.attribute.add().CopyFrom(attribute)
            # the copy is kept with its origin: its identity must stay its own
            self._origin[id(copy)] = copy, node, replace(scope, names=names)
            self.engine.step(copy)
        return [names.get(o, o) for o in outputs]

    def _graph(self, graph: GraphProto, scope: Scope) -> list[str]:
        weights = [t.name for t in graph.initializer] + [
            s.values.name for s in graph.sparse_initializer
        ]
        return self._nodes(list(graph.node), weights, [o.name for o in graph.output], scope, None)

    def _tensor(self, name: str) -> Tensor:
        return sequences.read_tensor(self.engine, name)

    def _known(self, name: str) -> Result | None:
        return self.engine.items[name] if name in self.engine.items else self.engine.tensor(name)

    def _result(self, name: str) -> Result:
        return self.engine.items[name] if name in self.engine.items else self._tensor(name)

    def _inner(
        self, node: NodeProto, origin: NodeProto, scope: Scope, attribute: str
    ) -> tuple[GraphProto, Scope]:
        body = next(a.g for a in origin.attribute if a.name == attribute)
        nodes = f"{node.name or node.op_type}/{attribute}/"
        return body, Scope(
            scope.weights + prefix_of_body(origin, attribute), nodes, next(self._calls), scope.names
        )

    def _declare(self, name: str, tensor: Tensor, like: str) -> None:
        """Makes `tensor` known by a name inside a body, of the element type of another."""
        self.engine.tensors[name] = tensor
        self.engine.inference.declare_like(name, tensor.shape, like)

    def _types(self, node: NodeProto, inner: Sequence[str], results: Sequence[Tensor]) -> None:
        """The types of a loop's results: those of what its body returns, in the shapes of `results`."""
        for name, source, tensor in zip(node.output, inner, results, strict=True):
            if name:
                self._declare(name, tensor, source)

    # ---- one kind of body each

    def _call(self, node: NodeProto, function: FunctionProto) -> list[Result | None]:
        given = dict(zip(function.input, node.input, strict=False))
        for missing in function.input[len(node.input) :]:
            given[missing] = ""
        defaults = NodeProto()
        defaults.CopyFrom(node)
        present = {a.name for a in node.attribute}
        defaults.attribute.extend(a for a in function.attribute_proto if a.name not in present)
        scope = Scope(
            prefix_of_function(function),
            f"{node.name or node.op_type}/{function.name}/",
            next(self._calls),
            given,
        )
        outputs = self._nodes(list(function.node), [], list(function.output), scope, defaults)
        for name, inner in zip(node.output, outputs, strict=False):
            self.engine.inference.same(name, inner)
            self._passes(inner, name)
        # what made a result of unknown shape has pinned what it read
        return [self._known(name) for name, _ in zip(outputs, node.output, strict=False)]

    def _passes(self, inner: str, name: str) -> None:
        """What a body returns is the tensor of that name outside."""
        node = NodeProto(op_type="Identity", input=[inner], output=[name])
        self.engine.saw(node, Elementwise())

    def _leave(self, outputs: Sequence[str]) -> None:
        """What a body returns goes where no single node says what becomes of it."""
        self.engine.saw(NodeProto(op_type="Loop", input=outputs), None)

    def _if(self, node: NodeProto, origin: NodeProto, scope: Scope) -> list[Result]:
        condition = self.engine.inference.value(node.input[0])
        branches = ["then_branch", "else_branch"]
        if condition is not None:
            branches = branches[:1] if condition.all() else branches[1:]
        found = []
        for branch in branches:
            outputs = self._graph(*self._inner(node, origin, scope, branch))
            found.append([self._result(o) for o in outputs])
            for name, inner in zip(node.output, outputs, strict=True):
                self.engine.inference.same(name, inner, value=len(branches) == 1)
                self._passes(inner, name)
        if len(found) == 1:
            return found[0]
        return [self._one(list(pair)) for pair in zip(*found, strict=True)]

    def _one(self, results: Sequence[Result]) -> Tensor:
        """A tensor that is one or another of several: they share their order."""
        tensors = [r for r in results if isinstance(r, Tensor)]
        if len(tensors) < len(results):
            raise UnknownStructure("sequences of different branches")
        if len({t.shape for t in tensors}) > 1:
            raise UnknownStructure("branches or turns of different shapes")
        return self.engine.results(Elementwise(), list(tensors), [False] * len(tensors), [None])[0]

    def _state(self, name: str, initial: str) -> Tensor:
        state = self.engine.state(self._tensor(initial).shape)
        self._declare(name, state, initial)
        return state

    def _stacked(self, name: str, axis: int, count: int) -> Tensor:
        """What the turns of a loop leave behind, one after the other along `axis`."""
        tensor = self.engine.laid(self._tensor(name))
        rank = len(tensor.shape) + 1
        axis %= rank
        shape = (*tensor.shape[:axis], count, *tensor.shape[axis:])
        roles = [np.expand_dims(r, axis) for r in tensor.roles]
        return Tensor(
            shape,
            (*roles, *([lay_along(make_addresses(count), axis, rank)] if count > 1 else [])),
            reason=tensor.reason,
        )

    def _loop(self, node: NodeProto, origin: NodeProto, scope: Scope) -> list[Tensor]:
        body, inner = self._inner(node, origin, scope, "body")
        names = [i.name for i in body.input]
        given = {n: inner.call + n for n in names}
        for name in names[:2]:
            self.engine.tensors[given[name]] = make_opaque(())
            kind = onnx.TensorProto.INT64 if name == names[0] else onnx.TensorProto.BOOL
            self.engine.inference.declare(given[name], kind, ())
        if node.input[1]:
            self.engine.inference.same(given[names[1]], node.input[1])
        initial = list(node.input[2:])
        states = [self._state(given[n], i) for n, i in zip(names[2:], initial, strict=True)]
        outputs = self._graph(body, replace(inner, names={**inner.names, **given}))
        self._leave(outputs)
        results = [
            self._one([self._tensor(i), state, self._tensor(o)])
            for i, state, o in zip(initial, states, outputs[1:], strict=False)
        ]
        scans = outputs[1 + len(initial) :]
        turns = self.engine.inference.value(node.input[0]) if node.input[0] else None
        # true in every turn if it is in the first
        goes_on = self.engine.inference.value(outputs[0])
        if scans and (turns is None or goes_on is None or not goes_on.all()):
            raise UnknownStructure("a loop of unknown length")
        results += [self._stacked(o, 0, int(turns)) for o in scans if turns is not None]
        self._types(node, outputs[1:], results)
        return results

    def _scan(self, node: NodeProto, origin: NodeProto, scope: Scope) -> list[Tensor]:
        if self.engine.graph.opset() < 9:
            raise UnknownStructure("the batched form of opset 8")
        body, inner = self._inner(node, origin, scope, "body")
        given = read_attributes(origin)
        count = given["num_scan_inputs"]
        names = {i.name: inner.call + i.name for i in body.input}
        inside_names = list(names.values())
        initial, scanned = list(node.input[:-count]), list(node.input[-count:])
        states = [self._state(n, i) for n, i in zip(inside_names, initial, strict=False)]
        turns = 1
        for name, source, axis in zip(
            inside_names[len(initial) :],
            scanned,
            given.get("scan_input_axes", [0] * count),
            strict=True,
        ):
            tensor = self._tensor(source)
            rank = len(tensor.shape)
            turns = tensor.shape[axis]
            letters = [f"[x{i}]" if i == axis % rank else f"x{i}" for i in range(rank)]
            equation = Equation(
                f"{' '.join(letters)} -> {' '.join(x for x in letters if '[' not in x)}"
            )
            self._declare(name, self.engine.results(equation, [tensor], [False], [None])[0], source)
        outputs = self._graph(body, replace(inner, names={**inner.names, **names}))
        self._leave(outputs)
        turned = zip(initial, states, outputs, strict=False)
        results = [self._one([self._tensor(i), state, self._tensor(o)]) for i, state, o in turned]
        scans = outputs[len(initial) :]
        axes = given.get("scan_output_axes", [0] * len(scans))
        results += [self._stacked(o, axis, turns) for o, axis in zip(scans, axes, strict=True)]
        self._types(node, outputs, results)
        return results

    def _map(self, node: NodeProto, origin: NodeProto, scope: Scope) -> list[Result]:
        items = self.engine.items
        body, inner = self._inner(node, origin, scope, "body")
        found: list[list[str]] = [[] for _ in node.output]
        for turn in range(len(sequences.list_items(self.engine, node.input[0]))):
            pairs = zip(body.input, node.input, strict=True)
            given = {i.name: items[n][turn] if n in items else n for i, n in pairs}
            outputs = self._graph(
                body, replace(inner, call=next(self._calls), names={**inner.names, **given})
            )
            self._leave(outputs)
            for made, name in zip(found, outputs, strict=True):
                made.append(name)
        return [*found]
