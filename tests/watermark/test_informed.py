"""Weak marks, which are read from what changed since the model was unmarked."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from scipy import stats

import lady_onnx as lady
from lady_onnx.errors import LadyError
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import map_weights
from lady_onnx.watermark.carriers import read_layers
from lady_onnx.watermark.embedding import (
    INFORMED_STRENGTHS,
    Marked,
    embed_gently,
    embed_mark,
    plan_mark,
)
from lady_onnx.watermark.extraction import extract_mark, read_weights
from lady_onnx.watermark.impact import Impact, Probe
from lady_onnx.watermark.records import read_mark
from lady_onnx.watermark.schemes.interface import Layer
from lady_onnx.watermark.schemes.spread import SCHEME
from lady_onnx.watermark.secrets.keys import Key

from ..helpers.law import trials
from ..helpers.networks import loud_and_faint, perceptron, weights, with_weights

KEY, OTHER = Key(bytes(32)), Key(bytes(31) + b"a")
PAYLOAD = b"ACME Inc"
WIDTHS = (40, 160, 400, 120)
WEAK = 0.6 * SCHEME.blind_strength


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return perceptron(WIDTHS, seed=3, out=10)


@pytest.fixture(scope="module")
def marked(model: onnx.ModelProto) -> Marked:
    return embed_mark(model, KEY, PAYLOAD, strength=WEAK)


def measure_change(model: onnx.ModelProto, marked: Marked) -> float:
    return Probe(load_graph(model)).measure(marked.graph).change


def test_a_weak_mark_changes_far_less(model: onnx.ModelProto, marked: Marked) -> None:
    usual = embed_mark(model, KEY, PAYLOAD)
    least = embed_mark(model, KEY, PAYLOAD, strength=SCHEME.blind_strength)
    assert (usual.mark.is_informed, least.mark.is_informed) == (False, False)
    assert least.mark.strength == 0.75
    assert marked.mark.is_informed
    assert marked.to_fields()["needs_unmarked"] is True
    assert marked.details() == ["keep the unmarked model: so weak a mark is read beside it alone"]
    assert marked.change < 0.2 * usual.change
    assert measure_change(model, marked) < 0.2 * measure_change(model, usual)
    # what the weights added up to before takes most of the strength of a mark
    assert marked.change < 0.5 * least.change


def test_it_is_read_beside_the_unmarked_model(model: onnx.ModelProto, marked: Marked) -> None:
    found = extract_mark(marked.graph, KEY, marked.mark, unmarked=model)
    assert (found.payload, found.is_accepted, found.is_of_unmarked) == (PAYLOAD, True, True)
    assert found.as_it_stands.wrong == 0
    assert found.p_value < 1e-20
    shuffled = lady.permute(marked.graph, 1).graph
    back = extract_mark(shuffled, KEY, marked.mark, unmarked=model)
    assert (back.payload, back.verdict, back.is_accepted) == (PAYLOAD, "altered", True)
    assert back.as_it_stands.payload is None
    assert back.as_it_stands.p_value > 1e-6


@pytest.mark.parametrize(
    "attacks",
    [
        [("noise", 0.1)],
        [("prune", 0.5)],
        [("quantize", 8)],
        [("rescale", 0.5)],
        # what noise makes of pruned elements is no zero
        [("prune", 0.5), ("noise", 0.03)],
        [("rescale", 0.5), ("quantize", 8)],
    ],
    ids=str,
)
def test_usual_alterations_leave_it(
    model: onnx.ModelProto, marked: Marked, attacks: list[tuple[str, float]]
) -> None:
    altered = marked.graph
    for kind, strength in attacks:
        altered = lady.attack(altered, kind, strength, seed=2).graph
    suspect = lady.permute(altered, 3).graph
    found = extract_mark(suspect, KEY, marked.mark, unmarked=model)
    assert found.payload == PAYLOAD
    assert found.is_accepted


@pytest.mark.parametrize("seed", trials(8))
def test_noise_of_a_tenth_leaves_the_weakest(model: onnx.ModelProto, seed: int) -> None:
    """Bits are wrong then, more than the symbols that may be."""
    key, strength = Key(bytes(31) + bytes([seed % 256])), INFORMED_STRENGTHS[-1] * SCHEME.strength
    marked = embed_mark(model, key, b"128 bits of text", strength=strength)
    noisy = lady.attack(marked.graph, "noise", 0.1, seed=seed).graph
    found = extract_mark(noisy, key, marked.mark, unmarked=model)
    assert found.payload == b"128 bits of text"
    assert 0 < found.best.wrong <= 20


def test_a_reference_that_was_chosen_says_nothing() -> None:
    """A thief is free to choose its factors, and the victim's model would take them."""
    victim = perceptron(WIDTHS, seed=3, out=10)
    plan, arrays = plan_mark(load_graph(victim), OTHER, b"T", "spread", WEAK), weights(victim)
    drawn = plan.write().graph
    # the change that factors near one make, along that of the mark
    push = np.zeros(WIDTHS[2])
    for name, axis, sign in (("w1", 0, 1), ("w2", 1, -1)):
        push += sign * ((drawn.array(name) - arrays[name]) * arrays[name]).sum(axis)
    factors = 1 + 0.05 * push / np.abs(push).max()
    moved = {n: arrays[n] * factors for n in ("w1", "b1")}
    moved["w2"] = arrays["w2"] / factors[:, None]
    forged = {n: a.astype(np.float32) for n, a in moved.items()}
    reference = with_weights(victim, {**arrays, **forged})
    assert read_weights(weights(reference), OTHER, plan.mark, arrays).p_value < 1e-9
    assert lady.check(reference, victim).verdict == "rescaled"
    found = extract_mark(victim, OTHER, plan.mark, unmarked=victim, reference=reference)
    assert (found.gives_key, found.payload, found.is_accepted) == (True, None, False)
    assert found.p_value > 1e-4


