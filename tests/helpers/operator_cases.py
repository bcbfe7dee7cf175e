"""Cases of operators: each a model and the sizes of the groups that it must have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto

from .operator_models import C, H

UNARY = (
    *(
        "Abs",
        "Ceil",
        "Cos",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Mish",
    ),
    *(
        "Neg",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Tanh",
    ),
    *("ThresholdedRelu", "Gelu", "Celu", "Atan", "Asinh", "Sinh", "Cosh"),
)
POSITIVE = ("Log", "Sqrt", "Reciprocal", "Acosh")
BOUNDED = ("Acos", "Asin", "Atanh", "Tan")
"""Operators with a pole or an end: they are given what stays away from it."""
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "Pow", "PRelu")


def cases() -> Iterator[tuple[str, list[object], dict[str, object], int, str | None, list[int]]]:
    """Operator, further operands, attributes, opset, the map's kind, and the groups' sizes."""
    f = np.float32
    rng = np.random.default_rng(1)
    plain = [C]
    for op in UNARY:
        yield op, [], {}, 20, None, plain
    for op in POSITIVE:
        yield op, [], {}, 20, "positive", plain
    for op in BOUNDED:
        yield op, [], {}, 20, "bounded", plain
    for op in BINARY:
        kind = "positive" if op in ("Pow", "Div") else None
        yield op, ["same"], {}, 17, kind, plain
        yield op, [rng.random((C, 1, 1)).astype(f)], {}, 17, kind, plain
        yield op, [rng.random((H, 1)).astype(f)], {}, 17, kind, plain
    for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        yield op, ["same"], {}, 17, None, plain
    for op in ("And", "Or", "Xor"):
        yield op, ["same"], {}, 17, "bool", plain
    yield "Not", [], {}, 17, "bool", plain
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        yield op, ["same"], {}, 18, "int", plain
    yield "BitwiseNot", [], {}, 18, "int", plain
    yield "BitShift", ["same"], {"direction": "LEFT"}, 17, "uint", plain
    yield "Mod", [np.array(3, np.int32)], {}, 17, "int", plain
    yield "Where", ["same", "same"], {}, 17, "bool", plain
    yield "IsInf", [], {}, 20, None, plain
    yield "IsNaN", [], {}, 20, None, plain
    yield "Cast", [], {"to": TensorProto.FLOAT16}, 17, None, plain
    yield "CastLike", [np.zeros(1, np.float16)], {}, 17, None, plain
    yield "Clip", [np.array(-1, f), np.array(1, f)], {}, 17, None, plain
    yield "Dropout", [], {}, 17, None, plain
    yield (
        "Conv",
        [rng.standard_normal((5, C, 3, 3)).astype(f), rng.standard_normal(5).astype(f)],
        {},
        17,
        None,
        [C, 5],
    )
    yield (
        "Conv",
        [rng.standard_normal((6, 2, 1, 1)).astype(f)],
        {"group": 3},
        17,
        None,
        [3, *[2] * 6],
    )
    yield "Conv", [rng.standard_normal((C, 1, 3, 3)).astype(f)], {"group": C}, 17, None, plain
    yield "ConvTranspose", [rng.standard_normal((C, 5, 2, 2)).astype(f)], {}, 17, None, [C, 5]
    yield (
        "ConvTranspose",
        [rng.standard_normal((C, 5, 2, 2)).astype(f)],
        {"group": 2},
        17,
        None,
        [2, 3, 3, 5, 5],
    )
    yield "MatMul", [rng.standard_normal((5, 7)).astype(f)], {}, 17, None, [C, 7]
    yield "MatMul", [rng.standard_normal((C, 5, 7)).astype(f)], {}, 17, None, [C, *[7] * C]
    yield (
        "Einsum",
        [rng.standard_normal((C, 7)).astype(f)],
        {"equation": "bchw,ck->bkhw"},
        17,
        None,
        [C, 7],
    )
    channel = [rng.random(C).astype(f) + 0.5 for _ in range(4)]
    yield "BatchNormalization", channel, {}, 17, None, plain
    yield "InstanceNormalization", channel[:2], {}, 17, None, plain
    yield "GroupNormalization", channel[:2], {"num_groups": 2}, 21, None, [2, 3, 3]
    yield (
        "LayerNormalization",
        [rng.random((C, H, 5)).astype(f), rng.random((C, H, 5)).astype(f)],
        {"axis": 1},
        17,
        None,
        plain,
    )
    yield "LpNormalization", [], {"axis": 1}, 17, None, plain
    for op in ("Softmax", "LogSoftmax"):
        yield op, [], {"axis": 1}, 17, None, plain
        yield op, [], {"axis": 2}, 11, None, plain
    for op in ("MaxPool", "AveragePool", "LpPool"):
        yield op, [], {"kernel_shape": [2, 2]}, 17, None, plain
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        yield op, [], {}, 17, None, plain
    yield "Trilu", [], {}, 17, None, plain
    for op in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"):
        yield f"Reduce{op}", [np.array([2])], {}, 18, "positive", plain
        yield f"Reduce{op}", [np.array([1])], {"keepdims": 0}, 18, "positive", plain
    yield "ReduceMean", [], {"axes": [2, 3], "keepdims": 0}, 13, None, plain
    for op in ("ArgMax", "ArgMin"):
        yield op, [], {"axis": 2}, 17, None, plain
        yield op, [], {"axis": 1}, 17, None, []
    yield "Resize", [None, np.array([1, 1, 2, 2], f)], {}, 17, None, plain
    yield "Upsample", [np.array([1, 1, 2, 2], f)], {}, 9, None, plain
    yield "Reshape", [np.array([1, 2, 3, -1])], {}, 17, None, plain
    yield "Flatten", [], {}, 17, None, plain
    yield "Squeeze", [np.array([0])], {}, 17, None, plain
    yield "Unsqueeze", [np.array([2])], {}, 17, None, plain
    yield "Transpose", [], {"perm": [0, 2, 3, 1]}, 17, None, plain
    # the two copies of every element may change places, and so may two channels of padding
    yield "Expand", [np.array([2, C, H, 5])], {}, 17, None, [C, *[2] * C * H * 5]
    yield "Tile", [np.array([1, 2, 1, 1])], {}, 17, None, [C, *[2] * C * H * 5]
    yield "Concat", ["same"], {"axis": 1}, 17, None, [C, C]
    yield "Concat", ["same"], {"axis": 2}, 17, None, plain
    yield "Slice", [np.array([1]), np.array([5]), np.array([1])], {}, 17, None, [4]
    yield (
        "Slice",
        [np.array([-1]), np.array([-100]), np.array([1]), np.array([-1])],
        {},
        17,
        None,
        plain,
    )
    yield "Split", [np.array([4, 2])], {"axis": 1}, 17, None, [4]
    yield (
        "Gemm",
        [rng.standard_normal((C, 5)).astype(f), rng.standard_normal(5).astype(f)],
        {},
        17,
        "pooled",
        [C, 5],
    )
    yield "Gather", [np.array([4, 0, 2])], {"axis": 1}, 17, None, [3]
    yield "GatherND", [np.array([[0, 1], [0, 3]])], {}, 17, None, [2]
    yield "Pad", [np.array([0, 1, 0, 0, 0, 1, 0, 2])], {}, 17, None, [2, C]
    yield "DepthToSpace", [], {"blocksize": 1}, 17, None, plain
    yield "SpaceToDepth", [], {"blocksize": 1}, 17, None, plain
    yield from along_an_axis(rng)
    yield from quantised(rng)
    yield from composed(rng)


def along_an_axis(rng: np.random.Generator) -> Iterator[tuple]:
    """Operators that pick or place by index, or go along an axis in its order."""
    f, plain = np.float32, [C]
    rows = rng.permuted(np.tile(np.arange(2)[:, None], (1, C, 1, 5)), axis=2)
    for op in ("CumSum", "CumProd"):
        yield op, [np.array(2)], {}, 26, None, plain
        yield op, [np.array(1)], {}, 26, None, []
    yield "ReverseSequence", [np.array([2])], {"time_axis": 1, "batch_axis": 0}, 17, None, []
    # of equals the first is chosen
    yield "Hardmax", [], {"axis": 1}, 17, None, []
    yield "Hardmax", [], {"axis": 2}, 17, None, plain
    # the largest three do not depend on the order, where they stood does
    yield "TopK", [np.array([3])], {"axis": 1}, 17, None, plain
    yield "TopK", [np.array([3])], {"axis": 2}, 17, None, plain
    yield "GatherElements", [rng.integers(0, H, (1, C, 2, 5))], {"axis": 2}, 17, None, plain
    yield "GatherElements", [rng.integers(0, C, (1, 3, H, 5))], {"axis": 1}, 17, None, []
    yield (
        "ScatterElements",
        [rows, rng.random((1, C, 2, 5)).astype(f)],
        {"axis": 2},
        18,
        None,
        plain,
    )
    yield "Scatter", [rows, rng.random((1, C, 2, 5)).astype(f)], {"axis": 2}, 10, None, plain
    yield (
        "ScatterND",
        [np.array([[0]]), rng.random((1, C, H, 5)).astype(f)],
        {"reduction": "add"},
        18,
        None,
        plain,
    )
    yield (
        "ScatterND",
        [np.array([[0, 1], [0, 3]]), rng.random((2, H, 5)).astype(f)],
        {},
        18,
        None,
        [],
    )
    yield "TensorScatter", [rng.random((1, C, 2, 5)).astype(f)], {"axis": 2}, 24, None, plain
    yield "Compress", [np.array([True, False, True, True])], {"axis": 2}, 17, None, plain
    yield (
        "Compress",
        [np.array([True, False, True, True, False, False])],
        {"axis": 1},
        17,
        None,
        [3],
    )
    yield "OneHot", [np.array(4, np.int32), np.array([0.5, 2.0], f)], {"axis": 2}, 17, "int", plain
    yield "Det", [], {}, 17, "square", plain
    yield "Col2Im", [np.array([5, 5]), np.array([1, 2])], {}, 18, "columns", [C // 2]
    yield "DFT", [None, np.array(2)], {}, 20, "real", plain
    yield "GridSample", [rng.uniform(-1, 1, (1, 3, 2, 2)).astype(f)], {}, 17, None, plain
    yield "LRN", [], {"size": 3}, 17, None, []
    yield "MaxRoiPool", [np.array([[0, 0, 0, 2, 2]], f)], {"pooled_shape": [2, 2]}, 17, None, plain
    yield "RoiAlign", [np.array([[0, 0, 2, 2]], f), np.array([0])], {}, 17, None, plain
    yield (
        "DeformConv",
        [rng.standard_normal((5, C, 1, 1)).astype(f), rng.random((1, 2, H, 5)).astype(f)],
        {},
        19,
        None,
        [C, 5],
    )


def quantised(rng: np.random.Generator) -> Iterator[tuple]:
    """Quantised operators, with scales for all or for each channel."""
    f, plain = np.float32, [C]
    zero, scale = np.array(3, np.uint8), np.array(0.1, f)
    some, many = rng.random(C).astype(f) + np.float32(0.1), rng.integers(0, 255, C).astype(np.uint8)

    def int8(*shape: int) -> np.ndarray:
        return rng.integers(-127, 127, shape).astype(np.int8)

    for op, kind in (("QuantizeLinear", None), ("DequantizeLinear", "uint")):
        yield op, [scale, zero], {}, 17, kind, plain
        yield op, [some, many], {"axis": 1}, 17, kind, plain
        yield (
            op,
            [rng.random((1, C, 2, 5)).astype(f) + 0.1],
            {"axis": 2, "block_size": 2},
            21,
            kind,
            plain,
        )
        # a block of three channels shares its scale
        blocks = rng.random((1, C // 3, H, 5)).astype(f) + np.float32(0.1)
        yield op, [blocks], {"axis": 1, "block_size": 3}, 21, kind, [C // 3, *[3] * (C // 3)]
    yield "DynamicQuantizeLinear", [], {}, 17, None, plain
    yield "ConvInteger", [int8(5, C, 3, 3), zero], {}, 17, "uint", [C, 5]
    yield "MatMulInteger", [int8(5, 7), zero, int8(7)], {}, 17, "uint", [C, 7]
    weights = [rng.random(5).astype(f) / 100, np.zeros(5, np.int8)]
    after = [np.array(0.5, f), np.array(9, np.uint8)]
    bias = rng.integers(-99, 99, 5).astype(np.int32)
    yield (
        "QLinearConv",
        [scale, zero, int8(5, C, 3, 3), *weights, *after, bias],
        {},
        17,
        "uint",
        [C, 5],
    )
    columns = [rng.random(7).astype(f) / 100, int8(7)]
    yield "QLinearMatMul", [scale, zero, int8(5, 7), *columns, *after], {}, 17, "uint", [C, 7]


def composed(rng: np.random.Generator) -> Iterator[tuple]:
    """Operators that are run through the functions that specify them."""
    f, plain = np.float32, [C]
    yield "MeanVarianceNormalization", [], {"axes": [2, 3]}, 17, None, plain
    yield "MeanVarianceNormalization", [], {"axes": [1]}, 17, None, plain
    yield "RMSNormalization", [rng.random((C, H, 5)).astype(f)], {"axis": 1}, 23, None, plain
    yield "RMSNormalization", [rng.random(5).astype(f)], {}, 23, None, plain
    yield "CenterCropPad", [np.array([2, 8])], {"axes": [2, 3]}, 18, None, plain
    yield "BitCast", [], {"to": TensorProto.INT32}, 26, None, plain


CASES = list(cases())
