"""Operators that pick, cut, pad or transform places, and keep the order of channels.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import math

import numpy as np

from ...errors import UnknownStructureError
from ...vocabulary.structure import MICROSOFT
from ..kinds import (
    Equation,
    Kind,
    Movement,
    Node,
    Reshape,
    Source,
    Step,
    Take,
    Transpose,
    require_rank,
    require_shape,
)
from ..laws import Linear
from ..registry import register
from ..step_list import StepList
from .heads import find_operand


@register("UnfoldTensor", domain=MICROSOFT)
def describe_unfolding(node: Node) -> Kind:
    """Moves elements: windows along an axis."""
    shape = require_shape(node)
    axis = int(node.attributes.get("dim", -1)) % len(shape)
    size, step = int(node.attributes["size"]), int(node.attributes.get("step", 1))
    count = (shape[axis] - size) // step + 1
    index = (np.arange(count)[:, None] * step + np.arange(size)).reshape(-1)
    rank = len(shape)
    steps: list[Step] = [
        Take(axis, index),
        Reshape((*shape[:axis], count, size, *shape[axis + 1 :])),
        Transpose((*range(axis + 1), *range(axis + 2, rank + 1), axis + 1)),
    ]
    return Movement([((0,), steps)])


@register("RemovePadding", domain=MICROSOFT)
def describe_packing(node: Node) -> Kind:
    """Tokens keep their order, and channels theirs; at most as many are left as there were."""
    w, (batch, length, _) = StepList(), require_shape(node)
    w.keep("1", 1)
    return w.finish(
        *[
            w.relate("[b] [s] i -> [n] i", "0", n=batch * length),
            w.relate("[b] -> [b] [s]", "1", s=length),
            w.relate("[b] -> [c]", "1", c=batch + 1),
            w.relate("[b] -> [z]", "1", z=1),
        ][: node.results]
    )


@register("RestorePadding", domain=MICROSOFT)
def describe_unpacking(node: Node) -> Kind:
    """Tokens keep their order, and channels theirs."""
    return Equation("[n] i, [b] [s] -> [b] [s] i")


@register("CropAndResize", domain=MICROSOFT)
def describe_cropping(node: Node) -> Kind:
    """Pictures and places keep their order, boxes and channels are free."""
    height, width = (int(n) for n in node.read_value(3))
    w = StepList()
    text = "[b] c [h] [w], r [k], r -> r c [y] [z]"
    w.keep("3", 1)
    # Outside the picture is another number.
    law = None if node.attributes.get("extrapolation_value") else Linear()
    return w.finish(w.relate(text, "0", "1", "2", law=law, y=height, z=width))


@register("Rfft", "Irfft", domain=MICROSOFT)
def describe_fourier_transform(node: Node) -> Kind:
    """The axis keeps its order, and so do the real and the imaginary part."""
    *outer, length = require_shape(node)
    if int(node.attributes["signal_ndim"]) != 1:
        raise UnknownStructureError("a transform of several axes")
    names = " ".join(f"x{k}" for k in range(len(outer)))
    if node.operator == "Rfft":
        return Equation(f"{names} [n] -> {names} [f] [z]", {"f": length // 2 + 1, "z": 2})
    left = " ".join(f"x{k}" for k in range(len(outer) - 1))
    return Equation(f"{left} [f] [z] -> {left} [n]", {"n": 2 * (outer[-1] - 1)})


@register("RelativePositionBias", domain=MICROSOFT)
def describe_position_bias(node: Node) -> Kind:
    """Distances and places keep their order, heads are free."""
    query, key = (int(node.read_value(k).reshape(())) for k in (1, 2))
    w = StepList()
    buckets, heads = require_shape(node)
    # Heads are rows of the table: it is stored the other way round than its shape says.
    table = w.move("0", Reshape((heads, buckets)))
    bias = w.relate("h [k] -> h [s] [t]", table, s=query, t=key)
    return w.finish(w.move(bias, Reshape((1, heads, query, key))))


@register("GatedRelativePositionBias", domain=MICROSOFT)
def describe_gated_position_bias(node: Node) -> Kind:
    """Heads are free, and inside them one order of dimensions common to all; places are not."""
    # The operands: 0 query_layer, 1 query_bias, 2 rel_pos, 3 weight, 4 bias, 5 eco_a,
    # 6 token_offset.
    w, heads, shape = StepList(), int(node.attributes["num_heads"]), require_shape(node)
    width, (_, _, s, t) = shape[-1], require_shape(node, 2)
    d, wide = require_shape(node, 3)
    batch = shape[0]
    if find_operand(node, 6) is not None:
        batch = require_shape(node, 6)[0]
        w.keep("6", 2)
    query = w.move("0", Reshape((math.prod(shape[:-1]), heads, width // heads)))
    bias = w.move("1", Reshape((heads, width // heads)))
    query = w.combine(query, bias)
    halves = [w.move("3", Reshape((d, 2, wide // 2))), w.move("4", Reshape((2, wide // 2)))]
    gate = w.relate("[n] h d, d [p] e, [p] e -> h", query, *halves)
    eco = w.move("5", Reshape((heads,)))
    text = "h, 1 h [s] [t], h -> [b] h [s] [t]"
    return w.finish(w.relate(text, gate, "2", eco, b=batch, s=s, t=t))


@register("Range", domain=MICROSOFT)
def describe_range(node: Node) -> Kind:
    """Numbers that are counted along an axis."""
    return Source()


@register("ComplexMul", "ComplexMulConj", domain=MICROSOFT)
def describe_complex_product(node: Node) -> Kind:
    """Every number alone; its real and its imaginary part keep their places."""
    w, parts = StepList(), []
    for k in (0, 1):
        names = " ".join(f"x{a}" for a in range(require_rank(node, k) - 1))
        parts.append(w.relate(f"{names} [p] -> {names} [p]", str(k)))
    return w.finish(w.combine(*parts))
