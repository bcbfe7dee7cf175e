"""Small models that hold what others do not: text, sequences, bodies, sparse weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from . import builders, handmade, layers

F = np.float32


def dense() -> ModelProto:
    return layers.model(*layers.layers(), layers.X)


def heads() -> ModelProto:
    """Two inputs and two outputs of one shape."""
    nodes, weights = layers.layers()
    rng = np.random.default_rng(3)
    more = [
        helper.make_node("MatMul", ["y", "d"], ["e"]),
        helper.make_node("Add", ["e", "k"], ["m"]),
        helper.make_node("Gemm", ["m", "c", "cb"], ["out"], transB=1),
        helper.make_node("Tanh", ["out"], ["second"]),
    ]
    weights = {**weights, "d": rng.standard_normal((8, 12)).astype(F)}
    found = layers.model([*nodes[:-1], *more], weights, {**layers.X, "y": ["N", 8]})
    found.graph.output.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, ["N", 4]))
    return found


def masked() -> ModelProto:
    return layers.attention(layers.projections())


def words() -> ModelProto:
    """A table of words, read by number, and a table of numbers, read on the way."""
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["other"]),
        helper.make_node("Gather", ["words", "other"], ["h"]),
        helper.make_node("Equal", ["ids", "pad"], ["is"]),
        helper.make_node("Unsqueeze", ["is", "last"], ["place"]),
        helper.make_node("Where", ["place", "little", "h"], ["i"]),
        helper.make_node("MatMul", ["i", "a"], ["out"]),
    ]
    weights = {
        "table": rng.permutation(9).astype(np.int64),
        "words": rng.standard_normal((9, 6)).astype(F),
        "pad": np.array(0),
        "last": np.array([1]),
        "little": F(-100),
        "a": rng.standard_normal((6, 3)).astype(F),
    }
    found = layers.model(nodes, weights, {"ids": ["N"]})
    found.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return found


def scores() -> ModelProto:
    """Scores by name, a map for every row."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Softmax", ["h"], ["s"], axis=1),
        helper.make_node(
            "ZipMap", ["s"], ["out"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"]
        ),
    ]
    weights = {"a": np.random.default_rng(5).standard_normal((4, 3)).astype(F)}
    found = layers.model(nodes, weights, {"x": ["N", 4]})
    row = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    found.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(row))
    found.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return found


