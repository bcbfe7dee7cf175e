"""What was done to single units: planted, found, named, undone or repaired.

And nothing is found where nothing was planted.
"""

from __future__ import annotations

import copy
import itertools
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

import lady_onnx as lady
from lady_onnx.diagnosis.findings import TAMPERING
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph
from lady_onnx.groups.model import Group
from lady_onnx.groups.permutations import Nesting, invert_permutations
from lady_onnx.groups.rows import take_rows
from lady_onnx.numerics import hash_values

from ..helpers import architectures, real
from ..helpers.architectures import Recurrent, export, randomise
from ..helpers.builders import build
from ..helpers.factors import BEHIND, mirrored, rescaled
from ..helpers.factors import found as factors
from ..helpers.law import examples, sensitivity, trials
from ..helpers.networks import INCOMING, OUTGOING, attention, convolutional, dense_net, drawn
from ..helpers.splices import pool
from ..helpers.strategies import graphs


def changed(graph: Graph, group: Group, unit: int, factors: dict[str, float]) -> Graph:
    """One unit of a group multiplied in some weights."""
    result = graph.copy()
    for slot in group.slots:
        if slot.initializer in factors:
            array = result.array(slot.initializer).copy()
            np.moveaxis(array, slot.axis, 0)[slot.index[unit]] *= array.dtype.type(
                factors[slot.initializer]
            )
            result.replace(slot.initializer, array)
    return result


@pytest.mark.parametrize("trial", trials(8))
def test_planted_cases_are_found_and_named(trial: int) -> None:
    """One case of every kind, at a random place of a random network that was permuted."""
    rng = np.random.default_rng(trial)
    model = convolutional("Relu", trial)
    shuffled = lady.permute(model, trial)
    symmetry = lady.find_groups(model)
    groups = {
        s.initializer + ":0": g
        for g in symmetry.groups
        for s in g.slots
        if s.initializer + ":0" in INCOMING and s.axis == 0
    }
    name = str(rng.choice(sorted(groups)))
    group = groups[name]
    unit = int(rng.integers(group.size))
    original = int(shuffled.permutations[group.id][unit])
    k = float(rng.choice([0.5, 0.9, 1.1, 2, 10]))
    into, out = INCOMING[name], OUTGOING[name]

    found = lady.check(model, changed(shuffled.graph, group, unit, dict.fromkeys(into, k)))
    assert found.verdict == "tampered"
    assert not found.accepted
    assert found.resync is not None
    assert {(f.kind, f.group, f.unit, f.slot) for f in found.resync.integrity} == {
        ("scaled", group.id, original, s) for s in into
    }
    assert all(f.factor == pytest.approx(k, rel=1e-4) for f in found.resync.integrity)
    repaired = lady.resync(
        model,
        changed(shuffled.graph, group, unit, dict.fromkeys(into, k)),
        repair=True,
        verify="none",
    )
    assert repaired.exact
    assert repaired.repaired

    found = lady.check(
        model, changed(shuffled.graph, group, unit, {**dict.fromkeys(into, k), out: 1 / k})
    )
    assert found.verdict == "rescaled"
    assert found.accepted
    assert found.resync is not None
    assert found.resync.restored
    assert [(f.kind, f.group, f.unit) for f in found.resync.integrity] == [
        ("rescaled", group.id, original)
    ]
    assert found.resync.integrity[0].factor == pytest.approx(
        k if found.resync.integrity[0].slot != out else 1 / k, rel=1e-4
    )

    graph = shuffled.graph.copy()
    array = graph.array(into[0]).copy()
    place = tuple(int(rng.integers(n)) for n in array.shape)
    array[place] = rng.standard_normal() * array.std()
    graph.replace(into[0], array)
    found = lady.check(model, graph)
    assert found.verdict == "tampered"
    assert found.resync is not None
    (finding,) = found.resync.integrity
    assert (finding.kind, finding.slot) == ("replaced", into[0])
    assert lady.resync(model, graph, repair=True, verify="none").exact

    odd = convolutional("Tanh", trial)
    shuffled = lady.permute(odd, trial)
    found = lady.check(
        odd, changed(shuffled.graph, group, unit, {into[0]: -1, into[1]: -1, out: -1})
    )
    assert found.verdict == "rescaled"
    assert found.resync is not None
    assert [(f.kind, f.unit, f.factor) for f in found.resync.integrity] == [
        ("rescaled", original, pytest.approx(-1))
    ]

    # nothing planted
    untouched = lady.check(model, lady.permute(model, trial + 1).model)
    assert untouched.verdict == "permuted"
    assert not untouched.resync.integrity


