"""Hostile pairs whose difference lies in values: rounding, lengths, noise, hidden weights."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from .. import oracle
from ..disguised_pairs import BOOL, FLOAT, INT, Pair, node, value, w
from ..layers import F, Weights, X, attention, layers, model, projections


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


CASES = (
    zeros_of_a_mask,
    steps_of_halves,
    saturation_of_a_cast,
    sparse_weight_that_hides_a_value,
    length_of_an_enlarged_map,
    length_of_a_pooled_map,
    noise_of_two_nodes,
    noise_of_each_pass,
    halves_that_are_rounded_twice,
)
"""Functions that make the pairs; each is a case of its own."""
