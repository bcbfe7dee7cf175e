"""Small dense networks and one layer of attention as nodes and weights, to be changed by a test."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

F = np.float32
Weights = dict[str, np.ndarray]


def model(
    nodes: list[onnx.NodeProto],
    weights: Weights,
    inputs: dict[str, list[int | str]],
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "verdict",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info("out", kind, None)],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def layers(activation: str = "Relu", seed: int = 0) -> tuple[list[onnx.NodeProto], Weights]:
    """Dense layers of 16 and 12 units."""
    rng = np.random.default_rng(seed)
    sizes = {"a": (16, 8), "ab": (16,), "b": (12, 16), "bb": (12,), "c": (4, 12), "cb": (4,)}
    weights = {n: (rng.standard_normal(s) / s[-1] ** 0.5).astype(F) for n, s in sizes.items()}
    nodes = [
        helper.make_node("Gemm", ["x", "a", "ab"], ["h"], transB=1),
        helper.make_node(activation, ["h"], ["i"]),
        helper.make_node("Gemm", ["i", "b", "bb"], ["j"], transB=1),
        helper.make_node("Relu", ["j"], ["k"]),
        helper.make_node("Gemm", ["k", "c", "cb"], ["out"], transB=1),
    ]
    return nodes, weights


X: dict[str, list[int | str]] = {"x": ["N", 8]}


def widened(weights: Weights, row: np.ndarray, bias: float, out: np.ndarray) -> Weights:
    """One more unit in the first layer."""
    more = {"a": np.concatenate([weights["a"], row[None]]), "ab": np.append(weights["ab"], F(bias))}
    return {**weights, **more, "b": np.concatenate([weights["b"], out[:, None]], 1).astype(F)}


def attention(weights: Weights, order: str = "qkv") -> onnx.ModelProto:
    """A head of self-attention behind a mask, its projections in any order."""
    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{n}"], [n]) for n in order),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "v"], ["out"]),
    ]
    return model(nodes, weights, {"x": ["N", 4, 8]})


def projections(seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    weights = {f"w{n}": (rng.standard_normal((8, 8)) / 8**0.5).astype(F) for n in "qkv"}
    return {**weights, "mask": np.triu(np.full((4, 4), -np.inf, F), 1)}
