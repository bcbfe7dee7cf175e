"""Marks that lie where the inputs of layers vary little."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.errors import LadyError
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.watermark.directions import (
    MIN_DIRECTIONS_SHARE,
    LayerInputs,
    Moments,
    choose_directions,
    find_inputs,
)
from lady_onnx.watermark.embedding import embed_gently, embed_mark
from lady_onnx.watermark.extraction import extract_mark
from lady_onnx.watermark.impact import Probe
from lady_onnx.watermark.schemes.interface import Directions, Layer
from lady_onnx.watermark.schemes.spread import MAX_STEP, SCHEME
from lady_onnx.watermark.secrets.keys import Key

from ..helpers.builders import build, w
from ..helpers.networks import perceptron, weights, with_weights

KEY = Key(bytes(32))
PAYLOAD = b"ACME Inc"
WIDTHS = (40, 160, 400, 120)


def draw_data(count: int, seed: int, latent: int = 6) -> dict[str, np.ndarray]:
    """Samples that lie near a space of few dimensions, as data do."""
    space = np.random.default_rng(0).standard_normal((latent, WIDTHS[0]))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, latent)) @ space
    return {"x": (x + 0.05 * rng.standard_normal(x.shape)).astype(np.float32)}


def measure_change(model: onnx.ModelProto, marked: Graph, data: dict[str, np.ndarray]) -> float:
    return Probe(load_graph(model), data).measure(marked).change


def test_data_make_a_mark_cost_less_on_other_data() -> None:
    model = perceptron(WIDTHS, seed=3, out=10)
    plain = embed_gently(model, KEY, PAYLOAD)
    told = embed_gently(model, KEY, PAYLOAD, data=draw_data(400, 1))
    other = draw_data(100, 2)
    assert measure_change(model, told.graph, other) < 0.5 * measure_change(
        model, plain.graph, other
    )
    found = extract_mark(told.graph, KEY, told.mark)
    assert found.payload == PAYLOAD
    assert found.as_it_stands.wrong == 0
    # who reads needs to know nothing of the directions
    assert told.mark == plain.mark


def test_inputs_that_are_always_zero_do_not_bear_the_mark() -> None:
    model = perceptron(WIDTHS, seed=3, out=10)
    arrays = {n: a.copy() for n, a in weights(model).items()}
    arrays["w1"][np.random.default_rng(0).random(arrays["w1"].shape) < 0.3] = 0
    model = with_weights(model, arrays)
    data = draw_data(400, 1)
    data["x"][:, ::4] = 0
    marked = embed_gently(model, KEY, PAYLOAD, data=data)
    assert extract_mark(marked.graph, KEY, marked.mark).payload == PAYLOAD
    for name, array in arrays.items():
        now = marked.graph.array(name)
        # what was pruned stays so, and nothing is out of all proportion
        np.testing.assert_array_equal(now[array == 0], 0)
        assert np.abs(now).max() <= 4 * np.abs(array).max()


def test_few_samples_tell_no_directions() -> None:
    model = perceptron(WIDTHS, seed=3, out=10)
    even = embed_mark(model, KEY, PAYLOAD)
    marked = embed_gently(model, KEY, PAYLOAD, data=draw_data(3, 1))
    assert marked.mark == even.mark
    assert extract_mark(marked.graph, KEY, marked.mark).payload == PAYLOAD


def test_moments_of_other_samples_judge_directions() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((50, 30))
    space = rng.standard_normal((4, 30))
    x, y = (rng.standard_normal((200, 4)) @ space for _ in range(2))
    found = choose_directions(weight, 1, Moments(x.T @ x, y.T @ y))
    assert found is not None
    moves = rng.standard_normal(weight.shape)
    plain, turned = (np.linalg.norm(y @ m.T) for m in (moves, found.apply(moves)))
    assert turned < 0.2 * plain
    assert np.trace(found.matrix) == pytest.approx(30, rel=1e-4)
    assert found.reach**2 * MIN_DIRECTIONS_SHARE <= 1 + 1e-6
    # samples of noise have no empty directions, and others do not bear out what a few seem to say
    few, many = rng.standard_normal((8, 30)), rng.standard_normal((4000, 30))
    assert choose_directions(weight, 1, Moments(few.T @ few, many.T @ many)) is None
    assert choose_directions(weight, 1, Moments(0 * x.T @ x, y.T @ y)) is None
    assert choose_directions(weight, 1, Moments(np.nan * x.T @ x, y.T @ y)) is None


NODES = [
    (helper.make_node("MatMul", ["x", "a"], ["out"]), LayerInputs("x", 1, 0)),
    (helper.make_node("Gemm", ["x", "t"], ["out"], transB=1), LayerInputs("x", 1, 1)),
    (helper.make_node("Gemm", ["z", "t"], ["out"], transA=1, transB=1), LayerInputs("z", 0, 1)),
    (helper.make_node("Conv", ["m", "c"], ["out"]), LayerInputs("m", 1, 1)),
    (helper.make_node("Conv", ["m", "d"], ["out"], group=2), None),
    (helper.make_node("ConvTranspose", ["m", "c"], ["out"]), LayerInputs("m", 1, 0)),
    (helper.make_node("Einsum", ["x", "a"], ["out"], equation="bk,kn->bn"), LayerInputs("x", 1, 0)),
    (helper.make_node("Mul", ["x", "v"], ["out"]), None),
]
INPUTS = {"x": [5, 6], "z": [6, 5], "m": [5, 6, 9, 9]}
SHAPES = {"a": (6, 8), "t": (8, 6), "c": (6, 6, 3, 3), "d": (8, 3, 1, 1), "v": (5, 6)}


@pytest.mark.parametrize(("node", "expected"), NODES)
def test_inputs_of_layers(node: onnx.NodeProto, expected: LayerInputs | None) -> None:
    value, name = node.input
    graph = load_graph(build([node], {name: w(*SHAPES[name])}, {value: list(INPUTS[value])}))
    found = find_inputs(graph, analyse_graph(graph), {name})
    assert found == ({} if expected is None else {name: expected})


def test_a_weight_that_is_read_in_two_ways_has_no_inputs() -> None:
    model = perceptron((6, 6), seed=1, out=6)
    shared = next(t.name for t in model.graph.initializer if len(t.dims) == 2)
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            array = {t.name: t for t in model.graph.initializer}.get(name)
            if array is not None and len(array.dims) == 2:
                node.input[k] = shared
    graph = load_graph(model)
    assert find_inputs(graph, analyse_graph(graph), {shared}) == {}


def test_layers_that_move_together_move_no_further() -> None:
    rng = np.random.default_rng(0)
    weights = {n: rng.standard_normal((200, 100)).astype(np.float32) for n in "ab"}
    # a quarter of the directions bears all, so that moves are twice as large
    base = np.linalg.qr(rng.standard_normal((100, 100)))[0][:, :25]
    directions = Directions((4 * base @ base.T).astype(np.float32), 1)
    assert directions.reach == pytest.approx(2, rel=1e-3)
    layers = [
        Layer("a", (200, 100), 0, gain=1e3, directions=directions),
        Layer("b", (200, 100), 0),
    ]
    bits = rng.random(16) < 0.5
    moved = SCHEME.embed(weights, layers, KEY.derive_layer_key, bits, 5.0)
    assert np.std(moved["a"] - weights["a"]) < 1.2 * MAX_STEP
    assert ((SCHEME.read(moved, layers, KEY.derive_layer_key, 16) > 0) == bits).all()


def test_samples_that_were_left_aside_say_what_a_layer_costs() -> None:
    model = perceptron(WIDTHS, seed=3, out=10)
    even = embed_mark(model, KEY, PAYLOAD)
    changed = {n.name: even.graph.array(n.name) for n in even.mark.layers}
    first = draw_data(64, 1)
    other = {"x": first["x"].copy()}
    is_held = np.arange(64) // 8 % 4 == 3
    other["x"][~is_held] *= 7
    found = [Probe(load_graph(model), d).measure_gains(changed) for d in (first, other)]
    assert found[0] == pytest.approx(found[1])


def test_a_mark_keeps_the_decisions_of_the_model() -> None:
    model = perceptron(WIDTHS, seed=3, out=10)
    data = draw_data(64, 1, latent=40)
    free = embed_gently(model, KEY, PAYLOAD, data=data, metric="agreement", max_loss=1.0)
    assert free.impact is not None
    assert free.impact.metrics is not None
    before, after = free.impact.metrics
    assert before == 1
    assert 0 < after < 1
    allowed = free.impact.loss / 2
    held = embed_gently(model, KEY, PAYLOAD, data=data, metric="agreement", max_loss=allowed)
    assert held.impact is not None
    assert held.impact.loss <= allowed
    assert held.mark.strength < free.mark.strength
    with pytest.raises(LadyError, match="needs 'labels'"):
        embed_gently(model, KEY, PAYLOAD, data=data, metric="accuracy")
