"""The law of factors and of free biases: whatever they allow leaves the outputs as they are.

Random graphs with recurrent cells and masks, units on any axis, and the node tests of the `onnx`
package; onnxruntime is the judge.
"""

from __future__ import annotations

import functools
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.biases.search import find_cancelling_biases, find_inert_biases
from lady_onnx.graph.loading import load_graph
from lady_onnx.graph.model import Graph

from ..helpers import oracle
from ..helpers.factor_networks import (
    ACTIVATIONS,
    RUNTIME_IR,
    Cells,
    F,
    Rng,
    convolutions,
    dense,
)
from ..helpers.factors import STRENGTH, found, one_factor_each, violation
from ..helpers.law import trials
from ..helpers.networks import attention


def rescaled(model: ModelProto, seed: int) -> tuple[ModelProto, tuple[str, ...]]:
    """The model attacked with factors, and the weights that they changed."""
    result = lady.attack(model, "rescale", STRENGTH, seed=seed)
    return result.model, result.weights


# ---- random graphs of cells and masks


def cells(seed: int) -> Cells:
    """A random graph of cells, attention, and products over any axis; its last tensor comes out."""
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
    """The graph with each of its biases changed alone, and with one behind that takes it back."""
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


def transposed(activation: str, rng: Rng) -> ModelProto:
    """Scores of queries and keys, a number times a product with a transpose; factors cancel."""
    g = Cells(rng, 2, 6, False)
    x = g.given(TensorProto.FLOAT, 2, 6, 3)
    q, k, v = (g.node("MatMul", [x, g.weight(3, 4)])[0] for _ in range(3))
    scores = g.node("MatMul", [q, g.node("Transpose", [k], perm=[0, 2, 1])[0]])[0]
    shares = g.node("Softmax", [g.node("Mul", [scores, g.const(0.5, F)])[0]], axis=-1)[0]
    y = g.node(activation, [g.node("MatMul", [shares, v])[0]], **ACTIVATIONS[activation])[0]
    return g.model(g.node("MatMul", [y, g.weight(4, 3)])[0])


def normed(activation: str, rng: Rng) -> ModelProto:
    """A normalised sum, with a gain, a bias and a dense layer behind; and a layer with Gelu."""
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
    """The model between products: units on an axis of an operand, and on all of its results.

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
