"""The law of factors and of free biases: whatever they allow leaves the outputs as they are.

Random graphs with recurrent cells and masks, units on any axis, and the node tests of the `onnx`
package; onnxruntime is the judge.
"""

from __future__ import annotations

import functools
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.biases.search import find_cancelling_biases, find_inert_biases
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph

from . import oracle
from .test_integrity import attention
from .test_law import trials
from .test_scaling import found, violation

F = np.float32
RUNTIME_IR = 10
"""onnxruntime reads this version of the file format."""
STRENGTH = 0.7
"""The deviation of the factors' logarithms."""
Rng = np.random.Generator


def rescaled(model: ModelProto, seed: int) -> tuple[ModelProto, tuple[str, ...]]:
    """The model attacked with factors, and the weights that they changed."""
    result = lady.attack(model, "rescale", STRENGTH, seed=seed)
    return result.model, result.weights


def one_factor_each(model: ModelProto, seed: int) -> Iterator[tuple[str, ModelProto]]:
    """The model with each factor, and each sign, that is allowed, alone, on one unit or on all."""
    graph, rng = load_graph(model), np.random.default_rng(seed)
    for scaling in found(model):
        units = len(scaling.slots[0].index) if scaling.slots else 0
        logs = [np.exp(row * rng.normal(0, STRENGTH)) for row in scaling.scales]
        for row in [*logs, *(1.0 - 2.0 * flips for flips in scaling.signs)]:
            factors = np.ones((len(scaling.slots), units))
            chosen = rng.random(units) < 0.5
            chosen[rng.integers(units)] = True
            factors[:, chosen] = row[:, None]
            arrays = {n: graph.array(n).copy() for n in scaling.names}
            scaling.apply(arrays, factors)
            other = graph.copy()
            for name, array in arrays.items():
                other.replace(name, array)
            yield f"{scaling.group} {row}", other.to_model("factor")


# ---- random graphs of cells and masks


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
                    # minus infinity at all places makes NaN, of which onnxruntime's cells make numbers again
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
        """An input of numbers, floats or not, for each query and key, or each key, or one of weights."""
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


def cells(seed: int) -> Cells:
    """A random graph of cells, attention, and products over any axis; its last tensor is its output."""
    rng = np.random.default_rng(seed)
    is_any_batch = bool(rng.random() < 0.4)
    g = Cells(
        rng,
        2 if is_any_batch else int(rng.choice([1, 2, 3, 5])),
        int(rng.integers(2, 5)),
        is_any_batch,
    )
    width = int(rng.integers(2, 5))
    x, width = g.dense(g.given(TensorProto.FLOAT, g.batch, g.time, 3), 3, width), width
    for _ in range(int(rng.integers(1, 4))):
        match g.one_of("cell", "cell", "attention", "dense", "across", "across", "residual"):
            case "cell":
                x, width = g.cell(x, width)
            case "attention":
                x, width = g.attention(x, width)
            case "dense":
                out = int(rng.integers(2, 6))
                x, width = g.dense(x, width, out), out
            case "across":
                x = g.across(x, "s" if is_any_batch else g.one_of("b", "s"))
            case "residual":
                x = g.node("Add", [x, g.dense(x, width, width)])[0]
    x = g.node("MatMul", [x, g.weight(width, 3)])[0]
    for axis in "s" if is_any_batch else "bs":
        if g.chance():
            x = g.across(x, axis)
    return g


@functools.cache
def grown(seed: int) -> tuple[Cells, ModelProto]:
    g = cells(seed)
    return g, g.model(g.nodes[-1].output[0])


@pytest.mark.parametrize("seed", trials(60, 2000))
def test_factors_leave_cells_and_masks_as_they_are(seed: int) -> None:
    g, model = grown(seed)
    suspect, _ = rescaled(model, seed)
    assert violation(model, suspect, longest=g.time + 1) == 0
    for what, other in one_factor_each(model, seed):
        assert violation(model, other, longest=g.time + 1) == 0, what


