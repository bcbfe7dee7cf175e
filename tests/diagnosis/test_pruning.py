"""Copies that were pruned and then altered otherwise are recognised by what is left of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

import lady_onnx as lady
from lady_onnx.diagnosis.pruning import guess_pruned_elements, prune_array
from lady_onnx.groups.permutations import Nesting, compose_permutations
from lady_onnx.pipeline.alignment import LEFT

from ..helpers.law import trials
from ..helpers.networks import convolutional, perceptron, weights, with_weights

SIZES = (60, 96, 64, 48)
AFTERWARDS: dict[str, Callable[[onnx.ModelProto, int], onnx.ModelProto]] = {
    "multiplied": lambda m, k: lady.attack(m, "rescale", 0.3, seed=k).model,
    "rounded and multiplied": lambda m, k: (
        lady.attack(lady.attack(m, "quantize", 6).model, "rescale", 0.3, seed=k).model
    ),
    "trained on": lambda m, k: train_on(m, k),
    "noisy": lambda m, k: lady.attack(m, "noise", 0.5, seed=k).model,
    "noisy and multiplied": lambda m, k: (
        lady.attack(lady.attack(m, "noise", 0.5, seed=k).model, "rescale", 0.3, seed=k).model
    ),
}
"""What may be done to a pruned model. Noise alone leaves no zero."""


def train_on(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    return with_weights(
        model,
        {
            n: (a + 0.3 * a.std() * rng.standard_normal(a.shape) * (a != 0)).astype(np.float32)
            for n, a in weights(model).items()
        },
    )


@pytest.mark.parametrize("seed", trials(2, 20))
@pytest.mark.parametrize("what", AFTERWARDS)
def test_a_pruned_copy_is_recognised(what: str, seed: int) -> None:
    reference = perceptron(SIZES, seed=seed, out=8)
    pruned = lady.attack(reference, "prune", 0.85).model
    shuffled = lady.permute(AFTERWARDS[what](pruned, seed), seed)
    found = lady.check(reference, shuffled.model)
    assert found.verdict == "altered", found.reason
    assert found.recognised > 0.9
    assert found.resync is not None
    groups = found.resync.symmetry.groups
    placed = compose_permutations(
        Nesting(groups),
        shuffled.permutations,
        {m.group: m.permutation for m in found.resync.matches},
    )
    right = np.concatenate([placed[g.id] == np.arange(g.size) for g in groups])
    assert right.mean() > 0.9
    assert {s.kind for steps in found.resync.alterations.values() for s in steps} >= {"pruned"}


@pytest.mark.parametrize("seed", trials(3, 20))
@pytest.mark.parametrize("what", AFTERWARDS)
def test_a_pruned_stranger_stays_one(what: str, seed: int) -> None:
    reference, stranger = (perceptron(SIZES, seed=k, out=8) for k in (seed, seed + 500))
    pruned = lady.attack(stranger, "prune", 0.85).model
    found = lady.check(reference, lady.permute(AFTERWARDS[what](pruned, seed), seed).model)
    assert found.verdict == "unrelated"
    assert found.recognised < 0.15


TAILS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "long": lambda rng, shape: rng.laplace(size=shape),
}


@pytest.mark.parametrize("seed", trials(3, 20))
@pytest.mark.parametrize("tails", ["normal", "uniform"])
@pytest.mark.parametrize("share", [0.75, 0.9])
def test_tails_say_how_much_was_pruned_before_noise_came(
    share: float, tails: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (64, 96) if seed % 2 else (48, 16, 3, 3)
    array = TAILS[tails](rng, shape).astype(np.float32)
    pruned = prune_array(array, round(share * array.size))
    noisy = pruned + 0.3 * pruned.std() * rng.standard_normal(shape)
    factors = [np.exp(0.3 * rng.standard_normal(n)) for n in shape[:2]]
    for axis, factor in enumerate(factors):
        noisy *= factor.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    moved = rng.permutation(noisy.astype(np.float32))
    found = guess_pruned_elements({"w": array}, {"w": moved})
    left = (array.size - found["w"]) / array.size
    # noise hides some of it, so that a few guesses are tried
    assert any(0.5 < left * k / (1 - share) < 2 for k in LEFT), left
    assert not guess_pruned_elements({"w": array}, {"w": rng.permutation(array)})


@pytest.mark.parametrize("tails", TAILS)
def test_noise_alone_is_no_pruning(tails: str) -> None:
    rng = np.random.default_rng(0)
    array = TAILS[tails](rng, (64, 96)).astype(np.float32)
    for level in (0.1, 1.0, 10.0):
        noisy = array + (level * array.std() * rng.standard_normal(array.shape)).astype(np.float32)
        assert not guess_pruned_elements({"w": array}, {"w": noisy}), level


def test_zeros_say_more_than_tails() -> None:
    """Noise came to some weights alone: the others are taken as their zeros say."""
    reference = perceptron(SIZES, seed=3, out=8)
    pruned = weights(lady.attack(reference, "prune", 0.85).model)
    rng = np.random.default_rng(3)
    noisy = [n for n in sorted(pruned) if pruned[n].ndim > 1][::2]
    some = {
        n: pruned[n] + 0.7 * pruned[n].std() * rng.standard_normal(pruned[n].shape) for n in noisy
    }
    altered = with_weights(
        reference, {n: a.astype(np.float32) for n, a in {**pruned, **some}.items()}
    )
    altered = lady.attack(altered, "rescale", 0.3, seed=1).model
    found = lady.check(reference, lady.permute(altered, 1).model)
    assert found.resync is not None
    assert found.recognised > 0.9
    steps = {n: s for n, own in found.resync.alterations.items() for s in own if s.kind == "pruned"}
    for name in set(pruned) - set(noisy):
        if pruned[name].ndim > 1:
            assert steps[name].parameters["sparsity"] == pytest.approx(0.85, abs=0.01)


@pytest.mark.parametrize("seed", trials(5, 20))
def test_small_weights_are_pruned_as_well(seed: int) -> None:
    reference = convolutional("Relu", seed)
    altered = AFTERWARDS["multiplied"](lady.attack(reference, "prune", 0.85).model, seed)
    found = lady.check(reference, lady.permute(altered, seed).model)
    assert found.resync is not None
    assert {f.kind for f in found.resync.integrity} <= {"rescaled"}


@pytest.mark.parametrize(("seed", "noise", "kept"), [(0, 0.2, 0.7), (1, 0.5, 0.6)])
def test_the_surer_matches_count(seed: int, noise: float, kept: float) -> None:
    """Units are in doubt, and magnitudes say nothing of the zeros: these are drawn by chance."""
    reference = perceptron(SIZES, seed=seed, out=8)
    rng = np.random.default_rng(seed + 50)
    masked = {
        n: (a + noise * rng.standard_normal(a.shape)).astype(np.float32)
        * (rng.random(a.shape) < kept)
        for n, a in weights(reference).items()
    }
    found = lady.check(reference, lady.permute(with_weights(reference, masked), seed).model)
    assert found.resync is not None
    certainty = np.concatenate([m.certainty for m in found.resync.matches])
    assert certainty.mean() < 0.99
    kinds = {s.kind for steps in found.resync.alterations.values() for s in steps}
    assert "pruned" not in kinds


def test_pruning_by_other_rules_is_not_taken_for_one_by_magnitude() -> None:
    """Half of the elements are zero, whatever their size: the others tell more than the rule."""
    reference = perceptron(SIZES, seed=1, out=8)
    rng = np.random.default_rng(0)
    masked = with_weights(
        reference,
        {
            n: np.where(rng.random(a.shape) < 0.5, 0, a).astype(np.float32) if a.ndim > 1 else a
            for n, a in weights(reference).items()
        },
    )
    found = lady.check(reference, lady.permute(masked, 1).model)
    assert found.verdict in ("altered", "tampered")
    assert found.recognised == 1
    assert found.resync is not None
    kinds = {s.kind for steps in found.resync.alterations.values() for s in steps}
    assert "pruned" not in kinds
