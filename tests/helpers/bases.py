"""Small models that mutants are made of: those of the tests, and `onnx`'s own node tests."""

from __future__ import annotations

import functools
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from . import builders, fused, handmade, layers, splices, strategies

Inputs = Mapping[str, object]
F = np.float32
MOST_BYTES = 20_000
"""Larger models are left out: many small ones tell more in the same time."""
RUNTIME_IR = 11
"""onnxruntime accepts this version of the file format."""


@dataclass(frozen=True)
class Base:
    """A model that mutants are made of.

    Attributes:
        family: models of one family are drawn as often as those of another.
        name: of the model.
        build: makes it, the same one at every call.
        examples: inputs on which it is known to run.
    """

    family: str
    name: str
    build: Callable[[], ModelProto]
    examples: Sequence[Inputs] = ()

    def model(self) -> ModelProto:
        """The model; its weights do not hang on what was built before."""
        for module in (builders, fused):
            module.RNG = np.random.default_rng(zlib.crc32(self.name.encode()))
        return self.build()


def pool(node_tests: bool = True) -> list[Base]:
    """All models, in a fixed order."""
    found = [
        Base("operators", f"{s.name}-{k}", functools.partial(_first, s.build))
        for k, s in enumerate(splices.POOL)
    ]
    found += [
        Base("grown", f"pieces-{k}", functools.partial(strategies.pieces, k)) for k in range(60)
    ]
    found += [Base("grown", f"grown-{k}", functools.partial(grown, k)) for k in range(120)]
    found += [Base("special", f.__name__, f) for f in SPECIAL]
    found += [Base("special", f.__name__, functools.partial(_first, f)) for f in BODIES]
    return found + (_node_tests() if node_tests else [])


def _first(build: Callable[[], tuple[ModelProto, object]]) -> ModelProto:
    return build()[0]


def grown(seed: int) -> ModelProto:
    """A random graph of `strategies.Grown`, with one or two heads."""
    pick = np.random.default_rng(seed)
    g = strategies.Grown(pick)
    g.maps["x"] = g.units(3)
    x = g.conv("x", int(pick.integers(2, 6)), 3)
    ends = []
    for step in pick.choice(strategies.STEPS, int(pick.integers(1, 6))):
        x = _one_more(g, x, str(step), pick)
        ends += [x] if pick.random() < 0.2 else []
    return g.model([g.head(t, bool(pick.integers(2))) for t in dict.fromkeys([*ends, x])])


def _one_more(g: strategies.Grown, x: str, step: str, pick: np.random.Generator) -> str:
    width = int(pick.choice((2, 3, 4, 5)))
    match step:
        case "conv":
            return g.conv(x, width, int(pick.choice((1, 3))), bool(pick.integers(2)))
        case "unary":
            return g.unary(str(pick.choice(strategies.ACTIVATIONS)), x)
        case "scaled":
            return g.scaled(str(pick.choice(("Mul", "Add", "PRelu"))), x)
        case "residual":
            return g.combine("Add", x, g.conv(g.unary("Relu", g.conv(x, width)), len(g.maps[x])))
        case "product":
            return g.combine("Mul", g.conv(x, 5), g.unary("Sigmoid", g.conv(x, 5)))
        case "concat":
            return g.concat(x, g.unary("Relu", g.conv(x, width)))
        case "split":
            a, b = g.split(g.conv(x, 7), int(pick.choice((2, 3, 5))))
            return g.concat(g.conv(g.unary("Relu", a), 3), b)
        case "part":
            ways = tuple(str(way) for way in pick.choice(strategies.WAYS, 2))
            return g.part(g.conv(x, 7), int(pick.choice((2, 3, 5))), (ways[0], ways[1]))
        case "pool":
            return g.pool(str(pick.choice(("MaxPool", "AveragePool"))), x)
        case "attention" | "grouped":
            return getattr(g, step)(x, 2, int(pick.choice((2, 3))))
        case _:
            name = {"layernorm": "there_and_back", "pixels": "shuffled_pixels"}.get(step, step)
            return getattr(g, name)(x)