@pytest.mark.parametrize("seed", trials(60, 2000))
def test_free_biases_change_nothing(seed: int) -> None:
    g, model = grown(seed)
    graph = load_graph(model)
    for names, suspect in changed_biases(g, graph):
        arrays = [{n: m.array(n) for n in graph.tensors} for m in (graph, suspect)]
        if find_inert_biases(graph, *arrays) or find_cancelling_biases(graph, *arrays):
            assert violation(model, suspect.to_model("bias"), longest=g.time + 1) == 0, names


def changed_biases(g: Cells, graph: Graph) -> Iterator[tuple[tuple[str, ...], Graph]]:
    """The graph with each of its biases changed alone, and each with one behind that takes it back."""
    rng = np.random.default_rng(0)
    for name in graph.tensors:
        array = graph.array(name)
        if array.dtype == F and array.ndim == 1 and array.size > 1:
            other = graph.copy()
            other.replace(name, array + rng.standard_normal(array.size).astype(F))
            yield (name,), other
    for bias, weight, last in g.pairs:
        step = rng.standard_normal(graph.array(bias).size)
        other = graph.copy()
        other.replace(bias, (graph.array(bias) + step).astype(F))
        other.replace(last, (graph.array(last) - step @ graph.array(weight)).astype(F))
        yield (bias, last), other


# ---- what made faults


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("start", [False, True])
def test_units_on_the_axis_of_batches_have_no_factors(kind: str, start: bool) -> None:
    """A cell bends what comes in: only the units that its products sum over may be multiplied."""
    g = Cells(np.random.default_rng(0), 3, 4, False)
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    x = g.given(TensorProto.FLOAT, 4, 3, 2)
    x = g.node("Einsum", [x, g.weight(3, 3)], equation="sbi,bc->sci")[0]
    names = [x, g.weight(1, gates * 5, 2), g.weight(1, gates * 5, 5), "", ""]
    y = g.node(kind, [*names, g.weight(1, 3, 5)] if start else names[:3], hidden_size=5)[0]
    y = g.node("Squeeze", [y, g.const([1])])[0]
    model = g.model(g.node("Einsum", [y, g.weight(3, 2)], equation="scd,cb->sbd")[0])
    (own,) = [s for s in found(model) if "c0" in s.names]
    assert not own.free
    suspect, _ = rescaled(model, 1)
    assert violation(model, suspect) == 0


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


def transposed(activation: str, rng: Rng) -> ModelProto:
    """Scores of queries and keys, a number times a product with a transpose, with factors that cancel."""
    g = Cells(rng, 2, 6, False)
    x = g.given(TensorProto.FLOAT, 2, 6, 3)
    q, k, v = (g.node("MatMul", [x, g.weight(3, 4)])[0] for _ in range(3))
    scores = g.node("MatMul", [q, g.node("Transpose", [k], perm=[0, 2, 1])[0]])[0]
    shares = g.node("Softmax", [g.node("Mul", [scores, g.const(0.5, F)])[0]], axis=-1)[0]
    y = g.node(activation, [g.node("MatMul", [shares, v])[0]], **ACTIVATIONS[activation])[0]
    return g.model(g.node("MatMul", [y, g.weight(4, 3)])[0])


def normed(activation: str, rng: Rng) -> ModelProto:
    """A sum that is normalised, with a gain, a bias and a dense layer behind; and a layer with Gelu."""
    g = Cells(rng, 2, 6, False)
    x = g.given(TensorProto.FLOAT, 2, 6, 3)
    a = g.node("MatMul", [x, g.weight(3, 8)])[0]
    a = g.node("Add", [a, g.weight(8)])[0]
    b = g.node(activation, [g.node("MatMul", [a, g.weight(8, 5)])[0]], **ACTIVATIONS[activation])[0]
    b = g.node("Add", [g.node("MatMul", [b, g.weight(5, 8)])[0], a])[0]
    n = g.node("LayerNormalization", [b, g.weight(8), g.weight(8)], epsilon=1e-5)[0]
    return g.model(g.node("MatMul", [n, g.weight(8, 3)])[0])


