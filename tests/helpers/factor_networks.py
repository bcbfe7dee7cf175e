"""Random networks whose units have factors: recurrent cells, dense layers and convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

F = np.float32
RUNTIME_IR = 10
"""onnxruntime reads this version of the file format."""
Rng = np.random.Generator


@dataclass
class Cells:
    """A graph under construction: its tensors are [batch, time, units].

    Attributes:
        pairs: a bias, the weight that reads what it is added to, and the bias behind that.
    """

    rng: Rng
    batch: int
    time: int
    is_any_batch: bool
    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    pairs: list[tuple[str, str, str]] = field(default_factory=list)

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def one_of(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def const(self, values: Any, dtype: Any = np.int64) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def weight(self, *shape: int, spread: float | None = None) -> str:
        size = (shape[0] ** -0.5 if len(shape) > 1 else 0.5) if spread is None else spread
        return self.const(size * self.rng.standard_normal(shape), F)

    def node(
        self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any
    ) -> list[str]:
        names = [f"t{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def given(self, kind: int, *shape: int | str) -> str:
        name = f"in{len(self.inputs)}"
        sizes = ["b" if self.is_any_batch and k == 0 else n for k, n in enumerate(shape)]
        self.inputs.append(helper.make_tensor_value_info(name, kind, sizes))
        return name

    # ---- layers

    def bias(self, x: str, width: int) -> tuple[str, str]:
        name = self.const(np.zeros(width), F) if self.chance(0.1) else self.weight(width)
        return self.node("Add", [x, name] if self.chance() else [name, x])[0], name

    def dense(self, x: str, width: int, out: int) -> str:
        y = self.node("MatMul", [x, self.weight(width, out)])[0]
        if self.chance(0.7):
            y, _ = self.bias(y, out)
        way = self.one_of(
            "", "Relu", "Tanh", "Sigmoid", "LeakyRelu", "Softplus", "Abs", "Clip", "Gate", "Norm"
        )
        if way == "Clip":
            return self.node("Clip", [y, self.const(0, F), self.const(1.5, F)])[0]
        if way == "Gate":
            return self.node(
                "Mul",
                [
                    y,
                    self.node("Sigmoid", [self.node("MatMul", [x, self.weight(width, out)])[0]])[0],
                ],
            )[0]
        if way == "Norm":
            return self.node("LayerNormalization", [y, self.weight(out), self.weight(out)])[0]
        return self.node(way, [y])[0] if way else y

    def across(self, x: str, axis: str) -> str:
        """Units on the axis of batches, or of times: a product over it, and sometimes a bias."""
        size = self.batch if axis == "b" else self.time
        equation = "bsn,bc->csn" if axis == "b" else "bsn,sc->bcn"
        y = self.node("Einsum", [x, self.weight(size, size)], equation=equation)[0]
        if self.chance(0.3):
            y = self.node("Add", [y, self.weight(*((size, 1, 1) if axis == "b" else (size, 1)))])[0]
        way = self.one_of("", "", "Relu", "Tanh")
        return self.node(way, [y])[0] if way else y

    def cell(self, x: str, width: int) -> tuple[str, int]:
        """A recurrent cell; sometimes time stands where batches do."""
        kind, hidden = self.one_of("RNN", "GRU", "LSTM"), int(self.rng.integers(2, 5))
        direction = self.one_of("forward", "reverse", "bidirectional")
        d, gates = 2 if direction == "bidirectional" else 1, {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
        is_turned = self.is_any_batch or self.chance()
        times, batches = (self.time, self.batch) if is_turned else (self.batch, self.time)
        start = self.node("Transpose", [x], perm=[1, 0, 2])[0] if is_turned else x
        names = [
            start,
            self.weight(d, gates * hidden, width, spread=0.6),
            self.weight(d, gates * hidden, hidden, spread=0.6),
        ]
        names += [self.weight(d, 2 * gates * hidden) if self.chance(0.6) else ""]
        names += [self.lengths(times, batches) if self.chance(0.4) else ""]
        for _ in range(2 if kind == "LSTM" else 1):
            names.append(self.state(d, batches, hidden) if self.chance(0.4) else "")
        if kind == "LSTM" and self.chance(0.3):
            names.append(self.weight(d, 3 * hidden))
        while not names[-1]:
            names.pop()
        attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
        if self.chance(0.3):
            attributes["clip"] = float(self.one_of(0.3, 1.0, 5.0))
        if kind == "GRU":
            attributes["linear_before_reset"] = int(self.chance())
        if kind == "LSTM" and self.chance(0.2):
            attributes["input_forget"] = 1
        if self.chance(0.3):
            usual = {
                "RNN": ["Tanh"],
                "GRU": ["Sigmoid", "Tanh"],
                "LSTM": ["Sigmoid", "Tanh", "Tanh"],
            }[kind]
            attributes["activations"] = [
                a if self.chance(0.8) else self.one_of("Relu", "Softsign", "Sigmoid")
                for a in usual * d
            ]
        y = self.node(kind, names, **attributes)[0]
        y = self.node("Transpose", [y], perm=[2, 0, 1, 3] if is_turned else [0, 2, 1, 3])[0]
        # a cell's result is [times, directions, batches, hidden]
        return self.node("Reshape", [y, self.const([0, self.time, d * hidden])])[0], d * hidden

    def lengths(self, times: int, batches: int) -> str:
        if self.is_any_batch or self.chance():
            name = f"in{len(self.inputs)}"
            self.inputs.append(
                helper.make_tensor_value_info(
                    name, TensorProto.INT32, ["b" if self.is_any_batch else batches]
                )
            )
            return name
        return self.const(self.rng.integers(1, times + 1, batches), np.int32)

    def state(self, d: int, batches: int, hidden: int) -> str:
        if self.is_any_batch:
            return ""
        return (
            self.const(np.zeros((d, batches, hidden)), F)
            if self.chance(0.2)
            else self.weight(d, batches, hidden)
        )

    def attention(self, x: str, width: int) -> tuple[str, int]:
        """Attention with biases, and masks before and behind the softmax."""
        heads, inner, out = (
            int(self.rng.integers(1, 3)),
            int(self.rng.integers(2, 4)),
            int(self.rng.integers(2, 5)),
        )
        parts, biases = [], {}
        for part in "qkv":
            p = self.node("MatMul", [x, self.weight(width, heads * inner)])[0]
            if self.chance(0.8):
                p, biases[part] = self.bias(p, heads * inner)
            p = self.node("Reshape", [p, self.const([0, self.time, heads, inner])])[0]
            parts.append(
                self.node("Transpose", [p], perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3])[0]
            )
        scores = self.masked(self.node("MatMul", parts[:2])[0], before=True)
        shares = self.masked(
            self.node("Softmax", [scores], axis=-1 if self.chance(0.9) else 2)[0], before=False
        )
        seen = self.node(
            "Transpose", [self.node("MatMul", [shares, parts[2]])[0]], perm=[0, 2, 1, 3]
        )[0]
        flat = self.node("Reshape", [seen, self.const([0, self.time, heads * inner])])[0]
        back = self.weight(heads * inner, out)
        y, last = self.bias(self.node("MatMul", [flat, back])[0], out)
        if "v" in biases:
            self.pairs.append((biases["v"], back, last))
        way = self.one_of("", "Relu", "Tanh")
        return self.node(way, [y])[0] if way else y, out

    def masked(self, x: str, before: bool) -> str:
        """Scores, or shares of them, with masks."""
        ways = (
            ("", "", "Add", "Mul", "Where", "scale", "Identity")
            if before
            else ("", "", "Mul", "Where", "Dropout", "Cast")
        )
        for _ in range(int(self.rng.integers(1, 3))):
            match self.one_of(*ways):
                case "Add":
                    x = self.node("Add", [x, self.mask()])[0]
                case "Mul":
                    x = self.node("Mul", [x, self.mask()])[0]
                case "Where":
                    keep = self.node("Cast", [self.mask()], to=TensorProto.BOOL)[0]
                    # minus infinity everywhere makes NaN, which onnxruntime's cells turn to numbers
                    fill = self.const(
                        self.one_of(float(np.finfo(F).min), -1e4, -5.0) if before else 0, F
                    )
                    x = self.node("Where", [keep, x, fill] if self.chance() else [keep, fill, x])[0]
                case "scale":
                    x = self.node(self.one_of("Mul", "Div"), [x, self.const(1.7, F)])[0]
                case "Cast":
                    wide = self.node("Cast", [x], to=TensorProto.DOUBLE)[0]
                    x = self.node("Cast", [wide], to=TensorProto.FLOAT)[0]
                case "":
                    pass
                case way:
                    x = self.node(way, [x])[0]
        return x

    def mask(self) -> str:
        """An input of numbers, floats or not, for each query and key, or each key; or weights."""
        match self.one_of("float", "whole", "weights"):
            case "float":
                return self.given(
                    TensorProto.FLOAT, self.batch, 1, self.one_of(1, self.time), self.time
                )
            case "whole":
                whole = self.given(TensorProto.INT64, self.batch, 1, 1, self.time)
                return self.node("Cast", [whole], to=TensorProto.FLOAT)[0]
        return self.const(self.rng.integers(0, 2, (self.time, self.time)), F)

    def model(self, y: str) -> ModelProto:
        outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "cells", self.inputs, outputs, self.weights)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=RUNTIME_IR
        )


ACTIVATIONS = {"Relu": {}, "LeakyRelu": {"alpha": 0.2}, "Sigmoid": {}, "Tanh": {}}


def convolutions(activation: str, rng: Rng) -> ModelProto:
    """Convolutions, with a residual, that onnxruntime fuses with what stands behind them."""
    g = Cells(rng, 2, 6, False)
    x = g.given(TensorProto.FLOAT, 2, 3, 6, 6)
    a = g.node("Conv", [x, g.weight(4, 3, 3, 3, spread=0.3), g.weight(4)], pads=[1] * 4)[0]
    a = g.node(activation, [a], **ACTIVATIONS[activation])[0]
    b = g.node("Conv", [a, g.weight(5, 4, 1, 1), g.weight(5)])[0]
    b = g.node(activation, [b], **ACTIVATIONS[activation])[0]
    c = g.node("Conv", [b, g.weight(4, 5, 3, 3, spread=0.3), g.weight(4)], pads=[1] * 4)[0]
    d = g.node(activation, [g.node("Add", [c, a])[0]], **ACTIVATIONS[activation])[0]
    y = g.node("Flatten", [g.node("GlobalAveragePool", [d])[0]])[0]
    return g.model(g.node("Gemm", [y, g.weight(4, 3), g.weight(3)])[0])


def dense(activation: str, rng: Rng) -> ModelProto:
    """Gemms with activations."""
    g = Cells(rng, 2, 6, False)
    y = g.given(TensorProto.FLOAT, 2, 3)
    for count, width in ((3, 5), (5, 6)):
        y = g.node("Gemm", [y, g.weight(count, width), g.weight(width)])[0]
        y = g.node(activation, [y], **ACTIVATIONS[activation])[0]
    return g.model(g.node("Gemm", [y, g.weight(6, 3), g.weight(3)])[0])
