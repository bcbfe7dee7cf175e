"""Operators that act on every element alone, with numpy broadcasting.

Spec: https://onnx.ai/onnx/operators/
"""

from ..errors import UnknownStructure
from . import Elementwise, Kind, Node, register


@register(
    *(
        "Abs",
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "Ceil",
        "Cos",
        "Cosh",
        "Erf",
        "Exp",
        "Floor",
    ),
    *(
        "IsInf",
        "IsNaN",
        "Log",
        "Neg",
        "Not",
        "Reciprocal",
        "Round",
        "Sign",
        "Sin",
        "Sinh",
        "Sqrt",
        "Tan",
        "Tanh",
    ),
    *("BitCast", "BitwiseNot", "Cast", "CastLike", "Identity"),
    *(
        "Celu",
        "Elu",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "Relu",
        "Selu",
        "Shrink",
        "Sigmoid",
    ),
    *("Softplus", "Softsign", "Swish", "ThresholdedRelu", "Clip"),
    *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater"),
    *(
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "Mean",
        "Min",
        "Mod",
        "Mul",
        "Or",
        "PRelu",
        "Pow",
    ),
    *("Sub", "Sum", "Where", "Xor"),
)
def elementwise(node: Node) -> Kind:
    """Every element alone, numpy broadcasting."""
    return Elementwise()


@register("Dropout")
def dropout(node: Node) -> Kind:
    """Every element alone; pinned in training mode."""
    if len(node.shapes) > 2 and node.shapes[2] is not None and bool(node.value(2)):
        raise UnknownStructure("training mode")
    return Elementwise()
