"""Units that any invertible map may mix: heads of attention, linear bottlenecks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from torch import Tensor, nn

import lady_onnx as lady
from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.diagnosis.mixing.straight import StraightGroup, find_straight_groups
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.groups.rows import join_slots, put_rows
from lady_onnx.scaling.walk import find_scalings
from lady_onnx.symmetry.finder import extract_groups

from ..helpers.architectures import MOBILENET_V2, export, randomise
from ..helpers.builders import build
from ..helpers.exports import forms
from ..helpers.law import examples, sensitivity, trials
from ..helpers.splices import pool
from ..helpers.strategies import graphs


def lines(graph: Graph) -> list[StraightGroup]:
    analysis = analyse_graph(graph)
    groups = extract_groups(analysis).groups
    return find_straight_groups(groups, find_scalings(graph, analysis, groups))


def mixed(model: onnx.ModelProto, seed: int, which: slice = slice(None)) -> Graph:
    """Straight groups' units mixed at random, by maps neither orthogonal nor near to singular."""
    rng = np.random.default_rng(seed)
    graph = load_graph(model).copy()
    for line in lines(graph)[which]:
        arrays = {
            s.initializer: np.array(graph.array(s.initializer)) for s in (*line.made, *line.read)
        }
        size = len(line.made[0].index)
        u, v = (np.linalg.qr(rng.standard_normal((size, size)))[0] for _ in range(2))
        map_ = u @ np.diag(rng.uniform(0.5, 2, size)) @ v
        made, read = (
            map_ @ join_slots(arrays, line.made),
            np.linalg.inv(map_).T @ join_slots(arrays, line.read),
        )
        put_rows(arrays, line.made, made)
        put_rows(arrays, line.read, read)
        for name, array in arrays.items():
            graph.replace(name, array)
    return graph


