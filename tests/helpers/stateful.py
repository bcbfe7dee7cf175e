"""Small models whose outputs are fed back: recurrent layers, a written cell, a cache of sound."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

F = np.float32
Shapes = dict[str, list[int | str]]


def make_stateful(
    nodes: list[NodeProto], weights: dict[str, np.ndarray], inputs: Shapes, outputs: Shapes
) -> onnx.ModelProto:
    sides = (
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in side.items()]
        for side in (inputs, outputs)
    )
    initializers = [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "stateful", *sides, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def draw_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {n: (rng.standard_normal(s) / s[-1] ** 0.5).astype(F) for n, s in shapes.items()}


def make_gru() -> onnx.ModelProto:
    """One layer of 6 units; its state is its only way to remember."""
    nodes = [
        helper.make_node("GRU", ["x", "w", "r", "b", "", "h0"], ["ys", "hn"], hidden_size=6),
        helper.make_node("Squeeze", ["ys", "one"], ["flat"]),
        helper.make_node("MatMul", ["flat", "out"], ["y"]),
    ]
    shapes = {"w": (1, 18, 5), "r": (1, 18, 6), "b": (1, 36), "out": (6, 3)}
    weights = {**draw_weights(shapes), "one": np.array([1])}
    inputs: Shapes = {"x": ["time", "batch", 5], "h0": [1, "batch", 6]}
    return make_stateful(nodes, weights, inputs, {"y": ["time", "batch", 3], "hn": [1, "batch", 6]})


def make_stacked_lstm() -> onnx.ModelProto:
    """Two layers of 6 units, whose states lie side by side."""
    nodes = [
        helper.make_node("Split", ["h0"], ["ha", "hb"], axis=0),
        helper.make_node("Split", ["c0"], ["ca", "cb"], axis=0),
    ]
    shapes: dict[str, tuple[int, ...]] = {"out": (6, 3)}
    name = "x"
    for k, width in (("a", 5), ("b", 6)):
        operands = [name, f"w{k}", f"r{k}", f"b{k}", "", f"h{k}", f"c{k}"]
        results = [f"ys{k}", f"h{k}n", f"c{k}n"]
        nodes += [
            helper.make_node("LSTM", operands, results, hidden_size=6),
            helper.make_node("Squeeze", [f"ys{k}", "one"], [f"flat{k}"]),
        ]
        shapes |= {f"w{k}": (1, 24, width), f"r{k}": (1, 24, 6), f"b{k}": (1, 48)}
        name = f"flat{k}"
    nodes += [
        helper.make_node("Concat", ["han", "hbn"], ["hn"], axis=0),
        helper.make_node("Concat", ["can", "cbn"], ["cn"], axis=0),
        helper.make_node("MatMul", [name, "out"], ["y"]),
    ]
    weights = {**draw_weights(shapes), "one": np.array([1])}
    state: list[int | str] = [2, "batch", 6]
    inputs: Shapes = {"x": ["time", "batch", 5], "h0": state, "c0": state}
    return make_stateful(
        nodes, weights, inputs, {"y": ["time", "batch", 3], "hn": state, "cn": state}
    )


def make_cell() -> onnx.ModelProto:
    """A cell of 6 units that is spelled out: its state is known only if it is given."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["state", "r"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Tanh", ["c"], ["next_state"]),
        helper.make_node("MatMul", ["next_state", "out"], ["y"]),
    ]
    weights = draw_weights({"w": (5, 6), "r": (6, 6), "out": (6, 3)})
    inputs: Shapes = {"x": ["batch", 5], "state": ["batch", 6]}
    return make_stateful(nodes, weights, inputs, {"y": ["batch", 3], "next_state": ["batch", 6]})


def make_streaming(is_turned: bool = False) -> onnx.ModelProto:
    """Two convolutions over sound; what the second one saw last of 6 channels is kept in a cache.

    Args:
        is_turned: Whether the cache leaves with its channels in another order than it came with.
    """
    kept = "turned" if is_turned else "sound_cache_next"
    nodes = [
        helper.make_node("Conv", ["x", "w", "wb"], ["a"]),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("Concat", ["sound_cache", "h"], ["all"], axis=2),
        helper.make_node("Conv", ["all", "v"], ["b"], kernel_shape=[3]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "out"], ["y"]),
        helper.make_node("Slice", ["all", "from", "to", "axis"], [kept]),
    ]
    if is_turned:
        nodes.append(helper.make_node("Gather", [kept, "order"], ["sound_cache_next"], axis=1))
    weights = {
        **draw_weights({"w": (6, 2, 1), "wb": (6,), "v": (7, 6, 3), "out": (3, 7, 1)}),
        **{"from": np.array([-2]), "to": np.array([1 << 40]), "axis": np.array([2])},
    }
    if is_turned:
        weights["order"] = np.array([1, 0, 2, 3, 4, 5])
    inputs: Shapes = {"x": ["batch", 2, "time"], "sound_cache": ["batch", 6, 2]}
    return make_stateful(
        nodes, weights, inputs, {"y": ["batch", 3, "time"], "sound_cache_next": ["batch", 6, 2]}
    )


def make_sliding() -> onnx.ModelProto:
    """One place at a time; the last 3 of 6 channels are kept, as a state space model does."""
    nodes = [
        helper.make_node("MatMul", ["wt", "x"], ["h"]),
        helper.make_node("Concat", ["past_conv.0", "h"], ["all"], axis=2),
        helper.make_node("Slice", ["all", "from", "to", "axis"], ["present_conv.0"]),
        helper.make_node("Mul", ["all", "k"], ["m"]),
        helper.make_node("ReduceSum", ["m", "axis"], ["c"], keepdims=0),
        helper.make_node("MatMul", ["c", "out"], ["y"]),
    ]
    weights = {
        **draw_weights({"wt": (6, 5), "k": (6, 4), "out": (6, 3)}),
        **{"from": np.array([1]), "to": np.array([4]), "axis": np.array([2])},
    }
    inputs: Shapes = {"x": ["batch", 5, 1], "past_conv.0": ["batch", 6, 3]}
    return make_stateful(
        nodes, weights, inputs, {"y": ["batch", 3], "present_conv.0": ["batch", 6, 3]}
    )
