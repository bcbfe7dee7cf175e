"""Rewrites of shapes and of the operators that lay elements out anew, or repeat them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto

from ...normalform.algebra.constants import MAX_COPIED_ELEMENTS
from ...normalform.algebra.known_lengths import make_lengths, read_lengths
from ...normalform.algebra.movements import make_reshape, make_transpose
from ...normalform.algebra.multiples import apply_linear
from ...normalform.algebra.term import NoNormalFormError, Term, make_attributes
from ...semantics.factorisation import as_integers
from ...semantics.lengths import (
    Length,
    Polynomial,
    are_numbers,
    divide_lengths,
    multiply_lengths,
)
from .arguments import count_axes_from_front, read_axes, read_axis, read_integers
from .call import Call, register_rewrite
from .nodes import keep_as_written


@register_rewrite("Shape")
def rewrite_shape(call: Call) -> Term | None:
    """Give the lengths of the axes as a tensor of known lengths."""
    term = call.require_first()
    if term.shape is None:
        return None
    part = term.shape[slice(call.attributes.get("start", 0), call.attributes.get("end"))]
    return make_lengths(call.terms, np.array([*part, None], object)[:-1])


@register_rewrite("Size")
def rewrite_size(call: Call) -> Term | None:
    """Give the number of elements as a known length."""
    term = call.require_first()
    return (
        None
        if term.shape is None
        else make_lengths(
            call.terms, np.array([multiply_lengths(term.shape), None], object)[:1].reshape(())
        )
    )


@register_rewrite("Reshape")
def rewrite_reshape(call: Call) -> Term | None:
    """Reshape to the known shape; an unknown one stands as an operand."""
    term = call.require_first()
    wanted: Sequence[Length] | None = (
        call.attributes.get("shape") if call.version < 5 else read_lengths(call.get_operand(1))
    )
    if wanted is None:
        return None
    made = _make_known_reshape(call, term, wanted)
    if made is not None or any(not isinstance(n, Polynomial) and n == 0 for n in wanted):
        return made
    # 'allowzero' says what becomes of zeros in the shape, and there are none
    call.ignore_attributes("allowzero")
    target = (
        call.terms.make_constant(np.array(wanted, np.int64))
        if are_numbers(wanted)
        else call.get_operand(1)
    )
    return keep_as_written(call, [term, target], make_attributes(allowzero=0))[0]


def _make_known_reshape(call: Call, term: Term, wanted: Sequence[Length]) -> Term | None:
    """Reshape to a shape whose lengths are all known, zeros and minus one resolved; else None."""
    if term.shape is None:
        return None
    found = list(wanted)
    keeps_zeros = call.attributes.get("allowzero")
    for k, length in enumerate(found):
        if isinstance(length, Polynomial) or length != 0:
            continue
        if keeps_zeros:
            return None
        if k >= len(term.shape):
            return None
        found[k] = term.shape[k]
    if [n for n in found if not isinstance(n, Polynomial)].count(-1) == 1:
        k = found.index(-1)
        rest = divide_lengths(
            multiply_lengths(term.shape), multiply_lengths(n for i, n in enumerate(found) if i != k)
        )
        if rest is None:
            return None
        found[k] = rest
    if multiply_lengths(found) != multiply_lengths(term.shape) or any(
        not isinstance(n, Polynomial) and n < 0 for n in found
    ):
        return None
    return make_reshape(call.terms, term, found)


@register_rewrite("Flatten")
def rewrite_flatten(call: Call) -> Term | None:
    """Reshape to a matrix."""
    term = call.require_first()
    if term.shape is None:
        return None
    axis = read_axis(call, default=1, behind=1)
    return make_reshape(
        call.terms, term, (multiply_lengths(term.shape[:axis]), multiply_lengths(term.shape[axis:]))
    )


def move_attribute_to_operand(call: Call, name: str, **attributes: object) -> Term | None:
    """Give integers that are an attribute of an older version as an operand, as newer versions do.

    Args:
        call: the node.
        name: the attribute.
        **attributes: the attributes that the node keeps.

    Returns:
        The result; None where the attribute is not given, or where the operand is given as well.
    """
    values = call.attributes.get(name)
    if values is None or call.get_operand(1) is not None:
        return None
    operand = call.terms.make_constant(np.array(values, np.int64))
    return keep_as_written(call, [call.require_first(), operand], make_attributes(**attributes))[0]


@register_rewrite("Squeeze")
def rewrite_squeeze(call: Call) -> Term | None:
    """Reshape to the lengths of the axes that are left."""
    term, axes = call.require_first(), read_axes(call)
    if term.shape is None:
        return move_attribute_to_operand(call, "axes")
    if axes is None:
        # onnxruntime refuses axes that are given as an operand without a name
        if len(call.node.input) > 1 or not are_numbers(term.shape):
            return None
        axes = [a for a, n in enumerate(term.shape) if n == 1]
    if any(term.shape[a] != 1 for a in axes):
        return move_attribute_to_operand(call, "axes")
    return make_reshape(call.terms, term, [n for a, n in enumerate(term.shape) if a not in axes])


@register_rewrite("Unsqueeze")
def rewrite_unsqueeze(call: Call) -> Term | None:
    """Reshape to the lengths of the axes with new ones of length one among them."""
    term = call.require_first()
    axes = read_integers(call, "axes", 1)
    if term.shape is None or axes is None:
        return move_attribute_to_operand(call, "axes")
    rank = len(term.shape) + len(axes)
    places = count_axes_from_front(axes, rank)
    left = iter(term.shape)
    return make_reshape(call.terms, term, [1 if a in places else next(left) for a in range(rank)])


@register_rewrite("Transpose")
def rewrite_transpose(call: Call) -> Term | None:
    """Write out the order of the axes."""
    term = call.require_first()
    order = call.attributes.get("perm")
    if order is None:
        if term.rank is None:
            return None
        order = list(range(term.rank))[::-1]
    if term.rank is None:
        return None
    if sorted(order) != list(range(term.rank)):
        raise NoNormalFormError(f"'perm' is {order}, of a tensor of rank {term.rank}")
    return make_transpose(call.terms, term, order)


@register_rewrite("Expand")
def rewrite_expand(call: Call) -> Term | None:
    """Expand to the known shape that broadcasting gives."""
    term, wanted = call.require_first(), read_lengths(call.get_operand(1))
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
    return _make_expansion(call, term, found)


def _make_expansion(call: Call, term: Term, to: Sequence[Length]) -> Term:
    """Broadcast a term to a shape; that of a small constant is a constant."""
    shape = tuple(to)
    if term.shape == shape:
        return term
    if term.operator == "Scale":
        return apply_linear(call.terms, term, lambda t: _make_expansion(call, t, to))
    if (
        term.leaf is not None
        and are_numbers(shape)
        and math.prod(as_integers(shape)) <= MAX_COPIED_ELEMENTS
    ):
        whole = as_integers(shape)
        return call.terms.move_constant(term.leaf, lambda a: np.broadcast_to(a, whole))
    return call.terms.make_term(
        "Expand", [term], (("to", repr(shape).encode()),), dtype=term.dtype, shape=shape
    )


@register_rewrite("ConstantOfShape")
def rewrite_constant_of_shape(call: Call) -> Term | None:
    """Expand one number to the known shape."""
    wanted = read_lengths(call.get_operand(0))
    if wanted is None:
        return None
    value = call.attributes.get("value")
    array = onnx.numpy_helper.to_array(value) if value is not None else np.zeros(1, np.float32)
    return _make_expansion(
        call, call.terms.make_constant(array.reshape((1,) * len(wanted))), wanted
    )


@register_rewrite("Tile")
def rewrite_tile(call: Call) -> Term | None:
    """Drop a tiling that repeats nothing."""
    operand = call.get_operand(1)
    times = None if operand is None else operand.integers
    term = call.require_first()
    return (
        term if times is not None and times.shape == (term.rank,) and (times == 1).all() else None
    )


@register_rewrite("Range")
def rewrite_range(call: Call) -> Term | None:
    """Compute a range of integers."""
    parts = [
        o.integers
        for o in call.operands
        if o is not None and o.dtype in (TensorProto.INT64, TensorProto.INT32)
    ]
    if len(parts) < 3 or any(p is None or p.size != 1 for p in parts):
        return None
    start, stop, step = (int(p.reshape(-1)[0]) for p in parts if p is not None)
    first = call.require_first()
    if not step or abs((stop - start) / step) >= MAX_COPIED_ELEMENTS:
        return None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(first.dtype)
    return call.terms.make_constant(np.arange(start, stop, step).astype(dtype))
