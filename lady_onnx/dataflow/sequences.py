"""Sequences of tensors: where each comes from, each of their tensors under a name of its own.

A sequence whose length, or a place in which, hangs on the graph's inputs is not followed: its tensors are pinned.
Spec: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from onnx import NodeProto, TensorProto

from ..errors import UnknownStructure
from ..graph.nodes import read_attributes
from ..rules import Elementwise, Kind, Movement, Reshape, Step, Take, find_rule
from .inference import Inference
from .tensors import Tensor

Result = Tensor | list[str]
"""A tensor, or the names of a sequence's tensors."""


class Engine(Protocol):
    """What sequences ask of the engine that follows them."""

    inference: Inference
    tensors: dict[str, Tensor]
    items: dict[str, list[str]]
    """The names of the tensors in each sequence."""

    def tensor(self, name: str) -> Tensor | None: ...

    def results(
        self,
        kind: Kind,
        operands: Sequence[Tensor | None],
        loose: Sequence[bool],
        inferred: Sequence[tuple[int, ...] | None],
    ) -> list[Tensor]: ...


def is_sequence_node(engine: Engine, node: NodeProto) -> bool:
    """Does this node make, change or read a sequence, and is it no map over one?"""
    rule = find_rule(node.domain, node.op_type)
    if rule is None or rule.domain:
        return False
    is_copied = node.op_type == "Identity" and not engine.items.keys().isdisjoint(node.input)
    return rule.makes_sequences or is_copied


def list_items(engine: Engine, name: str) -> list[str]:
    """The names of the tensors in a sequence; UnknownStructure where they are not known."""
    if name not in engine.items:
        raise UnknownStructure("a sequence that cannot be followed")
    return engine.items[name]


def run_sequence_node(engine: Engine, node: NodeProto) -> list[Result]:
    """The result of a node that has to do with sequences."""
    match node.op_type:
        case "Identity":
            return [list_items(engine, node.input[0])]
        case "SequenceEmpty":
            return [[]]
        case "SequenceConstruct":
            return [list(node.input)]
        case "SequenceInsert":
            names = list(list_items(engine, node.input[0]))
            names.insert(_place(engine, node, 2, len(names)), node.input[1])
            return [names]
        case "SequenceErase":
            names = list(list_items(engine, node.input[0]))
            del names[_place(engine, node, 1, len(names) - 1)]
            return [names]
        case "SequenceAt":
            names = list_items(engine, node.input[0])
            if engine.inference.value(node.input[1]) is None:
                result = _any(engine, names)
                engine.inference.declare_like(node.output[0], result.shape, names[0])
                return [result]
            name = names[_place(engine, node, 1, len(names) - 1)]
            engine.inference.same(node.output[0], name)
            return [read_tensor(engine, name)]
        case "SequenceLength":
            engine.inference.give(node.output[0], np.array(len(list_items(engine, node.input[0]))))
            return [Tensor(())]
        case "SplitToSequence":
            return [_split(engine, node)]
    return [_concat(engine, node)]


def read_tensor(engine: Engine, name: str) -> Tensor:
    """The tensor of that name; UnknownStructure where its shape is not known."""
    found = engine.tensor(name)
    if found is None:
        raise UnknownStructure("an operand of unknown shape")
    return found


def _value(engine: Engine, name: str) -> np.ndarray | None:
    """The values of what may be a shape or an index, else None: a weight that is read for its values is pinned."""
    kind = engine.inference.type_of(name)
    whole = kind is not None and kind.tensor_type.elem_type in (
        TensorProto.INT32,
        TensorProto.INT64,
    )
    return engine.inference.value(name) if whole else None


def _any(engine: Engine, names: Sequence[str]) -> Tensor:
    """A tensor that may be any one of a sequence: they share their order."""
    tensors = [read_tensor(engine, n) for n in names]
    if len({t.shape for t in tensors}) != 1:
        raise UnknownStructure(
            "a place in a sequence of many shapes that hangs on the graph's inputs"
        )
    return engine.results(Elementwise(), tensors, [False] * len(names), [None])[0]


def _place(engine: Engine, node: NodeProto, operand: int, last: int) -> int:
    """A place in a sequence, counted from the front; the last one where the operand is missing."""
    if len(node.input) <= operand or not node.input[operand]:
        return last
    value = engine.inference.value(node.input[operand])
    if value is None:
        raise UnknownStructure("a place in a sequence that hangs on the graph's inputs")
    place = int(value.item())
    place += (last + 1 if node.op_type != "SequenceInsert" else last) * (place < 0)
    if not 0 <= place <= last:
        raise UnknownStructure("a place beyond the end of a sequence")
    return place


def _split(engine: Engine, node: NodeProto) -> list[str]:
    source = node.input[0]
    whole = read_tensor(engine, source)
    given = read_attributes(node)
    axis = given.get("axis", 0) % len(whole.shape)
    size = whole.shape[axis]
    squeezed = False
    if len(node.input) > 1 and node.input[1]:
        split = engine.inference.value(node.input[1])
        if split is None:
            raise UnknownStructure("a split that hangs on the graph's inputs")
        ends = (
            np.minimum(np.arange(1, -(-size // int(split)) + 1) * int(split), size)
            if split.ndim == 0
            else split.cumsum()
        )
        if split.ndim and ends[-1:] != [size]:
            raise UnknownStructure("a split that does not add up")
    else:
        ends = np.arange(1, size + 1)
        squeezed = not given.get("keepdims", 1)
    pieces: list[tuple[tuple[int, ...], list[Step]]] = []
    for start, end in zip([0, *ends[:-1]], ends, strict=False):
        steps: list[Step] = [Take(axis, np.arange(start, end))]
        pieces.append(
            (
                (0,),
                [*steps, Reshape(whole.shape[:axis] + whole.shape[axis + 1 :])]
                if squeezed
                else steps,
            )
        )
    results = engine.results(Movement(pieces), [whole], [source in engine.inference.loose], [])
    names = [f"{node.output[0]}\0{number}" for number in range(len(results))]
    value = _value(engine, source)
    for name, result, start, end in zip(names, results, [0, *ends[:-1]], ends, strict=False):
        engine.tensors[name] = result
        engine.inference.declare_like(name, result.shape, source)
        if value is not None:
            engine.inference.give(
                name, value.take(np.arange(start, end), axis).reshape(result.shape)
            )
    return names


def _concat(engine: Engine, node: NodeProto) -> Tensor:
    names = list_items(engine, node.input[0])
    given = read_attributes(node)
    tensors = [read_tensor(engine, n) for n in names]
    loose = [n in engine.inference.loose for n in names]
    axis = given["axis"]
    if given.get("new_axis", 0):
        axis %= len(tensors[0].shape) + 1
        for i, (one, free) in enumerate(zip(tensors, loose, strict=True)):
            shape = (*one.shape[:axis], 1, *one.shape[axis:])
            tensors[i] = engine.results(Movement([((0,), [Reshape(shape)])]), [one], [free], [])[0]
    result = engine.results(Movement([(tuple(range(len(tensors))), [])], axis), tensors, loose, [])[
        0
    ]
    values = [value for n in names if (value := _value(engine, n)) is not None]
    first = next((n for n, free in zip(names, loose, strict=True) if free), names[0])
    engine.inference.declare_like(node.output[0], result.shape, first)
    if len(values) == len(names):
        join = np.stack if given.get("new_axis", 0) else np.concatenate
        engine.inference.give(node.output[0], join(values, axis))
    return result
