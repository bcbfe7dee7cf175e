"""Where units went: streams, noise, and copies that were altered in ways that can be read off their weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.alterations import prune, quantize
from lady_onnx.graph import Graph, load
from lady_onnx.rewrite import Family, invert

from . import real


def stream(width: int, blocks: int, biases: bool, seed: int, stem: bool = True) -> onnx.ModelProto:
    """A residual stream of `width`, each block with a hidden layer of half of it; without a stem nothing is anchored."""
    rng = np.random.default_rng(seed)
    weights = {"stem": rng.standard_normal((8, width)) if stem else np.ones((8, width)), "head": rng.standard_normal((width, 5))}
    if not stem:
        weights["head"] = np.ones((width, 5))
    nodes = [helper.make_node("MatMul", ["x", "stem"], ["h"])]
    last = "h"
    for k in range(blocks):
        weights |= {f"a{k}": rng.standard_normal((width, width // 2)), f"b{k}": rng.standard_normal((width // 2, width))}
        inner = [helper.make_node("MatMul", [last, f"a{k}"], [f"m{k}"])]
        if biases:
            weights[f"c{k}"] = rng.standard_normal(width // 2)
            inner.append(helper.make_node("Add", [f"m{k}", f"c{k}"], [f"n{k}"]))
        inner.append(helper.make_node("Relu", [inner[-1].output[0]], [f"r{k}"]))
        inner.append(helper.make_node("MatMul", [f"r{k}", f"b{k}"], [f"o{k}"]))
        nodes += [*inner, helper.make_node("Add", [last, f"o{k}"], [f"h{k}"])]
        last = f"h{k}"
    nodes.append(helper.make_node("MatMul", [last, "head"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "stream",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])],
        [numpy_helper.from_array((v / np.sqrt(width)).astype(np.float32), n) for n, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def noised(graph: Graph, names: list[str], level: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in names:
        array = graph.array(name)
        graph.replace(name, (array + level * array.std() * rng.standard_normal(array.shape)).astype(array.dtype))


def placed(reference: Graph, shuffled: lady.Permuted, found: lady.Resync) -> float:
    """The share of units that are back in their place."""
    truth = invert(Family(shuffled.symmetry.groups), shuffled.permutations)
    right = [found.permutations[g.id] == truth[g.id] for g in shuffled.symmetry.groups]
    return float(np.concatenate(right).mean())


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("stem", [True, False])
def test_residual_streams_come_back_exactly(biases: bool, stem: bool) -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        model = stream(int(rng.integers(30, 193)), int(rng.integers(1, 13)), biases, seed, stem)
        result = lady.resync(model, lady.permute(model, seed).model, verify="none")
        assert result.exact, seed
