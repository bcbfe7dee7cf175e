"""Quantised operators: scales and zero points move with the axis that they belong to.

Spec: https://onnx.ai/onnx/operators/
"""

from collections.abc import Sequence

import numpy as np

from ...errors import UnknownStructureError
from ..kinds import (
    Elementwise,
    Equation,
    Kind,
    Movement,
    Node,
    Reshape,
    Step,
    Steps,
    Take,
    read_axis_attribute,
    require_shape,
)
from ..registry import register, register_equation

# The scale and the zero point are those of the extreme elements, wherever they stand.
register_equation("x.. -> x.., , ", "DynamicQuantizeLinear")


@register("QuantizeLinear")
@register("DequantizeLinear", typed_like=1)
def describe_quantisation(node: Node) -> Kind:
    """Every element alone, with the scale of its tensor, channel or block."""
    shape = require_shape(node)
    axis = read_axis_attribute(node, 1, len(shape))
    block = node.attributes.get("block_size", 0)
    steps: list[tuple[str, Kind, tuple[str, ...]]] = []
    met = ["0"]
    for k, operand in enumerate(node.shapes[1:], 1):
        if operand is None or not operand or operand == (1,):
            continue
        if len(operand) == 1:
            moves: list[Step] = [Reshape(tuple(n if a == axis else 1 for a, n in enumerate(shape)))]
        elif block:
            moves = [Take(axis, np.arange(shape[axis]) // block)]
        else:
            raise UnknownStructureError("a scale of several axes without blocks")
        steps.append((f"s{k}", Movement([((0,), moves)]), (str(k),)))
        met.append(f"s{k}")
    steps.append(("y", Elementwise(), tuple(met)))
    return Steps(steps, ("y",))


def name_scale_axis(shape: Sequence[int] | None, axis: str) -> str:
    """Return the side of an equation for a scale or a zero point.

    Args:
        shape: its shape, None where it is left out.
        axis: the name of the axis that it has where it is not one number for the whole tensor.

    >>> name_scale_axis((8,), "n"), name_scale_axis((1,), "n"), name_scale_axis((), "n")
    ('n', '1', '')
    """
    return axis if shape not in (None, (), (1,)) else " ".join("1" for _ in shape or ())


@register("QLinearConv", "ConvInteger")
def describe_quantised_convolution(node: Node) -> Equation:
    """As Conv; scales and zero points follow its channels."""
    shapes = [*node.shapes, *[None] * 9]
    if node.operator == "ConvInteger":
        rest = [name_scale_axis(shapes[2], ""), name_scale_axis(shapes[3], "(g o)")]
        sides = ["b (g i) [x..]", "(g o) i [w..]", *rest]
    else:
        x, w = (
            [name_scale_axis(shapes[k], "") for k in (1, 2)],
            [name_scale_axis(shapes[k], "(g o)") for k in (4, 5)],
        )
        y = [name_scale_axis(shapes[k], "") for k in (6, 7)]
        sides = ["b (g i) [x..]", *x, "(g o) i [w..]", *w, *y, "(g o)"]
    sides = sides[: len(node.shapes)]
    return Equation(f"{', '.join(sides)} -> b (g o) [y..]", {"g": node.attributes.get("group", 1)})


@register("QLinearMatMul", "MatMulInteger")
def describe_quantised_product(node: Node) -> Kind:
    """As MatMul; scales and zero points follow its columns."""
    second = 3 if node.operator == "QLinearMatMul" else 1
    a, b = require_shape(node), require_shape(node, second)
    if len(a) < 2 or len(b) < 2:
        raise UnknownStructureError("a product with a vector")
    batch = [f"b{i}" for i in range(max(len(a), len(b)) - 2)]
    left, right = (
        [*batch[len(batch) - len(a) + 2 :], "m", "k"],
        [*batch[len(batch) - len(b) + 2 :], "k", "n"],
    )
    shapes = [*node.shapes, *[None] * 9]
    if node.operator == "MatMulInteger":
        sides = [
            " ".join(left),
            " ".join(right),
            name_scale_axis(shapes[2], "m"),
            name_scale_axis(shapes[3], "n"),
        ]
    else:
        rows, columns = (
            [name_scale_axis(shapes[k], "m") for k in (1, 2)],
            [name_scale_axis(shapes[k], "n") for k in (4, 5)],
        )
        sides = [
            " ".join(left),
            *rows,
            " ".join(right),
            *columns,
            *(name_scale_axis(shapes[k], "") for k in (6, 7)),
        ]
    return Equation(f"{', '.join(sides[: len(node.shapes)])} -> {' '.join([*batch, 'm', 'n'])}")
