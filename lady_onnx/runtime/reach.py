"""What a model's numbers say of inputs that tell: which integers fit, and the numbers at which something changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto

from ..graph.functions import inline_functions
from ..graph.model import Graph
from ..graph.nodes import prefix_of_body, read_attributes, sort_topologically

Span = tuple[int, int]
"""The integers from the first to the one before the second."""

TABLES = {
    "Gather": ((1, 0),),
    "GatherElements": ((1, 0),),
    "GatherND": ((1, 0),),
    "GatherBlockQuantized": ((1, 0),),
    "EmbedLayerNormalization": ((0, 2), (1, 4), (8, 3)),
}
"""Operators that look rows up: pairs of operands, the numbers of the rows and the table."""
SIZES = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Loop": (0,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (3,),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
}
"""Operands that are sizes or counts: large ones cost memory and time, or do not fit."""
SIZE_SPAN = (0, 4)
KEEPS_FIRST = (
    *(
        "Abs",
        "Cast",
        "Ceil",
        "Clip",
        "Compress",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
    ),
    *(
        "GatherND",
        "Identity",
        "Mod",
        "Pad",
        "Reshape",
        "Round",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
    ),
    *("Transpose", "Unsqueeze"),
)
"""Operators whose results are values of their first operand, or no further from zero than those."""
KEEPS_ALL = ("Concat", "Max", "Min", "Where")
"""Operators whose results are values of their operands."""
SAME_ROWS = ("Cast", "DequantizeLinear", "Div", "Identity", "Mul")
"""Operators that make a table out of a stored one, row by row."""
BOUNDED = (
    *(
        "Clip",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Mod",
        "Range",
    ),
    *("Shrink", "Slice", "ThresholdedRelu", "Where"),
    *("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
)
"""Operators whose constants are bounds, at which something else begins."""
BOUNDS = ("alpha", "bias", "lambd", "max", "min", "nodes_splits", "nodes_values")
"""Attributes of these operators that are such bounds."""
NUMBERS = 64
"""So many bounds are read of one constant, and kept of all."""


@dataclass(frozen=True)
class Reach:
    """What a model's own numbers say of its inputs.

    Attributes:
        spans: by integer input the values that fit every table and every size that it reaches.
        floats: finite bounds of the model, in ascending order.
        integers: the same of integers.
        words: texts that the model knows.
    """

    spans: Mapping[str, Span]
    floats: tuple[float, ...]
    integers: tuple[int, ...]
    words: tuple[str, ...]


def join_bounds(first: Reach, second: Reach) -> Reach:
    """The first model's spans, and the numbers and words of both: what changes in one alone tells them apart."""
    return Reach(
        first.spans,
        tuple(sorted({*first.floats, *second.floats})),
        tuple(sorted({*first.integers, *second.integers})),
        tuple(sorted({*first.words, *second.words})),
    )


def find_reach(graph: Graph) -> Reach:
    """What a model's own numbers say of its inputs, found from its nodes, bodies and functions; nothing is run."""
    if graph.model.functions:
        graph = Graph(inline_functions(graph.to_model("")))
    reader = _Reader(graph)
    wanted: dict[str, Span] = {}
    reader.trace(graph.nodes, ("",), wanted)
    floats: set[float] = set()
    integers: set[int] = set()
    words: set[str] = set()
    for node, prefixes in _nodes(graph.nodes, ("",)):
        for array in reader.bounds(node, prefixes):
            if array.dtype.kind in "iu":
                integers |= set(array.tolist())
            elif array.dtype.kind == "f":
                floats |= set(array[np.isfinite(array)].tolist())
        words |= _words(node)
    inputs = {v.name for v in graph.required_inputs}
    return Reach(
        {name: span for name, span in wanted.items() if name in inputs},
        tuple(sorted(sorted(floats, key=abs)[:NUMBERS])),
        tuple(sorted(sorted(integers, key=abs)[:NUMBERS])),
        tuple(sorted(words)[:NUMBERS]),
    )


