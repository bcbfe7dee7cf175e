"""The rules of the normal form, operator by operator; what they are made of stands in `rewrites`."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from .extents import Extent, Poly, is_number, is_short, product, quotient
from .layouts import plain_numbers, reshaped, transposed
from .rewrites import (
    Asked,
    Call,
    added,
    applied,
    axes_of,
    axis_of,
    combined,
    counted,
    extents,
    generic,
    inverted,
    is_small,
    joined,
    keeps_shape,
    linear,
    may_meet,
    multiplied,
    negated,
    normalised,
    number,
    place_of,
    places_of,
    reduced,
    rooted,
    rule,
    scaled,
    sliced,
    split,
    through,
    window,
    windowed,
    zeros,
)
from .terms import NoForm, Term, given

# ---- what does nothing


@rule("Identity")
def identity(call: Call) -> Term:
    return call.first()


@rule("Constant")
def constant(call: Call) -> Term | None:
    """One that a function's call gives its value; others are weights of the file."""
    (name, value), *more = [*call.attributes.items(), ("", None)]
    if more[:-1] or name not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        return None
    if name == "value":
        return None if value.data_type == TensorProto.STRING else call.terms.constant(onnx.numpy_helper.to_array(value))
    return call.terms.constant(np.array(value, np.float32 if "float" in name else np.int64))


@rule("Dropout")
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


@rule("Cast")
def cast(call: Call) -> Term | None:
    return _cast(call, int(call.attributes["to"]))


@rule("CastLike")
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
        source, target = (np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t)) for t in (term.dtype, to))
        if target == np.float16 and source != np.float16 and not _is_rounded_once(term.leaf.array):
            return None
        exact = np.can_cast(source, target, "safe") or (term.dtype in whole and to in whole and term.known is not None)
        if exact and term.leaf.array.dtype == source:
            return terms.constant(term.leaf.array.astype(target), term.leaf.hint)
        is_rounded = source.kind == target.kind == "f" and (term.leaf.array.size == 1 or source.itemsize == 8)
        if is_rounded or (source.kind in "iub" and target.kind in "iubf" and term.leaf.array.size <= 1 << 12):
            return terms.constant(term.leaf.array.astype(target), term.leaf.hint)
    known = term.known if term.known is not None and term.dtype in whole and to in whole else None
    if known is not None and to == TensorProto.INT32 and not is_short(known.ravel().tolist()):
        known = None
    return terms.make("Cast", [term], given(to=to), dtype=to, shape=shape, known=known)


def _is_rounded_once(array: np.ndarray) -> bool:
    """Are numbers in half precision the same by way of single precision, as runtimes go?"""
    with np.errstate(over="ignore"):
        return bool((array.astype(np.float16) == array.astype(np.float32).astype(np.float16)).all())


# ---- shapes


@rule("Shape")
def shape(call: Call) -> Term | None:
    term = call.first()
    if term.shape is None:
        return None
    part = term.shape[slice(call.attributes.get("start", 0), call.attributes.get("end"))]
    return extents(call.terms, np.array([*part, None], object)[:-1])


@rule("Size")
def size(call: Call) -> Term | None:
    term = call.first()
    return None if term.shape is None else extents(call.terms, np.array([product(term.shape), None], object)[:1].reshape(()))


def is_extents(*terms: Term | None) -> bool:
    """Are all of these known whole numbers, of which one at least is a length that only a run shows?"""
    known = [t.known for t in terms if t is not None]
    whole = all(k is not None and k.dtype == object for k in known)
    return whole and not all(is_number(k.ravel().tolist()) for k in known if k is not None)


def extents_of(term: Term | None) -> list[Extent] | None:
    """The known lengths in a tensor of one axis."""
    if term is None or term.known is None or term.known.dtype != object or term.known.ndim != 1:
        return None
    return list(term.known)


@rule("Reshape")
def reshape(call: Call) -> Term | None:
    term = call.first()
    wanted: Sequence[Extent] | None = call.attributes.get("shape") if call.version < 5 else extents_of(call.operand(1))
    if wanted is None:
        return None
    made = _reshape(call, term, wanted)
    if made is not None or any(not isinstance(n, Poly) and n == 0 for n in wanted):
        return made
    # it says what becomes of zeros, and there are none
    call.leave_aside("allowzero")
    target = call.terms.constant(np.array(wanted, np.int64)) if is_number(wanted) else call.operand(1)
    return generic(call, [term, target], given(allowzero=0))[0]


def _reshape(call: Call, term: Term, wanted: Sequence[Extent]) -> Term | None:
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
        rest = quotient(product(term.shape), product(n for i, n in enumerate(found) if i != k))
        if rest is None:
            return None
        found[k] = rest
    if product(found) != product(term.shape) or any(not isinstance(n, Poly) and n < 0 for n in found):
        return None
    return reshaped(call.terms, term, found)


