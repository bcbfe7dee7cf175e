"""Factors that keep a model's function: the law, and what is known of common structures."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.groups.model import Slot
from lady_onnx.groups.scaling import Scaling

from ..helpers.builders import build, w
from ..helpers.factors import BEHIND, MIRRORED, found, mirrored, rescaled, violation
from ..helpers.law import examples, sensitivity
from ..helpers.splices import pool
from ..helpers.strategies import graphs


def holds(model: onnx.ModelProto, seed: int) -> bool:
    verdict = lady.verify(model, rescaled(model, seed), samples=2)
    # a value that is cast to sixteen bits on the way is rounded elsewhere
    short = any(
        n.op_type == "Cast" and n.attribute[0].i == TensorProto.FLOAT16 for n in model.graph.node
    )
    return verdict.equal or verdict.max_rel <= max(100 * sensitivity(model), 1e-2 * short)


@examples(75)
@given(graphs(), st.integers(0, 1000))
def test_factors_leave_the_outputs_as_they_are(
    grown: tuple[onnx.ModelProto, list[int]], seed: int
) -> None:
    assert holds(grown[0], seed)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1])
def test_whole_weights_are_multiplied_as_their_units_are(axis: int, dtype: type) -> None:
    """Units in the weight's own order are multiplied in place, with the same roundings."""
    rng = np.random.default_rng(0)
    array, factors = rng.standard_normal((7, 11)).astype(dtype), np.exp(rng.standard_normal(77))
    size = array.shape[axis]
    found = []
    for order in (np.arange(size), np.arange(size)[::-1]):
        slot = Slot("w", axis, order[:, None])
        scaling = Scaling(
            "g", (slot,), np.ones((1, 1)), np.zeros((0, 1), bool), np.zeros(1), np.ones(1, bool)
        )
        scaling.apply(arrays := {"w": array.copy()}, factors[:size][order][None])
        found.append(arrays["w"])
    assert found[0].dtype == dtype
    assert (found[0] == found[1]).all()
    assert (found[0] != array).any()


@pytest.mark.parametrize("splice", pool(), ids=lambda s: s.name)
def test_factors_leave_every_rule_as_it_is(splice) -> None:
    assert holds(splice.build()[0], 1)


