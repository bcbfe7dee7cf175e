"""Residual networks of dense layers, of which a part may be shared."""

from __future__ import annotations

import zlib
from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .builders import build

WIDTH = 24
"""The width of the residual stream."""


def backbone(
    seed: int = 0,
    *,
    layers: int = 4,
    hidden: int = 16,
    inputs: int = 8,
    outputs: int | None = 5,
    new: Collection[str] = (),
    slope: float = 0.1,
    before: str = "",
) -> onnx.ModelProto:
    """A stem, residual blocks, and a head.

    A weight of one name, seed and shape has the same values in all such networks.

    Args:
        seed: the seed of the weights.
        layers: the number of blocks.
        hidden: the number of hidden units of a block.
        inputs: the length of the input.
        outputs: the length of the output; None for a network without a head, whose output is the
            stream.
        new: the weights that are drawn anew.
        slope: the slope of the LeakyRelu of the second block; those of the others have 0.1.
        before: an operator that is applied to the input.
    """
    shapes = {"stem": (inputs, WIDTH), "stem_b": (WIDTH,)}
    made = [helper.make_node(before, ["x"], ["start"])] if before else []
    made += [
        helper.make_node("MatMul", ["start" if before else "x", "stem"], ["stem_m"]),
        helper.make_node("Add", ["stem_m", "stem_b"], ["s0"]),
    ]
    for k in range(layers):
        shapes |= {f"a{k}": (WIDTH, hidden), f"c{k}": (hidden,), f"b{k}": (hidden, WIDTH)}
        alpha = slope if k == 1 else 0.1
        made += [
            helper.make_node("MatMul", [f"s{k}", f"a{k}"], [f"m{k}"]),
            helper.make_node("Add", [f"m{k}", f"c{k}"], [f"n{k}"]),
            helper.make_node("LeakyRelu", [f"n{k}"], [f"r{k}"], alpha=alpha),
            helper.make_node("MatMul", [f"r{k}", f"b{k}"], [f"o{k}"]),
            helper.make_node("Add", [f"s{k}", f"o{k}"], [f"s{k + 1}"]),
        ]
    if outputs is not None:
        shapes |= {"head": (WIDTH, outputs), "head_b": (outputs,)}
        made += [
            helper.make_node("MatMul", [f"s{layers}", "head"], ["head_m"]),
            helper.make_node("Add", ["head_m", "head_b"], ["out"]),
        ]
    else:
        made[-1].output[0] = "out"
    for node in made:
        node.name = node.output[0]
    weights = {
        n: draw_weight(seed + (1000 if n in new else 0), n, shape) for n, shape in shapes.items()
    }
    return build(made, weights, {"x": [2, inputs]})


def draw_weight(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight that its seed, name and shape alone decide."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), *shape])
    return (rng.standard_normal(shape) * shape[0] ** -0.5).astype(np.float32)


def disturbed(model: onnx.ModelProto, level: float, seed: int = 0) -> onnx.ModelProto:
    """A copy with noise on all weights, in units of each weight's deviation."""
    rng = np.random.default_rng(seed)
    result = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in result.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            noise = rng.standard_normal(array.shape) * level * array.std()
            changed = (array + noise).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    return result
