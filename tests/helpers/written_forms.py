"""Programs that are written in many ways, and their normal form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.equality.comparison import pair_graphs
from lady_onnx.graph.loading import load_graph
from lady_onnx.normalform.algebra import constants
from lady_onnx.normalform.algebra.constants import _is_rounded_too_often
from lady_onnx.normalform.form import NEWEST, OLDEST, build_normal_form

F = np.float32
Nodes = Sequence[onnx.NodeProto]


def form(model: onnx.ModelProto, exact: bool = False) -> onnx.ModelProto:
    graph = load_graph(model)
    return build_normal_form(graph, max(OLDEST, min(graph.opset(), NEWEST)), exact).graph.to_model(
        ""
    )


def holds(model: onnx.ModelProto) -> None:
    for exact in (True, False):
        refused: list[bool] = []

        def judge(*args: Any, refused: list[bool] = refused) -> bool:
            refused.append(_is_rounded_too_often(*args))
            return refused[-1]

        with mock.patch.object(constants, "_is_rounded_too_often", judge):
            made = form(model, exact)
        assert lady.verify(model, made, samples=2, tolerance=1e-4).equal
        # What is in normal form already stays as it is; but a file holds no bounds for the rounding
        # of its constants, so that one which was refused for them is computed the next time.
        again = form(made, exact)
        assert any(refused) or not pair_graphs(load_graph(made), load_graph(again)).differences


def model(
    nodes: Nodes, shape: Sequence[int | str], opset: int = 17, **constants: Any
) -> onnx.ModelProto:
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape)),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(operator: str, inputs: str, output: str = "y", **given_: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **given_)


RNG = np.random.default_rng(0)
W, B = RNG.standard_normal((6, 5)).astype(F), RNG.standard_normal(5).astype(F)
K, C = RNG.standard_normal((4, 3, 3, 3)).astype(F), RNG.standard_normal(4).astype(F)
G, M, V = (RNG.random(4).astype(F) + F(0.5) for _ in range(3))
S = G / np.sqrt(V + F(1e-5))


def spelled_norm(last: str) -> list[onnx.NodeProto]:
    nodes = [
        node("ReduceMean", "x", "m", axes=[-1]),
        node("Sub", "x m", "d"),
        node("Pow", "d two", "s"),
    ]
    nodes += [
        node("ReduceMean", "s", "v", axes=[-1]),
        node("Add", "v eps", "w"),
        node("Sqrt", "w", "r"),
    ]
    ends = (
        [node("Div", "d r", "n")]
        if last == "Div"
        else [node("Reciprocal", "r", "q"), node("Mul", "q d", "n")]
    )
    return [*nodes, *ends, node("Mul", "n g", "o"), node("Add", "o b")]


NUMBERS = {"two": F(2), "eps": F(1e-5), "g": W[:, 0], "b": W[:, 1]}


GELU = [
    node("Div", "x root", "d"),
    node("Erf", "d", "e"),
    node("Add", "e one", "p"),
    node("Mul", "x p", "m"),
    node("Mul", "m half"),
]
