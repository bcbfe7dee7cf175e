"""Units that were multiplied, or whose sign was changed, are found and undone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.permutations import Nesting, invert_permutations
from lady_onnx.groups.rows import take_rows

from ..helpers import architectures, real
from ..helpers.architectures import Recurrent, export, randomise
from ..helpers.builders import build
from ..helpers.factors import BEHIND, mirrored, rescaled
from ..helpers.factors import found as factors
from ..helpers.law import examples, sensitivity, trials
from ..helpers.networks import convolutional, drawn
from ..helpers.one_operator import build_model
from ..helpers.splices import pool
from ..helpers.strategies import graphs

ENOUGH = 10
"""Units with fewer weights than this may be taken for others, multiplied by other factors."""


@pytest.mark.parametrize("count", [8, pytest.param(60, marks=pytest.mark.long)])
def test_multiplied_and_permuted_models_come_back(count: int) -> None:
    @examples(count)
    @given(graphs(), st.integers(0, 1000), st.booleans())
    def comes_back_multiplied(
        grown: tuple[onnx.ModelProto, list[int]], seed: int, together: bool
    ) -> None:
        suspect = rescaled(grown[0], seed, together=together)
        groups = lady.find_groups(grown[0]).groups
        if groups:
            suspect = lady.permute(suspect, seed).model
        result = lady.resync(grown[0], suspect, verify="none")
        found = lady.verify(suspect, result.model, samples=2)
        assert found.equal or found.max_rel <= 100 * sensitivity(suspect)
        graph = load_graph(grown[0])
        told = [
            sum(take_rows(graph.array(s.initializer), s).shape[1] for s in g.slots) for g in groups
        ]
        if min(told, default=0) >= ENOUGH:
            assert result.restored
            assert all(f.kind == "rescaled" for f in result.integrity)

    comes_back_multiplied()


def residual(seed: int, width: int) -> onnx.ModelProto:
    """A stream of some units, a block that reads it and adds to it, and a pooled classifier."""
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["s"], pads=[1] * 4),
        helper.make_node("Conv", ["s", "b", "bb"], ["h"], pads=[1] * 4),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("Conv", ["i", "c", "cb"], ["j"]),
        helper.make_node("Add", ["s", "j"], ["t"]),
        helper.make_node("MaxPool", ["t"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "d"], ["out"]),
    ]
    biases = dict.fromkeys(("ab", "bb", "cb"), (width,))
    kernels = {"a": (width, 3, 3, 3), "b": (width, width, 3, 3), "c": (width, width, 1, 1)}
    return build(nodes, drawn(seed, **kernels, d=(16 * width, 3), **biases), {"x": [1, 3, 8, 8]})


def test_a_layer_that_was_multiplied_by_one_factor() -> None:
    """Beside another that nothing takes back."""
    model = residual(0, 12)
    once = rescaled(model, 3, together=True)
    found = lady.check(model, lady.permute(once, 1).graph)
    assert found.verdict == "rescaled"
    assert found.resync is not None
    assert found.resync.alterations == {}
    twice = load_graph(once).copy()
    twice.replace("d", twice.array("d") * np.float32(1.5))
    assert lady.check(model, lady.permute(twice, 1).graph).verdict == "altered"


@pytest.mark.parametrize("seeds", [8, pytest.param(40, marks=pytest.mark.long)])
@pytest.mark.parametrize("width", [2, 7])
def test_where_all_units_were_multiplied_at_once(width: int, seeds: int) -> None:
    """The neighbours' factors hide each other, and few units are matched for sure in any order."""
    for seed in range(seeds):
        model = residual(seed, width)
        found = lady.resync(model, lady.permute(rescaled(model, seed), seed).graph, verify="none")
        assert found.restored, seed


