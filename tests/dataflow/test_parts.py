"""What is done to a part of the units, and to places along an axis."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

import lady_onnx as lady

from ..helpers.builders import build, sizes, w


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (lambda k, h: [helper.make_node("Relu" if k else "Tanh", [h], [f"y{k}"])], [4, 4]),
        (lambda k, h: [helper.make_node("Relu", [h], [f"y{k}"])], [8]),
        (lambda k, h: [helper.make_node("Mul", [h, "two" if k else "three"], [f"y{k}"])], [4, 4]),
        (lambda k, h: [helper.make_node("Mul", [h, "two"], [f"y{k}"])], [8]),
        # the operands of a product have no order, and those of a difference have one
        (lambda k, h: [helper.make_node("Mul", ["two", h][:: 1 - 2 * k], [f"y{k}"])], [8]),
        (lambda k, h: [helper.make_node("Sub", ["two", h][:: 1 - 2 * k], [f"y{k}"])], [4, 4]),
        (lambda k, h: [helper.make_node("Softmax", [h], [f"y{k}"], axis=-1)], [4, 4]),
        (lambda k, h: [helper.make_node("Softmax", [h], [f"y{k}"], axis=1)], [8]),
        (lambda k, h: [helper.make_node("CumSum", [h, "one"], [f"y{k}"], reverse=k)], [4, 4]),
        (
            lambda k, h: [
                helper.make_node("Gather", [h, "first" if k else "last"], [f"y{k}"], axis=1)
            ],
            [4, 4],
        ),
        (lambda k, h: [helper.make_node("Gather", [h, "first"], [f"y{k}"], axis=1)], [8]),
        (
            lambda k, h: [
                helper.make_node("Transpose", [h], [f"y{k}"], perm=[0, 1, 2] if k else [1, 0, 2])
            ],
            [4, 4],
        ),
        # the same two operators in the other order
        (
            lambda k, h: [
                helper.make_node("Neg" if k else "Relu", [h], [f"z{k}"]),
                helper.make_node("Relu" if k else "Neg", [f"z{k}"], [f"y{k}"]),
            ],
            [4, 4],
        ),
    ],
)
def test_what_is_done_to_a_part_of_the_units(way, expected: list[int]) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Split", ["h", "halves"], ["h0", "h1"], axis=2),
        *way(0, "h0"),
        *way(1, "h1"),
        helper.make_node("Concat", ["y0", "y1"], ["y"], axis=2),
        helper.make_node("MatMul", ["y", "b"], ["out"]),
    ]
    weights = {"a": w(3, 8), "b": w(8, 2), "halves": np.array([4, 4]), "one": np.array(1)}
    weights |= {
        "two": np.float32([2]),
        "three": np.float32([3]),
        "first": np.array([0]),
        "last": np.array([4]),
    }
    assert sizes(build(nodes, weights, {"x": [5, 5, 3]})) == expected


def test_a_reduction_of_a_part_of_the_units() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Slice", ["h", "start", "end", "axis"], ["s"]),
        helper.make_node("ReduceMax", ["s"], ["m"], axes=[1]),
        helper.make_node("MatMul", ["h", "b"], ["y"]),
        helper.make_node("Add", ["y", "m"], ["out"]),
    ]
    weights = {
        "a": w(3, 8),
        "b": w(8, 2),
        "start": np.array([2]),
        "end": np.array([5]),
        "axis": np.array([1]),
    }
    assert sizes(build(nodes, weights, {"x": [4, 3]})) == [3, 5]


@pytest.mark.parametrize("place", [[3], 3])
def test_one_unit_that_something_else_reads(place: int | list[int]) -> None:
    """Taken out alone, the unit has no axis any more by which it could be known."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Gather", ["h", "place"], ["g"], axis=1),
        helper.make_node("Reshape", ["g", "column"], ["one"]),
        helper.make_node("MatMul", ["h", "b"], ["y"]),
        helper.make_node("Add", ["y", "one"], ["out"]),
    ]
    weights = {"a": w(3, 8), "b": w(8, 2), "place": np.array(place), "column": np.array([4, 1])}
    assert sizes(build(nodes, weights, {"x": [4, 3]})) == [7]


def test_places_of_an_axis_that_meet_shifted_ones() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Split", ["h", "halves"], ["p", "q"], axis=1),
        helper.make_node("Slice", ["p", "one", "four", "two"], ["s"]),
        helper.make_node("Pad", ["s", "pads"], ["t"]),
        helper.make_node("Concat", ["t", "q"], ["y"], axis=1),
        helper.make_node("Reshape", ["y", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "b"], ["out"]),
    ]
    weights = {
        "a": w(3, 4),
        "b": w(24, 2),
        "halves": np.array([2, 4]),
        "one": np.array([1]),
        "four": np.array([4]),
    }
    weights |= {
        "two": np.array([2]),
        "pads": np.array([0, 0, 0, 0, 0, 1]),
        "flat": np.array([5, 24]),
    }
    assert sizes(build(nodes, weights, {"x": [5, 6, 3]})) == []


MOVES = {
    "Pad": [
        helper.make_node("Slice", ["p", "one", "four", "axis"], ["s"]),
        helper.make_node("Pad", ["s", "pads"], ["t"]),
    ],
    "Transpose": [helper.make_node("Transpose", ["p"], ["t"], perm=[1, 0, 2])],
    "Reshape": [
        helper.make_node("Reshape", ["p", "wide"], ["s"]),
        helper.make_node("Transpose", ["s"], ["r"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["r", "tall"], ["t"]),
    ],
    "Concat": [
        helper.make_node("Slice", ["p", "one", "end", "axis"], ["s"]),
        helper.make_node("Slice", ["p", "none", "one", "axis"], ["r"]),
        helper.make_node("Concat", ["s", "r"], ["t"], axis=1),
    ],
}


@pytest.mark.parametrize("move", MOVES)
def test_some_of_the_units_are_moved_along_another_axis(move: str) -> None:
    """They are joined with units that stay, and may not change places with these."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Split", ["h", "halves"], ["p", "q"], axis=2),
        *MOVES[move],
        helper.make_node("Concat", ["t", "q"], ["y"], axis=2),
        helper.make_node("Reshape", ["y", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "b"], ["out"]),
    ]
    weights = {
        "a": w(3, 5),
        "b": w(30, 2),
        "halves": np.array([2, 3]),
        "one": np.array([1]),
        "four": np.array([4]),
    }
    weights |= {
        "axis": np.array([1]),
        "none": np.array([0]),
        "end": np.array([6]),
        "flat": np.array([6, 30]),
    }
    weights |= {
        "pads": np.array([0, 1, 0, 0, 2, 0]),
        "wide": np.array([4, 9, 2]),
        "tall": np.array([6, 6, 2]),
    }
    assert sizes(build(nodes, weights, {"x": [6, 6, 3]})) == [2, 3]


@pytest.mark.parametrize("units", [3, 8, 9])
@pytest.mark.parametrize("pieces", [2, 3, 8])
def test_the_largest_of_every_few_units(units: int, pieces: int) -> None:
    """Each lies in a unit of its own, and every unit has an order of its own.

    So no place of a folded run stands for the others.
    """
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["r"]),
        helper.make_node("ReduceMax", ["r"], ["m"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["m", "b"], ["out"]),
    ]
    weights = {"a": w(3, units * pieces), "b": w(units, 2), "shape": np.array([4, pieces, units])}
    model = build(nodes, weights, {"x": [4, 3]})
    assert sizes(model) == sorted([units, *[pieces] * units])
    assert lady.check(model, lady.permute(model, 1).graph).verdict == "permuted"
