"""Unrelated models are told from copies under heavy noise."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import helper

import lady_onnx as lady

from ..helpers.builders import build
from ..helpers.networks import convolutional
from ..helpers.tampering import wide


def perceptron(seed: int, *sizes: int) -> onnx.ModelProto:
    """Dense layers with ReLUs between them."""
    rng = np.random.default_rng(seed)
    weights, nodes, flow = {}, [], "x"
    for k, shape in enumerate(itertools.pairwise(sizes)):
        weights |= {
            f"w{k}": rng.standard_normal(shape),
            f"b{k}": 0.3 * rng.standard_normal(shape[1]),
        }
        nodes += [
            helper.make_node("MatMul", [flow, f"w{k}"], [f"m{k}"]),
            helper.make_node("Add", [f"m{k}", f"b{k}"], [f"a{k}"]),
        ]
        nodes.append(helper.make_node("Relu", [f"a{k}"], [f"r{k}"]))
        flow = f"r{k}"
    nodes[-1].output[0] = "out"
    return build(nodes, {n: w.astype(np.float32) for n, w in weights.items()}, {"x": [2, sizes[0]]})


@pytest.mark.parametrize("fewer", [0, 1])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_unrelated_models_are_told(seed: int, fewer: int) -> None:
    for first, hidden, *rest in ((4, 8, 3), (8, 32, 4), (16, 128, 10), (64, 256, 256, 10)):
        reference, suspect = (
            perceptron(seed, first, hidden, *rest),
            perceptron(seed + 50, first, hidden - fewer, *rest),
        )
        assert lady.check(reference, lady.permute(suspect, seed).model).verdict == "unrelated"


def test_unrelated_models_of_two_units_are_told() -> None:
    for seed in range(4):
        reference, suspect = perceptron(seed, 4, 2, 3), perceptron(seed + 50, 4, 2, 3)
        assert lady.check(reference, lady.permute(suspect, 1).model).verdict == "unrelated"


def test_unrelated_models_have_no_findings() -> None:
    for seed in range(5):
        found = lady.check(
            convolutional("Relu", seed), lady.permute(convolutional("Relu", seed + 50), seed).model
        )
        assert found.verdict == "unrelated"
        assert found.resync is not None
        assert not found.resync.integrity


@pytest.mark.parametrize("noise", [2, 3])
def test_copies_under_heavy_noise_are_related(noise: float) -> None:
    model = perceptron(0, 64, 256, 256, 10)
    found = lady.check(
        model, lady.permute(lady.attack(model, "noise", noise, seed=7).graph, 1).graph
    )
    assert (found.verdict, found.resync and found.resync.psi_estimate > 95) == ("altered", True)


def test_copies_of_models_whose_units_are_alike_are_related() -> None:
    nodes, weights = wide(0)
    twins = {n: w if n == "cb" else w[np.arange(len(w)) % 2] for n, w in weights.items()} | {
        "c": weights["c"]
    }
    twins |= {n: twins[n][:, np.arange(twins[n].shape[1]) % 2] for n in ("b", "c")}
    rng = np.random.default_rng(1)
    noisy = {
        n: (w + 0.05 * rng.standard_normal(w.shape)).astype(np.float32) for n, w in twins.items()
    }
    model, suspect = (build(nodes, w, {"x": [2, 64]}) for w in (twins, noisy))
    assert lady.check(model, lady.permute(suspect, 1).graph).verdict == "altered"
