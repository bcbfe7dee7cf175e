"""Rewrites of slices, splits, gathers with constant indices, concatenations and paddings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from ...normalform.algebra.constants import MAX_COPIED_ELEMENTS
from ...normalform.algebra.known_lengths import are_known_lengths, make_lengths
from ...normalform.algebra.movements import make_reshape
from ...normalform.algebra.slices import make_concatenation, make_slice
from ...normalform.algebra.term import NoNormalFormError, Term, make_attributes
from ...semantics.lengths import Polynomial, are_numbers, multiply_lengths
from .arguments import count_axes_from_front, read_axis, read_integers
from .call import Call, TrackedAttributes, register_rewrite
from .nodes import keep_as_written
from .types import PLAIN_TYPES

MAX_ADDRESSES = 1 << 47
"""More bytes than a process can address: a tensor that would need them cannot come about."""
MAX_END = 2**31 - 1
"""Where a slice ends that goes on to the end of its axis."""


@register_rewrite("Concat")
def rewrite_concat(call: Call) -> Term | None:
    """Join terms; a part that holds nothing adds nothing."""
    if any(o is None for o in call.operands):
        return None
    parts = [o for o in call.operands if o is not None]
    # Before version 4 the axis could be left out.
    axis = int(call.attributes.get("axis", 1)) if call.version < 4 else read_axis(call)
    # of parts that are all empty the first one is kept
    kept = [p for p in parts if not (p.shape and p.shape[axis] == 0 and len(p.shape) > 1)] or parts[
        :1
    ]
    return make_concatenation(call.terms, kept, axis)


@register_rewrite("Slice")
def rewrite_slice(call: Call) -> Term | None:
    """Write a slice along several axes as one slice for each axis."""
    term = call.require_first()
    starts, ends = read_integers(call, "starts", 1), read_integers(call, "ends", 2)
    if starts is None or ends is None or term.shape is None:
        return None
    axes = read_integers(call, "axes", 3)
    if axes is None:
        if call.get_operand(3) is not None:
            return None
        axes = list(range(len(starts)))
    steps = [1] * len(starts)
    if call.get_operand(4) is not None:
        found = read_integers(call, "steps", 4)
        if found is None:
            return None
        steps = found
    return _make_slices(
        call,
        term,
        list(zip(count_axes_from_front(axes, len(term.shape)), starts, ends, steps, strict=True)),
    )


def _count_bytes_per_place(term: Term, axis: int) -> int:
    """Count the bytes of a tensor for every place along an axis; 0 where that is not known."""
    found = multiply_lengths(n for a, n in enumerate(term.shape or ()) if a != axis)
    if isinstance(found, Polynomial) or term.dtype not in PLAIN_TYPES:
        return 0
    return found * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(term.dtype)).itemsize


def _make_slices(call: Call, term: Term, cuts: Sequence[tuple[int, int, int, int]]) -> Term:
    """Slice a term along several axes.

    Args:
        call: the node.
        term: the term, of a known shape.
        cuts: (axis, start, stop, step) for every axis, as the specification of `Slice` reads them.

    Raises:
        NoNormalFormError: if a slice that goes back holds nothing: runtimes disagree on it.
    """
    left = []
    # Slices along different axes may be taken in any order; one order is the normal one.
    for axis, start, stop, step in sorted(cuts):
        assert term.shape is not None
        length = term.shape[axis]
        if isinstance(length, Polynomial):
            if (
                start == 0
                and step == 1
                and (stop >= MAX_END or stop * _count_bytes_per_place(term, axis) >= MAX_ADDRESSES)
            ):
                continue
            left.append((axis, start, min(stop, MAX_END), step))
            continue
        places = _find_places(length, start, stop, step)
        term = make_slice(call.terms, term, axis, places.start, places.stop, step)
    if not left:
        return term
    # what is left are slices along lengths that only a run shows
    operands = [
        call.terms.make_constant(np.array(v, np.int64))
        for v in zip(*[(s, e, a, t) for a, s, e, t in left], strict=True)
    ]
    return call.terms.make_term("Slice", [term, *operands])


def _find_places(length: int, start: int, stop: int, step: int) -> range:
    """Find the places of a slice along an axis of a known length.

    Raises:
        NoNormalFormError: if a slice that goes back holds nothing.
    """
    if step >= 0:
        return range(*slice(start, stop, step).indices(length))
    # the specification clamps a start before the first element to the first one
    first = min(max(start + length if start < 0 else start, 0), length - 1)
    last = min(max(stop + length if stop < 0 else stop, -1), length - 1)
    if not length or first <= last:
        raise NoNormalFormError("a slice that goes back and holds nothing")
    return range(first, last, step)


@register_rewrite("Split")
def rewrite_split(call: Call) -> Sequence[Term] | None:
    """Write a split as one slice for each part."""
    term = call.require_first()
    axis = read_axis(call)
    if term.shape is None or isinstance(term.shape[axis], Polynomial):
        return None
    if call.attributes.get("num_outputs", call.result_count) != call.result_count:
        return None
    length = term.shape[axis]
    assert isinstance(length, int)
    sizes = read_integers(call, "split", 1)
    if sizes is None:
        if call.get_operand(1) is not None:
            return None
        each = -(-length // call.result_count)
        sizes = [min(each, length - k * each) for k in range(call.result_count)]
        if call.version < 18 and length % call.result_count:
            return None
    if sum(sizes) != length or len(sizes) != call.result_count or min(sizes) < 0:
        return None
    ends = np.cumsum([0, *sizes]).tolist()
    return [make_slice(call.terms, term, axis, a, b) for a, b in itertools.pairwise(ends)]


@register_rewrite("Gather")
def rewrite_gather(call: Call) -> Term | None:
    """Write a gather with constant indices as a slice, a reshape or a moved constant."""
    return _make_gather(call)


def _make_gather(call: Call) -> Term | None:
    """Gather along one axis; None where an index or a length is not known, or out of range."""
    term, index = call.require_first(), call.get_operand(1)
    if index is None or term.shape is None:
        return None
    axis = read_axis(call)
    places = index.integers
    if places is None:
        return None
    if are_known_lengths(term) and term.known is not None:
        return make_lengths(call.terms, np.take(term.known, places, axis), term.dtype)
    if places.ndim == 0:
        return _take_place(call, term, axis, int(places))
    length = term.shape[axis]
    if isinstance(length, Polynomial) or not ((-length <= places) & (places < length)).all():
        return None
    places = places % length
    if places.size == length and (places.ravel() == np.arange(length)).all():
        return make_reshape(
            call.terms, term, [*term.shape[:axis], *places.shape, *term.shape[axis + 1 :]]
        )
    if term.leaf is not None and places.size <= MAX_COPIED_ELEMENTS:
        return call.terms.move_constant(term.leaf, lambda a: np.take(a, places, axis))
    if places.ndim == 1 and places.size and (np.diff(places) == 1).all():
        return make_slice(call.terms, term, axis, int(places[0]), int(places[-1]) + 1)
    made = call.terms.make_constant(places)
    return call.terms.make_term("Gather", [term, made], make_attributes(axis=axis))


def _take_place(call: Call, term: Term, axis: int, place: int) -> Term | None:
    """Take one place along an axis, which is dropped; None where it may not exist."""
    assert term.shape is not None
    length = term.shape[axis]
    if isinstance(length, Polynomial):
        end = place + 1 if place != -1 else MAX_END
        part = _make_slices(call, term, [(axis, place, end, 1)])
        if place < 0:
            return None
    else:
        if not -length <= place < length:
            return None
        part = make_slice(call.terms, term, axis, place % length, place % length + 1)
    if part.shape is None or part.shape[axis] != 1:
        return None
    return make_reshape(call.terms, part, [*term.shape[:axis], *term.shape[axis + 1 :]])


@register_rewrite("GatherND")
def rewrite_gather_nd(call: Call) -> Term | None:
    """Merge the leading axes, so that constant indices along them are a gather along one axis."""
    term, index = call.require_first(), call.get_operand(1)
    if (
        index is None
        or index.integers is None
        or term.shape is None
        or call.attributes.get("batch_dims")
    ):
        return None
    places = index.integers
    depth = places.shape[-1]
    if not are_numbers(term.shape[:depth]):
        return None
    lengths = [n for n in term.shape[:depth] if not isinstance(n, Polynomial)]
    columns = [places[..., k] for k in range(depth)]
    if any(not ((-n <= c) & (c < n)).all() for c, n in zip(columns, lengths, strict=True)):
        return None
    flat = np.ravel_multi_index([c % n for c, n in zip(columns, lengths, strict=True)], lengths)
    rows = make_reshape(call.terms, term, [multiply_lengths(lengths), *term.shape[depth:]])
    node = onnx.helper.make_node("Gather", ["", ""], [call.node.output[0]], axis=0)
    inner = replace(
        call,
        node=node,
        operands=[rows, call.terms.make_constant(np.asarray(flat))],
        attributes=TrackedAttributes({"axis": 0}),
    )
    return _make_gather(inner)


@register_rewrite("Pad")
def rewrite_pad(call: Call) -> Term | None:
    """Give the padding as an operand, as newer versions have it; no padding is left out."""
    pads = read_integers(call, "pads" if call.version > 1 else "paddings", 1)
    term = call.require_first()
    value = call.get_operand(2)
    # runtimes refuse it, even where nothing is padded
    has_several = value is not None and value.shape not in ((), (1,))
    if pads is None or call.get_operand(3) is not None or has_several:
        return None
    if not any(pads) and len(pads) == 2 * (term.rank or -1):
        return term
    if call.version >= 11 or term.rank is None:
        return None
    filling = call.terms.make_constant(np.array(call.attributes.get("value", 0.0), np.float32))
    mode = call.attributes.get("mode", b"constant")
    operands = [term, call.terms.make_constant(np.array(pads, np.int64)), filling]
    return keep_as_written(
        call, operands if mode == b"constant" else operands[:2], make_attributes(mode=mode)
    )[0]
