"""Pairs of models that compute different things and were once accepted as one.

None may be, in either order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

import lady_onnx as lady

from ..helpers import oracle
from ..helpers.disguised_pairs import (
    BOOL,
    FLOAT,
    INT,
    WRITTEN,
    Pair,
    accepts,
    copied,
    inputs_of_a_scan_body,
    is_different,
    node,
    value,
    w,
    with_identity,
)
from ..helpers.layers import F, Weights, X, attention, layers, model, projections, widened

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


# ---- rounding


def zeros_of_a_mask() -> Pair:
    """Eight steps of what stands for infinity are more than all scores."""
    weights = projections()
    mask = np.where(np.isinf(weights["mask"]), F(-1e9), weights["mask"])
    other = mask.copy()
    other[3, 1] = -400
    return Pair(
        attention({**weights, "mask": mask}),
        attention({**weights, "mask": other}),
        {"x": w(2, 4, 8)},
    )


def steps_of_halves() -> Pair:
    nodes, weights = layers()
    short = {n: a.astype(np.float16) for n, a in weights.items()}
    moved = {}
    for name, array in short.items():
        for _ in range(3):
            array = np.nextafter(array, np.float16(np.inf))
        moved[name] = array
    casts = [helper.make_node("Cast", [f"{n}.short"], [n], to=FLOAT) for n in weights]

    def built(arrays: Weights) -> ModelProto:
        return model([*casts, *nodes], {f"{n}.short": a for n, a in arrays.items()}, X)

    return Pair(built(short), built(moved), {"x": 100 * np.abs(w(2, 8))})


def saturation_of_a_cast() -> Pair:
    """onnxruntime writes nothing where this is no truth value."""

    def built(**more: int) -> ModelProto:
        nodes = [
            node("IsNaN", "x", "h"),
            node("Cast", "h", "f", to=FLOAT, **more),
            node("MatMul", "f a", "out"),
        ]
        found = model(nodes, {"a": w(4, 3)}, {"x": [2, 4]})
        found.opset_import[0].version = 20
        return found

    return Pair(built(), built(saturate=-1), {"x": w(2, 4)})


def sparse_weight_that_hides_a_value() -> Pair:
    """A weight of a body stands for its name there, also one that is stored sparsely."""

    def built(is_hidden: bool) -> ModelProto:
        inner = helper.make_graph([node("Mul", "x k", "high")], "g", [], [value("high")])
        if is_hidden:
            places = numpy_helper.from_array(np.arange(4), "")
            inner.sparse_initializer.append(
                helper.make_sparse_tensor(numpy_helper.from_array(w(4), "k"), places, [4])
            )
        other = helper.make_graph([node("Neg", "x", "low")], "g", [], [value("low")])
        nodes = [
            node("Abs", "x", "k"),
            node("If", "way", "h", then_branch=inner, else_branch=other),
            node("Add", "h k", "out"),
        ]
        found = model(nodes, {}, {"x": [2, 4]})
        found.graph.input.insert(0, value("way", [], BOOL))
        return found

    return Pair(built(False), built(True), {"x": w(2, 4), "way": np.array(True)})


def length_of_an_enlarged_map() -> Pair:
    """Of ten pixels times 0.7 onnx's inference makes six, and onnxruntime's kernel seven."""
    enlarge = node("Resize", "x", "h", mode="nearest")
    enlarge.input.extend(["", "scales"])
    weights = {
        "scales": np.array([1, 1, 0.7, 1], F),
        "from": np.array([0]),
        "to": np.array([6]),
        "axis": np.array([2]),
    }
    plain = model([enlarge, node("Relu", "h", "out")], weights, {"x": [1, 1, 10, 2]})
    cut = [enlarge, node("Slice", "h from to axis", "i"), node("Relu", "i", "out")]
    return Pair(plain, model(cut, weights, {"x": [1, 1, 10, 2]}), {"x": w(1, 1, 10, 2)})


def length_of_a_pooled_map() -> Pair:
    """Versions differ in whether a last window may start behind the last element."""

    def built(length: int) -> ModelProto:
        pool = node("MaxPool", "x", "h", kernel_shape=[1, 1], strides=[4, 1], ceil_mode=1)
        nodes = [
            pool,
            node("Shape", "h", "s"),
            node("Slice", "s from to", "i"),
            node("Cast", "i", "f", to=FLOAT),
        ]
        nodes = (
            [*nodes, node("Add", "h f", "out")]
            if length == 0
            else [pool, node("Add", "h n", "out")]
        )
        weights = {"from": np.array([2]), "to": np.array([3]), "n": np.array([length], F)}
        found = model(nodes, weights, {"x": [1, 1, 6, 1]})
        found.opset_import[0].version = 13
        return found

    length = oracle.run(
        oracle.opened(built(0).SerializeToString()), {"x": np.zeros((1, 1, 6, 1), F)}
    )
    assert length is not None
    return Pair(built(0), built(3 - int(length[0].max()) + 2), {"x": w(1, 1, 6, 1)})


def noise_of_two_nodes() -> Pair:
    weights = {"ratio": F(0.5), "on": np.array(True)}
    drops = [node("Dropout", "x ratio on", "h"), node("Dropout", "x ratio on", "i")]
    plain, other = (
        model([*drops, node("Sub", f"h {b}", "out")], weights, {"x": [8, 8]}) for b in "ih"
    )
    return Pair(plain, other, {"x": w(8, 8)})


def noise_of_each_pass() -> Pair:
    """Drawn anew in every pass of a loop, or once before it."""

    def built(is_inside: bool) -> ModelProto:
        draws = node("RandomNormalLike", "x", "r")
        inner = [node("Identity", "go", "on"), node("Neg", "a", "b"), node("Add", "b r", "c")]
        starts = [value("k", [], INT), value("go", [], BOOL), value("a")]
        body = helper.make_graph(
            [draws, *inner] if is_inside else inner,
            "g",
            starts,
            [value("on", [], BOOL), value("c")],
        )
        loop = helper.make_node("Loop", ["n", "", "z"], ["out"], name="loop", body=body)
        nodes = [*([] if is_inside else [draws]), node("Mul", "x zero", "z"), loop]
        return model(nodes, {"n": np.array(2), "zero": F(0)}, {"x": [2, 4]})

    return Pair(built(True), built(False), {"x": w(2, 4)})


def reduction_over_axes_that_are_given() -> Pair:
    """Without axes one sums everything, and the other nothing."""

    def built(noop: int) -> ModelProto:
        sums = node("ReduceSum", "h axes", "out", keepdims=1, noop_with_empty_axes=noop)
        found = model([node("Reshape", "x shape", "h"), sums], {}, {"x": [2, 4]})
        found.graph.input.extend([value("shape", ["k"], INT), value("axes", ["m"], INT)])
        return found

    given = {"x": w(2, 4), "shape": np.array([4, 2]), "axes": np.zeros(0, np.int64)}
    return Pair(built(1), built(0), given)


def halves_that_are_rounded_twice() -> Pair:
    number = np.float64(1 + 2**-11 + 2**-30)
    ends = [
        node("Cast", "x", "h", to=TensorProto.FLOAT16),
        node("Sub", "h c", "i"),
        node("Cast", "i", "out", to=FLOAT),
    ]
    plain = model(ends, {"c": np.array([number], np.float16)}, {"x": [2, 1]})
    other = model(
        [node("Cast", "k", "c", to=TensorProto.FLOAT16), *ends],
        {"k": np.array([number])},
        {"x": [2, 1]},
    )
    return Pair(plain, other, {"x": np.ones((2, 1), F)})


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
    *(
        formals_of_a_function,
        inputs_of_a_scan_body,
        outputs_of_a_loop_body,
        outputs_of_a_branch,
        overload_of_a_function,
    ),
    *(
        domain_imported_twice,
        clip_of_an_lstm,
        outputs_in_another_order,
        input_of_another_type,
        table_of_numbers,
    ),
    *(
        row_of_bytes,
        axis_of_a_mask,
        thresholds_of_boxes,
        bounds_of_clips,
        arm_that_is_seldom_taken,
        rounding_of_a_pool,
    ),
    *(
        length_that_is_cut,
        constant_behind_a_dummy,
        zeros_of_a_mask,
        steps_of_halves,
        saturation_of_a_cast,
    ),
    *(
        sparse_weight_that_hides_a_value,
        length_of_an_enlarged_map,
        length_of_a_pooled_map,
        noise_of_two_nodes,
    ),
    *(noise_of_each_pass, halves_that_are_rounded_twice, reduction_over_axes_that_are_given),
    *(guard_that_broadcasts, scales_of_axes_in_another_order),
)


LEFT_TO_MEMORY = (saturation_of_a_cast,)
"""Pairs of which onnxruntime leaves a result as it finds the memory.

