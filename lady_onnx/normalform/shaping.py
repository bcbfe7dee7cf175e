"""Rules of the normal form: what does nothing, casts, and shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto

from ..equality.extents import Length, Poly, divide_lengths, fits_int32, is_number, multiply_lengths
from .calls import (
    Call,
    count_axes_from_front,
    keep_as_written,
    make_lengths,
    read_axes,
    read_axis,
    read_whole_numbers,
    register_rewrite,
)
from .layouts import are_plain_numbers, make_reshape, make_transpose
from .rewrites import apply_linear
from .terms import NoForm, Term, make_attributes

# ---- what does nothing


@register_rewrite("Identity")
def identity(call: Call) -> Term:
    return call.first()


@register_rewrite("Constant")
def constant(call: Call) -> Term | None:
    """One that a function's call gives its value; others are weights of the file."""
    (name, value), *more = [*call.attributes.items(), ("", None)]
    if more[:-1] or name not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        return None
    if name == "value":
        return (
            None
            if value.data_type == TensorProto.STRING
            else call.terms.constant(onnx.numpy_helper.to_array(value))
        )
    return call.terms.constant(np.array(value, np.float32 if "float" in name else np.int64))


@register_rewrite("Dropout")
def dropout(call: Call) -> Term | None:
    training = call.operand(2)
    off = training is None or (training.known is not None and not training.known.any())
    call.leave_aside("ratio", "seed")
    asked = call.is_asked(1) or (call.version < 7 and not call.attributes.get("is_test"))
    return call.first() if off and not asked else None


PLAIN_TYPES = (
    *(TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.FLOAT16),
    *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
    *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
)
"""Types that a cast brings to each other in one way."""


@register_rewrite("Cast")
def cast(call: Call) -> Term | None:
    return _cast(call, int(call.attributes["to"]))


@register_rewrite("CastLike")
def cast_like(call: Call) -> Term | None:
    like = call.operand(1)
    return _cast(call, like.dtype) if like is not None and like.dtype else None


def _cast(call: Call, to: int) -> Term | None:
    term, terms = call.first(), call.terms
    if to not in PLAIN_TYPES or term.dtype not in PLAIN_TYPES:
        # how short floats round and saturate is said by attributes
        return None
    if term.dtype == to:
        return term
    shape, whole = term.shape, {TensorProto.INT64, TensorProto.INT32}
    if term.leaf is not None:
        source, target = (
            np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t)) for t in (term.dtype, to)
        )
        if target == np.float16 and source != np.float16 and not _is_rounded_once(term.leaf.array):
            return None
        exact = np.can_cast(source, target, "safe") or (
            term.dtype in whole and to in whole and term.known is not None
        )
        if exact and term.leaf.array.dtype == source:
            return terms.constant(term.leaf.array.astype(target), term.leaf.hint)
        is_rounded = source.kind == target.kind == "f" and (
            term.leaf.array.size == 1 or source.itemsize == 8
        )
        if is_rounded or (
            source.kind in "iub" and target.kind in "iubf" and term.leaf.array.size <= 1 << 12
        ):
            return terms.constant(term.leaf.array.astype(target), term.leaf.hint)
    known = term.known if term.known is not None and term.dtype in whole and to in whole else None
    if known is not None and to == TensorProto.INT32 and not fits_int32(known.ravel().tolist()):
        known = None
    return terms.make("Cast", [term], make_attributes(to=to), dtype=to, shape=shape, known=known)


def _is_rounded_once(array: np.ndarray) -> bool:
    """Are numbers in half precision the same by way of single precision, as runtimes go?"""
    with np.errstate(over="ignore"):
        return bool((array.astype(np.float16) == array.astype(np.float32).astype(np.float16)).all())


# ---- shapes


@register_rewrite("Shape")
def shape(call: Call) -> Term | None:
    term = call.first()
    if term.shape is None:
        return None
    part = term.shape[slice(call.attributes.get("start", 0), call.attributes.get("end"))]
    return make_lengths(call.terms, np.array([*part, None], object)[:-1])


@register_rewrite("Size")
def size(call: Call) -> Term | None:
    term = call.first()
    return (
        None
        if term.shape is None
        else make_lengths(
            call.terms, np.array([multiply_lengths(term.shape), None], object)[:1].reshape(())
        )
    )


def is_extents(*terms: Term | None) -> bool:
    """Are all of these known whole numbers, of which one at least is a length that only a run shows?"""
    known = [t.known for t in terms if t is not None]
    whole = all(k is not None and k.dtype == object for k in known)
    return whole and not all(is_number(k.ravel().tolist()) for k in known if k is not None)


def extents_of(term: Term | None) -> list[Length] | None:
    """The known lengths in a tensor of one axis."""
    if term is None or term.known is None or term.known.dtype != object or term.known.ndim != 1:
        return None
    return list(term.known)


@register_rewrite("Reshape")
def reshape(call: Call) -> Term | None:
    term = call.first()
    wanted: Sequence[Length] | None = (
        call.attributes.get("shape") if call.version < 5 else extents_of(call.operand(1))
    )
    if wanted is None:
        return None
    made = _reshape(call, term, wanted)
    if made is not None or any(not isinstance(n, Poly) and n == 0 for n in wanted):
        return made
    # it says what becomes of zeros, and there are none
    call.leave_aside("allowzero")
    target = (
        call.terms.constant(np.array(wanted, np.int64)) if is_number(wanted) else call.operand(1)
    )
    return keep_as_written(call, [term, target], make_attributes(allowzero=0))[0]


