"""Plain forms of convolutions and products that do more at their end.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..plain_forms import (
    FLOAT,
    FLOATS,
    INT,
    INTS,
    STRING,
    NoPlainFormError,
    Writer,
    make_optional,
    make_required,
    register_plain_form,
)

CONVOLUTION_ATTRIBUTES: dict[str, Any] = {
    "auto_pad": "NOTSET",
    "dilations": make_optional(INTS),
    "group": 1,
    "kernel_shape": make_optional(INTS),
    "pads": make_optional(INTS),
    "strides": make_optional(INTS),
}
"""The attributes of Conv."""


ACTIVATION_ATTRIBUTES: dict[str, Any] = {
    "activation": make_optional(STRING),
    "activation_params": make_optional(FLOATS),
}
"""The attributes that a convolution has beside those of Conv."""


MAP_ACTIVATIONS: dict[str, Sequence[str]] = {
    "HardSigmoid": ("alpha", "beta"),
    "HardSwish": (),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
}
"""Activations at the end of a convolution, with the attributes that its list of numbers gives."""


ROW_ACTIVATIONS: dict[str, Sequence[str]] = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Selu": ("alpha", "gamma"),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}
"""Activations at the end of FusedGemm, with their attributes."""


def write_activation(w: Writer, x: str) -> str:
    """Write what the attributes `activation` and `activation_params` make of a tensor.

    Beside `MAP_ACTIVATIONS` that may be Clip, between two numbers.
    """
    kind, numbers = w.get_attribute("activation"), list(w.get_attribute("activation_params") or ())
    if kind is None and not numbers:
        return x
    if kind == "Clip" and len(numbers) == 2:
        return w("Clip", x, *(w.write_number(bound, x) for bound in numbers))
    # The numbers of an activation stand in a list, in the order of these names.
    names = MAP_ACTIVATIONS.get(kind)
    if names is None or len(names) != len(numbers):
        raise NoPlainFormError(f"activation {kind} with {len(numbers)} numbers")
    return w(kind, x, **dict(zip(names, numbers, strict=True)))


@register_plain_form("FusedConv", "X W B? Z?", **CONVOLUTION_ATTRIBUTES, **ACTIVATION_ATTRIBUTES)
def write_fused_conv(w: Writer) -> str:
    """The activation of the convolution plus a map."""
    return write_activation(
        w,
        w.add(
            w("Conv", w["X"], w["W"], w["B"], **w.get_attributes(list(CONVOLUTION_ATTRIBUTES))),
            w["Z"],
        ),
    )


@register_plain_form(
    "FusedGemm",
    "A B C?",
    alpha=1.0,
    beta=1.0,
    transA=0,
    transB=0,
    activation=make_required(STRING),
    activation_alpha=make_optional(FLOAT),
    activation_beta=make_optional(FLOAT),
    activation_gamma=make_optional(FLOAT),
)
def write_fused_gemm(w: Writer) -> str:
    """The activation of Gemm."""
    kind = w.get_attribute("activation")
    prefix = "activation_"
    numbers = {
        n: w.get_attribute(prefix + n)
        for n in ("alpha", "beta", "gamma")
        if w.get_attribute(prefix + n) is not None
    }
    if kind not in ROW_ACTIVATIONS or numbers.keys() != set(ROW_ACTIVATIONS[kind]):
        raise NoPlainFormError(f"activation {kind} with {list(numbers)}")
    gemm = w(
        "Gemm", w["A"], w["B"], w["C"], **w.get_attributes(("alpha", "beta", "transA", "transB"))
    )
    return w(kind, gemm, **numbers)


def write_product(w: Writer, batches: str = "") -> str:
    """Write the product of two factors that the attributes may transpose, times a number.

    Args:
        w: writes the nodes.
        batches: the sides, of `A` and `B`, whose rows lie on the first axis, in front of the
            batches.
    """
    if w.get_attribute("transA") and w.require_rank(w["B"]) < 2:
        raise NoPlainFormError("onnxruntime takes a factor in front of a vector in another order")
    sides = []
    for side in "AB":
        is_swapped, is_outside = w.get_attribute("trans" + side), side in batches
        order = list(range(w.require_rank(w[side]))) if is_swapped or is_outside else []
        # The rows go behind the batches first, and change places with the columns then.
        if is_outside:
            order = [*order[1:-1], order[0], order[-1]]
        if is_swapped:
            order = [*order[:-2], *order[:-3:-1]]
        sides.append(w.transpose(w[side], order))
    return w.scale(w("MatMul", *sides), w.get_attribute("alpha"))


def write_batched_product(w: Writer) -> str:
    """Write the product of factors that may have their rows in front of their batches."""
    batches = "".join(side for side in "AB" if w.get_attribute("transBatch" + side))
    if batches and not 2 < w.require_rank(w["A"]) == w.require_rank(w["B"]):
        raise NoPlainFormError("onnxruntime refuses factors of other ranks")
    return write_product(w, batches)


@register_plain_form(
    "FusedMatMul", "A B", alpha=1.0, transA=0, transB=0, transBatchA=0, transBatchB=0
)
def write_fused_matmul(w: Writer) -> str:
    """A product of factors that may be transposed, or have their rows in front of their batches."""
    return write_batched_product(w)


@register_plain_form(
    "FusedMatMulActivation",
    "A B",
    activation=make_required(STRING),
    activation_alpha=make_optional(FLOAT),
    activation_axis=make_optional(INT),
    activation_beta=make_optional(FLOAT),
    activation_gamma=make_optional(FLOAT),
    alpha=1.0,
    transA=0,
    transB=0,
    transBatchA=0,
    transBatchB=0,
)
def write_fused_matmul_activation(w: Writer) -> str:
    """The activation of FusedMatMul."""
    kind = w.get_attribute("activation")
    product = write_batched_product(w)
    given = {n: w.get_attribute(f"activation_{n}") for n in ("alpha", "axis", "beta", "gamma")}
    given = {name: value for name, value in given.items() if value is not None}
    if kind not in ROW_ACTIVATIONS or given.keys() != set(ROW_ACTIVATIONS[kind]):
        raise NoPlainFormError(f"activation {kind} with {list(given)}")
    return w(kind, product, **given)


@register_plain_form("TransposeMatMul", "A B", alpha=1.0, transA=0, transB=0)
def write_transpose_matmul(w: Writer) -> str:
    """A product of factors of which either may be transposed."""
    return write_product(w)


@register_plain_form("GemmFastGelu", "X W bias?")
def write_gemm_fast_gelu(w: Writer) -> str:
    """FastGelu of a product."""
    return w("Gelu", w.add(w("MatMul", w["X"], w["W"]), w["bias"]), approximate="tanh")
