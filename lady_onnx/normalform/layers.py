"""Rules of the normal form: numbers, sums and products, layers and norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto

from ..equality.extents import is_number, is_short, quotient
from .calls import Call, axis_of, extents, rule, window
from .layouts import reshaped, transposed
from .rewrites import (
    added,
    combined,
    inverted,
    is_small,
    keeps_shape,
    linear,
    multiplied,
    negated,
    normalised,
    number,
    rooted,
    scaled,
    split,
    windowed,
    zeros,
)
from .shaping import is_extents
from .terms import NoForm, Term, given

# ---- whole numbers, and floats


def _arithmetic(
    on_extents: Callable[[np.ndarray, np.ndarray], np.ndarray | None], on_floats: Callable[[Call, Term, Term], Term]
) -> Callable[[Call], Term | None]:
    def describe(call: Call) -> Term | None:
        a, b = call.operand(0), call.operand(1)
        if a is None or b is None or (call.version < 7 and call.attributes.get("broadcast")):
            if a is None or b is None or a.shape is None or b.shape is None:
                raise NoForm(f"{call.node.op_type} broadcasts as in version 1")
            axis = int(call.attributes.get("axis", len(a.shape) - len(b.shape)))
            b = reshaped(call.terms, b, [*b.shape, *[1] * (len(a.shape) - axis - len(b.shape))])
        if is_extents(a, b):
            assert a.known is not None
            assert b.known is not None
            found = on_extents(a.known, b.known)
            if found is not None and (a.dtype == TensorProto.INT64 or is_short(found.ravel().tolist())):
                return extents(call.terms, found, a.dtype)
        if a.is_float and b.is_float:
            return on_floats(call, a, b)
        return None

    return describe


def _exact(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """Quotients by plain numbers: a length may be zero."""
    if not is_number(b.ravel().tolist()):
        return None
    parts = [quotient(x, y) for x, y in zip(*(v.ravel().tolist() for v in np.broadcast_arrays(a, b)), strict=True)]
    if any(p is None for p in parts):
        return None
    found = np.empty(len(parts), object)
    found[:] = parts
    return found.reshape(np.broadcast_shapes(a.shape, b.shape))


def _sum(call: Call, a: Term, b: Term) -> Term:
    return added(call.terms, a, b, call.loose)


def _difference(call: Call, a: Term, b: Term) -> Term:
    other = negated(call.terms, b.leaf) if b.leaf is not None else scaled(call.terms, b, -1.0)
    return added(call.terms, a, other)


def _ratio(call: Call, a: Term, b: Term) -> Term:
    one = a.number
    if one is not None and one == 1.0 and b.shape is not None and len(b.shape) >= len(a.shape or ()):
        return inverted(call.terms, b)
    return multiplied(call.terms, a, inverted(call.terms, b))


rule("Add")(_arithmetic(lambda a, b: a + b, _sum))
rule("Sub")(_arithmetic(lambda a, b: a - b, _difference))
rule("Mul")(_arithmetic(lambda a, b: a * b, lambda call, a, b: multiplied(call.terms, a, b, call.loose)))
rule("Div")(_arithmetic(_exact, _ratio))


@rule("Sum")
def sum_(call: Call) -> Term | None:
    terms = [o for o in call.operands if o is not None]
    if len(terms) == 1:
        return terms[0]
    if not all(t.is_float for t in terms):
        return None
    total = terms[0]
    for term in terms[1:]:
        total = added(call.terms, total, term)
    return total


@rule("Neg")
def negative(call: Call) -> Term | None:
    return scaled(call.terms, call.first(), -1.0) if call.first().is_float else None


@rule("Reciprocal")
def reciprocal(call: Call) -> Term | None:
    return inverted(call.terms, call.first()) if call.first().is_float else None


@rule("Sqrt")
def square_root(call: Call) -> Term | None:
    return rooted(call.terms, call.first()) if call.first().is_float else None


@rule("Pow")
def power(call: Call) -> Term | None:
    term, exponent = call.first(), call.operand(1)
    if exponent is None or exponent.leaf is None or exponent.leaf.array.size != 1 or not term.is_float:
        return None
    value = float(exponent.leaf.array.reshape(-1)[0])
    if len(exponent.leaf.array.shape) > (term.rank or 0):
        return None
    if value == 2:
        return multiplied(call.terms, term, term)
    if value == 3:
        return combined(call.terms, "Product", [term, term, term], term.shape)
    if value == 0.5:
        return rooted(call.terms, term)
    if value == 1:
        return term
    if value == -1:
        return inverted(call.terms, term)
    return None


# ---- layers


@rule("MatMul")
def matmul(call: Call) -> Term | None:
    a, b = call.operand(0), call.operand(1)
    if a is None or b is None or not (a.is_float and b.is_float):
        return None
    if b.leaf is not None and b.leaf.array.ndim == 2 and a.leaf is None and (a.rank or 0) > 1:
        return linear(call.terms, a, b)
    return product_of(call, a, b)


def product_of(call: Call, a: Term, b: Term) -> Term:
    """The matrix product of two terms; numbers that they are multiplied by stand behind it."""
    (x, first), (y, second) = split(call.terms, a), split(call.terms, b)
    if not is_small(first * second):
        return call.terms.make("MatMul", [a, b])
    return scaled(call.terms, call.terms.make("MatMul", [x, y]), first * second)


@rule("Gemm")
def gemm(call: Call) -> Term | None:
    a, b, c = (call.operand(k) for k in range(3))
    if a is None or b is None or not (a.is_float and b.is_float) or (c is not None and not c.is_float):
        return None
    if a.rank != 2 or b.rank != 2:
        return None
    terms, attributes = call.terms, call.attributes
    numbers = [float(attributes.get(n, 1.0)) for n in ("alpha", "beta")]
    if not all(n == 0 or is_small(n) for n in numbers):
        return None
    if attributes.get("transA"):
        a = transposed(terms, a, (1, 0))
    if attributes.get("transB"):
        b = transposed(terms, b, (1, 0))
    made = linear(terms, a, b) if b.leaf is not None and a.leaf is None else product_of(call, a, b)
    made = scaled(terms, made, float(attributes.get("alpha", 1.0)))
    beta = float(attributes.get("beta", 1.0))
    if c is None or beta == 0:
        return made
    # a bias of more rows than the product is no bias
    return added(terms, made, scaled(terms, c, beta)) if keeps_shape(made, c) else None


@rule("Conv", "ConvTranspose")
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
    pads = pads_of(call, x, kernel)
    if pads is None or list(call.attributes.get("kernel_shape", kernel)) != kernel:
        return None
    x, pads = _unpadded(x, pads) if operator == "Conv" else (x, pads)
    named: dict[str, object] = {
        "dilations": window(call, "dilations", places, 1),
        "group": int(call.attributes.get("group", 1)),
        "kernel_shape": kernel,
        "pads": pads,
        "strides": window(call, "strides", places, 1),
    }
    if operator == "ConvTranspose":
        if "output_shape" in call.attributes:
            return None
        named["output_padding"] = window(call, "output_padding", places, 0)
    units = weight.leaf.array.shape[0] if operator == "Conv" else weight.leaf.array.shape[1] * int(named["group"])  # type: ignore[call-overload]
    if bias is None:
        bias = zeros(terms, units, weight)
    return _windows(call, operator, [x, weight, bias], named)


def _windows(call: Call, operator: str, operands: Sequence[Term], named: dict[str, object]) -> Term:
    made = call.terms.make(operator, operands, given(**named))
    return made if operator == "ConvTranspose" else windowed(call.terms, made, operands[0], named)


def _unpadded(x: Term, pads: list[int]) -> tuple[Term, list[int]]:
    """What a convolution reads, with the zeros around it among its own padding."""
    if x.operator != "Pad" or x.attribute("mode") != b"constant" or len(x.operands) > 3 or x.rank is None:
        return x, pads
    inner, around, value = (*x.operands, None)[:3]
    if inner is None or around is None or around.whole is None or (value is not None and value.number != 0.0):
        return x, pads
    whole = around.whole.tolist()
    rank = x.rank
    outer = [whole[k] for k in (0, 1, rank, rank + 1)]
    added_ = [*whole[2:rank], *whole[rank + 2 :]]
    if any(outer) or min(added_, default=0) < 0:
        return x, pads
    return inner, [p + q for p, q in zip(pads, added_, strict=True)]


def pads_of(call: Call, x: Term, kernel: Sequence[int]) -> list[int] | None:
    """The padding of a convolution or pool, written out; None where it hangs on a length that only a run shows."""
    how = call.attributes.get("auto_pad", b"NOTSET")
    places = len(kernel)
    if how == b"NOTSET":
        return window(call, "pads", places, 0, 2)
    if "pads" in call.attributes and any(call.attributes["pads"]):
        raise NoForm("it has both 'pads' and 'auto_pad'")
    if how == b"VALID":
        return [0] * 2 * places
    if how not in (b"SAME_UPPER", b"SAME_LOWER"):
        raise NoForm(f"'auto_pad' is {how!r}")
    if x.shape is None or not is_number(x.shape[2:]) or call.node.op_type == "ConvTranspose":
        return None
    strides, dilations = (window(call, n, places, 1) for n in ("strides", "dilations"))
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


@rule("BatchNormalization")
def batch_norm(call: Call) -> Term | None:
    x, *rest = call.operands
    if x is None or len(rest) < 4 or any(r is None or r.leaf is None for r in rest) or not x.is_float or x.rank is None:
        return None
    if any(r is not None and r.dtype != x.dtype for r in rest):
        return None
    if call.attributes.get("training_mode") or not call.attributes.get("spatial", 1) or any(call.node.output[1:]):
        return None
    if any(r.rank != 1 or x.shape is None or x.rank < 2 or r.shape != x.shape[1:2] for r in rest[:4] if r is not None):
        return None
    if call.version < 7 and not call.attributes.get("is_test"):
        return None
    call.leave_aside("momentum")
    terms = call.terms
    shape = (-1, *[1] * (x.rank - 2)) if x.rank > 1 else (-1,)
    scale, shift, mean, variance = (terms.moved(r.leaf, lambda a: a.reshape(shape)) for r in rest[:4] if r and r.leaf)
    epsilon = number(terms, float(call.attributes.get("epsilon", 1e-5)), variance)
    factor = multiplied(terms, scale, inverted(terms, rooted(terms, added(terms, variance, epsilon))))
    if factor.leaf is None or mean.leaf is None:
        return None
    offset = added(terms, shift, multiplied(terms, negated(terms, mean.leaf), factor))
    return added(terms, multiplied(terms, x, factor), offset)


def _is_gain(x: Term, gain: Term, axes: Sequence[int]) -> bool:
    """Does a gain, or a bias, have the lengths that are normalised over, and no others?"""
    return x.shape is not None and gain.shape == tuple(x.shape[a] for a in axes)


@rule("LayerNormalization")
def layer_norm(call: Call) -> Term | None:
    x, scale, bias = (call.operand(k) for k in range(3))
    if x is None or scale is None or x.rank is None or not x.is_float or call.is_asked(1) or call.is_asked(2):
        return None
    if call.attributes.get("stash_type", 1) != 1:
        return None
    axes = list(range(axis_of(call, default=-1), x.rank))
    if not _is_gain(x, scale, axes) or (bias is not None and not _is_gain(x, bias, axes)):
        return None
    made = normalised(call.terms, x, axes, float(call.attributes.get("epsilon", 1e-5)), True)
    made = multiplied(call.terms, made, scale)
    return made if bias is None else added(call.terms, made, bias)


@rule("RMSNormalization")
def rms_norm(call: Call) -> Term | None:
    x, scale = call.operand(0), call.operand(1)
    if x is None or scale is None or x.rank is None or not x.is_float:
        return None
    if call.attributes.get("stash_type", 1) != 1:
        return None
    axes = list(range(axis_of(call, default=-1), x.rank))
    if not _is_gain(x, scale, axes):
        return None
    made = normalised(call.terms, x, axes, float(call.attributes.get("epsilon", 1e-5)), False)
    return multiplied(call.terms, made, scale)


@rule("InstanceNormalization")
def instance_norm(call: Call) -> Term | None:
    x, scale, bias = (call.operand(k) for k in range(3))
    if x is None or scale is None or bias is None or x.rank is None or not x.is_float:
        return None
    if scale.leaf is None or bias.leaf is None or x.shape is None or {scale.shape, bias.shape} != {x.shape[1:2]}:
        return None
    shape = (-1, *[1] * (x.rank - 2))
    made = normalised(call.terms, x, range(2, x.rank), float(call.attributes.get("epsilon", 1e-5)), True)
    scale, bias = (call.terms.moved(t.leaf, lambda a: a.reshape(shape)) for t in (scale, bias) if t.leaf)
    return added(call.terms, multiplied(call.terms, made, scale), bias)
