"""Where units went: streams, noise, and copies altered in ways that their weights show."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import lady_onnx as lady
from lady_onnx.diagnosis.pruning import prune_array
from lady_onnx.diagnosis.quantisation import quantize_array
from lady_onnx.diagnosis.undoing import was_noise_added
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.permutations import Nesting, invert_permutations, permute_arrays
from lady_onnx.matching.alignment import AlignmentState
from lady_onnx.matching.evidence.assignment import assign_rows
from lady_onnx.matching.evidence.copies import estimate_copies, measure_recovery
from lady_onnx.matching.evidence.exact import find_proven_rows
from lady_onnx.matching.evidence.noise import Scales
from lady_onnx.matching.evidence.probabilities import (
    balance_odds,
    compute_certainties,
    find_runners_up,
)
from lady_onnx.matching.evidence.scores import compute_log_likelihoods
from lady_onnx.matching.matcher import Matcher
from lady_onnx.matching.meanfield import match_by_mean_field
from lady_onnx.matching.search import Search, SearchOptions
from lady_onnx.matching.strategies import LikelihoodStrategy
from lady_onnx.reporting import Progress

from ..helpers import real
from ..helpers.architectures import export, randomise
from ..helpers.codecs import VideoCodec
from ..helpers.networks import attention, stream


def altered(shuffled: lady.Permuted, how: Callable[[np.ndarray], np.ndarray]) -> None:
    """Alters every weight that a group touches."""
    for name in sorted({s.initializer for g in shuffled.symmetry.groups for s in g.slots}):
        array = shuffled.graph.array(name)
        shuffled.graph.replace(name, how(array).astype(array.dtype))


def noise(level: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    return lambda array: array + level * array.std() * rng.standard_normal(array.shape)


def placed(shuffled: lady.Permuted, found: lady.Resync) -> float:
    """The share of units that are back in their place.

    Where units are equal in every slot, one place is as good as another.
    """
    groups = shuffled.symmetry.groups
    truth = lady.permute(
        shuffled.graph, permutations=invert_permutations(Nesting(groups), shuffled.permutations)
    ).graph
    right = []
    for group in groups:
        good = np.ones(group.size, bool)
        for slot in group.slots:
            one, two = (
                np.moveaxis(g.array(slot.initializer), slot.axis, 0)[slot.index]
                for g in (truth, found.graph)
            )
            good &= (one == two).reshape(group.size, -1).all(1)
        right.append(
            good
            | (
                found.permutations[group.id]
                == invert_permutations(Nesting(groups), shuffled.permutations)[group.id]
            )
        )
    return float(np.concatenate(right).mean())


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("stem", [True, False])
def test_residual_streams_come_back_exactly(biases: bool, stem: bool) -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        model = stream(int(rng.integers(30, 193)), int(rng.integers(1, 13)), biases, seed, stem)
        result = lady.resync(model, lady.permute(model, seed).model, verify="none")
        assert result.exact, seed


@pytest.mark.parametrize("stem", [True, False])
def test_residual_streams_under_noise(stem: bool) -> None:
    """With a stem, noise of twice the weights' own deviation on all of them.

    With nothing to hold on to, half as much.
    """
    for seed in range(5):
        model = stream(90 + 13 * seed, 2 + 2 * seed, bool(seed % 2), seed, stem)
        shuffled = lady.permute(model, seed)
        altered(shuffled, noise(2.0 if stem else 1.0, seed))
        result = lady.resync(model, shuffled.model, verify="none")
        assert placed(shuffled, result) > 0.98
        assert abs(result.psi_estimate / 100 - placed(shuffled, result)) < 0.02


def test_a_hopeless_match_says_so() -> None:
    model = stream(100, 3, False, 0, stem=False)
    shuffled = lady.permute(model, 1)
    altered(shuffled, noise(6.0, 1))
    result = lady.resync(model, shuffled.model, verify="none")
    assert placed(shuffled, result) < 0.1
    assert result.psi_estimate < 40


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("yolov8n", "4 bits"),
        *(("ppocr-cls", attack) for attack in ("4 bits", "2 bits", "91 %", "99 %")),
        *(pytest.param("yolov8n", a, marks=pytest.mark.long) for a in ("2 bits", "91 %", "99 %")),
    ],
)
def test_what_was_done_to_all_weights_of_a_real_model_is_undone(name: str, attack: str) -> None:
    strength, unit = attack.split()
    shuffled = lady.permute(real.path(name), 1)
    bits = int(strength)
    altered(
        shuffled,
        (lambda a: quantize_array(a, bits))
        if unit == "bits"
        else (lambda a: prune_array(a, int(bits / 100 * a.size))),
    )
    result = lady.resync(real.path(name), shuffled.graph, verify="none")
    assert placed(shuffled, result) == 1
    kinds = {a.kind for done in result.alterations.values() for a in done}
    assert kinds <= {"quantized", "pruned"}
    assert ("quantized" if unit == "bits" else "pruned") in kinds


def test_the_estimate_is_sure_where_a_weight_is_untouched() -> None:
    """Noise on one weight of a classifier's last hidden layer.

    The weight behind it has two rows, but these are exact.
    """
    reference = load_graph(real.path("ppocr-cls"))
    (group,) = [g for g in lady.find_groups(reference).groups if g.id == "conv_last_weights:0"]
    shuffled = lady.permute(reference, 1, groups=[group.id])
    for level in (1, 10):
        noisy = lady.attack(shuffled.graph, "noise", level, weights=["conv_last_weights"], seed=1)
        found = lady.resync(reference, noisy.graph, verify="none")
        assert (found.permutations[group.id] == np.argsort(shuffled.permutations[group.id])).all()
        assert found.psi_estimate > 99


@pytest.mark.parametrize(
    "level", [2, *(pytest.param(level, marks=pytest.mark.long) for level in (1, 10))]
)
def test_the_estimate_is_near_the_share_of_units_in_place(level: float) -> None:
    reference = load_graph(real.path("ppocr-cls"))
    shuffled = lady.permute(reference, 1)
    noisy = lady.attack(shuffled.graph, "noise", level, seed=1)
    found = lady.resync(reference, noisy.graph, verify="none")
    truth = invert_permutations(Nesting(found.symmetry.groups), shuffled.permutations)
    right = np.concatenate([found.permutations[g] == p for g, p in truth.items()])
    assert abs(found.psi_estimate - 100 * right.mean()) < 2


def rehearsing(model: onnx.ModelProto, shuffled: lady.Permuted) -> Matcher:
    """What matches a shuffled model, once it has."""
    groups = shuffled.symmetry.groups
    names = {s.initializer for g in groups for s in g.slots}
    matcher = Matcher(
        groups, *({n: g.array(n) for n in names} for g in (load_graph(model), shuffled.graph))
    )
    matcher.run()
    return matcher


def test_a_rehearsal_judges_every_head_by_itself() -> None:
    """Under the same noise the faintest head alone is lost, wherever it lies in the rehearsal."""
    model = attention(0, (4, 2, 0.5, 0.1), 8)
    shuffled = lady.permute(model, 1)
    altered(shuffled, noise(0.3, 3))
    matcher = rehearsing(model, shuffled)
    trust = {name: r.trust for name, r in matcher.calibrations.items()}
    assert trust.keys() == {g.id for g in shuffled.symmetry.groups}
    assert {name for name, t in trust.items() if abs(t - 1) > 0.05} == {
        n for n in trust if n.startswith("wk:1[3]/")
    }
    assert all(r.share > 0.99 for r in matcher.calibrations.values())
    rng = np.random.default_rng(0)
    altered(shuffled, lambda a: rng.permutation(a.ravel()).reshape(a.shape))
    share = [r.share for r in rehearsing(model, shuffled).calibrations.values()]
    assert share
    assert max(share) < 0.5


def test_one_weight_at_the_end_of_single_precision_is_no_error() -> None:
    model = stream(40, 1, False, 0)
    shuffled = lady.permute(model, 1)
    (tensor,) = [t for t in model.graph.initializer if t.name == "a0"]
    array = numpy_helper.to_array(tensor).copy()
    array[[0, 1], [0, 1]] = 3.4e38, -3.4e38
    tensor.CopyFrom(numpy_helper.from_array(array, "a0"))
    assert not lady.resync(model, shuffled.model, verify="none").exact


@pytest.mark.parametrize("scale", [1.0, 1e19, 1e30])
def test_unrelated_weights_of_any_size_are_matched_by_chance(scale: float) -> None:
    model = stream(40, 1, False, 0)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(scale), tensor.name)
        )
    shuffled = lady.permute(model, 1)
    rng = np.random.default_rng(5)
    altered(shuffled, lambda a: 2.2 * a.std(dtype=np.float64) * rng.standard_normal(a.shape))
    assert lady.resync(model, shuffled.model, verify="none").psi_estimate < 10


def test_a_rehearsal_searches_as_the_match_did(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    search = Search.search_quickly

    def begun(self: Search, progress: Progress | None = None) -> None:
        asked.append((self.alignment.assignment, self.options.is_rehearsal))
        search(self, progress)

    monkeypatch.setattr(Search, "search_quickly", begun)
    model = stream(40, 1, False, 0)
    shuffled = lady.permute(model, 1)
    altered(shuffled, noise(3.0, 1))
    for assignment in ("optimal", "argmax"):
        asked.clear()
        lady.resync(model, shuffled.model, verify="none", assignment=assignment)
        assert [a for a in asked if a[1]] == [(assignment, True)] * 2


def test_only_a_row_that_occurs_once_is_proven() -> None:
    a = np.arange(12, dtype=np.float32).reshape(4, 3)
    a[2] = a[1]
    b = a.copy()
    b[3, 0] += 1
    assert find_proven_rows(a, b).tolist() == [True, False, False, False]


def test_copies_under_much_noise_are_told_by_what_is_found_in_copies_and_in_others() -> None:
    """The best of many is always longer than a copy.

    Alone that says nothing, beside the best of copies it does.
    """
    rng = np.random.default_rng(0)
    ones = np.ones((64, 1))
    rows = np.concatenate([0.3 * rng.standard_normal((64, 40)), ones], 1).astype(np.float32)

    def best(theirs: np.ndarray) -> np.ndarray:
        whole = np.concatenate([theirs, ones], 1).astype(np.float32)
        return whole[assign_rows(compute_log_likelihoods(rows, whole))]

    def copies() -> np.ndarray:
        return best(rows[:, :-1] + rng.standard_normal((64, 40)))

    def others() -> np.ndarray:
        return best(rng.standard_normal((64, 40)) * (1 + 0.3**2) ** 0.5)

    other, whole = (measure_recovery(rows, x)[0] for x in (others(), copies()))
    assert 1 < other < whole
    assert estimate_copies(rows, copies(), other).max() < 0.01
    assert estimate_copies(rows, copies(), other, whole).mean() > 0.4
    assert estimate_copies(rows, others(), other, whole).mean() < 0.3
    # where the two are alike, nothing is known but what is known of the whole model
    assert estimate_copies(rows, copies(), whole, whole).max() < 0.01
    assert estimate_copies(rows, others(), whole, whole, 0.9).mean() > 0.8


def test_copies_of_rows_of_very_different_length_are_copies() -> None:
    """The largest product is not with the likeliest row, but with the longest."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal(300)
    rows = 50 * (rng.standard_normal((40, 300)) + common) * np.geomspace(1, 30, 40)[:, None]
    noisy = rows + rng.standard_normal(rows.shape)
    others = 50 * rng.standard_normal((40, 300)) * np.geomspace(1, 30, 40)[:, None]

    def copied(theirs: np.ndarray) -> np.ndarray:
        x, y = (np.concatenate([z, np.ones((40, 1))], 1).astype(np.float32) for z in (rows, theirs))
        second, _ = find_runners_up(compute_log_likelihoods(x, y), np.arange(40))
        return estimate_copies(x, y, y[second])

    assert copied(noisy).min() > 0.99
    assert copied(others).max() < 0.1


