"""Folding loses nothing: two labels of every run give the same groups and pins as all labels."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given

from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.model import Symmetry
from lady_onnx.symmetry.finder import find_symmetry
from lady_onnx.symmetry.run_folding import UnfoldingError, fold_runs, keep_runs

from ..helpers import fused, operator_cases, operator_models
from ..helpers.law import examples
from ..helpers.strategies import graphs


def describe(symmetry: Symmetry) -> tuple:
    groups = [
        (
            g.id,
            g.kind,
            g.size,
            g.parents,
            [(s.initializer, s.axis, s.index.tolist(), str(s.within)) for s in g.slots],
        )
        for g in symmetry.groups
    ]
    return groups, sorted(map(str, symmetry.pinned))


def check_folding(model: onnx.ModelProto) -> None:
    """Asserts that folding changes nothing, where the units lie in runs at all."""
    analysis = analyse_graph(load_graph(model))
    try:
        found = find_symmetry(fold_runs(analysis, 3))
    except UnfoldingError:
        return
    assert describe(found) == describe(find_symmetry(keep_runs(analysis)))


@examples(100)
@given(graphs(16))
def test_random_graphs(grown: tuple[onnx.ModelProto, list[int]]) -> None:
    check_folding(grown[0])


@pytest.mark.parametrize("case", operator_cases.CASES, ids=lambda c: f"{c[0]}-{c[3]}-{len(c[1])}")
def test_rule(case: tuple) -> None:
    check_folding(operator_models.build_model(*case[:5]))


@pytest.mark.parametrize("case", fused.CASES, ids=lambda c: f"{c[0]}-{len(c[2])}")
def test_fused_operator(case: tuple) -> None:
    check_folding(fused.build_model(*case[:-1]))
