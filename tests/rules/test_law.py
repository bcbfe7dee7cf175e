"""The one law and its twin.

Permuting any group leaves the outputs as they were, and nothing is pinned without need.
"""

from __future__ import annotations

from random import Random
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx import rules
from lady_onnx.dataflow.labels import facts
from lady_onnx.editing.permuting import draw_permutations
from lady_onnx.groups.permutations import (
    Nesting,
    compose_permutations,
    invert_permutations,
    permute_arrays,
)

from ..helpers.law import check, examples, holds, trials
from ..helpers.operator_cases import CASES
from ..helpers.operator_models import FROM_NOTHING, C, H, build_model, made_from_nothing
from ..helpers.pieces import pieces
from ..helpers.strategies import graphs


@pytest.mark.parametrize("seed", trials(60, 1000))
def test_pieces_to_which_something_else_is_done(seed: int) -> None:
    model = pieces(seed)
    if lady.find_groups(model).groups:
        assert holds(model, seed)


@examples(60)
@given(graphs(), st.integers(0, 1000))
def test_random_graphs(grown: tuple[onnx.ModelProto, list[int]], seed: int) -> None:
    check(*grown, seed)


@examples(40)
@given(graphs(), st.integers(0, 1000))
def test_groups_hold_where_few_elements_are_followed(
    grown: tuple[onnx.ModelProto, list[int]], seed: int
) -> None:
    """Most of the labels of several axes are given up, in the middle of a rule."""
    with mock.patch.object(facts, "MAX_JOINT_LABELS", 4):
        if lady.find_groups(grown[0]).groups:
            assert holds(grown[0], seed)


@pytest.mark.long
@examples(2000)
@given(graphs(16), st.integers(0, 1000))
def test_many_random_graphs(grown: tuple[onnx.ModelProto, list[int]], seed: int) -> None:
    check(*grown, seed)


@examples(30)
@given(graphs(), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_of_nodes(
    grown: tuple[onnx.ModelProto, list[int]], random: Random
) -> None:
    model, _ = grown
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for field in (other.graph.node, other.graph.initializer):
        items = list(field)
        random.shuffle(items)
        del field[:]
        field.extend(items)

    def described(m: onnx.ModelProto) -> list[tuple]:
        return [
            (
                g.id,
                g.kind,
                g.parents,
                [(s.initializer, s.axis, s.index.tolist(), str(s.within)) for s in g.slots],
            )
            for g in lady.find_groups(m).groups
        ]

    # nodes may even stand before what they read
    assert described(model) == described(other)


@examples(30)
@given(graphs(), st.integers(0, 1000))
def test_resync_undoes_any_permutation(grown: tuple[onnx.ModelProto, list[int]], seed: int) -> None:
    model, expected = grown
    if not expected:
        return
    shuffled = lady.permute(model, seed)
    result = lady.resync(model, shuffled.model, verify="none")
    assert result.max_weight_difference == 0


@examples(30)
@given(graphs(), st.integers(0, 1000))
def test_resync_tells_units_apart_that_look_alike(
    grown: tuple[onnx.ModelProto, list[int]], seed: int
) -> None:
    """With weights of one size only, rows say little: what they meet must decide."""
    model, _ = grown
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(
                numpy_helper.from_array(np.sign(numpy_helper.to_array(tensor)), tensor.name)
            )
    if lady.find_groups(model).groups:
        assert lady.resync(model, lady.permute(model, seed).model, verify="none").exact


@examples(30)
@given(graphs(), st.integers(0, 1000), st.integers(0, 1000))
def test_permutations_are_a_group(
    grown: tuple[onnx.ModelProto, list[int]], one: int, two: int
) -> None:
    model, _ = grown
    groups = lady.find_groups(model).groups
    family = Nesting(groups)
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    p, q = draw_permutations(groups, one), draw_permutations(groups, two)

    def apply(
        a: dict[str, np.ndarray], permutations: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        return {**a, **permute_arrays(a, groups, permutations)}

    def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
        return all(np.array_equal(a[n], b[n]) for n in a)

    assert same(apply(apply(arrays, p), invert_permutations(family, p)), arrays)
    assert same(apply(apply(arrays, p), q), apply(arrays, compose_permutations(family, p, q)))


# ---- every rule of the registry


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[3]}-{len(c[1])}")
def test_rule(
    case: tuple[str, list[object], dict[str, object], int, str | None, list[int]],
) -> None:
    op, extra, attributes, opset, before, expected = case
    check(build_model(op, extra, attributes, opset, before), sorted(expected), 3)


def test_every_operator_has_a_rule_or_a_reason() -> None:
    """The whole default domain, every opset that onnx knows."""
    known = {s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""}
    assert known - {op for domain, op in rules.REGISTRY if domain == ""} == set()


@pytest.mark.parametrize("op", FROM_NOTHING)
def test_made_from_nothing(op: str) -> None:
    assert not lady.find_groups(made_from_nothing(op)).groups


@pytest.mark.parametrize("op", ["Trilu", "ArgMax", "Flatten", "Transpose"])
def test_a_wrong_rule_is_caught(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The law notices rules that call an operator harmless, or that move elements wrongly."""
    swapped = [rules.Transpose((0, 3, 2, 1)), rules.Reshape((1, 5, C, H))]
    wrong, attributes = {
        "Trilu": (rules.Elementwise(), {}),
        "ArgMax": (rules.Equation("a c h w -> a 1 h w"), {"axis": 1}),
        "Flatten": (
            rules.Movement(
                [((0,), [rules.Transpose((0, 2, 3, 1)), rules.Reshape((1, C * H * 5))])]
            ),
            {},
        ),
        "Transpose": (rules.Movement([((0,), swapped)]), {"perm": [0, 3, 1, 2]}),
    }[op]
    model = _channels_last(op) if op == "Trilu" else build_model(op, [], attributes, 17)
    assert not lady.find_groups(model).groups or holds(model, 1)
    monkeypatch.setitem(rules.REGISTRY, ("", op), rules.Rule("", op, lambda node: wrong))
    assert not holds(model, 1)


def _channels_last(op: str) -> onnx.ModelProto:
    model = build_model("Transpose", [], {"perm": [0, 2, 3, 1]}, 17)
    at = next(i for i, n in enumerate(model.graph.node) if n.op_type == "Transpose")
    model.graph.node.insert(at + 1, helper.make_node(op, ["y"], ["z"]))
    model.graph.node[at + 2].input[0] = "z"
    return model


def test_unknown_operators_pin_what_they_touch() -> None:
    model = build_model("Relu", [], {}, 17)
    at = next(i for i, n in enumerate(model.graph.node) if n.op_type == "Relu")
    model.graph.node[at].domain, model.graph.node[at].op_type = "elsewhere", "Riddle"
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    symmetry = lady.find_groups(model)
    assert not symmetry.groups
    assert symmetry.unknown_operators == ("elsewhere.Riddle",)
    assert any("elsewhere.Riddle" in p.reason for p in symmetry.pinned)


def test_registering_an_operator_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="has a rule already"):
        rules.register_equation("a -> a", "Conv")
