"""TODO."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from ...semantics.lengths import Polynomial, are_numbers, multiply_lengths
from ..algebra.constants import may_broadcast
from ..algebra.known_lengths import are_known_lengths, make_lengths
from ..algebra.movements import make_reshape
from ..algebra.parts import make_slice
from ..algebra.term import Term, make_attributes
from .arguments import read_axis
from .call import Call, TrackedAttributes, register_rewrite
from .parts import _has_length_one, _make_slices


@register_rewrite("Gather")
def rewrite_gather(call: Call) -> Term | None:
    return _make_gather(call)


def _make_gather(call: Call) -> Term | None:
    term, index = call.first(), call.operand(1)
    if index is None or term.shape is None:
        return None
    axis = read_axis(call)
    places = index.whole
    if places is None:
        return None
    if are_known_lengths(term) and term.known is not None:
        return make_lengths(call.terms, np.take(term.known, places, axis), term.dtype)
    length = term.shape[axis]
    if places.ndim == 0:
        place = int(places)
        if isinstance(length, Polynomial):
            end = place + 1 if place != -1 else 2**31 - 1
            part = _make_slices(call, term, [(axis, place, end, 1)])
            if place < 0:
                return None
        else:
            if not -length <= place < length:
                return None
            part = make_slice(call.terms, term, axis, place % length, place % length + 1)
        return (
            make_reshape(call.terms, part, [*term.shape[:axis], *term.shape[axis + 1 :]])
            if _has_length_one(part, axis)
            else None
        )
    if isinstance(length, Polynomial) or not ((-length <= places) & (places < length)).all():
        return None
    places = places % length
    if places.size == length and (places.ravel() == np.arange(length)).all():
        return make_reshape(
            call.terms, term, [*term.shape[:axis], *places.shape, *term.shape[axis + 1 :]]
        )
    if term.leaf is not None and places.size <= 1 << 16:
        return call.terms.moved(term.leaf, lambda a: np.take(a, places, axis))
    if places.ndim == 1 and places.size and (np.diff(places) == 1).all():
        return make_slice(call.terms, term, axis, int(places[0]), int(places[-1]) + 1)
    made = call.terms.constant(places)
    return call.terms.make("Gather", [term, made], make_attributes(axis=axis))


@register_rewrite("GatherND")
def rewrite_gather_nd(call: Call) -> Term | None:
    """With constant places along leading axes, a Gather along all of these as one."""
    term, index = call.first(), call.operand(1)
    if (
        index is None
        or index.whole is None
        or term.shape is None
        or call.attributes.get("batch_dims")
    ):
        return None
    places = index.whole
    many = places.shape[-1]
    if not are_numbers(term.shape[:many]):
        return None
    lengths = [n for n in term.shape[:many] if not isinstance(n, Polynomial)]
    columns = [places[..., k] for k in range(many)]
    if any(not ((-n <= c) & (c < n)).all() for c, n in zip(columns, lengths, strict=True)):
        return None
    flat = np.ravel_multi_index([c % n for c, n in zip(columns, lengths, strict=True)], lengths)
    rows = make_reshape(call.terms, term, [multiply_lengths(lengths), *term.shape[many:]])
    node = onnx.helper.make_node("Gather", ["", ""], [call.node.output[0]], axis=0)
    inner = replace(
        call,
        node=node,
        operands=[rows, call.terms.constant(np.asarray(flat))],
        attributes=TrackedAttributes({"axis": 0}),
    )
    return _make_gather(inner)


@register_rewrite("Where")
def rewrite_where(call: Call) -> Term | None:
    """A softmax without infinities before it gives numbers: what stands in for others is never taken."""
    condition, other, x = (call.operand(k) for k in range(3))
    if condition is None or x is None or other is None or not x.is_float:
        return None
    leaves = [t.leaf for t in (condition, other, x) if t.leaf is not None and t.leaf.room is None]
    if (
        len(leaves) == 3
        and may_broadcast([a.array for a in leaves])
        and max(a.array.size for a in leaves) <= 1 << 16
    ):
        return call.terms.constant(np.where(*(a.array for a in leaves)), leaves[1].hint)
    if condition.operator != "IsNaN":
        return None
    same = condition.operands[0] is x and x.operator == "Softmax"
    return x if same and x.operands[0] is not None and is_finite(x.operands[0]) else None


def is_finite(term: Term, known: dict[int, bool] | None = None) -> bool:
    """Is a term a real number wherever weighted sums of real numbers are?"""
    known = {} if known is None else known
    if id(term) not in known:
        passing = (
            "Add",
            "Expand",
            "Move",
            "Mul",
            "Part",
            "Product",
            "Reshape",
            "Scale",
            "Sum",
            "Transpose",
        )
        sides = [o for o in term.operands if o is not None]
        if term.leaf is not None:
            known[id(term)] = bool(np.isfinite(term.leaf.array).all())
        elif term.operator in ("Linear", "Conv", "MatMul"):
            known[id(term)] = all(is_finite(o, known) for o in sides if o.leaf is not None)
        else:
            known[id(term)] = term.operator in passing and all(is_finite(o, known) for o in sides)
    return known[id(term)]
