"""Parts of one tensor that go two ways: what is done to a part tells its units from others."""

from __future__ import annotations

import numpy as np
import pytest

import lady_onnx as lady
from lady_onnx import rules

from ..helpers.builders import build, node, w
from ..helpers.law import check


@pytest.mark.parametrize("operator", ["Neg", "Relu", "Tanh"])
def test_halves_that_are_changed_in_two_tensors(operator: str) -> None:
    """Each half is changed in one tensor and not in the other: halves do not change places."""
    nodes = [
        node("MatMul", "x,a", "h"),
        node("Split", "h", "lo hi", axis=-1),
        node(operator, "hi", "f"),
        node(operator, "lo", "g"),
        node("Concat", "f,lo", "one", axis=-1),
        node("Concat", "hi,g", "other", axis=-1),
        node("MatMul", "one,b", "p"),
        node("MatMul", "other,c", "q"),
        node("Add", "p,q", "out"),
    ]
    weights = {"a": w(4, 6), "b": w(6, 2), "c": w(6, 2)}
    check(build(nodes, weights, {"x": [3, 4]}), [3, 3], 1)


def test_an_operator_of_another_domain_called_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be any function of an element: halves that it maps in turn are told apart."""
    monkeypatch.setitem(rules.REGISTRY, ("mine", "Identity"), rules.REGISTRY["", "Neg"])
    nodes = [
        node("MatMul", "x,a", "h"),
        node("Split", "h", "lo hi", axis=-1),
        node("Identity", "hi", "f", domain="mine"),
        node("Concat", "f,lo", "one", axis=-1),
        node("Concat", "hi,lo", "other", axis=-1),
        node("Sub", "one,other", "apart"),
        node("ReduceSum", "apart,last", "out"),
    ]
    model = build(nodes, {"a": w(4, 6), "last": np.array([1])}, {"x": [3, 4]})
    model.opset_import.add(domain="mine", version=1)
    assert sorted(g.size for g in lady.find_groups(model).groups) == [3, 3]


def test_units_that_are_taken_alone() -> None:
    """Of the first units of two halves one is subtracted: they do not change places."""
    nodes = [
        node("MatMul", "x,a", "h"),
        node("Slice", "h,zero,two,last", "lo"),
        node("Slice", "h,two,four,last", "hi"),
        node("Slice", "lo,zero,one,last", "l"),
        node("Slice", "hi,zero,one,last", "m"),
        node("Sub", "l,m", "apart"),
        node("Relu", "h", "r"),
        node("ReduceSum", "r,last", "total"),
        node("Add", "apart,total", "out"),
    ]
    places = {"zero": 0, "one": 1, "two": 2, "four": 4, "last": 2}
    weights = {"a": w(5, 4), **{k: np.array([v]) for k, v in places.items()}}
    # the second unit of each half is in the sum alone
    check(build(nodes, weights, {"x": [2, 3, 5]}), [2], 1)


@pytest.mark.parametrize(
    ("index", "rows", "sizes"),
    [
        # of the first copy three, of the changed one three: a row sums up what the other lacks
        ([*range(12), *range(6)], 2, [3, 3]),
        # every unit once in each row, but changed in one of them
        ([0, 1, 6, 7, 4, 5, 2, 3], 2, [2, 2]),
        ([0, 3, 4, 1], 2, []),
        ([*range(8)], 2, [4]),
    ],
)
def test_sums_over_a_part_of_several_copies(index: list[int], rows: int, sizes: list[int]) -> None:
    count = {18: 6, 8: 4, 4: 2}[len(index)]
    nodes = [
        node("MatMul", "x,a", "h"),
        node("Relu", "h", "r"),
        node("Concat", "h,r", "both", axis=1),
        node("Gather", "both,index", "taken", axis=1),
        node("Reshape", "taken,shape", "laid"),
        node("ReduceSum", "laid,last", "out", keepdims=0),
    ]
    places = {
        "index": np.array(index),
        "shape": np.array([0, rows, len(index) // rows]),
        "last": np.array([2]),
    }
    check(build(nodes, {"a": w(5, count), **places}, {"x": [3, 5]}), sizes, 1)


def test_a_weight_that_is_read_in_two_parts_of_its_rows() -> None:
    """Both parts have the units of one group: each element moves once."""
    nodes = [
        node("Reshape", "flat,shape", "whole"),
        node("Slice", "whole,zero,two,one", "left"),
        node("Slice", "whole,two,three,one", "right"),
        node("Transpose", "left", "a", perm=[1, 0]),
        node("Transpose", "right", "b", perm=[1, 0]),
        node("MatMul", "x,a", "p"),
        node("MatMul", "v,b", "q"),
        node("Add", "p,q", "r"),
        node("MatMul", "r,last", "out"),
    ]
    places = {"zero": [0], "one": [1], "two": [2], "three": [3], "shape": [5, 3]}
    weights = {"flat": w(15), "last": w(5, 3), **{k: np.array(v) for k, v in places.items()}}
    check(build(nodes, weights, {"x": [2, 2], "v": [2, 1]}), [5], 1)


def test_an_element_of_a_weight_that_is_read_alone() -> None:
    """One row of a weight speaks of all units; of the other row one element is read."""
    nodes = [
        node("MatMul", "x,a", "h"),
        node("Slice", "both,zero,one,zero", "first"),
        node("Transpose", "first", "turned", perm=[1, 0]),
        node("MatMul", "h,turned", "p"),
        node("Slice", "both,one,two,zero", "second"),
        node("Slice", "second,zero,one,one", "element"),
        node("Mul", "v,element", "q"),
        node("Add", "p,q", "out"),
    ]
    places = {"zero": [0], "one": [1], "two": [2]}
    weights = {"a": w(3, 6), "both": w(2, 6), **{k: np.array(v) for k, v in places.items()}}
    check(build(nodes, weights, {"x": [2, 3], "v": [2, 1]}), [5], 1)
    # what it is multiplied with keeps its freedom
    nodes[-2:] = [
        node("MatMul", "v,c", "k"),
        node("Mul", "k,element", "q"),
        node("MatMul", "q,d", "s"),
        node("Add", "p,s", "out"),
    ]
    weights |= {"c": w(2, 4), "d": w(4, 1)}
    check(build(nodes, weights, {"x": [2, 3], "v": [2, 2]}), [4, 5], 1)
