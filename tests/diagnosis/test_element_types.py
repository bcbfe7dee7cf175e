"""Tampering of weights that are no vectors of single precision."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.diagnosis.tolerances import measure_difference
from lady_onnx.graph.loading import load_graph
from lady_onnx.numerics import HASHED_ELEMENTS, hash_values, split_blocks

from ..helpers.builders import build
from ..helpers.networks import convolutional, perceptron, weights, with_weights
from ..helpers.tampering import changed

F = np.float32


def quantised(seed: int, **given: np.ndarray) -> onnx.ModelProto:
    """A hidden layer whose weights are int8, with a scale a unit."""
    rng = np.random.default_rng(seed)
    a, c = (rng.standard_normal(s) for s in ((16, 32), (32, 24)))
    weights = {"sa": np.abs(a).max(0) / 127, "sc": np.abs(c).max(0) / 127}
    weights = {n: s.astype(np.float32) for n, s in weights.items()}
    weights |= {
        "a": np.round(a / weights["sa"]).astype(np.int8),
        "c": np.round(c / weights["sc"]).astype(np.int8),
    } | given
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "sa"], ["fa"], axis=1),
        helper.make_node("DequantizeLinear", ["c", "sc"], ["fc"], axis=1),
        helper.make_node("MatMul", ["x", "fa"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "fc"], ["out"]),
    ]
    return build(nodes, weights, {"x": [2, 16]})


@pytest.mark.parametrize("how", ["one weight", "negated", "random", "all by a step"])
def test_quantised_weights_that_were_tampered_with(how: str) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        model = load_graph(quantised(seed))
        array = model.array("a").copy()
        match how:
            case "one weight":
                array[3, 7] = -127 if array[3, 7] > 0 else 127
            case "negated":
                array[:, 7] *= -1
            case "random":
                array[:, 7] = rng.integers(-127, 128, 16)
            case _:
                array = (
                    array + rng.integers(-1, 2, array.shape).clip(-127 - array, 127 - array)
                ).astype(np.int8)
        suspect = lady.permute(quantised(seed, a=array), seed).graph
        found = lady.resync(model, suspect, repair=True)
        if how == "all by a step":
            assert not found.integrity
            assert lady.check(model, suspect).verdict == "altered"
        else:
            assert {f.unit for f in found.integrity} == {7}
            assert lady.check(model, suspect).verdict == "tampered"
            assert found.exact


@pytest.mark.parametrize("factor", [1.001, 0.5, 3.0])
def test_a_number_that_is_no_tensor(factor: float) -> None:
    """Another value is told as any change of a weight's scale.

    Where all weights changed it is one of them.
    """
    model = convolutional("Relu", 0)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.7, np.float32), "number"))
    model.graph.node.append(
        helper.make_node("Mul", [model.graph.output[0].name, "number"], ["last"])
    )
    model.graph.output[0].name = "last"
    suspect = lady.permute(model, 1).graph
    suspect.replace("number", np.array(0.7 * factor, np.float32))
    found = lady.resync(model, suspect)
    assert found.alterations["number"]
    assert lady.check(model, suspect).verdict == "altered"
    half = lady.permute(model, 1).graph
    for name in list(half.tensors):
        if half.array(name).dtype == np.float32:
            half.replace(name, half.array(name).astype(np.float16).astype(np.float32))
    assert lady.check(model, half).verdict == "altered"


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_tampering_of_short_floats(kind: int) -> None:
    """Weights in sixteen bits, cast where they are read."""
    model = convolutional("Relu", 2)
    short = helper.tensor_dtype_to_np_dtype(kind)
    casts = []
    for tensor in model.graph.initializer:
        name = tensor.name
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(short), f"{name}.short")
        )
        casts.append(helper.make_node("Cast", [f"{name}.short"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    shuffled = lady.permute(model, 1)
    (group,) = [
        g
        for g in shuffled.symmetry.groups
        if any((s.initializer, s.axis) == ("c.short", 0) for s in g.slots)
    ]
    suspect = changed(shuffled.graph, group, 5, {"c.short": 2, "cb.short": 2})
    found = lady.check(model, suspect)
    assert found.verdict == "tampered"
    assert found.resync is not None
    assert {(f.kind, f.slot, f.unit) for f in found.resync.integrity} == {
        ("scaled", n, int(shuffled.permutations[group.id][5])) for n in ("c.short", "cb.short")
    }
    assert lady.resync(model, suspect, repair=True, verify="none").exact
    rescaled = lady.check(
        model, changed(shuffled.graph, group, 5, {"c.short": 2, "cb.short": 2, "d.short": 0.5})
    )
    assert rescaled.verdict == "rescaled"


def test_flipped_signs_are_seen_whatever_their_number() -> None:
    """As many positive as negative values changed their sign: the sum of their bits is the same."""
    values = np.array([0.5, -1.5, 2.5, -3.5], np.float32)
    assert hash_values(values) == hash_values(values[::-1])
    for flipped in ([-1, -1, 1, 1], [1, 1, -1, -1], [-1, -1, -1, -1], [-1, 1, 1, 1]):
        assert hash_values(values) != hash_values(values * np.array(flipped, np.float32))


def test_the_hash_of_many_values_does_not_depend_on_their_order() -> None:
    """They are hashed in parts, and no part of a weight knows the order of another one."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal(3 * HASHED_ELEMENTS + 5, np.float32)
    for _ in range(5):
        shuffled = generator.permutation(values)
        assert hash_values(values) == hash_values(shuffled)
    shuffled[0] += 1
    assert hash_values(values) != hash_values(shuffled)


@pytest.mark.parametrize("how", ["noise", "scaled", "one unit", "trained"])
@pytest.mark.parametrize("unit", [2.0**-75, 2.0**75])
def test_weights_of_any_size_are_told_as_usual_ones_are(how: str, unit: float) -> None:
    """Squares of small and of large numbers have no place in single precision."""
    rng = np.random.default_rng(0)
    model = perceptron((20, 60, 40))
    given = weights(lady.permute(model, 1).model)
    altered = {n: a * F(1.3) if how == "scaled" else a for n, a in given.items()}
    if how in ("noise", "trained"):
        drawn = rng.standard_normal if how == "noise" else lambda shape: rng.standard_t(2, shape)
        altered = {n: a + F(0.1) * drawn(a.shape).astype(F) for n, a in given.items()}
    if how == "one unit":
        altered["w1"][:, 7] = rng.standard_normal(60)
    results = []
    for size in (F(1), F(unit)):
        ours, theirs = (
            with_weights(model, {n: size * a for n, a in arrays.items()})
            for arrays in (weights(model), altered)
        )
        found = lady.resync(ours, theirs, verify="none")
        kinds = {n: [a.kind for a in steps] for n, steps in found.alterations.items()}
        orders = {n: p.tolist() for n, p in found.permutations.items()}
        names = [(f.kind, f.group, f.unit, f.slot) for f in found.integrity]
        results.append((found.judged.verdict, kinds, orders, names, found.interchangeable))
    assert results[0] == results[1]
    assert results[0][0] in ("altered", "tampered")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int8])
def test_the_largest_difference_is_exact(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many differences look alike in single precision, and lie in several blocks."""
    monkeypatch.setattr(split_blocks, "__defaults__", (7,))
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = (rng.standard_normal((5, 6)) / 1e7).astype(dtype)
        y = (100 + rng.integers(0, 2, (5, 6)) / 1e5).astype(dtype)
        assert measure_difference(x, y) == np.abs(y.astype(float) - x.astype(float)).max()