@rule("Flatten")
def flatten(call: Call) -> Term | None:
    term = call.first()
    if term.shape is None:
        return None
    axis = axis_of(call, default=1, behind=1)
    return reshaped(call.terms, term, (product(term.shape[:axis]), product(term.shape[axis:])))


def as_operand(call: Call, name: str, **given_: object) -> Term | None:
    """A node of an older version, its whole numbers an operand as newer versions have them."""
    values = call.attributes.get(name)
    if values is None or call.operand(1) is not None:
        return None
    operand = call.terms.constant(np.array(values, np.int64))
    return generic(call, [call.first(), operand], given(**given_))[0]


@rule("Squeeze")
def squeeze(call: Call) -> Term | None:
    term, axes = call.first(), axes_of(call)
    if term.shape is None:
        return as_operand(call, "axes")
    if axes is None:
        # onnxruntime stops at axes that are there, and have no name
        if len(call.node.input) > 1 or not is_number(term.shape):
            return None
        axes = [a for a, n in enumerate(term.shape) if n == 1]
    if any(term.shape[a] != 1 for a in axes):
        return as_operand(call, "axes")
    return reshaped(call.terms, term, [n for a, n in enumerate(term.shape) if a not in axes])


@rule("Unsqueeze")
def unsqueeze(call: Call) -> Term | None:
    term = call.first()
    axes = counted(call, "axes", 1)
    if term.shape is None or axes is None:
        return as_operand(call, "axes")
    rank = len(term.shape) + len(axes)
    places = places_of(axes, rank)
    left = iter(term.shape)
    return reshaped(call.terms, term, [1 if a in places else next(left) for a in range(rank)])


@rule("Transpose")
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
    return transposed(call.terms, term, order)


@rule("Expand")
def expand(call: Call) -> Term | None:
    term, wanted = call.first(), extents_of(call.operand(1))
    if term.shape is None or wanted is None:
        return None
    rank = max(len(term.shape), len(wanted))
    sides = [(1,) * (rank - len(s)) + tuple(s) for s in (term.shape, wanted)]
    found: list[Extent] = []
    for m, n in zip(*sides, strict=True):
        if m == n or n == 1:
            found.append(m)
        elif m == 1:
            found.append(n)
        else:
            return None
    return _expanded(call, term, found)


def _expanded(call: Call, term: Term, to: Sequence[Extent]) -> Term:
    shape = tuple(to)
    if term.shape == shape:
        return term
    if term.operator == "Scale":
        return through(call.terms, term, lambda t: _expanded(call, t, to))
    if term.leaf is not None and is_number(shape) and math.prod(plain_numbers(shape)) <= 1 << 16:
        whole = plain_numbers(shape)
        return call.terms.moved(term.leaf, lambda a: np.broadcast_to(a, whole))
    return call.terms.make("Expand", [term], (("to", repr(shape).encode()),), dtype=term.dtype, shape=shape)


@rule("ConstantOfShape")
def constant_of_shape(call: Call) -> Term | None:
    wanted = extents_of(call.operand(0))
    if wanted is None:
        return None
    value = call.attributes.get("value")
    array = onnx.numpy_helper.to_array(value) if value is not None else np.zeros(1, np.float32)
    return _expanded(call, call.terms.constant(array.reshape((1,) * len(wanted))), wanted)


@rule("Tile")
def tile(call: Call) -> Term | None:
    operand = call.operand(1)
    times = None if operand is None else operand.whole
    term = call.first()
    return term if times is not None and times.shape == (term.rank,) and (times == 1).all() else None


@rule("Range")
def range_(call: Call) -> Term | None:
    parts = [o.whole for o in call.operands if o is not None and o.dtype in (TensorProto.INT64, TensorProto.INT32)]
    if len(parts) < 3 or any(p is None or p.size != 1 for p in parts):
        return None
    start, stop, step = (int(p.reshape(-1)[0]) for p in parts if p is not None)
    first = call.first()
    if not step or abs((stop - start) / step) >= 1 << 16:
        return None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(first.dtype)
    return call.terms.constant(np.arange(start, stop, step).astype(dtype))


# ---- parts


@rule("Concat")
def concat(call: Call) -> Term | None:
    if any(o is None for o in call.operands):
        return None
    parts = [o for o in call.operands if o is not None]
    axis = int(call.attributes.get("axis", 1)) if call.version < 4 else axis_of(call)
    # what holds nothing adds nothing
    kept = [p for p in parts if not (p.shape and p.shape[axis] == 0 and len(p.shape) > 1)] or parts[:1]
    return joined(call.terms, kept, axis)


@rule("Slice")
def slice_(call: Call) -> Term | None:
    term = call.first()
    starts, ends = counted(call, "starts", 1), counted(call, "ends", 2)
    if starts is None or ends is None or term.shape is None:
        return None
    axes = counted(call, "axes", 3)
    if axes is None:
        if call.operand(3) is not None:
            return None
        axes = list(range(len(starts)))
    steps = [1] * len(starts)
    if call.operand(4) is not None:
        found = counted(call, "steps", 4)
        if found is None:
            return None
        steps = found
    return _parts(call, term, list(zip(places_of(axes, len(term.shape)), starts, ends, steps, strict=True)))


