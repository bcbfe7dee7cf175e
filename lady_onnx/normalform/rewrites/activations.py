"""TODO."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import NodeProto

from ...semantics.lengths import are_numbers, multiply_lengths
from ..algebra.constants import make_number
from ..algebra.elementwise import apply_unary
from ..algebra.movements import make_reshape, make_transpose
from ..algebra.multiples import make_multiple
from ..algebra.sums import combine_terms, make_product, make_sum
from ..algebra.term import NoNormalForm, Term, make_attributes
from .arguments import read_axis
from .call import Call, register_rewrite
from .keeping import keep_as_written


@register_rewrite("Gelu")
def rewrite_gelu(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if not x.is_float:
        return None
    how = call.attributes.get("approximate", b"none")
    if how not in (b"none", b"tanh"):
        raise NoNormalForm(f"'approximate' is {how!r}")
    if how == b"tanh":
        cube = make_multiple(
            terms, combine_terms(terms, "Product", [x, x, x], x.shape), _round_to_type(x, 0.044715)
        )
        inner = apply_unary(
            terms,
            "Tanh",
            make_multiple(
                terms, make_sum(terms, x, cube), _round_to_type(x, math.sqrt(2 / math.pi))
            ),
        )
        return make_multiple(
            terms, make_product(terms, x, make_sum(terms, inner, make_number(terms, 1.0, x))), 0.5
        )
    inner = apply_unary(terms, "Erf", make_multiple(terms, x, _round_to_type(x, 1 / math.sqrt(2))))
    return make_multiple(
        terms, make_product(terms, x, make_sum(terms, inner, make_number(terms, 1.0, x))), 0.5
    )


def _round_to_type(like: Term, value: float) -> float:
    """A number as it is rounded to the type of a term."""
    return float(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(like.dtype)).type(value))


@register_rewrite("Swish")
def rewrite_swish(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if not x.is_float:
        return None
    gate = apply_unary(
        terms, "Sigmoid", make_multiple(terms, x, float(call.attributes.get("alpha", 1.0)))
    )
    return make_product(terms, x, gate)


@register_rewrite("HardSwish")
def rewrite_hard_swish(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if not x.is_float:
        return None
    gate = apply_unary(terms, "HardSigmoid", x, alpha=1 / 6, beta=0.5)
    return make_product(terms, x, gate)


@register_rewrite("Mish")
def rewrite_mish(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    return (
        make_product(terms, x, apply_unary(terms, "Tanh", apply_unary(terms, "Softplus", x)))
        if x.is_float
        else None
    )


@register_rewrite("Clip")
def rewrite_clip(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if call.version < 11:
        if not x.is_float:
            return None
        given_ = [call.attributes.get(n) for n in ("min", "max")]
        limits = [None if v is None else make_number(terms, v, x) for v in given_]
    else:
        limits = [call.operand(1), call.operand(2)]
    low, high = limits
    if any(bound is not None and bound.rank != 0 for bound in limits):
        return None
    if x.is_float:
        low = None if low is not None and low.number == -math.inf else low
        high = None if high is not None and high.number == math.inf else high
    if low is None and high is None:
        return x
    if low is not None and low.number == 0.0:
        if high is None:
            return apply_unary(terms, "Relu", x)
        if x.operator == "Relu" and high.number is not None and high.number >= 0:
            x = x.operands[0] or x
    return keep_as_written(call, [x, low, high], ())[0]


@register_rewrite("Softmax", "LogSoftmax", "Hardmax")
def rewrite_softmax(call: Call) -> Term | None:
    x, terms, operator = call.first(), call.terms, call.node.op_type
    if x.rank is None or x.shape is None:
        return None
    axis = read_axis(call, default=-1 if call.version >= 13 else 1)
    if call.version < 13 and axis != x.rank - 1:
        flat = make_reshape(
            terms, x, (multiply_lengths(x.shape[:axis]), multiply_lengths(x.shape[axis:]))
        )
        return make_reshape(terms, terms.make(operator, [flat], make_attributes(axis=1)), x.shape)
    core = x.operands[0] if x.operator == "Transpose" else None
    if core is not None and core.shape is not None:
        order = x.perm
        made = terms.make(
            operator, [core], make_attributes(axis=order[axis]), dtype=x.dtype, shape=core.shape
        )
        return make_transpose(terms, made, order)
    return terms.make(operator, [x], make_attributes(axis=axis), dtype=x.dtype, shape=x.shape)


@register_rewrite("PRelu")
def rewrite_prelu(call: Call) -> Term | None:
    x, slope = call.first(), call.operand(1)
    if slope is None or x.shape is None or slope.shape is None or not are_numbers(slope.shape):
        return None
    if len(slope.shape) > len(x.shape):
        return None
    # one slope for each channel: leading ones say nothing
    kept = list(slope.shape)
    while len(kept) > 1 and kept[0] == 1:
        kept = kept[1:]
    slope = make_reshape(call.terms, slope, kept)
    return call.terms.make("PRelu", [x, slope], dtype=x.dtype, shape=x.shape)


@register_rewrite("LSTM", "GRU", "RNN")
def rewrite_recurrent(call: Call) -> Sequence[Term]:
    """All results, whether they are read or not."""
    results = 3 if call.node.op_type == "LSTM" else 2
    whole = NodeProto()
    whole.CopyFrom(call.node)
    whole.output[:] = [*call.node.output, *[""] * (results - call.results)]
    return keep_as_written(replace(call, node=whole))


@register_rewrite("Max", "Min")
def rewrite_extremum(call: Call) -> Term | None:
    """Of constants the larger or smaller of every element; of more than two operands two by two."""
    sides = [o for o in call.operands if o is not None]
    if len(sides) == 1:
        return sides[0]
    if not all(o.is_float for o in sides):
        return None
    constants = [o for o in sides if o.leaf is not None]
    if len(constants) < len(sides):
        return None
    choose = np.maximum if call.node.op_type == "Max" else np.minimum
    first = constants[0].leaf
    if first is None or any(o.leaf is None or o.leaf.room is not None for o in constants):
        return None
    array = functools.reduce(choose, [o.leaf.array for o in constants if o.leaf is not None])
    return call.terms.constant(array, first.hint)


EXACT_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Floor": np.floor,
    "Sign": np.sign,
}
"""What is done to every element of a constant and rounds nothing."""


TRIGONOMETRIC_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Cos": np.cos,
    "Sin": np.sin,
}
"""What is done to every element of a constant, of size one at most."""


@register_rewrite(*EXACT_FUNCTIONS, *TRIGONOMETRIC_FUNCTIONS)
def rewrite_function_of_constant(call: Call) -> Term | None:
    """A function of every element, of a constant a constant."""
    term = call.first()
    if term.leaf is None or not term.is_float or term.leaf.room is not None:
        return None
    if call.node.op_type in EXACT_FUNCTIONS:
        return call.terms.constant(
            EXACT_FUNCTIONS[call.node.op_type](term.leaf.array), term.leaf.hint
        )
    array = TRIGONOMETRIC_FUNCTIONS[call.node.op_type](term.leaf.array.astype(np.float64)).astype(
        term.leaf.array.dtype
    )
    # libraries give the last two bits of a number of this size as they like
    return call.terms.constant(
        array, term.leaf.hint, np.full((), 4 * float(np.finfo(array.dtype).eps))
    )
