"""Pooling, reductions, resizing: operators that mix positions along some axes and leave others alone.

Spec: https://onnx.ai/onnx/operators/
"""

from ..errors import UnknownStructure
from . import Equation, Kind, Node, axis_of, rank_of, register, register_equation, shape_of

register_equation("b c [x..] -> b c [y..]", "MaxPool", "AveragePool", "LpPool")
register_equation("b c x.. -> b c [y..]", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
register_equation("a.. [m] [n] -> a.. [y] [z]", "Trilu")

REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
AXES_AS_OPERAND = {"Sum": 13}
"""Since which opset the axes are an operand; the other reductions followed in 18."""


@register(*(f"Reduce{name}" for name in REDUCTIONS))
def reduce(node: Node) -> Kind:
    """Contracts its axes."""
    rank = rank_of(node)
    if node.opset < AXES_AS_OPERAND.get(node.operator.removeprefix("Reduce"), 18):
        axes = list(node.attributes.get("axes", []))
    else:
        axes = node.value(1).tolist() if len(node.shapes) > 1 and node.shapes[1] is not None else []
    if not axes and not node.attributes.get("noop_with_empty_axes"):
        axes = list(range(rank))
    axes = [a % rank for a in axes]
    names = [f"x{i}" for i in range(rank)]
    keep = node.attributes.get("keepdims", 1)
    result = ["1" if i in axes else n for i, n in enumerate(names) if keep or i not in axes]
    return Equation(f"{' '.join(names)} -> {' '.join(result)}")


@register("ArgMax", "ArgMin")
def arg(node: Node) -> Kind:
    """The axis keeps its order."""
    rank = rank_of(node)
    axis = axis_of(node, 0, rank)
    names = [f"x{i}" for i in range(rank)]
    keep = node.attributes.get("keepdims", 1)
    operand = [f"[{n}]" if i == axis else n for i, n in enumerate(names)]
    result = ["1" if i == axis else n for i, n in enumerate(names) if keep or i != axis]
    return Equation(f"{' '.join(operand)} -> {' '.join(result)}")


@register("Resize", "Upsample")
def resize(node: Node) -> Kind:
    """Resized axes keep their order."""
    if node.attributes.get("coordinate_transformation_mode") == b"tf_crop_and_resize":
        raise UnknownStructure("a crop")
    before, after = shape_of(node), node.shape()
    same = [a == b for a, b in zip(before, after, strict=True)]
    operand = [f"x{i}" if s else f"[x{i}]" for i, s in enumerate(same)]
    result = [f"x{i}" if s else f"[y{i}]" for i, s in enumerate(same)]
    return Equation(f"{' '.join(operand)} -> {' '.join(result)}")
