"""Files that are no valid ones of their operator sets are no copies of valid ones."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady


def _build(
    operator: str,
    opset: int,
    kind: int = TensorProto.FLOAT,
    result: int | None = None,
    count: int = 1,
    **attributes: object,
) -> onnx.ModelProto:
    """Build a model of one operator on inputs of one type, and of a projection beside it."""
    names = [f"x{k}" for k in range(count)]
    nodes = [
        helper.make_node(operator, names, ["y"], **attributes),
        helper.make_node("MatMul", ["z", "weight"], ["scores"]),
    ]
    inputs = [helper.make_tensor_value_info(n, kind, [2, 3]) for n in names]
    inputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 80]))
    weight = np.random.default_rng(0).standard_normal((80, 60)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs,
        [
            helper.make_tensor_value_info("y", result or kind, None),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize(
    ("operator", "old", "new", "kind", "result", "count", "attributes"),
    [
        ("Min", 8, 13, TensorProto.INT64, None, 2, {}),
        ("Div", 13, 14, TensorProto.INT16, None, 2, {}),
        ("Clip", 11, 13, TensorProto.INT8, None, 1, {}),
        ("Less", 8, 13, TensorProto.UINT64, TensorProto.BOOL, 2, {}),
        ("Flatten", 9, 13, TensorProto.FLOAT, None, 1, {"axis": -1}),
    ],
)
def test_types_that_an_older_version_does_not_have(
    operator: str,
    old: int,
    new: int,
    kind: int,
    result: int | None,
    count: int,
    attributes: dict[str, object],
) -> None:
    valid = _build(operator, new, kind, result, count, **attributes)
    other = _build(operator, old, kind, result, count, **attributes)
    found = lady.check(valid, other)
    assert not found.accepted, found.reason
    assert "not valid in its operator sets" in found.reason
    assert not lady.check(other, valid).accepted
    # nothing is said of a file that is like its reference
    assert lady.check(other, other).verdict == "identical"


def test_versions_that_both_allow_are_one_program() -> None:
    for new in (9, 11, 13, 17, 21):
        found = lady.check(_build("Min", 8, count=2), _build("Min", new, count=2))
        assert found.verdict == "identical", found.reason


@pytest.mark.parametrize(
    ("operator", "operands"),
    [
        ("Pad", [np.zeros(4, np.int64), np.array([1, 2], np.float32)]),
        ("Dropout", [np.array(1.5, np.float32)]),
        ("Dropout", [np.array([0.5, 0.5], np.float32)]),
    ],
)
def test_what_does_nothing_is_as_its_operator_has_it(
    operator: str, operands: list[np.ndarray]
) -> None:
    plain, other = _build("Identity", 17), _build("Identity", 17)
    node = other.graph.node[0]
    node.op_type = operator
    for k, array in enumerate(operands):
        node.input.append(f"operand{k}")
        other.graph.initializer.append(numpy_helper.from_array(array, f"operand{k}"))
    assert not lady.check(plain, other).accepted
    # the same node with operands that fit does nothing
    fitting = [operands[0], np.array(1, np.float32)] if operator == "Pad" else [np.float32(0.5)]
    for k, array in enumerate(fitting):
        other.graph.initializer[k + 1].CopyFrom(
            numpy_helper.from_array(np.asarray(array), f"operand{k}")
        )
    assert lady.check(plain, other).verdict == "identical"
