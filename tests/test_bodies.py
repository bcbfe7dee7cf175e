"""Operators with bodies (branches, loops, functions), recurrent layers, and their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady

from .builders import Case, build, exact, node, sizes, value, w

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def branches() -> Case:
    """Both branches end in one tensor of 5; one has a layer of 7 and its weights inside."""
    inner = [numpy_helper.from_array(w(6, 7), "p"), numpy_helper.from_array(w(7, 5), "q")]
    then = helper.make_graph(
        [node("MatMul", "h,p", "s"), node("Relu", "s", "r"), node("MatMul", "r,q", "t")],
        "t",
        [],
        [value("t")],
        inner,
    )
    other = helper.make_graph(
        [
            helper.make_node("Constant", [], ["o"], value=numpy_helper.from_array(w(6, 5))),
            node("MatMul", "h,o", "e"),
        ],
        "e",
        [],
        [value("e")],
    )
    nodes = [
        node("MatMul", "x,a", "h"),
        node("ReduceSum", "x", "total", keepdims=0),
        node("Greater", "total,zero", "c"),
        node("If", "c", "y", then_branch=then, else_branch=other),
        node("MatMul", "y,b", "out"),
    ]
    return build(
        nodes, {"a": w(3, 6), "b": w(5, 2), "zero": np.array(0, np.float32)}, {"x": [4, 3]}
    ), [5, 6, 7]


def test_branches_share_the_order_of_what_they_return(tmp_path: Path) -> None:
    model, expected = branches()
    assert sizes(model) == expected
    assert {"n_y/then_branch/p", "n_y/else_branch/o"} <= {
        s.initializer for g in lady.find_groups(model).groups for s in g.slots
    }
    exact(model, tmp_path)


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


def loop(known: bool) -> Case:
    """The state of 5 is tied to itself from turn to turn, with a hidden layer of 7 inside."""
    body = helper.make_graph(
        [
            node("MatMul", "v,p", "s"),
            node("Relu", "s", "r"),
            node("MatMul", "r,q", "t"),
            node("Add", "v,t", "v2"),
            node("Identity", "go", "go2"),
            *([node("Relu", "v2", "seen")] if known else []),
        ],
        "body",
        [value("i", [], INT), value("go", [], BOOL), value("v")],
        [value("go2", [], BOOL), value("v2"), *([value("seen")] if known else [])],
        [numpy_helper.from_array(w(5, 7) / 4, "p"), numpy_helper.from_array(w(7, 5) / 4, "q")],
    )
    nodes = [
        node("MatMul", "x,a", "h"),
        *([] if known else [node("Shape", "x", "n0"), node("Gather", "n0,zero", "turns")]),
        node("Loop", "turns,yes,h", "y all" if known else "y", body=body),
        *(
            [node("ReduceSum", "all,zeros", "more", keepdims=0), node("Add", "y,more", "z")]
            if known
            else [node("Relu", "y", "z")]
        ),
        node("MatMul", "z,b", "out"),
    ]
    weights = {
        "a": w(3, 5),
        "b": w(5, 2),
        "yes": np.array(True),
        "zero": np.array(0),
        "zeros": np.array([0]),
    }
    return build(nodes, {**weights, **({"turns": np.array(3)} if known else {})}, {"x": [4, 3]}), [
        5,
        7,
    ]


@pytest.mark.parametrize("known", [True, False])
def test_a_loop_carries_its_state_in_one_order(known: bool, tmp_path: Path) -> None:
    model, expected = loop(known)
    assert sizes(model) == expected
    exact(model, tmp_path)


def scan() -> Case:
    """A recurrent layer of 5, written as a Scan over time, with what it saw stacked."""
    body = helper.make_graph(
        [
            node("MatMul", "x1,p", "s"),
            node("MatMul", "v,q", "t"),
            node("Add", "s,t", "u"),
            node("Tanh", "u", "v2"),
            node("Relu", "v2", "seen"),
        ],
        "body",
        [value("v"), value("x1")],
        [value("v2"), value("seen")],
        [numpy_helper.from_array(w(6, 5) / 2, "p"), numpy_helper.from_array(w(5, 5) / 2, "q")],
    )
    nodes = [
        node("MatMul", "x,a", "h"),
        node(
            "Scan",
            "start,h",
            "last all",
            num_scan_inputs=1,
            body=body,
            scan_input_axes=[1],
            scan_output_axes=[1],
        ),
        node("ReduceMean", "all", "mean", axes=[1], keepdims=0),
        node("Add", "last,mean", "z"),
        node("MatMul", "z,b", "out"),
    ]
    return build(nodes, {"a": w(3, 6), "b": w(5, 2), "start": w(1, 5)}, {"x": [1, 4, 3]}), [5, 6]


def test_a_scan_runs_along_time(tmp_path: Path) -> None:
    model, expected = scan()
    assert sizes(model) == expected
    exact(model, tmp_path)


def functions() -> Case:
    """A local function with a weight of its own, called twice, once from another function."""
    opset = [helper.make_opsetid("", 17)]
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(w(1, 5)))
    leak = helper.make_node("LeakyRelu", ["g"], ["o"])
    leak.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    layer = helper.make_function(
        "own",
        "Layer",
        ["v", "m"],
        ["o"],
        [node("MatMul", "v,m", "f"), constant, node("Add", "f,k", "g"), leak],
        opset,
        ["slope"],
    )
    twice = helper.make_function(
        "own",
        "Twice",
        ["v", "m"],
        ["o"],
        [
            node("Relu", "v", "r"),
            helper.make_node("Layer", ["r", "m"], ["o"], domain="own", slope=0.2),
        ],
        [*opset, helper.make_opsetid("own", 1)],
    )
    nodes = [
        helper.make_node("Layer", ["x", "a"], ["h"], domain="own", slope=0.1),
        helper.make_node("Twice", ["h", "b"], ["i"], domain="own"),
        node("MatMul", "i,c", "out"),
    ]
    model = build(nodes, {"a": w(3, 5), "b": w(5, 5), "c": w(5, 2)}, {"x": [4, 3]})
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.extend([layer, twice])
    # the constant inside the function ties both calls
    return model, [5]


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


RECURRENT = [
    (op, directions, extra)
    for op in ("LSTM", "GRU", "RNN")
    for directions in (1, 2)
    for extra in ("plain", "all", "layout")
    if not (op != "LSTM" and extra == "all")
]


def recurrent(op: str, directions: int, extra: str) -> Case:
    """Gates, recurrent matrix, bias, peepholes and initial states move together.

    There is one order a direction.
    """
    gates, h, f = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 5, 6
    full = extra == "all"
    weights = {
        "a": w(3, f),
        "W": w(directions, gates * h, f) / 2,
        "R": w(directions, gates * h, h) / 2,
        "B": w(directions, 2 * gates * h),
    }
    inputs = ["s", "W", "R", "B"]
    if full:
        weights |= {
            "h0": w(directions, 1, h),
            "c0": w(directions, 1, h),
            "P": w(directions, 3 * h),
            "n": np.array([4], np.int32),
        }
        inputs += ["n", "h0", "c0", "P"]
    weights |= {"c": w(directions * h, 2), "shape": np.array([4, directions * h])}
    layout = {"layout": 1} if extra == "layout" else {}
    nodes = [
        node("MatMul", "x,a", "m"),
        node("Unsqueeze", f"m,{'zero' if layout else 'one'}", "s"),
        helper.make_node(
            op,
            inputs,
            ["y"],
            hidden_size=h,
            direction="bidirectional" if directions == 2 else "forward",
            **layout,
        ),
        # [time, direction, batch, hidden], or the batch first
        node("Transpose", "y", "t", perm=[0, 1, 2, 3] if layout else [0, 2, 1, 3]),
        node("Reshape", "t,shape", "flat"),
        node("MatMul", "flat,c", "out"),
    ]
    model = build(nodes, {**weights, "one": np.array([1]), "zero": np.array([0])}, {"x": [4, 3]})
    return model, sorted([f, *[h] * directions])


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


def attention(keys: int) -> Case:
    """Key heads, and query heads inside each.

    Every key head has an order of its query-key dimensions and one of its value dimensions.
    """
    heads, d, e, c = 4, 3, 5, 6
    weights = {
        "wq": w(c, heads * d),
        "wk": w(c, keys * d),
        "wv": w(c, keys * e),
        "wo": w(heads * e, 2),
    }
    nodes = [
        node("MatMul", "x,wq", "q"),
        node("MatMul", "x,wk", "k"),
        node("MatMul", "x,wv", "v"),
        helper.make_node("Attention", ["q", "k", "v"], ["y"], q_num_heads=heads, kv_num_heads=keys),
        node("MatMul", "y,wo", "out"),
    ]
    inner = [heads // keys] * keys if keys < heads else []
    expected = [keys, *inner, *[d] * keys, *[e] * keys]
    model = build(nodes, weights, {"x": [1, 4, c]}, opset=23)
    model.ir_version = 11
    return model, sorted(n for n in expected if n > 1)


@pytest.mark.parametrize("keys", [1, 2, 4])
def test_attention_as_one_operator(keys: int) -> None:
    model, expected = attention(keys)
    assert sizes(model) == expected
    exact(model)


def rotary() -> Case:
    """Pairs of rotated dimensions move with their column of the tables.

    Without keys, heads may change places pair by pair.
    """
    heads, d, c, t = 2, 6, 5, 4
    weights = {
        "wq": w(c, heads * d),
        "cos": w(1, t, d // 2),
        "sin": w(1, t, d // 2),
        "wo": w(heads * d, 2),
    }
    nodes = [
        node("MatMul", "x,wq", "q"),
        helper.make_node("RotaryEmbedding", ["q", "cos", "sin"], ["y"], num_heads=heads),
        node("MatMul", "y,wo", "out"),
    ]
    model = build(nodes, weights, {"x": [1, t, c]}, opset=23)
    model.ir_version = 11
    return model, sorted([*[heads] * (d // 2), d // 2])


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
    model.graph.initializer.append(numpy_helper.from_array(values.astype(dtype), "b"))
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
