"""Models that hold one operator, on a feature map or made from nothing."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

C, H = 6, 4
"""Channels and height of the map that operators are tried on; no two sizes happen to be equal."""


RESULTS = {"TopK": 2, "DynamicQuantizeLinear": 3, "Split": 2}
"""How many results an operator must have, if more than one."""


def build_model(
    op: str,
    extra: list[object],
    attributes: dict[str, object],
    opset: int,
    before: str | None = None,
) -> onnx.ModelProto:
    """Conv -> op -> average over space -> Gemm, with C hidden channels."""
    rng = np.random.default_rng(0)
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def weight(array: np.ndarray) -> str:
        name = f"w{len(weights)}"
        weights.append(numpy_helper.from_array(array, name))
        return name

    def feature(kind: str | None) -> str:
        name = f"map{len(nodes)}"
        w = weight((0.5 * rng.standard_normal((C, 3, 1, 1))).astype(np.float32))
        nodes.append(helper.make_node("Conv", ["x", w], [name]))
        for step in {"positive": ("Sigmoid", "Exp"), "bounded": ("Sin", "Sigmoid")}.get(
            kind or "", ()
        ):
            nodes.append(helper.make_node(step, [name], [name + step]))
            name += step
        if kind == "bool":
            limit = weight(rng.standard_normal((C, 1, 1)).astype(np.float32))
            nodes.append(helper.make_node("Greater", [name, limit], [name + "b"]))
            name += "b"
        if kind == "int":
            nodes.append(helper.make_node("Cast", [name], [name + "i"], to=TensorProto.INT32))
            name += "i"
        if kind == "uint":
            nodes.append(helper.make_node("Abs", [name], [name + "a"]))
            nodes.append(helper.make_node("Cast", [name + "a"], [name + "u"], to=TensorProto.UINT8))
            name += "u"
        if kind == "square":
            weights.append(numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 1, 0]), "square"))
            nodes.append(helper.make_node("Pad", [name, "square"], [name + "s"]))
            name += "s"
        if kind == "pooled":
            nodes.append(helper.make_node("GlobalAveragePool", [name], [name + "g"]))
            nodes.append(helper.make_node("Flatten", [name + "g"], [name + "f"]))
            name += "f"
        if kind in ("columns", "real"):
            shape = [1, C, H * 5] if kind == "columns" else [1, C, H, 5, 1]
            weights.append(numpy_helper.from_array(np.array(shape), "wanted"))
            nodes.append(helper.make_node("Reshape", [name, "wanted"], [name + "r"]))
            name += "r"
        return name

    inputs = [feature(before)]
    for e in extra:
        if isinstance(e, str):
            inputs.append(feature(None if op == "Where" else before))
        else:
            inputs.append("" if e is None else weight(np.asarray(e)))
    nodes.append(
        helper.make_node(op, inputs, ["y", "y1", "y2"][: RESULTS.get(op, 1)], **attributes)
    )
    nodes.append(helper.make_node("Cast", ["y"], ["yf"], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "rule",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, H, 5])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output[0].name = "yf"
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    shape = session.run(None, {"x": np.zeros((1, 3, H, 5), np.float32)})[0].shape
    # a consumer with a weight for every element, so that no order can change unnoticed
    n = int(np.prod(shape))
    model.graph.node.append(helper.make_node("Reshape", ["yf", "flat"], ["row"]))
    model.graph.node.append(helper.make_node("MatMul", ["row", "last"], ["out"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, n]), "flat"))
    model.graph.initializer.append(
        numpy_helper.from_array(rng.standard_normal((n, 3)).astype(np.float32), "last")
    )
    return model


FROM_NOTHING = (
    "BlackmanWindow",
    "HammingWindow",
    "HannWindow",
    "EyeLike",
    "MelWeightMatrix",
    "AffineGrid",
)


def made_from_nothing(op: str) -> onnx.ModelProto:
    """What an operator makes from sizes alone has an order: channels that meet it keep theirs."""
    inputs = {
        "BlackmanWindow": ["six"],
        "HammingWindow": ["six"],
        "HannWindow": ["six"],
        "EyeLike": ["square"],
    }.get(op)
    weights = {
        "six": np.array(6),
        "square": np.zeros((6, 6), np.float32),
        "a": np.ones((3, 6), np.float32),
    }
    if op == "MelWeightMatrix":
        weights |= {f"m{i}": np.array(v) for i, v in enumerate((6, 16, 8000, 0.0, 4000.0))}
        inputs = [f"m{i}" for i in range(5)]
    if op == "AffineGrid":
        weights |= {"theta": np.ones((1, 2, 3), np.float32), "size": np.array([1, 1, 2, 6])}
        inputs = ["theta", "size"]
    rng = np.random.default_rng(0)
    weights["a"] = rng.standard_normal((3, 6)).astype(np.float32)
    weights["b"] = rng.standard_normal((6, 2)).astype(np.float32)
    last = {"MelWeightMatrix": [9, 6], "AffineGrid": [4, 6]}.get(op)
    nodes = [helper.make_node(op, inputs or [], ["w"])]
    if last:
        weights["shape"] = np.array([*last])
        nodes += [
            helper.make_node("Reshape", ["w", "shape"], ["r"]),
            helper.make_node("ReduceSum", ["r", "nought"], ["v"], keepdims=0),
        ]
        weights["nought"] = np.array([0])
    nodes += [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Mul", ["h", "v" if last else "w"], ["m"]),
        helper.make_node("MatMul", ["m", "b"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "source",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [6, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(a.astype(np.float32) if a.dtype == np.float64 else a, n)
            for n, a in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
