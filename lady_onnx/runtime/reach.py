"""What a model's numbers say of inputs that tell: which integers fit, and where something changes.

Nothing is run: nodes, bodies and functions are read. What operators say about values is declared in
`lady_onnx.vocabulary.bounds`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.numpy_helper
from onnx import NodeProto

from ..graph.functions import inline_functions
from ..graph.model import Graph
from ..graph.nodes import prefix_of_body, read_attributes, sort_topologically
from ..vocabulary.bounds import (
    CLASS_COUNTS,
    COUNT_OPERANDS,
    COUNT_SPAN,
    KEEPS_ALL_OPERANDS,
    KEEPS_FIRST_OPERAND,
    KEEPS_TABLE_ROWS,
    SOLVERS,
    TABLE_LOOKUPS,
    THRESHOLD_ATTRIBUTES,
    THRESHOLD_OPERATORS,
    Span,
    TableLookup,
    halve_span,
    solve_operand,
)
from ..vocabulary.structure import CONTROL_INPUTS, CONTROL_OUTPUTS

MAX_BOUNDS = 64
"""The number of bounds that are read of one constant, and that are kept of all.

Of all bounds those nearest to zero are kept, because random inputs meet them.
"""

Prefixes = tuple[str, ...]
"""What may stand before the names of constants that a node sees, the innermost body's first."""


@dataclass(frozen=True)
class Reach:
    """What a model's own numbers say of its inputs.

    Attributes:
        spans: by integer input, the values that fit every table and every size that it reaches.
        floats: finite bounds of the model, in ascending order.
        integers: integer bounds, in ascending order.
        words: texts that the model knows.
    """

    spans: Mapping[str, Span]
    floats: tuple[float, ...]
    integers: tuple[int, ...]
    words: tuple[str, ...]


def join_bounds(first: Reach, second: Reach) -> Reach:
    """Return the first model's spans with the bounds and words of both.

    A number at which one model alone changes tells the two apart.
    """
    return Reach(
        first.spans,
        tuple(sorted({*first.floats, *second.floats})),
        tuple(sorted({*first.integers, *second.integers})),
        tuple(sorted({*first.words, *second.words})),
    )


def find_reach(graph: Graph) -> Reach:
    """Find what a model's own numbers say of its inputs."""
    if graph.model.functions:
        graph = Graph(inline_functions(graph.to_model("")))
    constants = _Constants(graph)
    wanted: dict[str, Span] = {}
    _trace_spans(constants, graph.nodes, ("",), wanted)
    floats: set[float] = set()
    integers: set[int] = set()
    words: set[str] = set()
    for node, prefixes in _walk_with_prefixes(graph.nodes, ("",)):
        for array in _list_thresholds(constants, node, prefixes):
            if array.dtype.kind in "iu":
                integers |= set(array.tolist())
            elif array.dtype.kind == "f":
                floats |= set(array[np.isfinite(array)].tolist())
        words |= _list_words(node)
    inputs = {v.name for v in graph.required_inputs}
    return Reach(
        {name: span for name, span in wanted.items() if name in inputs},
        tuple(sorted(sorted(floats, key=abs)[:MAX_BOUNDS])),
        tuple(sorted(sorted(integers, key=abs)[:MAX_BOUNDS])),
        tuple(sorted(words)[:MAX_BOUNDS]),
    )


class _Constants:
    """The constants of a graph as nodes see them, from inside bodies too."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._producers = {o: n for n in graph.nodes for o in n.output if o}

    def find_key(self, name: str, prefixes: Prefixes) -> str | None:
        """Return what a constant is called in the graph, or None where `name` is no constant."""
        tensors = self._graph.tensors
        return next((p + name for p in prefixes if name and p + name in tensors), None)

    def read_numbers(self, name: str, prefixes: Prefixes) -> np.ndarray | None:
        """Return a short constant of numbers, flat, or None where `name` is anything else."""
        key = self.find_key(name, prefixes)
        if key is None or math.prod(self._graph.shape(key)) > MAX_BOUNDS:
            return None
        array = self._graph.array(key).ravel()
        return array if array.dtype.kind in "iuf" else None

    def count_rows(self, name: str, axis: int, prefixes: Prefixes) -> Span | None:
        """Return the numbers of a table's rows; None where it is computed from the inputs."""
        while (key := self.find_key(name, prefixes)) is None:
            node = self._producers.get(name)
            if node is None or node.op_type not in KEEPS_TABLE_ROWS:
                return None
            name = node.input[0]
        shape = self._graph.shape(key)
        return (0, shape[axis]) if -len(shape) <= axis < len(shape) else None


def _trace_spans(
    constants: _Constants, nodes: Sequence[NodeProto], prefixes: Prefixes, wanted: dict[str, Span]
) -> None:
    """Add to `wanted`, by name, the integers that fit what nodes do with them."""
    # From the last node to the first: who reads a value has said what it wants before it is made.
    for node in reversed(nodes):
        for body, attribute in _list_single_bodies(node):
            within = (prefixes[0] + prefix_of_body(node, attribute), *prefixes)
            outputs, inputs = _pair_with_body(node, body)
            for outer, inner in outputs:
                _narrow_span(wanted, inner, wanted.get(outer))
            _trace_spans(constants, sort_topologically(body.node), within, wanted)
            for outer, inner in inputs:
                _narrow_span(wanted, outer, wanted.get(inner))
        for name, span in _list_demands(constants, node, prefixes, wanted):
            _narrow_span(wanted, name, span)


