"""Rewrites of layers: products with matrices, and convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from ...normalform.algebra.constants import may_reassociate
from ...normalform.algebra.known_lengths import measure_windows
from ...normalform.algebra.linear import make_linear
from ...normalform.algebra.movements import make_transpose
from ...normalform.algebra.multiples import make_multiple, split_factor
from ...normalform.algebra.numbering import Terms
from ...normalform.algebra.sums import is_shape_kept, make_product, make_sum
from ...normalform.algebra.term import Term, make_attributes
from ...normalform.algebra.units import make_zero_bias
from .arguments import read_pads, read_window
from .call import Call, register_rewrite


@register_rewrite("MatMul")
def rewrite_matmul(call: Call) -> Term | None:
    """Write the product with a constant matrix as a layer with a bias."""
    a, b = call.get_operand(0), call.get_operand(1)
    if a is None or b is None or not (a.is_reassociable and b.is_reassociable):
        return None
    if b.leaf is not None and b.leaf.array.ndim == 2 and a.leaf is None and (a.rank or 0) > 1:
        return make_linear(call.terms, a, b)
    return make_matrix_product(call, a, b)


def make_matrix_product(call: Call, a: Term, b: Term) -> Term:
    """Make the matrix product of two terms, with the numbers that scale them taken out."""
    (x, first), (y, second) = split_factor(call.terms, a), split_factor(call.terms, b)
    if not may_reassociate(first * second):
        return call.terms.make_term("MatMul", [a, b])
    return make_multiple(call.terms, call.terms.make_term("MatMul", [x, y]), first * second)


@register_rewrite("Gemm")
def rewrite_gemm(call: Call) -> Term | None:
    """Spell out transpositions, factors and the added matrix."""
    a, b, c = (call.get_operand(k) for k in range(3))
    if (
        a is None
        or b is None
        or not (a.is_reassociable and b.is_reassociable)
        or (c is not None and not c.is_reassociable)
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
        else make_matrix_product(call, a, b)
    )
    made = make_multiple(terms, made, float(attributes.get("alpha", 1.0)))
    beta = float(attributes.get("beta", 1.0))
    if c is None or beta == 0:
        return made
    # a matrix that broadcasts the product to a larger shape is no bias
    return make_sum(terms, made, make_multiple(terms, c, beta)) if is_shape_kept(made, c) else None


@register_rewrite("Conv", "ConvTranspose")
def rewrite_convolution(call: Call) -> Term | None:
    """Write out the window and the bias of a convolution, and absorb a padding before it."""
    x, weight, bias = (call.get_operand(k) for k in range(3))
    if (
        x is None
        or weight is None
        or weight.leaf is None
        or (bias is not None and (bias.leaf is None or bias.rank != 1))
        or not x.is_reassociable
    ):
        return None
    terms, operator = call.terms, call.node.op_type
    kernel = list(weight.leaf.array.shape[2:])
    places = len(kernel)
    pads = read_pads(call, x, kernel)
    if pads is None or list(call.attributes.get("kernel_shape", kernel)) != kernel:
        return None
    x, pads = _absorb_padding(x, pads) if operator == "Conv" else (x, pads)
    groups, strides = int(call.attributes.get("group", 1)), read_window(call, "strides", places, 1)
    window: dict[str, object] = {
        "dilations": read_window(call, "dilations", places, 1),
        "group": groups,
        "kernel_shape": kernel,
        "pads": pads,
        "strides": strides,
    }
    added: list[int] = []
    if operator == "ConvTranspose":
        if "output_shape" in call.attributes:
            return None
        added = window["output_padding"] = read_window(call, "output_padding", places, 0)
    outer, inner = weight.leaf.array.shape[:2]
    units = outer if operator == "Conv" else inner * groups
    is_scale = groups == outer and inner == 1 and x.rank == 2 + places
    if is_scale and not any([*pads, *added]) and {*kernel, *strides} <= {1}:
        return _scale_channels(terms, x, weight, bias)
    if bias is None:
        bias = make_zero_bias(terms, units, weight)
    return _make_convolution(call, operator, [x, weight, bias], window)


def _scale_channels(terms: Terms, x: Term, weight: Term, bias: Term | None) -> Term:
    """Multiply each channel by its own factor, and add its own offset.

    That is what a convolution does that reads one place of one channel; optimisers write factors
    and normalisations so.
    """
    assert x.rank is not None
    shape = (-1, *[1] * (x.rank - 2))
    factor, *offset = (
        terms.move_constant(r.leaf, lambda a: a.reshape(shape))
        for r in (weight, bias)
        if r is not None and r.leaf is not None
    )
    made = make_product(terms, x, factor)
    return make_sum(terms, made, offset[0]) if offset else made


def _make_convolution(
    call: Call, operator: str, operands: Sequence[Term], window: dict[str, object]
) -> Term:
    """Make a convolution, and give it the lengths that its window gives."""
    made = call.terms.make_term(operator, operands, make_attributes(**window))
    return (
        made
        if operator == "ConvTranspose"
        else measure_windows(call.terms, made, operands[0], window)
    )


def _absorb_padding(x: Term, pads: list[int]) -> tuple[Term, list[int]]:
    """Return what a convolution reads, with the zeros around it among its own padding."""
    if (
        x.operator != "Pad"
        or x.read_attribute("mode") != b"constant"
        or len(x.operands) > 3
        or x.rank is None
    ):
        return x, pads
    inner, around, value = (*x.operands, None)[:3]
    if (
        inner is None
        or around is None
        or around.integers is None
        or (value is not None and value.number != 0.0)
    ):
        return x, pads
    # A Pad lists all starts and then all ends, with batch and channels first in both.
    whole = around.integers.tolist()
    rank = x.rank
    outer = [whole[k] for k in (0, 1, rank, rank + 1)]
    added = [*whole[2:rank], *whole[rank + 2 :]]
    if any(outer) or min(added, default=0) < 0:
        return x, pads
    return inner, [p + q for p, q in zip(pads, added, strict=True)]
