"""Models made by hand, with subgraphs, functions, cells and attention, and their groups' sizes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .builders import Case, build, node, value, w

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


def loop(known: bool, condition: str = "yes") -> Case:
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
        node("Loop", f"turns,{condition},h", "y all" if known else "y", body=body),
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


def shapes() -> tuple[onnx.ModelProto, list[int]]:
    """Shape, Size, Range and ConstantOfShape feed a Reshape, a Gather and an Add."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Shape", ["h"], ["s"]),
        helper.make_node("Size", ["x"], ["n"]),
        helper.make_node("Gather", ["s", "one"], ["width"]),
        helper.make_node("Range", ["nought", "width", "unit"], ["all"]),
        helper.make_node("Gather", ["h", "all"], ["g"], axis=1),
        helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
        helper.make_node("Add", ["g", "zeros"], ["i"]),
        helper.make_node("Reshape", ["i", "s"], ["j"]),
        helper.make_node("MatMul", ["j", "b"], ["k"]),
        helper.make_node("Cast", ["n"], ["nf"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["k", "nf"], ["out"]),
    ]
    constants = {"one": np.array(1), "nought": np.array(0), "unit": np.array(1)}
    return build(nodes, {"a": w(3, 5), "b": w(5, 2), **constants}, {"x": ["batch", 3]}), [5]