def test_weights_outside_all_groups_are_guarded_too() -> None:
    """The outputs' biases, which no group touches, and a place of a weight that no unit has."""
    model = convolutional("Relu", 1)
    assert not any(s.initializer == "db" for g in lady.find_groups(model).groups for s in g.slots)
    for shuffled in (load_graph(model), lady.permute(model, 1).graph):
        graph = shuffled.copy()
        array = graph.array("db").copy()
        array[4] += 0.01
        graph.replace("db", array)
        found = lady.check(model, graph)
        assert found.verdict == "tampered"
        assert found.resync is not None
        (finding,) = found.resync.integrity
        assert (finding.kind, finding.group, finding.unit, finding.slot) == (
            "replaced",
            None,
            None,
            "db",
        )
        assert lady.resync(model, graph, repair=True, verify="none").exact
    # all of them moved: that is no tampering of single ones
    graph.replace("db", array + np.arange(10, dtype=np.float32))
    assert lady.check(model, graph).verdict == "altered"


ENOUGH = 10
"""Units with fewer weights than this may be taken for others, multiplied by other factors."""


@pytest.mark.parametrize("count", [15, pytest.param(60, marks=pytest.mark.long)])
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


@pytest.mark.parametrize("splice", pool(), ids=lambda s: s.name)
def test_multiplied_and_permuted_rules_come_back(splice) -> None:
    comes_back(splice.build()[0], 3)


def comes_back(model: onnx.ModelProto, seed: int) -> None:
    suspect = rescaled(model, seed)
    if lady.find_groups(model).groups:
        suspect = lady.permute(suspect, seed).model
    result = lady.resync(model, suspect, verify="none")
    assert result.restored
    assert all(f.kind == "rescaled" for f in result.integrity)


@pytest.mark.parametrize("kind", ["noise", "prune", "quantize"])
@pytest.mark.parametrize("strength", [0, 1])
def test_altered_models_have_no_findings(kind: str, strength: int) -> None:
    levels = {"noise": (0.02, 0.5), "prune": (0.3, 0.9), "quantize": (8, 3)}
    for seed in range(5):
        model = convolutional("Relu", seed)
        altered = lady.attack(
            lady.permute(model, seed).graph, kind, levels[kind][strength], seed=seed
        )
        found = lady.check(model, altered.model)
        assert found.verdict == "altered", found.reason


