"""Tampering is found beside noise, factors and infinities."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper
from scipy.stats import kstest

import lady_onnx as lady
from lady_onnx.diagnosis.factors.measuring import are_in_proportion
from lady_onnx.diagnosis.tampering.detection import _find_in_weight
from lady_onnx.diagnosis.tampering.moves import Moves
from lady_onnx.diagnosis.tampering.outliers import compute_gap_chance, estimate_deviation
from lady_onnx.diagnosis.tampering.summaries import MoveSummary
from lady_onnx.diagnosis.tampering.training import TrainingLaw
from lady_onnx.groups.model import Group, Slot

from ..helpers.builders import build
from ..helpers.factors import rescaled
from ..helpers.networks import convolutional
from ..helpers.tampering import tampering, wide


@pytest.mark.parametrize("share", [22, 26, 30])
def test_part_of_a_unit_that_was_zeroed_in_a_noisy_copy(share: int) -> None:
    nodes, weights = wide(0)
    rng = np.random.default_rng(share)
    changed = {n: w + 0.05 * w.std() * rng.standard_normal(w.shape) for n, w in weights.items()}
    changed["a"][7, np.argsort(-np.abs(changed["a"][7]))[:share]] = 0
    assert tampering(nodes, weights, changed) == {("a", 7)}


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_unit_that_was_replaced_in_a_pruned_copy(share: float) -> None:
    """What was pruned says nothing of a factor: most of the weight may have been."""
    nodes, weights = wide(0)
    rng = np.random.default_rng(1)
    pruned = np.where(
        np.abs(weights["a"]) < np.quantile(np.abs(weights["a"]), share), 0, weights["a"]
    )
    pruned[7] = 9 * weights["a"].std() * rng.standard_normal(64)
    assert tampering(nodes, weights, {**weights, "a": pruned}) == {("a", 7)}


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("power", [1.0, 5.0])
def test_the_chance_of_a_gap_is_what_it_says(power: float, count: int) -> None:
    """Samples of one power law have gaps of every chance equally often."""
    rng = np.random.default_rng(count)
    chances = [compute_gap_chance(1 + rng.pareto(power, 3000), count, 0.0) for _ in range(1000)]
    assert kstest(chances, "uniform").pvalue > 1e-4


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


def make_group(axis: int, size: int, many: int = 1) -> Group:
    slot = Slot("w", axis, np.arange(size * many).reshape(size, many))
    return Group(f"w:{axis}", "channels", size, (), (slot,))


@pytest.mark.parametrize("shape", [(12, 24, 3), (60,), (200, 100)])
@pytest.mark.parametrize(
    "kind",
    [
        "noise",
        "few",
        "rows",
        "heavy",
        "decay",
        "decay and few",
        "signs",
        "stripes",
        "sparse",
        "none",
    ],
)
def test_what_the_summary_of_a_weight_rules_out_no_test_finds(
    kind: str, shape: tuple[int, ...]
) -> None:
    """The tests of whole weights are left out where the summary says so."""
    ruled_out = found = 0
    for seed in range(24):
        is_out, has_findings = compare_summary(seed, shape, kind)
        ruled_out += is_out
        found += has_findings
    # both happen, so that neither is true of nothing
    assert found or kind in ("heavy", "none") or len(shape) == 1
    assert ruled_out or kind not in ("noise", "signs", "none")


def compare_summary(seed: int, shape: tuple[int, ...], kind: str) -> tuple[bool, bool]:
    """Whether the summary of a changed weight rules findings out, and whether there are any."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(np.float32)
    noise = 0.05 * rng.standard_normal(shape)
    moves = {
        "noise": noise,
        "few": noise * (rng.random(shape) < 0.02),
        "rows": noise * (rng.random(shape[0]) < 0.2).reshape(-1, *[1] * (len(shape) - 1)),
        "heavy": 0.01 * rng.standard_t(1.5, shape),
        "decay": -0.03 * x,
        "decay and few": -0.03 * x + noise * (rng.random(shape) < 0.02),
        "signs": 0.05 * rng.choice([-1.0, 1.0], shape),
        # some elements, at even distances, do not show how far most moved
        "stripes": np.where(np.arange(x.size) % 3 == 0, 1.0, 0.01).reshape(shape),
        "sparse": noise * (rng.random(shape) < 0.4),
        "none": np.zeros(shape),
    }[kind]
    y = x + moves
    if seed % 3 == 1:
        y[tuple(rng.integers(shape))] += rng.choice([1.0, 1.5, 30.0])
    if seed % 3 == 2:
        y[rng.integers(shape[0])] *= rng.choice([1.1, 2.0, 2.5, -1.0])
    if kind == "signs" and seed % 2:
        # a unit that stands out from others, while no element does from the median of all
        y[2:4] = x[2:4] + 14 * moves[2:4]
    # squares of these have no place in single precision
    unit = [1.0, 1.0, 2.0**-75, 1.0, 2.0**75][seed % 5]
    x, y = (np.float32(unit) * z.astype(np.float32) for z in (x, y))
    groups = [make_group(0, shape[0] // 2, 2), *(make_group(1, n) for n in shape[1:2])]
    own = [(g, s) for g in groups for s in g.slots]
    least = float(rng.choice([0.0, 1e-3]))
    summary = MoveSummary.between(x, y, least)
    whole = Moves.between(x, y, least)
    assert summary.moved == np.count_nonzero(whole.gap)
    assert summary.different == np.count_nonzero(whole.different)
    assert summary.largest == pytest.approx(whole.gap.max(), rel=1e-6, abs=0)
    assert summary.scale == pytest.approx(whole.scale, rel=1e-6, abs=0)
    typical = estimate_deviation(whole.gap[whole.gap > 0]) if whole.gap.any() else 0.0
    assert summary.least_typical <= typical * (1 + 1e-6)
    for axis in range(len(shape)):
        others = tuple(a for a in range(len(shape)) if a != axis)
        squares = np.square(whole.gap).sum(others)
        assert summary.squares[axis] == pytest.approx(squares, rel=1e-4, abs=0)
        assert (summary.places[axis] == whole.gap.any(others)).all()
    law = TrainingLaw.of({"w": own}, {"w": x}, {"w": y}, {"w": summary})
    findings = _find_in_weight("w", own, whole, law)
    is_out = not summary.may_stand_out(own)
    assert not (is_out and findings), (seed, findings)
    return is_out, bool(findings)


def test_noise_on_all_of_a_weight_needs_no_other_look() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 400)).astype(np.float32)
    y = (x + 0.1 * rng.standard_normal(x.shape)).astype(np.float32)
    own = [(g, s) for g in (make_group(0, 300), make_group(1, 400)) for s in g.slots]
    assert not MoveSummary.between(x, y, 0.0).may_stand_out(own)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("factor", [1.0, 1.1, 0.5, -1.0])
def test_a_factor_under_noise_is_seen_before_all_factors_are_measured(
    axis: int, factor: float
) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((200, 300)).astype(np.float32)
        y = (x + 0.1 * rng.standard_normal(x.shape)).astype(np.float32)
        np.moveaxis(y, axis, 0)[7] *= factor
        groups = [make_group(0, 200), make_group(1, 300)]
        assert are_in_proportion(groups, {"w": x}, {"w": y}) == (factor == 1)
