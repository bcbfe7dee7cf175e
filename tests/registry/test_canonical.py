"""Canonical order: copies in any order become one file; and hashes that no order changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import lady_onnx as lady
from lady_onnx.cli.main import main
from lady_onnx.graph.loading import load_graph
from lady_onnx.normalform.algebra import constants
from lady_onnx.normalform.algebra.constants import _is_rounded_too_often
from lady_onnx.normalform.algebra.term import NoNormalFormError
from lady_onnx.registry import fingerprints

from ..helpers import disguises
from ..helpers.builders import build
from ..helpers.law import examples
from ..helpers.networks import attention, perceptron, weights, with_weights
from ..helpers.splices import Splice, pool, spliced
from ..helpers.stateful import make_gru
from ..helpers.strategies import graphs


def orders(model: onnx.ModelProto, seeds: range) -> list[onnx.ModelProto]:
    """Canonical forms of a model and of shuffled copies."""
    copies = [model, *(lady.permute(model, s).model for s in seeds)]
    return [lady.canonicalize(c).model for c in copies]


def are_equal(models: list[onnx.ModelProto]) -> bool:
    return len({m.SerializeToString(deterministic=True) for m in models}) == 1


@examples(60)
@given(graphs(), st.integers(0, 99))
def test_copies_of_random_graphs_become_one_file(
    grown: tuple[onnx.ModelProto, list[int]], seed: int
) -> None:
    if grown[1]:
        assert are_equal(orders(grown[0], range(seed, seed + 2)))


@examples(60)
@given(spliced(), st.integers(0, 99))
def test_copies_with_every_operator_become_one_file(
    grown: tuple[onnx.ModelProto, list[int]], seed: int
) -> None:
    if lady.find_groups(grown[0]).groups:
        assert are_equal(orders(grown[0], range(seed, seed + 1)))


@pytest.mark.parametrize("part", range(8))
def test_copies_of_single_operators_become_one_file(part: int) -> None:
    def is_one(splice: Splice) -> bool:
        model = splice.build()[0]
        return not lady.find_groups(model).groups or are_equal(orders(model, range(1)))

    assert not [s.name for s in pool()[part::8] if not is_one(s)]


def tie_units(rule: Callable[[str, np.ndarray], np.ndarray]) -> onnx.ModelProto:
    """A perceptron whose weights a rule changes."""
    model = perceptron((5, 8, 8, 6), seed=1)
    changed = {n: rule(n, a).astype(np.float32) for n, a in weights(model).items()}
    return with_weights(model, changed)


TIED = {
    "a layer of zeros": lambda n, a: a * (n != "w1"),
    "few values": lambda n, a: np.sign(a),
    "copies of units": lambda n, a: np.repeat(a[..., ::2], 2, -1) if n in ("w0", "b0") else a,
}


def make_rings(*lengths: int) -> np.ndarray:
    """Each unit is read by itself and by the next one of its ring."""
    found, start = np.zeros((sum(lengths),) * 2), 0
    for n in lengths:
        place = slice(start, start + n)
        found[place, place] = np.eye(n) + np.roll(np.eye(n), 1, 0)
        start += n
    return found


UNDECIDED = {
    "units one to one": lambda n, a: np.eye(*a.shape) if n == "w1" else np.ones(a.shape),
    "a ring": lambda n, a: make_rings(8) if n == "w1" else np.ones(a.shape),
    "rings of several lengths": lambda n, a: make_rings(5, 3) if n == "w1" else np.ones(a.shape),
}


@pytest.mark.parametrize("name", TIED)
def test_units_that_are_like_each_other_do_not_matter(name: str) -> None:
    assert are_equal(orders(tie_units(TIED[name]), range(5)))


def test_values_count_by_the_weight_that_holds_them() -> None:
    """A unit with gain 1 and bias 2 is none with gain 2 and bias 1."""
    values = np.arange(1, 9, dtype=np.float32)
    arrays = {"w": np.ones((3, 8), np.float32), "g": values, "b": values[::-1].copy()}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Mul", ["h", "g"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["out"]),
    ]
    model = build(nodes, {**arrays, "v": np.ones((8, 2), np.float32)}, {"x": [1, 3]})
    assert are_equal(orders(model, range(4)))


def test_heads_and_states_have_an_order(tmp_path: Path) -> None:
    assert are_equal(orders(attention(3, width=8), range(3)))
    assert are_equal(orders(make_gru(), range(3)))


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_cannot_be_told_apart_is_refused(name: str) -> None:
    """A symmetry may exchange such units, or not: rings of several lengths look alike."""
    model = tie_units(UNDECIDED[name])
    with pytest.raises(lady.LadyError, match=r"group w\d:\d: nothing tells its units apart"):
        lady.canonicalize(model)
    assert lady.fingerprint(model).undecided is not None


def test_the_function_stays_and_the_way_back_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = perceptron((5, 8, 8, 6), seed=1)
    onnx.save(lady.permute(model, 1).model, tmp_path / "b.onnx")
    onnx.save(model, tmp_path / "a.onnx")
    for name in "ab":
        ask = [
            "canonicalize",
            str(tmp_path / f"{name}.onnx"),
            "-o",
            str(tmp_path / f"{name}c.onnx"),
        ]
        assert main([*ask, "--save-permutation", str(tmp_path / f"{name}.json"), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["groups"], told["seed"]) == (3, None)
    assert (tmp_path / "ac.onnx").read_bytes() == (tmp_path / "bc.onnx").read_bytes()
    assert lady.verify(model, tmp_path / "ac.onnx").equal
    ask = ["permute", str(tmp_path / "ac.onnx"), "-o", str(tmp_path / "back.onnx"), "--inverse"]
    assert main([*ask, "--permutation", str(tmp_path / "a.json")]) == 0
    for name, array in weights(onnx.load(tmp_path / "back.onnx")).items():
        assert np.array_equal(array, weights(model)[name])


def test_another_copy_has_another_file() -> None:
    model = perceptron((5, 8, 8, 6), seed=1)
    changed = weights(model)
    changed["w1"] = changed["w1"].copy()
    changed["w1"][2, 3] = np.nextafter(changed["w1"][2, 3], np.float32(1))
    assert not are_equal(
        [lady.canonicalize(m).model for m in (model, with_weights(model, changed))]
    )


KEPT = [w for w in disguises.DISGUISES if w not in (disguises.rescale, disguises.optimise)]


@examples(30)
@given(graphs(), st.integers(0, 2**32))
def test_hashes_are_those_of_every_order_and_file(
    grown: tuple[onnx.ModelProto, list[int]], seed: int
) -> None:
    first = lady.fingerprint(grown[0])
    assert first.is_normal
    written, _ = disguises.disguise(
        grown[0], np.random.default_rng(seed), ways=sorted(KEPT, key=repr)
    )
    assert lady.fingerprint(written) == first


@examples(20)
@given(graphs(), st.integers(0, 2**32))
def test_factors_and_optimisers_leave_the_structure(
    grown: tuple[onnx.ModelProto, list[int]], seed: int
) -> None:
    refused: list[bool] = []

    def judge(*args: Any) -> bool:
        refused.append(_is_rounded_too_often(*args))
        return refused[-1]

    # constants that factors made cancel are not added up, and make another structure
    with mock.patch.object(constants, "_is_rounded_too_often", judge):
        structure = lady.fingerprint(grown[0]).structure
        rng = np.random.default_rng(seed)
        for way in (disguises.rescale, disguises.optimise):
            written = way(disguises.copied(grown[0]), rng)
            found = lady.fingerprint(written).structure
            if not any(n.op_type == "ReorderOutput" for n in written.graph.node):
                assert found == structure or any(refused)


def test_hashes_tell_models_apart() -> None:
    model = perceptron((5, 8, 8, 6), seed=1)
    first = lady.fingerprint(model)
    noisy = lady.fingerprint(lady.attack(model, "noise", 1e-3).graph)
    assert (noisy.structure, noisy.exact == first.exact) == (first.structure, False)
    wider = lady.fingerprint(load_graph(perceptron((5, 8, 9, 6), seed=1)))
    assert wider.structure != first.structure
    other = onnx.ModelProto()
    other.CopyFrom(model)
    next(n for n in other.graph.node if n.op_type == "Relu").op_type = "Tanh"
    found = lady.fingerprint(other)
    assert (found.structure == first.structure, found.exact == first.exact) == (False, False)


def test_indices_say_what_is_computed() -> None:
    def take(*index: int) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Gather", ["x", "index"], ["g"], axis=1),
            helper.make_node("MatMul", ["g", "w"], ["out"]),
        ]
        arrays = {"index": np.array(index), "w": np.ones((3, 2), np.float32)}
        return build(nodes, arrays, {"x": [2, 5]})

    found = [lady.fingerprint(take(*index)).structure for index in ((0, 1, 4), (0, 1, 3))]
    assert found[0] != found[1]


def loops(order: int, between: str) -> onnx.ModelProto:
    """Two loops whose bodies use the same names; the second subtracts in one of two orders.

    `between` names the two values that go from one loop to the other one.
    """
    p, q = between

    def body(k: int) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Identity", ["ci"], ["co"]),
            helper.make_node("Sub", ["b", "a"] if k else ["a", "b"], ["ao"]),
            helper.make_node("Identity", ["a"], ["bo"]),
        ]
        kinds = {"it": onnx.TensorProto.INT64, "ci": onnx.TensorProto.BOOL}
        ends = [
            helper.make_tensor_value_info(
                n, kinds.get(n, onnx.TensorProto.FLOAT), [] if n in kinds else [4]
            )
            for n in ("it", "ci", "a", "b")
        ]
        outs = [
            helper.make_tensor_value_info(
                n, onnx.TensorProto.BOOL if n == "co" else onnx.TensorProto.FLOAT, None
            )
            for n in ("co", "ao", "bo")
        ]
        return helper.make_graph(nodes, "body", ends, outs)

    nodes = [
        helper.make_node("Loop", ["n", "", "x", "z"], [p, q], body=body(0)),
        helper.make_node("Loop", ["n", "", p, q], ["u", "v"], body=body(order)),
        helper.make_node("Add", ["u", "v"], ["out"]),
    ]
    arrays = {"n": np.array(3, np.int64), "z": np.arange(4, dtype=np.float32)}
    return build(nodes, arrays, {"x": [4]})


@pytest.mark.parametrize("between", ["pq", "ab"])
def test_names_that_two_bodies_share_are_two_values(
    monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """Also where the graph around them has these names: onnxruntime runs that."""

    def refuse(*args: object) -> None:
        raise NoNormalFormError("none")

    for is_normal in (True, False):
        found = [lady.fingerprint(loops(k, between)) for k in (0, 1)]
        assert found[0].exact != found[1].exact
        assert found[0].is_normal == is_normal
        monkeypatch.setattr(fingerprints, "build_normal_form", refuse)


def test_names_of_a_body_are_free_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(late: str) -> onnx.ModelProto:
        return onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]>'
            "g (bool c, float[2] x) => (float[2] y) {"
            " z = If(c) <then_branch = t () => (float[2] u) { u = Neg(x) },"
            " else_branch = e () => (float[2] v) { v = Abs(x) }>"
            f" {late} = Relu(z) y = Exp({late}) }}"
        )

    monkeypatch.setattr(fingerprints, "build_normal_form", _raise_no_form)
    assert len({lady.fingerprint(name(late)).exact for late in ("w", "u", "v")}) == 1


def test_the_command_prints_what_copies_have_in_common(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = perceptron((5, 8, 8, 6), seed=1)
    found = []
    for seed in range(2):
        onnx.save(lady.permute(model, seed).model, tmp_path / "a.onnx")
        assert main(["fingerprint", str(tmp_path / "a.onnx"), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    expected = lady.fingerprint(model)
    told = (found[0]["structure"], found[0]["exact"], found[0]["normal"], found[0]["undecided"])
    assert told == (expected.structure, expected.exact, True, None)
    onnx.save(tie_units(UNDECIDED["a ring"]), tmp_path / "a.onnx")
    assert main(["fingerprint", str(tmp_path / "a.onnx")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'a.onnx'}: structure ")
    assert lines[1].endswith("shuffled copies may have other exact hashes")


def test_names_of_inputs_count_in_the_exact_hash() -> None:
    def build_pair(names: str) -> onnx.ModelProto:
        first, second = names
        return onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]>'
            f"g (float[4] {first}, float[4] {second}) => (float[4] y) <float[4] w = {{1,2,3,4}}>"
            f"{{ m = Mul({first}, w) y = Sub(m, {second}) }}"
        )

    # m is made of a in one, and of b in the other
    a, b = build_pair("ab"), build_pair("ba")
    assert lady.check(a, b).verdict != "identical"
    assert lady.fingerprint(a).exact != lady.fingerprint(b).exact
    # what they compute has the same structure
    assert lady.fingerprint(a).structure == lady.fingerprint(b).structure


def test_what_inputs_are_declared_to_be_counts_in_the_exact_hash() -> None:
    def build_one(kind: str, operator: str = "ReduceMean") -> str:
        model = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]>'
            f"g ({kind} x) => (float y) {{ y = {operator}(x) }}"
        )
        return lady.fingerprint(model).exact

    kinds = ["float[2,3]", "float[3,2]", "float[1,2,3]", "double[2,3]", "float[N,3]", "float[N,N]"]
    assert len({build_one(kind) for kind in kinds}) == len(kinds)
    assert build_one("float[N,N]") == build_one("float[M,M]") != build_one("float[N,M]")
    sequences = {build_one(f"seq({kind})", "SequenceLength") for kind in ("float[2]", "int64[2]")}
    assert len(sequences) == 2


def test_weights_that_only_bodies_mention_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "build_normal_form", _raise_no_form)

    def build_branches(then: str, other: str) -> onnx.ModelProto:
        return onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]>'
            "g (bool c, float[2] x) => (float[2] y) <float[2] a = {1,2}, float[2] b = {3,4}>"
            f"{{ y = If(c) <then_branch = t () => (float[2] u) {{ u = Add(x, {then}) }},"
            f" else_branch = e () => (float[2] v) {{ v = Add(x, {other}) }}> }}"
        )

    hashes = {lady.fingerprint(build_branches(*names)).exact for names in ("ab", "ba", "aa")}
    assert len(hashes) == 3


def _raise_no_form(*_: object, **__: object) -> None:
    raise NoNormalFormError("")
