"""Folding loses nothing: two labels of every stretch give the same groups and pins as all of them."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given

from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.model import Symmetry
from lady_onnx.symmetry.finder import find_symmetry
from lady_onnx.symmetry.run_folding import Unfoldable, fold_runs, keep_runs

from . import test_fused, test_law
from .strategies import graphs


def described(symmetry: Symmetry) -> tuple:
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


def loses_nothing(model: onnx.ModelProto) -> bool:
    """Is the folded analysis the plain one? Asserts it; False where the units do not lie in stretches."""
    analysis = analyse_graph(load_graph(model))
    try:
        found = find_symmetry(fold_runs(analysis, 3))
    except Unfoldable:
        return False
    assert described(found) == described(find_symmetry(keep_runs(analysis)))
    return True


@test_law.examples(100)
@given(graphs(16))
def test_random_graphs(grown: tuple[onnx.ModelProto, list[int]]) -> None:
    loses_nothing(grown[0])


@pytest.mark.parametrize("case", test_law.CASES, ids=lambda c: f"{c[0]}-{c[3]}-{len(c[1])}")
def test_rule(case: tuple) -> None:
    loses_nothing(test_law._model(*case[:5]))


@pytest.mark.parametrize("case", test_fused.CASES, ids=lambda c: f"{c[0]}-{len(c[2])}")
def test_fused_operator(case: tuple) -> None:
    loses_nothing(test_fused._model(*case[:-1]))
