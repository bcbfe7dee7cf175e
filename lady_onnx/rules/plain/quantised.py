"""Plain forms of operators on bytes with a scale and a zero point.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable

from onnx import TensorProto

from ..plain_forms import (
    INT,
    INTS,
    NoPlainFormError,
    Writer,
    make_optional,
    make_required,
    register_plain_form,
)
from .maps import move_channels, write_average


def write_dequantised(w: Writer, x: str, scale: str, zero: str, axis: int | None = None) -> str:
    """Write the numbers that bytes stand for.

    Args:
        w: writes the nodes.
        x: the bytes.
        scale: their scale, of a whole tensor or along an axis.
        zero: their zero point, of the scale's shape; "" for none.
        axis: the axis along which they have scales of their own.

    Raises:
        NoPlainFormError: the scale or the zero point has another shape.
    """
    if w.require_rank(scale) > 1 or (zero and w.require_rank(zero) != w.require_rank(scale)):
        raise NoPlainFormError("a scale and a zero point for neither a whole tensor nor an axis")
    return w("DequantizeLinear", x, scale, zero, axis=axis)


def write_quantised(w: Writer, y: str, scale: str, zero: str) -> str:
    """Write the bytes that stand for the numbers `y`.

    Raises:
        NoPlainFormError: there is no zero point, or scale and zero point have other shapes.
    """
    if not zero or w.require_rank(scale) > 1 or w.require_rank(zero) != w.require_rank(scale):
        raise NoPlainFormError(
            "a result without a zero point, or with one of another shape than the scale's"
        )
    return w("QuantizeLinear", y, scale, zero)


@register_plain_form("DequantizeLinear", "x x_scale x_zero_point?", axis=make_optional(INT))
def write_dequantize_linear(w: Writer) -> str:
    """DequantizeLinear of the default domain."""
    axis = w.get_attribute("axis")
    if axis is None and w.require_rank(w["x_scale"]):
        raise NoPlainFormError("scales along an axis that is not given")
    return write_dequantised(w, w["x"], w["x_scale"], w["x_zero_point"], axis)


@register_plain_form("QuantizeLinear", "x y_scale y_zero_point?", axis=make_optional(INT))
def write_quantize_linear(w: Writer) -> str:
    """QuantizeLinear of the default domain."""
    axis, scale, zero = w.get_attribute("axis"), w["y_scale"], w["y_zero_point"]
    rank = w.require_rank(scale)
    # One scale needs no axis, a row of scales needs one, and nothing else is understood.
    if rank > (axis is not None) or (zero and w.require_rank(zero) != rank):
        raise NoPlainFormError("scales along an axis that is not given")
    return w("QuantizeLinear", w["x"], scale, zero, axis=axis)


PAIR_OPERANDS = "A A_scale A_zero_point? B B_scale B_zero_point? C_scale C_zero_point?"
"""The operands of an operator on two maps of bytes."""


SINGLE_OPERANDS = "X X_scale X_zero_point? Y_scale Y_zero_point?"
"""The operands of an operator on one map of bytes."""


def write_pair(w: Writer, operator: str) -> str:
    """Write an operator on the numbers that two maps of bytes stand for."""
    sides = (write_dequantised(w, w[x], w[x + "_scale"], w[x + "_zero_point"]) for x in "AB")
    return write_quantised(w, w(operator, *sides), w["C_scale"], w["C_zero_point"])


@register_plain_form("QLinearAdd", PAIR_OPERANDS)
def write_qlinear_add(w: Writer) -> str:
    """A sum of what bytes stand for."""
    return write_pair(w, "Add")


@register_plain_form("QLinearMul", PAIR_OPERANDS)
def write_qlinear_mul(w: Writer) -> str:
    """A product of what bytes stand for."""
    return write_pair(w, "Mul")


def write_single(w: Writer, compute: Callable[[str], str]) -> str:
    """Write what `compute` writes for the numbers that a map of bytes stands for."""
    # The schemas of activations write `X_scale`, and those of pools `x_scale`.
    named = {name.lower(): tensor for name, tensor in w.operands.items()}
    x = write_dequantised(w, named["x"], named["x_scale"], named["x_zero_point"])
    return write_quantised(w, compute(x), named["y_scale"], named["y_zero_point"])


@register_plain_form("QLinearLeakyRelu", SINGLE_OPERANDS, alpha=0.01)
def write_qlinear_leaky_relu(w: Writer) -> str:
    """LeakyRelu of what bytes stand for."""
    return write_single(w, lambda x: w("LeakyRelu", x, alpha=w.get_attribute("alpha")))


@register_plain_form("QLinearSigmoid", SINGLE_OPERANDS)
def write_qlinear_sigmoid(w: Writer) -> str:
    """Sigmoid of what bytes stand for."""
    return write_single(w, lambda x: w("Sigmoid", x))


def write_channels_first(w: Writer, x: str, rank: int, compute: Callable[[str], str]) -> str:
    """Write what `compute` writes for a map whose channels may be on its last axis."""
    if not w.get_attribute("channels_last"):
        return compute(x)
    return move_channels(w, compute(move_channels(w, x, rank, 1)), rank, -1)


POOLED_OPERANDS = "X x_scale x_zero_point? y_scale y_zero_point?"
"""The operands of a pooling of bytes."""


@register_plain_form(
    "QLinearAveragePool",
    POOLED_OPERANDS,
    auto_pad="NOTSET",
    ceil_mode=0,
    channels_last=0,
    count_include_pad=0,
    kernel_shape=make_required(INTS),
    pads=make_optional(INTS),
    strides=make_optional(INTS),
)
def write_qlinear_average_pool(w: Writer) -> str:
    """AveragePool of what bytes stand for."""
    rank = len(w.get_attribute("kernel_shape")) + 2
    return write_single(
        w, lambda x: write_channels_first(w, x, rank, lambda m: write_average(w, m))
    )


@register_plain_form("QLinearGlobalAveragePool", POOLED_OPERANDS.replace("?", ""), channels_last=0)
def write_qlinear_global_average_pool(w: Writer) -> str:
    """GlobalAveragePool of what bytes stand for."""
    rank = w.require_rank(w["X"])
    return write_single(
        w, lambda x: write_channels_first(w, x, rank, lambda m: w("GlobalAveragePool", m))
    )


@register_plain_form("QLinearConcat", "Y_scale Y_zero_point ...", axis=make_required(INT))
def write_qlinear_concat(w: Writer) -> str:
    """Concat of what bytes stand for."""
    if not w.rest or len(w.rest) % 3:
        raise NoPlainFormError("maps without scales and zero points")
    triples = zip(w.rest[::3], w.rest[1::3], w.rest[2::3], strict=True)
    joined = w(
        "Concat",
        *(write_dequantised(w, *triple) for triple in triples),
        axis=w.get_attribute("axis"),
    )
    return write_quantised(w, joined, w["Y_scale"], w["Y_zero_point"])


@register_plain_form(
    "QGemm",
    "A a_scale a_zero_point B b_scale b_zero_point C? y_scale? y_zero_point?",
    alpha=1.0,
    transA=0,
    transB=0,
)
def write_qgemm(w: Writer) -> str:
    """Gemm of what bytes stand for.

    The addend is of whole numbers, in units of the product of both scales, and alpha multiplies it
    as well.
    """
    alpha, is_turned = w.get_attribute("alpha"), w.get_attribute("transB")
    a = write_dequantised(w, w["A"], w["a_scale"], w["a_zero_point"])
    b = write_dequantised(w, w["B"], w["b_scale"], w["b_zero_point"], 0 if is_turned else 1)
    c = w["C"] and w(
        "Mul", w("Cast", w["C"], to=TensorProto.FLOAT), w("Mul", w["a_scale"], w["b_scale"])
    )
    y = w("Gemm", a, b, c, alpha=alpha, beta=alpha, **w.get_attributes(("transA", "transB")))
    return (
        write_quantised(w, y, w["y_scale"], w["y_zero_point"])
        if w["y_scale"] or w["y_zero_point"]
        else y
    )


@register_plain_form(
    "MatMulIntegerToFloat", "A B a_scale b_scale a_zero_point? b_zero_point? bias?"
)
def write_matmul_integer_to_float(w: Writer) -> str:
    """A product of what bytes stand for; columns of the second may have scales of their own."""
    a = write_dequantised(w, w["A"], w["a_scale"], w["a_zero_point"])
    b = write_dequantised(w, w["B"], w["b_scale"], w["b_zero_point"], -1)
    return w.add(w("MatMul", a, b), w["bias"])


@register_plain_form("DynamicQuantizeMatMul", "A B b_scale b_zero_point? bias?")
def write_dynamic_quantize_matmul(w: Writer) -> str:
    """A product of numbers that are rounded to bytes with what bytes stand for."""
    a = w("DequantizeLinear", *w.write_many(3, "DynamicQuantizeLinear", w["A"]))
    b = write_dequantised(w, w["B"], w["b_scale"], w["b_zero_point"], -1)
    return w.add(w("MatMul", a, b), w["bias"])
