"""Sequences of tensors: made, changed, mapped over, and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import lady_onnx as lady

from ..helpers.builders import Case, build, exact, node, sizes, value, w
from ..helpers.sequences import CASES, picked


@pytest.mark.parametrize("case", CASES)
def test_sequences_are_followed(case, tmp_path: Path) -> None:
    model, expected = case()
    assert not lady.find_groups(model).unknown_operators
    assert sizes(model) == expected
    exact(model, tmp_path)


def test_weights_on_the_way_to_an_unknown_place_are_not_read_for_their_values(
    tmp_path: Path,
) -> None:
    """The place depends on a hidden layer of 6, whose second weight stands before what it reads."""
    nodes = [
        node("MatMul", "x,inner", "i"),
        node("Transpose", "i", "turned"),
        node("MatMul", "outer,turned", "seen"),
        node("MatMul", "x,a", "h"),
        node("MatMul", "x,c", "k"),
        node("SequenceConstruct", "h,k", "s"),
        node("ReduceMax", "seen", "most", keepdims=0),
        *picked()[0].graph.node[4:],
    ]
    weights = {
        **{t.name: numpy_helper.to_array(t) for t in picked()[0].graph.initializer},
        "inner": w(3, 6),
        "outer": w(2, 6),
    }
    model = build(nodes, weights, {"x": [4, 3]})
    # the 2 rows of `outer` go into a maximum: they may change places too
    assert sizes(model) == [2, 2, 5, 6]
    exact(model, tmp_path)


def test_a_sequence_that_changes_at_an_unknown_place_keeps_its_order() -> None:
    nodes = [
        *picked()[0].graph.node[:6],
        node("SequenceInsert", "s,h,place", "t"),
        node("ConcatFromSequence", "t", "y", axis=0),
        node("MatMul", "y,b", "out"),
    ]
    weights = {"a": w(3, 5), "b": w(5, 2), "c": w(3, 5), "zero": np.array(0, np.float32)}
    assert sizes(build(nodes, weights, {"x": [4, 3]})) == []


def test_a_sequence_as_an_output_of_the_graph(tmp_path: Path) -> None:
    """The tensors of a sequence are made of a hidden layer of 6; the user sees the two of 5."""
    nodes = [
        node("MatMul", "x,a", "h"),
        node("MatMul", "h,b", "k"),
        node("SplitToSequence", "k,two", "s", axis=0),
        node("MatMul", "h,c", "i"),
        node("MatMul", "k,d", "j"),
        node("Add", "i,j", "out"),
    ]
    weights = {"a": w(3, 6), "b": w(6, 5), "c": w(6, 2), "d": w(5, 2), "two": np.array([1, 3])}
    model = build(nodes, weights, {"x": [4, 3]})
    model.graph.output.append(
        helper.make_tensor_sequence_value_info("s", onnx.TensorProto.FLOAT, None)
    )
    assert sizes(model) == [6]
    exact(model, tmp_path)
    other = onnx.ModelProto()
    other.CopyFrom(model)
    other.graph.initializer[1].CopyFrom(numpy_helper.from_array(w(6, 5), "b"))
    assert not lady.verify(model, other).equal


def function_of_two_results() -> Case:
    """A function returns a sequence, and another result beside one that no rule describes."""
    constants = [
        helper.make_node("Constant", [], [n], value=numpy_helper.from_array(w(6, size)))
        for n, size in (("k", 3), ("l", 5))
    ]
    function = helper.make_function(
        "own",
        "Two",
        ["v"],
        ["strange", "row", "both"],
        [
            *constants,
            node("MatMul", "v,k", "f"),
            helper.make_node("Mystery", ["f"], ["strange"], domain="far"),
            node("MatMul", "v,l", "row"),
            node("SequenceConstruct", "row,row", "both"),
        ],
        [helper.make_opsetid("", 17), helper.make_opsetid("far", 1)],
    )
    nodes = [
        node("MatMul", "x,a", "h"),
        helper.make_node("Two", ["h"], ["strange", "row", "both"], domain="own"),
        node("ConcatFromSequence", "both", "y", axis=0),
        node("Concat", "y,row", "z", axis=0),
        node("MatMul", "z,b", "out"),
    ]
    model = build(nodes, {"a": w(3, 6), "b": w(5, 2)}, {"x": [4, 3]})
    model.opset_import.extend([helper.make_opsetid("own", 1), helper.make_opsetid("far", 1)])
    model.functions.append(function)
    return model, [5, 6]


def test_a_function_may_return_an_empty_sequence() -> None:
    function = helper.make_function(
        "own",
        "None",
        [],
        ["none"],
        [helper.make_node("SequenceEmpty", [], ["none"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        helper.make_node("None", [], ["none"], domain="own"),
        node("MatMul", "x,a", "h"),
        node("SequenceInsert", "none,h", "s"),
        node("ConcatFromSequence", "s", "y", axis=0),
        node("MatMul", "y,b", "out"),
    ]
    model = build(nodes, {"a": w(3, 6), "b": w(6, 2)}, {"x": [4, 3]})
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(function)
    assert sizes(model) == [6]


def test_a_function_with_a_result_of_unknown_shape() -> None:
    model, expected = function_of_two_results()
    assert sorted(g.size for g in lady.find_groups(model).groups) == expected
    assert {p.reason for p in lady.find_groups(model).pinned if p.initializer == "own.Two/k"} == {
        "operator far.Mystery: no rule"
    }


def test_two_nodes_of_one_name_with_weights_of_one_name_are_refused() -> None:
    branch = helper.make_graph(
        [node("Identity", "p", "t")], "t", [], [value("t")], [numpy_helper.from_array(w(5), "p")]
    )
    nodes = [
        helper.make_node("If", ["yes"], ["y"], name="n", then_branch=branch, else_branch=branch),
        helper.make_node("If", ["yes"], ["z"], name="n", then_branch=branch, else_branch=branch),
        node("Add", "y,z", "s"),
        node("Add", "s,x", "out"),
    ]
    with pytest.raises(lady.LadyError, match="two weights are called 'n/else_branch/p'"):
        lady.find_groups(build(nodes, {"yes": np.array(True)}, {"x": [4, 5]}))