@pytest.mark.parametrize(
    ("kind", "strength", "first"),
    [
        pytest.param("noise", 0.05, True, marks=pytest.mark.long),
        pytest.param("noise", 0.05, False, marks=pytest.mark.long),
        ("noise", 0.2, True),
        ("noise", 0.2, False),
        ("quantize", 8, True),
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


def wide(seed: int) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Dense layers of 64 and 48 units behind ReLUs."""
    nodes = [
        helper.make_node("Gemm", ["x", "a", "ab"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("Gemm", ["i", "b", "bb"], ["j"], transB=1),
        helper.make_node("Relu", ["j"], ["k"]),
        helper.make_node("Gemm", ["k", "c", "cb"], ["out"], transB=1),
    ]
    return nodes, drawn(seed, a=(64, 64), ab=(64,), b=(48, 64), bb=(48,), c=(10, 48), cb=(10,))


def tampering(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], changed: dict[str, np.ndarray]
) -> set[tuple[str, int | None]]:
    """Where tampering is found in a shuffled copy with these weights."""
    model = build(nodes, weights, {"x": [2, 64]})
    suspect = build(nodes, {n: w.astype(np.float32) for n, w in changed.items()}, {"x": [2, 64]})
    found = lady.check(model, lady.permute(suspect, 1).graph)
    assert found.resync is not None
    odd = {(f.slot, f.unit) for f in found.resync.integrity if f.kind in TAMPERING}
    assert bool(odd) == (found.verdict == "tampered")
    return odd


@pytest.mark.parametrize("share", [22, 26, 30])
def test_part_of_a_unit_that_was_zeroed_in_a_noisy_copy(share: int) -> None:
    nodes, weights = wide(0)
    rng = np.random.default_rng(share)
    changed = {n: w + 0.05 * w.std() * rng.standard_normal(w.shape) for n, w in weights.items()}
    changed["a"][7, np.argsort(-np.abs(changed["a"][7]))[:share]] = 0
    assert tampering(nodes, weights, changed) == {("a", 7)}


@pytest.mark.parametrize("k", [0.5, 1.1, 1.7])
def test_a_unit_that_was_multiplied_beside_all_of_its_layer(k: float) -> None:
    nodes, weights = wide(0)
    changed = {**weights, "a": weights["a"] * 2, "ab": weights["ab"] * 2, "b": weights["b"] / 2}
    for name in ("a", "ab"):
        changed[name] = changed[name].copy()
        changed[name][7] *= k
    # what comes in and what goes out tell the same
    assert {unit for _, unit in tampering(nodes, weights, changed)} == {7}


@pytest.mark.parametrize("decoy", [1, 0.3, 0.1, 0.05])
def test_a_unit_that_was_multiplied_by_little_hides_no_other(decoy: float) -> None:
    nodes, weights = wide(0)
    rng = np.random.default_rng(3)
    a, b = np.exp(0.2 * rng.standard_normal(64)), np.exp(0.2 * rng.standard_normal(48))
    a[30], a[20] = 1, decoy
    changed = {
        "a": weights["a"] * a[:, None],
        "ab": weights["ab"] * a,
        "b": weights["b"] * b[:, None] / a,
        "cb": weights["cb"],
    }
    changed |= {"bb": weights["bb"] * b, "c": weights["c"] / b}
    changed = {n: w + 0.02 * w.std() * rng.standard_normal(w.shape) for n, w in changed.items()}
    changed["a"][30, 3] += 10 * weights["a"].std()
    assert tampering(nodes, weights, changed) == {("a", 30)}


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
@pytest.mark.parametrize("seed", [0, 1])
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


def test_an_endless_number_hides_nothing() -> None:
    """A causal mask's, say."""
    model = convolutional("Relu", 0)
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([-np.inf], np.float32), "least")
    )
    model.graph.node.append(
        helper.make_node("Max", [model.graph.output[0].name, "least"], ["last"])
    )
    model.graph.output[0].name = "last"
    suspect = lady.permute(model, 1).graph
    name = next(n for n in suspect.tensors if suspect.array(n).ndim == 4)
    array = suspect.array(name).copy()
    array.flat[5] = 100
    suspect.replace(name, array)
    found = lady.check(model, suspect)
    assert found.verdict == "tampered", found.reason
    assert lady.resync(model, suspect, repair=True).exact


@pytest.mark.parametrize(
    ("number", "multiplied"), [(np.inf, False), (np.inf, True), (-np.inf, True), (1e38, False)]
)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_an_infinity_that_was_planted_is_located(
    number: float, noise: float, multiplied: bool
) -> None:
    nodes, weights = wide(0)
    rng = np.random.default_rng(1)
    c = np.exp(0.5 * rng.standard_normal(64)) if multiplied else np.ones(64)
    changed = {
        **weights,
        "a": weights["a"] * c[:, None],
        "ab": weights["ab"] * c,
        "b": weights["b"] / c,
    }
    changed = {n: w + noise * w.std() * rng.standard_normal(w.shape) for n, w in changed.items()}
    changed["a"][5, 3] = number
    assert tampering(nodes, weights, changed) == {("a", 5)}