class Linear(nn.Module):
    """Three layers: nothing stands between the first two, a ReLU between the last two."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 7), nn.Linear(7, 11), nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(self.a(x))))


MODELS = {
    "vit": (lambda: forms("vit")["tracing"], 12),
    "vit, the other exporter": (lambda: forms("vit")["dynamo"], 12),
    "linear": (lambda: export(randomise(Linear()), torch.randn(3, 12), dynamo=False), 1),
    # a stage's bottlenecks, which skips tie together, are one
    "mobilenet_v2": (lambda: forms("mobilenet_v2")["tracing"], len(MOBILENET_V2)),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "linear" else pytest.mark.long) for n in MODELS],
)
def test_mixed_units_are_seen_and_put_back(name: str) -> None:
    make, count = MODELS[name]
    model = make()
    assert len(lines(load_graph(model))) == count
    for seed, which in ((0, slice(None)), (1, slice(0, 1))):
        suspect = lady.permute(mixed(model, seed, which), seed).graph
        assert lady.verify(model, suspect).equal
        found = lady.check(model, suspect)
        assert found.verdict == "rescaled", found.reason
        assert found.resync is not None
        assert {f.kind for f in found.resync.integrity} == {"mixed"}
        assert len(found.resync.integrity) == len(range(count)[which])
        assert lady.resync(model, suspect).outputs_preserved


def test_a_map_that_is_not_undone_elsewhere_is_no_rescaling() -> None:
    model = forms("vit")["tracing"]
    suspect = mixed(model, 0)
    line = lines(load_graph(model))[0]
    arrays = {line.read[0].initializer: np.array(suspect.array(line.read[0].initializer))}
    values = join_slots(arrays, line.read[:1])
    put_rows(
        arrays,
        line.read[:1],
        values * (1 + 0.1 * np.random.default_rng(0).standard_normal((len(values), 1))),
    )
    suspect.replace(line.read[0].initializer, arrays[line.read[0].initializer])
    assert not lady.verify(model, suspect).equal
    found = lady.check(model, suspect)
    assert not found.accepted, found.reason


@pytest.mark.parametrize("condition", [4, 90])
@pytest.mark.parametrize("scale", [1, 1e-3, 1e-6])
def test_a_small_column_of_a_mixed_weight_has_its_own_rounding(
    scale: float, condition: float
) -> None:
    """What is small beside other columns may be large behind them."""
    rng = np.random.default_rng(0)
    a, b, gain = rng.standard_normal((12, 6)), rng.standard_normal((6, 12)), np.ones(12)
    b[:, 11] *= scale
    gain[11] /= scale

    def model(a: np.ndarray, b: np.ndarray) -> onnx.ModelProto:
        nodes = [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node("MatMul", ["h", "b"], ["z"]),
            helper.make_node("Mul", ["z", "gain"], ["out"]),
        ]
        weights = {"a": a, "b": b, "gain": gain}
        single = {n: x.astype(np.float32) for n, x in weights.items()}
        return build(nodes, single, {"x": [2, 12]})

    u, v = (np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in range(2))
    map_ = u @ np.diag(np.linspace(1, condition, 6)) @ v
    back = np.linalg.inv(map_)
    reference = model(a, b)
    assert lady.check(reference, model(a @ map_, back @ b)).verdict == "rescaled"
    b[:, 11] *= -1
    assert not lady.check(reference, model(a @ map_, back @ b)).accepted


@examples(60)
@given(graphs(), st.integers(0, 1000))
def test_maps_leave_the_outputs_as_they_are(
    grown: tuple[onnx.ModelProto, list[int]], seed: int
) -> None:
    holds(grown[0], seed)


@pytest.mark.parametrize("splice", pool(), ids=lambda s: s.name)
def test_maps_leave_every_rule_as_it_is(splice) -> None:
    holds(splice.build()[0], 1)


def holds(model: onnx.ModelProto, seed: int) -> None:
    if lines(load_graph(model)):
        found = lady.verify(model, mixed(model, seed), samples=2)
        # what is rounded to half precision on the way is rounded otherwise
        assert found.max_rel <= max(1e-2, 100 * sensitivity(model))


def layers(
    last: list[onnx.NodeProto], more: dict[str, np.ndarray], seed: int = 0
) -> onnx.ModelProto:
    """A trunk of eight units, and `last` behind it."""
    rng = np.random.default_rng(seed)
    shapes = {
        "u0": (12, 9),
        "c0": (9,),
        "u1": (9, 7),
        "c1": (7,),
        "w0": (7, 8),
        "b0": (8,),
        "w1": (8, 6),
        "b1": (6,),
        "w2": (6, 5),
        "b2": (5,),
    }
    weights = {
        n: rng.standard_normal(shape).astype(np.float32) * np.float32(0.5)
        for n, shape in shapes.items()
    }
    trunk = []
    for k, (x, w, b, y) in enumerate(
        (("x", "u0", "c0", "r"), ("r", "u1", "c1", "s0"), ("s0", "w0", "b0", "t"))
    ):
        trunk += [
            helper.make_node("Gemm", [x, w, b], [f"t{k}"]),
            helper.make_node("Relu", [f"t{k}"], [y]),
        ]
    return build([*trunk, *last], {**weights, **more}, {"x": [3, 12]})


def changed(model: onnx.ModelProto, **arrays: np.ndarray) -> Graph:
    graph = load_graph(model).copy()
    for name, array in arrays.items():
        graph.replace(name, array.astype(np.float32))
    return graph


GEMMS = [
    helper.make_node("Gemm", ["t", "w1", "b1"], ["h"]),
    helper.make_node("Gemm", ["h", "w2", "b2"], ["y"]),
]
THROUGH = {
    "relu": (["Relu"], {}),
    "far clip": (["Clip"], {"low": np.float32(-100), "high": np.float32(100)}),
}


@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize("size", [-8.0, -1000.0, 0.5])
def test_a_bias_behind_another_operator_takes_nothing_back(through: str, size: float) -> None:
    (operator,), more = THROUGH[through]
    nodes = [
        helper.make_node("Gemm", ["t", "w1", "b1"], ["h"]),
        helper.make_node(operator, ["h", *more], ["i"]),
        helper.make_node("Gemm", ["i", "w2", "b2"], ["out"]),
    ]
    for seed in range(5):
        # all units are on, and the first stays so for most inputs
        model = layers(nodes, {**more, "b1": np.full(6, 20, np.float32)}, seed)
        w2, b1, b2 = (load_graph(model).array(n) for n in ("w2", "b1", "b2"))
        step = np.eye(6)[0] * size
        assert not lady.check(model, changed(model, b1=b1 + step, b2=b2 - step @ w2)).accepted


def test_a_second_reader_that_sleeps_is_a_reader() -> None:
    nodes = [
        *GEMMS,
        helper.make_node("Gemm", ["h", "w3", "b3"], ["z"]),
        helper.make_node("Relu", ["z"], ["s"]),
        helper.make_node("Add", ["y", "s"], ["out"]),
    ]
    rng = np.random.default_rng(5)
    model = layers(
        nodes,
        {"w3": rng.standard_normal((6, 5)).astype(np.float32), "b3": np.full(5, -60, np.float32)},
    )
    w2, b1, b2 = (load_graph(model).array(n) for n in ("w2", "b1", "b2"))
    for size in (1, 300, -300):
        step = np.eye(6)[0] * size
        assert not lady.check(model, changed(model, b1=b1 + step, b2=b2 - step @ w2)).accepted


@pytest.mark.parametrize("size", [10.0, 300.0, 1e4, 1e5])
def test_a_large_step_hides_no_small_one(size: float) -> None:
    model = layers([GEMMS[0], helper.make_node("Gemm", ["h", "w2", "b2"], ["out"])], {})
    w2, b1, b2 = (load_graph(model).array(n) for n in ("w2", "b1", "b2"))
    step = np.eye(6)[0] * size
    assert lady.check(
        model, changed(model, b1=b1 + np.eye(6)[0], b2=b2 - np.eye(6)[0] @ w2)
    ).accepted
    for small in (5e-5, 1e-6)[: 2 if size > 10 else 1]:
        assert not lady.check(
            model, changed(model, b1=b1 + step, b2=b2 - step @ w2 + small * size * np.eye(5)[2])
        ).accepted


def test_the_bias_of_a_classifier_is_not_inert() -> None:
    nodes = [
        GEMMS[0],
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("Gemm", ["i", "w2", "b2"], ["y"]),
    ]
    model = layers([*nodes, helper.make_node("Softmax", ["y"], ["out"])], {})
    graph = load_graph(model)
    model = changed(model, w2=30 * graph.array("w2")).to_model("")
    for unit in range(5):
        for size in (3, 1e6):
            assert not lady.check(
                model, changed(model, b2=graph.array("b2") + size * np.eye(5)[unit])
            ).accepted


@pytest.mark.parametrize("seed", trials(1, 2))
@pytest.mark.parametrize(
    ("small", "least"), [(0.05, 8e-5), (1e-3, 1e-5), (1e-4, 1e-4), (1e-5, 0.02)]
)
def test_a_steep_map_hides_nothing(small: float, least: float, seed: int) -> None:
    """The larger the factors of a map, the larger the rounding that undoing it leaves.

    A change may be lost in that.
    """
    rng = np.random.default_rng(seed)
    more = {"w2": rng.standard_normal((6, 9)).astype(np.float32), "b2": np.zeros(9, np.float32)}
    model = layers([GEMMS[0], helper.make_node("Gemm", ["h", "w2", "b2"], ["out"])], more, seed)
    w1, w2, b1 = (load_graph(model).array(n).astype(np.float64) for n in ("w1", "w2", "b1"))
    u, v = (np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in range(2))
    map_ = u @ np.diag([1, 1, 1, 1, 1, small]) @ v
    for tamper in (0, least, 1.0):
        other = w1.copy()
        other[:, 5] *= 1 + tamper
        suspect = changed(model, w1=other @ map_.T, b1=b1 @ map_.T, w2=np.linalg.inv(map_).T @ w2)
        assert lady.check(model, suspect).accepted == (not tamper and small > 0.01)
