"""What the analysis is not sure of pins what it touches."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lady_onnx as lady

from ..helpers.builders import build, sizes, w


def test_a_result_that_a_rule_does_not_name_pins_the_operands() -> None:
    """The indices of a MaxPool count through the channels."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"]),
        helper.make_node("MaxPool", ["h"], ["p", "i"], kernel_shape=[2, 2]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["p", "f"], ["m"]),
        helper.make_node("Conv", ["m", "b"], ["out"]),
    ]
    assert sizes(build(nodes, {"a": w(5, 3, 1, 1), "b": w(2, 5, 1, 1)}, {"x": [1, 3, 4, 4]})) == []


def test_a_weight_that_is_also_read_as_an_index_is_pinned() -> None:
    nodes = [
        helper.make_node("Gather", ["a", "both"], ["ab"], axis=1),
        helper.make_node("MatMul", ["x", "ab"], ["h"]),
        helper.make_node("Cast", ["both"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["h", "f"], ["m"]),
        helper.make_node("MatMul", ["m", "b"], ["out"]),
    ]
    weights = {"a": w(3, 5), "b": w(5, 2), "both": np.array([4, 2, 0, 1, 3])}
    assert sizes(build(nodes, weights, {"x": [1, 3]})) == []


def test_a_node_that_is_not_as_its_specification_says() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("DepthToSpace", ["h"], ["d"], blocksize=2),
        helper.make_node("Reshape", ["d", "s"], ["out"]),
    ]
    model = build(nodes, {"a": w(3, 5), "s": np.array([-1])}, {"x": [1, 3]})
    symmetry = lady.find_groups(model)
    assert not symmetry.groups
    assert any("does not fit its rule" in p.reason for p in symmetry.pinned)


def test_a_symbolic_axis_may_be_longer_than_one() -> None:
    """A table is added to tokens, and one is contracted with them.

    Its rows keep their order, whatever the axis is called.
    """
    nodes = [
        helper.make_node("Add", ["x", "table"], ["h"]),
        helper.make_node("MatMul", ["h", "a"], ["k"]),
        helper.make_node("Relu", ["k"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["m"], axes=[0], keepdims=0),
        helper.make_node("MatMul", ["m", "b"], ["out"]),
    ]
    model = build(nodes, {"table": w(16, 4), "a": w(4, 5), "b": w(5, 2)}, {"x": ["S", 4]})
    assert sizes(model, x=w(16, 4)) == [5]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"]),
        helper.make_node("MatMul", ["t", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["out"]),
    ]
    assert sizes(build(nodes, {"a": w(16, 5), "b": w(5, 2)}, {"x": ["S", 8]}), x=w(16, 8)) in (
        [],
        [5],
    )


@pytest.mark.parametrize("shape", [["N"], None], ids=["symbolic", "unknown"])
def test_inputs_of_unknown_shape_pin_what_they_meet(shape: list | None) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Mul", ["h", "s"], ["m"]),
        helper.make_node("MatMul", ["m", "b"], ["out"]),
    ]
    model = build(nodes, {"a": w(3, 4), "b": w(4, 2)}, {"x": [1, 3], "s": shape})
    assert sizes(model) == []
    if shape is None:
        with pytest.raises(lady.LadyError, match="input 's' has no shape"):
            lady.verify(model, model)


def test_a_batch_of_one_that_is_baked_in() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["out"]),
    ]
    assert sizes(
        build(nodes, {"a": w(3, 5), "b": w(5, 2), "shape": np.array([1, 5])}, {"x": ["N", 3]})
    ) == [5]


@pytest.mark.parametrize(
    "odd",
    [
        helper.make_node("Constant", [], ["odd"]),
        helper.make_node("Constant", [], ["odd"], value_string="text"),
        helper.make_node("Einsum", ["r", "r"], ["odd"]),
        helper.make_node("Transpose", ["r"], ["odd"], perm=[0, 0]),
        helper.make_node("Range", ["nought", "five", "nought"], ["odd"]),
        helper.make_node("Concat", ["r", "five"], ["odd"], axis=7),
        helper.make_node("", ["r"], ["odd"]),
    ],
    ids=lambda n: f"{n.op_type}-{len(n.input)}",
)
def test_broken_nodes_break_nothing(odd: onnx.NodeProto) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        odd,
        helper.make_node("MatMul", ["r", "b"], ["out"]),
    ]
    weights = {"a": w(3, 5), "b": w(5, 2), "nought": np.array(0), "five": np.array(5)}
    model = build(nodes, weights, {"x": ["N", 3]})
    model.graph.output.append(helper.make_tensor_value_info("odd", TensorProto.FLOAT, None))
    assert all(g.size == 5 for g in lady.find_groups(model).groups)


def test_rows_that_nothing_reads_are_pinned_as_unread() -> None:
    nodes = [
        helper.make_node("Slice", ["table", "zero", "four", "zero"], ["t"]),
        helper.make_node("Add", ["x", "t"], ["h"]),
        helper.make_node("MatMul", ["h", "a"], ["k"]),
        helper.make_node("Relu", ["k"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["out"]),
    ]
    weights = {
        "table": w(9, 6),
        "a": w(6, 5),
        "b": w(5, 2),
        "zero": np.array([0]),
        "four": np.array([4]),
    }
    model = build(nodes, weights, {"x": [1, 4, 6]})
    assert sizes(model) == [5]
    assert ("table", 0, "unread") in {
        (p.initializer, p.axis, p.reason) for p in lady.find_groups(model).pinned
    }
