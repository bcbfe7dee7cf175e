"""Factors of units: found, applied to a model, and held against what the model computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, helper

from lady_onnx.dataflow.engine import analyse_graph
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups.scaling import Scaling
from lady_onnx.scaling.walk import find_scalings
from lady_onnx.symmetry.finder import extract_groups

from . import oracle
from .builders import build

STRENGTH = 0.7
"""The deviation of the factors' logarithms."""
ROUNDING = 3e-6
"""A share of what a model's outputs usually are; single precision may round by it anywhere."""


def found(model: onnx.ModelProto) -> list[Scaling]:
    graph = load_graph(model)
    analysis = analyse_graph(graph)
    return list(find_scalings(graph, analysis, extract_groups(analysis).groups).values())


def rescaled(
    model: onnx.ModelProto, seed: int, spread: float = 0.5, together: bool = False
) -> onnx.ModelProto:
    """All units times random factors that are said to leave the function as it is.

    `together` takes one for all units of a group.
    """
    graph = load_graph(model).copy()
    generator = np.random.default_rng(seed)
    for scaling in found(model):
        names = scaling.names if scaling.free else set()
        arrays = {n: graph.array(n).copy() for n in names}
        factors = scaling.drawn(generator, spread)
        scaling.apply(
            arrays, np.broadcast_to(factors[:, :1], factors.shape) if together else factors
        )
        for name, array in arrays.items():
            graph.replace(name, array)
    return graph.to_model("rescaled")


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


def violation(
    model: onnx.ModelProto,
    suspect: onnx.ModelProto,
    examples: Sequence[Mapping[str, Any]] = (),
    longest: int = 2,
) -> float:
    """How far a suspect's outputs are from the model's, as a share of the largest.

    Zero where rounding may do the same.
    """
    reference, other = (oracle.opened(m.SerializeToString()) for m in (model, suspect))
    assert reference is not None, "onnxruntime refuses the model"
    assert other is not None, "onnxruntime refuses the suspect"
    samples = list(oracle.samples(reference, examples, [longest], 0))
    answers = [(oracle.run(reference, s), oracle.run(other, s)) for s in samples]
    floats = [a[np.isfinite(a)] for ours, _ in answers for a in ours or () if a.dtype.kind == "f"]
    usual = float(np.median([np.abs(a).max(initial=0) for a in floats])) if floats else 0.0
    worst = 0.0
    for sample, (ours, theirs) in zip(samples, answers, strict=True):
        apart = oracle.difference(ours, theirs)
        if apart <= oracle.TELLING or (
            apart < np.inf and measure_gap(ours, theirs) <= ROUNDING * usual
        ):
            continue
        if apart > oracle.STEEP * oracle.steepness(reference, sample):
            worst = max(worst, apart)
    return worst


def measure_gap(ours: Any, theirs: Any) -> float:
    pairs = zip(ours, theirs, strict=True)
    with np.errstate(invalid="ignore"):
        return max(
            float(np.nanmax(np.abs(x.astype(float) - y.astype(float)), initial=0)) for x, y in pairs
        )


MIRRORED = {
    "Sigmoid": ("Sigmoid", {}, []),
    "HardSigmoid": ("HardSigmoid", {}, []),
    "ReLU6": ("Clip", {}, ["nought", "six"]),
}
"""Activations with a mirror image."""
BEHIND = (
    "gemm",
    "matmul",
    "conv",
    "flattened",
    "pooled",
    "padded",
    "no bias",
    "twice",
    "added",
    "joined",
    "resized",
)
"""How a reflected layer is read; from `padded` on by something that cannot make up for it."""


def mirrored(activation: str, behind: str, seed: int = 0) -> onnx.ModelProto:
    """A convolution of 6 units, the activation, and what reads it."""
    rng = np.random.default_rng(seed)

    def w(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    operator, attributes, more = MIRRORED[activation]
    weights = {
        "a": w(6, 3, 3, 3),
        "ab": w(6),
        "b": w(5, 6, 3, 3),
        "bb": w(5),
        "c": w(5, 150),
        "cb": w(5),
        "d": w(6, 5),
    }
    weights |= {"nought": np.float32(0), "six": np.float32(6)}
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["h"]),
        helper.make_node(operator, ["h", *more], ["i"], **attributes),
    ]
    if behind in ("gemm", "matmul", "pooled"):
        nodes += [
            helper.make_node("GlobalAveragePool", ["i"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
        ]
        if behind == "gemm":
            nodes.append(helper.make_node("Gemm", ["f", "d", "bb"], ["j"]))
        else:
            nodes += [
                helper.make_node("MatMul", ["f", "d"], ["m"]),
                helper.make_node("Add", ["bb", "m"], ["j"]),
            ]
    elif behind == "flattened":
        nodes += [
            helper.make_node("Flatten", ["i"], ["f"]),
            helper.make_node("Gemm", ["f", "c", "cb"], ["j"], transB=1),
        ]
    elif behind == "resized":
        # as many scales as channels, so that they look like a bias
        weights |= {"b4": w(4, 6, 3, 3), "scales": np.float32([1, 1, 2, 2])}
        nodes += [
            helper.make_node("Conv", ["i", "b4"], ["k"]),
            helper.make_node("Resize", ["k", "", "scales"], ["j"]),
        ]
    elif behind == "joined":
        nodes += [
            helper.make_node("Concat", ["i", "i"], ["k"], axis=2),
            helper.make_node("Conv", ["k", "b", "bb"], ["j"]),
        ]
    else:
        pads = {"pads": [1] * 4} if behind == "padded" else {}
        nodes.append(
            helper.make_node("Conv", ["i", "b", *["bb"] * (behind != "no bias")], ["j"], **pads)
        )
    if behind == "twice":
        nodes += [
            helper.make_node("Mul", ["i", "i"], ["s"]),
            helper.make_node("Conv", ["s", "b2"], ["t"]),
        ]
        nodes.append(helper.make_node("Add", ["j", "t"], ["j2"]))
        weights["b2"] = w(5, 6, 3, 3)
    elif behind == "added":
        nodes[-1] = helper.make_node("Conv", ["i2", "b", "bb"], ["j"])
        nodes.insert(2, helper.make_node("Add", ["i", "e"], ["i2"]))
        weights["e"] = w(6, 1, 1)
    last = nodes[-1].output[0]
    nodes.append(helper.make_node("Relu", [last], ["out"]))
    used = {n for node in nodes for n in node.input}
    return build(nodes, {n: a for n, a in weights.items() if n in used}, {"x": [2, 3, 7, 7]})
