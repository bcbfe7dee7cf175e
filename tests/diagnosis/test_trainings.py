"""Training on moves weights: altered copies, and never tampered ones."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from sklearn.datasets import load_digits

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph

from ..helpers import architectures
from ..helpers.builders import build
from ..helpers.networks import convolutional, drawn
from ..helpers.tampering import changed


def test_fine_tuned_copies_are_altered_and_no_more() -> None:
    """A trained classifier of digits, trained on, with either optimiser.

    A unit times two is found among what that moves.
    """
    torch.manual_seed(0)
    data, labels = load_digits(return_X_y=True)
    images, labels = (
        torch.tensor(data.reshape(-1, 1, 8, 8) / 16, dtype=torch.float32),
        torch.tensor(labels),
    )
    nn = torch.nn

    def train(network: Any, optimiser: Any, epochs: int) -> None:
        for _ in range(epochs):
            for batch in torch.randperm(len(images)).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
                optimiser.step()

    layers = [
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2),
        nn.BatchNorm2d(24),
        nn.ReLU(),
    ]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(216, 32), nn.ReLU(), nn.Linear(32, 10))
    train(network, torch.optim.Adam(network.parameters()), 6)
    reference = architectures.export(network.eval(), images[:1], dynamo=False)
    for optimiser in (partial(torch.optim.SGD, lr=0.02), partial(torch.optim.Adam, lr=1e-4)):
        tuned = copy.deepcopy(network).train()
        train(tuned, optimiser(tuned.parameters()), 3)
        suspect = lady.permute(architectures.export(tuned.eval(), images[:1], dynamo=False), 1)
        found = lady.check(reference, suspect.model)
        assert found.verdict == "altered"
        assert found.resync is not None
        assert not found.resync.integrity
        assert all(
            (np.argsort(p) == found.resync.permutations[g]).all()
            for g, p in suspect.permutations.items()
        )
        group = max(suspect.symmetry.groups, key=lambda g: g.size)
        slot = max(group.slots, key=lambda s: load_graph(reference).array(s.initializer).size)
        found = lady.check(reference, changed(suspect.graph, group, 7, {slot.initializer: 2.0}))
        assert found.verdict == "tampered"
        assert found.resync is not None
        (finding,) = found.resync.integrity
        assert (finding.group, finding.unit) == (group.id, int(suspect.permutations[group.id][7]))
        assert finding.factor == pytest.approx(2, rel=0.2)


def trained_on(model: onnx.ModelProto, seed: int, power: float) -> Graph:
    """Every weight moved, a few of each far more than the others: a power law, as of a gradient."""
    rng = np.random.default_rng(seed)
    graph = load_graph(model).copy()
    for name in sorted(graph.tensors):
        array = graph.array(name)
        steps = (
            1e-3 * array.std() * rng.pareto(power, array.shape) * rng.choice([-1, 1], array.shape)
        )
        graph.replace(name, (array + np.clip(steps, -1, 1)).astype(np.float32))
    return graph


def test_training_that_moved_a_few_weights_far_is_no_tampering() -> None:
    for seed in range(30):
        model = convolutional("Relu", seed)
        suspect = trained_on(model, seed, 1.0 + seed / 30)
        found = lady.check(model, lady.permute(suspect, seed).graph)
        assert found.verdict == "altered", (seed, found.reason)
        # where the law has a shorter tail, a single weight that stands out is
        suspect = trained_on(model, seed, 8.0)
        weight = "bc"[seed % 2]
        array = suspect.array(weight).copy()
        array[seed % len(array)].flat[5] += 2 * array.std()
        suspect.replace(weight, array)
        found = lady.check(model, lady.permute(suspect, seed).graph)
        assert found.verdict == "tampered"
        assert found.resync is not None
        assert [f.slot for f in found.resync.integrity] == [weight]
        assert found.resync.integrity[0].unit is not None


@pytest.mark.parametrize("decay", [0.0, 2e-4])
def test_statistics_that_training_moved_are_no_factors(decay: float) -> None:
    """A factor of a batch norm's variance passes if its gain has it too.

    Where it has not, something else was done.
    """
    for seed in range(6):
        rng = np.random.default_rng(seed)
        weights = drawn(seed, a=(64, 3, 3, 3), b=(5, 64, 3, 3), shift=(64,), mean=(64,))
        weights |= {"gain": rng.uniform(0.5, 1.5, 64).astype(np.float32)}
        weights |= {"variance": rng.uniform(0.5, 2, 64).astype(np.float32)}
        nodes = [
            helper.make_node("Conv", ["x", "a"], ["h"]),
            helper.make_node(
                "BatchNormalization", ["h", "gain", "shift", "mean", "variance"], ["n"]
            ),
            helper.make_node("Relu", ["n"], ["r"]),
            helper.make_node("Conv", ["r", "b"], ["out"]),
        ]
        model = build(nodes, weights, {"x": [1, 3, 8, 8]})
        graph = load_graph(model).copy()
        for name, array in weights.items():
            moved = (1 - decay) * array * (1 + 1e-5 * rng.standard_normal(array.shape))
            if name == "variance":
                moved[::5] *= rng.uniform(1.03, 1.1, 13)
            if name == "gain":
                # a small step of one is nothing among decays of the same size
                moved[7] *= 1 - 0.01 * (decay > 0)
            graph.replace(name, moved.astype(np.float32))
        found = lady.check(model, lady.permute(graph, seed).graph)
        assert found.verdict == "altered", found.reason
        assert found.resync is not None
        assert found.resync.integrity == ()


def test_rows_that_training_did_not_reach_are_no_tampering() -> None:
    """Of an embedding only the tokens that were read are learned."""
    for seed in range(10):
        rng = np.random.default_rng(seed + 100)
        weights = drawn(
            seed, e=(200, 16), a=(16, 12), b=(12, 12), c=(12, 5), ab=(12,), bb=(12,), cb=(5,)
        )
        nodes = [helper.make_node("Gather", ["e", "x"], ["h0"])]
        for k, (w, b) in enumerate((("a", "ab"), ("b", "bb"), ("c", "cb"))):
            nodes += [
                helper.make_node("MatMul", [f"h{k}", w], [f"m{k}"]),
                helper.make_node("Add", [f"m{k}", b], [f"s{k}"]),
            ]
            nodes.append(helper.make_node("Relu", [f"s{k}"], [f"h{k + 1}" if k < 2 else "out"]))
        model = build(nodes, weights, {"x": [2, 7]})
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
        graph = load_graph(model).copy()
        for name, array in weights.items():
            moved = array + 0.01 * array.std() * rng.standard_normal(array.shape)
            graph.replace(name, moved.astype(np.float32))
        learned = graph.array("e").copy()
        seen = rng.permutation(200)[:10]
        learned[np.setdiff1d(np.arange(200), seen)] = weights["e"][
            np.setdiff1d(np.arange(200), seen)
        ]
        graph.replace("e", learned)
        suspect = lady.permute(graph, seed).graph
        found = lady.check(model, suspect)
        assert found.verdict == "altered", (seed, found.reason)
        learned[seen] = weights["e"][seen]
        learned[3, 5] += 5
        graph.replace("e", learned)
        found = lady.check(model, lady.permute(graph, seed).graph)
        assert found.verdict == "tampered", (seed, found.reason)
