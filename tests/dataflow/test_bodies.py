"""Operators with bodies (branches, loops, functions), recurrent layers, and their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady

from ..helpers.builders import build, exact, node, sizes, value, w
from ..helpers.handmade import (
    FLOAT,
    RECURRENT,
    attention,
    branches,
    functions,
    loop,
    recurrent,
    rotary,
    scan,
)
from ..helpers.law import check


def test_branches_share_the_order_of_what_they_return(tmp_path: Path) -> None:
    model, expected = branches()
    assert sizes(model) == expected
    assert {"n_y/then_branch/p", "n_y/else_branch/o"} <= {
        s.initializer for g in lady.find_groups(model).groups for s in g.slots
    }
    exact(model, tmp_path)


@pytest.mark.parametrize("rows", [(70, 70), (70, 90)])
def test_both_branches_count_where_a_length_decides(rows: tuple[int, int]) -> None:
    """As long-context models are exported: one table up to a length, and another beyond it."""
    tables = [w(rows[0], 6), w(rows[1], 6)]
    bodies = [
        helper.make_graph(
            [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(table))],
            name,
            [],
            [value(name, None)],
        )
        for name, table in zip(("short", "long"), tables, strict=True)
    ]
    nodes = [
        node("Shape", "x", "lengths", start=0, end=1),
        node("Less", "lengths,limit", "is_short"),
        node("If", "is_short", "table", then_branch=bodies[0], else_branch=bodies[1]),
        node("Gather", "table,first", "row"),
        node("MatMul", "x,a", "h"),
        node("Add", "h,row", "i"),
        node("Relu", "i", "j"),
        node("MatMul", "j,b", "out"),
    ]
    weights = {"a": w(3, 6), "b": w(6, 2), "limit": np.array([30]), "first": np.array([5])}
    model = build(nodes, weights, {"x": ["n", 3]})
    moved = {s.initializer for g in lady.find_groups(model).groups for s in g.slots}
    assert len(moved) == 4
    check(model, [6], 1)


@pytest.mark.parametrize("is_last_state_read", [False, True])
@pytest.mark.parametrize("is_scan", [False, True])
def test_a_weight_that_a_loop_carries(is_scan: bool, is_last_state_read: bool) -> None:
    """As jax writes a scan over layers: the weight has the order of the state that it meets."""
    inner = [node("MatMul", "h,s", "g"), node("Tanh", "g", "h2"), node("Identity", "s", "s2")]
    states = [value("h"), value("s")], [value("h2"), value("s2")]
    if is_scan:
        inner[0] = node("MatMul", "h,s", "g0")
        inner.insert(1, node("Add", "g0,e", "g"))
        body = helper.make_graph(inner, "b", [*states[0], value("e")], states[1])
        made = node("Scan", "h0,s0,each", "h1 last", num_scan_inputs=1, body=body)
    else:
        inner.append(node("Identity", "go", "go2"))
        count = [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL)]
        goes_on = [value("go2", [], TensorProto.BOOL)]
        body = helper.make_graph(inner, "b", [*count, *states[0]], [*goes_on, *states[1]])
        made = node("Loop", "turns,yes,h0,s0", "h1 last", body=body)
    nodes = [node("MatMul", "x,a", "h0"), made]
    if is_last_state_read:
        nodes += [node("MatMul", "h1,last", "h3")]
    nodes += [node("MatMul", "h3,b" if is_last_state_read else "h1,b", "out")]
    weights = {"a": w(3, 6), "s0": w(6, 6) / 3, "b": w(6, 2)}
    weights |= {"each": w(4, 1)} if is_scan else {"turns": np.array(3), "yes": np.array(True)}
    check(build(nodes, weights, {"x": [4, 3]}), [6], 1)


@pytest.mark.parametrize("turns", [10**8, 10**12])
def test_a_loop_of_endless_turns_takes_no_memory(turns: int) -> None:
    inner = [node("Identity", "go", "go2"), node("Relu", "h", "h2"), node("Relu", "h", "seen")]
    body = helper.make_graph(
        inner,
        "b",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("h")],
        [value("go2", [], TensorProto.BOOL), value("h2"), value("seen")],
    )
    nodes = [node("MatMul", "x,a", "h0"), node("Loop", "turns,yes,h0", "h1 out", body=body)]
    weights = {"a": w(3, 6), "turns": np.array(turns), "yes": np.array(True)}
    assert sizes(build(nodes, weights, {"x": [4, 3]})) == []


def test_a_branch_that_is_never_taken_says_nothing() -> None:
    inner = [node("CumSum", "h,one", "t")]
    then = helper.make_graph([node("Relu", "h", "t")], "t", [], [value("t")])
    other = helper.make_graph(inner, "e", [], [value("t")])
    nodes = [
        node("MatMul", "x,a", "h"),
        node("If", "yes", "y", then_branch=then, else_branch=other),
        node("MatMul", "y,b", "out"),
    ]
    model = build(
        nodes,
        {"a": w(3, 6), "b": w(6, 2), "yes": np.array(True), "one": np.array(1)},
        {"x": [4, 3]},
    )
    assert sizes(model) == [6]


@pytest.mark.parametrize(("known", "condition"), [(True, "yes"), (True, ""), (False, "yes")])
def test_a_loop_carries_its_state_in_one_order(known: bool, condition: str, tmp_path: Path) -> None:
    model, expected = loop(known, condition)
    assert sizes(model) == expected
    exact(model, tmp_path)


def test_a_scan_runs_along_time(tmp_path: Path) -> None:
    model, expected = scan()
    assert sizes(model) == expected
    exact(model, tmp_path)


def test_functions_are_run_through_at_every_call(tmp_path: Path) -> None:
    model, expected = functions()
    assert sizes(model) == expected
    assert "own.Layer/k" in {s.initializer for g in lady.find_groups(model).groups for s in g.slots}
    exact(model, tmp_path)


def test_sparse_weights(tmp_path: Path) -> None:
    dense = np.where(np.arange(15).reshape(3, 5) % 4 == 0, w(3, 5), 0).astype(np.float32)
    nodes = [node("MatMul", "x,a", "h"), node("Relu", "h", "r"), node("MatMul", "r,b", "out")]
    model = build(nodes, {"b": w(5, 2)}, {"x": [4, 3]})
    places = np.flatnonzero(dense)
    values = numpy_helper.from_array(dense.ravel()[places], "a")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(places, "a_i"), [3, 5])
    model.graph.sparse_initializer.append(sparse)
    assert sizes(model) == [5]
    exact(model, tmp_path)


@pytest.mark.parametrize(("op", "directions", "extra"), RECURRENT)
def test_recurrent_layers_have_one_order_a_direction(op: str, directions: int, extra: str) -> None:
    model, expected = recurrent(op, directions, extra)
    if extra == "layout":
        # onnxruntime does not run this layout on the CPU
        assert sorted(g.size for g in lady.find_groups(model).groups) == expected
    else:
        assert sizes(model) == expected
    exact(model)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_what_recurrent_layers_return_keeps_its_order_in_time(op: str) -> None:
    gates, h = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 5
    nodes = [
        helper.make_node(op, ["x", "W", "R"], ["y"], hidden_size=h),
        node("Reshape", "y,shape", "flat"),
        node("MatMul", "flat,c", "out"),
    ]
    weights = {
        "W": w(1, gates * h, 3),
        "R": w(1, gates * h, h),
        "c": w(4 * h, 2),
        "shape": np.array([1, -1]),
    }
    assert sizes(build(nodes, weights, {"x": [4, 1, 3]})) == [h]


@pytest.mark.parametrize("keys", [1, 2, 4])
def test_attention_as_one_operator(keys: int) -> None:
    model, expected = attention(keys)
    assert sizes(model) == expected
    exact(model)


def test_rotary_embedding_as_one_operator() -> None:
    model, expected = rotary()
    assert sizes(model) == expected
    exact(model)


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "INT8", "FLOAT8E4M3FN", "FLOAT8E5M2"])
@pytest.mark.parametrize("scales", ["tensor", "channel", "block"])
def test_weights_of_few_bits(kind: str, scales: str, tmp_path: Path) -> None:
    """Dequantised weights, packed or not.

    They have one scale, one a unit, or one for three rows of a unit.
    """
    element = getattr(TensorProto, kind)
    dtype = helper.tensor_dtype_to_np_dtype(element)
    values = (np.abs(w(6, 5)) if kind == "UINT4" else w(6, 5)) * (3 if "INT" in kind else 1)
    shape: dict[str, tuple[int, ...]] = {"tensor": (), "channel": (5,), "block": (2, 5)}
    attributes = {"tensor": {}, "channel": {"axis": 1}, "block": {"axis": 0, "block_size": 3}}[
        scales
    ]
    nodes = [
        node("MatMul", "x,a", "h"),
        node("DequantizeLinear", "b,scale", "c", **attributes),
        node("MatMul", "h,c", "i"),
        node("MatMul", "i,d", "out"),
    ]
    weights = {"a": w(3, 6), "scale": np.abs(w(*shape[scales])) + np.float32(0.1), "d": w(5, 2)}
    model = build(nodes, weights, {"x": [4, 3]}, opset=21)
    model.ir_version = 10
    # processors may raise the flag of invalid operations for a number that has no place in the type
    with np.errstate(invalid="ignore"):
        short = np.clip(values, -7, 7).astype(dtype)
    model.graph.initializer.append(numpy_helper.from_array(short, "b"))
    # a scale for three rows makes two blocks of them
    assert sizes(model) == ([2, 3, 3, 5] if scales == "block" else [5, 6])
    exact(model, tmp_path)


def test_weights_in_brain_floats(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "x", "low", to=TensorProto.BFLOAT16),
        node("Cast", "a", "a1", to=FLOAT),
        node("Cast", "low", "x1", to=FLOAT),
        node("MatMul", "x1,a1", "h"),
        node("MatMul", "h,b", "out"),
    ]
    model = build(nodes, {"b": w(5, 2)}, {"x": [4, 3]})
    dtype = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
    model.graph.initializer.append(numpy_helper.from_array(w(3, 5).astype(dtype), "a"))
    assert sizes(model) == [5]
    exact(model, tmp_path)
