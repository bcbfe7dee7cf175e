"""TODO."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx

from ...semantics.lengths import Polynomial, multiply_lengths
from ..algebra.parts import make_concatenation, make_slice
from ..algebra.term import NoNormalForm, Term, make_attributes
from .arguments import count_axes_from_front, read_axis, read_integers
from .call import Call, register_rewrite
from .keeping import keep_as_written
from .types import PLAIN_TYPES


@register_rewrite("Concat")
def rewrite_concat(call: Call) -> Term | None:
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
def rewrite_slice(call: Call) -> Term | None:
    term = call.first()
    starts, ends = read_integers(call, "starts", 1), read_integers(call, "ends", 2)
    if starts is None or ends is None or term.shape is None:
        return None
    axes = read_integers(call, "axes", 3)
    if axes is None:
        if call.operand(3) is not None:
            return None
        axes = list(range(len(starts)))
    steps = [1] * len(starts)
    if call.operand(4) is not None:
        found = read_integers(call, "steps", 4)
        if found is None:
            return None
        steps = found
    return _make_slices(
        call,
        term,
        list(zip(count_axes_from_front(axes, len(term.shape)), starts, ends, steps, strict=True)),
    )


MAX_ADDRESSES = 1 << 47
"""No process has as many bytes: a tensor that would need them does not come about."""


def _count_bytes_per_place(term: Term, axis: int) -> int:
    """How many bytes a tensor has for every place along an axis; 0 where that is not known."""
    found = multiply_lengths(n for a, n in enumerate(term.shape or ()) if a != axis)
    if isinstance(found, Polynomial) or term.dtype not in PLAIN_TYPES:
        return 0
    return found * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(term.dtype)).itemsize


def _make_slices(call: Call, term: Term, cuts: Sequence[tuple[int, int, int, int]]) -> Term:
    left = []
    for axis, start, stop, step in sorted(cuts):
        assert term.shape is not None
        length = term.shape[axis]
        if isinstance(length, Polynomial):
            if (
                start == 0
                and step == 1
                and (
                    stop >= 2**31 - 1 or stop * _count_bytes_per_place(term, axis) >= MAX_ADDRESSES
                )
            ):
                continue
            left.append((axis, start, min(stop, 2**31 - 1), step))
            continue
        if step < 0:
            # a start before the first element is the first one, as the specification has it
            first = min(max(start + length if start < 0 else start, 0), length - 1)
            last = min(max(stop + length if stop < 0 else stop, -1), length - 1)
            if not length or first <= last:
                raise NoNormalForm("a slice that goes back and holds nothing")
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
def rewrite_split(call: Call) -> Sequence[Term] | None:
    term = call.first()
    axis = read_axis(call)
    if term.shape is None or isinstance(term.shape[axis], Polynomial):
        return None
    if call.attributes.get("num_outputs", call.results) != call.results:
        return None
    length = term.shape[axis]
    assert isinstance(length, int)
    sizes = read_integers(call, "split", 1)
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


def _has_length_one(term: Term, axis: int) -> bool:
    return term.shape is not None and term.shape[axis] == 1


@register_rewrite("Pad")
def rewrite_pad(call: Call) -> Term | None:
    pads = read_integers(call, "pads" if call.version > 1 else "paddings", 1)
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