def _reshape(call: Call, term: Term, wanted: Sequence[Length]) -> Term | None:
    """A reshape to a shape whose lengths are all known; None where they are not."""
    if term.shape is None:
        return None
    found = list(wanted)
    keeps_zeros = call.attributes.get("allowzero")
    for k, extent in enumerate(found):
        if isinstance(extent, Poly) or extent != 0:
            continue
        if keeps_zeros:
            return None
        if k >= len(term.shape):
            return None
        found[k] = term.shape[k]
    if [n for n in found if not isinstance(n, Poly)].count(-1) == 1:
        k = found.index(-1)
        rest = divide_lengths(
            multiply_lengths(term.shape), multiply_lengths(n for i, n in enumerate(found) if i != k)
        )
        if rest is None:
            return None
        found[k] = rest
    if multiply_lengths(found) != multiply_lengths(term.shape) or any(
        not isinstance(n, Poly) and n < 0 for n in found
    ):
        return None
    return make_reshape(call.terms, term, found)


@register_rewrite("Flatten")
def flatten(call: Call) -> Term | None:
    term = call.first()
    if term.shape is None:
        return None
    axis = read_axis(call, default=1, behind=1)
    return make_reshape(
        call.terms, term, (multiply_lengths(term.shape[:axis]), multiply_lengths(term.shape[axis:]))
    )


def as_operand(call: Call, name: str, **given_: object) -> Term | None:
    """A node of an older version, its whole numbers an operand as newer versions have them."""
    values = call.attributes.get(name)
    if values is None or call.operand(1) is not None:
        return None
    operand = call.terms.constant(np.array(values, np.int64))
    return keep_as_written(call, [call.first(), operand], make_attributes(**given_))[0]


@register_rewrite("Squeeze")
def squeeze(call: Call) -> Term | None:
    term, axes = call.first(), read_axes(call)
    if term.shape is None:
        return as_operand(call, "axes")
    if axes is None:
        # onnxruntime stops at axes that are there, and have no name
        if len(call.node.input) > 1 or not is_number(term.shape):
            return None
        axes = [a for a, n in enumerate(term.shape) if n == 1]
    if any(term.shape[a] != 1 for a in axes):
        return as_operand(call, "axes")
    return make_reshape(call.terms, term, [n for a, n in enumerate(term.shape) if a not in axes])


@register_rewrite("Unsqueeze")
def unsqueeze(call: Call) -> Term | None:
    term = call.first()
    axes = read_whole_numbers(call, "axes", 1)
    if term.shape is None or axes is None:
        return as_operand(call, "axes")
    rank = len(term.shape) + len(axes)
    places = count_axes_from_front(axes, rank)
    left = iter(term.shape)
    return make_reshape(call.terms, term, [1 if a in places else next(left) for a in range(rank)])


@register_rewrite("Transpose")
def transpose(call: Call) -> Term | None:
    term = call.first()
    order = call.attributes.get("perm")
    if order is None:
        if term.rank is None:
            return None
        order = list(range(term.rank))[::-1]
    if term.rank is None:
        return None
    if sorted(order) != list(range(term.rank)):
        raise NoForm(f"'perm' is {order}, of a tensor of rank {term.rank}")
    return make_transpose(call.terms, term, order)


@register_rewrite("Expand")
def expand(call: Call) -> Term | None:
    term, wanted = call.first(), extents_of(call.operand(1))
    if term.shape is None or wanted is None:
        return None
    rank = max(len(term.shape), len(wanted))
    sides = [(1,) * (rank - len(s)) + tuple(s) for s in (term.shape, wanted)]
    found: list[Length] = []
    for m, n in zip(*sides, strict=True):
        if m == n or n == 1:
            found.append(m)
        elif m == 1:
            found.append(n)
        else:
            return None
    return _expanded(call, term, found)


def _expanded(call: Call, term: Term, to: Sequence[Length]) -> Term:
    shape = tuple(to)
    if term.shape == shape:
        return term
    if term.operator == "Scale":
        return apply_linear(call.terms, term, lambda t: _expanded(call, t, to))
    if (
        term.leaf is not None
        and is_number(shape)
        and math.prod(are_plain_numbers(shape)) <= 1 << 16
    ):
        whole = are_plain_numbers(shape)
        return call.terms.moved(term.leaf, lambda a: np.broadcast_to(a, whole))
    return call.terms.make(
        "Expand", [term], (("to", repr(shape).encode()),), dtype=term.dtype, shape=shape
    )


@register_rewrite("ConstantOfShape")
def constant_of_shape(call: Call) -> Term | None:
    wanted = extents_of(call.operand(0))
    if wanted is None:
        return None
    value = call.attributes.get("value")
    array = onnx.numpy_helper.to_array(value) if value is not None else np.zeros(1, np.float32)
    return _expanded(call, call.terms.constant(array.reshape((1,) * len(wanted))), wanted)


@register_rewrite("Tile")
def tile(call: Call) -> Term | None:
    operand = call.operand(1)
    times = None if operand is None else operand.whole
    term = call.first()
    return (
        term if times is not None and times.shape == (term.rank,) and (times == 1).all() else None
    )


@register_rewrite("Range")
def range_(call: Call) -> Term | None:
    parts = [
        o.whole
        for o in call.operands
        if o is not None and o.dtype in (TensorProto.INT64, TensorProto.INT32)
    ]
    if len(parts) < 3 or any(p is None or p.size != 1 for p in parts):
        return None
    start, stop, step = (int(p.reshape(-1)[0]) for p in parts if p is not None)
    first = call.first()
    if not step or abs((stop - start) / step) >= 1 << 16:
        return None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(first.dtype)
    return call.terms.constant(np.arange(start, stop, step).astype(dtype))