@pytest.mark.parametrize("seeds", [15, pytest.param(60, marks=pytest.mark.long)])
def test_where_all_of_few_units_are_like_none(seeds: int) -> None:
    """Two units of many weights look like each other's.

    Each may be multiplied and flipped by itself.
    """
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["h"]),
        helper.make_node("Mul", ["h", "m"], ["i"]),
        helper.make_node("BatchNormalization", ["i", "g", "gb", "mean", "var"], ["j"]),
        helper.make_node("GlobalAveragePool", ["j"], ["k"]),
        helper.make_node("Flatten", ["k"], ["f"]),
        helper.make_node("Gemm", ["f", "d"], ["out"]),
    ]
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        shapes = {
            "a": (2, 3, 3, 3),
            "ab": (2,),
            "m": (1, 2, 1, 1),
            "g": (2,),
            "gb": (2,),
            "mean": (2,),
            "d": (2, 3),
        }
        weights = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
        model = build(
            nodes,
            {**weights, "var": rng.uniform(0.5, 2, 2).astype(np.float32)},
            {"x": [1, 3, 5, 5]},
        )
        found = lady.resync(model, lady.permute(rescaled(model, seed), seed).graph, verify="none")
        assert found.restored, seed


@pytest.mark.parametrize("seed", trials(3, 12))
@pytest.mark.parametrize("is_linear", [True, False])
def test_queries_that_share_keys(seed: int, is_linear: bool) -> None:
    """Query heads of a key head lie across its dimensions, and both may have factors or signs."""
    width, keys, queries, size, length = 48, 4, 8, 8, 4
    rng = np.random.default_rng(seed)

    def w(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32)

    columns = {"q": queries, "k": keys, "v": keys}
    weights = {n: w(width, count * size) for n, count in columns.items()}
    weights |= {"in": w(3, width), "o": w(queries * size, width), "last": w(width, 9)}
    nodes = [
        helper.make_node("MatMul", ["x", "in"], ["h0"]),
        helper.make_node("Tanh", ["h0"], ["h"]),
        *(helper.make_node("MatMul", ["h", n], [f"{n}o"]) for n in "qkv"),
    ]
    ends = ["qo", "ko", "vo"]
    if is_linear:
        heads = {"q_num_heads": queries, "kv_num_heads": keys, "update_rule": "linear"}
        operator = helper.make_node(
            "LinearAttention", ends, ["y", "state"], domain="com.microsoft", **heads
        )
        nodes.append(operator)
    else:
        # norms of queries and keys let signs pass, and the two of a pair that turns share one: more
        # than eight are independent
        angles = np.arange(length)[:, None] / 100 ** (np.arange(size // 2) / (size // 2))
        weights |= {
            "cos": np.float32(np.cos(angles))[None],
            "sin": np.float32(np.sin(angles))[None],
        }
        for n, count in columns.items():
            weights |= {f"s{n}": np.array([1, length, count, size]), f"g{n}": 1 + w(size) / 2}
            nodes.append(helper.make_node("Reshape", [f"{n}o", f"s{n}"], [f"{n}r"]))
            normed = f"{n}r" if n == "v" else f"{n}n"
            if n != "v":
                nodes.append(helper.make_node("RMSNormalization", [f"{n}r", f"g{n}"], [normed]))
            made = f"{n}t" if n == "v" else f"{n}w"
            nodes.append(helper.make_node("Transpose", [normed], [made], perm=[0, 2, 1, 3]))
            if n != "v":
                tables = [made, "cos", "sin"]
                nodes.append(helper.make_node("RotaryEmbedding", tables, [f"{n}t"]))
        weights["so"] = np.array([1, length, queries * size])
        nodes += [
            helper.make_node("Attention", ["qt", "kt", "vt"], ["seen"]),
            helper.make_node("Transpose", ["seen"], ["turned"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", ["turned", "so"], ["y"]),
        ]
    nodes += [
        helper.make_node("MatMul", ["y", "o"], ["ao"]),
        helper.make_node("Add", ["h", "ao"], ["r"]),
        helper.make_node("MatMul", ["r", "last"], ["out"]),
    ]
    used = {i for node in nodes for i in node.input}
    model = build_model(nodes, {n: a for n, a in weights.items() if n in used}, 23, length)
    comes_back(model, seed)


@pytest.mark.parametrize(
    "splice",
    [
        pytest.param(splice, marks=() if k % 3 == 0 else pytest.mark.long, id=splice.name)
        for k, splice in enumerate(pool())
    ],
)
def test_multiplied_and_permuted_rules_come_back(splice) -> None:
    comes_back(splice.build()[0], 3)


def comes_back(model: onnx.ModelProto, seed: int) -> None:
    suspect = rescaled(model, seed)
    if lady.find_groups(model).groups:
        suspect = lady.permute(suspect, seed).model
    result = lady.resync(model, suspect, verify="none")
    assert result.restored
    assert all(f.kind == "rescaled" for f in result.integrity)


@pytest.mark.parametrize(
    ("kind", "strength", "first"),
    [
        pytest.param("noise", 0.05, True, marks=pytest.mark.long),
        pytest.param("noise", 0.05, False, marks=pytest.mark.long),
        ("noise", 0.2, True),
        pytest.param("noise", 0.2, False, marks=pytest.mark.long),
        pytest.param("quantize", 8, True, marks=pytest.mark.long),
        ("quantize", 8, False),
        ("prune", 0.5, False),
    ],
)
def test_altered_and_multiplied_models_have_no_findings_of_tampering(
    kind: str, strength: float, first: bool
) -> None:
    """What was added grew with the units that were multiplied, or did not.

    It fills variances that were all but zero.
    """
    model = load_graph(real.path("ppocr-cls"))
    steps = [(kind, strength), ("rescale", 0.5)]
    suspect = model
    for what, much in steps if first else reversed(steps):
        suspect = lady.attack(suspect, what, much, seed=5).graph
    shuffled = lady.permute(suspect, 3)
    found = lady.resync(model, shuffled.graph, verify="none")
    truth = invert_permutations(Nesting(shuffled.symmetry.groups), shuffled.permutations)
    assert all((found.permutations[g] == p).all() for g, p in truth.items())
    assert {f.kind for f in found.integrity} == {"rescaled"}
    # of 1,338 units
    assert len(found.integrity) > 800


def test_multiplied_noisy_copies_come_back() -> None:
    """Noise on top of factors on every unit: both are found, the factors to within the noise."""
    for seed in range(5):
        model = convolutional("Relu", seed)
        shuffled = lady.permute(rescaled(model, seed), seed)
        noisy = lady.attack(shuffled.graph, "noise", 0.05, seed=seed)
        found = lady.check(model, noisy.model)
        assert found.verdict == "altered"
        assert found.resync is not None
        right = {g: np.argsort(p) for g, p in shuffled.permutations.items()}
        assert all((right[g] == p).all() for g, p in found.resync.permutations.items())
        assert {f.kind for f in found.resync.integrity} == {"rescaled"}


@pytest.mark.parametrize("trial", trials(6))
def test_single_signs_and_reflections_are_undone(trial: int) -> None:
    """One recurrent unit's sign, and one ReLU6 unit reflected: named, undone, and nothing else."""
    rng = np.random.default_rng(trial)
    kind = ("LSTM", "GRU", "RNN")[trial % 3]
    recurrent = architectures.Recurrent(kind, 6, 7, 11)
    torch.manual_seed(trial)
    reference = export(randomise(recurrent, trial), torch.randint(0, 11, (1, 5)), dynamo=False)
    for model in (reference, mirrored("ReLU6", BEHIND[trial % 5], trial)):
        graph = load_graph(model)
        free = [s for s in factors(model) if s.signs.size]
        scaling = free[int(rng.integers(len(free)))]
        unit = int(rng.integers(len(scaling.slots[0].index)))
        by = np.ones((len(scaling.slots), len(scaling.slots[0].index)))
        by[scaling.signs[0], unit] = -1
        arrays = {n: graph.array(n).copy() for n in scaling.names}
        scaling.apply(arrays, by)
        changed = graph.copy()
        for name, array in arrays.items():
            changed.replace(name, array)
        shuffled = lady.permute(changed, trial)
        assert lady.verify(model, shuffled.model).equal
        found = lady.check(model, shuffled.graph)
        assert found.verdict == "rescaled", (trial, found.reason)
        assert found.resync is not None
        assert [(f.kind, f.group, f.unit, f.factor) for f in found.resync.integrity] == [
            ("rescaled", scaling.group, unit, pytest.approx(-1))
        ]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_signs_of_recurrent_units_are_undone(kind: str) -> None:
    model = export(randomise(Recurrent(kind, 6, 7, 11)), torch.randint(0, 11, (1, 5)), dynamo=False)
    for seed in range(4):
        shuffled = lady.permute(rescaled(model, seed), seed)
        found = lady.check(model, shuffled.graph)
        assert found.verdict == "rescaled", found.reason
        assert found.resync is not None
        assert {f.kind for f in found.resync.integrity} == {"rescaled"}
        assert found.resync.restored