def _list_demands(
    constants: _Constants, node: NodeProto, prefixes: Prefixes, wanted: Mapping[str, Span]
) -> Iterator[tuple[str, Span | None]]:
    """Yield what one node asks of its operands, for itself and for those that read its results."""
    yield from _list_own_demands(constants, node, prefixes)
    for span in [wanted[o] for o in node.output if o in wanted]:
        if node.op_type in KEEPS_FIRST_OPERAND:
            yield node.input[0], span
        elif node.op_type in KEEPS_ALL_OPERANDS:
            for name in node.input:
                yield name, span
        elif node.op_type in SOLVERS:
            yield from _solve_operands(constants, node, prefixes, span)


def _list_own_demands(
    constants: _Constants, node: NodeProto, prefixes: Prefixes
) -> Iterator[tuple[str, Span | None]]:
    """Yield what a node asks of operands that are row numbers, class numbers or sizes."""
    for lookup in TABLE_LOOKUPS.get(node.op_type, ()):
        if max(lookup.indices, lookup.table) < len(node.input):
            axis = _read_axis(node, lookup)
            rows = constants.count_rows(node.input[lookup.table], axis, prefixes)
            yield node.input[lookup.indices], rows
    if node.op_type in CLASS_COUNTS:
        classes, count = CLASS_COUNTS[node.op_type]
        depth = constants.read_numbers(node.input[count], prefixes)
        yield node.input[classes], None if depth is None else (0, int(depth.max()))
    for k in COUNT_OPERANDS.get(node.op_type, ()):
        if k < len(node.input):
            yield node.input[k], COUNT_SPAN


def _solve_operands(
    constants: _Constants, node: NodeProto, prefixes: Prefixes, span: Span
) -> Iterator[tuple[str, Span | None]]:
    """Yield what has to be put into arithmetic with a constant to get what is wanted of it."""
    x, y = node.input[:2]
    left, right = constants.read_numbers(x, prefixes), constants.read_numbers(y, prefixes)
    if left is None and right is None:
        half = halve_span(node.op_type, span)
        yield from ((x, half), (y, half))
        return
    constant = right if left is None else left
    if constant is None or not constant.size or not np.isfinite(constant).all():
        return
    is_first = left is not None
    low, high = constant.min(), constant.max()
    yield (y if is_first else x), solve_operand(node.op_type, span, low, high, is_first)


def _list_thresholds(
    constants: _Constants, node: NodeProto, prefixes: Prefixes
) -> Iterator[np.ndarray]:
    """Yield the short constants of a node, operands and attributes, that are thresholds."""
    if node.op_type not in THRESHOLD_OPERATORS:
        return
    for name in node.input:
        array = constants.read_numbers(name, prefixes)
        if array is not None:
            yield array
    for name, value in read_attributes(node).items():
        if name in THRESHOLD_ATTRIBUTES and isinstance(value, int | float | list):
            yield np.atleast_1d(np.asarray(value))[:MAX_BOUNDS]
        elif name in THRESHOLD_ATTRIBUTES and isinstance(value, onnx.TensorProto):
            yield onnx.numpy_helper.to_array(value).ravel()[:MAX_BOUNDS]


def _narrow_span(wanted: dict[str, Span], name: str, span: Span | None) -> None:
    """Add a demand on the integers of one name, unless it leaves none of them."""
    if span is None or not name:
        return
    # Two readers may want what no integer satisfies. Then the first demand stays as it is.
    low, high = wanted.get(name, span)
    low, high = max(low, span[0]), min(high, span[1])
    if low < high:
        wanted[name] = (low, high)


def _read_axis(node: NodeProto, lookup: TableLookup) -> int:
    """Return the axis of the table along which a node looks rows up."""
    if lookup.axis_attribute is None:
        return 0
    return int(read_attributes(node).get(lookup.axis_attribute, 0))


def _list_single_bodies(node: NodeProto) -> Iterator[tuple[onnx.GraphProto, str]]:
    """Yield the graphs inside a node that stand alone in their attribute, with its name."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g, attribute.name


def _pair_with_body(
    node: NodeProto, body: onnx.GraphProto
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return outputs of a node and of its body that belong to each other, and such inputs."""
    given = [o.name for o in body.output][CONTROL_OUTPUTS.get(node.op_type, 0) :]
    outputs = list(zip(node.output, given, strict=False))
    inputs = list(zip(node.input, [i.name for i in body.input], strict=False))
    return outputs, inputs[CONTROL_INPUTS.get(node.op_type, 0) :]


def _walk_with_prefixes(
    nodes: Sequence[NodeProto], prefixes: Prefixes
) -> Iterator[tuple[NodeProto, Prefixes]]:
    """Yield all nodes, those in bodies too, each with the prefixes of the constants it sees."""
    for node in nodes:
        yield node, prefixes
        for body, attribute in _list_single_bodies(node):
            within = (prefixes[0] + prefix_of_body(node, attribute), *prefixes)
            yield from _walk_with_prefixes(body.node, within)


def _list_words(node: NodeProto) -> set[str]:
    """Return the texts that a node lists in its attributes: keys, classes, vocabularies."""
    lists = [a.strings for a in node.attribute if a.type == onnx.AttributeProto.STRINGS]
    return {text.decode(errors="replace") for strings in lists for text in strings[:MAX_BOUNDS]}