# ---- models that hold what others do not


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


# ---- the node tests of the `onnx` package


def _node_tests() -> list[Base]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found = []
    for case in cases:
        if case.model.ByteSize() > MOST_BYTES or not case.data_sets or not case.model.graph.node:
            continue
        names = [v.name for v in case.model.graph.input]
        data = {n: a for n, a in zip(names, case.data_sets[0][0], strict=False) if a is not None}
        if sum(a.nbytes for a in data.values() if isinstance(a, np.ndarray)) > MOST_BYTES:
            continue
        found.append(
            Base("node tests", case.name, functools.partial(_readable, case.model), (data,))
        )
        arrays = {n: a for n, a in data.items() if isinstance(a, np.ndarray)}
        first = next((n for n, a in arrays.items() if a.dtype == F and a.ndim > 1), None)
        if len(arrays) == len(names) and first is not None:
            given = {first: arrays[first]}
            found.append(
                Base(
                    "weights",
                    f"{case.name}/weights",
                    functools.partial(_with_weights, case.model, arrays, first),
                    (given,),
                )
            )
            found.append(
                Base(
                    "between",
                    f"{case.name}/between",
                    functools.partial(_between, case.model, arrays, first),
                )
            )
    return found


def _readable(model: ModelProto) -> ModelProto:
    found = ModelProto()
    found.CopyFrom(model)
    found.ir_version = min(found.ir_version, RUNTIME_IR)
    return found


def _with_weights(model: ModelProto, arrays: Mapping[str, np.ndarray], first: str) -> ModelProto:
    """The model with all operands but one as weights."""
    found = _readable(model)
    for value in [v for v in found.graph.input if v.name != first]:
        found.graph.input.remove(value)
        if value.name in arrays:
            found.graph.initializer.append(
                numpy_helper.from_array(np.asarray(arrays[value.name]), value.name)
            )
    return found


def _between(model: ModelProto, arrays: Mapping[str, np.ndarray], first: str) -> ModelProto:
    """The operator between two products, so that its channels, or its last axis, have groups."""
    found = _with_weights(model, arrays, first)
    rng = np.random.default_rng(zlib.crc32(first.encode()) + model.ByteSize())
    graph, shape = found.graph, arrays[first].shape
    value = next(v for v in graph.input if v.name == first)
    graph.input.remove(value)
    channels = len(shape) > 2 and bool(rng.integers(2))
    axis = 1 if channels else len(shape) - 1
    weight = rng.standard_normal(
        (shape[axis], 3, *[1] * (len(shape) - 2)) if channels else (3, shape[axis])
    ).astype(F)
    graph.initializer.append(numpy_helper.from_array(weight, "before"))
    before = helper.make_node(
        "Conv" if channels else "MatMul", ["source", "before"], [first], name="front"
    )
    graph.node.insert(0, before)
    size = [3 if k == axis else n for k, n in enumerate(shape)]
    graph.input.insert(0, helper.make_tensor_value_info("source", TensorProto.FLOAT, size))
    _append_product(found, rng)
    return found


def _append_product(model: ModelProto, rng: np.random.Generator) -> None:
    """A product behind the first output, where that is of floats and of known length."""
    graph = model.graph
    kind = graph.output[0].type.tensor_type
    sizes = [d.dim_value for d in kind.shape.dim]
    if kind.elem_type != TensorProto.FLOAT or not sizes or not sizes[-1]:
        return
    graph.initializer.append(
        numpy_helper.from_array(rng.standard_normal((sizes[-1], 2)).astype(F), "behind")
    )
    graph.node.append(
        helper.make_node("MatMul", [graph.output[0].name, "behind"], ["result"], name="back")
    )
    graph.output[0].CopyFrom(
        helper.make_tensor_value_info("result", TensorProto.FLOAT, [*sizes[:-1], 2])
    )
