"""Units that no match can tell apart: clones, and dead ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import lady_onnx as lady
from lady_onnx.cli.main import main
from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.diagnosis.interchangeable import find_interchangeable_units
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.rows import take_rows
from lady_onnx.scaling.walk import find_scalings
from lady_onnx.symmetry.finder import extract_groups

from ..helpers import real
from ..helpers.builders import build
from ..helpers.networks import INCOMING, OUTGOING, RUN, convolutional, weights, with_weights

NORM = ("gain", "shift", "mean", "variance")


def planted(seed: int, group: str, activation: str = "Relu") -> onnx.ModelProto:
    """Unit 3 is unit 1 times two, unit 6 is unit 1 but for its bias.

    Units 2 and 5 have no input, 4 and 7 are not read.
    """
    model = convolutional(activation, seed)
    arrays = weights(model)
    for name in INCOMING[group]:
        arrays[name][3] = 2 * arrays[name][1]
        arrays[name][[2, 5]] = 0
    arrays[INCOMING[group][0]][6] = arrays[INCOMING[group][0]][1]
    # far enough to be another unit
    arrays[INCOMING[group][1]][6] = arrays[INCOMING[group][1]][1] + 2
    for unit in (4, 7):
        arrays[OUTGOING[group]][:, unit * RUN[group] : (unit + 1) * RUN[group]] = 0
    return with_weights(model, arrays)


@pytest.mark.parametrize("group", INCOMING)
def test_clones_and_dead_units_are_named(group: str) -> None:
    for seed in range(3):
        model = planted(seed, group)
        noisy = lady.attack(lady.permute(model, seed).graph, "noise", 1.0, seed=seed)
        found = lady.resync(model, noisy.model, verify="none")
        assert {g: s for g, s in found.interchangeable.items() if g == group} == {
            group: ((1, 3), (2, 5), (4, 7))
        }
        assert not found.interchangeable.keys() - {group}


def test_a_factor_that_no_structure_lets_pass_makes_no_clone() -> None:
    model = planted(0, "b:0", "Sigmoid")
    noisy = lady.attack(lady.permute(model, 1).graph, "noise", 1.0, seed=1)
    found = lady.resync(model, noisy.model, verify="none").interchangeable
    # through a sigmoid the double of a unit is another, and nothing in is a half out
    assert found == {"b:0": ((4, 7),)}


def find_sets(nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], x: list[int]) -> set:
    """The sets of units of a model that nothing tells apart."""
    graph = load_graph(build(nodes, arrays, {"x": x}))
    analysis = analyse_graph(graph)
    groups = extract_groups(analysis).groups
    scalings = find_scalings(graph, analysis, groups)
    used = {s.initializer: graph.array(s.initializer) for g in groups for s in g.slots}
    found = find_interchangeable_units(groups, scalings, used)
    return {units for sets in found.values() for units in sets}


def test_a_unit_behind_a_norm_is_dead_where_its_gain_and_shift_are() -> None:
    """Whichever basis the factors are given in: a small variance kills nothing."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"]),
        helper.make_node("BatchNormalization", ["h", *NORM], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["out"]),
    ]
    shapes = {"a": (8, 3, 3, 3), "b": (5, 8, 3, 3), **dict.fromkeys(NORM, (8,))}
    usual = {n: np.float32(0.5 + rng.random(s)) for n, s in shapes.items()}
    for faint, expected in (
        (("shift", "variance"), set()),
        (("gain", "shift"), {(2, 5)}),
        (("gain",), set()),
        (("a", "mean", "shift"), {(2, 5)}),
    ):
        arrays = {n: a.copy() for n, a in usual.items()}
        for name in faint:
            arrays[name][[2, 5]] = 1e-6
        assert find_sets(nodes, arrays, [1, 3, 8, 8]) == expected, faint