@pytest.mark.parametrize("spread", [0.5, 5.0, 50.0])
def test_balanced_tables_have_rows_and_columns_of_one(spread: float) -> None:
    score = spread * np.random.default_rng(0).standard_normal((30, 30)) + 4 * spread * np.eye(30)
    table = balance_odds(score)
    assert np.allclose(table.sum(1), 1)
    assert np.abs(table.sum(0) - 1).max() < 0.05
    # whatever is added to a row or a column is divided out again
    moved = score + np.arange(30)[:, None] - np.linspace(0, 5, 30)
    assert np.allclose(balance_odds(moved), table, atol=0.02)


def test_noise_does_not_grow_with_the_weights_and_factors_do() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((40, 60)).astype(np.float32)
    noisy = weight + 2 * rng.standard_normal(weight.shape).astype(np.float32)
    multiplied = weight * np.exp(rng.standard_normal((40, 1))).astype(np.float32)
    assert was_noise_added(["w"], {"w": weight}, {"w": noisy})
    assert not was_noise_added(["w"], {"w": weight}, {"w": multiplied})
    assert not was_noise_added(["w"], {"w": weight}, {"w": (noisy - weight) + multiplied})
    # of few elements the correlation is chance
    assert not was_noise_added(["w"], {"w": weight[:1, :20]}, {"w": noisy[:1, :20]})
    assert not was_noise_added(["w"], {"w": weight}, {"w": weight})