ADDRESSES = 1 << 47
"""No process has as many bytes: a tensor that would need them does not come about."""


def _bytes(term: Term, axis: int) -> int:
    """How many bytes a tensor has for every place along an axis; 0 where that is not known."""
    found = product(n for a, n in enumerate(term.shape or ()) if a != axis)
    if isinstance(found, Poly) or term.dtype not in PLAIN_TYPES:
        return 0
    return found * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(term.dtype)).itemsize


def _parts(call: Call, term: Term, cuts: Sequence[tuple[int, int, int, int]]) -> Term:
    left = []
    for axis, start, stop, step in sorted(cuts):
        assert term.shape is not None
        length = term.shape[axis]
        if isinstance(length, Poly):
            if start == 0 and step == 1 and (stop >= 2**31 - 1 or stop * _bytes(term, axis) >= ADDRESSES):
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
        term = sliced(call.terms, term, axis, places.start, places.stop, step)
    if not left:
        return term
    # along lengths that only a run shows
    operands = [call.terms.constant(np.array(v, np.int64)) for v in zip(*[(s, e, a, t) for a, s, e, t in left], strict=True)]
    return call.terms.make("Slice", [term, *operands])


@rule("Split")
def split_(call: Call) -> Sequence[Term] | None:
    term = call.first()
    axis = axis_of(call)
    if term.shape is None or isinstance(term.shape[axis], Poly):
        return None
    if call.attributes.get("num_outputs", call.results) != call.results:
        return None
    length = term.shape[axis]
    assert isinstance(length, int)
    sizes = counted(call, "split", 1)
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
    return [sliced(call.terms, term, axis, a, b) for a, b in itertools.pairwise(ends)]


@rule("Gather")
def gather(call: Call) -> Term | None:
    return _gathered(call)


def _gathered(call: Call) -> Term | None:
    term, index = call.first(), call.operand(1)
    if index is None or term.shape is None:
        return None
    axis = axis_of(call)
    places = index.whole
    if places is None:
        return None
    if is_extents(term) and term.known is not None:
        return extents(call.terms, np.take(term.known, places, axis), term.dtype)
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
            part = sliced(call.terms, term, axis, place % length, place % length + 1)
        return reshaped(call.terms, part, [*term.shape[:axis], *term.shape[axis + 1 :]]) if _is_one(part, axis) else None
    if isinstance(length, Poly) or not ((-length <= places) & (places < length)).all():
        return None
    places = places % length
    if places.size == length and (places.ravel() == np.arange(length)).all():
        return reshaped(call.terms, term, [*term.shape[:axis], *places.shape, *term.shape[axis + 1 :]])
    if term.leaf is not None and places.size <= 1 << 16:
        return call.terms.moved(term.leaf, lambda a: np.take(a, places, axis))
    if places.ndim == 1 and places.size and (np.diff(places) == 1).all():
        return sliced(call.terms, term, axis, int(places[0]), int(places[-1]) + 1)
    made = call.terms.constant(places)
    return call.terms.make("Gather", [term, made], given(axis=axis))


@rule("GatherND")
def gather_nd(call: Call) -> Term | None:
    """With constant places along leading axes, a Gather along all of these as one."""
    term, index = call.first(), call.operand(1)
    if index is None or index.whole is None or term.shape is None or call.attributes.get("batch_dims"):
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
    rows = reshaped(call.terms, term, [product(lengths), *term.shape[many:]])
    node = onnx.helper.make_node("Gather", ["", ""], [call.node.output[0]], axis=0)
    inner = replace(call, node=node, operands=[rows, call.terms.constant(np.asarray(flat))], attributes=Asked({"axis": 0}))
    return _gathered(inner)


def _is_one(term: Term, axis: int) -> bool:
    return term.shape is not None and term.shape[axis] == 1


@rule("Pad")
def pad(call: Call) -> Term | None:
    pads = counted(call, "pads" if call.version > 1 else "paddings", 1)
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
    return generic(call, operands if mode == b"constant" else operands[:2], given(mode=mode))[0]


@rule("Where")
def where(call: Call) -> Term | None:
    """A softmax without infinities before it gives numbers: what stands in for others is never taken."""
    condition, other, x = (call.operand(k) for k in range(3))
    if condition is None or x is None or other is None or not x.is_float:
        return None
    leaves = [t.leaf for t in (condition, other, x) if t.leaf is not None and t.leaf.room is None]
    if len(leaves) == 3 and may_meet([a.array for a in leaves]) and max(a.array.size for a in leaves) <= 1 << 16:
        return call.terms.constant(np.where(*(a.array for a in leaves)), leaves[1].hint)
    if condition.operator != "IsNaN":
        return None
    same = condition.operands[0] is x and x.operator == "Softmax"
    return x if same and x.operands[0] is not None and is_finite(x.operands[0]) else None


