"""Small models that mutants are made of: those of the tests, and `onnx`'s own node tests."""

from __future__ import annotations

import functools
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from . import builders, fused, pieces, splices, strategies
from .grown import ACTIVATIONS, Grown
from .special_models import BODIES, SPECIAL

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
    found += [Base("grown", f"pieces-{k}", functools.partial(pieces.pieces, k)) for k in range(60)]
    found += [Base("grown", f"grown-{k}", functools.partial(grown, k)) for k in range(120)]
    found += [Base("special", f.__name__, f) for f in SPECIAL]
    found += [Base("special", f.__name__, functools.partial(_first, f)) for f in BODIES]
    return found + (_node_tests() if node_tests else [])


def _first(build: Callable[[], tuple[ModelProto, object]]) -> ModelProto:
    return build()[0]


def grown(seed: int) -> ModelProto:
    """A random graph of `Grown`, with one or two heads."""
    pick = np.random.default_rng(seed)
    g = Grown(pick)
    g.maps["x"] = g.units(3)
    x = g.conv("x", int(pick.integers(2, 6)), 3)
    ends = []
    for step in pick.choice(strategies.STEPS, int(pick.integers(1, 6))):
        x = _one_more(g, x, str(step), pick)
        ends += [x] if pick.random() < 0.2 else []
    return g.model([g.head(t, bool(pick.integers(2))) for t in dict.fromkeys([*ends, x])])


def _one_more(g: Grown, x: str, step: str, pick: np.random.Generator) -> str:
    width = int(pick.choice((2, 3, 4, 5)))
    match step:
        case "conv":
            return g.conv(x, width, int(pick.choice((1, 3))), bool(pick.integers(2)))
        case "unary":
            return g.unary(str(pick.choice(ACTIVATIONS)), x)
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
