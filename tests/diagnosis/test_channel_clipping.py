"""Weights that were clipped channel by channel, and all that only looks so."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import lady_onnx as lady
from lady_onnx.diagnosis.alterations import (
    describe_alterations,
    explain_alterations,
)
from lady_onnx.diagnosis.channel_clipping import clip_channels, find_channel_bounds
from lady_onnx.diagnosis.pruning import prune_array
from lady_onnx.diagnosis.quantisation import quantize_array

from ..helpers.law import examples
from ..helpers.networks import convolutional, perceptron, weights, with_weights

F = np.float32
SHAPES = st.sampled_from([(30, 7), (16, 8, 3, 3), (20, 1, 3, 3), (64, 48)])
SEEDS = st.integers(0, 1000)
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def clip_at(array: np.ndarray, axis: int, percent: float, high: float | None = None) -> np.ndarray:
    """Clip every channel at its own percentiles."""
    lines = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype(np.float64)
    ends = [np.percentile(lines, p, axis=1) for p in (percent, high or 100 - percent)]
    return clip_channels(array, axis, *(e.astype(array.dtype) for e in ends))


def shuffle(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give every axis another order."""
    return array[np.ix_(*(rng.permutation(n) for n in array.shape))]


@examples(80)
# Here the fourteen values that are cut lie at the ends of channels along the other axis as well.
@example((30, 7), 1, 1.0, F, 660)
@given(
    SHAPES,
    st.integers(0, 1),
    st.floats(0.1, 30),
    st.sampled_from([F, np.float16, ml_dtypes.bfloat16, np.float64]),
    SEEDS,
)
def test_each_channel_has_its_own_bounds_whatever_the_order(
    shape: tuple[int, ...], axis: int, percent: float, dtype: np.dtype, seed: int
) -> None:
    axis = axis if shape[axis] > 1 else 0
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(shape).astype(dtype)
    suspect = clip_at(array, axis, percent)
    found, (done,) = explain_alterations(array, shuffle(suspect, rng))
    others = tuple(a for a in range(array.ndim) if a != axis)
    assert done.kind == "clipped"
    assert done.parameters == {
        "axis": axis,
        "lows": tuple(suspect.min(others).astype(float)),
        "highs": tuple(suspect.max(others).astype(float)),
    }
    assert found.dtype == suspect.dtype
    assert np.array_equal(found, suspect)


