"""Operators that only move elements: they are run on the labels themselves.

Spec: https://onnx.ai/onnx/operators/
"""

import itertools
import math

import numpy as np

from ...errors import UnknownStructureError
from ..kinds import (
    Equation,
    Expand,
    Kind,
    Movement,
    Node,
    Reshape,
    Source,
    Step,
    Take,
    Transpose,
    read_axis_attribute,
    require_rank,
    require_shape,
)
from ..laws import Independent, Law, Linear, ScaledNode
from ..registry import register


@register("Flatten")
@register("Reshape", "Squeeze", "Unsqueeze", reads_values_from=1)
def describe_reshape(node: Node) -> Kind:
    """Moves elements, row-major."""
    return Movement([((0,), [Reshape(node.find_shape())])])


@register("Transpose")
def describe_transpose(node: Node) -> Kind:
    """Moves elements."""
    order = node.attributes.get("perm") or range(require_rank(node))[::-1]
    return Movement([((0,), [Transpose(tuple(order))])])


@register("Expand", reads_values_from=1)
def describe_expand(node: Node) -> Kind:
    """Repeats elements."""
    return Movement([((0,), [Expand(node.find_shape())])])


@register("Tile", reads_values_from=1)
def describe_tile(node: Node) -> Kind:
    """Repeats elements."""
    repeats = node.read_value(1).tolist()
    steps: list[Step] = [
        Take(axis, np.tile(np.arange(size), repeat))
        for axis, (size, repeat) in enumerate(zip(require_shape(node), repeats, strict=True))
        if repeat != 1
    ]
    return Movement([((0,), steps)])


@register("Concat")
def describe_concat(node: Node) -> Kind:
    """Elements stand one after the other."""
    operands = tuple(i for i, s in enumerate(node.shapes) if s is not None)
    return Movement([(operands, [])], read_axis_attribute(node, 0, require_rank(node)))


@register("Split", reads_values_from=1)
def describe_split(node: Node) -> Kind:
    """Takes positions."""
    axis = read_axis_attribute(node, 0, require_rank(node))
    starts = np.cumsum([0, *(node.find_shape(i)[axis] for i in range(node.results))])
    return Movement([((0,), [Take(axis, np.arange(a, b))]) for a, b in itertools.pairwise(starts)])


@register("Slice", reads_values_from=1)
def describe_slice(node: Node) -> Kind:
    """Takes positions."""
    shape = require_shape(node)
    if node.opset < 10:
        given = [node.attributes.get(name) for name in ("starts", "ends", "axes")]
    else:
        given = [
            node.read_value(i).tolist() if s is not None else None
            for i, s in enumerate(node.shapes)
            if i
        ]
    starts, ends, axes, steps = (list(g or []) for g in [*given, None, None][:4])
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    moves: list[Step] = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        # numpy counts a negative end from the back. ONNX uses the smallest integer for an end
        # before the first element.
        stop = None if step < 0 and end < -size else end
        moves.append(Take(axis % len(shape), np.arange(size)[slice(start, stop, step)]))
    return Movement([((0,), moves)])


@register("Gather")
def describe_gather(node: Node) -> Kind:
    """Takes known positions; unknown ones keep the order of the axis."""
    rank, places = require_rank(node), require_rank(node, 1)
    axis = read_axis_attribute(node, 0, rank)
    try:
        index = node.read_value(1)
    except UnknownStructureError:
        names = [f"x{i}" for i in range(rank)]
        inserted = [f"i{i}" for i in range(places)]
        operand = [f"[{n}]" if i == axis else n for i, n in enumerate(names)]
        result = names[:axis] + inserted + names[axis + 1 :]
        return Equation(f"{' '.join(operand)}, {' '.join(inserted)} -> {' '.join(result)}")
    shape = require_shape(node)
    flat = np.where(index < 0, index + shape[axis], index).astype(np.int64).reshape(-1)
    return Movement(
        [((0,), [Take(axis, flat), Reshape((*shape[:axis], *index.shape, *shape[axis + 1 :]))])]
    )


