"""Cases of fused operators: each a model and the sizes of the groups that it must have."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(5)
C, T = 6, 4
"""Channels and places of the feature map that every operator is tried on."""


def w(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / 2).astype(np.float32)


def u8(*shape: int) -> np.ndarray:
    return RNG.integers(0, 255, shape).astype(np.uint8)


def i8(*shape: int) -> np.ndarray:
    return RNG.integers(-127, 127, shape).astype(np.int8)


SCALE, ZERO = np.array(0.1, np.float32), np.array(3, np.uint8)
SEQUENCE, MAP, BYTES, BYTE_MAP, ROWS = "sequence", "map", "bytes", "byte map", "rows"
LAST, BYTE_LAST = "channels last", "bytes, channels last"
"""What the operator is given.

[1, T, C], [1, C, T, 5], the same in bytes, [T, C] in bytes; [1, T, 5, C], and that in bytes.
"""
QPAIR = [SCALE, ZERO]
POOLED_QPAIR = [np.float32(np.pi / 40), ZERO]
"""The scale and zero point of pooled bytes.

At the scale of the bytes themselves, a mean may lie exactly between two bytes. There onnxruntime's
kernel rounds it up or down, and its plain form need not do the same.
"""
QCONV = [np.abs(w(7)), np.zeros(7, np.int8), *QPAIR, RNG.integers(-99, 99, 7).astype(np.int32)]
"""Scales and zero points of a weight and of the result, and the bias."""
# operator, kind of the map, further operands ("same" for a second map), attributes, results, sizes
# of the groups
CASES: list[tuple[str, str, list[object], dict[str, object], int, list[int]]] = [
    ("Gelu", SEQUENCE, [], {}, 1, [C]),
    ("QuickGelu", SEQUENCE, [], {"alpha": 1.7}, 1, [C]),
    ("FastGelu", SEQUENCE, [w(C)], {}, 1, [C]),
    ("BiasGelu", SEQUENCE, [w(C)], {}, 1, [C]),
    ("FusedMatMul", SEQUENCE, [w(7, C)], {"transB": 1, "alpha": 0.5}, 1, [C, 7]),
    ("FusedMatMul", MAP, ["same"], {"transBatchA": 1, "transBatchB": 1, "transB": 1}, 1, [C]),
    ("FusedMatMul", MAP, ["same"], {"transBatchA": 1, "transBatchB": 1, "transA": 1}, 1, [C]),
    ("FusedGemm", "floats", [w(C, 7), w(7)], {"activation": "Relu"}, 1, [C, 7]),
    (
        "FusedConv",
        MAP,
        [w(7, C, 3, 3), w(7)],
        {"activation": "Relu", "pads": [1] * 4, "kernel_shape": [3, 3]},
        1,
        [C, 7],
    ),
    (
        "FusedConv",
        MAP,
        [w(C, C, 1, 1), w(C), "same"],
        {"activation": "Relu", "kernel_shape": [1, 1]},
        1,
        [C, C],
    ),
    ("SkipLayerNormalization", SEQUENCE, ["same", w(C), w(C), w(C)], {}, 1, [C]),
    ("SkipLayerNormalization", SEQUENCE, [w(T, C), w(C)], {}, 1, [C]),
    ("SkipSimplifiedLayerNormalization", SEQUENCE, ["same", w(C)], {}, 1, [C]),
    ("Attention", SEQUENCE, [w(C, 24), w(24)], {"num_heads": 2}, 1, [C, 2, *[4] * 4]),
    (
        "Attention",
        SEQUENCE,
        [w(C, 20), w(20)],
        {"num_heads": 2, "qkv_hidden_sizes": [6, 6, 8]},
        1,
        [C, 2, 3, 3, 4, 4],
    ),
    ("MultiHeadAttention", SEQUENCE, ["same", "same", w(18)], {"num_heads": 2}, 1, [2, *[3] * 4]),
    ("DynamicQuantizeMatMul", SEQUENCE, [u8(C, 7), np.float32(0.1), ZERO, w(7)], {}, 1, [C, 7]),
    ("DynamicQuantizeMatMul", SEQUENCE, [i8(C, 7), np.abs(w(7)), i8(7)], {}, 1, [C, 7]),
    (
        "MatMulIntegerToFloat",
        ROWS,
        [i8(C, 7), SCALE, np.abs(w(7)), ZERO, i8(7), w(7)],
        {},
        1,
        [C, 7],
    ),
    (
        "QGemm",
        ROWS,
        [*QPAIR, i8(7, C), np.abs(w(7)), i8(7), RNG.integers(-99, 99, 7).astype(np.int32), *QPAIR],
        {"transB": 1},
        1,
        [C, 7],
    ),
    ("QLinearAdd", BYTE_MAP, [*QPAIR, u8(C, 1, 1), *QPAIR, *QPAIR], {}, 1, [C]),
    ("QLinearMul", BYTE_MAP, [*QPAIR, u8(C, 1, 1), *QPAIR, *QPAIR], {}, 1, [C]),
    ("QLinearSigmoid", BYTE_MAP, [*QPAIR, *QPAIR], {}, 1, [C]),
    ("QLinearLeakyRelu", BYTE_MAP, [*QPAIR, *QPAIR], {}, 1, [C]),
    ("QLinearAveragePool", BYTE_MAP, [*QPAIR, *POOLED_QPAIR], {"kernel_shape": [2, 2]}, 1, [C]),
    ("QLinearGlobalAveragePool", BYTE_MAP, [*QPAIR, *POOLED_QPAIR], {}, 1, [C]),
    (
        "QLinearAveragePool",
        BYTE_LAST,
        [*QPAIR, *POOLED_QPAIR],
        {"kernel_shape": [2, 2], "channels_last": 1},
        1,
        [C],
    ),
    ("QLinearGlobalAveragePool", BYTE_LAST, [*QPAIR, *POOLED_QPAIR], {"channels_last": 1}, 1, [C]),
    ("NhwcMaxPool", BYTE_LAST, [], {"kernel_shape": [2, 2]}, 1, [C]),
    (
        "QLinearConv",
        BYTE_LAST,
        [*QPAIR, i8(7, C, 3, 3), *QCONV],
        {"channels_last": 1, "pads": [1] * 4},
        1,
        [C, 7],
    ),
    ("QLinearConv", BYTE_MAP, [*QPAIR, i8(7, C, 3, 3), *QCONV], {}, 1, [C, 7]),
    ("QLinearSoftmax", BYTE_MAP, [*QPAIR, *QPAIR], {"axis": 1, "opset": 13}, 1, [C]),
    ("QLinearConcat", BYTE_MAP, [*QPAIR, u8(1, 3, T, 5), *QPAIR], {"axis": 1}, 1, [3, C]),
    (
        "QAttention",
        ROWS,
        [i8(C, 18), w(18), SCALE, np.float32(0.02), "none", ZERO],
        {"num_heads": 2},
        1,
        [C, 2, *[3] * 4],
    ),
    (
        "MatMulNBits",
        SEQUENCE,
        [u8(7, 1, 8), np.abs(w(7))],
        {"K": C, "N": 7, "bits": 4, "block_size": 16},
        1,
        [C, 7],
    ),
]


def build_model(
    op: str, kind: str, extra: list[object], attributes: dict[str, object], results: int
) -> onnx.ModelProto:
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def weight(array: object) -> str:
        weights.append(numpy_helper.from_array(np.asarray(array), f"w{len(weights)}"))
        return weights[-1].name

    def feature() -> str:
        name = f"map{len(nodes)}"
        if kind in (MAP, BYTE_MAP, LAST, BYTE_LAST):
            nodes.append(helper.make_node("Conv", ["x", weight(w(C, 3, 1, 1))], [name]))
            if kind in (LAST, BYTE_LAST):
                nodes.append(helper.make_node("Transpose", [name], [f"{name}t"], perm=[0, 2, 3, 1]))
                name += "t"
        else:
            nodes.append(helper.make_node("MatMul", ["x", weight(w(3, C))], [name]))
        if kind in (BYTES, BYTE_MAP, BYTE_LAST, ROWS):
            nodes.append(
                helper.make_node(
                    "QuantizeLinear",
                    [name, weight(np.float32(0.05)), weight(np.uint8(120))],
                    [f"{name}q"],
                )
            )
            name += "q"
        return name

    inputs = [feature()]
    if op == "QLinearConcat":
        # the scale and the zero point of the result come first
        inputs = [weight(SCALE), weight(ZERO), inputs[0]]
    for e in extra:
        inputs.append(weight(e) if not isinstance(e, str) else feature() if e == "same" else "")
    outputs = [f"y{i}" for i in range(results)]
    nodes.append(helper.make_node(op, inputs, outputs, domain="com.microsoft", **attributes))
    nodes.append(helper.make_node("Cast", ["y0"], ["yf"], to=TensorProto.FLOAT))
    picture = kind in (MAP, BYTE_MAP, LAST, BYTE_LAST)
    shape = [1, 3, T, 5] if picture else [T, 3] if kind in ("floats", ROWS) else [1, T, 3]
    if op == "QAttention":
        shape = [1, T, 3]
    graph = helper.make_graph(
        nodes,
        "fused",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("yf", TensorProto.FLOAT, None)],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    # a consumer with a weight for every element, so that no order can change unnoticed
    from onnxruntime import InferenceSession

    running = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    n = running.run(None, {"x": np.ones(shape, np.float32)})[0].size
    model.graph.output[0].name = "out"
    model.graph.node.append(helper.make_node("Reshape", ["yf", "flat"], ["row"]))
    model.graph.node.append(helper.make_node("MatMul", ["row", "last"], ["out"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, n]), "flat"))
    model.graph.initializer.append(numpy_helper.from_array(w(n, 3), "last"))
    return model


def build_network(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    opset: int = 17,
    shape: tuple[int, ...] = (1, T, C),
) -> onnx.ModelProto:
    """A model of these nodes, from `x` of this shape to `out`."""
    graph = helper.make_graph(
        nodes,
        "fused",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 21 else 10)


GROUPED_QUERIES = [(packed, turn) for packed in (False, True) for turn in ("", "halves", "pairs")]


def grouped_queries(packed: bool, turn: str) -> tuple[onnx.ModelProto, list[int]]:
    """Two key heads, two queries each, with or without rotation, from one product or from three."""
    heads, keys, d = 4, 2, 16
    widths = {"q": heads * d, "k": keys * d, "v": keys * d}
    weights = {
        "wo": w(heads * d, 3),
        "lengths": np.array([T - 1], np.int32),
        "total": np.array(T, np.int32),
    }
    if packed:
        weights["w"] = w(C, sum(widths.values()))
        nodes, inputs = [helper.make_node("MatMul", ["x", "w"], ["q"])], ["q", "", ""]
    else:
        weights |= {f"w{n}": w(C, width) for n, width in widths.items()}
        nodes, inputs = (
            [helper.make_node("MatMul", ["x", f"w{n}"], [n]) for n in widths],
            list(widths),
        )
    inputs += ["", "", "lengths", "total"]
    if turn:
        weights |= {"cos": w(8, d // 2), "sin": w(8, d // 2)}
        inputs += ["cos", "sin"]
    attributes = {
        "num_heads": heads,
        "kv_num_heads": keys,
        "do_rotary": int(bool(turn)),
        "rotary_interleaved": int(turn == "pairs"),
    }
    nodes.append(
        helper.make_node(
            "GroupQueryAttention", inputs, ["y", "pk", "pv"], domain="com.microsoft", **attributes
        )
    )
    nodes.append(helper.make_node("MatMul", ["y", "wo"], ["out"]))
    inner = [d // 2] if turn else [d] * keys
    return build_network(nodes, weights), sorted(
        [keys, *[heads // keys] * keys, *inner, *[d] * keys]
    )


BLOCKS = [(zeros, flat) for zeros in (False, True) for flat in (False, True)]


def blocks(zeros: bool, flat: bool) -> tuple[onnx.ModelProto, list[int]]:
    """Weights of four bits in three blocks of sixteen rows.

    Rows of a block may change places, and blocks, unless zero points in one row leave the last byte
    half full.
    """
    weights = {"a": w(C, 48), "b": u8(7, 3, 8), "scales": np.abs(w(7, 3)), "last": w(7, 3)}
    if flat:
        weights["scales"] = weights["scales"].reshape(-1)
    inputs = ["h", "b", "scales"]
    if zeros:
        weights["zeros"] = u8(7 * 2) if flat else u8(7, 2)
        inputs.append("zeros")
    attributes = {"K": 48, "N": 7, "bits": 4, "block_size": 16}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", **attributes),
        helper.make_node("MatMul", ["y", "last"], ["out"]),
    ]
    return build_network(nodes, weights), [*([] if zeros and flat else [3]), 7, 16, 16, 16]


ROTATIONS = [(turned, pairs) for turned in (4, 6) for pairs in (False, True)]


def rotation(turned: int, pairs: bool, apart: bool = False) -> tuple[onnx.ModelProto, list[int]]:
    """Two heads of six, of which some dimensions turn.

    Heads may change places pair by pair, what does not turn is free.
    """
    heads, d = 2, 6
    weights = {
        "wq": w(C, heads * d),
        "ids": np.array([1]),
        "cos": w(8, turned // 2),
        "sin": w(8, turned // 2),
    }
    weights["wo"] = w(heads * d, 3)
    attributes = {"num_heads": heads, "rotary_embedding_dim": turned, "interleaved": int(pairs)}
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node(
            "RotaryEmbedding",
            ["q", "ids", "cos", "sin"],
            ["y"],
            domain="com.microsoft",
            **attributes,
        ),
        helper.make_node("MatMul", ["y", "wo"], ["out"]),
    ]
    if apart:
        # [batch, heads, places, dimensions]
        weights |= {"split": np.array([1, T, heads, d]), "joined": np.array([1, T, heads * d])}
        nodes[1].input[0], nodes[1].output[0] = "turned", "z"
        nodes[1:2] = [
            helper.make_node("Reshape", ["q", "split"], ["heads"]),
            helper.make_node("Transpose", ["heads"], ["turned"], perm=[0, 2, 1, 3]),
            nodes[1],
            helper.make_node("Transpose", ["z"], ["back"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", ["back", "joined"], ["y"]),
        ]
    free = [heads * (d - turned)] if turned < d else []
    return build_network(nodes, weights), sorted([*[heads] * (turned // 2), turned // 2, *free])


def embeddings() -> tuple[onnx.ModelProto, list[int]]:
    """Words, places and kinds keep their rows; the width is one stream."""
    weights = {
        "words": w(9, C),
        "places": w(8, C),
        "kinds": w(2, C),
        "gain": w(C),
        "shift": w(C),
        "last": w(C, 3),
    }
    weights |= {"low": np.array(0, np.float32), "high": np.array(8, np.float32)}
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["ids"], to=TensorProto.INT32),
        helper.make_node("Sub", ["ids", "ids"], ["kind"]),
        helper.make_node(
            "EmbedLayerNormalization",
            ["ids", "kind", "words", "places", "kinds", "gain", "shift"],
            ["y", "mask"],
            domain="com.microsoft",
        ),
        helper.make_node("MatMul", ["y", "last"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "embed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, T])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), [C]


def byte_choice() -> tuple[onnx.ModelProto, list[int]]:
    """A choice between bytes that a condition makes for every channel."""
    names = ["more", "q", "scale", "zero", "other", "scale", "zero", "scale", "zero"]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"]),
        helper.make_node("Greater", ["h", "limits"], ["more"]),
        helper.make_node("QuantizeLinear", ["h", "scale", "zero"], ["q"]),
        helper.make_node("QLinearWhere", names, ["y"], domain="com.microsoft"),
        helper.make_node("DequantizeLinear", ["y", "scale", "zero"], ["d"]),
        helper.make_node("Conv", ["d", "b"], ["out"]),
    ]
    weights = {"a": w(C, 3, 1, 1), "limits": w(C, 1, 1), "other": u8(C, 1, 1), "b": w(2, C, 1, 1)}
    weights |= {"scale": np.float32(0.05), "zero": np.uint8(120)}
    return build_network(nodes, weights, shape=(1, 3, T, 5)), [C]


BLOCK_EMBEDDINGS = [(packed, zeros) for packed in (False, True) for zeros in (False, True)]


def block_embedding(is_packed: bool, has_zeros: bool) -> tuple[onnx.ModelProto, list[int]]:
    """Blocks of 16 numbers, four bits each, may change places, and so may numbers of a block."""
    width, count = 64, 4
    kind = np.uint8 if is_packed else ml_dtypes.uint4
    table = RNG.integers(0, 256 if is_packed else 16, (9, width // 2 if is_packed else width))
    zeros = RNG.integers(0, 256 if is_packed else 16, (9, count // 2 if is_packed else count))
    names = ["table", "ids", "scales", *(["zeros"] if has_zeros else [])]
    attributes = {"gather_axis": 0, "quantize_axis": 1, "block_size": 16}
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["ids"], to=TensorProto.INT64),
        helper.make_node(
            "GatherBlockQuantized", names, ["e"], domain="com.microsoft", **attributes
        ),
        helper.make_node("Relu", ["e"], ["r"]),
        helper.make_node("MatMul", ["r", "head"], ["out"]),
    ]
    weights = {"table": table.astype(kind), "scales": np.abs(w(9, count)), "head": w(width, 3)}
    weights |= {"low": np.float32(0), "high": np.float32(8)}
    if has_zeros:
        weights["zeros"] = zeros.astype(kind)
    model = build_network(nodes, weights, 21, shape=(1, 5))
    return model, [count, *[width // count] * count]


def inverse() -> tuple[onnx.ModelProto, list[int]]:
    """The rows of a matrix and the columns of its inverse are in one order."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Add", ["h", "c"], ["g"]),
        helper.make_node("Inverse", ["g"], ["i"], domain="com.microsoft"),
        helper.make_node("MatMul", ["b", "i"], ["out"]),
    ]
    weights = {"a": w(3, 5), "c": w(5, 5) + 4 * np.eye(5, dtype=np.float32), "b": w(2, 5)}
    return build_network(nodes, weights, shape=(1, 5, 3)), [5]
