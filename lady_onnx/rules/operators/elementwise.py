"""Operators that act on every element alone, with numpy broadcasting.

Spec: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import numpy as np

from ...errors import UnknownStructureError
from ...vocabulary.types import FLOAT_TYPES
from ..kinds import Elementwise, Equation, Kind, Node, require_rank
from ..laws import (
    Absolute,
    Even,
    Law,
    Linear,
    Monomial,
    Multilinear,
    Odd,
    PositivelyHomogeneous,
    Reflective,
    ScaledNode,
    Selection,
    Signum,
)
from ..registry import register


def find_cast_law(node: ScaledNode) -> Law | None:
    """Find the law of Cast: a copy, unless fractions are cut off for an integer type."""
    is_float = node.attributes.get("to") in FLOAT_TYPES
    return Linear(operands=(0,), is_copy=True) if is_float else None


def find_cast_like_law(node: ScaledNode) -> Law | None:
    """Find the law of CastLike: as of Cast, to the type of the second operand."""
    is_float = node.find_element_type(1) in FLOAT_TYPES
    return Linear(operands=(0,), typed_by=1, is_copy=True) if is_float else None


def find_mean_law(node: ScaledNode) -> Law:
    """Find the law of Mean: the sum of the operands over their number."""
    return Linear(coefficients=(1 / len(node.operands),) * len(node.operands))


def find_power_law(node: ScaledNode) -> Law | None:
    """Find the law of Pow with a known exponent that is one for all elements."""
    values = node.find_value(1)
    if values is None or not values.size or (values != values.flat[0]).any():
        return None
    return Monomial((float(values.flat[0]),))


def find_hard_sigmoid_law(node: ScaledNode) -> Law | None:
    """Find the law of HardSigmoid: as of Sigmoid where it is one half at zero."""
    return Reflective(1.0) if node.attributes.get("beta", 0.5) == 0.5 else None


def find_clip_law(node: ScaledNode) -> Law | None:
    """Find the law of Clip.

    It is a ReLU where zero is its only bound, from below. Between zero and an upper bound it may be
    reflected.
    """
    low, high = _read_bound(node, 1, "min"), _read_bound(node, 2, "max")
    has_high = "max" in node.attributes or (len(node.operands) > 2 and bool(node.operands[2]))
    if low is None or low.any():
        return None
    if not has_high:
        return PositivelyHomogeneous(operands=(0,))
    # below zero the upper bound is the result everywhere, and no mirror image of itself
    if high is None or high.flat[0] < 0:
        return None
    return Reflective(float(high.flat[0]), is_input_shifted=True)


def _read_bound(node: ScaledNode, operand: int, attribute: str) -> np.ndarray | None:
    """Return a bound of Clip, None where it is not known, or there is none."""
    # Bounds are operands since version 11, and attributes before.
    if len(node.operands) > operand and node.operands[operand]:
        array = node.find_value(operand)
        return array if array is not None and array.size == 1 else None
    given = node.attributes.get(attribute)
    return None if given is None else np.array(given)


@register("Relu", "LeakyRelu", "Max", "Min", law=PositivelyHomogeneous())
# A factor of the slopes does not pass: it bends the function at zero.
@register("PRelu", law=PositivelyHomogeneous(operands=(0,)))
@register("Clip", law=find_clip_law)
@register("Asin", "Asinh", "Atan", "Atanh", "Erf", "Round", "Shrink", "Sin", "Sinh", law=Odd())
@register("Softsign", "Tan", "Tanh", law=Odd())
@register("Cos", "Cosh", law=Even())
@register("Abs", law=Absolute())
@register("Sign", law=Signum())
@register("Sigmoid", law=Reflective(1.0))
@register("HardSigmoid", law=find_hard_sigmoid_law)
@register("Add", "Sum", law=Linear())
@register("Sub", law=Linear(coefficients=(1.0, -1.0)))
@register("Neg", law=Linear(coefficients=(-1.0,)))
@register("Mean", law=find_mean_law)
@register("Identity", law=Linear(operands=(0,), is_copy=True))
@register("Cast", law=find_cast_law, type_attribute="to")
@register("Mul", law=Multilinear())
@register("Div", law=Monomial((1.0, -1.0)))
@register("Reciprocal", law=Monomial((-1.0,)))
@register("Sqrt", law=Monomial((0.5,)))
@register("Pow", law=find_power_law)
@register("Where", law=Selection(operands=(1, 2)))
# No factor and no sign passes these: exponentials, steps, comparisons, bits.
@register("Acos", "Acosh", "Ceil", "Exp", "Floor", "IsInf", "IsNaN", "Log")
@register("Celu", "Elu", "Gelu", "HardSwish", "Mish", "Selu", "Softplus", "Swish")
@register("ThresholdedRelu", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr")
@register("BitwiseXor", "And", "Or", "Not", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less")
@register("LessOrEqual", "Mod")
def describe_elementwise(node: Node) -> Kind:
    """Every element alone, numpy broadcasting."""
    return Elementwise()


@register("Dropout", law=Linear(operands=(0,)), results_stay=True)
def describe_dropout(node: Node) -> Kind:
    """Every element alone; pinned in training mode."""
    if len(node.shapes) > 2 and node.shapes[2] is not None and bool(node.read_value(2)):
        raise UnknownStructureError("training mode")
    return Elementwise()


@register("CastLike", law=find_cast_like_law)
def describe_cast_like(node: Node) -> Kind:
    """Every element of the first operand alone; of the second one only its type counts."""
    names = " ".join(f"x{k}" for k in range(require_rank(node)))
    others = " ".join(f"u{k}" for k in range(require_rank(node, 1)))
    return Equation(f"{names}, {others} -> {names}")
