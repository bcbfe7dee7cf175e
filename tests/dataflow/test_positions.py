"""Elements that are picked by their position, and weights of which only parts are met.

Each model was once given groups that do not leave its outputs as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import NodeProto, helper

import lady_onnx as lady

from ..helpers.builders import build, w
from ..helpers.law import check, holds

TAIL = [helper.make_node("Relu", ["h"], ["a"]), helper.make_node("MatMul", ["a", "head"], ["out"])]


def node(operator: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def product(name: str = "h") -> NodeProto:
    return node("MatMul", "x W", name)


PICKED: dict[str, tuple[list[NodeProto], dict[str, Sequence[int]], list[int]]] = {
    "an element of a bias, then the bias": (
        [node("Gather", "b zero", "s"), node("Mul", "x s", "x1"), node("MatMul", "x1 W", "h0")]
        + [node("Add", "h0 b", "h")],
        {"b": [6], "W": [3, 6]},
        [5],
    ),
    "two elements of a bias, then the bias": (
        [node("Gather", "b zero", "s"), node("Gather", "b first", "t"), node("Mul", "x s", "x1")]
        + [node("Mul", "x1 t", "x2"), node("MatMul", "x2 W", "h0"), node("Add", "h0 b", "h")],
        {"b": [6], "W": [3, 6]},
        [4],
    ),
    "a bias and its first element": (
        [node("Slice", "b zeros ones", "s"), node("Add", "s b", "t"), product("h0")]
        + [node("Add", "h0 t", "h")],
        {"b": [6], "W": [3, 6]},
        [5],
    ),
    "a row of a weight, then the weight": (
        [node("Slice", "W zeros ones zeros", "s"), node("MatMul", "x V", "h0")]
        + [node("Add", "h0 s", "h1"), node("Relu", "h1", "h2"), node("MatMul", "h2 U", "h3")]
        + [node("MatMul", "h3 W", "h")],
        {"V": [3, 6], "U": [6, 3], "W": [3, 6]},
        [2, 6],
    ),
    "halves of a bias that are treated otherwise": (
        [node("Slice", "b zeros threes", "s"), node("Slice", "b threes sixes", "t")]
        + [node("Tanh", "s", "s1"), node("Concat", "s1 t", "c", axis=0), product("h0")]
        + [node("Add", "h0 b", "h1"), node("Mul", "h1 c", "h")],
        {"b": [6], "W": [3, 6]},
        [3, 3],
    ),
    "one unit twice": (
        [product("h1"), node("Gather", "h1 twice", "p", axis=1), node("MatMul", "p V", "h2")]
        + [node("MatMul", "h1 U", "h3"), node("Add", "h2 h3", "h")],
        {"W": [3, 6], "V": [2, 6], "U": [6, 6]},
        [2, 5, 6],
    ),
    "one unit beside all": (
        [product("h1"), node("Gather", "h1 six_times", "p", axis=1), node("Mul", "p h1", "h")],
        {"W": [3, 6]},
        [5],
    ),
}
CONSTANTS = {
    "zero": np.array(0),
    "first": np.array(1),
    "zeros": np.array([0]),
    "ones": np.array([1]),
    "threes": np.array([3]),
    "sixes": np.array([6]),
    "twice": np.array([0, 0]),
    "six_times": np.zeros(6, np.int64),
}


def run(nodes: list[NodeProto], shapes: dict[str, Sequence[int]], expected: list[int]) -> None:
    """Check the groups of nodes before a ReLU and a head of as many units as `h` has."""
    used = {name for n in nodes for name in n.input}
    weights = {name: w(*shape) for name, shape in shapes.items()}
    weights |= {name: array for name, array in CONSTANTS.items() if name in used}
    check(build([*nodes, *TAIL], weights, {"x": [2, 3]}), expected, 1)


@pytest.mark.parametrize("name", PICKED)
def test_what_is_picked_by_its_position_keeps_it(name: str) -> None:
    nodes, shapes, expected = PICKED[name]
    run(nodes, {**shapes, "head": [6, 2]}, expected)


@pytest.mark.parametrize("operator", ["Mul", "Add"])
@pytest.mark.parametrize("axis", [0, 1])
def test_weights_that_were_combined_before_they_are_concatenated(operator: str, axis: int) -> None:
    nodes = [
        node(operator, "W1 s1", "a1"),
        node(operator, "W2 s2", "a2"),
        node("Concat", "a1 a2", "W", axis=axis),
        product(),
    ]
    if axis:
        shapes = {"W1": [3, 6], "s1": [6], "W2": [3, 5], "s2": [5], "head": [11, 2]}
        run(nodes, shapes, [5, 6])
    else:
        run(nodes, {"W1": [2, 6], "s1": [6], "W2": [1, 6], "s2": [6], "head": [6, 2]}, [6])


@pytest.mark.parametrize("is_shifted", [False, True])
@pytest.mark.parametrize("kind", ["codebook", "toeplitz", "vectors"])
def test_elements_that_stand_at_several_places(kind: str, is_shifted: bool) -> None:
    """Whichever columns change places, others with the same elements would have to as well."""
    places = {
        "codebook": np.random.default_rng(0).integers(0, 5, (3, 6)),
        "toeplitz": np.add.outer(np.arange(3), np.arange(6)),
        "vectors": np.random.default_rng(0).integers(0, 5, (3, 3)),
    }[kind]
    nodes = [
        node("Gather", "codes places", "w0"),
        node("Reshape", "w0 shape", "w1"),
        node("Add", "w1 delta", "W"),
        product(),
        *TAIL,
    ]
    weights = {"codes": w(8, 2) if kind == "vectors" else w(8), "places": places, "head": w(6, 2)}
    weights["shape"] = np.array([3, 6])
    if is_shifted:
        weights["delta"] = w(3, 6)
    else:
        del nodes[2]
        nodes[1].output[0] = "W"
    check(build(nodes, weights, {"x": [2, 3]}), [], 1)


@pytest.mark.parametrize(
    ("x", "pads", "weight", "expected"),
    [
        ([2, 1], [0, 1, 0, 2], [4, 6], [6]),
        ([2, 1], [0, 0, 0, 2], [3, 6], [6]),
        ([2, 3], [0, 1, 0, 2], [6, 6], [6]),
    ],
)
def test_what_is_not_padding_keeps_its_place(
    x: list[int], pads: list[int], weight: list[int], expected: list[int]
) -> None:
    """Also where it is a single position."""
    nodes = [node("Pad", "x pads", "p"), node("MatMul", "p W", "h"), *TAIL]
    weights = {"pads": np.array(pads), "W": w(*weight), "head": w(6, 2)}
    check(build(nodes, weights, {"x": x}), expected, 1)


def test_a_single_unit_that_is_padded() -> None:
    nodes = [node("MatMul", "x U", "u"), node("Relu", "u", "v"), node("Pad", "v pads", "p")]
    nodes += [node("MatMul", "p W", "h"), *TAIL]
    weights = {"U": w(3, 1), "pads": np.array([0, 1, 0, 2]), "W": w(4, 6), "head": w(6, 2)}
    check(build(nodes, weights, {"x": [2, 3]}), [6], 1)


def test_positions_inside_and_across_what_is_summed() -> None:
    """Neither order of positions may be forgotten for the other."""
    nodes = [
        node("MatMul", "x U", "u"),
        node("Reshape", "u wide", "r"),
        node("Trilu", "r", "t", upper=0),
        node("Reshape", "t flat", "f"),
        node("ReduceSum", "f axis", "s", keepdims=0),
        node("MatMul", "s W", "h"),
        *TAIL,
    ]
    weights = {"U": w(3, 16), "W": w(8, 6), "head": w(6, 2), "wide": np.array([2, 2, 4])}
    weights |= {"flat": np.array([1, 8, 2]), "axis": np.array([2])}
    check(build(nodes, weights, {"x": [1, 3]}), [6], 1)


@pytest.mark.parametrize("beside", ["nothing", "no element", "more", "a weight"])
@pytest.mark.parametrize("is_split", [False, True])
def test_places_that_are_interleaved_stay_so_beside_others(beside: str, is_split: bool) -> None:
    """Rotary embeddings turn pairs of an input's columns by angles of a table, and pass the rest.

    Rows and columns of the table have labels of their own, over different axes of what is turned.
    """
    nodes = [
        node("Gather", "table places", "angles"),
        node("Shape", "x", "width", start=3, end=4),
        node("Slice", "angles zero width two", "some"),
        node("Unsqueeze", "some two", "s"),
        node("Split", "x", "x1", axis=-1),
        node("Sub", "x1 s", "re0"),
        node("Add", "x2 s", "im0"),
        node("Unsqueeze", "re0 last", "re"),
        node("Unsqueeze", "im0 last", "im"),
        node("Concat", "re im", "pairs", axis=-1),
        node("Reshape", "pairs whole", "turned"),
    ]
    nodes[4].output.append("x2")
    weights = {
        "table": w(50, 4),
        "places": np.arange(6).reshape(2, 3),
        "zero": np.array([0]),
        "two": np.array([2]),
        "last": np.array([-1]),
        "whole": np.array([2, 3, 4, 8]),
        "W": w(8 + {"more": 5, "a weight": 5}.get(beside, 0), 3),
    }
    inputs = {"x": [2, 3, 4, 8]}
    if beside == "nothing":
        nodes[-1].output[0] = "all"
    else:
        nodes.append(node("Concat", "turned rest", "all", axis=-1))
    if beside == "no element":
        weights["rest"] = np.zeros((2, 3, 4, 0), np.float32)
    elif beside == "more":
        inputs["rest"] = [2, 3, 4, 5]
    elif beside == "a weight":
        weights["rest"] = w(2, 3, 4, 5)
    nodes.append(node("MatMul", "all W", "out"))
    if is_split:
        # the rows of W that are met are those of its parts
        weights["halves"] = np.array([4, weights["W"].shape[0] - 4])
        nodes[-1:] = [
            node("Split", "all halves", "a", axis=-1),
            node("Split", "W halves", "A", axis=0),
            node("MatMul", "a A", "p"),
            node("MatMul", "b B", "q"),
            node("Add", "p q", "out"),
        ]
        nodes[-5].output.append("b")
        nodes[-4].output.append("B")
    model = build(nodes, weights, inputs)
    if beside != "a weight":
        check(model, [], 1)
    elif lady.find_groups(model).groups:
        # columns of a weight that are passed may move
        assert holds(model, 1)