def is_finite(term: Term, known: dict[int, bool] | None = None) -> bool:
    """Is a term a real number wherever weighted sums of real numbers are?"""
    known = {} if known is None else known
    if id(term) not in known:
        passing = ("Add", "Expand", "Move", "Mul", "Part", "Product", "Reshape", "Scale", "Sum", "Transpose")
        sides = [o for o in term.operands if o is not None]
        if term.leaf is not None:
            known[id(term)] = bool(np.isfinite(term.leaf.array).all())
        elif term.operator in ("Linear", "Conv", "MatMul"):
            known[id(term)] = all(is_finite(o, known) for o in sides if o.leaf is not None)
        else:
            known[id(term)] = term.operator in passing and all(is_finite(o, known) for o in sides)
    return known[id(term)]


# ---- whole numbers, and floats


def _arithmetic(
    on_extents: Callable[[np.ndarray, np.ndarray], np.ndarray | None], on_floats: Callable[[Call, Term, Term], Term]
) -> Callable[[Call], Term | None]:
    def describe(call: Call) -> Term | None:
        a, b = call.operand(0), call.operand(1)
        if a is None or b is None or (call.version < 7 and call.attributes.get("broadcast")):
            if a is None or b is None or a.shape is None or b.shape is None:
                raise NoForm(f"{call.node.op_type} broadcasts as in version 1")
            axis = int(call.attributes.get("axis", len(a.shape) - len(b.shape)))
            b = reshaped(call.terms, b, [*b.shape, *[1] * (len(a.shape) - axis - len(b.shape))])
        if is_extents(a, b):
            assert a.known is not None
            assert b.known is not None
            found = on_extents(a.known, b.known)
            if found is not None and (a.dtype == TensorProto.INT64 or is_short(found.ravel().tolist())):
                return extents(call.terms, found, a.dtype)
        if a.is_float and b.is_float:
            return on_floats(call, a, b)
        return None

    return describe


