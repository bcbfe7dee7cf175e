"""Rules of the normal form: parts of tensors, and what stands one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from ..equality.extents import Poly, is_number, multiply_lengths
from .calls import (
    Asked,
    Call,
    count_axes_from_front,
    keep_as_written,
    make_lengths,
    read_axis,
    read_whole_numbers,
    register_rewrite,
)
from .layouts import make_reshape
from .rewrites import make_concatenation, make_slice, may_meet
from .shaping import PLAIN_TYPES, is_extents
from .terms import NoForm, Term, make_attributes

# ---- parts


@register_rewrite("Concat")
def concat(call: Call) -> Term | None:
    if any(o is None for o in call.operands):
        return None
    parts = [o for o in call.operands if o is not None]
    axis = int(call.attributes.get("axis", 1)) if call.version < 4 else read_axis(call)
    # what holds nothing adds nothing
    kept = [p for p in parts if not (p.shape and p.shape[axis] == 0 and len(p.shape) > 1)] or parts[
        :1
    ]
    return make_concatenation(call.terms, kept, axis)


@register_rewrite("Slice")
def slice_(call: Call) -> Term | None:
    term = call.first()
    starts, ends = read_whole_numbers(call, "starts", 1), read_whole_numbers(call, "ends", 2)
    if starts is None or ends is None or term.shape is None:
        return None
    axes = read_whole_numbers(call, "axes", 3)
    if axes is None:
        if call.operand(3) is not None:
            return None
        axes = list(range(len(starts)))
    steps = [1] * len(starts)
    if call.operand(4) is not None:
        found = read_whole_numbers(call, "steps", 4)
        if found is None:
            return None
        steps = found
    return _parts(
        call,
        term,
        list(zip(count_axes_from_front(axes, len(term.shape)), starts, ends, steps, strict=True)),
    )


ADDRESSES = 1 << 47
"""No process has as many bytes: a tensor that would need them does not come about."""


def _bytes(term: Term, axis: int) -> int:
    """How many bytes a tensor has for every place along an axis; 0 where that is not known."""
    found = multiply_lengths(n for a, n in enumerate(term.shape or ()) if a != axis)
    if isinstance(found, Poly) or term.dtype not in PLAIN_TYPES:
        return 0
    return found * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(term.dtype)).itemsize


def _parts(call: Call, term: Term, cuts: Sequence[tuple[int, int, int, int]]) -> Term:
    left = []
    for axis, start, stop, step in sorted(cuts):
        assert term.shape is not None
        length = term.shape[axis]
        if isinstance(length, Poly):
            if (
                start == 0
                and step == 1
                and (stop >= 2**31 - 1 or stop * _bytes(term, axis) >= ADDRESSES)
            ):
                continue
            left.append((axis, start, min(stop, 2**31 - 1), step))
            continue
        if step < 0:
            # a start before the first element is the first one, as the specification has it
            first = min(max(start + length if start < 0 else start, 0), length - 1)
            last = min(max(stop + length if stop < 0 else stop, -1), length - 1)
            if not length or first <= last:
                raise NoForm("a slice that goes back and holds nothing")
            places = range(first, last, step)
        else:
            places = range(*slice(start, stop, step).indices(length))
        term = make_slice(call.terms, term, axis, places.start, places.stop, step)
    if not left:
        return term
    # along lengths that only a run shows
    operands = [
        call.terms.constant(np.array(v, np.int64))
        for v in zip(*[(s, e, a, t) for a, s, e, t in left], strict=True)
    ]
    return call.terms.make("Slice", [term, *operands])


@register_rewrite("Split")
def split_(call: Call) -> Sequence[Term] | None:
    term = call.first()
    axis = read_axis(call)
    if term.shape is None or isinstance(term.shape[axis], Poly):
        return None
    if call.attributes.get("num_outputs", call.results) != call.results:
        return None
    length = term.shape[axis]
    assert isinstance(length, int)
    sizes = read_whole_numbers(call, "split", 1)
    if sizes is None:
        if call.operand(1) is not None:
            return None
        each = -(-length // call.results)
        sizes = [min(each, length - k * each) for k in range(call.results)]
        if call.version < 18 and length % call.results:
            return None
    if sum(sizes) != length or len(sizes) != call.results or min(sizes) < 0:
        return None
    ends = np.cumsum([0, *sizes]).tolist()
    return [make_slice(call.terms, term, axis, a, b) for a, b in itertools.pairwise(ends)]


@register_rewrite("Gather")
def gather(call: Call) -> Term | None:
    return _gathered(call)


def _gathered(call: Call) -> Term | None:
    term, index = call.first(), call.operand(1)
    if index is None or term.shape is None:
        return None
    axis = read_axis(call)
    places = index.whole
    if places is None:
        return None
    if is_extents(term) and term.known is not None:
        return make_lengths(call.terms, np.take(term.known, places, axis), term.dtype)
    length = term.shape[axis]
    if places.ndim == 0:
        place = int(places)
        if isinstance(length, Poly):
            end = place + 1 if place != -1 else 2**31 - 1
            part = _parts(call, term, [(axis, place, end, 1)])
            if place < 0:
                return None
        else:
            if not -length <= place < length:
                return None
            part = make_slice(call.terms, term, axis, place % length, place % length + 1)
        return (
            make_reshape(call.terms, part, [*term.shape[:axis], *term.shape[axis + 1 :]])
            if _is_one(part, axis)
            else None
        )
    if isinstance(length, Poly) or not ((-length <= places) & (places < length)).all():
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
def gather_nd(call: Call) -> Term | None:
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
    if not is_number(term.shape[:many]):
        return None
    lengths = [n for n in term.shape[:many] if not isinstance(n, Poly)]
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
        attributes=Asked({"axis": 0}),
    )
    return _gathered(inner)


def _is_one(term: Term, axis: int) -> bool:
    return term.shape is not None and term.shape[axis] == 1


@register_rewrite("Pad")
def pad(call: Call) -> Term | None:
    pads = read_whole_numbers(call, "pads" if call.version > 1 else "paddings", 1)
    term = call.first()
    if pads is None or call.operand(3) is not None:
        return None
    if not any(pads) and len(pads) == 2 * (term.rank or -1):
        return term
    if call.version >= 11 or term.rank is None:
        return None
    value = call.terms.constant(np.array(call.attributes.get("value", 0.0), np.float32))
    mode = call.attributes.get("mode", b"constant")
    operands = [term, call.terms.constant(np.array(pads, np.int64)), value]
    return keep_as_written(
        call, operands if mode == b"constant" else operands[:2], make_attributes(mode=mode)
    )[0]


@register_rewrite("Where")
def where(call: Call) -> Term | None:
    """A softmax without infinities before it gives numbers: what stands in for others is never taken."""
    condition, other, x = (call.operand(k) for k in range(3))
    if condition is None or x is None or other is None or not x.is_float:
        return None
    leaves = [t.leaf for t in (condition, other, x) if t.leaf is not None and t.leaf.room is None]
    if (
        len(leaves) == 3
        and may_meet([a.array for a in leaves])
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
