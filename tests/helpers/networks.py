"""Small networks whose weights are drawn by a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .builders import build, node


def perceptron(widths: tuple[int, ...] = (4, 6, 5), seed: int = 0, out: int = 3) -> onnx.ModelProto:
    """A perceptron with ReLU."""
    rng = np.random.default_rng(seed)
    nodes, weights, x = [], [], "x"
    for k, (i, o) in enumerate(zip(widths, (*widths[1:], out), strict=True)):
        weights.append(
            numpy_helper.from_array(rng.standard_normal((i, o)).astype(np.float32), f"w{k}")
        )
        weights.append(numpy_helper.from_array(rng.standard_normal(o).astype(np.float32), f"b{k}"))
        nodes.append(helper.make_node("Gemm", [x, f"w{k}", f"b{k}"], [f"h{k}"], name=f"gemm{k}"))
        x = f"h{k}"
        if k < len(widths) - 1:
            nodes.append(helper.make_node("Relu", [x], [f"r{k}"], name=f"relu{k}"))
            x = f"r{k}"
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", widths[0]])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch", out])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def loud_and_faint(seed: int = 0) -> onnx.ModelProto:
    """Two like branches that are summed up, one of them a hundredth as loud as the other."""
    shapes = {"w0": (64, 256), "w1": (256, 128), "v0": (64, 256), "v1": (256, 128)}
    arrays = drawn(seed, **shapes)
    scaled = {n: (a / a.shape[0] ** 0.5).astype(np.float32) for n, a in arrays.items()}
    nodes = []
    for k in "wv":
        nodes.append(node("MatMul", f"x,{k}0", f"{k}h"))
        nodes.append(node("Relu", f"{k}h", f"{k}r"))
        nodes.append(node("MatMul", f"{k}r,{k}1", f"{k}o"))
    nodes += [node("Mul", "vo,share", "p"), node("Add", "wo,p", "out")]
    return build(nodes, {**scaled, "share": np.float32(0.01)}, {"x": ["n", 64]})


RUN = {"a:0": 1, "b:0": 16, "c:0": 1}
"""How many columns of the next weight a unit has."""


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}


def with_weights(model: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
    result = onnx.ModelProto.FromString(model.SerializeToString())
    del result.graph.initializer[:]
    result.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    return result


def drawn(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Weights whose sums over all axes but the first are of size one."""
    rng = np.random.default_rng(seed)
    return {
        n: (rng.standard_normal(s) * np.prod(s[1:]) ** -0.5).astype(np.float32)
        for n, s in shapes.items()
    }


def convolutional(activation: str, seed: int) -> onnx.ModelProto:
    """Two convolutions and, after a flattening, two dense layers, of 16, 12 and 24 units."""
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["h"], pads=[1] * 4),
        helper.make_node(activation, ["h"], ["i"]),
        helper.make_node("Conv", ["i", "b", "bb"], ["j"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node(activation, ["j"], ["k"]),
        helper.make_node("Flatten", ["k"], ["f"]),
        helper.make_node("Gemm", ["f", "c", "cb"], ["l"], transB=1),
        helper.make_node(activation, ["l"], ["m"]),
        helper.make_node("Gemm", ["m", "d", "db"], ["out"], transB=1),
    ]
    biases = {"ab": (16,), "bb": (12,), "cb": (24,), "db": (10,)}
    weights = drawn(seed, a=(16, 3, 3, 3), b=(12, 16, 3, 3), c=(24, 192), d=(10, 24), **biases)
    return build(nodes, weights, {"x": [1, 3, 8, 8]})


INCOMING = {"a:0": ("a", "ab"), "b:0": ("b", "bb"), "c:0": ("c", "cb")}
OUTGOING = {"a:0": "b", "b:0": "c", "c:0": "d"}


def dense_net(seed: int, **given: np.ndarray) -> onnx.ModelProto:
    """Two hidden layers of 32 units."""
    rng = np.random.default_rng(seed)
    shapes = {"a": (16, 32), "b": (32,), "c": (32, 32), "d": (32, 4)}
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()} | given
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["i"]),
        helper.make_node("Relu", ["i"], ["j"]),
        helper.make_node("MatMul", ["j", "c"], ["k"]),
        helper.make_node("Relu", ["k"], ["l"]),
        helper.make_node("MatMul", ["l", "d"], ["out"]),
    ]
    return build(nodes, weights, {"x": [2, 16]})


def attention(seed: int, sizes: Sequence[float] = (1, 1), width: int = 4) -> onnx.ModelProto:
    """One layer of attention, biases on all its projections, and a dense layer behind it.

    Two heads of four dimensions, or as many as there are `sizes` of their weights.
    """
    rng = np.random.default_rng(seed)
    own = np.repeat(sizes, width)
    shapes = {"q": (8, own.size), "k": (8, own.size), "v": (8, own.size), "o": (own.size, 8)}
    scale = {"q": own, "k": own, "v": own, "o": own[:, None]}
    weights = {
        f"w{k}": (rng.standard_normal(shapes[k]) * scale[k]).astype(np.float32) for k in "qkvo"
    }
    weights |= {f"b{k}": rng.standard_normal(shapes[k][1]).astype(np.float32) for k in "qkvo"}
    weights |= {
        "d": rng.standard_normal((8, 3)).astype(np.float32),
        "heads": np.array([2, 5, len(sizes), width]),
        "back": np.array([2, 5, own.size]),
    }
    nodes = []
    for k in "qkv":
        nodes += [
            helper.make_node("MatMul", ["x", f"w{k}"], [f"m{k}"]),
            helper.make_node("Add", [f"m{k}", f"b{k}"], [f"a{k}"]),
        ]
        order = [0, 2, 3, 1] if k == "k" else [0, 2, 1, 3]
        nodes += [helper.make_node("Reshape", [f"a{k}", "heads"], [f"r{k}"])]
        nodes.append(helper.make_node("Transpose", [f"r{k}"], [k], perm=order))
    nodes += [
        helper.make_node("MatMul", ["q", "k"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["h"]),
        helper.make_node("Transpose", ["h"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "back"], ["f"]),
        helper.make_node("MatMul", ["f", "wo"], ["mo"]),
        helper.make_node("Add", ["mo", "bo"], ["o"]),
        helper.make_node("Relu", ["o"], ["u"]),
        helper.make_node("MatMul", ["u", "d"], ["out"]),
    ]
    return build(nodes, weights, {"x": [2, 5, 8]})


def stream(width: int, blocks: int, biases: bool, seed: int, stem: bool = True) -> onnx.ModelProto:
    """A residual stream of `width`, each block with a hidden layer of half of it.

    Without a stem nothing is anchored.
    """
    rng = np.random.default_rng(seed)
    weights = {
        "stem": rng.standard_normal((8, width)) if stem else np.ones((8, width)),
        "head": rng.standard_normal((width, 5)),
    }
    if not stem:
        weights["head"] = np.ones((width, 5))
    nodes = [helper.make_node("MatMul", ["x", "stem"], ["h"])]
    last = "h"
    for k in range(blocks):
        weights |= {
            f"a{k}": rng.standard_normal((width, width // 2)),
            f"b{k}": rng.standard_normal((width // 2, width)),
        }
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
        [
            numpy_helper.from_array((v / np.sqrt(width)).astype(np.float32), n)
            for n, v in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
