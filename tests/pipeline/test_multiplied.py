"""Suspects whose units were multiplied, and altered besides, rounded or dead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lady_onnx as lady

from ..helpers import oracle
from ..helpers.layers import F, Weights, X, layers, model


def outputs(whole: onnx.ModelProto, sample: Weights) -> np.ndarray:
    session = oracle.opened(whole.SerializeToString())
    assert session is not None
    return session.run(None, sample)[0]


def halves(weights: Weights) -> tuple[Weights, Callable[[Weights], onnx.ModelProto]]:
    """The layers' weights in half precision, and a model that holds such and widens them."""
    nodes, _ = layers()
    casts = [helper.make_node("Cast", [f"{n}.short"], [n], to=TensorProto.FLOAT) for n in weights]

    def built(arrays: Weights) -> onnx.ModelProto:
        return model([*casts, *nodes], {f"{n}.short": a for n, a in arrays.items()}, X)

    return {n: a.astype(np.float16) for n, a in weights.items()}, built


def multiplied(weights: Weights, rng: np.random.Generator, many: int, both: bool) -> Weights:
    """The weights with some units of the first layer, or both, multiplied; products are rounded."""
    found = {n: a.copy() for n, a in weights.items()}
    for incoming, bias, out in (("a", "ab", "b"), ("b", "bb", "c"))[: 1 + both]:
        for unit in rng.permutation(len(found[bias]))[:many]:
            factor = found[bias].dtype.type(np.exp(0.5 * rng.standard_normal()))
            found[incoming][unit] *= factor
            found[bias][unit] *= factor
            found[out][:, unit] /= factor
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("many", "both"), [(1, False), (3, False), (8, True)])
def test_units_that_were_multiplied_in_half_precision(seed: int, many: int, both: bool) -> None:
    short, built = halves(layers(seed=seed)[1])
    suspect = built(multiplied(short, np.random.default_rng(seed), many, both))
    found = lady.check(built(short), lady.permute(suspect, seed).graph)
    assert found.verdict == "rescaled", found.reason


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_who_spends_all_room_on_one_class_gets_nowhere(kind: type, hidden: bool, seed: int) -> None:
    """Weights move by a few steps of their type to where the score of the first class grows.

    They are all weights, or those of products.
    """
    rng = np.random.default_rng(seed)
    nodes, weights = layers(seed=seed)
    short, built = (
        halves(weights) if kind == np.float16 else (weights, lambda arrays: model(nodes, arrays, X))
    )
    plain = multiplied(short, rng, 16 if hidden else 4, False)
    x = {"x": rng.standard_normal((1, 8)).astype(F)}
    h = np.maximum(plain["a"] @ x["x"][0] + plain["ab"], 0)
    k = np.maximum(plain["b"] @ h + plain["bb"], 0)
    towards_b = plain["c"][0] * (k > 0)
    towards_a = (towards_b @ plain["b"]) * (h > 0)
    ways = {
        "a": np.outer(towards_a, x["x"][0]),
        "ab": towards_a,
        "b": np.outer(towards_b, h),
        "bb": towards_b,
    }
    ways |= {"c": np.outer(np.eye(4)[0], k), "cb": np.eye(4)[0]}
    if hidden:
        # what was multiplied was rounded, and what was not was not
        ways |= {n: np.zeros_like(ways[n]) for n in ("bb", "c", "cb")}
    score = outputs(built(short), x)[0, 0]
    # what the cast itself did to the scores; of single precision that is its last digits
    cast = max(
        float(np.abs(outputs(built(short), x) - outputs(model(nodes, weights, X), x)).max()), 2e-6
    )
    judged = []
    for steps in range(7):
        moved = {n: a.copy() for n, a in plain.items()}
        for _ in range(steps):
            moved = {
                n: np.where(
                    ways[n] == 0, a, np.nextafter(a, np.copysign(kind(np.inf), ways[n]), dtype=kind)
                )
                for n, a in moved.items()
            }
        accepted = lady.check(built(short), built(moved)).accepted
        judged.append(accepted)
        assert not accepted or abs(float(outputs(built(moved), x)[0, 0] - score)) <= cast
    assert judged[0]
    assert not judged[-1]


def test_steps_of_short_floats_are_no_rounding() -> None:
    rng = np.random.default_rng(0)
    short, built = halves(layers()[1])
    doubled = multiplied(short, rng, 1, False)
    assert lady.check(built(short), built(doubled)).verdict == "rescaled"
    moved = {
        n: (a + 0.0065 * np.abs(a).max() * rng.choice([-1, 1], a.shape)).astype(np.float16)
        for n, a in doubled.items()
    }
    assert not lady.check(built(short), built(moved)).accepted