def optimised(model: ModelProto, path: Path) -> ModelProto:
    """The model as onnxruntime's extended optimisation writes it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return onnx.load(path)


FUSED = {"convolutions": (convolutions, "FusedConv"), "dense": (dense, "FusedGemm")} | {
    "transposed": (transposed, "FusedMatMul"),
    "normed": (normed, "SkipLayerNormalization"),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", FUSED)
def test_fused_operators_let_pass_what_their_plain_forms_do(
    name: str, activation: str, tmp_path: Path
) -> None:
    build, operator = FUSED[name]
    model = build(activation, np.random.default_rng(1))
    fused = optimised(model, tmp_path / "fused.onnx")
    assert operator in {n.op_type for n in fused.graph.node}
    told = [
        sorted((len(s.slots[0].index), len(s.scales), len(s.signs)) for s in found(m))
        for m in (model, fused)
    ]
    assert told[0] == told[1]
    suspect, names = rescaled(fused, 1)
    assert violation(fused, suspect) == 0
    if names:
        assert lady.check(fused, lady.permute(suspect, 1).model).verdict == "rescaled"


def masked(kind: str) -> ModelProto:
    """Attention with one mask more."""
    model = attention(0)
    graph, mask = (
        model.graph,
        helper.make_tensor_value_info("mask", TensorProto.INT64, [2, 1, 5, 5]),
    )
    graph.input.append(mask)
    graph.initializer.extend(numpy_helper.from_array(np.array(v, F), n) for n, v in FILLS.items())
    nodes = list(graph.node)
    at = next(k for k, n in enumerate(nodes) if n.op_type == "Softmax")
    is_before, kept, operator, operands = MASKS[kind]
    here = nodes[at]
    if is_before:
        here.input[0] = "masked"
        step = helper.make_node(operator, ["s" if o == "it" else o for o in operands], ["masked"])
    else:
        here.output[0] = "shares"
        step = helper.make_node(operator, ["shares" if o == "it" else o for o in operands], ["p"])
    nodes.insert(at + (not is_before), step)
    nodes.insert(
        0,
        helper.make_node(
            "Cast", ["mask"], [kept], to=TensorProto.BOOL if kept == "keep" else TensorProto.FLOAT
        ),
    )
    del graph.node[:]
    graph.node.extend(nodes)
    return model


FILLS = {"infinite": -np.inf, "lowest": np.finfo(F).min, "low": -50.0, "nought": 0.0}
MASKS = {
    "added": (True, "number", "Add", ["it", "number"]),
    "multiplied": (True, "number", "Mul", ["it", "number"]),
    "infinite": (True, "keep", "Where", ["keep", "it", "infinite"]),
    "lowest": (True, "keep", "Where", ["keep", "it", "lowest"]),
    "low": (True, "keep", "Where", ["keep", "it", "low"]),
    "shares multiplied": (False, "number", "Mul", ["it", "number"]),
    "shares chosen": (False, "keep", "Where", ["keep", "it", "nought"]),
    "shares added": (False, "number", "Add", ["it", "number"]),
}
KEYS_FREE = {"added", "infinite", "lowest", "shares multiplied", "shares chosen", "shares added"}
VALUES_FREE = {"added", "multiplied", "infinite", "lowest", "low"}


@pytest.mark.parametrize("kind", MASKS)
def test_biases_are_free_where_no_mask_multiplies(kind: str) -> None:
    model = masked(kind)
    graph = load_graph(model)
    step = np.arange(1, 9) / 4
    back = {"bv": graph.array("bv") + step, "bo": graph.array("bo") - step @ graph.array("wo")}
    for free, new in (
        (kind in KEYS_FREE, {"bk": graph.array("bk") + step}),
        (kind in VALUES_FREE, back),
    ):
        suspect = graph.copy()
        for name, array in new.items():
            suspect.replace(name, array.astype(F))
        assert lady.check(model, suspect).accepted == free, list(new)
        assert (violation(model, suspect.to_model("biases")) == 0) == free, list(new)


# ---- the node tests of the `onnx` package


def node_tests() -> list[Any]:
    """The cases of the package, the small ones."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            c for c in collect_testcases(None) if c.data_sets and c.model.ByteSize() < MOST_BYTES
        ]