class _Reader:
    """Reads constants of a graph, and traces what is wanted of its integers back to the inputs."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.producers = {o: n for n in graph.nodes for o in n.output if o}

    def trace(
        self, nodes: list[NodeProto], prefixes: tuple[str, ...], wanted: dict[str, Span]
    ) -> None:
        """Adds to `wanted`, by name, which integers fit what is done with them, from the last node to the first."""
        for node in reversed(nodes):
            for body, attribute in _bodies(node):
                within = (prefixes[0] + prefix_of_body(node, attribute), *prefixes)
                behind, ahead = _paired(node, body)
                for outer, inner in behind:
                    _narrow(wanted, inner, wanted.get(outer))
                self.trace(sort_topologically(body.node), within, wanted)
                for outer, inner in ahead:
                    _narrow(wanted, outer, wanted.get(inner))
            for name, span in self._asked(node, prefixes, wanted):
                _narrow(wanted, name, span)

    def _asked(
        self, node: NodeProto, prefixes: tuple[str, ...], wanted: Mapping[str, Span]
    ) -> Iterator[tuple[str, Span | None]]:
        """What one node asks of its operands."""
        for indices, table in TABLES.get(node.op_type, ()):
            if max(indices, table) < len(node.input):
                axis = 0 if node.op_type == "GatherND" else _axis(node)
                yield node.input[indices], self._rows(node.input[table], axis, prefixes)
        if node.op_type == "OneHot":
            depth = self._array(node.input[1], prefixes)
            yield node.input[0], None if depth is None else (0, int(depth.max()))
        for k in SIZES.get(node.op_type, ()):
            if k < len(node.input):
                yield node.input[k], SIZE_SPAN
        for span in [wanted[o] for o in node.output if o in wanted]:
            if node.op_type in KEEPS_FIRST:
                yield node.input[0], span
            elif node.op_type in KEEPS_ALL:
                for name in node.input:
                    yield name, span
            elif node.op_type in ("Add", "Sub", "Mul", "Div"):
                yield from self._solved(node, prefixes, span)

    def _solved(
        self, node: NodeProto, prefixes: tuple[str, ...], span: Span
    ) -> Iterator[tuple[str, Span | None]]:
        """What has to be put into a sum or a product, of an operand and a constant, to get what is wanted."""
        x, y = node.input[:2]
        left, right = self._array(x, prefixes), self._array(y, prefixes)
        if left is None and right is None:
            if node.op_type == "Add":
                # either may be half of it
                half = (span[0], (span[0] + span[1] + 1) // 2)
                yield from ((x, half), (y, half))
            return
        constant = right if left is None else left
        if constant is None or not constant.size or not np.isfinite(constant).all():
            return
        name, low, high = (x if left is None else y), constant.min(), constant.max()
        first, last = span[0], span[1] - 1
        if node.op_type == "Add":
            yield name, _integers(first - low, last - high)
        elif node.op_type == "Sub":
            yield (
                name,
                _integers(first + high, last + low)
                if left is None
                else _integers(high - last, low - first),
            )
        elif node.op_type == "Mul" and low > 0:
            yield name, _integers(first / low, last / high)
        elif node.op_type == "Div" and low > 0 and left is None:
            yield name, _integers(first * high, last * low)

    def _rows(self, name: str, axis: int, prefixes: tuple[str, ...]) -> Span | None:
        """The numbers of a table's rows, None where the table is computed from the inputs."""
        while (key := self._key(name, prefixes)) is None:
            node = self.producers.get(name)
            if node is None or node.op_type not in SAME_ROWS:
                return None
            name = node.input[0]
        shape = self.graph.shape(key)
        return (0, shape[axis]) if -len(shape) <= axis < len(shape) else None

    def bounds(self, node: NodeProto, prefixes: tuple[str, ...]) -> Iterator[np.ndarray]:
        """The short constants of a node that are bounds."""
        if node.op_type not in BOUNDED:
            return
        for name in node.input:
            array = self._array(name, prefixes)
            if array is not None:
                yield array
        for name, value in read_attributes(node).items():
            if name in BOUNDS and isinstance(value, int | float | list):
                yield np.atleast_1d(np.asarray(value))[:NUMBERS]
            elif name in BOUNDS and isinstance(value, onnx.TensorProto):
                yield onnx.numpy_helper.to_array(value).ravel()[:NUMBERS]

    def _array(self, name: str, prefixes: tuple[str, ...]) -> np.ndarray | None:
        """A short constant of numbers, flat; None of anything else."""
        key = self._key(name, prefixes)
        if key is None or math.prod(self.graph.shape(key)) > NUMBERS:
            return None
        array = self.graph.array(key).ravel()
        return array if array.dtype.kind in "iuf" else None

    def _key(self, name: str, prefixes: tuple[str, ...]) -> str | None:
        """What a constant is called in the graph, seen from inside bodies."""
        return next((p + name for p in prefixes if name and p + name in self.graph.tensors), None)


def _narrow(wanted: dict[str, Span], name: str, span: Span | None) -> None:
    """Something more is wanted of the integers of this name; what leaves none is not."""
    if span is None or not name:
        return
    low, high = wanted.get(name, span)
    low, high = max(low, span[0]), min(high, span[1])
    if low < high:
        wanted[name] = (low, high)


def _integers(low: float, high: float) -> Span | None:
    """The integers between two numbers, both included; None where there is none."""
    first, last = math.ceil(low), math.floor(high)
    return (first, last + 1) if first <= last else None


def _axis(node: NodeProto) -> int:
    given = read_attributes(node)
    return int(given.get("gather_axis" if node.op_type == "GatherBlockQuantized" else "axis", 0))


def _bodies(node: NodeProto) -> Iterator[tuple[onnx.GraphProto, str]]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g, attribute.name


def _paired(
    node: NodeProto, body: onnx.GraphProto
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Outputs of a node and of its body that are each other's, and inputs."""
    # a Loop's body gives its condition first, and takes the number of the round and the condition
    skipped = 1 if node.op_type == "Loop" else 0
    behind = zip(node.output, [o.name for o in body.output][skipped:], strict=False)
    ahead = zip(node.input, [i.name for i in body.input], strict=False)
    return list(behind), list(ahead)[2 * skipped :]


def _nodes(
    nodes: list[NodeProto], prefixes: tuple[str, ...]
) -> Iterator[tuple[NodeProto, tuple[str, ...]]]:
    """All nodes, those in bodies too, and what stands before the names of the constants that each sees."""
    for node in nodes:
        yield node, prefixes
        for body, attribute in _bodies(node):
            within = (prefixes[0] + prefix_of_body(node, attribute), *prefixes)
            yield from _nodes(list(body.node), within)


def _words(node: NodeProto) -> set[str]:
    """Texts among the attributes of a node that lists them: keys, classes, vocabularies."""
    lists = [a.strings for a in node.attribute if a.type == onnx.AttributeProto.STRINGS]
    return {text.decode(errors="replace") for strings in lists for text in strings[:NUMBERS]}
