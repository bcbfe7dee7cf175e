"""Rewrites of activations, of other elementwise functions, and of recurrent layers.

Reductions and pools are in `reductions`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import NodeProto

from ...normalform.algebra.constants import MAX_COPIED_ELEMENTS, make_number, may_broadcast
from ...normalform.algebra.elementwise import apply_before_movement, apply_unary
from ...normalform.algebra.movements import find_moved_axis, make_reshape, move_like
from ...normalform.algebra.multiples import make_multiple
from ...normalform.algebra.numbering import Terms
from ...normalform.algebra.sums import combine_terms, is_shape_kept, make_product, make_sum
from ...normalform.algebra.term import NoNormalFormError, Term, make_attributes
from ...semantics.lengths import are_numbers, multiply_lengths
from ...vocabulary.classes import FINITE_OPERATORS, WEIGHTED_SUM_OPERATORS
from .arguments import read_axis
from .call import Call, register_rewrite
from .nodes import keep_as_written


@register_rewrite("Gelu")
def rewrite_gelu(call: Call) -> Term | None:
    """Spell out x/2 (1 + erf(x/sqrt 2)), or its approximation by a hyperbolic tangent."""
    x, terms = call.require_first(), call.terms
    if not x.is_reassociable:
        return None
    how = call.attributes.get("approximate", b"none")
    if how not in (b"none", b"tanh"):
        raise NoNormalFormError(f"'approximate' is {how!r}")
    if how == b"tanh":
        cube = make_multiple(
            terms, combine_terms(terms, "Product", [x, x, x], x.shape), _round_to_type(x, 0.044715)
        )
        factor = _round_to_type(x, math.sqrt(2 / math.pi))
        inner = make_multiple(terms, make_sum(terms, x, cube), factor)
        return _make_gate(terms, x, apply_unary(terms, "Tanh", inner))
    inner = make_multiple(terms, x, _round_to_type(x, 1 / math.sqrt(2)))
    return _make_gate(terms, x, apply_unary(terms, "Erf", inner))


def _make_gate(terms: Terms, x: Term, gate: Term) -> Term:
    """Make x/2 (1 + gate)."""
    shifted = make_sum(terms, gate, make_number(terms, 1.0, x))
    return make_multiple(terms, make_product(terms, x, shifted), 0.5)


def _round_to_type(like: Term, value: float) -> float:
    """Round a number to the type of a term."""
    return float(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(like.dtype)).type(value))


@register_rewrite("Swish")
def rewrite_swish(call: Call) -> Term | None:
    """Spell out x sigmoid(alpha x)."""
    x, terms = call.require_first(), call.terms
    if not x.is_reassociable:
        return None
    gate = apply_unary(
        terms, "Sigmoid", make_multiple(terms, x, float(call.attributes.get("alpha", 1.0)))
    )
    return make_product(terms, x, gate)


@register_rewrite("HardSwish")
def rewrite_hard_swish(call: Call) -> Term | None:
    """Spell out x hardsigmoid(x), with the slope 1/6 and the offset 1/2."""
    x, terms = call.require_first(), call.terms
    if not x.is_reassociable:
        return None
    gate = apply_unary(terms, "HardSigmoid", x, alpha=1 / 6, beta=0.5)
    return make_product(terms, x, gate)


@register_rewrite("Mish")
def rewrite_mish(call: Call) -> Term | None:
    """Spell out x tanh(softplus(x))."""
    x, terms = call.require_first(), call.terms
    return (
        make_product(terms, x, apply_unary(terms, "Tanh", apply_unary(terms, "Softplus", x)))
        if x.is_reassociable
        else None
    )


@register_rewrite("Clip")
def rewrite_clip(call: Call) -> Term | None:
    """Drop bounds that bound nothing; a clip at zero from below is a Relu."""
    x, terms = call.require_first(), call.terms
    if call.version < 11:
        if not x.is_reassociable:
            return None
        values = [call.attributes.get(n) for n in ("min", "max")]
        limits = [None if v is None else make_number(terms, v, x) for v in values]
    else:
        limits = [call.get_operand(1), call.get_operand(2)]
    low, high = limits
    if any(bound is not None and bound.rank != 0 for bound in limits):
        return None
    if x.is_reassociable:
        low = None if low is not None and low.number == -math.inf else low
        high = None if high is not None and high.number == math.inf else high
    if low is None and high is None:
        return x
    # a Relu leaves every bit that a clip leaves
    if x.is_reassociable or x.operator == "Relu":
        x, low, high = _merge_clips(terms, x, low, high)
    if low is not None and low.number == 0.0 and high is None:
        return apply_unary(terms, "Relu", x)
    # The bounds are operands now, also of versions that have them as attributes.
    return keep_as_written(call, [x, low, high], ())[0]


@register_rewrite("Relu")
def rewrite_relu(call: Call) -> Term | None:
    """Make one clip of a Relu and of a clip before it."""
    x = call.require_first()
    if x.operator != "Clip" or not x.is_reassociable:
        return None
    inner, low, high = _merge_clips(call.terms, x, make_number(call.terms, 0.0, x), None)
    if inner is x:
        return None
    if high is None and low is not None and low.number == 0.0:
        return apply_unary(call.terms, "Relu", inner)
    given = [inner, low, high]
    made = apply_before_movement(call.terms, "Clip", given, ())
    return call.terms.make_node("Clip", "", given, (), 1)[0] if made is None else made


def _merge_clips(
    terms: Terms, x: Term, low: Term | None, high: Term | None
) -> tuple[Term, Term | None, Term | None]:
    """Make one clip of two, where all bounds are known and in order.

    Args:
        terms: makes terms.
        x: what is clipped; perhaps a clip, or a Relu.
        low, high: the bounds of the outer clip, None for none.

    Returns:
        What the one clip clips, and its bounds.
    """
    outer = _read_bounds([low, high])
    ends = (0.0, math.inf) if x.operator == "Relu" else None
    ends = _read_bounds(x.operands[1:]) if x.operator == "Clip" else ends
    inner = x.operands[0] if x.operands else None
    if inner is None or outer is None or ends is None:
        return x, low, high
    start, stop = (min(max(end, outer[0]), outer[1]) for end in ends)
    # where ends are crossed runtimes disagree, and where one is infinite nothing is left to clip
    is_empty = start == math.inf or stop == -math.inf
    if is_empty or outer[0] > outer[1] or ends[0] > ends[1]:
        return x, low, high
    made = [None if math.isinf(e) else make_number(terms, e, x) for e in (start, stop)]
    return inner, made[0], made[1]


def _read_bounds(given: Sequence[Term | None]) -> tuple[float, float] | None:
    """Read the bounds of a clip; None where one is not known, or is no number."""
    low, high = (*given, None, None)[:2]
    start = -math.inf if low is None else low.number
    stop = math.inf if high is None else high.number
    if start is None or stop is None or math.isnan(start) or math.isnan(stop):
        return None
    return start, stop


@register_rewrite("Softmax", "LogSoftmax", "Hardmax")
def rewrite_softmax(call: Call) -> Term | None:
    """Give the axis of a softmax as newer versions have it, and take it before a movement.

    Before version 13 the operand is a matrix: the axes before the given one, and those from it on.
    """
    x, terms, operator = call.require_first(), call.terms, call.node.op_type
    if x.rank is None or x.shape is None:
        return None
    axis = read_axis(call, default=-1 if call.version >= 13 else 1)
    if call.version < 13 and axis != x.rank - 1:
        flat = make_reshape(
            terms, x, (multiply_lengths(x.shape[:axis]), multiply_lengths(x.shape[axis:]))
        )
        return make_reshape(
            terms, terms.make_term(operator, [flat], make_attributes(axis=1)), x.shape
        )
    moved = find_moved_axis(x, axis)
    if moved is not None:
        core = moved[0].core
        made = terms.make_term(
            operator, [core], make_attributes(axis=moved[1]), dtype=x.dtype, shape=core.shape
        )
        return move_like(terms, made, x)
    return terms.make_term(operator, [x], make_attributes(axis=axis), dtype=x.dtype, shape=x.shape)


@register_rewrite("PRelu")
def rewrite_prelu(call: Call) -> Term | None:
    """Drop the leading ones of the shape of the slopes: broadcasting adds them again."""
    x, slope = call.require_first(), call.get_operand(1)
    if slope is None or x.shape is None or slope.shape is None or not are_numbers(slope.shape):
        return None
    if len(slope.shape) > len(x.shape):
        return None
    lengths = zip(reversed(slope.shape), reversed(x.shape), strict=False)
    if any(n != 1 and are_numbers([m]) and n != m for n, m in lengths):
        raise NoNormalFormError("a slope of PRelu that is larger than what it multiplies")
    # there is one slope for each channel
    kept = list(slope.shape)
    while len(kept) > 1 and kept[0] == 1:
        kept = kept[1:]
    slope = make_reshape(call.terms, slope, kept)
    return call.terms.make_term("PRelu", [x, slope], dtype=x.dtype, shape=x.shape)


@register_rewrite("LSTM", "GRU", "RNN")
def rewrite_recurrent(call: Call) -> Sequence[Term]:
    """Name all results of a recurrent layer, whether they are read or not.

    Tools leave out the results that nobody reads, or name them. Both are one term then.
    """
    # An LSTM gives its cells besides.
    results = 3 if call.node.op_type == "LSTM" else 2
    whole = NodeProto()
    whole.CopyFrom(call.node)
    whole.output[:] = [*call.node.output, *[""] * (results - call.result_count)]
    return keep_as_written(replace(call, node=whole))


@register_rewrite("Max", "Min")
def rewrite_extremum(call: Call) -> Term | None:
    """Compute the maximum or minimum of constants; that of one operand is the operand."""
    sides = [o for o in call.operands if o is not None]
    if len(sides) == 1:
        return sides[0]
    if not all(o.is_reassociable for o in sides):
        return None
    constants = [o for o in sides if o.leaf is not None]
    if len(constants) < len(sides):
        return None
    choose = np.maximum if call.node.op_type == "Max" else np.minimum
    first = constants[0].leaf
    if first is None or any(o.leaf is None or o.leaf.error_bound is not None for o in constants):
        return None
    array = functools.reduce(choose, [o.leaf.array for o in constants if o.leaf is not None])
    return call.terms.make_constant(array, first.hint)


EXACT_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Floor": np.floor,
    "Sign": np.sign,
}
"""Elementwise functions whose results are not rounded."""
TRIGONOMETRIC_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Cos": np.cos,
    "Sin": np.sin,
}
"""Elementwise functions whose results are at most one in size."""


@register_rewrite(*EXACT_FUNCTIONS, *TRIGONOMETRIC_FUNCTIONS)
def rewrite_function_of_constant(call: Call) -> Term | None:
    """Apply an elementwise function to a constant."""
    term = call.require_first()
    if term.leaf is None or not term.is_reassociable or term.leaf.error_bound is not None:
        return None
    if call.node.op_type in EXACT_FUNCTIONS:
        return call.terms.make_constant(
            EXACT_FUNCTIONS[call.node.op_type](term.leaf.array), term.leaf.hint
        )
    array = TRIGONOMETRIC_FUNCTIONS[call.node.op_type](term.leaf.array.astype(np.float64)).astype(
        term.leaf.array.dtype
    )
    # libraries disagree on the last two bits of a number of this size
    return call.terms.make_constant(
        array, term.leaf.hint, np.full((), 4 * float(np.finfo(array.dtype).eps))
    )


@register_rewrite("Where")
def rewrite_where(call: Call) -> Term | None:
    """Compute a choice between constants, and drop a guard against what a softmax never gives.

    A softmax of finite numbers is a number, so that what stands in for its NaNs is never taken.
    """
    condition, other, x = (call.get_operand(k) for k in range(3))
    if condition is None or x is None or other is None or not x.is_reassociable:
        return None
    leaves = [
        t.leaf for t in (condition, other, x) if t.leaf is not None and t.leaf.error_bound is None
    ]
    if (
        len(leaves) == 3
        and may_broadcast(call.terms, [a.array for a in leaves])
        and max(a.array.size for a in leaves) <= MAX_COPIED_ELEMENTS
    ):
        return call.terms.make_constant(np.where(*(a.array for a in leaves)), leaves[1].hint)
    if condition.operator != "IsNaN":
        return None
    is_guard = condition.operands[0] is x and x.operator == "Softmax" and is_shape_kept(x, other)
    return x if is_guard and x.operands[0] is not None and _is_finite(x.operands[0]) else None


def _is_finite(term: Term, known: dict[int, bool] | None = None) -> bool:
    """Tell whether a term is finite as long as weighted sums of finite numbers are."""
    known = {} if known is None else known
    if id(term) not in known:
        sides = [o for o in term.operands if o is not None]
        if term.leaf is not None:
            known[id(term)] = bool(np.isfinite(term.leaf.array).all())
        elif term.operator in WEIGHTED_SUM_OPERATORS:
            known[id(term)] = all(_is_finite(o, known) for o in sides if o.leaf is not None)
        else:
            known[id(term)] = term.operator in FINITE_OPERATORS and all(
                _is_finite(o, known) for o in sides
            )
    return known[id(term)]