MOST_BYTES = 20_000
"""Larger node tests are left out."""
PLACES = 4
"""Of so many operands and axes each node test is tried with units."""


def between(
    model: ModelProto, arrays: Mapping[str, np.ndarray], operand: str, axis: int
) -> ModelProto | None:
    """The model between products: with units on one axis of an operand, and on every axis of its results.

    All other operands are weights. None where no result has floats and a known shape.
    """
    found = ModelProto()
    found.CopyFrom(model)
    found.ir_version = min(found.ir_version, RUNTIME_IR)
    rng = np.random.default_rng(zlib.crc32(f"{operand} {axis}".encode()) + model.ByteSize())
    graph, shape = found.graph, list(arrays[operand].shape)
    del graph.input[:]
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items() if n != operand
    )
    _multiply(
        graph, 0, "source", operand, (*shape[:axis], 3, *shape[axis + 1 :]), axis, shape[axis], rng
    )
    wide = [*shape[:axis], 3, *shape[axis + 1 :]]
    graph.input.append(helper.make_tensor_value_info("source", TensorProto.FLOAT, wide))
    outputs = [o for o in graph.output if o.type.tensor_type.elem_type == TensorProto.FLOAT]
    del graph.output[:]
    for output in outputs:
        name, sizes = output.name, [d.dim_value for d in output.type.tensor_type.shape.dim]
        for a, size in enumerate(sizes):
            if size > 1:
                last, name = name, f"{name} {a}"
                _multiply(graph, len(graph.node), last, name, sizes, a, 2, rng)
                sizes[a] = 2
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return found if outputs else None


def _multiply(
    graph: onnx.GraphProto,
    at: int,
    x: str,
    y: str,
    sizes: Sequence[int],
    axis: int,
    count: int,
    rng: Rng,
) -> None:
    """A product over one axis, which has so many places then."""
    letters = "abcdefgh"[: len(sizes)]
    text = f"{letters},{letters[axis]}z->{letters.replace(letters[axis], 'z')}"
    weight = (rng.standard_normal((sizes[axis], count)) * sizes[axis] ** -0.5).astype(F)
    graph.initializer.append(numpy_helper.from_array(weight, f"weight of {y}"))
    graph.node.insert(
        at,
        helper.make_node("Einsum", [x, f"weight of {y}"], [y], name=f"product {y}", equation=text),
    )


def sweep(case: Any) -> Iterator[ModelProto]:
    """A node test with some of its operands and axes between products, and all else weights."""
    names = [v.name for v in case.model.graph.input]
    arrays = {
        n: a for n, a in zip(names, case.data_sets[0][0], strict=False) if isinstance(a, np.ndarray)
    }
    if len(arrays) < len(names):
        return
    places = [
        (n, a) for n, x in arrays.items() if x.dtype == F for a in range(x.ndim) if x.shape[a] > 1
    ]
    order = np.random.default_rng(zlib.crc32(case.name.encode())).permutation(len(places))
    for k in order[:PLACES].tolist():
        model = between(case.model, arrays, *places[k])
        if model is not None and oracle.opened(model.SerializeToString()) is not None:
            yield model


@pytest.mark.long
def test_node_tests_keep_their_outputs() -> None:
    applied, broken = set(), []
    for case in node_tests():
        for k, model in enumerate(sweep(case)):
            suspect, names = rescaled(model, k)
            if names:
                applied.add(case.name)
                if violation(model, suspect) > 0:
                    broken.append((case.name, k))
    assert not broken
    assert len(applied) > 300
