"""Vectors of models: no order, factor, sign or file form changes them, and alterations little."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lady_onnx as lady
from lady_onnx.registry.fingerprints import compare_fingerprints
from lady_onnx.registry.signatures import _balance
from lady_onnx.registry.vectors import LENGTH, compare_vectors

from ..helpers import disguises, real
from ..helpers.architectures import Bottleneck, ResNet, export, randomise
from ..helpers.builders import build
from ..helpers.law import examples
from ..helpers.networks import attention, perceptron
from ..helpers.strategies import graphs

NOTHING_CHANGES = 0.9999
"""So near are the vectors of copies: sums are rounded in another order, and then to a byte."""


def vector(model: onnx.ModelProto) -> np.ndarray:
    return lady.fingerprint(model).vector


def compare(a: onnx.ModelProto, b: onnx.ModelProto) -> float:
    return compare_vectors(vector(a), vector(b))


@examples(30)
@given(graphs(), st.integers(0, 99))
def test_no_order_and_no_factor_changes_a_vector(
    grown: tuple[onnx.ModelProto, list[int]], seed: int
) -> None:
    model = grown[0]
    own = vector(model)
    if own.any():
        assert compare_vectors(own, vector(lady.permute(model, seed).model)) > NOTHING_CHANGES
        scaled = lady.attack(model, "rescale", 0.5, seed=seed).model
        assert compare_vectors(own, vector(scaled)) > NOTHING_CHANGES


@pytest.mark.parametrize("seed", range(60))
def test_no_factor_stays_in_a_weight_with_zeros(seed: int) -> None:
    """Also where zeros stand so that not all rows and columns can have one mean square."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 12, 2).tolist())
    kept = rng.random(shape) < rng.uniform(0.15, 0.9)
    array = (rng.standard_normal(shape) * kept).astype(np.float32)
    factors = [np.exp(rng.standard_normal((n, 1))) for n in shape]
    scaled = (array * factors[0] * factors[1].T).astype(np.float32)
    owners = [np.arange(n) for n in shape]
    first, second = (_balance(a.copy(), owners) for a in (array, scaled))
    np.testing.assert_allclose(first, second, rtol=0.01, atol=1e-6)
    for axis in (0, 1):
        counts = np.count_nonzero(first, axis)
        np.testing.assert_allclose(np.square(first).sum(axis), counts, rtol=0.01)


def test_signs_that_are_free_before_and_behind_a_weight_are_not_tied_by_it() -> None:
    """Two Abs: the sign of a unit before one is not that of what reads it."""
    rng = np.random.default_rng(0)
    shapes = {"a": (12, 16), "b": (16, 20), "c": (20, 5)}
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "a"], ["h"]),
        onnx.helper.make_node("Abs", ["h"], ["i"]),
        onnx.helper.make_node("MatMul", ["i", "b"], ["j"]),
        onnx.helper.make_node("Abs", ["j"], ["k"]),
        onnx.helper.make_node("MatMul", ["k", "c"], ["out"]),
    ]
    model = build(nodes, arrays, {"x": [1, 12]})
    for seed in (1, 2, 3):
        assert compare(model, lady.attack(model, "rescale", 0.5, seed=seed).model) > NOTHING_CHANGES


NETWORKS = {
    "perceptron": lambda seed: perceptron((20, 48, 64, 32, 7), seed=seed),
    "attention": lambda seed: attention(seed=seed),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_altered_copies_are_nearer_than_strangers(name: str) -> None:
    models = [NETWORKS[name](seed) for seed in range(5)]
    strangers = max(compare(a, b) for a, b in combinations(models, 2))
    alterations = [("noise", 1.0), ("prune", 0.75), ("quantize", 4), ("rescale", 1.0)]
    for model in models[:2]:
        for kind, strength in alterations:
            altered = lady.attack(model, kind, strength, seed=1).model
            shuffled = lady.permute(altered, 2).model
            assert compare(model, shuffled) > strangers, (kind, strength)


def test_copies_that_were_pruned_are_near_the_vector_of_the_pruned_model() -> None:
    models = [perceptron((20, 48, 64, 32, 7), seed=seed) for seed in range(5)]
    known = [lady.fingerprint(m) for m in models]
    for number, (model, own) in enumerate(zip(models, known, strict=True)):
        altered = lady.attack(model, "prune", 0.9).model
        altered = lady.attack(altered, "rescale", 0.5, seed=1).model
        pruned = lady.fingerprint(lady.permute(altered, 2).model)
        assert compare_fingerprints(own, pruned) == compare_fingerprints(pruned, own)
        assert np.argmax([compare_fingerprints(other, pruned) for other in known]) == number
        assert compare_fingerprints(own, pruned) > compare_vectors(own.vector, pruned.vector)


def test_another_head_leaves_half_of_a_vector() -> None:
    nets = [randomise(ResNet(Bottleneck, (1, 1), (64, 128), 16, 10), seed) for seed in range(3)]
    import torch

    models = [export(n, torch.zeros(1, 3, 16, 16), dynamo=False) for n in nets]
    nets[0].head = torch.nn.Linear(nets[0].head.in_features, 4)
    other = export(nets[0], torch.zeros(1, 3, 16, 16), dynamo=False)
    found = [compare(other, m) for m in models]
    assert np.argmax(found) == 0
    assert found[0] > 0.4


def test_files_that_are_written_differently_have_one_vector() -> None:
    model = perceptron((20, 48, 64, 32, 7), seed=1)
    for disguise in (disguises.rename, disguises.reorder, disguises.make_constants):
        assert compare(model, disguise(model, np.random.default_rng(1))) > NOTHING_CHANGES


def test_units_that_nothing_ties_to_known_positions_tell_nothing() -> None:
    # an Add with one weight: no other axis
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]>'
        "g (float[1, 8] x) => (float[1, 8] y) <float[8] w = {1,2,3,4,5,6,7,8}> { y = Add(x, w) }"
    )
    assert not vector(model).any()
    assert vector(model).shape == (LENGTH,)


REAL = ("magika", "ppocr-cls", "yolov8n")


@pytest.mark.long
@pytest.mark.parametrize("name", REAL)
def test_vectors_of_real_models_stay(name: str) -> None:
    model = real.path(name)
    own = lady.fingerprint(model).vector
    assert own.any()
    for copy in (lady.permute(model, 1).model, lady.attack(model, "rescale", 0.5, seed=1).model):
        assert compare_vectors(own, vector(copy)) > NOTHING_CHANGES


def test_factors_that_differ_within_a_unit_change_no_vector() -> None:
    """Units of a stage that lie beside each other four times have four gains, as in Swin."""
    import torch

    class Merge(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = torch.nn.Linear(6, 24), torch.nn.LayerNorm(96)
            self.second, self.third = torch.nn.Linear(96, 40), torch.nn.Linear(40, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            x = torch.cat([x[:, k::4] for k in range(4)], -1)
            return self.third(torch.relu(self.second(self.norm(x))))

    model = export(randomise(Merge()), torch.zeros(1, 8, 6), dynamo=False)
    scaled = lady.attack(model, "rescale", 1.0, seed=1).model
    assert compare(model, scaled) > NOTHING_CHANGES
