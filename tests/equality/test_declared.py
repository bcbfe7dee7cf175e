"""What files declare of their values beside their nodes: it counts where nothing shows it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

import lady_onnx as lady

from ..helpers.disguised_pairs import (
    BOOL,
    FLOAT,
    INT,
    WRITTEN,
    Pair,
    accepts,
    copied,
    inputs_of_a_scan_body,
    is_different,
    node,
    value,
    w,
)
from ..helpers.layers import F, X, layers, model, widened


def declared_length() -> Pair:
    """onnxruntime folds a length that it cannot infer to a constant, where a file declares it."""
    nodes = [
        node("NonZero", "x", "places"),
        node("Shape", "places", "lengths"),
        node("Cast", "lengths", "halves", to=FLOAT),
    ]
    nodes += [
        node("ReduceSum", "halves", "count", keepdims=0),
        node("Mul", "x count", "h"),
        node("MatMul", "h a", "out"),
    ]
    plain = model(nodes, {"a": w(4, 3)}, {"x": [2, 4]})
    other = copied(plain)
    other.graph.value_info.append(value("places", [2, 777], INT))
    return Pair(plain, other, {"x": np.ones((2, 4), F)})


def declared_length_in_a_branch() -> Pair:
    pair = declared_length()
    for whole in pair.reference, pair.suspect:
        inner = helper.make_graph(
            list(whole.graph.node), "g", [], [value("out")], value_info=list(whole.graph.value_info)
        )
        del whole.graph.node[:], whole.graph.value_info[:]
        other = helper.make_graph([node("MatMul", "x a", "low")], "g", [], [value("low")])
        whole.graph.node.append(node("If", "way", "out", then_branch=inner, else_branch=other))
        whole.graph.input.insert(0, value("way", [], BOOL))
    return Pair(pair.reference, pair.suspect, {**pair.sample, "way": np.array(True)})


def declared_length_in_a_function() -> Pair:
    pair = declared_length()
    for whole in pair.reference, pair.suspect:
        opsets = [helper.make_opsetid("", 17)]
        inner = helper.make_function(
            "own", "f", ["x", "a"], ["out"], list(whole.graph.node), opsets
        )
        inner.value_info.extend(whole.graph.value_info)
        del whole.graph.node[:], whole.graph.value_info[:]
        whole.functions.append(inner)
        whole.graph.node.append(node("f", "x a", "out", domain="own"))
        whole.opset_import.append(helper.make_opsetid("own", 1))
        # functions may declare that from this version on
        whole.ir_version = 10
    return pair


def declared_length_of_an_output() -> Pair:
    """What is declared of an output counts for those who read it inside as well."""
    pair = declared_length()
    for whole in pair.reference, pair.suspect:
        del whole.graph.value_info[:]
        whole.graph.output.append(value("places", None, INT))
    pair.suspect.graph.output[1].CopyFrom(value("places", [2, 777], INT))
    return pair


def lengths_of_one_name() -> Pair:
    """onnxruntime plans memory by names of lengths, and stops where one name has two lengths."""
    nodes = [
        node("Relu", "x", "a"),
        node("Relu", "y", "b"),
        node("Exp", "a", "c"),
        node("Exp", "b", "d"),
    ]
    nodes += [
        node("ReduceSum", "c", "e", keepdims=0),
        node("Sin", "b", "f"),
        node("Cos", "f", "g"),
        node("Add", "g e", "h"),
    ]
    nodes.append(node("Add", "h d", "out"))
    plain, other = (model(nodes, {}, {"x": ["n", 4], "y": [k, 4]}) for k in "mn")
    return Pair(plain, other, {"x": w(2, 4), "y": w(500, 4)})


def names_that_fuse(where: str) -> Pair:
    """onnxruntime fuses a sum and a norm where their operands' lengths have the same names.

    The fused one broadcasts neither.
    """

    def built(is_lie: bool) -> ModelProto:
        true, lie = [["b", "s", 8], ["c", "t", 8]], [["b", "s", 8], ["b", "s", 8]]
        names = lie if is_lie else true
        ends = [node("Add", "a b", "h"), node("LayerNormalization", "h g z", "out", axis=-1)]
        weights = {"g": w(8), "z": w(8, seed=1)}
        starts = [node("Relu", "x", "a"), node("Relu", "y", "b")]
        found = model([*starts, *ends], weights, {"x": ["b", "s", 8], "y": ["c", "t", 8]})
        if where == "inner values" and is_lie:
            found.graph.value_info.extend(
                value(n, shape) for n, shape in zip("ab", names, strict=True)
            )
        elif where == "outputs":
            lies = [["q", "r", 8]] * 2 if is_lie else [[None, None, 8]] * 2
            found.graph.output.extend(value(n, shape) for n, shape in zip("ab", lies, strict=True))
        elif where == "a body":
            inner = [
                node("Identity", "go", "on"),
                node("Identity", "p", "p2"),
                node("Identity", "q", "q2"),
            ]
            inner += [
                node("Relu", "p", "a"),
                node("Relu", "q", "b"),
                *ends[:1],
                node("LayerNormalization", "h g z", "r", axis=-1),
            ]
            given = [
                value("k", [], INT),
                value("go", [], BOOL),
                value("p", names[0]),
                value("q", names[1]),
            ]
            made = [value("on", [], BOOL), value("p2", names[0]), value("q2", names[1]), value("r")]
            loop = helper.make_node(
                "Loop",
                ["n", "", "x", "y"],
                ["pe", "qe", "out"],
                body=helper.make_graph(inner, "g", given, made),
            )
            found = model(
                [loop], {**weights, "n": np.array(1)}, {"x": ["b", "s", 8], "y": ["c", "t", 8]}
            )
        elif where == "a weight":
            nodes = [node("Relu", "x", "a"), *ends]
            found = model(nodes, {**weights, "b": w(3, 5, 8)}, {"x": ["b", "s", 8]})
            found.graph.input.extend([value("b", names[1])] if is_lie else [])
        return found

    given = {"x": w(1, 5, 8)} if where == "a weight" else {"x": w(1, 5, 8), "y": w(3, 5, 8)}
    return Pair(built(False), built(True), given)


def shape_of_a_branch() -> Pair:
    def built(shape: list[int | str]) -> ModelProto:
        branches = [
            helper.make_graph([node(op, "m", o)], "g", [], [value(o, shape)])
            for op, o in (("Relu", "a"), ("Neg", "b"))
        ]
        choice = node("If", "way", "h", then_branch=branches[0], else_branch=branches[1])
        nodes = [
            node("Abs", "x", "m"),
            choice,
            node("Shape", "h", "s"),
            node("Cast", "s", "out", to=FLOAT),
        ]
        found = model(nodes, {}, {"x": ["n", 4]})
        found.graph.input.insert(0, value("way", [], BOOL))
        return found

    return Pair(built(["n", 4]), built([2, 4]), {"x": w(3, 4), "way": np.array(True)})


def shape_of_the_branch_that_is_taken() -> Pair:
    pair = shape_of_a_branch()
    for whole in pair.reference, pair.suspect:
        del whole.graph.input[0]
        whole.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "way"))
    return Pair(pair.reference, pair.suspect, {"x": w(3, 4)})


PLACES = ("inner values", "outputs", "a body", "a weight")
DECLARED: dict[str, Callable[[], Pair]] = {
    **{
        f.__name__: f
        for f in (declared_length, declared_length_in_a_branch, declared_length_of_an_output)
    },
    **{
        f.__name__: f
        for f in (lengths_of_one_name, shape_of_a_branch, shape_of_the_branch_that_is_taken)
    },
    **{f"names of {place}": functools.partial(names_that_fuse, place) for place in PLACES},
}
"""Of a suspect that declares more than the reference does."""


@pytest.mark.parametrize("written", WRITTEN)
def test_what_a_function_declares_counts(written: str) -> None:
    """onnxruntime does not fold by it yet."""
    pair = declared_length_in_a_function()
    assert not accepts(pair.reference, WRITTEN[written](pair.suspect))
    assert accepts(pair.reference, WRITTEN[written](pair.reference))


@pytest.mark.parametrize("length", [None, 8])
def test_what_a_model_with_more_units_declares_counts(length: int | None) -> None:
    nodes, weights = layers()
    nodes[-1].output[0] = "narrow"
    nodes += [
        node("NonZero", "narrow", "places"),
        node("Shape", "places", "lengths"),
        node("Cast", "lengths", "f", to=FLOAT),
    ]
    nodes += [node("ReduceSum", "f", "count", keepdims=0), node("Mul", "narrow count", "out")]
    shape: dict[str, list[int | str]] = {"x": [2, 8]}
    suspect = model(nodes, widened(weights, 5 * w(8), 1, np.zeros(12)), shape)
    # there are always eight, which nothing shows
    suspect.graph.value_info.append(value("places", [2, length], INT))
    assert accepts(model(nodes, weights, shape), suspect) == (length is None)


@pytest.mark.parametrize("case", DECLARED.values(), ids=DECLARED)
def test_the_pairs_differ_and_are_themselves(case: Callable[[], Pair]) -> None:
    pair = case()
    assert is_different(pair)
    assert lady.check(pair.reference, copied(pair.reference)).verdict == "identical"


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("case", DECLARED.values(), ids=DECLARED)
def test_what_nothing_shows_is_not_accepted(case: Callable[[], Pair], written: str) -> None:
    pair = case()
    assert not accepts(pair.reference, WRITTEN[written](pair.suspect))


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize(
    "case",
    [
        declared_length,
        declared_length_in_a_branch,
        declared_length_of_an_output,
        lengths_of_one_name,
    ],
)
def test_the_reference_is_taken_at_its_word(case: Callable[[], Pair], written: str) -> None:
    """What declares less is its copy."""
    pair = case()
    assert accepts(pair.suspect, WRITTEN[written](pair.reference))


@pytest.mark.parametrize("written", WRITTEN)
def test_what_both_declare_is_accepted(written: str) -> None:
    """Whether it is so is not asked."""
    for case in (lengths_of_one_name, functools.partial(names_that_fuse, "inner values")):
        pair = case()
        assert accepts(pair.suspect, WRITTEN[written](pair.suspect))


@pytest.mark.parametrize(
    ("declared", "accepted"), [(None, True), ([1, 5], True), ([1, 4, 3], False), ([2, 5], False)]
)
def test_what_a_body_declares_counts_where_it_is_not_so(
    declared: list[int | str] | None, accepted: bool
) -> None:
    """onnxruntime reuses memory by what a body declares, and stops where that is too little."""
    reference, suspect = (inputs_of_a_scan_body().reference for _ in range(2))
    body = next(
        a.g for n in suspect.graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH
    )
    body.output[0].CopyFrom(value("v2", declared))
    for written in WRITTEN.values():
        assert accepts(reference, written(suspect)) == accepted


def test_what_is_declared_may_follow_from_the_nodes() -> None:
    """Whatever shape inference adds to a file, it stays the same program."""
    plain = model(*layers(), X)
    assert not plain.graph.value_info
    more = onnx.shape_inference.infer_shapes(plain, data_prop=True)
    assert more.graph.value_info
    for written in WRITTEN.values():
        assert lady.check(plain, written(more)).accepted
