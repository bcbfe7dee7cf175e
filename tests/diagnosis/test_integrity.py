"""What was done to single units: planted, found, named, undone or repaired.

And nothing is found where nothing was planted.
"""

from __future__ import annotations

import numpy as np
import pytest

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph

from ..helpers.law import trials
from ..helpers.networks import INCOMING, OUTGOING, convolutional, dense_net
from ..helpers.tampering import changed


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
