"""Two files of one network that are written differently: their weights are paired by where they stand in it.

Other names, another exporter or opset, BatchNorm folded on one side, half precision: both are brought into the form that
onnxruntime's optimiser writes, and of that only the nodes that hold weights are compared, with which of them follow each
other. Nodes that are alike in all of this are paired by the operands that they become, and by their weights' values,
whatever their order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx.defs
import onnx.helper
from onnx import NodeProto
from scipy.optimize import linear_sum_assignment

from ..errors import ArchitectureError
from ..graph.model import Graph
from ..graph.nodes import describe_node, pair_by_name, read_attributes
from ..graph.types import FLOAT_TYPES, HALF_TYPES
from ..numerics import as_finite

PASSING = ("Cast", "Dropout", "Expand", "Identity", "Reshape", "Squeeze", "Unsqueeze")
"""A weight that goes through these is still one."""
MOVING = (
    *PASSING,
    "Concat",
    "ConstantOfShape",
    "Flatten",
    "Gather",
    "Slice",
    "Split",
    "Tile",
    "Transpose",
)
"""What only moves elements does so whatever their values, and is seen in any two runs."""
COMMUTING = ("Add", "Max", "Mean", "Min", "Mul", "Sum")
"""Their operands have no order; where one is the same number everywhere, exporters leave it out, or write it elsewhere."""
TELLING = (
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
"""Attributes that nodes must have in common."""
AXES = ("axes", "axis", "k")
"""Operands that say where an operator acts."""
ROUNDS = 200
"""At most so many steps along the network are looked at to tell nodes apart."""
ASTRAY = 1e6
"""What two nodes are apart, beside their values, where they go on as different operands."""
QUANTILES = 65
"""So many quantiles stand for a weight's values."""


@dataclass(frozen=True)
class Place:
    """Where a weight of the reference lies in the suspect: its name there, and whether it lies transposed."""

    name: str
    turned: bool = False


@dataclass(frozen=True)
class _Node:
    """A node that holds weights."""

    node: NodeProto
    kind: tuple
    weights: tuple[tuple[str, bool], ...]
    """By position: the name, and whether it lies transposed."""