def _exact(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """Quotients by plain numbers: a length may be zero."""
    if not is_number(b.ravel().tolist()):
        return None
    parts = [quotient(x, y) for x, y in zip(*(v.ravel().tolist() for v in np.broadcast_arrays(a, b)), strict=True)]
    if any(p is None for p in parts):
        return None
    found = np.empty(len(parts), object)
    found[:] = parts
    return found.reshape(np.broadcast_shapes(a.shape, b.shape))


def _sum(call: Call, a: Term, b: Term) -> Term:
    return added(call.terms, a, b, call.loose)


def _difference(call: Call, a: Term, b: Term) -> Term:
    other = negated(call.terms, b.leaf) if b.leaf is not None else scaled(call.terms, b, -1.0)
    return added(call.terms, a, other)


def _ratio(call: Call, a: Term, b: Term) -> Term:
    one = a.number
    if one is not None and one == 1.0 and b.shape is not None and len(b.shape) >= len(a.shape or ()):
        return inverted(call.terms, b)
    return multiplied(call.terms, a, inverted(call.terms, b))


rule("Add")(_arithmetic(lambda a, b: a + b, _sum))
rule("Sub")(_arithmetic(lambda a, b: a - b, _difference))
rule("Mul")(_arithmetic(lambda a, b: a * b, lambda call, a, b: multiplied(call.terms, a, b, call.loose)))
rule("Div")(_arithmetic(_exact, _ratio))


@rule("Sum")
def sum_(call: Call) -> Term | None:
    terms = [o for o in call.operands if o is not None]
    if len(terms) == 1:
        return terms[0]
    if not all(t.is_float for t in terms):
        return None
    total = terms[0]
    for term in terms[1:]:
        total = added(call.terms, total, term)
    return total


@rule("Neg")
def negative(call: Call) -> Term | None:
    return scaled(call.terms, call.first(), -1.0) if call.first().is_float else None


@rule("Reciprocal")
def reciprocal(call: Call) -> Term | None:
    return inverted(call.terms, call.first()) if call.first().is_float else None


@rule("Sqrt")
def square_root(call: Call) -> Term | None:
    return rooted(call.terms, call.first()) if call.first().is_float else None


@rule("Pow")
def power(call: Call) -> Term | None:
    term, exponent = call.first(), call.operand(1)
    if exponent is None or exponent.leaf is None or exponent.leaf.array.size != 1 or not term.is_float:
        return None
    value = float(exponent.leaf.array.reshape(-1)[0])
    if len(exponent.leaf.array.shape) > (term.rank or 0):
        return None
    if value == 2:
        return multiplied(call.terms, term, term)
    if value == 3:
        return combined(call.terms, "Product", [term, term, term], term.shape)
    if value == 0.5:
        return rooted(call.terms, term)
    if value == 1:
        return term
    if value == -1:
        return inverted(call.terms, term)
    return None


# ---- layers


@rule("MatMul")
def matmul(call: Call) -> Term | None:
    a, b = call.operand(0), call.operand(1)
    if a is None or b is None or not (a.is_float and b.is_float):
        return None
    if b.leaf is not None and b.leaf.array.ndim == 2 and a.leaf is None and (a.rank or 0) > 1:
        return linear(call.terms, a, b)
    return product_of(call, a, b)


def product_of(call: Call, a: Term, b: Term) -> Term:
    """The matrix product of two terms; numbers that they are multiplied by stand behind it."""
    (x, first), (y, second) = split(call.terms, a), split(call.terms, b)
    if not is_small(first * second):
        return call.terms.make("MatMul", [a, b])
    return scaled(call.terms, call.terms.make("MatMul", [x, y]), first * second)


@rule("Gemm")
def gemm(call: Call) -> Term | None:
    a, b, c = (call.operand(k) for k in range(3))
    if a is None or b is None or not (a.is_float and b.is_float) or (c is not None and not c.is_float):
        return None
    if a.rank != 2 or b.rank != 2:
        return None
    terms, attributes = call.terms, call.attributes
    numbers = [float(attributes.get(n, 1.0)) for n in ("alpha", "beta")]
    if not all(n == 0 or is_small(n) for n in numbers):
        return None
    if attributes.get("transA"):
        a = transposed(terms, a, (1, 0))
    if attributes.get("transB"):
        b = transposed(terms, b, (1, 0))
    made = linear(terms, a, b) if b.leaf is not None and a.leaf is None else product_of(call, a, b)
    made = scaled(terms, made, float(attributes.get("alpha", 1.0)))
    beta = float(attributes.get("beta", 1.0))
    if c is None or beta == 0:
        return made
    # a bias of more rows than the product is no bias
    return added(terms, made, scaled(terms, c, beta)) if keeps_shape(made, c) else None


@rule("Conv", "ConvTranspose")
def convolution(call: Call) -> Term | None:
    x, weight, bias = (call.operand(k) for k in range(3))
    if (
        x is None
        or weight is None
        or weight.leaf is None
        or (bias is not None and (bias.leaf is None or bias.rank != 1))
        or not x.is_float
    ):
        return None
    terms, operator = call.terms, call.node.op_type
    kernel = list(weight.leaf.array.shape[2:])
    places = len(kernel)
    pads = _pads(call, x, kernel)
    if pads is None or list(call.attributes.get("kernel_shape", kernel)) != kernel:
        return None
    x, pads = _unpadded(x, pads) if operator == "Conv" else (x, pads)
    named: dict[str, object] = {
        "dilations": window(call, "dilations", places, 1),
        "group": int(call.attributes.get("group", 1)),
        "kernel_shape": kernel,
        "pads": pads,
        "strides": window(call, "strides", places, 1),
    }
    if operator == "ConvTranspose":
        if "output_shape" in call.attributes:
            return None
        named["output_padding"] = window(call, "output_padding", places, 0)
    units = weight.leaf.array.shape[0] if operator == "Conv" else weight.leaf.array.shape[1] * int(named["group"])  # type: ignore[call-overload]
    if bias is None:
        bias = zeros(terms, units, weight)
    return _windows(call, operator, [x, weight, bias], named)


def _windows(call: Call, operator: str, operands: Sequence[Term], named: dict[str, object]) -> Term:
    made = call.terms.make(operator, operands, given(**named))
    return made if operator == "ConvTranspose" else windowed(call.terms, made, operands[0], named)


def _unpadded(x: Term, pads: list[int]) -> tuple[Term, list[int]]:
    """What a convolution reads, with the zeros around it among its own padding."""
    if x.operator != "Pad" or x.attribute("mode") != b"constant" or len(x.operands) > 3 or x.rank is None:
        return x, pads
    inner, around, value = (*x.operands, None)[:3]
    if inner is None or around is None or around.whole is None or (value is not None and value.number != 0.0):
        return x, pads
    whole = around.whole.tolist()
    rank = x.rank
    outer = [whole[k] for k in (0, 1, rank, rank + 1)]
    added_ = [*whole[2:rank], *whole[rank + 2 :]]
    if any(outer) or min(added_, default=0) < 0:
        return x, pads
    return inner, [p + q for p, q in zip(pads, added_, strict=True)]


def _pads(call: Call, x: Term, kernel: Sequence[int]) -> list[int] | None:
    """The padding of a convolution or pool, written out; None where it hangs on a length that only a run shows."""
    how = call.attributes.get("auto_pad", b"NOTSET")
    places = len(kernel)
    if how == b"NOTSET":
        return window(call, "pads", places, 0, 2)
    if "pads" in call.attributes and any(call.attributes["pads"]):
        raise NoForm("it has both 'pads' and 'auto_pad'")
    if how == b"VALID":
        return [0] * 2 * places
    if how not in (b"SAME_UPPER", b"SAME_LOWER"):
        raise NoForm(f"'auto_pad' is {how!r}")
    if x.shape is None or not is_number(x.shape[2:]) or call.node.op_type == "ConvTranspose":
        return None
    strides, dilations = (window(call, n, places, 1) for n in ("strides", "dilations"))
    if any(d != 1 for d in dilations):
        raise NoForm("'auto_pad' with dilations")
    before, after = [], []
    for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        assert isinstance(n, int)
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        low = total // 2 if how == b"SAME_UPPER" else total - total // 2
        before.append(low)
        after.append(total - low)
    return [*before, *after]


@rule("BatchNormalization")
def batch_norm(call: Call) -> Term | None:
    x, *rest = call.operands
    if x is None or len(rest) < 4 or any(r is None or r.leaf is None for r in rest) or not x.is_float or x.rank is None:
        return None
    if any(r is not None and r.dtype != x.dtype for r in rest):
        return None
    if call.attributes.get("training_mode") or not call.attributes.get("spatial", 1) or any(call.node.output[1:]):
        return None
    if any(r.rank != 1 or x.shape is None or x.rank < 2 or r.shape != x.shape[1:2] for r in rest[:4] if r is not None):
        return None
    if call.version < 7 and not call.attributes.get("is_test"):
        return None
    call.leave_aside("momentum")
    terms = call.terms
    shape = (-1, *[1] * (x.rank - 2)) if x.rank > 1 else (-1,)
    scale, shift, mean, variance = (terms.moved(r.leaf, lambda a: a.reshape(shape)) for r in rest[:4] if r and r.leaf)
    epsilon = number(terms, float(call.attributes.get("epsilon", 1e-5)), variance)
    factor = multiplied(terms, scale, inverted(terms, rooted(terms, added(terms, variance, epsilon))))
    if factor.leaf is None or mean.leaf is None:
        return None
    offset = added(terms, shift, multiplied(terms, negated(terms, mean.leaf), factor))
    return added(terms, multiplied(terms, x, factor), offset)


def _is_gain(x: Term, gain: Term, axes: Sequence[int]) -> bool:
    """Does a gain, or a bias, have the lengths that are normalised over, and no others?"""
    return x.shape is not None and gain.shape == tuple(x.shape[a] for a in axes)


@rule("LayerNormalization")
def layer_norm(call: Call) -> Term | None:
    x, scale, bias = (call.operand(k) for k in range(3))
    if x is None or scale is None or x.rank is None or not x.is_float or call.is_asked(1) or call.is_asked(2):
        return None
    if call.attributes.get("stash_type", 1) != 1:
        return None
    axes = list(range(axis_of(call, default=-1), x.rank))
    if not _is_gain(x, scale, axes) or (bias is not None and not _is_gain(x, bias, axes)):
        return None
    made = normalised(call.terms, x, axes, float(call.attributes.get("epsilon", 1e-5)), True)
    made = multiplied(call.terms, made, scale)
    return made if bias is None else added(call.terms, made, bias)


@rule("RMSNormalization")
def rms_norm(call: Call) -> Term | None:
    x, scale = call.operand(0), call.operand(1)
    if x is None or scale is None or x.rank is None or not x.is_float:
        return None
    if call.attributes.get("stash_type", 1) != 1:
        return None
    axes = list(range(axis_of(call, default=-1), x.rank))
    if not _is_gain(x, scale, axes):
        return None
    made = normalised(call.terms, x, axes, float(call.attributes.get("epsilon", 1e-5)), False)
    return multiplied(call.terms, made, scale)


@rule("InstanceNormalization")
def instance_norm(call: Call) -> Term | None:
    x, scale, bias = (call.operand(k) for k in range(3))
    if x is None or scale is None or bias is None or x.rank is None or not x.is_float:
        return None
    if scale.leaf is None or bias.leaf is None or x.shape is None or {scale.shape, bias.shape} != {x.shape[1:2]}:
        return None
    shape = (-1, *[1] * (x.rank - 2))
    made = normalised(call.terms, x, range(2, x.rank), float(call.attributes.get("epsilon", 1e-5)), True)
    scale, bias = (call.terms.moved(t.leaf, lambda a: a.reshape(shape)) for t in (scale, bias) if t.leaf)
    return added(call.terms, multiplied(call.terms, made, scale), bias)


# ---- activations


@rule("Gelu")
def gelu(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if not x.is_float:
        return None
    how = call.attributes.get("approximate", b"none")
    if how not in (b"none", b"tanh"):
        raise NoForm(f"'approximate' is {how!r}")
    if how == b"tanh":
        cube = scaled(terms, combined(terms, "Product", [x, x, x], x.shape), _single(x, 0.044715))
        inner = applied(terms, "Tanh", scaled(terms, added(terms, x, cube), _single(x, math.sqrt(2 / math.pi))))
        return scaled(terms, multiplied(terms, x, added(terms, inner, number(terms, 1.0, x))), 0.5)
    inner = applied(terms, "Erf", scaled(terms, x, _single(x, 1 / math.sqrt(2))))
    return scaled(terms, multiplied(terms, x, added(terms, inner, number(terms, 1.0, x))), 0.5)


def _single(like: Term, value: float) -> float:
    """A number as it is rounded to the type of a term."""
    return float(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(like.dtype)).type(value))


@rule("Swish")
def swish(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if not x.is_float:
        return None
    gate = applied(terms, "Sigmoid", scaled(terms, x, float(call.attributes.get("alpha", 1.0))))
    return multiplied(terms, x, gate)


@rule("HardSwish")
def hard_swish(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if not x.is_float:
        return None
    gate = applied(terms, "HardSigmoid", x, alpha=1 / 6, beta=0.5)
    return multiplied(terms, x, gate)


@rule("Mish")
def mish(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    return multiplied(terms, x, applied(terms, "Tanh", applied(terms, "Softplus", x))) if x.is_float else None


@rule("Clip")
def clip(call: Call) -> Term | None:
    x, terms = call.first(), call.terms
    if call.version < 11:
        if not x.is_float:
            return None
        given_ = [call.attributes.get(n) for n in ("min", "max")]
        limits = [None if v is None else number(terms, v, x) for v in given_]
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
            return applied(terms, "Relu", x)
        if x.operator == "Relu" and high.number is not None and high.number >= 0:
            x = x.operands[0] or x
    return generic(call, [x, low, high], ())[0]


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(call: Call) -> Term | None:
    x, terms, operator = call.first(), call.terms, call.node.op_type
    if x.rank is None or x.shape is None:
        return None
    axis = axis_of(call, default=-1 if call.version >= 13 else 1)
    if call.version < 13 and axis != x.rank - 1:
        flat = reshaped(terms, x, (product(x.shape[:axis]), product(x.shape[axis:])))
        return reshaped(terms, terms.make(operator, [flat], given(axis=1)), x.shape)
    core = x.operands[0] if x.operator == "Transpose" else None
    if core is not None and core.shape is not None:
        order = x.perm
        made = terms.make(operator, [core], given(axis=order[axis]), dtype=x.dtype, shape=core.shape)
        return transposed(terms, made, order)
    return terms.make(operator, [x], given(axis=axis), dtype=x.dtype, shape=x.shape)


@rule("PRelu")
def prelu(call: Call) -> Term | None:
    x, slope = call.first(), call.operand(1)
    if slope is None or x.shape is None or slope.shape is None or not is_number(slope.shape):
        return None
    if len(slope.shape) > len(x.shape):
        return None
    # one slope for each channel: leading ones say nothing
    kept = list(slope.shape)
    while len(kept) > 1 and kept[0] == 1:
        kept = kept[1:]
    slope = reshaped(call.terms, slope, kept)
    return call.terms.make("PRelu", [x, slope], dtype=x.dtype, shape=x.shape)


@rule("LSTM", "GRU", "RNN")
def recurrent(call: Call) -> Sequence[Term]:
    """All results, whether they are read or not."""
    results = 3 if call.node.op_type == "LSTM" else 2
    whole = NodeProto()
    whole.CopyFrom(call.node)
    whole.output[:] = [*call.node.output, *[""] * (results - call.results)]
    return generic(replace(call, node=whole))


@rule("Max", "Min")
def extreme(call: Call) -> Term | None:
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


EXACT: dict[str, Callable[[np.ndarray], np.ndarray]] = {"Abs": np.abs, "Ceil": np.ceil, "Floor": np.floor, "Sign": np.sign}
"""What is done to every element of a constant and rounds nothing."""
SMOOTH: dict[str, Callable[[np.ndarray], np.ndarray]] = {"Cos": np.cos, "Sin": np.sin}
"""What is done to every element of a constant, of size one at most."""


@rule(*EXACT, *SMOOTH)
def of_constant(call: Call) -> Term | None:
    """A function of every element, of a constant a constant."""
    term = call.first()
    if term.leaf is None or not term.is_float or term.leaf.room is not None:
        return None
    if call.node.op_type in EXACT:
        return call.terms.constant(EXACT[call.node.op_type](term.leaf.array), term.leaf.hint)
    array = SMOOTH[call.node.op_type](term.leaf.array.astype(np.float64)).astype(term.leaf.array.dtype)
    # libraries give the last two bits of a number of this size as they like
    return call.terms.constant(array, term.leaf.hint, np.full((), 4 * float(np.finfo(array.dtype).eps)))


# ---- reductions and pools


@rule(
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
    *("ReduceSum", "ReduceSumSquare"),
)
def reduction(call: Call) -> Term | None:
    x = call.first()
    axes = axes_of(call)
    noop = call.attributes.get("noop_with_empty_axes")
    if x.shape is None:
        keeps = int(call.attributes.get("keepdims", 1))
        if noop and not axes:
            return None
        return as_operand(call, "axes", keepdims=keeps, noop_with_empty_axes=0)
    if axes is None or not axes:
        if call.operand(1) is not None and axes != []:
            return None
        if noop:
            return None
        axes = list(range(len(x.shape)))
    made = reduced(call.terms, call.node.op_type, x, axes)
    if call.attributes.get("keepdims", 1):
        return made
    return reshaped(call.terms, made, [n for a, n in enumerate(x.shape) if a not in axes])


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(call: Call) -> Term | None:
    """A mean; a pool of the largest has another idea of what is no number than a reduction."""
    x = call.first()
    if call.node.op_type != "GlobalAveragePool" or x.rank is None or x.rank < 3 or not x.is_float:
        return None
    if x.shape is None or 0 in [n for n in x.shape if isinstance(n, int)]:
        return None
    return reduced(call.terms, "ReduceMean", x, range(2, x.rank))


@rule("AveragePool", "MaxPool")
def pool(call: Call) -> Term | None:
    x = call.first()
    kernel = [int(k) for k in call.attributes["kernel_shape"]]
    pads = _pads(call, x, kernel)
    if pads is None or call.attributes.get("ceil_mode") or any(call.node.output[1:]) or call.version < 7:
        return None
    places = len(kernel)
    named: dict[str, object] = {
        "dilations": window(call, "dilations", places, 1),
        "kernel_shape": kernel,
        "pads": pads,
        "strides": window(call, "strides", places, 1),
    }
    if (
        call.node.op_type == "AveragePool"
        and x.shape is not None
        and list(x.shape[2:]) == kernel
        and not any(pads)
        and named["dilations"] == [1] * places
        and x.is_float
    ):
        call.leave_aside("count_include_pad")
        return reduced(call.terms, "ReduceMean", x, range(2, len(x.shape)))
    if call.node.op_type == "AveragePool":
        named["count_include_pad"] = int(call.attributes.get("count_include_pad", 0)) if any(pads) else 0
    # onnxruntime fuses no quantised pool whose dilations are written out
    written = {n: v for n, v in named.items() if n != "dilations" or v != [1] * places}
    return windowed(call.terms, call.terms.make(call.node.op_type, [x], given(**written)), x, named)


# ---- sizes


@rule("Resize", "Upsample")
def resize(call: Call) -> Term | None:
    x = call.first()
    attributes = dict(call.attributes)
    if call.node.op_type == "Upsample" or call.version < 11:
        scales: Term | None
        if call.version < 9:
            if "scales" not in attributes:
                return None
            scales = call.terms.constant(np.array(attributes.pop("scales"), np.float32))
        else:
            scales = call.operand(1)
        if scales is None or scales.leaf is None or (scales.leaf.array < 1).any():
            # runtimes differ in which pixel a smaller picture takes
            return None
        # the older operators count pixels by their corners, and take the lower of two
        attributes |= {"coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
        return _resized(call, [x, None, scales], attributes)
    roi, scales, sizes = (call.operand(k) for k in (1, 2, 3))
    crops = attributes.get("coordinate_transformation_mode") == b"tf_crop_and_resize"
    empty = [t is not None and t.shape is not None and 0 in t.shape for t in (roi, scales)]
    roi = roi if crops else None
    scales = None if empty[1] else scales
    return _resized(call, [x, roi, scales, sizes], attributes)


def _resized(call: Call, operands: list[Term | None], attributes: dict[str, object]) -> Term:
    defaults = onnx.defs.get_schema("Resize", call.terms.version).attributes
    whole = {n: onnx.helper.get_attribute_value(a.default_value) for n, a in defaults.items() if a.default_value.name}
    whole |= attributes
    if whole.get("mode") != b"cubic":
        whole.pop("cubic_coeff_a", None)
    if whole.get("mode") == b"nearest":
        whole.pop("exclude_outside", None)
    elif "nearest_mode" in whole:
        whole.pop("nearest_mode")
    if whole.get("coordinate_transformation_mode") != b"tf_crop_and_resize":
        whole.pop("extrapolation_value", None)
    x, scales = operands[0], operands[2] if len(operands) > 2 else None
    shape = None
    if x is not None and x.shape is not None and scales is not None and scales.leaf is not None:
        by = scales.leaf.array.ravel().tolist()
        if len(by) == len(x.shape) and all(float(s).is_integer() for s in by):
            shape = [n * int(s) for n, s in zip(x.shape, by, strict=True)]
    if shape is None or x is None:
        return call.terms.make("Resize", operands, given(**whole))
    return call.terms.make("Resize", operands, given(**whole), dtype=x.dtype, shape=shape)


@rule("CumSum")
def running_sum(call: Call) -> Term | None:
    """The axis counted from the first, in one type of whole numbers."""
    term, axis = call.first(), call.operand(1)
    if axis is None or axis.whole is None or axis.rank != 0 or term.rank is None:
        return None
    place = call.terms.constant(np.array(place_of(int(axis.whole.reshape(-1)[0]), term.rank), np.int64))
    return generic(call, [term, place])[0]


@rule("TopK")
def top_k(call: Call) -> Sequence[Term] | None:
    if call.version >= 10:
        return None
    count = call.terms.constant(np.array([call.attributes["k"]], np.int64))
    named = given(axis=int(call.attributes.get("axis", -1)), largest=1, sorted=1)
    return generic(call, [call.first(), count], named)


__all__: list[str] = []