def test_clones_of_another_sign() -> None:
    rng = np.random.default_rng(0)
    arrays = {n: np.float32(rng.standard_normal(s)) for n, s in {"a": (12, 8), "b": (8, 5)}.items()}
    arrays["a"][:, 3] = -arrays["a"][:, 1]
    for activation, expected in (("Tanh", {(1, 3)}), ("Relu", set())):
        nodes = [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node(activation, ["h"], ["t"]),
            helper.make_node("MatMul", ["t", "b"], ["out"]),
        ]
        assert find_sets(nodes, arrays, [2, 12]) == expected


def test_neighbours_are_clones_and_rows_that_are_alike_in_part_are_none() -> None:
    rng = np.random.default_rng(0)
    shapes = {"a": (512, 8), "b": (8, 5)}
    arrays = {n: np.float32(rng.standard_normal(s)) for n, s in shapes.items()}
    arrays["a"][:, 4] = arrays["a"][:, 3]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["out"]),
    ]
    # whatever elements are looked at first, one of these sets of rows shows others
    for step in (2, 4, 8, 16):
        arrays["a"][:, 6] = rng.standard_normal(512)
        arrays["a"][::step, 6] = arrays["a"][::step, 1]
        assert find_sets(nodes, arrays, [2, 512]) == {(3, 4)}, step


def test_units_beside_infinite_ones_are_not_faint() -> None:
    rng = np.random.default_rng(0)
    arrays = {n: np.float32(rng.standard_normal(s)) for n, s in {"a": (64, 8), "b": (8, 5)}.items()}
    arrays["a"][0, :5] = np.inf
    arrays["a"][:, 7] = arrays["a"][:, 6]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["out"]),
    ]
    assert find_sets(nodes, arrays, [2, 64]) == {(6, 7)}


def test_exact_copies_are_not_asked_for() -> None:
    model = planted(0, "a:0")
    assert not lady.resync(model, lady.permute(model, 0).graph, verify="none").interchangeable


@pytest.mark.parametrize("name", ["ppocr-rec", "open-nsfw"])
def test_units_of_trained_models_may_change_places(name: str) -> None:
    """Readers of a set's units get another one's output: the model computes nearly the same."""
    graph = load_graph(real.path(name))
    analysis = analyse_graph(graph)
    groups = extract_groups(analysis).groups
    factors = find_scalings(graph, analysis, groups)
    arrays = {s.initializer: graph.array(s.initializer) for g in groups for s in g.slots}
    changed, count = graph.copy(), 0
    for name, sets in find_interchangeable_units(groups, factors, arrays).items():
        made = [
            s for s, own in zip(factors[name].slots, factors[name].incoming, strict=True) if own
        ]
        for units in sets:
            count += len(units)
            for slot in made:
                array = np.array(changed.array(slot.initializer))
                front = np.moveaxis(array, slot.axis, 0)
                rows = take_rows(array, slot).copy()
                sizes = np.linalg.norm(rows[list(units)], axis=1)
                assert np.isfinite(sizes).all()
                front[slot.index[list(units)]] = front[slot.index[[*units[1:], units[0]]]]
                changed.replace(slot.initializer, array)
    assert count > 10
    found = lady.verify(graph, changed)
    assert max(r.max_rel for r in found.runs if r.kind == "random") < 0.2


def test_the_report_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = planted(1, "b:0")
    onnx.save(model, tmp_path / "a.onnx")
    lady.attack(lady.permute(model, 1).graph, "noise", 1.0, seed=1).save(tmp_path / "b.onnx")
    ask = [
        "resync",
        str(tmp_path / "a.onnx"),
        str(tmp_path / "b.onnx"),
        "-o",
        str(tmp_path / "c.onnx"),
    ]
    assert main([*ask, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["interchangeable"] == {
        "b:0": [[1, 3], [2, 5], [4, 7]]
    }
    assert main(ask) == 0
    assert "6 units, in 3 sets, compute the same, or nothing" in capsys.readouterr().out
