"""What the rules of the normal form are made of: constants, factors, parts, layers, sums and products.

An equality that holds for real numbers, and for floats up to rounding, is used for floats of 32 and 64 bits alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from ..equality.extents import Length, Poly, multiply_lengths
from .calls import apply_before_movement
from .layouts import (
    find_frame,
    lay_out,
    make_reshape,
    make_transpose,
    move_back,
    move_like,
    split_movement,
    undo_movement_of_constant,
    without_factor,
    without_movement,
)
from .terms import MAX_KNOWN_ELEMENTS, Leaf, Term, Terms, make_attributes

LARGEST = 1e12
"""Constants are multiplied and added up while they and their inverses are smaller: nothing overflows or vanishes."""
CANCELLING = 64
"""Constants are added up where none is so many times as large as the sum, and as the middle one of the sums beside it."""
MOST_ROOM = 256
"""Constants are computed with while rounding may have moved no element by more than so many steps of that."""
MOST_PARTS = 256
"""What is of more parts becomes no part of a longer sum, product or concatenation."""
MOST_ELEMENTS = 1 << 26
"""No constant that is computed has more elements."""
MOST_FOLDED = 1 << 20
"""Constants that are added to one tensor are added up while their sum has no more elements."""
EPSILON = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}


# ---- arithmetic of constants


def fits(array: np.ndarray) -> bool:
    """Are numbers such that products and sums of a few of them do not overflow, nor vanish?"""
    largest = float(np.abs(array).max(initial=0.0))
    return largest == 0 or 1 / LARGEST < largest < LARGEST


def may_meet(arrays: Sequence[np.ndarray]) -> bool:
    """Do constants broadcast to one that is not too large?"""
    try:
        return math.prod(np.broadcast_shapes(*(a.shape for a in arrays))) <= MOST_ELEMENTS
    except ValueError:
        return False


def computed(terms: Terms, operator: str, sides: Sequence[Leaf]) -> Term | None:
    """A sum, product, quotient or root of constants, with room for its rounding; None where it may overflow."""
    if any(s.array.dtype not in EPSILON or not fits(s.array) for s in sides) or not may_meet(
        [s.array for s in sides]
    ):
        return None
    values = [s.array.astype(np.float64) for s in sides]
    rooms = [np.zeros(()) if s.room is None else s.room for s in sides]
    with np.errstate(all="ignore"):
        match operator:
            case "Add":
                found, room = values[0] + values[1], rooms[0] + rooms[1]
            case "Mul":
                found = values[0] * values[1]
                room = np.abs(values[0]) * rooms[1] + np.abs(values[1]) * rooms[0]
            case "Reciprocal":
                found = 1 / values[0]
                room = rooms[0] * found**2
            case "Sqrt":
                found = np.sqrt(values[0])
                room = rooms[0] / (2 * found)
            case _:
                raise AssertionError(operator)
    dtype = sides[0].array.dtype
    if not np.isfinite(found).all() or not fits(found):
        return None
    if operator == "Add":
        # what large numbers leave of each other is rounding
        largest, left = np.maximum(np.abs(values[0]), np.abs(values[1])), np.abs(found)
        if (largest > CANCELLING * (left + np.median(left) if left.size else left)).any():
            return None
    if (
        room
        > MOST_ROOM
        * EPSILON[dtype]
        * (np.abs(found) + np.median(np.abs(found)) if found.size else 1)
    ).any():
        return None
    rounded = found.astype(dtype)
    larger = np.abs(found) if operator != "Add" else np.maximum(np.abs(found), np.abs(values[0]))
    # what is exact leaves no room
    room = np.where(rounded == found, 0.0, EPSILON[dtype] * larger) + room
    return terms.constant(rounded, sides[0].hint, room if room.any() else None)


def negate_constant(terms: Terms, leaf: Leaf) -> Term:
    """A constant times minus one."""
    return terms.constant(-leaf.array, leaf.hint, leaf.room)


# ---- scale: a factor that is one number stands behind what it scales


def split_factor(terms: Terms, term: Term) -> tuple[Term, float]:
    """A term without the number that it is multiplied by, and the number."""
    inner = term.operands[0] if term.operands else None
    if term.operator == "Scale" and inner is not None:
        return inner, term.scale
    if inner is not None and inner.operator == "Scale" and split_movement(term) is not None:
        assert inner.operands[0] is not None
        return move_like(terms, inner.operands[0], term), inner.scale
    return term, 1.0


def make_multiple(terms: Terms, term: Term, factor: float) -> Term:
    """A term times a number; a movement stands behind the number."""
    core, own = split_factor(terms, term)
    factor = factor * own
    if factor == 1.0:
        return core
    if core.leaf is not None:
        made = computed(
            terms, "Mul", [core.leaf, Leaf(np.array(factor, core.leaf.array.dtype), core.leaf.hint)]
        )
        if made is not None:
            return made
    if core.operator in ("Conv", "ConvTranspose"):
        folded = channelwise(terms, core, np.array(factor))
        if folded is not None:
            return folded
    if split_movement(core) is not None:
        return move_like(terms, make_multiple(terms, without_movement(core), factor), core)
    return terms.make("Scale", [core], dtype=core.dtype, shape=core.shape, scale=factor)


def may_reassociate(factor: float) -> bool:
    """May numbers like this be multiplied in any order?"""
    return 1e-6 < abs(factor) < 1e6


def is_moderate(array: np.ndarray) -> bool:
    """May a constant be multiplied with others in any order?"""
    size = np.abs(array[array != 0])
    return not size.size or bool(size.max() < 1e6 and size.max() > 1e-6)


def apply_linear(terms: Terms, term: Term, make: Callable[[Term], Term]) -> Term:
    """What a linear operator makes of a term; the factor stays behind it."""
    core, factor = split_factor(terms, term)
    return make_multiple(terms, make(core), factor)


# ---- parts, and what stands one after the other


def make_slice(terms: Terms, term: Term, axis: int, start: int, stop: int, step: int = 1) -> Term:
    """Part of a term along an axis of a length that is a plain number; `start` and `stop` lie in it."""
    assert term.shape is not None
    length = term.shape[axis]
    if (start, stop, step) == (0, length, 1):
        return term
    if term.operator == "Scale":
        return apply_linear(terms, term, lambda t: make_slice(terms, t, axis, start, stop, step))
    where = (*[slice(None)] * axis, slice(start, stop if step > 0 or stop >= 0 else None, step))
    if term.leaf is not None:
        return terms.moved(term.leaf, lambda a: a[where])
    if (
        term.operator == "Transpose"
        and term.operands[0] is not None
        and term.operands[0].shape is not None
    ):
        order = term.perm
        return make_transpose(
            terms, make_slice(terms, term.operands[0], order[axis], start, stop, step), order
        )
    if term.operator == "Linear" and axis == len(term.shape) - 1 and step == 1:
        x, weight, bias = term.operands
        assert x is not None
        assert weight is not None
        assert bias is not None
        return make_linear(
            terms,
            x,
            make_slice(terms, weight, 1, start, stop),
            make_slice(terms, bias, 0, start, stop),
        )
    count = len(range(start, stop, step))
    shape = (*term.shape[:axis], count, *term.shape[axis + 1 :])
    known = term.known[where] if term.known is not None else None
    attributes = make_attributes(axis=axis, start=start, stop=stop, step=step)
    return terms.make("Part", [term], attributes, dtype=term.dtype, shape=shape, known=known)


def make_concatenation(terms: Terms, parts: Sequence[Term], axis: int) -> Term | None:
    """Terms one after the other along an axis."""
    flat: list[Term] = []
    for part in parts:
        if part.operator == "Concat" and part.attribute("axis") == axis and len(flat) < MOST_PARTS:
            flat += [o for o in part.operands if o is not None]
        else:
            flat.append(part)
    if len(flat) == 1:
        return flat[0]
    model = find_frame(terms, flat)
    if model is not None and model.operator == "Transpose":
        order = model.perm
        made = make_concatenation(terms, [move_back(terms, p, model) for p in flat], order[axis])
        return None if made is None else make_transpose(terms, made, order)
    if (
        all(p.leaf is not None for p in flat)
        and sum(p.leaf.array.size for p in flat if p.leaf) <= MOST_ELEMENTS
    ):
        leaves = [p.leaf for p in flat if p.leaf is not None]
        if len({a.array.dtype for a in leaves}) == 1:
            rooms = [
                np.broadcast_to(a.room if a.room is not None else 0.0, a.array.shape)
                for a in leaves
            ]
            room = np.concatenate(rooms, axis) if any(a.room is not None for a in leaves) else None
            return terms.constant(
                np.concatenate([a.array for a in leaves], axis), leaves[0].hint, room
            )
    known = None
    if sum(p.known.size for p in flat if p.known is not None) <= MAX_KNOWN_ELEMENTS and all(
        p.known is not None and p.known.dtype == object for p in flat
    ):
        known = np.concatenate([p.known for p in flat if p.known is not None], axis)
    shape: tuple[Length, ...] | None = None
    if all(p.shape is not None for p in flat):
        shapes = [p.shape for p in flat if p.shape is not None]
        total: Length = 0
        for s in shapes:
            total = total + s[axis]
        shape = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
    dtype = flat[0].dtype
    return terms.make(
        "Concat", flat, make_attributes(axis=axis), dtype=dtype, shape=shape, known=known
    )


# ---- layers


def make_linear(terms: Terms, x: Term, weight: Term, bias: Term | None = None) -> Term:
    """The product with a matrix, and a bias, which is zero where none is given."""
    assert weight.leaf is not None
    rows, units = weight.leaf.array.shape
    if bias is None:
        bias = make_zero_bias(terms, units, weight)
    core, factor = split_factor(terms, x)
    if factor != 1.0 and not may_reassociate(factor):
        core, factor = x, 1.0
    if factor != 1.0 and bias.leaf is not None and bias.leaf.array.any():
        # the bias is not scaled: what comes in is
        return make_sum(terms, make_multiple(terms, make_linear(terms, core, weight), factor), bias)
    inner = _natural(terms, core, rows)
    order = core.perm if core.operator == "Transpose" and core.shape else []
    if order and order[-1] == len(order) - 1 and core.operands[0] is not None:
        made = make_transpose(terms, make_linear(terms, core.operands[0], weight, bias), order)
    elif inner is None:
        made = _linear(terms, core, weight, bias)
    else:
        assert core.shape is not None
        made = make_reshape(
            terms, make_linear(terms, inner, weight, bias), (*core.shape[:-1], units)
        )
    return make_multiple(terms, made, factor)


def _natural(terms: Terms, term: Term, rows: int) -> Term | None:
    """What a layer reads, before a reshape of all its axes but the last; None where there is none."""
    inner = term.operands[0] if term.operands else None
    if inner is None or not term.shape or len(term.shape) < 2 or term.shape[-1] != rows:
        return None
    if term.operator == "Reshape" and len(term.operands) == 1:
        is_kept = inner.shape is not None and len(inner.shape) > 1 and inner.shape[-1] == rows
        return inner if is_kept else None
    found = split_movement(term) if term.operator == "Move" else None
    if found is None:
        return None
    core, factors, order = found
    turned = [factors[k] for k in order]
    for cut in range(len(turned) - 1, 0, -1):
        if multiply_lengths(turned[cut:]) == rows:
            natural = (*turned[:cut], rows)
            return lay_out(terms, core, factors, order, natural) if natural != term.shape else None
    return None


def _linear(terms: Terms, x: Term, weight: Term, bias: Term) -> Term:
    assert weight.shape is not None
    shape = None if x.shape is None else (*x.shape[:-1], weight.shape[1])
    return terms.make("Linear", [x, weight, bias], dtype=x.dtype, shape=shape)


def make_zero_bias(terms: Terms, units: int, weight: Term) -> Term:
    """The bias of a layer that has none."""
    assert weight.leaf is not None
    return terms.constant(np.zeros(units, weight.leaf.array.dtype), f"{weight.leaf.hint}.bias")


def channel(term: Term, array: np.ndarray) -> np.ndarray | None:
    """Numbers for every unit of a layer, or one for all; None where a constant that is added or multiplied is neither."""
    rank = term.rank
    weight = term.operands[1]
    assert weight is not None
    assert weight.leaf is not None
    if rank is None or array.ndim > rank:
        return None
    if array.size == 1:
        return array.reshape(())
    axis = rank - 1 if term.operator == "Linear" else 1
    place = array.ndim - (rank - axis)
    if place < 0 or any(n != 1 for a, n in enumerate(array.shape) if a != place):
        return None
    return array.reshape(-1) if array.size == units_of(term) else None


def units_of(term: Term) -> int:
    """How many units a layer has."""
    weight = term.operands[1]
    assert weight is not None
    assert weight.leaf is not None
    if term.operator == "Linear":
        return weight.leaf.array.shape[1]
    if term.operator == "Conv":
        return weight.leaf.array.shape[0]
    groups = term.attribute("group")
    assert isinstance(groups, int)
    return weight.leaf.array.shape[1] * groups


def is_layer(term: Term) -> bool:
    """Is it a layer whose weight and bias are constants?"""
    return term.operator in ("Linear", "Conv", "ConvTranspose") and all(
        o is not None and o.leaf is not None for o in term.operands[1:3]
    )


def channelwise(
    terms: Terms, term: Term, factor: np.ndarray, leaf: Leaf | None = None
) -> Term | None:
    """A layer whose units are multiplied by constants; None where these belong to no units."""
    if not is_layer(term):
        return None
    own = channel(term, factor)
    if own is None:
        return None
    x, weight, bias = term.operands
    assert x is not None
    assert weight is not None
    assert weight.leaf is not None
    assert bias is not None
    assert bias.leaf is not None
    dtype = weight.leaf.array.dtype
    room = (
        None
        if leaf is None or leaf.room is None
        else channel(term, np.broadcast_to(leaf.room, factor.shape))
    )
    units = units_of(term)
    flat = Leaf(
        np.broadcast_to(own, (units,)).astype(dtype),
        weight.leaf.hint,
        None,
        None if room is None else np.broadcast_to(room, (units,)),
    )
    new_bias = computed(terms, "Mul", [bias.leaf, flat])
    shaped = _along_units(term, flat, weight.leaf.array.shape)
    new_weight = computed(terms, "Mul", [weight.leaf, shaped]) if shaped is not None else None
    if new_bias is None or new_weight is None:
        return None
    return _remade(terms, term, [x, new_weight, new_bias])


def _along_units(term: Term, flat: Leaf, shape: tuple[int, ...]) -> Leaf | None:
    """Numbers for every unit, laid out as the weight of a layer."""
    if term.operator == "Linear":
        to: tuple[int, ...] = (1, -1)
    elif term.operator == "Conv":
        to = (-1, *[1] * (len(shape) - 1))
    else:
        groups = term.attribute("group")
        if groups != 1:
            return None
        to = (1, -1, *[1] * (len(shape) - 2))
    room = None if flat.room is None else flat.room.reshape(to)
    return Leaf(flat.array.reshape(to), flat.hint, None, room)


def _remade(terms: Terms, term: Term, operands: Sequence[Term]) -> Term:
    return terms.make(term.operator, operands, term.attributes, dtype=term.dtype, shape=term.shape)


# ---- sums and products


def is_vector(array: np.ndarray) -> bool:
    """Does a constant differ along one axis at most?"""
    return sum(n > 1 for n in array.shape) < 2


def broadcast(a: Term, b: Term) -> tuple[Length | None, ...] | None:
    """The shape of a sum of two terms, None for a length that cannot be told; None where the rank cannot."""
    if a.shape is None or b.shape is None:
        return None
    rank = max(len(a.shape), len(b.shape))
    found: list[Length | None] = []
    for m, n in zip(*[(1,) * (rank - len(s)) + s for s in (a.shape, b.shape)], strict=True):
        if m == n or n == 1:
            found.append(m)
        elif m == 1:
            found.append(n)
        elif isinstance(m, int) and isinstance(n, Poly):
            found.append(m)
        elif isinstance(n, int) and isinstance(m, Poly):
            found.append(n)
        else:
            found.append(None)
    return tuple(found)


def is_shape_kept(a: Term, b: Term) -> bool:
    """Is the shape of a sum of two terms that of the first?"""
    return a.shape is not None and broadcast(a, b) == a.shape


def make_sum(terms: Terms, a: Term, b: Term, loose: frozenset[int] = frozenset()) -> Term:
    """The sum of two terms of floats; sums among them that are `loose` become part of it."""
    if a.leaf is not None and b.leaf is None:
        a, b = b, a
    if b.leaf is not None:
        return _add_constant(terms, a, b)
    parts = [p for term in (a, b) for p in parts_of(terms, "Sum", term, id(term) in loose)]
    return combine_terms(terms, "Sum", parts, broadcast(a, b))


def parts_of(terms: Terms, operator: str, term: Term, is_loose: bool) -> list[Term]:
    """What a sum or product of terms combines, or what it is moved to; the term itself where others read it too."""
    whole = without_movement(term)
    if whole.operator != operator or not is_loose:
        return [term]
    parts = [o for o in whole.operands if o is not None]
    if len(parts) > MOST_PARTS:
        return [term]
    if whole is term:
        return parts
    if term.operator != "Transpose" and any(p.shape != whole.shape for p in parts):
        return [term]
    if any(p.rank != whole.rank for p in parts):
        return [term]
    return [move_like(terms, p, term) for p in parts]


def combine_terms(
    terms: Terms, operator: str, parts: Sequence[Term], shape: Sequence[Length | None] | None
) -> Term:
    """A sum or product of terms, in the one order."""
    # what is moved is combined before
    cores = [split_factor(terms, p) for p in parts]
    model = find_frame(terms, [c for c, _ in cores])
    found = None if model is None else split_movement(model)
    if model is not None and found is not None:
        inner = [
            make_multiple(terms, move_back(terms, core, model), factor) for core, factor in cores
        ]
        whole: Sequence[Length | None] | None = found[0].shape
        if model.operator == "Transpose":
            whole = None if shape is None else [shape[k] for k in np.argsort(found[2])]
        return move_like(terms, combine_terms(terms, operator, inner, whole), model)
    order = sorted(parts, key=lambda t: without_factor(t).digest)
    return terms.make(operator, order, dtype=parts[0].dtype, shape=shape)


def _add_constant(terms: Terms, a: Term, b: Term) -> Term:
    assert b.leaf is not None
    if a.leaf is not None:
        made = computed(terms, "Add", [a.leaf, b.leaf])
        if made is not None:
            return made
    b = plain_constant(terms, a, b)
    assert b.leaf is not None
    is_mask = b.leaf.array.size == 1 or not is_vector(b.leaf.array)
    if is_mask and is_shape_kept(a, b) and not b.leaf.array.any():
        return a
    if is_layer(a) and is_shape_kept(a, b):
        own = channel(a, b.leaf.array)
        if own is not None:
            made = _biased(terms, a, b.leaf, own)
            if made is not None:
                return made
    inner = a.operands[0] if a.operands else None
    if a.operator == "Add" and is_shape_kept(a, b):
        constant = a.operands[1]
        assert constant is not None
        assert inner is not None
        if constant.leaf is not None and (
            is_vector(constant.leaf.array) or not is_vector(b.leaf.array)
        ):
            made = computed(terms, "Add", [constant.leaf, b.leaf])
            if made is not None and made.leaf is not None and made.leaf.array.size <= MOST_FOLDED:
                return _add_constant(terms, inner, made)
    earlier = undo_movement_of_constant(terms, a, b.leaf) if is_shape_kept(a, b) else None
    if earlier is not None:
        return move_like(terms, make_sum(terms, without_movement(a), earlier), a)
    return terms.make("Add", [a, b], dtype=a.dtype, shape=broadcast(a, b))


def _biased(terms: Terms, layer: Term, leaf: Leaf, own: np.ndarray) -> Term | None:
    x, weight, bias = layer.operands
    assert bias is not None
    assert bias.leaf is not None
    assert x is not None
    assert weight is not None
    units = units_of(layer)
    room = (
        None if leaf.room is None else channel(layer, np.broadcast_to(leaf.room, leaf.array.shape))
    )
    if not bias.leaf.array.any() and own.ndim and leaf.room is None:
        # a bias of zeros leaves the other as it is
        made: Term | None = terms.moved(leaf, lambda a: a.reshape(-1))
    else:
        whole = Leaf(
            np.broadcast_to(own, (units,)),
            leaf.hint,
            None,
            None if room is None else np.broadcast_to(room, (units,)),
        )
        made = computed(
            terms, "Add", [Leaf(bias.leaf.array, leaf.hint, None, bias.leaf.room), whole]
        )
    return None if made is None else _remade(terms, layer, [x, weight, made])


def make_product(terms: Terms, a: Term, b: Term, loose: frozenset[int] = frozenset()) -> Term:
    """The product of two terms of floats, element by element; products among them that are `loose` become part of it."""
    whole = [id(a) in loose, id(b) in loose]
    if a.leaf is not None and b.leaf is None:
        a, b = b, a
    if b.leaf is not None and not is_moderate(b.leaf.array):
        # a large number does not change places with others: what is between them may overflow
        return terms.make("Mul", [a, b], dtype=a.dtype, shape=broadcast(a, b))
    (core, first), (other, second) = split_factor(terms, a), split_factor(terms, b)
    if may_reassociate(first * second):
        a, b, factor = core, other, first * second
    else:
        factor = 1.0
    if b.leaf is not None:
        number = b.number
        if number is not None and may_reassociate(factor * number) and is_shape_kept(a, b):
            return make_multiple(terms, a, factor * number)
        return make_multiple(terms, _multiply_constant(terms, a, b), factor)
    parts = [
        p
        for term, is_loose in zip((a, b), whole, strict=True)
        for p in parts_of(terms, "Product", term, is_loose)
    ]
    return make_multiple(terms, combine_terms(terms, "Product", parts, broadcast(a, b)), factor)


def plain_constant(terms: Terms, a: Term, b: Term) -> Term:
    """A constant that is added to or multiplied with a term, with no more axes than say something."""
    assert b.leaf is not None
    if not is_shape_kept(a, b):
        return b
    array = b.leaf.array
    if array.size == 1:
        return terms.moved(b.leaf, lambda x: x.reshape(()))
    many = next(k for k, n in enumerate(array.shape) if n > 1) if array.size else 0
    return terms.moved(b.leaf, lambda x: x.reshape(array.shape[many:])) if many else b


def _multiply_constant(terms: Terms, a: Term, b: Term) -> Term:
    assert b.leaf is not None
    b = plain_constant(terms, a, b)
    assert b.leaf is not None
    if a.leaf is not None:
        made = computed(terms, "Mul", [a.leaf, b.leaf])
        if made is not None:
            return made
    if is_shape_kept(a, b):
        inner = a.operands[0] if a.operands else None
        earlier = undo_movement_of_constant(terms, a, b.leaf)
        if earlier is not None:
            return move_like(terms, make_product(terms, without_movement(a), earlier), a)
        made = channelwise(terms, a, b.leaf.array, b.leaf)
        if made is not None:
            return made
        inner, constant = (*a.operands, None, None)[:2]
        if (
            a.operator in ("Add", "Mul")
            and inner is not None
            and constant is not None
            and constant.leaf is not None
        ):
            both = is_vector(constant.leaf.array) and is_vector(b.leaf.array)
            made = computed(terms, "Mul", [constant.leaf, b.leaf]) if both else None
            if (
                made is not None
                and made.leaf is not None
                and is_vector(made.leaf.array)
                and is_shape_kept(inner, made)
            ):
                if a.operator == "Mul":
                    return make_product(terms, inner, made)
                return make_sum(terms, make_product(terms, inner, b), made)
    return terms.make("Mul", [a, b], dtype=a.dtype, shape=broadcast(a, b))


def make_reciprocal(terms: Terms, term: Term) -> Term:
    """One divided by a term."""
    core, factor = split_factor(terms, term)
    if core.leaf is not None:
        made = computed(terms, "Reciprocal", [core.leaf])
        if made is not None:
            return make_multiple(terms, made, 1 / factor)
    return make_multiple(terms, apply_unary(terms, "Reciprocal", core), 1 / factor)


def make_root(terms: Terms, term: Term) -> Term:
    """The square root of a term."""
    if term.leaf is not None:
        made = computed(terms, "Sqrt", [term.leaf])
        if made is not None:
            return made
    return apply_unary(terms, "Sqrt", term)


def make_number(terms: Terms, value: float, like: Term) -> Term:
    """A constant of one number, of the type of a term."""
    return terms.constant(np.array(value, onnx.helper.tensor_dtype_to_np_dtype(like.dtype)))


def make_window_operator(terms: Terms, term: Term, source: Term, named: Mapping[str, Any]) -> Term:
    """A convolution or pool, with the lengths that its windows give."""
    shape, made = source.shape, term.shape
    if shape is None or made is None or len(shape) != len(made):
        return term
    kernel, pads, strides, dilations = (
        list(named[n]) for n in ("kernel_shape", "pads", "strides", "dilations")
    )
    places = len(kernel)
    for k in range(places):
        n = shape[k + 2]
        if not isinstance(n, Poly) or not isinstance(term.shape[k + 2], Poly):  # type: ignore[index]
            continue
        less = dilations[k] * (kernel[k] - 1) - pads[k] - pads[places + k]
        if strides[k] == 1:
            assert term.shape is not None
            term.shape = (*term.shape[: k + 2], n - less, *term.shape[k + 3 :])
        else:
            terms.measured(term, k + 2, f"({n - less - 1!r}) // {strides[k]} + 1")
    if isinstance(shape[0], Poly) and term.shape is not None:
        term.shape = (shape[0], *term.shape[1:])
    return term


def apply_unary(terms: Terms, operator: str, term: Term, **attributes: object) -> Term:
    """An operator that acts on every element alone."""
    made = apply_before_movement(terms, operator, [term], make_attributes(**attributes))
    if made is not None:
        return made
    return terms.make(
        operator, [term], make_attributes(**attributes), dtype=term.dtype, shape=term.shape
    )


def make_reduction(terms: Terms, operator: str, term: Term, axes: Sequence[int]) -> Term:
    """A reduction that keeps the axes that it reduces, with length one."""
    axes = sorted(axes)
    if (
        term.shape is not None
        and all(term.shape[a] == 1 for a in axes)
        and operator in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
    ):
        return term
    if operator in ("ReduceMean", "ReduceSum") and term.operator == "Scale":
        return apply_linear(terms, term, lambda t: make_reduction(terms, operator, t, axes))
    if (
        term.operator == "Transpose"
        and term.operands[0] is not None
        and term.operands[0].shape is not None
    ):
        order = term.perm
        return make_transpose(
            terms,
            make_reduction(terms, operator, term.operands[0], [order[a] for a in axes]),
            order,
        )
    shape = None
    if term.shape is not None:
        shape = tuple(1 if a in axes else n for a, n in enumerate(term.shape))
    return terms.make(operator, [term], make_attributes(axes=axes), dtype=term.dtype, shape=shape)


def make_normalisation(
    terms: Terms, x: Term, axes: Sequence[int], epsilon: float, centred: bool
) -> Term:
    """A term divided by its deviation along axes, or by its root mean square."""
    if centred:
        x = make_sum(
            terms, x, make_multiple(terms, make_reduction(terms, "ReduceMean", x, axes), -1.0)
        )
    square = make_reduction(terms, "ReduceMean", make_product(terms, x, x), axes)
    root = make_root(terms, make_sum(terms, square, make_number(terms, epsilon, x)))
    return make_product(terms, x, make_reciprocal(terms, root))