def test_odds_of_wide_tables_are_balanced_without_the_faint_ones() -> None:
    """Of more than 1,024 units: those of a block share odds, all others have next to none."""
    size = 1100
    rng = np.random.default_rng(0)
    scores = np.full((size, size), -80.0, np.float32)
    for start in range(0, size, 4):
        scores[start : start + 4, start : start + 4] = rng.uniform(-2, 0, (4, 4))
    found = compute_certainties(scores, np.arange(size))
    table = np.exp(scores.astype(np.float64))
    for _ in range(500):
        table /= table.sum(0)
        table /= table.sum(1, keepdims=True)
    assert np.allclose(found, table.diagonal(), atol=1e-3)


@pytest.mark.parametrize(("noise", "seed"), [(0.9, 4), (1.2, 2), (1.2, 5), (1.2, 7)])
def test_what_did_not_move_is_found_again(
    noise: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group whose weights are the same is not assigned again: its match is the full search's."""
    model = stream(24, 3, True, seed, stem=False)
    suspect = lady.attack(lady.permute(model, seed).model, "noise", noise, seed=seed).model
    plain = lady.resync(model, suspect)
    monkeypatch.setattr("lady_onnx.matching.flat.are_identical", lambda ours, theirs: False)
    again = lady.resync(model, suspect)
    for a, b in zip(plain.matches, again.matches, strict=True):
        assert (a.permutation == b.permutation).all()
        assert np.allclose(a.certainty, b.certainty)


def test_all_at_once_stops_where_the_matches_so_far_are_what_it_comes_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tables of an anchored stream lead to its order, whatever it started from."""
    monkeypatch.setattr("lady_onnx.matching.meanfield.MAX_QUICK_PAIRS", 0)
    model = stream(48, 3, True, 0)
    shuffled = lady.permute(model, 1)
    altered(shuffled, noise(1.0, 2))
    groups = shuffled.symmetry.groups
    graph = load_graph(model)
    names = sorted({s.initializer for g in groups for s in g.slots})
    ours, theirs = ({n: x.array(n) for n in names} for x in (graph, shuffled.graph))
    found = match_by_mean_field(groups, ours, theirs)
    assert found is not None
    truth = invert_permutations(Nesting(groups), shuffled.permutations)
    assert np.mean(np.concatenate([found[g.id] == truth[g.id] for g in groups])) > 0.9
    assert match_by_mean_field(groups, ours, permute_arrays(theirs, groups, found)) is None


def test_a_rehearsal_finds_what_the_search_finds() -> None:
    """One that ends early says how certain an early search is, and not this one."""
    net = randomise(VideoCodec(32, 48, 32))
    example = torch.randn(1, 3, 32, 32)
    graph = load_graph(export(net.eval(), example, example, dynamo=False))
    shuffled = lady.permute(graph, 1)
    altered(shuffled, noise(6.0, 0))
    groups = shuffled.symmetry.groups
    names = sorted({s.initializer for g in groups for s in g.slots})
    ours, theirs = ({n: x.array(n) for n in names} for x in (graph, shuffled.graph))
    found = []
    for is_rehearsal in (False, True):
        alignment = AlignmentState(groups, ours, theirs, "optimal")
        strategy = LikelihoodStrategy(Scales(ours))
        Search(alignment, strategy, SearchOptions(is_rehearsal)).run()
        found.append(np.concatenate([alignment.permutations[g.id] for g in groups]))
    assert (found[0] == found[1]).mean() > 0.98


def test_noise_is_that_of_the_matching_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean field that made things worse is taken back, and the noise with it."""
    rng = np.random.default_rng(0)
    copy = lady.permute(model := load_graph(stream(24, 2, False, 0, stem=False)), 1)
    names = {s.initializer for g in copy.symmetry.groups for s in g.slots}
    ours, theirs = ({n: g.array(n) for n in names} for g in (model, copy.graph))
    noise = {n: 2 * x.std() * rng.standard_normal(x.shape, np.float32) for n, x in theirs.items()}
    monkeypatch.setattr(
        "lady_onnx.matching.search.match_by_mean_field",
        lambda groups, *_: {g.id: rng.permutation(g.size) for g in groups},
    )
    matcher = Matcher(copy.symmetry.groups, ours, {n: x + noise[n] for n, x in theirs.items()})
    matcher.begin()
    search = matcher._search
    search.search_thoroughly()
    before = search.measure_recoveries()
    search._estimate_noise()
    assert before == search.measure_recoveries()


DETERMINISM = """
import json, sys
import numpy as np
import lady_onnx as lady
from onnx import helper
from tests.helpers.builders import build

steps = [("Gemm", "x w0 b0", "h"), ("Relu", "h", "r"), ("Gemm", "r w1 b1", "i")]
steps += [("Relu", "i", "t"), ("Gemm", "t w2 b2", "out")]
nodes = [helper.make_node(op, names.split(), [made]) for op, names, made in steps]
rng = np.random.default_rng(0)
shapes = {"w0": (6, 20), "b0": (20,), "w1": (20, 16), "b1": (16,), "w2": (16, 5), "b2": (5,)}
weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
noisy = {n: a + 0.6 * rng.standard_normal(a.shape).astype(np.float32) for n, a in weights.items()}
fewer = {n: a + 0.01 * rng.standard_normal(a.shape).astype(np.float32) for n, a in weights.items()}
fewer.update(w0=fewer["w0"][:, :18], b0=fewer["b0"][:18], w1=fewer["w1"][:18])
for suspect in (noisy, fewer):
    models = [build(nodes, w, {"x": [2, 6]}) for w in (weights, suspect)]
    fields = lady.resync(*models, verify="none").to_dict()
    del fields["seconds"]
    print(json.dumps(fields))
"""


def test_nothing_depends_on_the_order_of_a_set(tmp_path: Path) -> None:
    """Python orders sets of names anew in every process, unless it is told not to."""
    here = Path(lady.__file__).parent.parent
    answers = set()
    for seed in ("0", "1", "7"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(here)}
        command = [sys.executable, "-c", DETERMINISM]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        answers.add(done.stdout)
    assert len(answers) == 1