@pytest.mark.parametrize("size", [1e-13, 1e-20, 1e-30])
@pytest.mark.parametrize("seed", range(3))
def test_dead_units_are_told_from_each_other(size: float, seed: int) -> None:
    """Weight decay leaves nothing of a unit that never answers.

    What is left is moved and multiplied like all others.
    """
    nodes, weights = layers(seed=seed)
    rng = np.random.default_rng(seed)
    dead = rng.permutation(16)[:5]
    weights["a"][dead] *= F(size)
    weights["ab"][dead] *= F(1e-8)
    weights["b"][:, dead] *= F(1e-8)
    weights["b"][3:6] *= F(size)
    reference = model(nodes, weights, X)
    suspect = lady.permute(lady.attack(reference, "rescale", 0.5, seed=seed).model, seed).model
    found = lady.resync(reference, suspect)
    assert found.verdict == "rescaled"
    truth = lady.resync(reference, lady.permute(reference, seed).model)
    for group, order in truth.permutations.items():
        assert np.array_equal(found.permutations[group], order)


@pytest.mark.parametrize("factor", [50, 900])
def test_one_large_factor_hides_no_small_changes_of_other_units(factor: float) -> None:
    nodes, weights = layers()
    changed = {n: a.copy() for n, a in weights.items()}
    changed["a"][3] *= F(factor)
    changed["ab"][3] *= F(factor)
    changed["b"][:, 3] /= F(factor)
    reference = model(nodes, weights, X)
    assert (
        lady.check(reference, lady.permute(model(nodes, changed, X), 1).graph).verdict == "rescaled"
    )
    other = {n: a.copy() for n, a in changed.items()}
    other["a"][3, 0] *= F(1 + factor * np.finfo(F).eps * 4)
    assert not lady.check(reference, lady.permute(model(nodes, other, X), 1).graph).accepted
    changed["a"][5] += F(7 * np.finfo(F).eps * np.abs(changed["a"]).max())
    assert not lady.check(reference, lady.permute(model(nodes, changed, X), 1).graph).accepted


@pytest.mark.parametrize("change", ["pruned", "cast", "clipped"])
def test_an_alteration_that_is_explained_is_none_of_the_factors(change: str) -> None:
    """Of a multiplied copy the reference is altered first, and the copy is no copy of that."""
    nodes, weights = layers()
    changed = {n: a.copy() for n, a in weights.items()}
    # behind the altered bias: its own factor is one
    factors = np.exp2(np.arange(16) % 3 - 1).astype(F)
    changed["a"] *= factors[:, None]
    changed["ab"] *= factors
    changed["b"] /= factors
    bias = changed["ab"]
    if change == "pruned":
        bias[np.abs(bias).argmin()] = 0
    elif change == "cast":
        changed["ab"] = bias.astype(np.float16).astype(F)
    else:
        changed["ab"] = np.minimum(bias, np.sort(bias)[-3])
    reference, suspect = model(nodes, weights, X), model(nodes, changed, X)
    for other in (suspect, lady.permute(suspect, 1).model):
        assert not lady.check(reference, other).accepted


def test_a_pruned_bias_beside_units_that_were_multiplied_behind_it() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "a", "ab"], ["h"], transB=1),
        helper.make_node("LayerNormalization", ["h", "g", "gb"], ["n"]),
        helper.make_node("Abs", ["n"], ["i"]),
        helper.make_node("MatMul", ["i", "b"], ["out"]),
    ]
    shapes = {"a": (5, 8), "ab": (5,), "g": (5,), "gb": (5,), "b": (5, 3)}
    weights = {n: rng.standard_normal(s).astype(F) for n, s in shapes.items()}
    factors = np.array([-1.5, -2.3, 1.7, 0.4, -0.7], F)
    changed = {
        **weights,
        "ab": weights["ab"].copy(),
        "g": weights["g"] * factors,
        "gb": weights["gb"] * factors,
    }
    changed["b"] = weights["b"] / np.abs(factors)[:, None]
    reference = model(nodes, weights, X)
    assert lady.check(reference, model(nodes, changed, X)).verdict == "rescaled"
    # the smallest one: that is what pruning leaves
    changed["ab"][np.abs(changed["ab"]).argmin()] = 0
    assert not lady.check(reference, model(nodes, changed, X)).accepted


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_dead_units_make_no_copy_unrelated(share: float) -> None:
    nodes, weights = layers()
    for name, axis, dead in (
        ("a", 0, 16),
        ("ab", 0, 16),
        ("b", 1, 16),
        ("b", 0, 12),
        ("bb", 0, 12),
        ("c", 1, 12),
    ):
        np.moveaxis(weights[name], axis, 0)[: int(dead * share)] = 0
    reference = model(nodes, weights, X)
    suspect = lady.permute(lady.attack(reference, "noise", 0.2, seed=3).graph, 1).graph
    assert lady.check(reference, suspect).verdict == "altered"
