"""What is done to single units, and where it is found."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

import lady_onnx as lady
from lady_onnx.diagnosis.findings import TAMPERING
from lady_onnx.graph.model import Graph
from lady_onnx.groups.model import Group

from .builders import build
from .networks import drawn


def changed(graph: Graph, group: Group, unit: int, factors: dict[str, float]) -> Graph:
    """One unit of a group multiplied in some weights."""
    result = graph.copy()
    for slot in group.slots:
        if slot.initializer in factors:
            array = result.array(slot.initializer).copy()
            np.moveaxis(array, slot.axis, 0)[slot.index[unit]] *= array.dtype.type(
                factors[slot.initializer]
            )
            result.replace(slot.initializer, array)
    return result


def wide(seed: int) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Dense layers of 64 and 48 units behind ReLUs."""
    nodes = [
        helper.make_node("Gemm", ["x", "a", "ab"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("Gemm", ["i", "b", "bb"], ["j"], transB=1),
        helper.make_node("Relu", ["j"], ["k"]),
        helper.make_node("Gemm", ["k", "c", "cb"], ["out"], transB=1),
    ]
    return nodes, drawn(seed, a=(64, 64), ab=(64,), b=(48, 64), bb=(48,), c=(10, 48), cb=(10,))


def tampering(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], changed: dict[str, np.ndarray]
) -> set[tuple[str, int | None]]:
    """Where tampering is found in a shuffled copy with these weights."""
    model = build(nodes, weights, {"x": [2, 64]})
    suspect = build(nodes, {n: w.astype(np.float32) for n, w in changed.items()}, {"x": [2, 64]})
    found = lady.check(model, lady.permute(suspect, 1).graph)
    assert found.resync is not None
    odd = {(f.slot, f.unit) for f in found.resync.integrity if f.kind in TAMPERING}
    assert bool(odd) == (found.verdict == "tampered")
    return odd
