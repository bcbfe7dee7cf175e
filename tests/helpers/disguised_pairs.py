"""Pairs of models that compute different things, and ways to write a model differently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

import lady_onnx as lady

from . import oracle
from .layers import F, model

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


@dataclass(frozen=True)
class Pair:
    """A reference, a suspect, and an input that tells them apart."""

    reference: ModelProto
    suspect: ModelProto
    sample: dict[str, np.ndarray]


def w(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(F)


def value(
    name: str, shape: list[int | str] | None = None, kind: int = FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def node(op: str, inputs: str, outputs: str, **attributes: object) -> NodeProto:
    return helper.make_node(
        op, inputs.split(), outputs.split(), name=f"n_{op}_{outputs}", **attributes
    )


def copied(whole: ModelProto) -> ModelProto:
    return ModelProto.FromString(whole.SerializeToString())


def inputs_of_a_scan_body() -> Pair:
    def built(*order: int) -> ModelProto:
        inputs = [value("v", [1, 5]), value("s", [1, 5])]
        nodes = [node("Sub", "s v", "d"), node("Tanh", "d", "v2"), node("Identity", "v2", "seen")]
        body = helper.make_graph(
            nodes, "body", [inputs[k] for k in order], [value("v2"), value("seen")]
        )
        outer = [
            node("MatMul", "x a", "h"),
            node("Scan", "start h", "last all", body=body, num_scan_inputs=1),
        ]
        outer.append(node("MatMul", "all b", "out"))
        return model(outer, {"a": w(3, 5), "b": w(5, 2), "start": w(1, 5)}, {"x": [4, 1, 3]})

    return Pair(built(0, 1), built(1, 0), {"x": w(4, 1, 3)})


def with_identity(whole: ModelProto) -> ModelProto:
    """The model with one node more, behind its first input."""
    found = copied(whole)
    name = found.graph.input[0].name
    reader = next(n for n in found.graph.node if name in n.input)
    reader.input[list(reader.input).index(name)] = "the same"
    found.graph.node.insert(0, helper.make_node("Identity", [name], ["the same"]))
    return found


def accepts(reference: ModelProto | Path, suspect: ModelProto | Path) -> bool:
    """A model that is refused is not accepted."""
    try:
        return lady.check(reference, suspect).accepted
    except lady.LadyError:
        return False


def is_different(pair: Pair) -> bool:
    """Does onnxruntime give other outputs, optimised or not?"""
    words = []
    for is_optimised in (False, True):
        sessions = [
            oracle.opened(m.SerializeToString(), is_optimised)
            for m in (pair.reference, pair.suspect)
        ]
        words.append(oracle.judge(*sessions, [pair.sample])[0])
    return oracle.DIFFERENT in words


def shuffled(whole: ModelProto) -> ModelProto:
    """The model with its units in another order, where it is read and has groups."""
    try:
        return lady.permute(whole, 1).model
    except lady.LadyError:
        return whole


WRITTEN: dict[str, Callable[[ModelProto], ModelProto]] = {
    "plainly": copied,
    "with an Identity": with_identity,
    "shuffled": shuffled,
    "shuffled, with an Identity": lambda whole: shuffled(with_identity(whole)),
}
