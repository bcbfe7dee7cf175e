"""Lengths that are not fixed: what holds at one size of the inputs need not hold at another."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lady_onnx as lady

from ..helpers.builders import build, node, value, w
from ..helpers.law import check


def list_moved(model: onnx.ModelProto) -> set[tuple[str, int]]:
    """The axes of weights along which units may move."""
    return {(s.initializer, s.axis) for g in lady.find_groups(model).groups for s in g.slots}


@pytest.mark.parametrize("length", [1, 2, 5, 20_000])
def test_no_size_settles_a_condition(length: int) -> None:
    """Whatever the length is compared with, both branches count."""
    bodies = [
        helper.make_graph([node("MatMul", f"h,{name}", f"{name}h")], name, [], [value(f"{name}h")])
        for name in ("b", "c")
    ]
    nodes = [
        node("MatMul", "x,a", "h"),
        node("Shape", "x", "lengths", start=1, end=2),
        node("Equal", "lengths,limit", "is_it"),
        node("If", "is_it", "out", then_branch=bodies[0], else_branch=bodies[1]),
    ]
    weights = {"a": w(3, 6), "b": w(6, 2), "c": w(6, 2), "limit": np.array([length])}
    model = build(nodes, weights, {"x": ["n", "t", 3]})
    assert list_moved(model) == {("a", 1), ("b", 0), ("c", 0)}
    check(model, [6], 1)


def test_branches_of_two_ranks_keep_their_order() -> None:
    then = helper.make_graph(
        [node("ReduceMean", "h", "m", axes=[0], keepdims=0), node("MatMul", "m,v", "t")],
        "then",
        [],
        [value("t")],
    )
    other = helper.make_graph([node("Tanh", "h", "e")], "else", [], [value("e")])
    nodes = [
        node("MatMul", "x,a", "h"),
        node("Shape", "x", "lengths", start=1, end=2),
        node("Less", "lengths,limit", "is_short"),
        node("If", "is_short", "r", then_branch=then, else_branch=other),
        node("MatMul", "r,b", "out"),
    ]
    weights = {"a": w(3, 6), "v": w(6, 6), "b": w(6, 2), "limit": np.array([10])}
    assert not list_moved(build(nodes, weights, {"x": ["n", "t", 3]}))


def test_units_that_a_length_rolls_keep_their_order() -> None:
    nodes = [
        node("MatMul", "x,a", "h"),
        node("Shape", "x", "lengths", start=1, end=2),
        node("Add", "places,lengths", "later"),
        node("Mod", "later,size", "index"),
        node("Gather", "h,index", "rolled", axis=2),
        node("MatMul", "rolled,b", "out"),
    ]
    weights = {"a": w(3, 6), "b": w(6, 2), "places": np.arange(6), "size": np.array(6)}
    assert not list_moved(build(nodes, weights, {"x": ["n", "t", 3]}))


def test_a_part_that_a_fixed_length_tells_is_free() -> None:
    """Half of the channels, counted in the graph: their number is that of a weight."""
    nodes = [
        node("MatMul", "x,a", "h"),
        node("Shape", "h", "lengths"),
        node("Gather", "lengths,last", "width"),
        node("Div", "width,two", "half"),
        node("Slice", "h,zero,half,last", "lo"),
        node("Slice", "h,half,width,last", "hi"),
        node("Relu", "lo", "r"),
        node("Concat", "r,hi", "both", axis=-1),
        node("MatMul", "both,b", "out"),
    ]
    one = {k: np.array([v]) for k, v in (("zero", 0), ("two", 2), ("last", 2))}
    check(build(nodes, {"a": w(3, 6), "b": w(6, 2), **one}, {"x": ["n", "t", 3]}), [3, 3], 1)


@pytest.mark.parametrize("declared", [[1, 1], [8, 1], ["n", 1]])
def test_a_declared_length_of_one_may_be_longer(declared: list[int | str]) -> None:
    """Where nobody can infer a shape, the file may say what it likes."""
    nodes = [
        node("Reshape", "x,shape", "r"),
        node("Add", "r,a", "h"),
        node("Relu", "h", "i"),
        node("MatMul", "i,b", "out"),
    ]
    model = build(nodes, {"a": w(8), "b": w(8, 2)}, {"x": ["n", "m"], "shape": [2]})
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    model.graph.value_info.append(value("r", declared))
    assert not list_moved(model)


def test_tensors_of_too_many_axes_are_left_out() -> None:
    model = build([node("Identity", "x", "out")], {"a": w(2)}, {"x": [1] * 40})
    assert not lady.find_groups(model).groups
    model = build([node("MatMul", "x,a", "out")], {"a": w(3, 2)}, {"x": [1 << 33, 3]})
    assert not lady.find_groups(model).groups


def test_old_operator_sets_are_folded_by_their_own_versions() -> None:
    """Before opset 13, `Unsqueeze` had its axes as an attribute; a reshape hangs on it here."""
    nodes = [
        node("MatMul", "x,a", "h"),
        node("Shape", "h", "lengths"),
        node("Gather", "lengths,first", "count"),
        node("Unsqueeze", "count", "row", axes=[0]),
        node("Concat", "row,rest", "shape", axis=0),
        node("Reshape", "h,shape", "flat"),
        node("MatMul", "flat,b", "out"),
    ]
    weights = {"a": w(3, 6), "b": w(6, 2), "first": np.array(0), "rest": np.array([-1])}
    model = build(nodes, weights, {"x": ["n", 3]})
    model.opset_import[0].version = 11
    check(model, [6], 1)
