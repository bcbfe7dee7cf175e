"""Rules of the normal form: numbers, sums and products, layers and norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from ..equality.extents import divide_lengths, fits_int32, is_number
from .calls import Call, make_lengths, read_axis, read_window, register_rewrite
from .layouts import make_reshape, make_transpose
from .rewrites import (
    combine_terms,
    is_shape_kept,
    make_linear,
    make_multiple,
    make_normalisation,
    make_number,
    make_product,
    make_reciprocal,
    make_root,
    make_sum,
    make_window_operator,
    make_zero_bias,
    may_reassociate,
    negate_constant,
    split_factor,
)
from .shaping import is_extents
from .terms import NoForm, Term, make_attributes

# ---- whole numbers, and floats


def _arithmetic(
    on_extents: Callable[[np.ndarray, np.ndarray], np.ndarray | None],
    on_floats: Callable[[Call, Term, Term], Term],
) -> Callable[[Call], Term | None]:
    def describe(call: Call) -> Term | None:
        a, b = call.operand(0), call.operand(1)
        if a is None or b is None or (call.version < 7 and call.attributes.get("broadcast")):
            if a is None or b is None or a.shape is None or b.shape is None:
                raise NoForm(f"{call.node.op_type} broadcasts as in version 1")
            axis = int(call.attributes.get("axis", len(a.shape) - len(b.shape)))
            b = make_reshape(call.terms, b, [*b.shape, *[1] * (len(a.shape) - axis - len(b.shape))])
        if is_extents(a, b):
            assert a.known is not None
            assert b.known is not None
            found = on_extents(a.known, b.known)
            if found is not None and (
                a.dtype == TensorProto.INT64 or fits_int32(found.ravel().tolist())
            ):
                return make_lengths(call.terms, found, a.dtype)
        if a.is_float and b.is_float:
            return on_floats(call, a, b)
        return None

    return describe


def _exact(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """Quotients by plain numbers: a length may be zero."""
    if not is_number(b.ravel().tolist()):
        return None
    parts = [
        divide_lengths(x, y)
        for x, y in zip(*(v.ravel().tolist() for v in np.broadcast_arrays(a, b)), strict=True)
    ]
    if any(p is None for p in parts):
        return None
    found = np.empty(len(parts), object)
    found[:] = parts
    return found.reshape(np.broadcast_shapes(a.shape, b.shape))


def _sum(call: Call, a: Term, b: Term) -> Term:
    return make_sum(call.terms, a, b, call.loose)


def _difference(call: Call, a: Term, b: Term) -> Term:
    other = (
        negate_constant(call.terms, b.leaf)
        if b.leaf is not None
        else make_multiple(call.terms, b, -1.0)
    )
    return make_sum(call.terms, a, other)


def _ratio(call: Call, a: Term, b: Term) -> Term:
    one = a.number
    if (
        one is not None
        and one == 1.0
        and b.shape is not None
        and len(b.shape) >= len(a.shape or ())
    ):
        return make_reciprocal(call.terms, b)
    return make_product(call.terms, a, make_reciprocal(call.terms, b))


register_rewrite("Add")(_arithmetic(lambda a, b: a + b, _sum))
register_rewrite("Sub")(_arithmetic(lambda a, b: a - b, _difference))
register_rewrite("Mul")(
    _arithmetic(lambda a, b: a * b, lambda call, a, b: make_product(call.terms, a, b, call.loose))
)
register_rewrite("Div")(_arithmetic(_exact, _ratio))


@register_rewrite("Sum")
def sum_(call: Call) -> Term | None:
    terms = [o for o in call.operands if o is not None]
    if len(terms) == 1:
        return terms[0]
    if not all(t.is_float for t in terms):
        return None
    total = terms[0]
    for term in terms[1:]:
        total = make_sum(call.terms, total, term)
    return total


@register_rewrite("Neg")
def negative(call: Call) -> Term | None:
    return make_multiple(call.terms, call.first(), -1.0) if call.first().is_float else None


@register_rewrite("Reciprocal")
def reciprocal(call: Call) -> Term | None:
    return make_reciprocal(call.terms, call.first()) if call.first().is_float else None


@register_rewrite("Sqrt")
def square_root(call: Call) -> Term | None:
    return make_root(call.terms, call.first()) if call.first().is_float else None


@register_rewrite("Pow")
def power(call: Call) -> Term | None:
    term, exponent = call.first(), call.operand(1)
    if (
        exponent is None
        or exponent.leaf is None
        or exponent.leaf.array.size != 1
        or not term.is_float
    ):
        return None
    value = float(exponent.leaf.array.reshape(-1)[0])
    if len(exponent.leaf.array.shape) > (term.rank or 0):
        return None
    if value == 2:
        return make_product(call.terms, term, term)
    if value == 3:
        return combine_terms(call.terms, "Product", [term, term, term], term.shape)
    if value == 0.5:
        return make_root(call.terms, term)
    if value == 1:
        return term
    if value == -1:
        return make_reciprocal(call.terms, term)
    return None


# ---- layers


@register_rewrite("MatMul")
def matmul(call: Call) -> Term | None:
    a, b = call.operand(0), call.operand(1)
    if a is None or b is None or not (a.is_float and b.is_float):
        return None
    if b.leaf is not None and b.leaf.array.ndim == 2 and a.leaf is None and (a.rank or 0) > 1:
        return make_linear(call.terms, a, b)
    return product_of(call, a, b)


def product_of(call: Call, a: Term, b: Term) -> Term:
    """The matrix product of two terms; numbers that they are multiplied by stand behind it."""
    (x, first), (y, second) = split_factor(call.terms, a), split_factor(call.terms, b)
    if not may_reassociate(first * second):
        return call.terms.make("MatMul", [a, b])
    return make_multiple(call.terms, call.terms.make("MatMul", [x, y]), first * second)


@register_rewrite("Gemm")
def gemm(call: Call) -> Term | None:
    a, b, c = (call.operand(k) for k in range(3))
    if (
        a is None
        or b is None
        or not (a.is_float and b.is_float)
        or (c is not None and not c.is_float)
    ):
        return None
    if a.rank != 2 or b.rank != 2:
        return None
    terms, attributes = call.terms, call.attributes
    numbers = [float(attributes.get(n, 1.0)) for n in ("alpha", "beta")]
    if not all(n == 0 or may_reassociate(n) for n in numbers):
        return None
    if attributes.get("transA"):
        a = make_transpose(terms, a, (1, 0))
    if attributes.get("transB"):
        b = make_transpose(terms, b, (1, 0))
    made = (
        make_linear(terms, a, b)
        if b.leaf is not None and a.leaf is None
        else product_of(call, a, b)
    )
    made = make_multiple(terms, made, float(attributes.get("alpha", 1.0)))
    beta = float(attributes.get("beta", 1.0))
    if c is None or beta == 0:
        return made
    # a bias of more rows than the product is no bias
    return make_sum(terms, made, make_multiple(terms, c, beta)) if is_shape_kept(made, c) else None


@register_rewrite("Conv", "ConvTranspose")
def convolution(call: Call) -> Term | None:
    x, weight, bias = (call.operand(k) for k in range(3))
    if (
        x is None
        or weight is None
        or weight.leaf is None
        or (bias is not None and (bias.leaf is None or bias.rank != 1))
        or not x.is_float
    ):
        return None
    terms, operator = call.terms, call.node.op_type
    kernel = list(weight.leaf.array.shape[2:])
    places = len(kernel)
    pads = read_pads(call, x, kernel)
    if pads is None or list(call.attributes.get("kernel_shape", kernel)) != kernel:
        return None
    x, pads = _unpadded(x, pads) if operator == "Conv" else (x, pads)
    named: dict[str, object] = {
        "dilations": read_window(call, "dilations", places, 1),
        "group": int(call.attributes.get("group", 1)),
        "kernel_shape": kernel,
        "pads": pads,
        "strides": read_window(call, "strides", places, 1),
    }
    if operator == "ConvTranspose":
        if "output_shape" in call.attributes:
            return None
        named["output_padding"] = read_window(call, "output_padding", places, 0)
    outer, inner = weight.leaf.array.shape[:2]
    groups: Any = named["group"]
    units = outer if operator == "Conv" else inner * int(groups)
    if bias is None:
        bias = make_zero_bias(terms, units, weight)
    return _windows(call, operator, [x, weight, bias], named)


def _windows(call: Call, operator: str, operands: Sequence[Term], named: dict[str, object]) -> Term:
    made = call.terms.make(operator, operands, make_attributes(**named))
    return (
        made
        if operator == "ConvTranspose"
        else make_window_operator(call.terms, made, operands[0], named)
    )


def _unpadded(x: Term, pads: list[int]) -> tuple[Term, list[int]]:
    """What a convolution reads, with the zeros around it among its own padding."""
    if (
        x.operator != "Pad"
        or x.attribute("mode") != b"constant"
        or len(x.operands) > 3
        or x.rank is None
    ):
        return x, pads
    inner, around, value = (*x.operands, None)[:3]
    if (
        inner is None
        or around is None
        or around.whole is None
        or (value is not None and value.number != 0.0)
    ):
        return x, pads
    whole = around.whole.tolist()
    rank = x.rank
    outer = [whole[k] for k in (0, 1, rank, rank + 1)]
    added_ = [*whole[2:rank], *whole[rank + 2 :]]
    if any(outer) or min(added_, default=0) < 0:
        return x, pads
    return inner, [p + q for p, q in zip(pads, added_, strict=True)]


def read_pads(call: Call, x: Term, kernel: Sequence[int]) -> list[int] | None:
    """The padding of a convolution or pool, written out; None where it hangs on a length that only a run shows."""
    how = call.attributes.get("auto_pad", b"NOTSET")
    places = len(kernel)
    if how == b"NOTSET":
        return read_window(call, "pads", places, 0, 2)
    if "pads" in call.attributes and any(call.attributes["pads"]):
        raise NoForm("it has both 'pads' and 'auto_pad'")
    if how == b"VALID":
        return [0] * 2 * places
    if how not in (b"SAME_UPPER", b"SAME_LOWER"):
        raise NoForm(f"'auto_pad' is {how!r}")
    if x.shape is None or not is_number(x.shape[2:]) or call.node.op_type == "ConvTranspose":
        return None
    strides, dilations = (read_window(call, n, places, 1) for n in ("strides", "dilations"))
    if any(d != 1 for d in dilations):
        raise NoForm("'auto_pad' with dilations")
    before, after = [], []
    for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        assert isinstance(n, int)
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        low = total // 2 if how == b"SAME_UPPER" else total - total // 2
        before.append(low)
        after.append(total - low)
    return [*before, *after]


@register_rewrite("BatchNormalization")
def batch_norm(call: Call) -> Term | None:
    x, *rest = call.operands
    if (
        x is None
        or len(rest) < 4
        or any(r is None or r.leaf is None for r in rest)
        or not x.is_float
        or x.rank is None
    ):
        return None
    if any(r is not None and r.dtype != x.dtype for r in rest):
        return None
    if (
        call.attributes.get("training_mode")
        or not call.attributes.get("spatial", 1)
        or any(call.node.output[1:])
    ):
        return None
    if any(
        r.rank != 1 or x.shape is None or x.rank < 2 or r.shape != x.shape[1:2]
        for r in rest[:4]
        if r is not None
    ):
        return None
    if call.version < 7 and not call.attributes.get("is_test"):
        return None
    call.leave_aside("momentum")
    terms = call.terms
    shape = (-1, *[1] * (x.rank - 2)) if x.rank > 1 else (-1,)
    scale, shift, mean, variance = (
        terms.moved(r.leaf, lambda a: a.reshape(shape)) for r in rest[:4] if r and r.leaf
    )
    epsilon = make_number(terms, float(call.attributes.get("epsilon", 1e-5)), variance)
    factor = make_product(
        terms, scale, make_reciprocal(terms, make_root(terms, make_sum(terms, variance, epsilon)))
    )
    if factor.leaf is None or mean.leaf is None:
        return None
    offset = make_sum(terms, shift, make_product(terms, negate_constant(terms, mean.leaf), factor))
    return make_sum(terms, make_product(terms, x, factor), offset)


def _is_gain(x: Term, gain: Term, axes: Sequence[int]) -> bool:
    """Does a gain, or a bias, have the lengths that are normalised over, and no others?"""
    return x.shape is not None and gain.shape == tuple(x.shape[a] for a in axes)


@register_rewrite("LayerNormalization")
def layer_norm(call: Call) -> Term | None:
    x, scale, bias = (call.operand(k) for k in range(3))
    if (
        x is None
        or scale is None
        or x.rank is None
        or not x.is_float
        or call.is_asked(1)
        or call.is_asked(2)
    ):
        return None
    if call.attributes.get("stash_type", 1) != 1:
        return None
    axes = list(range(read_axis(call, default=-1), x.rank))
    if not _is_gain(x, scale, axes) or (bias is not None and not _is_gain(x, bias, axes)):
        return None
    made = make_normalisation(
        call.terms, x, axes, float(call.attributes.get("epsilon", 1e-5)), True
    )
    made = make_product(call.terms, made, scale)
    return made if bias is None else make_sum(call.terms, made, bias)


@register_rewrite("RMSNormalization")
def rms_norm(call: Call) -> Term | None:
    x, scale = call.operand(0), call.operand(1)
    if x is None or scale is None or x.rank is None or not x.is_float:
        return None
    if call.attributes.get("stash_type", 1) != 1:
        return None
    axes = list(range(read_axis(call, default=-1), x.rank))
    if not _is_gain(x, scale, axes):
        return None
    made = make_normalisation(
        call.terms, x, axes, float(call.attributes.get("epsilon", 1e-5)), False
    )
    return make_product(call.terms, made, scale)


@register_rewrite("InstanceNormalization")
def instance_norm(call: Call) -> Term | None:
    x, scale, bias = (call.operand(k) for k in range(3))
    if x is None or scale is None or bias is None or x.rank is None or not x.is_float:
        return None
    if (
        scale.leaf is None
        or bias.leaf is None
        or x.shape is None
        or {scale.shape, bias.shape} != {x.shape[1:2]}
    ):
        return None
    shape = (-1, *[1] * (x.rank - 2))
    made = make_normalisation(
        call.terms, x, range(2, x.rank), float(call.attributes.get("epsilon", 1e-5)), True
    )
    scale, bias = (
        call.terms.moved(t.leaf, lambda a: a.reshape(shape)) for t in (scale, bias) if t.leaf
    )
    return make_sum(call.terms, make_product(call.terms, made, scale), bias)
