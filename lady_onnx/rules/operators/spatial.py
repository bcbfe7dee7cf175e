"""Pools, reductions, resizing: operators that mix places along some axes and keep other axes.

Spec: https://onnx.ai/onnx/operators/
"""

from collections.abc import Sequence

from ...errors import UnknownStructureError
from ..kinds import (
    Equation,
    Kind,
    Node,
    read_axis_attribute,
    require_rank,
    require_shape,
)
from ..laws import Linear, PositivelyHomogeneous
from ..registry import register, register_equation

WINDOWED, GLOBAL = "b c [x..] -> b c [y..]", "b c x.. -> b c [y..]"
register_equation(WINDOWED, "MaxPool", law=PositivelyHomogeneous(), results_stay=True)
register_equation(WINDOWED, "LpPool", law=PositivelyHomogeneous())
register_equation(WINDOWED, "AveragePool", law=Linear())
register_equation(GLOBAL, "GlobalMaxPool", "GlobalLpPool", law=PositivelyHomogeneous())
register_equation(GLOBAL, "GlobalAveragePool", law=Linear(is_mean=True))
register_equation("a.. [m] [n] -> a.. [y] [z]", "Trilu")

AXES_OPERAND_OPSETS = {"ReduceSum": 13}
"""The opset that made the axes an operand; the other reductions followed in 18."""


@register("ReduceSum", law=Linear(), reads_values_from=1)
@register("ReduceMean", law=Linear(is_mean=True), reads_values_from=1)
@register(
    *("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin"),
    law=PositivelyHomogeneous(),
    reads_values_from=1,
)
@register(
    *("ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"), reads_values_from=1
)
def describe_reduction(node: Node) -> Kind:
    """Contracts its axes."""
    rank = require_rank(node)
    if node.opset < AXES_OPERAND_OPSETS.get(node.operator, 18):
        axes = list(node.attributes.get("axes", []))
    else:
        axes = (
            node.read_value(1).tolist()
            if len(node.shapes) > 1 and node.shapes[1] is not None
            else []
        )
    if not axes and not node.attributes.get("noop_with_empty_axes"):
        axes = list(range(rank))
    return Equation(spell_reduction(rank, axes, bool(node.attributes.get("keepdims", 1))))


def spell_reduction(rank: int, axes: Sequence[int], keeps: bool) -> str:
    """Return the equation of an operator that contracts axes.

    Args:
        rank: the number of axes of the operand.
        axes: those that are contracted, counted from either end.
        keeps: whether the result has an axis of one in the place of each.

    >>> spell_reduction(3, [-1], True)
    'x0 x1 x2 -> x0 x1 1'
    """
    gone = {a % rank for a in axes}
    names = [f"x{i}" for i in range(rank)]
    result = ["1" if i in gone else n for i, n in enumerate(names) if keeps or i not in gone]
    return f"{' '.join(names)} -> {' '.join(result)}"


@register("ArgMax", "ArgMin")
def describe_extremum_place(node: Node) -> Kind:
    """The axis keeps its order."""
    rank = require_rank(node)
    axis = read_axis_attribute(node, 0, rank)
    names = [f"x{i}" for i in range(rank)]
    keep = node.attributes.get("keepdims", 1)
    operand = [f"[{n}]" if i == axis else n for i, n in enumerate(names)]
    result = ["1" if i == axis else n for i, n in enumerate(names) if keep or i != axis]
    return Equation(f"{' '.join(operand)} -> {' '.join(result)}")


@register("Resize", "Upsample", law=Linear(), reads_values_from=1)
def describe_resize(node: Node) -> Kind:
    """Resized axes keep their order."""
    if node.attributes.get("coordinate_transformation_mode") == b"tf_crop_and_resize":
        raise UnknownStructureError("a crop")
    before, after = require_shape(node), node.find_shape()
    same = [a == b for a, b in zip(before, after, strict=True)]
    operand = [f"x{i}" if s else f"[x{i}]" for i, s in enumerate(same)]
    result = [f"x{i}" if s else f"[y{i}]" for i, s in enumerate(same)]
    return Equation(f"{' '.join(operand)} -> {' '.join(result)}")