def test_without_the_unmarked_model_it_is_refused(marked: Marked, tmp_path: Path) -> None:
    marked.mark.save(tmp_path / "m.json")
    with pytest.raises(LadyError, match=r"m\.json: the mark is so weak that .* \(--unmarked\)"):
        extract_mark(marked.graph, KEY, tmp_path / "m.json")
    with pytest.raises(LadyError, match="the mark is so weak"):
        extract_mark(marked.graph, KEY, marked.mark, reference=marked.graph)


def test_another_unmarked_model_shows_nothing(model: onnx.ModelProto, marked: Marked) -> None:
    """Neither one of others, nor the marked one, nor one that is nearly the right one."""
    near = {n: a.copy() for n, a in weights(model).items()}
    # no layer that carries the mark
    near["b0"][0] += np.float32(1e-6)
    others = (
        perceptron(WIDTHS, seed=4, out=10),
        perceptron((3, 4), seed=4),
        marked.graph,
        with_weights(model, near),
    )
    for unmarked in others:
        for reference in (None, marked.graph):
            found = extract_mark(
                marked.graph, KEY, marked.mark, unmarked=unmarked, reference=reference
            )
            assert (found.payload, found.p_value, found.gives_key) == (None, 1.0, False)
            assert "the mark was NOT written into the unmarked model" in found.details()


def test_nobody_else_reads_it(model: onnx.ModelProto, marked: Marked) -> None:
    """Neither another key, nor copies of the unmarked model, nor one that others marked."""
    theirs = embed_mark(model, OTHER, PAYLOAD, strength=WEAK)
    noisy = lady.attack(model, "noise", 0.1, seed=1).graph
    pruned = lady.attack(model, "prune", 0.5).graph
    suspects = (model, noisy, pruned, theirs.graph, perceptron(WIDTHS, seed=4, out=10))
    tried = [(marked.graph, OTHER), *((suspect, KEY) for suspect in suspects)]
    for suspect, key in tried:
        for arrangement in (suspect, lady.permute(suspect, 1).graph):
            found = extract_mark(
                arrangement, key, marked.mark, unmarked=model, reference=marked.graph
            )
            assert found.payload is None
            assert found.p_value > 1e-6
            assert found.headline().startswith("no mark")


