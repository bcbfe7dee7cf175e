"""Operators that pick or place elements by computed indices, or go along an axis in its order.

Spec: https://onnx.ai/onnx/operators/
"""

import numpy as np

from ...errors import UnknownStructureError
from ..kinds import (
    Equation,
    Kind,
    Movement,
    Node,
    Source,
    Take,
    read_axis_attribute,
    require_rank,
    require_shape,
)
from ..laws import SUM
from ..registry import register, register_equation


def _name_axes(node: Node, operand: int = 0) -> list[str]:
    """Return a name for every axis of an operand."""
    return [f"x{i}" for i in range(require_rank(node, operand))]


def _pin_axes(names: list[str], *axes: int, name: str = "") -> str:
    """Return the names as text, those at `axes` pinned, and called `name` if that is given."""
    return " ".join(f"[{name or n}]" if i in axes else n for i, n in enumerate(names))


@register("CumSum", "CumProd")
def describe_running_sum(node: Node) -> Kind:
    """The axis keeps its order."""
    names = _name_axes(node)
    text = _pin_axes(names, int(node.read_value(1)) % len(names))
    return Equation(f"{text},  -> {text}")


@register("ReverseSequence")
def describe_reversal(node: Node) -> Kind:
    """The time axis keeps its order."""
    names = _name_axes(node)
    axes = node.attributes.get("time_axis", 0), node.attributes.get("batch_axis", 1)
    return Equation(f"{_pin_axes(names, *axes)}, [x{axes[1]}] -> {_pin_axes(names, *axes)}")


@register("Hardmax")
def describe_hardmax(node: Node) -> Kind:
    """The axis keeps its order: of elements that are equally large the first is chosen."""
    names = _name_axes(node)
    axis = read_axis_attribute(node, -1 if node.opset >= 13 else 1, len(names))
    text = _pin_axes(names, *range(axis, axis + 1 if node.opset >= 13 else len(names)))
    return Equation(f"{text} -> {text}")


@register("TopK", reads_values_from=1)
def describe_top_k(node: Node) -> Kind:
    """The axis keeps its order, unless only the values are read."""
    names = _name_axes(node)
    axis = read_axis_attribute(node, -1, len(names))
    # The values do not depend on the order along the axis, the indices do.
    operand = _pin_axes(names, axis) if node.is_needed(1) else " ".join(names)
    result = _pin_axes(names, axis, name="k")
    return Equation(f"{operand}{', [n]' if len(node.shapes) > 1 else ''} -> {result}, {result}")


@register("GatherElements", "ScatterElements", "Scatter")
def describe_gathered_elements(node: Node) -> Kind:
    """The axis keeps its order, others follow the indices."""
    shape, index = require_shape(node), require_shape(node, 1)
    names = _name_axes(node)
    axis = read_axis_attribute(node, 0, len(names))
    if any(n != m for i, (n, m) in enumerate(zip(shape, index, strict=True)) if i != axis):
        raise UnknownStructureError("indices for a part of the other axes")
    here, there = _pin_axes(names, axis), _pin_axes(names, axis, name="k")
    if node.operator == "GatherElements":
        return Equation(f"{here}, {there} -> {there}")
    return Equation(f"{here}, {there}, {there} -> {here}")


@register("ScatterND")
def describe_scatter(node: Node) -> Kind:
    """Positions that the indices name keep their order."""
    names = _name_axes(node)
    index = require_shape(node, 1)
    places, depth = [f"[q{i}]" for i in range(len(index) - 1)], index[-1]
    data = _pin_axes(names, *range(depth))
    return Equation(
        f"{data}, {' '.join([*places, '[k]'])}, {' '.join([*places, *names[depth:]])} -> {data}"
    )


@register("TensorScatter", law=SUM)
def describe_cache(node: Node) -> Kind:
    """Rows placed in a cache keep their order."""
    names = _name_axes(node)
    axis = read_axis_attribute(node, -2, len(names))
    here = _pin_axes(names, axis)
    there, lengths = _pin_axes(names, axis, name="u"), ", x0" if len(node.shapes) > 2 else ""
    return Equation(f"{here}, {there}{lengths} -> {here}")


@register("Compress")
def describe_compress(node: Node) -> Kind:
    """Takes the positions of the mask; without an axis all keep their order."""
    if "axis" not in node.attributes:
        raise UnknownStructureError("elements chosen from all axes at once")
    axis = read_axis_attribute(node, 0, require_rank(node))
    # What the condition says beyond the end of the axis is not read.
    kept = np.flatnonzero(node.read_value(1)[: require_shape(node)[axis]])
    return Movement([((0,), [Take(axis, kept)])])


@register("OneHot", reads_values_from=1)
def describe_one_hot(node: Node) -> Kind:
    """The new axis keeps its order."""
    names = _name_axes(node)
    axis = read_axis_attribute(node, -1, len(names) + 1)
    depth = node.shapes[1]
    result = [*names[:axis], "[d]", *names[axis:]]
    return Equation(f"{' '.join(names)}, {'[e]' if depth else ''}, [v] -> {' '.join(result)}")


@register("Det")
def describe_determinant(node: Node) -> Kind:
    """Both axes of the matrix keep their order."""
    names = _name_axes(node)
    return Equation(f"{_pin_axes(names, len(names) - 2, len(names) - 1)} -> {' '.join(names[:-2])}")


@register("Col2Im", reads_values_from=1)
def describe_col2im(node: Node) -> Kind:
    """Columns keep their order, channels are blocks of them."""
    block = int(node.read_value(2).prod())
    image = " ".join(f"[y{i}]" for i in range(len(node.find_shape()) - 2))
    return Equation(f"b (c [k]) [l], [i], [j] -> b c {image}", {"k": block})


@register("DeformConv")
def describe_deformable_convolution(node: Node) -> Kind:
    """As Conv, offsets keep their places."""
    if node.attributes.get("offset_group", 1) != 1:
        raise UnknownStructureError("several groups of offsets")
    text = "b (g i) [x..], (g o) i [w..], b [z] [y..], (g o), b [m] [y..] -> b (g o) [y..]"
    return Equation(text, {"g": node.attributes.get("group", 1)})


register_equation("b c [x..], b [y..] [n] -> b c [y..]", "GridSample")
register_equation("b [c] x.. -> b [c] x..", "LRN")
register_equation("b c [h] [w], r [k] -> r c [y] [z]", "MaxRoiPool")
register_equation("[b] c [h] [w], r [k], r -> r c [y] [z]", "RoiAlign")


@register("DFT", reads_values_from=1)
def describe_fourier_transform(node: Node) -> Kind:
    """The axis keeps its order."""
    names = _name_axes(node)
    given = len(node.shapes) > 2 and node.shapes[2] is not None
    axis = (
        int(node.read_value(2))
        if given
        else read_axis_attribute(node, -2 if node.opset >= 20 else 1, len(names))
    ) % len(names)
    result = [*(f"[k{i}]" if i == axis else n for i, n in enumerate(names[:-1])), "[z]"]
    return Equation(f"{_pin_axes(names, axis, len(names) - 1)} -> {' '.join(result)}")


register_equation("b [l] [c], , [w], -> b [f] [u] [z]", "STFT", reads_values_from=1)


@register("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix", reads_values_from=0)
@register("RandomNormal", "RandomUniform", is_random=True)
@register("EyeLike", "Constant")
def describe_counted_numbers(node: Node) -> Kind:
    """Depends on no order; its elements have places."""
    return Source()
