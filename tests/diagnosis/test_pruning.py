"""Copies that were pruned and then altered otherwise are recognised by what is left of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

import lady_onnx as lady
from lady_onnx.diagnosis.pruning import (
    MAX_MEASURED_ELEMENTS,
    _take_part,
    guess_pruned_elements,
    prune_array,
)
from lady_onnx.groups.permutations import Nesting, compose_permutations
from lady_onnx.pipeline import alignment
from lady_onnx.pipeline.alignment import TRIED_SHARES, _list_pruning_trials

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


@pytest.mark.parametrize("seed", trials(2, 20))
def test_noise_may_hide_how_few_elements_were_left(seed: int) -> None:
    reference = perceptron(SIZES, seed=seed, out=8)
    pruned = lady.attack(reference, "prune", 0.92).model
    found = lady.check(reference, lady.permute(AFTERWARDS["noisy"](pruned, seed), seed).model)
    assert found.recognised > 0.8


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
    assert any(1 / 3 < left * k / (1 - share) < 3 for k in TRIED_SHARES), left
    assert not guess_pruned_elements({"w": array}, {"w": rng.permutation(array)})


@pytest.mark.parametrize("tails", TAILS)
def test_noise_alone_is_no_pruning(tails: str) -> None:
    rng = np.random.default_rng(0)
    array = TAILS[tails](rng, (64, 96)).astype(np.float32)
    for level in (0.1, 1.0, 10.0):
        noisy = array + (level * array.std() * rng.standard_normal(array.shape)).astype(np.float32)
        assert not guess_pruned_elements({"w": array}, {"w": noisy}), level


def test_what_moved_or_has_long_tails_is_not_guessed_to_be_pruned() -> None:
    rng = np.random.default_rng(0)
    dead = rng.standard_normal((64, 96)).astype(np.float32)
    dead[:32] = 0
    wide = rng.standard_t(3, (2048, 1024)).astype(np.float32)
    for array in (dead, wide):
        assert not guess_pruned_elements({"w": array}, {"w": rng.permutation(array)})
    for _ in range(20):
        for pair in (rng.standard_t(3, (2, 64, 64)), rng.laplace(size=(2, 128, 256))):
            ours, theirs = pair.astype(np.float32)
            assert not guess_pruned_elements({"w": ours}, {"w": theirs})


def test_lines_that_were_silenced_leave_the_size_of_the_others() -> None:
    rng = np.random.default_rng(0)
    array = rng.standard_normal((64, 96)).astype(np.float32)
    pruned = prune_array(array, round(0.8 * array.size))
    noisy = pruned + 0.1 * pruned.std() * rng.standard_normal(array.shape).astype(np.float32)
    whole = guess_pruned_elements({"w": array}, {"w": noisy})["w"]
    noisy[:4] = 0
    assert guess_pruned_elements({"w": array}, {"w": noisy})["w"] == pytest.approx(whole, rel=0.1)


def test_most_elements_have_to_be_in_weights_with_long_tails() -> None:
    rng = np.random.default_rng(0)
    ours = {n: rng.standard_normal((64, k)).astype(np.float32) for n, k in (("a", 60), ("b", 64))}
    theirs = {n: prune_array(a, round(0.9 * a.size)) for n, a in ours.items()}
    theirs = {
        n: a + np.float32(0.2 * a.std()) * rng.standard_normal(a.shape, np.float32)
        for n, a in theirs.items()
    }
    assert guess_pruned_elements(ours, theirs).keys() == {"a", "b"}
    assert guess_pruned_elements(ours, {**theirs, "a": ours["a"]}).keys() == {"b"}
    assert not guess_pruned_elements(ours, {**theirs, "b": ours["b"]})


def test_what_zeros_say_stands_in_every_trial_and_what_is_explained_in_none() -> None:
    rng = np.random.default_rng(0)
    names = "zeros", "tails", "known"
    ours = {n: rng.standard_normal((64, 64)).astype(np.float32) for n in names}
    theirs = {n: prune_array(a, round(0.9 * a.size)) for n, a in ours.items()}
    noise = {n: 0.2 * a.std() * rng.standard_normal(a.shape) for n, a in theirs.items()}
    # the zeros of a weight that was trained on stay, and its tails are long as well
    noise["zeros"] *= theirs["zeros"] != 0
    theirs = {n: (a + noise[n]).astype(np.float32) for n, a in theirs.items()}
    zeros = int((theirs["zeros"] == 0).sum())
    found = guess_pruned_elements(ours, theirs)
    assert found.keys() == set(names)
    trials = [counts for counts, _ in _list_pruning_trials(ours, theirs, {"known"})]
    assert trials[0] == {"zeros": zeros}
    assert len(trials) == 1 + len(TRIED_SHARES)
    for counts, share in zip(trials[1:], TRIED_SHARES, strict=True):
        assert counts["zeros"] == zeros
        assert counts.keys() == {"zeros", "tails"}
        left = [ours["tails"].size - k["tails"] for k in (counts, found)]
        assert left[0] == round(share * left[1])


def test_a_guess_is_told_to_be_one() -> None:
    reference = perceptron(SIZES, seed=0, out=8)
    pruned = lady.attack(reference, "prune", 0.85).model
    for what, is_guess in (("noisy", True), ("trained on", False)):
        found = lady.check(reference, lady.permute(AFTERWARDS[what](pruned, 0), 0).model)
        assert found.resync is not None
        steps = [s for own in found.resync.alterations.values() for s in own if s.kind == "pruned"]
        assert steps
        assert all(("guessed" in s.parameters) == is_guess for s in steps)
        assert ("sparsity about" in found.reason) == is_guess


def test_large_weights_are_measured_in_part() -> None:
    rng = np.random.default_rng(0)
    long = rng.standard_normal((1, 4, 1 << 19)).astype(np.float32)
    assert _take_part(long).size == MAX_MEASURED_ELEMENTS
    pruned = prune_array(long, round(0.9 * long.size))
    noisy = pruned + np.float32(0.1 * pruned.std()) * rng.standard_normal(long.shape, np.float32)
    found = guess_pruned_elements({"w": long}, {"w": noisy})["w"] / long.size
    assert found == pytest.approx(0.9, abs=0.03)
    assert not guess_pruned_elements(
        {"w": np.zeros((64, 64), np.float32)}, {"w": noisy[0, :, :1024].reshape(64, 64)}
    )


SILENCED: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "pruned": lambda a, _: prune_array(a, a.size // 2),
    "tails": lambda a, rng: (
        np.where(np.abs(a) < 1.2 * a.std(), 0.02 * a, a)
        + 0.02 * a.std() * rng.standard_normal(a.shape)
    ),
}


@pytest.mark.parametrize("seed", trials(4, 10))
@pytest.mark.parametrize("how", SILENCED)
def test_neither_pruning_nor_long_tails_hide_a_tampered_unit(
    how: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units that are nearly equal leave it unsure where they are, which says nothing of others.

    Under tails not every change is found. What is found without a guess is found with it.
    """
    reference = perceptron(SIZES, seed=seed, out=8)
    arrays = dict(weights(reference))
    first, second = (n for n in sorted(arrays) if arrays[n].shape in ((60, 96), (96, 64)))
    bias = next(n for n in sorted(arrays) if arrays[n].shape == (96,))
    rng = np.random.default_rng(seed)
    for unit in range(0, 8, 2):
        for name, axis in ((first, 1), (bias, 0), (second, 0)):
            lines = np.moveaxis(arrays[name], axis, 0)
            size = 1e-3 if how == "tails" and name != bias else 0.0
            spread = size * rng.standard_normal(lines[unit].shape)
            lines[unit + 1] = lines[unit] * (1 + spread)
    reference = with_weights(reference, arrays)
    suspect = {
        n: SILENCED[how](a, rng).astype(np.float32) if a.ndim > 1 else a
        for n, a in weights(reference).items()
    }
    column = suspect[second][:, 15]
    suspect[second][:, 15] = rng.permutation(column) if how == "pruned" else 8 * column
    found = lady.check(reference, with_weights(reference, suspect))
    if how == "tails":
        assert guess_pruned_elements(weights(reference), suspect)
        monkeypatch.setattr(alignment, "guess_pruned_elements", lambda *_: {})
        plain = lady.check(reference, with_weights(reference, suspect))
        assert (found.verdict, found.reason) == (plain.verdict, plain.reason)
    else:
        assert found.verdict == "tampered", found.reason


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