def test_an_infinity_of_both_hides_no_tampering_beside_factors() -> None:
    nodes, weights = wide(0)
    weights["a"][9, 9] = weights["a"][5, 1] = -np.inf
    c = np.exp(0.5 * np.random.default_rng(1).standard_normal(64)).astype(np.float32)
    changed = {
        **weights,
        "a": weights["a"] * c[:, None],
        "ab": weights["ab"] * c,
        "b": weights["b"] / c,
    }
    changed["a"][5, 3] = 50
    changed["a"][6] *= 1.7
    assert tampering(nodes, weights, changed) == {("a", 5), ("a", 6)}


def test_a_weight_of_no_group_that_was_replaced_in_a_copy_that_was_multiplied() -> None:
    nodes, weights = wide(0)
    c = np.exp(0.5 * np.random.default_rng(1).standard_normal(64))
    changed = {
        **weights,
        "a": weights["a"] * c[:, None],
        "ab": weights["ab"] * c,
        "b": weights["b"] / c,
        "cb": weights["cb"].copy(),
    }
    changed["cb"][3] += 5
    assert tampering(nodes, weights, changed) == {("cb", None)}


def test_an_infinity_in_a_unit_that_was_multiplied_is_no_factor() -> None:
    nodes, weights = wide(0)
    changed = {n: w.copy() for n, w in weights.items()}
    changed["a"][5, 3] = np.inf
    changed["b"][:, 5] *= 2
    model, suspect = (build(nodes, w, {"x": [2, 64]}) for w in (weights, changed))
    found = lady.resync(model, suspect, verify="none").integrity
    assert {(f.slot, f.unit, f.kind, f.factor and round(f.factor, 3)) for f in found} == {
        ("a", 5, "replaced", None),
        ("b", 5, "scaled", 2),
    }


@pytest.mark.parametrize("seed", range(3))
def test_a_weight_that_was_replaced_in_a_noisy_copy_that_was_multiplied(seed: int) -> None:
    nodes, weights = wide(seed)
    rng = np.random.default_rng(seed)
    c = np.exp(0.5 * rng.standard_normal(64))
    changed = {n: w + 0.02 * w.std() * rng.standard_normal(w.shape) for n, w in weights.items()}
    changed["a"][5, 3] += weights["a"].std()
    changed |= {"a": changed["a"] * c[:, None], "ab": changed["ab"] * c, "b": changed["b"] / c}
    assert tampering(nodes, weights, changed) == {("a", 5)}


@pytest.mark.parametrize("together", [False, True])
def test_an_infinity_of_both_hides_no_factors(together: bool) -> None:
    nodes, weights = wide(0)
    weights["bb"][3] = -np.inf
    model = build(nodes, weights, {"x": [2, 64]})
    assert (
        lady.check(model, lady.permute(rescaled(model, 1, together=together), 1).graph).verdict
        == "rescaled"
    )


def test_a_dead_unit_that_came_to_life() -> None:
    whole = load_graph(dense_net(0))
    alive = {n: whole.array(n).copy() for n in "abc"}
    dead = {n: a.copy() for n, a in alive.items()}
    dead["a"][:, 5] = dead["b"][5] = dead["c"][5] = 0
    for suspect in (dense_net(0, **alive), lady.permute(dense_net(0, **alive), 2).graph):
        found = lady.check(dense_net(0, **dead), suspect)
        assert found.verdict == "tampered", found.reason
        assert found.resync is not None
        assert {f.unit for f in found.resync.integrity} == {5}


@pytest.mark.parametrize("level", [1e-7, 1e-6, 1e-5, 1e-3])
@pytest.mark.parametrize("seed", range(3))
def test_a_little_noise_on_all_weights_is_no_tampering(level: float, seed: int) -> None:
    model = dense_net(seed)
    noisy = lady.attack(model, "noise", level, seed=seed + 50).graph
    for suspect in (noisy, lady.permute(noisy, seed).graph):
        found = lady.check(model, suspect)
        assert found.verdict in ("altered", "rescaled"), found.reason
        assert found.resync is not None
        assert not found.resync.integrity


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


