"""Operators on sequences of tensors: where each tensor comes from.

Each tensor of a sequence has a name of its own. A sequence whose length depends on the graph's
inputs is not followed, nor is a place in one that does: the tensors are pinned.
Spec: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from ..errors import UnknownStructureError
from ..graph.nodes import read_attributes
from ..rules import Elementwise, Movement, Reshape, Step, Take
from ..vocabulary import structure
from .labels.tensors import Tensor
from .state import COPY_OPERATOR, Result, WalkState, name_operator
from .transfer import apply_rule

SequenceHandler = Callable[[WalkState, NodeProto], Result]


def is_sequence_node(state: WalkState, node: NodeProto) -> bool:
    """Tell whether a node makes, changes or reads a sequence; a map over one is not meant."""
    operator = name_operator(node)
    if operator not in SEQUENCE_HANDLERS:
        return False
    # an identity is one where it copies a sequence
    return SEQUENCE_HANDLERS[
        operator
    ] is not _copy_sequence or not state.sequences.keys().isdisjoint(node.input)


def run_sequence_node(state: WalkState, node: NodeProto) -> list[Result]:
    """Run a node that has to do with sequences, and return its one result.

    Raises:
        UnknownStructureError: a sequence or a place in one cannot be followed.
    """
    return [SEQUENCE_HANDLERS[name_operator(node)](state, node)]


def _copy_sequence(state: WalkState, node: NodeProto) -> Result:
    return state.list_items(node.input[0])


def _make_empty(state: WalkState, node: NodeProto) -> Result:
    return []


def _make_sequence(state: WalkState, node: NodeProto) -> Result:
    return list(node.input)


def _insert_item(state: WalkState, node: NodeProto) -> Result:
    names = list(state.list_items(node.input[0]))
    place = _read_place(state, node, 2, last=len(names), length=len(names))
    names.insert(place, node.input[1])
    return names


def _erase_item(state: WalkState, node: NodeProto) -> Result:
    names = list(state.list_items(node.input[0]))
    del names[_read_place(state, node, 1, last=len(names) - 1, length=len(names))]
    return names


def _take_item(state: WalkState, node: NodeProto) -> Result:
    names = state.list_items(node.input[0])
    if state.inference.values.find_value(node.input[1]) is None:
        result = _take_any(state, names)
        state.inference.types.declare_like(node.output[0], result.shape, names[0])
        return result
    name = names[_read_place(state, node, 1, last=len(names) - 1, length=len(names))]
    state.inference.copy_tensor(node.output[0], name)
    return state.read_tensor(name)


def _count_items(state: WalkState, node: NodeProto) -> Result:
    state.inference.give_value(node.output[0], np.array(len(state.list_items(node.input[0]))))
    return Tensor(())


def _take_any(state: WalkState, names: Sequence[str]) -> Tensor:
    """Make a tensor that may be any one of a sequence: all of them share their order."""
    tensors = [state.read_tensor(n) for n in names]
    if len({t.shape for t in tensors}) != 1:
        raise UnknownStructureError(
            "a place in a sequence of many shapes that hangs on the graph's inputs"
        )
    return apply_rule(state.labelling, Elementwise(), tensors, [False] * len(names), [None])[0]


def _read_place(state: WalkState, node: NodeProto, operand: int, last: int, length: int) -> int:
    """Read a place in a sequence, counted from the front; `last` where the operand is missing.

    Args:
        state: the walk.
        node: the node that names the place.
        operand: the operand that gives the place, counted from the end where it is negative.
        last: the highest place that is allowed.
        length: the number of tensors in the sequence.
    """
    if len(node.input) <= operand or not node.input[operand]:
        return last
    value = state.inference.values.find_value(node.input[operand])
    if value is None:
        raise UnknownStructureError("a place in a sequence that hangs on the graph's inputs")
    place = int(value.item())
    place += length * (place < 0)
    if not 0 <= place <= last:
        raise UnknownStructureError("a place beyond the end of a sequence")
    return place


def _split_tensor(state: WalkState, node: NodeProto) -> Result:
    source = node.input[0]
    whole = state.read_tensor(source)
    axis = read_attributes(node).get("axis", 0) % len(whole.shape)
    ends, squeezed = _read_split(state, node, whole.shape[axis])
    starts = [0, *ends[:-1]]
    pieces: list[tuple[tuple[int, ...], list[Step]]] = []
    for start, end in zip(starts, ends, strict=False):
        steps: list[Step] = [Take(axis, np.arange(start, end))]
        if squeezed:
            steps.append(Reshape(whole.shape[:axis] + whole.shape[axis + 1 :]))
        pieces.append(((0,), steps))
    loose = [source in state.inference.types.loose]
    results = apply_rule(state.labelling, Movement(pieces), [whole], loose, [])
    # no name in a file holds a null character
    names = [f"{node.output[0]}\0{number}" for number in range(len(results))]
    value = _read_integers(state, source)
    for name, result, start, end in zip(names, results, starts, ends, strict=False):
        state.tensors[name] = result
        state.inference.types.declare_like(name, result.shape, source)
        if value is not None:
            piece = value.take(np.arange(start, end), axis)
            state.inference.give_value(name, piece.reshape(result.shape))
    return names


def _read_split(state: WalkState, node: NodeProto, size: int) -> tuple[np.ndarray, bool]:
    """Find where the pieces of an axis of `size` end, and whether the axis disappears."""
    if len(node.input) < 2 or not node.input[1]:
        return np.arange(1, size + 1), not read_attributes(node).get("keepdims", 1)
    split = state.inference.values.find_value(node.input[1])
    if split is None:
        raise UnknownStructureError("a split that hangs on the graph's inputs")
    # one number is the length of all pieces but the last, which may be shorter
    if split.ndim == 0:
        return np.minimum(np.arange(1, -(-size // int(split)) + 1) * int(split), size), False
    ends = split.cumsum()
    if ends[-1:] != [size]:
        raise UnknownStructureError("a split that does not add up")
    return ends, False


def _concatenate_items(state: WalkState, node: NodeProto) -> Result:
    names = state.list_items(node.input[0])
    given = read_attributes(node)
    tensors = [state.read_tensor(n) for n in names]
    loose = [n in state.inference.types.loose for n in names]
    axis, stacks = given["axis"], given.get("new_axis", 0)
    if stacks:
        axis %= len(tensors[0].shape) + 1
        for i, (one, free) in enumerate(zip(tensors, loose, strict=True)):
            shape = (*one.shape[:axis], 1, *one.shape[axis:])
            insertion = Movement([((0,), [Reshape(shape)])])
            tensors[i] = apply_rule(state.labelling, insertion, [one], [free], [])[0]
    joining = Movement([(tuple(range(len(tensors))), [])], axis)
    result = apply_rule(state.labelling, joining, tensors, loose, [])[0]
    values = [value for n in names if (value := _read_integers(state, n)) is not None]
    # the result is loose if any of the tensors is
    first = next((n for n, free in zip(names, loose, strict=True) if free), names[0])
    state.inference.types.declare_like(node.output[0], result.shape, first)
    if len(values) == len(names):
        join = np.stack if stacks else np.concatenate
        state.inference.give_value(node.output[0], join(values, axis))
    return result


def _read_integers(state: WalkState, name: str) -> np.ndarray | None:
    """Return the values of what may be a shape or an index, else None.

    Other tensors are not asked for: a weight that is read for its values is pinned.
    """
    kind = state.inference.types.find_type(name)
    whole = kind is not None and kind.tensor_type.elem_type in (
        TensorProto.INT32,
        TensorProto.INT64,
    )
    return state.inference.values.find_value(name) if whole else None


SEQUENCE_HANDLERS: dict[str, SequenceHandler] = {
    structure.CONCAT_FROM_SEQUENCE: _concatenate_items,
    COPY_OPERATOR: _copy_sequence,
    structure.SEQUENCE_AT: _take_item,
    structure.SEQUENCE_CONSTRUCT: _make_sequence,
    structure.SEQUENCE_EMPTY: _make_empty,
    structure.SEQUENCE_ERASE: _erase_item,
    structure.SEQUENCE_INSERT: _insert_item,
    structure.SEQUENCE_LENGTH: _count_items,
    structure.SPLIT_TO_SEQUENCE: _split_tensor,
}
"""The operators of sequences, and the identity, which is one where its operand is a sequence."""