@examples(20)
@given(SEEDS)
def test_channels_that_are_dead_clones_or_not_cut_may_lie_between(seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = rng.standard_normal((40, 50)).astype(F)
    array[:5], array[5:8], array[8] = 0, array[9], 0.5
    suspect = clip_at(array, 0, 0, 95)
    suspect[20:30] = array[20:30]
    found, (done,) = explain_alterations(array, shuffle(suspect, rng))
    assert done.parameters["axis"] == 0
    assert np.array_equal(found, suspect)


@examples(20)
@given(st.sampled_from([(16, 8, 3, 3), (64, 48)]), st.booleans(), SEEDS)
def test_clipped_channels_may_have_been_pruned_before_or_after(
    shape: tuple[int, ...], is_pruned_first: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(shape).astype(F)
    # bounds below what is pruned would be pruned as well
    count = array.size // 4
    if is_pruned_first:
        suspect = clip_at(prune_array(array, count), 0, 4)
    else:
        suspect = prune_array(clip_at(array, 0, 4), count)
    found, done = explain_alterations(array, shuffle(suspect, rng))
    assert [a.kind for a in done] == ["pruned", "clipped"]
    assert np.array_equal(found, suspect)


@examples(20)
@given(SHAPES, st.sampled_from([np.float16, ml_dtypes.bfloat16]), SEEDS)
def test_clipped_channels_may_have_been_cast(
    shape: tuple[int, ...], short: np.dtype, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(shape).astype(F)
    suspect = clip_at(array, 0, 8).astype(short).astype(F)
    found, done = explain_alterations(array, shuffle(suspect, rng))
    assert [a.kind for a in done] == ["cast", "clipped"]
    assert done[1].parameters["axis"] == 0
    assert np.array_equal(found, suspect)


def test_one_interval_and_a_cast_are_told_in_this_order() -> None:
    array = np.random.default_rng(0).standard_normal((64, 48)).astype(F)
    suspect = np.clip(array, F(-1), F(1.1)).astype(np.float16).astype(F)
    _, done = explain_alterations(array, suspect[::-1])
    assert [a.kind for a in done] == ["clipped", "cast"]


@examples(40)
@given(SHAPES, st.floats(1, 30), SEEDS)
def test_one_interval_for_all_channels_is_told_as_such(
    shape: tuple[int, ...], percent: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(shape).astype(F)
    low, high = np.percentile(array, [percent, 100 - percent]).astype(F)
    _, (done,) = explain_alterations(array, shuffle(np.clip(array, low, high), rng))
    assert done.parameters == {"low": float(low), "high": float(high)}


def make_ternary(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give every channel three values, zero and a scale with both signs."""
    scale = np.abs(rng.standard_normal((len(array), *[1] * (array.ndim - 1)))) + 0.5
    return (np.sign(array) * (np.abs(array) > 0.7) * scale).astype(F)


def keep_references(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return array


REFERENCES: dict[str, Change] = {
    "normal": keep_references,
    "sparse": lambda a, _: prune_array(a, int(0.9 * a.size)),
    "positive": lambda a, _: np.abs(a),
    "ternary": make_ternary,
    "4 bits": lambda a, _: quantize_array(a, 4),
    "half": lambda a, _: a.astype(np.float16).astype(F),
    "with dead channels": lambda a, _: a * (np.arange(len(a)) % 3 > 0).reshape(line(a)),
}
"""What the reference's weights are made of numbers drawn at random."""


def line(array: np.ndarray) -> tuple[int, ...]:
    """The shape of one number a channel."""
    return (len(array), *[1] * (array.ndim - 1))


def some(array: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    return rng.random(array.shape) < share


def train(array: np.ndarray, rng: np.random.Generator, steps: int = 5) -> np.ndarray:
    """Descend the gradient of a softmax regression with random samples."""
    table = array.reshape(len(array), -1).astype(np.float64)
    for _ in range(steps):
        x = np.maximum(rng.standard_normal((table.shape[1], 4)), 0)
        scores = np.exp(table @ x)
        wanted = np.eye(len(table))[:, rng.integers(len(table), size=4)]
        table = table - 0.1 * (scores / scores.sum(0) - wanted) @ x.T
    return table.reshape(array.shape).astype(F)


def lower_largest(array: np.ndarray, count: int) -> np.ndarray:
    """Lower the largest values of an array to one that lies below them."""
    changed = array.copy()
    changed.flat[np.argsort(array, axis=None)[-count:]] = np.sort(array, axis=None)[-count - 1]
    return changed


CHANGES: dict[str, Change] = {
    "order": keep_references,
    "noise": lambda a, rng: a + F(0.1) * rng.standard_normal(a.shape).astype(F),
    "faint noise": lambda a, rng: a * (1 + F(1e-6) * rng.standard_normal(a.shape).astype(F)),
    "noise that only shrinks": lambda a, rng: a * rng.uniform(0.9, 1, a.shape).astype(F),
    "other weights": lambda a, rng: rng.standard_normal(a.shape).astype(F),
    "small magnitudes pruned": lambda a, _: prune_array(a, a.size // 2),
    "random weights pruned": lambda a, rng: np.where(some(a, rng, 0.3), F(0), a),
    "large magnitudes pruned": lambda a, _: np.where(np.abs(a) > 1.5, F(0), a),
    "channels pruned": lambda a, rng: a * (rng.random(line(a)) > 0.3),
    "a share of each channel pruned": lambda a, _: np.stack(
        [prune_array(row, row.size // 2) for row in a]
    ),
    "signs": lambda a, rng: a * rng.choice(np.array([-1, 1], F), line(a)),
    "factors": lambda a, rng: a * rng.uniform(0.5, 1, line(a)).astype(F),
    "a factor": lambda a, _: a * F(0.37),
    "decay": lambda a, _: a * F(0.999),
    "half precision": lambda a, _: a.astype(np.float16).astype(F),
    "short half precision": lambda a, _: a.astype(ml_dtypes.bfloat16).astype(F),
    "training": train,
    "training of a part": lambda a, rng: np.where(some(a, rng, 0.1), train(a, rng), a),
    "training of channels": lambda a, rng: np.where(
        some(a[:, :1], rng, 0.5)[..., :1], train(a, rng), a
    ),
    "one weight lowered": lambda a, _: lower_largest(a, 1),
    "one channel clipped": lambda a, _: np.concatenate([clip_at(a[:1], 0, 10), a[1:]]),
    **{
        f"{bits} bits, axis {axis}, {'' if symmetric else 'a'}symmetric": (
            lambda a, _, bits=bits, axis=axis, symmetric=symmetric: quantize_array(
                a, bits, axis, symmetric
            )
        )
        for bits in (2, 3, 4, 8)
        for axis in (-1, 0, 1)
        for symmetric in (True, False)
    },
}
"""What is done to weights, and is no clipping of channels."""


@pytest.mark.parametrize("change", CHANGES)
@examples(4)
@given(SHAPES, SEEDS)
def test_nothing_else_is_taken_for_clipped_channels(
    change: str, shape: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    for kind, make in REFERENCES.items():
        array = make(rng.standard_normal(shape).astype(F), rng).astype(F)
        changed = CHANGES[change](array, rng).astype(F)
        assert find_channel_bounds(array, changed) is None, kind
        suspect = shuffle(changed, rng)
        assert find_channel_bounds(array, suspect) is None, kind
        _, done = explain_alterations(array, suspect)
        assert not any("axis" in a.parameters for a in done if a.kind == "clipped"), kind


def test_the_only_positive_values_of_some_channels_were_pruned() -> None:
    rng = np.random.default_rng(0)
    array = -np.abs(rng.standard_normal((60, 9))).astype(F)
    array[:, 0] *= -1
    suspect = array.copy()
    suspect[:30, 0] = 0
    assert find_channel_bounds(array, shuffle(suspect, rng)) is None


@pytest.mark.parametrize("shape", [(50,), (1, 50), (50, 1), (2, 2), (0, 5), (5, 0)])
def test_channels_need_values_between_their_ends(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(F)
    suspect = np.clip(array, -0.5, 0.5)
    assert find_channel_bounds(array, suspect) is None


@pytest.mark.parametrize("share", [10, 1])
def test_a_shuffled_network_with_clipped_channels(share: float) -> None:
    """Outputs lie along axis 1 of the weights of a perceptron, along axis 0 of a convolution's."""
    for model, axes in (
        (perceptron((30, 40, 50)), {"w0": 1, "w1": 1, "w2": 1}),
        (convolutional("Relu", 0), {"a": 0, "b": 0}),
    ):
        arrays = weights(model)
        clipped = {n: clip_at(arrays[n], axis, share) for n, axis in axes.items()}
        suspect = lady.permute(with_weights(model, {**arrays, **clipped}), 1)
        found = lady.resync(model, suspect.model)
        assert found.verdict == "altered"
        assert f"clipped ({len(axes)} weights)" in found.headline()
        assert found.psi_estimate == 100
        assert found.integrity == ()
        done = found.to_dict()["alterations"]
        assert done.keys() == axes.keys()
        for name, axis in axes.items():
            others = tuple(a for a in range(clipped[name].ndim) if a != axis)
            assert done[name] == [
                {
                    "kind": "clipped",
                    "axis": axis,
                    "lows": clipped[name].min(others).tolist(),
                    "highs": clipped[name].max(others).tolist(),
                }
            ]


def test_clips_of_both_sorts_are_described_together() -> None:
    array = np.random.default_rng(0).standard_normal((30, 40)).astype(F)
    done = {
        "a": explain_alterations(array, clip_at(array, 0, 5))[1],
        "b": explain_alterations(array, np.clip(array, -1, 1))[1],
    }
    assert describe_alterations(done) == "clipped (2 weights)"