@pytest.mark.parametrize("seed", trials(6))
def test_a_bias_of_keys_may_have_any_value(seed: int) -> None:
    model = attention(seed)
    rng = np.random.default_rng(seed)
    shuffled = lady.permute(model, seed).graph
    for size in (1, 8):
        suspect = shuffled.copy()
        array = suspect.array("bk").copy()
        array[rng.permutation(8)[:size]] += rng.standard_normal(size).astype(np.float32)
        suspect.replace("bk", array)
        assert lady.verify(model, suspect.to_model("")).equal
        found = lady.check(model, suspect)
        assert found.verdict == "rescaled", found.reason
        assert found.resync is not None
        assert [(f.kind, f.slot) for f in found.resync.integrity] == [("inert", "bk")]
        assert np.array_equal(found.resync.graph.array("bk"), load_graph(model).array("bk"))
        # the bias of queries is no such
        suspect = shuffled.copy()
        array = suspect.array("bq").copy()
        array[int(rng.integers(8))] += 1
        suspect.replace("bq", array)
        assert lady.check(model, suspect).verdict == "tampered"


@pytest.mark.parametrize("seed", trials(3))
def test_a_bias_of_values_is_taken_back_behind(seed: int) -> None:
    model = attention(seed)
    rng = np.random.default_rng(seed)
    shuffled = lady.permute(model, seed).graph
    for size in (1, 8):
        step = np.zeros(8, np.float32)
        step[rng.permutation(8)[:size]] = rng.standard_normal(size)
        suspect = shuffled.copy()
        suspect.replace("bv", suspect.array("bv") + step)
        suspect.replace("bo", suspect.array("bo") - step @ suspect.array("wo"))
        assert lady.verify(model, suspect.to_model("")).equal
        found = lady.check(model, suspect)
        assert found.verdict == "rescaled", found.reason
        assert found.resync is not None
        assert [(f.kind, f.slot) for f in found.resync.integrity] == [("shifted", "bv")]
        assert found.resync.exact
        # what takes back nine tenths changes the function
        suspect.replace("bo", shuffled.array("bo") - np.float32(0.9) * step @ suspect.array("wo"))
        assert not lady.check(model, suspect).accepted


def test_what_a_relu_stands_behind_takes_nothing_back() -> None:
    """Two biases that differ by what would cancel, if nothing stood between."""
    model = attention(0)
    suspect = load_graph(model).copy()
    step = np.ones(8, np.float32)
    suspect.replace("bq", suspect.array("bq") + step)
    suspect.replace("bo", suspect.array("bo") - step @ suspect.array("wo"))
    assert not lady.check(model, suspect).accepted


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


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0, 10.0])
@pytest.mark.parametrize("mean", [0.0, 0.7])
def test_divergence_is_what_a_simulation_gives(factor: float, mean: float) -> None:
    deviation = 1.5
    z = np.random.default_rng(0).normal(mean, deviation, 1_000_000)
    densities = [scipy.stats.norm(mean * f, deviation * f).logpdf(z) for f in (1.0, factor)]
    gap = densities[0] - densities[1]
    error = 5 * gap.std() / len(z) ** 0.5
    assert lady.divergence(factor, mean, deviation) == pytest.approx(gap.mean(), abs=error)
    if not mean:
        # what is cut off is the same in both: a zero, with the same probability
        kept = np.where(z > 0, gap, 0.0)
        assert lady.divergence(factor, deviation=deviation, relu=True) == pytest.approx(
            kept.mean(), abs=error
        )


def test_divergence_refuses_what_has_none() -> None:
    for arguments in (
        {"factor": 0.0},
        {"factor": 2.0, "deviation": 0.0},
        {"factor": 2.0, "mean": 1.0, "relu": True},
        {"factor": -2.0, "relu": True},
    ):
        with pytest.raises(ValueError, match="a factor of zero"):
            lady.divergence(**arguments)


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