@dataclass
class _Skeleton:
    """The nodes of a graph that hold weights, and which follow each other."""

    graph: Graph
    nodes: list[_Node] = field(default_factory=list)
    before: dict[int, set] = field(default_factory=dict)
    after: dict[int, set] = field(default_factory=dict)
    routes: dict[int, set] = field(default_factory=dict)
    """As which operand of what what they compute goes on, where the order of operands matters."""
    others: list[NodeProto] = field(default_factory=list)
    """The nodes without weights that do more than move elements."""

    @classmethod
    def of(cls, graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> _Skeleton:
        """`inputs` and `outputs` are the names of the graph's, in an order that both graphs have in common."""
        found = cls(graph)
        # by every tensor the weighted nodes, by number, and the inputs, by their place, that it follows
        reach: dict[str, Set] = {name: frozenset({("input", k)}) for k, name in enumerate(inputs)}
        held = {name: name for name in graph.tensors}
        # what hangs on the inputs' values, and which of that are floats
        valued = {
            v.name: v.type.tensor_type.elem_type in FLOAT_TYPES
            for v in graph.model.graph.input
            if v.name not in held
        }
        for node in graph.nodes:
            if any(a.HasField("g") for a in node.attribute):
                raise ArchitectureError(f"{graph.name}: node {describe_node(node)} has subgraphs")
            if node.op_type in PASSING and node.input[0] in held:
                held[node.output[0]] = held[node.input[0]]
                continue
            here: Set = frozenset().union(*(reach.get(name, frozenset()) for name in node.input))
            own = found._held(node, held)
            plain = node.op_type in MOVING and not _chosen(node, valued)
            if any(name in valued for name in node.input) and node.op_type not in ("Shape", "Size"):
                valued.update(dict.fromkeys(node.output, _floats(node, valued)))
            if own is None and not plain:
                found.others.append(node)
                for k, name in enumerate(node.input if node.op_type not in COMMUTING else ()):
                    for other in reach.get(name, frozenset()):
                        if isinstance(other, int):
                            found.routes[other].add((node.op_type, k))
            if own is not None:
                number = len(found.nodes)
                found.nodes.append(own)
                found.before[number] = set(here)
                found.after[number] = set()
                found.routes[number] = set()
                for other in here:
                    if isinstance(other, int):
                        found.after[other].add(number)
                here = frozenset({number})
            reach.update(dict.fromkeys(node.output, here))
        for k, value in enumerate(outputs):
            for other in reach.get(value, frozenset()):
                if isinstance(other, int):
                    found.after[other].add(("output", k))
        return found

    def _held(self, node: NodeProto, held: Mapping[str, str]) -> _Node | None:
        own = [
            (k, held[name])
            for k, name in enumerate(node.input)
            if name in held and self._learned(held[name])
        ]
        if not own or (
            node.op_type in COMMUTING and all(_constant(self.graph, name) for _, name in own)
        ):
            return None
        if node.op_type not in COMMUTING:
            # a layer of one unit has a bias of one element
            own = [
                (k, held[name])
                for k, name in enumerate(node.input)
                if name in held and self._float(held[name])
            ]
        kind: str = node.op_type
        given = _given(
            node,
            self.graph.shape(held[node.input[1]])
            if node.input[1:] and node.input[1] in held
            else (),
        )
        turned = dict.fromkeys(range(len(node.input)), False)
        if kind in ("Gemm", "MatMul") and own[0][0] == 1:
            kind = "linear"
            turned[1] = bool(given.get("transB", 0))
        places = tuple(0 if kind in COMMUTING else k for k, _ in own)
        shapes = []
        for k, name in own:
            shape = [n for n in self.graph.shape(name) if n > 1]
            shapes.append(tuple(reversed(shape) if turned[k] else shape))
        told = tuple((a, str(given[a])) for a in TELLING if a in given and kind != "linear")
        return _Node(
            node, (kind, places, tuple(shapes), told), tuple((name, turned[k]) for k, name in own)
        )

    def done(self, digits: int) -> Counter:
        """What the nodes do beside their weights: their operators, and their numbers, to so many digits."""
        found = Counter(self._done(node, digits) for node in self.others)
        # of a folded norm nothing is left to compare
        given = [_given(n.node) for n in self.nodes if n.node.op_type != "BatchNormalization"]
        return found + Counter(
            ("epsilon", f"{g['epsilon']:.{digits}g}") for g in given if "epsilon" in g
        )

    def _done(self, node: NodeProto, digits: int) -> tuple:
        # what says along which axes it acts exporters give as an attribute or as a number, and any two runs show
        given = [
            v
            for v in read_attributes(node).values()
            if isinstance(v, float | bytes) and v != b"none"
        ]
        known = onnx.defs.has(node.op_type, node.domain)
        inputs = (
            [i.name for i in onnx.defs.get_schema(node.op_type, node.domain).inputs]
            if known
            else []
        )
        for k, name in enumerate(node.input):
            if name in self.graph.tensors and (k >= len(inputs) or inputs[k] not in AXES):
                given += self.graph.array(name).ravel()[:1].tolist()
        return node.op_type, tuple(
            sorted(f"{v:.{digits}g}" if isinstance(v, float) else str(v) for v in given)
        )

    def _learned(self, name: str) -> bool:
        """Is it a weight, and not a size or a number?"""
        return self._float(name) and int(np.prod(self.graph.shape(name))) > 1

    def _float(self, name: str) -> bool:
        return self.graph.tensors[name].data_type in FLOAT_TYPES


def _given(node: NodeProto, shape: Sequence[int] = ()) -> dict[str, Any]:
    """The attributes of a node, those that have a default too; `shape` is that of its weight."""
    known = onnx.defs.has(node.op_type, node.domain)
    schema = onnx.defs.get_schema(node.op_type, node.domain).attributes if known else {}
    defaults = {
        k: onnx.helper.get_attribute_value(a.default_value)
        for k, a in schema.items()
        if a.default_value.name
    }
    found = defaults | read_attributes(node)
    if "kernel_shape" in schema:
        found.setdefault("kernel_shape", list(shape[2:]))
        for name in ("dilations", "strides"):
            found.setdefault(name, [1] * len(found["kernel_shape"]))
    return found


def _chosen(node: NodeProto, valued: Mapping[str, bool]) -> bool:
    """Does a node move elements to places that hang on the inputs' values, or round them to whole numbers?"""
    if node.op_type == "Cast":
        return valued.get(node.input[0], False) and read_attributes(node)["to"] not in FLOAT_TYPES
    return node.op_type not in ("Concat", "Dropout") and any(
        name in valued for name in node.input[1:]
    )


def _floats(node: NodeProto, valued: Mapping[str, bool]) -> bool:
    if node.op_type == "Cast":
        return read_attributes(node)["to"] in FLOAT_TYPES
    first = node.input[:1] if node.op_type in MOVING else node.input
    return any(valued.get(name, True) for name in first if name)


def pair_skeletons(reference: Graph, suspect: Graph) -> tuple[dict[str, Place], tuple[str, ...]]:
    """For every weight of the reference, that a node of its main graph holds, the suspect's.

    And of the nodes without weights that do more than move elements the operators that one graph has more often than
    the other, or with other numbers. Raises ArchitectureError with the first node that has no counterpart.
    """
    sides = (reference, suspect)
    ends = [
        pair_by_name(
            *([v.name for v in g.model.graph.input if v.name not in g.tensors] for g in sides)
        ),
        pair_by_name(*([v.name for v in g.model.graph.output] for g in sides)),
    ]
    one, two = (
        _Skeleton.of(g, *([pair[k] for pair in end] for end in ends)) for k, g in enumerate(sides)
    )
    ours, theirs = _classes(one, two)
    found: dict[str, Place] = {}
    back: dict[str, str] = {}
    mine, other_values = _Values(reference), _Values(suspect)
    for number in sorted(set(ours)):
        a, b = ([k for k, n in enumerate(side) if n == number] for side in (ours, theirs))
        if len(a) > 1:
            gaps = np.array(
                [[mine.apart(one.nodes[i], other_values, two.nodes[j]) for j in b] for i in a]
            )
            gaps += ASTRAY * np.array([[len(one.routes[i] ^ two.routes[j]) for j in b] for i in a])
            b = [b[j] for j in linear_sum_assignment(gaps)[1]]
        for i, j in zip(a, b, strict=True):
            for (name, turned), (other, also) in zip(
                one.nodes[i].weights, two.nodes[j].weights, strict=True
            ):
                place = Place(other, turned != also)
                if found.setdefault(name, place) != place or back.setdefault(other, name) != name:
                    raise ArchitectureError(
                        f"{suspect.name}: another architecture than {reference.name}: weight '{name}' and '{other}' stand for "
                        "each other in one place, and not in another; compare models exported from the same network"
                    )
    half = any(t.data_type in HALF_TYPES for g in sides for t in g.tensors.values())
    done = [side.done(2 if half else 6) for side in (one, two)]
    apart = sorted({what[0] for what in (done[0] - done[1]) + (done[1] - done[0])})
    return found, tuple(apart)


class _Values:
    """What weights hold, whatever the order."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.known: dict[str, np.ndarray] = {}

    def of(self, name: str) -> np.ndarray:
        if name not in self.known:
            array = as_finite(self.graph.array(name)).ravel()
            self.known[name] = np.quantile(array, np.linspace(0, 1, QUANTILES))
        return self.known[name]

    def apart(self, node: _Node, other: _Values, twin: _Node) -> float:
        """How far the values of two nodes' weights are from each other, in units of their size."""
        total = 0.0
        for (name, _), (there, _) in zip(node.weights, twin.weights, strict=True):
            x, y = self.of(name), other.of(there)
            total += float(np.abs(x - y).mean() / max(np.abs(x).mean(), np.abs(y).mean(), 1e-30))
        return total


def _constant(graph: Graph, name: str) -> bool:
    return all(graph.constant_along(name, axis) for axis in range(len(graph.shape(name))))


def _classes(one: _Skeleton, two: _Skeleton) -> tuple[list[int], list[int]]:
    """Numbers of the nodes of both, the same for those that nothing tells apart."""
    numbers: dict[object, int] = {}
    sides = (one, two)
    current = [[numbers.setdefault(n.kind, len(numbers)) for n in s.nodes] for s in sides]
    for _ in range(ROUNDS):
        _same(sides, current)
        signs: dict[object, int] = {}
        after = []
        for side, now in zip(sides, current, strict=True):
            rows = (
                (now[k], _around(side.before[k], now), _around(side.after[k], now))
                for k in range(len(now))
            )
            after.append([signs.setdefault(row, len(signs)) for row in rows])
        if len(signs) == len(set(current[0])):
            break
        current = after
    _same(sides, current)
    return current[0], current[1]


def _around(others: Iterable, now: Sequence[int]) -> tuple:
    return tuple(
        sorted(Counter(str(now[o]) if isinstance(o, int) else str(o) for o in others).items())
    )


def _same(sides: Sequence[_Skeleton], classes: Sequence[Sequence[int]]) -> None:
    """Raises ArchitectureError where one side has more of a kind than the other."""
    counts = [Counter(c) for c in classes]
    if counts[0] == counts[1]:
        return
    where = defaultdict(list)
    for side, (skeleton, numbers) in enumerate(zip(sides, classes, strict=True)):
        for node, number in zip(skeleton.nodes, numbers, strict=True):
            if counts[0][number] != counts[1][number]:
                where[side].append(node)
    one, two = sides
    if where[1]:
        node = where[1][0]
        shapes = " and ".join(str(list(s)) for s in node.kind[2])
        what = (
            f"node {describe_node(node.node)}, with weights of shape {shapes}, has no counterpart"
        )
    else:
        what = f"the reference's node {describe_node(where[0][0].node)} has no counterpart"
    raise ArchitectureError(
        f"{two.graph.name}: another architecture than {one.graph.name}: {what}; compare models exported from the same network"
    )
