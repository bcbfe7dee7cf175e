"""The normal form runs as the model does."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import helper, numpy_helper

import lady_onnx as lady
from lady_onnx.errors import LadyError
from lady_onnx.normalform.algebra import numbering

from ..helpers.normal_forms import is_same, run
from ..helpers.splices import spliced
from ..helpers.strategies import graphs
from ..helpers.written_forms import form, holds, model, node

STATEFUL = ("bernoulli", "dropout", "random", "training_mode")
"""Node tests whose results are drawn, or whose inputs onnxruntime overwrites."""


# ---- onnx's own node tests


@functools.cache
def node_tests() -> dict[str, Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            c.name: c for c in collect_testcases(None) if not any(s in c.name for s in STATEFUL)
        }


def compared(names: Sequence[str]) -> tuple[int, list[str]]:
    """How many node tests have a normal form that runs alike, and which do not.

    They run plainly and with weights for inputs.
    """
    alike, parted = 0, []
    for name in names:
        model, arrays = node_tests()[name].model, node_tests()[name].data_sets[0][0]
        feed = dict(zip([i.name for i in model.graph.input], arrays, strict=False))
        if any(not isinstance(a, np.ndarray) for a in arrays):
            continue
        try:
            wanted = run(model, feed)
        except Exception:  # noqa: BLE001  (what onnxruntime has no kernel for)
            continue
        held = onnx.ModelProto.FromString(model.SerializeToString())
        for value in list(held.graph.input)[1:]:
            held.graph.initializer.append(
                numpy_helper.from_array(np.asarray(feed[value.name]), value.name)
            )
            held.graph.input.remove(value)
        for variant in (model, held):
            for exact in (True, False):
                try:
                    made = form(variant, exact)
                except LadyError:
                    continue
                same = all(map(is_same, wanted, run(made, feed)))
                alike += same
                parted += (
                    []
                    if same
                    else [f"{name}, {'weights' if variant is held else 'inputs'}, exact {exact}"]
                )
    return alike, parted


@pytest.mark.parametrize("part", range(2))
def test_node_tests_run_alike(part: int) -> None:
    alike, parted = compared(sorted(node_tests())[part * 3 :: 12])
    assert not parted
    assert alike > 300


@pytest.mark.long
def test_all_node_tests_run_alike() -> None:
    alike, parted = compared(sorted(node_tests()))
    assert not parted
    assert alike > 4000


def test_constants_that_were_rounded_too_often_stay_apart() -> None:
    """Two sums that cancel: what is left of the first roundings is too large a share."""
    rng = np.random.default_rng(0)
    a, b, c = (r + rng.random(8) for r in (1000, 300, -19))
    arrays = {"a": a, "b": b, "c": 20 + rng.random(8) - a - b, "d": c}
    sums = [node("Add", f"{i} {n}", o) for i, n, o in zip("xuvw", arrays, "uvwy", strict=True)]
    long = model(sums, (2, 8), **{n: v.astype(np.float32) for n, v in arrays.items()})
    holds(long)
    assert [n.op_type for n in form(long).graph.node] == ["Add", "Add", "Identity"]


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_random_graphs_run_alike(grown: tuple[onnx.ModelProto, list[int]]) -> None:
    holds(grown[0])


@settings(max_examples=40, deadline=None)
@given(spliced())
def test_random_graphs_of_every_rule_run_alike(
    grown: tuple[onnx.ModelProto, list[int], set[int]],
) -> None:
    model = grown[0]
    try:
        made = form(model)
    except LadyError:
        return
    assert lady.verify(model, made, samples=2).equal


def test_constants_that_double_are_not_computed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    # forty doublings of one number would be a terabyte
    monkeypatch.setattr(numbering, "MIN_COMPUTED_BYTES", 1 << 20)
    nodes = [node("Concat", f"c{k} c{k}", f"c{k + 1}", axis=0) for k in range(40)]
    nodes += [node("ReduceMax", "c40", "m", keepdims=0), node("Add", "x m")]
    made = form(model(nodes, [2, 6], c0=np.ones(1, np.float32)))
    assert sum(n.op_type == "Concat" for n in made.graph.node) > 10
    assert made.ByteSize() < 1 << 22


def test_defaults_of_functions_are_bound() -> None:
    """What a call leaves out has the function's default, also behind a rewrite of all else."""
    inner = helper.make_node("LeakyRelu", ["p"], ["q"])
    inner.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    whole = model([helper.make_node("leaky", ["x"], ["y"], domain="own")], [2, 6])
    opsets = [helper.make_opsetid("", 17)]
    default = [helper.make_attribute("slope", 0.3)]
    whole.functions.append(
        helper.make_function("own", "leaky", ["p"], ["q"], [inner], opsets, [], default)
    )
    whole.opset_import.append(helper.make_opsetid("own", 1))
    whole.ir_version = 9
    plain = model([node("LeakyRelu", "x", alpha=0.3)], [2, 6])
    assert lady.check(whole, plain).verdict == "identical"
    assert not lady.check(whole, model([node("LeakyRelu", "x", alpha=0.01)], [2, 6])).accepted
