"""Operators that onnxruntime's optimisers and quantisation tools write.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import itertools
from typing import Any

import onnx.shape_inference
from onnx import TensorProto

from ...errors import UnknownStructureError
from ...vocabulary.structure import MICROSOFT
from ..kinds import (
    Elementwise,
    Equation,
    Kind,
    Node,
    require_rank,
    require_shape,
)
from ..operators import quantised
from ..operators.linear import describe_convolution
from ..registry import ShapeOf, register

SHAPE_OPSET = 20
"""The version of the default domain by which shapes are inferred."""
WINDOW_ATTRIBUTES = {
    "auto_pad",
    "ceil_mode",
    "count_include_pad",
    "dilations",
    "group",
    "kernel_shape",
    "pads",
    "strides",
}
"""The attributes on which the places of windows depend."""


def make_shape_function(operator: str, data: int = 0, weight: int | None = None) -> ShapeOf:
    """Return a shape function that asks ONNX's inference of the standard operator.

    The channels of maps are on the last axis where the operator's name begins with `Nhwc`, or where
    the attribute `channels_last` is set. Only the former lays weights out in that way as well.

    Args:
        operator: the standard operator.
        data: the operand with the map.
        weight: the operand with the weight, for a convolution.
    """

    def shape(node: Node) -> list[tuple[int, ...]]:
        is_nhwc = node.operator.startswith("Nhwc") or node.attributes.get("channels_last", 0)
        operands = [require_shape(node, data)]
        if weight is not None:
            operands.append(require_shape(node, weight))
        moved = operands if node.operator.startswith("Nhwc") else operands[:1]
        if is_nhwc:
            operands = [(*s[:1], *s[-1:], *s[1:-1]) for s in moved] + operands[len(moved) :]
        given = {n: v for n, v in node.attributes.items() if n in WINDOW_ATTRIBUTES}
        made = _infer_shape(operator, operands, given)
        return [(*made[:1], *made[2:], made[1]) if is_nhwc else made]

    return shape


def _infer_shape(
    operator: str, operands: list[tuple[int, ...]], attributes: dict[str, Any]
) -> tuple[int, ...]:
    """Return the shape of the result of a standard operator.

    Raises:
        UnknownStructureError: the operands do not fit it.
    """
    names = [f"x{k}" for k in range(len(operands))]
    node = onnx.helper.make_node(operator, names, ["y"], **attributes)
    kinds = {
        n: onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, s)
        for n, s in zip(names, operands, strict=True)
    }
    try:
        schema = onnx.defs.get_schema(operator, SHAPE_OPSET)
        opsets = [onnx.helper.make_opsetid("", SHAPE_OPSET)]
        made = onnx.shape_inference.infer_node_outputs(schema, node, kinds, opset_imports=opsets)
        return tuple(d.dim_value for d in made["y"].tensor_type.shape.dim)
    except (
        KeyError,
        RuntimeError,
        ValueError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        raise UnknownStructureError("operands that do not fit the operator") from error


def _move_channels_last(kind: Equation) -> Equation:
    """Return the equation of a convolution with the channels of maps on their last axis."""
    text = kind.text
    for channels, places in itertools.product(("(g i)", "(g o)", "c"), ("[x..]", "[y..]")):
        text = text.replace(f"b {channels} {places}", f"b {places} {channels}")
    return Equation(text, kind.sizes)


@register("NhwcConv", domain=MICROSOFT, shape=make_shape_function("Conv", weight=1))
def describe_nhwc_convolution(node: Node) -> Kind:
    """As Conv, of maps and weights with the channels on their last axis."""
    kind = _move_channels_last(describe_convolution(node))
    return Equation(kind.text.replace("(g o) i [w..]", "(g o) [w..] i"), kind.sizes)


@register(
    "QLinearConv", domain=MICROSOFT, shape=make_shape_function("Conv", weight=3), typed_like=0
)
def describe_qlinear_convolution(node: Node) -> Kind:
    """As QLinearConv of the default domain; maps may have their channels on their last axis."""
    kind = quantised.describe_quantised_convolution(node)
    return _move_channels_last(kind) if node.attributes.get("channels_last") else kind


@register("QLinearSoftmax", domain=MICROSOFT, typed_like=0)
def describe_qlinear_softmax(node: Node) -> Kind:
    """As Softmax."""
    names = [f"x{i}" for i in range(require_rank(node))]
    axis = int(node.attributes.get("axis", -1)) % len(names)
    stop = axis + 1 if node.attributes.get("opset", 13) >= 13 else len(names)
    over = " ".join(f"{{{n}}}" if axis <= i < stop else n for i, n in enumerate(names))
    return Equation(f"{over}, , , , -> {' '.join(names)}")


@register("QLinearWhere", domain=MICROSOFT, typed_like=1)
def describe_qlinear_where(node: Node) -> Kind:
    """Every element alone, numpy broadcasting; scales and zero points are numbers."""
    return Elementwise()


@register("Inverse", domain=MICROSOFT)
def describe_inverse(node: Node) -> Kind:
    """The rows of the inverse are the columns of the matrix, and the other way round."""
    batch = " ".join(f"b{k}" for k in range(require_rank(node) - 2))
    return Equation(f"{batch} m n -> {batch} n m")