def labels() -> ModelProto:
    """Names by number, in a tensor of strings, and numbers by name."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("ArgMax", ["h"], ["which"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "which"], ["name"]),
        helper.make_node(
            "LabelEncoder",
            ["name"],
            ["out"],
            domain="ai.onnx.ml",
            keys_strings=["p", "q", "r"],
            values_floats=[1.0, 2.0, 3.0],
        ),
    ]
    found = layers.model(
        nodes, {"a": np.random.default_rng(6).standard_normal((4, 3)).astype(F)}, {"x": ["N", 4]}
    )
    found.graph.initializer.append(
        helper.make_tensor("names", TensorProto.STRING, [3], [b"p", b"q", b"r"])
    )
    found.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return found


def maybe() -> ModelProto:
    """An optional value, with its type in an attribute."""
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [2, 3])
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Optional", ["h"], ["some"]),
        helper.make_node("Optional", [], ["none"], type=kind),
        helper.make_node("OptionalHasElement", ["none"], ["has"]),
        helper.make_node("OptionalGetElement", ["some"], ["i"]),
        helper.make_node("Where", ["has", "zero", "i"], ["out"]),
    ]
    weights = {"a": np.random.default_rng(7).standard_normal((4, 3)).astype(F), "zero": F(0)}
    found = layers.model(nodes, weights, {"x": [2, 4]}, opset=18)
    found.graph.output.append(
        onnx.ValueInfoProto(name="some", type=helper.make_optional_type_proto(kind))
    )
    return found


def constants() -> ModelProto:
    """Constants of every kind that an attribute may hold."""
    rng = np.random.default_rng(8)
    values = numpy_helper.from_array(rng.standard_normal(5).astype(F), "a")
    sparse = helper.make_sparse_tensor(
        values, numpy_helper.from_array(np.array([0, 3, 5, 8, 10]), "places"), [4, 3]
    )
    nodes = [
        helper.make_node("Constant", [], ["a"], sparse_value=sparse),
        helper.make_node("Constant", [], ["b"], value_floats=[0.5, -1.0, 2.0]),
        helper.make_node("Constant", [], ["c"], value_float=1.5),
        helper.make_node("Constant", [], ["d"], value_ints=[2, 0, 1]),
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node(
            "Constant",
            [],
            ["f"],
            value=numpy_helper.from_array(rng.standard_normal((3, 3)).astype(F), "f"),
        ),
        helper.make_node("Constant", [], ["names"], value_strings=["u", "v", "w"]),
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["i"]),
        helper.make_node("Mul", ["i", "c"], ["j"]),
        helper.make_node("Gather", ["j", "d"], ["k"], axis=1),
        helper.make_node("MatMul", ["k", "f"], ["out"]),
        helper.make_node("ArgMax", ["out"], ["which"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "which"], ["name"]),
    ]
    found = layers.model(nodes, {}, {"x": ["N", 4]})
    found.graph.output.append(helper.make_tensor_value_info("name", TensorProto.STRING, ["N"]))
    return found


def boxes() -> ModelProto:
    """Boxes that are chosen by two thresholds."""
    rng = np.random.default_rng(9)
    corners = np.sort(rng.random((1, 6, 2, 2)).astype(F), axis=2).reshape(1, 6, 4)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Sigmoid", ["h"], ["scores"]),
        helper.make_node(
            "NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["out"]
        ),
    ]
    weights = {"a": rng.standard_normal((4, 6)).astype(F), "boxes": corners, "most": np.array([3])}
    weights |= {"overlap": np.array([0.3], F), "least": np.array([0.5], F)}
    return layers.model(nodes, weights, {"x": [1, 2, 4]}, kind=TensorProto.INT64)


def bounded() -> ModelProto:
    """Two layers with bounds of their own, in half precision at the end."""
    rng = np.random.default_rng(10)
    weights = {n: rng.standard_normal((5, 5)).astype(F) for n in "abc"}
    weights |= {"low": F(-1), "high": F(1), "lower": F(-0.5), "higher": F(2)}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Clip", ["h", "low", "high"], ["i"]),
        helper.make_node("MatMul", ["i", "b"], ["j"]),
        helper.make_node("Clip", ["j", "lower", "higher"], ["k"]),
        helper.make_node("Cast", ["k"], ["l"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["c"], ["d"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["l", "d"], ["m"]),
        helper.make_node("Cast", ["m"], ["out"], to=TensorProto.FLOAT),
    ]
    return layers.model(nodes, weights, {"x": ["N", 5]})


def wide() -> ModelProto:
    """Numbers of 64 bits, with and without a sign, in words of their own."""
    rng = np.random.default_rng(11)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Cast", ["h"], ["i"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["i", "b"], ["j"]),
        helper.make_node("Cast", ["c"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node("Add", ["j", "d"], ["k"]),
        helper.make_node("Cast", ["k"], ["out"], to=TensorProto.FLOAT),
    ]
    weights = {
        "a": rng.standard_normal((4, 5)).astype(F),
        "b": rng.standard_normal(5),
        "c": np.arange(5, dtype=np.uint64),
    }
    return layers.model(nodes, weights, {"x": ["N", 4]})


def swapped() -> ModelProto:
    """A function whose two operands, and results, are of one shape, in two versions of one name."""
    opset = [helper.make_opsetid("", 17)]

    def version(operator: str, overload: str) -> onnx.FunctionProto:
        inner = [
            helper.make_node(operator, ["p", "q"], ["r"]),
            helper.make_node("Relu", ["q"], ["s"]),
        ]
        leak = helper.make_node("LeakyRelu", ["r"], ["t"])
        leak.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
        default = helper.make_attribute("slope", 0.1)
        return helper.make_function(
            "own",
            "f",
            ["p", "q"],
            ["t", "s"],
            [*inner, leak],
            opset,
            [],
            [default],
            overload=overload,
        )

    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("MatMul", ["x", "b"], ["i"]),
        helper.make_node("f", ["h", "i"], ["j", "k"], domain="own", slope=0.3),
        helper.make_node("f", ["j", "k"], ["l", "m"], domain="own", overload="less"),
        helper.make_node("Concat", ["l", "m"], ["out"], axis=1),
    ]
    rng = np.random.default_rng(12)
    weights = {n: rng.standard_normal((4, 5)).astype(F) for n in "ab"}
    found = layers.model(nodes, weights, {"x": ["N", 4]})
    found.ir_version = 10
    found.opset_import.append(helper.make_opsetid("own", 1))
    found.functions.extend([version("Sub", ""), version("Div", "less")])
    return found


def recurrent() -> ModelProto:
    """An LSTM with all operands, several steps and rows, a clip and activations of its own."""
    rng = np.random.default_rng(13)
    shapes = {"W": (1, 12, 4), "R": (1, 12, 3), "B": (1, 24), "P": (1, 9), "c": (3, 2)}
    weights = {n: rng.standard_normal(s).astype(F) for n, s in shapes.items()}
    nodes = [
        helper.make_node(
            "LSTM",
            ["x", "W", "R", "B", "", "h0", "c0", "P"],
            ["y", "h", "s"],
            hidden_size=3,
            clip=0.7,
            activations=["Sigmoid", "Tanh", "Relu"],
        ),
        helper.make_node("MatMul", ["h", "c"], ["out"]),
    ]
    found = layers.model(nodes, weights, {"x": [5, 2, 4], "h0": [1, 2, 3], "c0": [1, 2, 3]})
    found.graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "ys"
    )
    return found


def quantised() -> ModelProto:
    """Rows of int8 with one scale each, and a byte table; nothing that a group holds."""
    rng = np.random.default_rng(14)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["a"], axis=0),
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("QuantizeLinear", ["h", "step", "middle"], ["i"]),
        helper.make_node("DequantizeLinear", ["i", "step", "middle"], ["out"]),
    ]
    weights = {
        "q": rng.integers(-128, 128, (4, 3)).astype(np.int8),
        "scale": (rng.random(4) / 50 + 0.001).astype(F),
        "zero": rng.integers(-5, 5, 4).astype(np.int8),
        "step": F(0.05),
        "middle": np.array(128, np.uint8),
    }
    return layers.model(nodes, weights, {"x": ["N", 4]})


def sparse() -> ModelProto:
    dense = np.where(np.arange(15).reshape(3, 5) % 4 == 0, builders.w(3, 5), 0).astype(F)
    nodes = [
        builders.node("MatMul", "x,a", "h"),
        builders.node("Relu", "h", "r"),
        builders.node("MatMul", "r,b", "out"),
    ]
    found = builders.build(nodes, {"b": builders.w(5, 2)}, {"x": [4, 3]})
    places = np.flatnonzero(dense)
    values = numpy_helper.from_array(dense.ravel()[places], "a")
    found.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(places, "a_places"), [3, 5])
    )
    return found


SPECIAL = (
    dense,
    heads,
    masked,
    words,
    scores,
    labels,
    maybe,
    constants,
    boxes,
    bounded,
    wide,
    swapped,
) + (*(recurrent, quantised, sparse),)
BODIES = (handmade.branches, handmade.scan, handmade.functions)
"""Drawn more often than among all operators."""
