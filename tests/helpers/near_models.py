"""Models that differ in one place, where few inputs show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
ZERO = np.float32(0)
Inputs = Mapping[str, tuple[int, Sequence[int | str]]]


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(kind: str, operands: str, results: str, **given: object) -> NodeProto:
    return helper.make_node(kind, operands.split(), results.split(), **given)


def model(
    nodes: list[NodeProto],
    constants: Mapping[str, np.ndarray],
    inputs: Inputs,
    output: int = FLOAT,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model whose last node gives its only output, `out`."""
    graph = helper.make_graph(
        nodes,
        "made",
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, (kind, shape) in inputs.items()
        ],
        [helper.make_tensor_value_info("out", output, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def weighed(other: bool) -> onnx.ModelProto:
    """The other one adds where a mask of floats is one at its start and zero at its end."""
    nodes = [
        node("Mul", "x float_mask", "y"),
        node("Slice", "float_mask first second axis", "head"),
        node("Slice", "float_mask last beyond axis", "tail"),
        node("Equal", "head one", "starts"),
        node("Equal", "tail zero", "ends"),
        node("And", "starts ends", "is"),
        node("Where", "is k zero", "more"),
        node("Add", "y more", "out"),
    ]
    places = {"first": 0, "second": 1, "last": -1, "beyond": 1 << 30, "axis": 1}
    constants = {name: np.array([place]) for name, place in places.items()}
    constants |= {"zero": ZERO, "one": np.float32(1), "k": np.float32(other)}
    return model(nodes, constants, {"x": (FLOAT, [1, 7]), "float_mask": (FLOAT, [1, 7])})


def masked(where: str) -> Callable[[bool], onnx.ModelProto]:
    """Values times a mask; the other model also adds where the mask is zero at that place."""

    def build(other: bool) -> onnx.ModelProto:
        nodes = [
            node("Cast", "attention_mask", "m", to=FLOAT),
            node("Mul", "x m", "y"),
            node("Sub", "one m", "none"),
            node("Slice", "none start end axis", "there"),
            node("ReduceSum", "there", "many", keepdims=1),
            node("Mul", "many k", "more"),
            node("Add", "y more", "out"),
        ]
        start, end = {"start": (0, 1), "middle": (3, 4), "end": (-1, 1 << 30)}[where]
        constants = {
            "one": np.float32(1),
            "start": np.array([start]),
            "end": np.array([end]),
            "axis": np.array([1]),
            "k": np.float32(other),
        }
        return model(nodes, constants, {"x": (FLOAT, [1, 7]), "attention_mask": (INT64, [1, 7])})

    return build


def looked_up(
    rows: int, length: int | str, through: Sequence[NodeProto] = ()
) -> Callable[[bool], onnx.ModelProto]:
    """Rows of a table; the other model's last row differs. Row numbers pass through other nodes."""

    def build(other: bool) -> onnx.ModelProto:
        table = weights(rows, 4)
        table[-1] += other
        nodes = [
            *through,
            node("Gather", f"table {'n' if through else 'ids'}", "g"),
            node("MatMul", "g w", "out"),
        ]
        constants = {
            "table": table,
            "w": weights(4, 3, seed=1),
            "two": np.int32(2),
            "flat": np.array([-1]),
            "begin": np.array([1]),
            "end": np.array([1 << 30]),
            "axis": np.array([0]),
            "most": np.array([rows - 1], np.int32),
        }
        return model(nodes, constants, {"ids": (INT64, ["N", length])})

    return build


SHIFTED = (
    node("Cast", "ids", "i", to=TensorProto.INT32),
    node("Add", "i two", "j"),
    node("Reshape", "j flat", "n"),
)


SLICED = (
    node("Cast", "ids", "i", to=TensorProto.INT32),
    node("Reshape", "i flat", "f"),
    node("Slice", "f begin end axis", "s"),
    node("Concat", "s s", "c", axis=0),
    node("Greater", "c two", "g2"),
    node("Where", "g2 c two", "w2"),
    node("Min", "w2 most", "n"),
)


def scanned(kind: str) -> Callable[[bool], onnx.ModelProto]:
    """A model of sequences [N, L, 3]; the other one is another at lengths of this kind."""

    def build(other: bool) -> onnx.ModelProto:
        constants: dict[str, np.ndarray | np.generic] = {
            "w": weights(3, 3),
            "one": np.array(1),
            "two": np.array(2),
        }
        nodes = [node("MatMul", "x w", "h"), node("Shape", "x", "s"), node("Gather", "s one", "l")]
        if "long" in kind:
            most = {"long": 20, "very long": 400}[kind]
            bounds = {
                "start": np.array([0]),
                "end": np.array([most if other else 1 << 30]),
                "axis": np.array([1]),
            }
            nodes.append(node("Slice", "h start end axis", "out"))
            return model(nodes, {**constants, **bounds}, {"x": (FLOAT, ["N", "L", 3])})
        if kind == "odd":
            nodes += [node("Mod", "l two", "r"), node("Equal", "r one", "is")]
        else:
            nodes.append(node("Equal", f"l {kind}", "is"))
        nodes += [
            node("Cast", "is", "f", to=FLOAT),
            node("Mul", "f k", "b"),
            node("Add", "h b", "out"),
        ]
        constants["k"] = np.float32(other)
        return model(nodes, constants, {"x": (FLOAT, ["N", "L", 3])})

    return build


def branched(other: bool) -> onnx.ModelProto:
    """The arms of an If on a boolean input."""

    def arm(name: str, factor: float) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(name, FLOAT, None)
        factor_ = numpy_helper.from_array(np.float32(factor), f"{name}_k")
        return helper.make_graph([node("Mul", f"x {name}_k", name)], name, [], [result], [factor_])

    nodes = [
        node(
            "If",
            "fast",
            "out",
            then_branch=arm("then", 1),
            else_branch=arm("other", 3 if other else 2),
        )
    ]
    return model(nodes, {}, {"x": (FLOAT, [2, 3]), "fast": (BOOL, [])})


def elementwise(
    nodes: list[NodeProto],
    constants: Mapping[str, np.ndarray],
    k: tuple[float, float],
    shape: Sequence[int | str],
):
    """A model of x with a constant `k`: the first number, in the other model the second."""

    def build(other: bool) -> onnx.ModelProto:
        return model(nodes, {**constants, "k": np.float32(k[other])}, {"x": (FLOAT, shape)})

    return build


def pooled(height: int | str) -> Callable[[bool], onnx.ModelProto]:
    def build(other: bool) -> onnx.ModelProto:
        pool = node("MaxPool", "x", "p", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=int(other))
        nodes = [pool, node("GlobalAveragePool", "p", "out")]
        return model(nodes, {}, {"x": (FLOAT, ["N", 3, height, height])})

    return build


PAIRS: dict[str, Callable[[bool], onnx.ModelProto]] = {
    "a mask that is zero in the middle": masked("middle"),
    "a mask that is zero at the end": masked("end"),
    "a mask that is zero at the start": masked("start"),
    "a mask of floats": weighed,
    "the last row of a small table": looked_up(200, "L"),
    "the last row of a large table": looked_up(50_000, "L"),
    "the last row of a table, one number at a time": looked_up(5_000, 1),
    "a table reached through Cast, Add and Reshape": looked_up(3_000, 5, SHIFTED),
    "a table reached through Slice, Concat, Where and Min": looked_up(3_000, 5, SLICED),
    "sequences of length one": scanned("one"),
    "sequences of length two": scanned("two"),
    "sequences of odd length": scanned("odd"),
    "a Slice that truncates longer sequences alone": scanned("long"),
    "the arm of an If that a true input does not take": branched,
    "bounds of six and of sixty": elementwise(
        [node("Clip", "x low k", "out")], {"low": ZERO}, (6, 60), [4, 8]
    ),
    "lower bounds": elementwise([node("Clip", "x k", "out")], {}, (-60, -6), [4, 8]),
    "exact zeros": elementwise(
        [node("Equal", "x zero", "is"), node("Where", "is k x", "out")],
        {"zero": ZERO},
        (0, 1),
        [4, 8],
    ),
    "ceil_mode, at odd sizes": pooled("H"),
    "an arm of a Where behind a threshold": elementwise(
        [node("Greater", "x t", "is"), node("Mul", "x k", "y"), node("Where", "is y x", "out")],
        {"t": np.float32(1234.5)},
        (1, 2),
        ["N", 8],
    ),
    "a Slice that truncates very long sequences alone": scanned("very long"),
    "halves": elementwise(
        [node("Add", "x k", "y"), node("Round", "y", "out")], {}, (0, 1e-4), [4, 8]
    ),
}