@pytest.mark.parametrize("kind", ["noise", "quantize", "mark"])
def test_under_wrong_keys_it_reads_as_chance_does(
    model: onnx.ModelProto, marked: Marked, kind: str
) -> None:
    suspects = {
        "noise": lambda: lady.attack(model, "noise", 0.1, seed=1).graph,
        "quantize": lambda: lady.attack(model, "quantize", 6).graph,
        "mark": lambda: marked.graph,
    }
    arrays, before = map_weights(suspects[kind]()), weights(model)
    rng = np.random.default_rng(0)
    p_values = [
        read_weights(arrays, Key(rng.bytes(32)), marked.mark, before).p_value for _ in range(200)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-4
    assert min(p_values) > 1e-6


@pytest.mark.parametrize("seed", trials(2, 10))
def test_the_mark_of_the_reference_does_not_leak_through_the_matching(seed: int) -> None:
    """Narrow units are matched by what little they have: noise like the mark must not win."""
    model = perceptron((16, 700, 16, 700, 16, 700), seed=3, out=16)
    marked = embed_mark(model, KEY, b"A", strength=WEAK)
    noisy = lady.attack(model, "noise", 0.5, seed=seed).graph
    suspect = lady.permute(noisy, seed).graph
    found = extract_mark(suspect, KEY, marked.mark, unmarked=model, reference=marked.graph)
    assert found.payload is None
    assert found.p_value > 1e-4


def test_a_weak_mark_is_tried_once_the_stronger_ones_cost_too_much(
    model: onnx.ModelProto,
) -> None:
    free = embed_gently(model, KEY, PAYLOAD)
    assert free.impact is not None
    bound = 0.15 * free.impact.change
    held = embed_gently(model, KEY, PAYLOAD, max_change=bound)
    assert held.impact is not None
    assert held.impact.change <= bound
    assert held.mark.is_informed
    assert "outputs change by" in held.details()[1]
    assert extract_mark(held.graph, KEY, held.mark, unmarked=model).payload == PAYLOAD


def test_a_loss_of_just_what_is_allowed_is_allowed(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two decisions of 400 are half a point, however that is rounded."""
    assert 1 - 398 / 400 > 0.005
    monkeypatch.setattr(
        Probe, "measure", lambda *_: Impact(0.1, "agreement", (1.0, 398 / 400)), raising=True
    )
    data = {"x": np.random.default_rng(0).standard_normal((16, WIDTHS[0])).astype(np.float32)}
    held = embed_gently(model, KEY, PAYLOAD, data=data, metric="agreement", max_loss=0.005)
    assert held.mark.strength == SCHEME.strength
    with pytest.raises(LadyError, match="even the weakest mark"):
        embed_gently(model, KEY, PAYLOAD, data=data, metric="agreement", max_loss=0.0049)


def test_layers_that_move_further_count_more(tmp_path: Path) -> None:
    model = loud_and_faint()
    graph = load_graph(model)
    least = plan_mark(graph, KEY, PAYLOAD, "spread", SCHEME.blind_strength)
    gains = Probe(graph).measure_gains({n: least.write().graph.array(n) for n in least.weights})
    bound = 0.9 * Probe(graph).measure(least.write(gains).graph).change
    held = embed_gently(model, KEY, PAYLOAD, max_change=bound)
    assert held.mark.is_informed
    assert all(n.emphasis == 1 for n in least.mark.layers)
    emphases = {n.name: n.emphasis for n in held.mark.layers}
    assert 0 < max(emphases["w0"], emphases["w1"]) < min(emphases["v0"], emphases["v1"]) <= 1
    held.mark.save(tmp_path / "m.json")
    assert read_mark(tmp_path / "m.json") == held.mark
    # as strong a mark whose layers count alike changes more
    alike = plan_mark(graph, KEY, PAYLOAD, "spread", held.mark.strength).write(gains)
    x = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
    probe = Probe(graph, {"x": x})
    assert probe.measure(held.graph).change < 0.9 * probe.measure(alike.graph).change
    for marked in (held, alike):
        noisy = lady.attack(marked.graph, "noise", 0.1, seed=5).graph
        found = extract_mark(noisy, KEY, marked.mark, unmarked=model)
        assert found.payload == PAYLOAD


def test_who_chooses_what_counts_gets_another_key(model: onnx.ModelProto) -> None:
    """Else a thief would make bits of chance fit, layer by layer."""
    marked = embed_mark(model, KEY, PAYLOAD, strength=WEAK)
    chosen = tuple(replace(n, emphasis=0.5 + 0.1 * k) for k, n in enumerate(marked.mark.layers))
    forged = replace(marked.mark, layers=chosen)
    assert forged.derive_key(KEY) != marked.mark.derive_key(KEY)
    found = extract_mark(marked.graph, KEY, forged, unmarked=model)
    assert found.payload is None
    assert found.p_value > 1e-4


@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan"), "much", None])
def test_a_wrong_emphasis_is_told(value: object, marked: Marked, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    marked.mark.save(path)
    fields = json.loads(path.read_text())
    fields["layers"][0]["emphasis"] = value
    path.write_text(json.dumps(fields))
    with pytest.raises(LadyError, match="is not a mark file"):
        read_mark(path)


def test_a_mark_file_says_how_the_mark_is_read(marked: Marked, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    marked.mark.save(path)
    fields = json.loads(path.read_text())
    assert fields["informed"] is True
    assert read_mark(path) == marked.mark
    # it has part in the key, so that nobody chooses it afterwards
    path.write_text(json.dumps({**fields, "informed": False}))
    assert read_mark(path).derive_key(KEY) != marked.mark.derive_key(KEY)
    path.write_text(json.dumps({**fields, "informed": 1}))
    with pytest.raises(LadyError, match="'informed' is neither true nor false"):
        read_mark(path)


def test_changes_of_layers() -> None:
    layers = [Layer(n, (2, 2), 0) for n in "abcd"]
    before = {
        "a": np.array([[1, 2], [3, 0]], np.float32),
        "b": np.ones((2, 3), np.float32),
        "c": np.ones((2, 2), np.int64),
    }
    now = {
        "a": np.array([[1.5, 0], [np.nan, 0]], np.float16),
        "b": np.ones((2, 3), np.float32),
        "c": np.ones((2, 2), np.float32),
        "d": np.ones((2, 2), np.float32),
    }
    found = dict(read_layers(now, layers, before))
    assert "b" not in read_layers(now, layers, before)
    # what was pruned, and what is not known, says nothing
    np.testing.assert_array_equal(found.pop("a"), [[0.5, np.nan], [np.nan, 0]])
    for one, two in itertools.permutations((np.float16, ml_dtypes.bfloat16, np.float32), 2):
        sides = ({"a": np.array([[1, 2], [3, 0]], t)} for t in (one, two))
        assert not dict(read_layers(*(next(sides), layers[:1], next(sides))))["a"].any()
    assert not found
    assert list(read_layers(now, layers)) == ["a", "c", "d"]