A run may not tell them apart.
"""


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("turned", [False, True], ids=["forth", "back"])
@pytest.mark.parametrize("case", CASES)
def test_another_program_is_not_accepted(
    case: Callable[[], Pair], turned: bool, written: str
) -> None:
    pair = case()
    reference, suspect = (
        (pair.suspect, pair.reference) if turned else (pair.reference, pair.suspect)
    )
    assert not accepts(reference, WRITTEN[written](suspect))


@pytest.mark.parametrize("case", CASES)
def test_the_pairs_differ_and_are_themselves(case: Callable[[], Pair]) -> None:
    """Refusing everything is no answer."""
    pair = case()
    assert case in LEFT_TO_MEMORY or is_different(pair)
    assert lady.check(pair.reference, copied(pair.reference)).verdict == "identical"


def test_weights_of_another_rank_are_no_crash() -> None:
    def built(*shape: int) -> ModelProto:
        nodes = [node("MatMul", "x a", "h"), node("Mul", "h m", "i"), node("MatMul", "i b", "out")]
        scale = np.resize(w(6), shape)
        return model(nodes, {"a": w(4, 6), "m": scale, "b": w(6, 3)}, {"x": [2, 4]})

    assert accepts(built(6), built(1, 6))
    for ours, theirs in (((6,), (1, 1, 6)), ((1, 1, 6), (2, 6)), ((2, 6), (1, 1, 6))):
        assert not accepts(built(*ours), built(*theirs))


@pytest.mark.parametrize(
    ("shape", "accepted"), [((4,), True), ((5, 4), False), ((1,), False), ((1, 1, 4), False)]
)
def test_fused_operators_do_not_broadcast(shape: tuple[int, ...], accepted: bool) -> None:
    """A kernel takes one bias for each unit, and nothing else that a sum would take."""
    weights = {"bias": np.resize(w(4), shape), "root": F(2**0.5), "one": F(1), "half": F(0.5)}
    nodes = [
        node("Add", "x bias", "h"),
        node("Div", "h root", "d"),
        node("Erf", "d", "e"),
        node("Add", "e one", "p"),
    ]
    nodes += [node("Mul", "h p", "m"), node("Mul", "m half", "out")]
    fused = model(
        [node("BiasGelu", "x bias", "out", domain="com.microsoft")],
        {"bias": weights["bias"]},
        {"x": [1, 4]},
    )
    fused.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert accepts(model(nodes, weights, {"x": [1, 4]}), fused) == accepted


@pytest.mark.parametrize("version", [11, 17])
def test_a_function_speaks_the_version_of_its_model(version: int) -> None:
    """onnxruntime takes the version of the model.

    A Softmax of version 11 is over all axes from one on, as what it is written out as.
    """
    rows, back = np.array([2, 12]), np.array([2, 3, 4])
    written_out = [
        node("Reshape", "x rows", "h"),
        node("Softmax", "h", "s", axis=1),
        node("Reshape", "s back", "out"),
    ]
    plain = model([node("Softmax", "x", "out", axis=1)], {}, {"x": [2, 3, 4]})
    suspect = model([node("f", "x", "out", domain="own")], {}, {"x": [2, 3, 4]})
    opset = [helper.make_opsetid("", version)]
    suspect.functions.append(
        helper.make_function("own", "f", ["p"], ["r"], [node("Softmax", "p", "r", axis=1)], opset)
    )
    suspect.opset_import.append(helper.make_opsetid("own", 1))
    assert accepts(plain, suspect) == (version == 17)
    assert not accepts(model(written_out, {"rows": rows, "back": back}, {"x": [2, 3, 4]}), suspect)


def test_functions_that_call_each_other_often_are_refused() -> None:
    """A small file may hold a graph of any size."""
    found = model([node("f20", "x", "out", domain="own")], {}, {"x": [1, 4]})
    for k in range(21):
        inner = (
            [node("Relu", "p", "r")]
            if k == 0
            else [node(f"f{k - 1}", a, b, domain="own") for a, b in ("ph", "hr")]
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        found.functions.append(helper.make_function("own", f"f{k}", ["p"], ["r"], inner, opsets))
    found.opset_import.append(helper.make_opsetid("own", 1))
    with pytest.raises(lady.LadyError, match="nodes once its functions"):
        lady.check(found, found)


def test_a_small_file_may_ask_for_a_large_constant() -> None:
    nodes = [
        node("Tile", "c r", "t"),
        node("ReduceMax", "t", "u", keepdims=0),
        node("Cast", "u", "f", to=FLOAT),
    ]
    nodes.append(node("Add", "x f", "out"))
    whole = model(nodes, {"c": np.arange(4096), "r": np.array([100_000])}, {"x": [1, 4]})
    assert lady.check(whole, with_identity(whole)).verdict == "identical"
    assert not lady.find_groups(whole).groups


@pytest.mark.parametrize("is_sparse", [False, True])
def test_an_input_of_a_body_that_is_a_weight_too_is_refused(is_sparse: bool) -> None:
    whole = inputs_of_a_scan_body().reference
    body = next(
        a.g for n in whole.graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH
    )
    values = numpy_helper.from_array(w(2), body.input[0].name)
    if is_sparse:
        places = numpy_helper.from_array(np.arange(2), "")
        body.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2]))
    else:
        body.initializer.append(values)
    with pytest.raises(lady.LadyError, match="two values of body"):
        lady.check(whole, whole)


def test_a_tensor_in_an_attribute_that_is_cut_short_is_no_crash() -> None:
    places = numpy_helper.from_array(np.array([0, 3]), "places")
    sparse = helper.make_sparse_tensor(numpy_helper.from_array(w(2), "values"), places, [4])
    whole = model(
        [node("Constant", "", "c", sparse_value=sparse), node("Add", "x c", "out")],
        {},
        {"x": [1, 4]},
    )
    suspect = copied(whole)
    suspect.graph.node[0].attribute[0].sparse_tensor.indices.raw_data = b""
    assert not accepts(whole, suspect)
    assert accepts(whole, copied(whole))


def test_a_threshold_of_no_elements_is_no_crash() -> None:
    def built(dims: list[int]) -> ModelProto:
        whole = thresholds_of_boxes().reference
        whole.graph.initializer.remove(
            next(t for t in whole.graph.initializer if t.name == "least")
        )
        values, places = (
            helper.make_tensor("least", FLOAT, [0], []),
            helper.make_tensor("", INT, [0], []),
        )
        whole.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, dims))
        return whole

    assert accepts(built([1]), with_identity(built([1])))
    assert not accepts(built([1]), with_identity(built([1, 0])))


@pytest.mark.parametrize("turned", [False, True], ids=["forth", "back"])
@pytest.mark.parametrize("written", ["plainly", "with an Identity"])
def test_names_of_another_wire_type_name_nothing(
    written: str, turned: bool, tmp_path: Path
) -> None:
    """A name that is written as a number of eight bytes is none to protobuf.

    The weight keeps its own.
    """
    names = ["weight_a", "weight_b"]
    arrays = [w(48, 48, seed=k) for k in range(2)]
    nodes = [
        node("MatMul", "x weight_a", "h"),
        node("Relu", "h", "i"),
        node("MatMul", "i weight_b", "out"),
    ]

    def data(swapped: bool) -> bytes:
        found = model(nodes, {}, {"x": ["N", 48]})
        if written == "with an Identity" and swapped:
            found = with_identity(found)
        tensors = [
            numpy_helper.from_array(a, n)
            for a, n in zip(arrays, names[::-1] if swapped else names, strict=True)
        ]
        tag = bytes([8 << 3 | 1])
        graph = found.graph.SerializeToString()
        for tensor, name in zip(tensors, names, strict=True):
            content = tensor.SerializeToString() + (tag + name.encode() if swapped else b"")
            graph += bytes([5 << 3 | 2]) + _length(content) + content
        found.ClearField("graph")
        return found.SerializeToString() + bytes([7 << 3 | 2]) + _length(graph) + graph

    paths = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    for path, swapped in zip(paths, (False, True), strict=True):
        path.write_bytes(data(swapped))
    state = oracle.judge(*(oracle.opened(p) for p in paths), [{"x": w(2, 48)}])[0]
    assert state == oracle.DIFFERENT
    assert not accepts(*(paths[::-1] if turned else paths))
    assert lady.check(paths[0], paths[0]).verdict == "identical"


def _length(content: bytes) -> bytes:
    """How protobuf writes the length of what follows."""
    count, found = len(content), bytearray()
    while count > 127:
        found.append(count & 127 | 128)
        count >>= 7
    return bytes([*found, count])
