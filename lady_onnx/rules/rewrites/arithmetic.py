"""Rewrites of sums, products, quotients, powers and roots, of floats and of lengths."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from ...normalform.algebra.constants import negate_constant
from ...normalform.algebra.elementwise import make_reciprocal, make_square_root
from ...normalform.algebra.known_lengths import are_known_lengths, make_lengths
from ...normalform.algebra.movements import make_reshape
from ...normalform.algebra.multiples import make_multiple
from ...normalform.algebra.sums import combine_terms, make_product, make_sum
from ...normalform.algebra.term import NoNormalFormError, Term
from ...semantics.lengths import are_numbers, divide_lengths, fit_int32
from .call import Call, register_rewrite


def _make_rewrite(
    on_lengths: Callable[[np.ndarray, np.ndarray], np.ndarray | None],
    on_floats: Callable[[Call, Term, Term], Term],
) -> Callable[[Call], Term | None]:
    """Make the rewrite of an operator of two operands that broadcast.

    Args:
        on_lengths: computes the result of two tensors of lengths; None where it cannot.
        on_floats: makes the result of two terms of floats.
    """

    def rewrite(call: Call) -> Term | None:
        a, b = call.get_operand(0), call.get_operand(1)
        # Before version 7 the second operand was placed at an axis of the first by an attribute.
        if a is None or b is None or (call.version < 7 and call.attributes.get("broadcast")):
            if a is None or b is None or a.shape is None or b.shape is None:
                raise NoNormalFormError(f"{call.node.op_type} broadcasts as in version 1")
            axis = int(call.attributes.get("axis", len(a.shape) - len(b.shape)))
            b = make_reshape(call.terms, b, [*b.shape, *[1] * (len(a.shape) - axis - len(b.shape))])
        elif call.version < 7 and (a.shape is None or a.shape != b.shape):
            raise NoNormalFormError("nothing broadcasts before version 7")
        if are_known_lengths(a, b):
            assert a.known is not None
            assert b.known is not None
            found = on_lengths(a.known, b.known)
            if found is not None and (
                a.dtype == TensorProto.INT64 or fit_int32(found.ravel().tolist())
            ):
                return make_lengths(call.terms, found, a.dtype)
        if a.is_reassociable and b.is_reassociable:
            return on_floats(call, a, b)
        return None

    return rewrite


def _divide_known_lengths(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """Divide lengths by plain numbers, without a rest; None where that is not possible.

    A length may be zero, so that nothing is divided by an unknown one.
    """
    if not are_numbers(b.ravel().tolist()):
        return None
    parts = [
        divide_lengths(x, y)
        for x, y in zip(*(v.ravel().tolist() for v in np.broadcast_arrays(a, b)), strict=True)
    ]
    if any(p is None for p in parts):
        return None
    # Known lengths are arrays of objects, also where all of them are plain numbers.
    found = np.empty(len(parts), object)
    found[:] = parts
    return found.reshape(np.broadcast_shapes(a.shape, b.shape))


def _add_terms(call: Call, a: Term, b: Term) -> Term:
    """Make a sum."""
    return make_sum(call.terms, a, b, call.unshared)


def _subtract_terms(call: Call, a: Term, b: Term) -> Term:
    """Make the sum of a term and of another one times minus one."""
    other = (
        negate_constant(call.terms, b.leaf)
        if b.leaf is not None
        else make_multiple(call.terms, b, -1.0)
    )
    return make_sum(call.terms, a, other)


def _divide_terms(call: Call, a: Term, b: Term) -> Term:
    """Make the product of a term and of the inverse of another one."""
    # One over b is the inverse alone only where the one does not broadcast b to a higher rank.
    one = a.number
    if (
        one is not None
        and one == 1.0
        and b.shape is not None
        and len(b.shape) >= len(a.shape or ())
    ):
        return make_reciprocal(call.terms, b)
    return make_product(call.terms, a, make_reciprocal(call.terms, b))


@register_rewrite("Sum")
def rewrite_sum(call: Call) -> Term | None:
    """Add up the operands two by two."""
    terms = [o for o in call.operands if o is not None]
    if len(terms) == 1:
        return terms[0]
    if not all(t.is_reassociable for t in terms):
        return None
    total = terms[0]
    for term in terms[1:]:
        total = make_sum(call.terms, total, term)
    return total


@register_rewrite("Neg")
def rewrite_negative(call: Call) -> Term | None:
    """Multiply by minus one."""
    return (
        make_multiple(call.terms, call.require_first(), -1.0)
        if call.require_first().is_reassociable
        else None
    )


@register_rewrite("Reciprocal")
def rewrite_reciprocal(call: Call) -> Term | None:
    """Take a factor out of an inverse, and compute the inverse of a constant."""
    return (
        make_reciprocal(call.terms, call.require_first())
        if call.require_first().is_reassociable
        else None
    )


@register_rewrite("Sqrt")
def rewrite_square_root(call: Call) -> Term | None:
    """Compute the root of a constant."""
    return (
        make_square_root(call.terms, call.require_first())
        if call.require_first().is_reassociable
        else None
    )


@register_rewrite("Pow")
def rewrite_power(call: Call) -> Term | None:
    """Write powers with a usual exponent as products, roots and inverses."""
    term, exponent = call.require_first(), call.get_operand(1)
    if (
        exponent is None
        or exponent.leaf is None
        or exponent.leaf.array.size != 1
        or not term.is_reassociable
    ):
        return None
    value = float(exponent.leaf.array.reshape(-1)[0])
    # An exponent of higher rank broadcasts the base.
    if len(exponent.leaf.array.shape) > (term.rank or 0):
        return None
    if value == 2:
        return make_product(call.terms, term, term)
    if value == 3:
        return combine_terms(call.terms, "Product", [term, term, term], term.shape)
    if value == 0.5:
        return make_square_root(call.terms, term)
    if value == 1:
        return term
    if value == -1:
        return make_reciprocal(call.terms, term)
    return None


def _multiply_terms(call: Call, a: Term, b: Term) -> Term:
    """Make a product."""
    return make_product(call.terms, a, b, call.unshared)


register_rewrite("Add")(_make_rewrite(operator.add, _add_terms))


register_rewrite("Sub")(_make_rewrite(operator.sub, _subtract_terms))


register_rewrite("Mul")(_make_rewrite(operator.mul, _multiply_terms))


register_rewrite("Div")(_make_rewrite(_divide_known_lengths, _divide_terms))