STRUCTURES = {
    # nodes, weights, by weight the factor's exponent where it is one, and may signs change?
    "ReLU": ([("Relu", "h", "r", {})], {}, {"a": 1, "b": -1}, False),
    "LeakyReLU": ([("LeakyRelu", "h", "r", {})], {}, {"a": 1, "b": -1}, False),
    "clip": ([("Clip", "h,nought", "r", {})], {"nought": np.float32(0)}, {"a": 1, "b": -1}, False),
    "PReLU": ([("PRelu", "h,s", "r", {})], {"s": w(5)}, {"a": 1, "b": -1, "s": 0}, False),
    "linear": ([("Identity", "h", "r", {})], {}, {"a": 1, "b": -1}, True),
    "bias": (
        [("Add", "h,c", "i", {}), ("Relu", "i", "r", {})],
        {"c": w(5)},
        {"a": 1, "c": 1, "b": -1},
        False,
    ),
    "no bias": (
        [("Add", "h,c", "i", {}), ("Relu", "i", "r", {})],
        {"c": np.zeros(5, np.float32)},
        {"a": 1, "b": -1},
        False,
    ),
    "tanh": ([("Tanh", "h", "r", {})], {}, {}, True),
    "rounded": ([("Round", "h", "r", {})], {}, {}, True),
    "unit length": ([("LpNormalization", "h", "r", {})], {}, {}, True),
    "square": ([("Mul", "h,h", "r", {})], {}, {"a": 1, "b": -2}, True),
    "power": ([("Pow", "h,two", "r", {})], {"two": np.float32(2)}, {"a": 1, "b": -2}, True),
    "absolute": ([("Abs", "h", "r", {})], {}, {"a": 1, "b": -1}, True),
    "ReLU6": (
        [("Clip", "h,nought,six", "r", {})],
        {"nought": np.float32(0), "six": np.float32(6)},
        {},
        False,
    ),
    "sigmoid": ([("Sigmoid", "h", "r", {})], {}, {}, False),
    "SiLU": ([("Sigmoid", "h", "g", {}), ("Mul", "h,g", "r", {})], {}, {}, False),
    "constant": (
        [("Add", "h,one", "i", {}), ("Relu", "i", "r", {})],
        {"one": np.float32(1)},
        {},
        False,
    ),
    "whole numbers": (
        [
            ("Cast", "h", "i", {"to": TensorProto.INT32}),
            ("Cast", "i", "r", {"to": TensorProto.FLOAT}),
        ],
        {},
        {},
        False,
    ),
    "gate": (
        [("MatMul", "x,u", "i", {}), ("Sigmoid", "i", "g", {}), ("Mul", "h,g", "r", {})],
        {"u": w(3, 5)},
        {"a": 1, "u": 0, "b": -1},
        True,
    ),
    # the signs are those of the gain: none passes from before the norm
    "normalised": (
        [("LayerNormalization", "h,c,d", "r", {})],
        {"c": w(5), "d": w(5)},
        {"c": 1, "d": 1, "b": -1},
        True,
    ),
    "root": (
        [("Mul", "h,h", "q", {}), ("Sqrt", "q", "r", {})],
        {},
        {"a": 1, "b": -1},
        True,
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_factors_of_common_structures(name: str) -> None:
    """One hidden layer of 5 between `a` and `b`: one independent factor at most."""
    steps, weights, exponents, sign = STRUCTURES[name]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        *(helper.make_node(op, i.split(","), [o], **attributes) for op, i, o, attributes in steps),
        helper.make_node("MatMul", ["r", "b"], ["out"]),
    ]
    model = build(nodes, {"a": w(3, 5), "b": w(5, 2), **weights}, {"x": [4, 3]})
    (scaling,) = found(model)
    own = {s.initializer: k for k, s in enumerate(scaling.slots)}
    if any(exponents.values()):
        (row,) = scaling.scales
        first = next(k for k in exponents if exponents[k])
        row = row * (exponents[first] / row[own[first]])
        assert {n: row[k] for n, k in own.items() if row[k] or n in exponents} == pytest.approx(
            exponents
        )
    else:
        assert not scaling.scales.size
    assert bool(scaling.signs.size) == sign
    assert holds(model, 1)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "extras", [(), ("bias",), ("bias", "start"), ("bias", "start", "peepholes")]
)
def test_signs_of_recurrent_units(kind: str, extras: tuple[str, ...]) -> None:
    """Two directions of 5 units: each unit's sign, on its candidate, its state and its readers."""
    gates, d, h = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2, 5
    weights = {"w": w(d, gates * h, 3), "r": w(d, gates * h, h), "v": w(d * h, 2)}
    names = ["x", "w", "r", "", "", "", "", ""]
    if "bias" in extras:
        weights["bias"], names[3] = w(d, 2 * gates * h), "bias"
    if "start" in extras:
        weights["h0"], names[5] = w(d, 2, h), "h0"
    if kind == "LSTM" and "peepholes" in extras:
        weights["c0"], names[6] = w(d, 2, h), "c0"
        weights["peep"], names[7] = w(d, 3 * h), "peep"
    while not names[-1]:
        names.pop()
    nodes = [
        helper.make_node(kind, names, ["y"], hidden_size=h, direction="bidirectional"),
        helper.make_node("Transpose", ["y"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "shape"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["out"]),
    ]
    model = build(nodes, {**weights, "shape": np.array([4, 2, d * h], np.int64)}, {"x": [4, 2, 3]})
    own = found(model)
    assert len(own) == 2
    for scaling in own:
        assert not scaling.scales.size
        (signs,) = scaling.signs
        flipped = {s.initializer for s, f in zip(scaling.slots, signs, strict=True) if f}
        assert flipped == {"w", "r", "v", *weights.keys() & {"bias", "h0", "c0", "peep"}}
    # onnxruntime's cells compute tanh to seven digits of one: near zero it is not odd
    assert violation(model, rescaled(model, 1)) == 0
    suspect = lady.permute(rescaled(model, 2), 3).model
    result = lady.check(model, suspect)
    assert result.verdict == "rescaled", result.reason


@pytest.mark.parametrize("activation", MIRRORED)
@pytest.mark.parametrize("behind", BEHIND)
def test_reflected_units(activation: str, behind: str) -> None:
    """An activation's mirror image, where the bias behind can make up for it; nowhere else."""
    for seed in range(3):
        reflected(mirrored(activation, behind, seed), behind)


def test_a_clip_whose_bounds_cross_has_no_mirror_image() -> None:
    """Its result is the upper bound everywhere."""
    model = mirrored("ReLU6", "gemm")
    (six,) = [t for t in model.graph.initializer if t.name == "six"]
    six.CopyFrom(numpy_helper.from_array(np.float32(-0.25), "six"))
    assert not any(s.signs.size for s in found(model))


def reflected(model: onnx.ModelProto, behind: str) -> None:
    (scaling,) = [s for s in found(model) if any(t.initializer == "a" for t in s.slots)]
    assert bool(scaling.signs.size) == (behind not in BEHIND[BEHIND.index("padded") :])
    for seed in range(3):
        assert holds(model, seed)
    suspect = lady.permute(rescaled(model, 2), 3).model
    result = lady.check(model, suspect)
    assert result.verdict in ("rescaled", "permuted"), result.reason
    assert result.resync is not None
    assert result.resync.restored
