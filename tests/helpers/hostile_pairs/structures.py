"""Hostile pairs whose difference lies in what a field, an order or an operator means."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper

from ..disguised_pairs import BOOL, FLOAT, INT, Pair, copied, node, value, w
from ..layers import F, X, layers, model, widened

# ---- files that are alike node by node


def formals_of_a_function() -> Pair:
    nodes = [
        node("MatMul", "x a", "h"),
        node("MatMul", "x b", "i"),
        node("f", "h i", "j", domain="own"),
        node("Relu", "j", "k"),
    ]
    nodes.append(node("MatMul", "k c", "out"))

    def built(*formals: str) -> ModelProto:
        found = model(nodes, {"a": w(8, 6), "b": w(8, 6, seed=1), "c": w(6, 3)}, X)
        opset = [helper.make_opsetid("", 17)]
        found.functions.append(
            helper.make_function("own", "f", formals, ["r"], [node("Sub", "p q", "r")], opset)
        )
        found.opset_import.append(helper.make_opsetid("own", 1))
        return found

    return Pair(built("p", "q"), built("q", "p"), {"x": w(2, 8)})


def outputs_of_a_loop_body() -> Pair:
    def built(*order: int) -> ModelProto:
        ends = [value("go2", [], BOOL), value("v2"), value("u2")]
        nodes = [node("Identity", "go", "go2"), node("Add", "v u", "v2"), node("Tanh", "u", "u2")]
        inputs = [value("i", [], INT), value("go", [], BOOL), value("v"), value("u")]
        body = helper.make_graph(nodes, "body", inputs, [ends[k] for k in order])
        outer = [
            node("MatMul", "x a", "h"),
            node("MatMul", "x b", "k"),
            node("Loop", "turns yes h k", "y z", body=body),
        ]
        outer += [node("Sub", "y z", "s"), node("MatMul", "s c", "out")]
        weights = {
            "a": w(3, 5),
            "b": w(3, 5, seed=1),
            "c": w(5, 2),
            "turns": np.array(3),
            "yes": np.array(True),
        }
        return model(outer, weights, {"x": [4, 3]})

    return Pair(built(0, 1, 2), built(0, 2, 1), {"x": w(4, 3)})


def outputs_of_a_branch() -> Pair:
    def branch(name: str, *order: int) -> GraphProto:
        ends = [value("t"), value("r")]
        return helper.make_graph(
            [node("Tanh", "h", "t"), node("Relu", "h", "r")], name, [], [ends[k] for k in order]
        )

    def built(*order: int) -> ModelProto:
        bodies = {"then_branch": branch("then", *order), "else_branch": branch("else", 0, 1)}
        nodes = [
            node("MatMul", "x a", "h"),
            node("ReduceSum", "x", "all", keepdims=0),
            node("Greater", "all nought", "yes"),
        ]
        nodes += [
            node("If", "yes", "p q", **bodies),
            node("Sub", "p q", "s"),
            node("MatMul", "s b", "out"),
        ]
        return model(nodes, {"a": w(3, 5), "b": w(5, 2), "nought": F(0)}, {"x": [4, 3]})

    return Pair(built(0, 1), built(1, 0), {"x": np.abs(w(4, 3))})


def overload_of_a_function() -> Pair:
    def built(overload: str) -> ModelProto:
        call = node("f", "h", "i", domain="own")
        call.overload = overload
        found = model(
            [node("MatMul", "x a", "h"), call, node("MatMul", "i b", "out")],
            {"a": w(8, 6), "b": w(6, 3)},
            X,
        )
        for name, operator in (("one", "Relu"), ("two", "Sigmoid")):
            body = [node(operator, "p", "q")]
            opset = [helper.make_opsetid("", 17)]
            found.functions.append(
                helper.make_function("own", "f", ["p"], ["q"], body, opset, overload=name)
            )
        found.opset_import.append(helper.make_opsetid("own", 1))
        found.ir_version = 10
        return found

    return Pair(built("one"), built("two"), {"x": w(2, 8)})


def domain_imported_twice() -> Pair:
    """Up to opset 12 a softmax runs over all axes behind the first.

    onnxruntime takes the version that stands last.
    """
    nodes = [node("MatMul", "x a", "h"), node("Softmax", "h", "i"), node("MatMul", "i b", "out")]
    reference = model(nodes, {"a": w(8, 6), "b": w(6, 3)}, {"x": [2, 5, 8]})
    suspect = copied(reference)
    suspect.opset_import.append(helper.make_opsetid("", 12))
    return Pair(reference, suspect, {"x": w(2, 5, 8)})


def clip_of_an_lstm() -> Pair:
    def built(**more: float) -> ModelProto:
        nodes = [
            node("MatMul", "x a", "h"),
            node("LSTM", "h W R", "y", hidden_size=3, **more),
            node("MatMul", "y b", "out"),
        ]
        return model(
            nodes,
            {"a": w(4, 5), "W": 3 * w(1, 12, 5), "R": w(1, 12, 3), "b": w(3, 2)},
            {"x": [4, 2, 4]},
        )

    return Pair(built(), built(clip=0.3), {"x": w(4, 2, 4)})


def outputs_in_another_order() -> Pair:
    nodes, weights = layers()
    reference = model([*nodes, node("Tanh", "out", "second")], weights, X)
    reference.graph.output.append(value("second"))
    suspect = copied(reference)
    suspect.graph.output[0].CopyFrom(reference.graph.output[1])
    suspect.graph.output[1].CopyFrom(reference.graph.output[0])
    return Pair(reference, suspect, {"x": w(2, 8)})


def input_of_another_type() -> Pair:
    nodes, weights = layers()
    nodes[0].input[0] = "single"
    reference = model([helper.make_node("Cast", ["x"], ["single"], to=FLOAT), *nodes], weights, X)
    suspect = copied(reference)
    suspect.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return Pair(reference, suspect, {"x": w(2, 8)})


# ---- files that are written differently, were an Identity enough


def table_of_numbers() -> Pair:
    def built(*last: int) -> ModelProto:
        nodes = [
            node("Gather", "table ids", "other"),
            node("Gather", "words other", "h"),
            node("MatMul", "h a", "out"),
        ]
        weights = {"table": np.array([0, 3, 2, 1, *last]), "words": w(6, 8), "a": w(8, 3)}
        found = model(nodes, weights, {"ids": ["N"]})
        found.graph.input[0].type.tensor_type.elem_type = INT
        return found

    return Pair(built(4, 5), built(4, 1), {"ids": np.arange(6)})


def row_of_bytes() -> Pair:
    nodes = [node("DequantizeLinear", "q scale zero", "a", axis=0), node("MatMul", "x a", "out")]
    rows = np.random.default_rng(0).integers(-127, 128, (4, 3)).astype(np.int8)
    others = rows.copy()
    others[2] = -others[2]
    weights = {"scale": np.abs(w(4)), "zero": np.zeros(4, np.int8)}
    return Pair(
        *(model(nodes, {"q": q, **weights}, {"x": ["N", 4]}) for q in (rows, others)),
        {"x": w(2, 4)},
    )


def axis_of_a_mask() -> Pair:
    def built(axis: int) -> ModelProto:
        nodes = [
            node("MatMul", "x a", "h"),
            node("Unsqueeze", "mask axes", "m"),
            node("Add", "h m", "i"),
        ]
        nodes += [node("Softmax", "i", "s", axis=-1), node("MatMul", "s b", "out")]
        return model(
            nodes,
            {"a": w(5, 4), "b": w(4, 3), "axes": np.array([axis])},
            {"x": [4, 4, 5], "mask": [4, 4]},
        )

    return Pair(built(0), built(1), {"x": w(4, 4, 5), "mask": w(4, 4)})


def thresholds_of_boxes() -> Pair:
    corners = np.sort(np.random.default_rng(9).random((1, 6, 2, 2)).astype(F), axis=2).reshape(
        1, 6, 4
    )
    nodes = [node("MatMul", "x a", "h"), node("Sigmoid", "h", "scores")]
    nodes.append(node("NonMaxSuppression", "boxes scores most overlap least", "out"))

    def built(overlap: float, least: float) -> ModelProto:
        weights = {"a": w(4, 6), "boxes": corners, "most": np.array([6])}
        weights |= {"overlap": np.array([overlap], F), "least": np.array([least], F)}
        return model(nodes, weights, {"x": [1, 2, 4]}, kind=INT)

    return Pair(built(0.1, 0.7), built(0.7, 0.1), {"x": w(1, 2, 4)})


def bounds_of_clips() -> Pair:
    def built(first: float, second: float) -> ModelProto:
        nodes = [
            node("MatMul", "x a", "h"),
            node("Clip", "h low first", "i"),
            node("MatMul", "i b", "j"),
        ]
        nodes += [node("Clip", "j low second", "k"), node("MatMul", "k c", "out")]
        weights = {
            "a": w(8, 6),
            "b": w(6, 5),
            "c": w(5, 3),
            "low": F(-1),
            "first": F(first),
            "second": F(second),
        }
        return model(nodes, weights, X)

    return Pair(built(1, 2), built(2, 1), {"x": 3 * w(4, 8)})


def arm_that_is_seldom_taken() -> Pair:
    def built(arm: float) -> ModelProto:
        nodes = [
            node("MatMul", "x a", "h"),
            node("Greater", "h limit", "far"),
            node("Where", "far arm h", "i"),
        ]
        nodes.append(node("MatMul", "i b", "out"))
        return model(nodes, {"a": w(8, 6), "b": w(6, 3), "limit": F(1e6), "arm": F(arm)}, X)

    return Pair(built(5e6), built(7e6), {"x": 1e7 * w(2, 8)})


def rounding_of_a_pool() -> Pair:
    """For even sizes there is nothing to round."""

    def built(up: int) -> ModelProto:
        pool = node("MaxPool", "h", "i", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=up)
        nodes = [node("Conv", "x a", "h"), pool, node("Conv", "i b", "out")]
        return model(nodes, {"a": w(6, 3, 1, 1), "b": w(2, 6, 1, 1)}, {"x": [1, 3, "H", "W"]})

    return Pair(built(0), built(1), {"x": w(1, 3, 5, 5)})


def length_that_is_cut() -> Pair:
    def built(most: int) -> ModelProto:
        nodes = [
            node("MatMul", "x a", "h"),
            node("Slice", "h from to axis", "i"),
            node("MatMul", "i b", "out"),
        ]
        weights = {
            "a": w(4, 6),
            "b": w(6, 3),
            "from": np.array([0]),
            "to": np.array([most]),
            "axis": np.array([1]),
        }
        return model(nodes, weights, {"x": [1, "T", 4]})

    return Pair(built(2**40), built(512), {"x": w(1, 600, 4)})


def constant_behind_a_dummy() -> Pair:
    nodes, weights = layers()
    nodes[-1].output[0] = "narrow"
    nodes.append(node("Mul", "narrow much", "out"))
    wide = widened(weights, 5 * w(8), 1, np.zeros(12))
    return Pair(
        model(nodes, {**weights, "much": F(2)}, X),
        model(nodes, {**wide, "much": F(3)}, X),
        {"x": w(2, 8)},
    )


def reduction_over_axes_that_are_given() -> Pair:
    """Without axes one sums everything, and the other nothing."""

    def built(noop: int) -> ModelProto:
        sums = node("ReduceSum", "h axes", "out", keepdims=1, noop_with_empty_axes=noop)
        found = model([node("Reshape", "x shape", "h"), sums], {}, {"x": [2, 4]})
        found.graph.input.extend([value("shape", ["k"], INT), value("axes", ["m"], INT)])
        return found

    given = {"x": w(2, 4), "shape": np.array([4, 2]), "axes": np.zeros(0, np.int64)}
    return Pair(built(1), built(0), given)


def guard_that_broadcasts() -> Pair:
    """What stands in for the NaNs of a softmax is never taken, but its shape is."""

    def built(*shape: int) -> ModelProto:
        nodes = [
            node("MatMul", "x a", "h"),
            node("Softmax", "h", "s", axis=-1),
            node("IsNaN", "s", "c"),
            node("Where", "c o s", "out"),
        ]
        return model(nodes, {"a": w(5, 4), "o": np.zeros(shape, F)}, {"x": [1, 5]})

    return Pair(built(1, 4), built(3, 4), {"x": w(1, 5)})


def scales_of_axes_in_another_order() -> Pair:
    """The scales of a Resize belong to the axes that it names, in their order."""

    def built(*axes: int) -> ModelProto:
        nodes = [
            node("Resize", "x  scales", "r", mode="nearest", axes=list(axes)),
            node("Shape", "r", "k"),
            node("Cast", "k", "out", to=FLOAT),
        ]
        nodes[0].input[:] = ["x", "", "scales"]
        return model(nodes, {"scales": np.array([1, 1, 2, 1], F)}, {"x": [1, 2, 3, 4]}, opset=18)

    return Pair(built(0, 1, 3, 2), built(0, 1, 2, 3), {"x": w(1, 2, 3, 4)})


CASES = (
    formals_of_a_function,
    outputs_of_a_loop_body,
    outputs_of_a_branch,
    overload_of_a_function,
    domain_imported_twice,
    clip_of_an_lstm,
    outputs_in_another_order,
    input_of_another_type,
    table_of_numbers,
    row_of_bytes,
    axis_of_a_mask,
    thresholds_of_boxes,
    bounds_of_clips,
    arm_that_is_seldom_taken,
    rounding_of_a_pool,
    length_that_is_cut,
    constant_behind_a_dummy,
    reduction_over_axes_that_are_given,
    guard_that_broadcasts,
    scales_of_axes_in_another_order,
)
"""Functions that make the pairs; each is a case of its own."""