@register("GatherND")
def describe_gather_nd(node: Node) -> Kind:
    """Takes known positions."""
    if node.attributes.get("batch_dims"):
        raise UnknownStructureError("batch dimensions")
    shape, index = require_shape(node), require_shape(node, 1)
    depth = index[-1]
    try:
        value = node.read_value(1)
    except UnknownStructureError:
        pass
    else:
        lead = shape[:depth]
        places = tuple(
            np.where(v < 0, v + n, v) for v, n in zip(np.moveaxis(value, -1, 0), lead, strict=True)
        )
        flat = np.ravel_multi_index(places, lead)
        steps: list[Step] = [Reshape((int(np.prod(lead)), *shape[depth:])), Take(0, flat.ravel())]
        return Movement([((0,), [*steps, Reshape((*index[:-1], *shape[depth:]))])])
    names = [f"x{i}" for i in range(require_rank(node))]
    inserted = [f"i{i}" for i in range(len(index) - 1)]
    operand = [f"[{n}]" if i < depth else n for i, n in enumerate(names)]
    index_axes, result = [*inserted, "[k]"], inserted + names[depth:]
    return Equation(f"{' '.join(operand)}, {' '.join(index_axes)} -> {' '.join(result)}")


def find_padding_law(node: ScaledNode) -> Law | None:
    """Find the law of Pad: zeros beside units stay zeros whatever multiplies the units."""
    if len(node.operands) < 3 or not node.operands[2]:
        return None if node.attributes.get("value", 0.0) else Linear(operands=(0,))
    value = node.find_value(2)
    return None if value is None or value.any() else Linear(operands=(0,))


@register("Pad", law=find_padding_law, reads_values_from=1)
def describe_pad(node: Node) -> Kind:
    """Moves elements; padding stands apart."""
    if node.attributes.get("mode", b"constant") != b"constant":
        raise UnknownStructureError("a padding that repeats elements")
    shape = require_shape(node)
    if node.opset < 11:
        pads = node.attributes.get("pads") or node.attributes["paddings"]
        axes = list(range(len(shape)))
    else:
        pads = node.read_value(1).tolist()
        given = len(node.shapes) > 3 and node.shapes[3] is not None
        axes = (
            [a % len(shape) for a in node.read_value(3).tolist()]
            if given
            else list(range(len(shape)))
        )
        if len(node.shapes) > 2 and math.prod(node.shapes[2] or ()) > 1:
            raise UnknownStructureError("a padding of many values")
    half = len(pads) // 2
    steps: list[Step] = []
    for i, axis in enumerate(axes):
        before, after = pads[i], pads[i + half]
        if before or after:
            kept = np.arange(max(0, -before), shape[axis] - max(0, -after))
            steps.append(
                Take(
                    axis,
                    np.concatenate([np.full(max(0, before), -1), kept, np.full(max(0, after), -1)]),
                )
            )
    return Movement([((0,), steps)])


@register("DepthToSpace")
def describe_depth_to_space(node: Node) -> Kind:
    """Moves elements."""
    b, c, h, w = require_shape(node)
    s = node.attributes["blocksize"]
    if node.attributes.get("mode", b"DCR") == b"CRD":
        steps: list[Step] = [Reshape((b, c // s**2, s, s, h, w)), Transpose((0, 1, 4, 2, 5, 3))]
    else:
        steps = [Reshape((b, s, s, c // s**2, h, w)), Transpose((0, 3, 4, 1, 5, 2))]
    return Movement([((0,), [*steps, Reshape((b, c // s**2, h * s, w * s))])])


@register("SpaceToDepth")
def describe_space_to_depth(node: Node) -> Kind:
    """Moves elements."""
    b, c, h, w = require_shape(node)
    s = node.attributes["blocksize"]
    steps: list[Step] = [Reshape((b, c, h // s, s, w // s, s)), Transpose((0, 3, 5, 1, 2, 4))]
    return Movement([((0,), [*steps, Reshape((b, c * s**2, h // s, w // s))])])


@register("Shape", "Size", law=Independent())
@register("Range", reads_values_from=0)
def describe_shape(node: Node) -> Kind:
    """Depends on no order; its elements have places."""
    return Source()


@register("ConstantOfShape", reads_values_from=0)
def describe_constant_of_shape(node: Node) -> Kind:
    """All elements are equal."""
    return Source(uniform=True)
