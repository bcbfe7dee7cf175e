"""How operators are written in the normal form: one rule each, which holds for all inputs.

Rules make terms out of terms that are in normal form already, so one pass from the inputs to the outputs is enough.
What moves nothing is left out; reshapes of all kinds are one; factors that are one number stand behind what they scale;
sums and products of floats have one order; layers have a bias; normalisations and activations are spelled out. An
equality that holds for real numbers, and for floats up to rounding, is used for floats of 32 and 64 bits alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from .extents import Extent, Poly, is_number
from .meanings import meaning_of
from .terms import Attributes, Leaf, NoForm, Term, Terms, given, with_defaults

LARGEST = 1e12
"""Constants are multiplied and added up while they and their inverses are smaller: nothing overflows or vanishes."""
EPSILON = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}


@dataclass(frozen=True)
class Call:
    """A node as its rule sees it.

    Attributes:
        terms: makes terms.
        node: the node.
        version: the version of its domain.
        operands: None for one that is left out.
        attributes: those that are given, as Python values.
        loose: the operands, by identity, that nothing else reads.
    """

    terms: Terms
    node: NodeProto
    version: int
    operands: Sequence[Term | None]
    attributes: dict[str, Any]
    loose: frozenset[int] = frozenset()

    def operand(self, k: int) -> Term | None:
        return self.operands[k] if k < len(self.operands) else None

    def first(self) -> Term:
        term = self.operand(0)
        if term is None:
            raise NoForm(f"{self.node.op_type}: no first operand")
        return term

    @property
    def results(self) -> int:
        return len(self.node.output)

    def is_asked(self, k: int) -> bool:
        return k < len(self.node.output) and bool(self.node.output[k])


Rule = Callable[[Call], Sequence[Term | None] | Term | None]
"""The results of a node; None where the rule does not apply, and the node stands as it is."""
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        for operator in operators:
            if operator in RULES:
                raise ValueError(f"two rules for {operator}")
            RULES[operator] = function
        return function

    return register


def rewrite(call: Call) -> Sequence[Term | None]:
    """The results of a node of the default domain in normal form."""
    found = RULES[call.node.op_type](call) if call.node.op_type in RULES else None
    if found is None:
        return generic(call)
    return [known_extents(call.terms, found)] if isinstance(found, Term) else found


def generic(call: Call, operands: Sequence[Term | None] | None = None, attributes: Attributes | None = None) -> Sequence[Term]:
    """A node as it stands, if it means the same at the form's version."""
    node, terms = call.node, call.terms
    if attributes is None:
        meanings = [meaning_of(node.op_type, "", v) for v in (call.version, terms.version)]
        if meanings[0] != meanings[1]:
            raise NoForm(f"version {call.version} of the operator sets has another {node.op_type} than version {terms.version}")
        attributes = with_defaults(node, terms.version)
    left = call.operands if operands is None else operands
    made = terms.node(node.op_type, "", left, attributes, call.results)
    return [folded_whole(terms, t) or t for t in made] if call.results == 1 else made


def known_extents(terms: Terms, term: Term) -> Term:
    """A tensor of lengths that are known, written in one way."""
    known = term.known
    if known is None or known.dtype != object or term.leaf is not None or term.operator == "Extents":
        return term
    return extents(terms, known, term.dtype)


def extents(terms: Terms, lengths: np.ndarray | Extent, dtype: int = TensorProto.INT64) -> Term:
    """A tensor of lengths, or of one."""
    # numpy gives an element where an array of no axes would be
    array = np.empty((), object)
    if isinstance(lengths, np.ndarray):
        array = lengths
    else:
        array[()] = lengths
    made = terms.values(array, dtype)
    if made is not None:
        return made
    text = repr((array.shape, array.ravel().tolist())).encode()
    return terms.make("Extents", [], (("of", text),), dtype=dtype, shape=array.shape, known=array)


def folded_whole(terms: Terms, term: Term) -> Term | None:
    """A small constant, for an operator on whole numbers or truth values that are constants."""
    operands = [o for o in term.operands if o is not None]
    if not operands or term.results > 1 or any(o.leaf is None or o.leaf.array.size > 1 << 12 for o in operands):
        return None
    kinds = [o.leaf.array.dtype.kind for o in operands if o.leaf is not None]
    if any(k not in "biu" for k in kinds) or term.operator.startswith("Random"):
        return None
    array = evaluate(terms, term, [o.leaf.array if o and o.leaf else None for o in term.operands])
    if array is None or array.dtype.kind not in "biu" or array.size > 1 << 16:
        return None
    return terms.constant(array)


def evaluate(terms: Terms, term: Term, arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """What onnx's reference implementation gives for constants."""
    from onnx.reference import ReferenceEvaluator

    names = ["" if a is None else f"a{k}" for k, a in enumerate(arrays)]
    node = NodeProto(op_type=term.operator, input=names, output=["r"])
    node.attribute.extend(onnx.AttributeProto.FromString(b) for _, b in term.attributes)
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(node, opsets={"": terms.version}).run(
                None, {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
            )
    except Exception:  # noqa: BLE001  (onnx's reference operators raise anything on what does not fit)
        return None
    return np.asarray(list(found)[0])


# ---- arithmetic of constants


def fits(array: np.ndarray) -> bool:
    """Are numbers such that products and sums of a few of them do not overflow, nor vanish?"""
    largest = float(np.abs(array).max(initial=0.0))
    return largest == 0 or 1 / LARGEST < largest < LARGEST


def computed(terms: Terms, operator: str, sides: Sequence[Leaf]) -> Term | None:
    """A sum, product, quotient or root of constants, with room for its rounding; None where it may overflow."""
    if any(s.array.dtype not in EPSILON or not fits(s.array) for s in sides):
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
    exact = found.astype(dtype)
    return terms.constant(
        exact, sides[0].hint, room + EPSILON[dtype] * np.maximum(np.abs(found), np.abs(values[0] if operator == "Add" else 0))
    )


def negated(terms: Terms, leaf: Leaf) -> Term:
    """A constant times minus one."""
    return terms.constant(-leaf.array, leaf.hint, leaf.room)


# ---- scale: a factor that is one number stands behind what it scales


def split(term: Term) -> tuple[Term, float]:
    """A term without the number that it is multiplied by, and the number."""
    if term.operator == "Scale":
        assert term.operands[0] is not None
        return term.operands[0], term.scale
    return term, 1.0


def scaled(terms: Terms, term: Term, factor: float) -> Term:
    """A term times a number."""
    core, own = split(term)
    factor = factor * own
    if factor == 1.0:
        return core
    if core.leaf is not None:
        made = computed(terms, "Mul", [core.leaf, Leaf(np.array(factor, core.leaf.array.dtype), core.leaf.hint)])
        if made is not None:
            return made
    if core.operator in ("Conv", "ConvTranspose"):
        folded = channelwise(terms, core, np.array(factor))
        if folded is not None:
            return folded
    return terms.make("Scale", [core], dtype=core.dtype, shape=core.shape, scale=factor)


def is_small(factor: float) -> bool:
    """May numbers like this be multiplied in any order?"""
    return 1e-6 < abs(factor) < 1e6


def through(terms: Terms, term: Term, make: Callable[[Term], Term]) -> Term:
    """What a linear operator makes of a term; the factor stays behind it."""
    core, factor = split(term)
    return scaled(terms, make(core), factor)


# ---- movement


def reshaped(terms: Terms, term: Term, shape: Sequence[Extent]) -> Term:
    """A term with its elements laid out in another shape."""
    to = tuple(shape)
    if term.shape == to:
        return term
    if term.operator == "Scale":
        return through(terms, term, lambda t: reshaped(terms, t, to))
    if term.operator == "Reshape" and len(term.operands) == 1:
        assert term.operands[0] is not None
        return reshaped(terms, term.operands[0], to)
    if term.leaf is not None and is_number(to):
        return terms.moved(term.leaf, lambda a: a.reshape([int(n) for n in to]))  # type: ignore[arg-type]
    known = term.known.reshape([int(n) for n in to]) if term.known is not None and is_number(to) else None  # type: ignore[arg-type]
    return terms.make("Reshape", [term], (("to", repr(to).encode()),), dtype=term.dtype, shape=to, known=known)


def transposed(terms: Terms, term: Term, order: Sequence[int]) -> Term:
    """A term with its axes in another order."""
    order = list(order)
    if order == sorted(order):
        return term
    if term.operator == "Scale":
        return through(terms, term, lambda t: transposed(terms, t, order))
    if term.operator == "Transpose":
        inner = list(term.attribute("perm"))  # type: ignore[call-overload]
        assert term.operands[0] is not None
        return transposed(terms, term.operands[0], [inner[k] for k in order])
    if term.leaf is not None:
        return terms.moved(term.leaf, lambda a: np.transpose(a, order))
    shape = None
    if term.shape is not None:
        shape = tuple(term.shape[k] for k in order)
        kept = [k for k in order if term.shape[k] != 1]
        if kept == sorted(kept):
            return reshaped(terms, term, shape)
    return terms.make("Transpose", [term], given(perm=order), dtype=term.dtype, shape=shape)


def sliced(terms: Terms, term: Term, axis: int, start: int, stop: int, step: int = 1) -> Term:
    """Part of a term along an axis of a length that is a plain number; `start` and `stop` lie in it."""
    assert term.shape is not None
    length = term.shape[axis]
    if (start, stop, step) == (0, length, 1):
        return term
    if term.operator == "Scale":
        return through(terms, term, lambda t: sliced(terms, t, axis, start, stop, step))
    where = (*[slice(None)] * axis, slice(start, stop if step > 0 or stop >= 0 else None, step))
    if term.leaf is not None:
        return terms.moved(term.leaf, lambda a: a[where])
    if term.operator == "Linear" and axis == len(term.shape) - 1 and step == 1:
        x, weight, bias = term.operands
        assert x is not None
        assert weight is not None
        assert bias is not None
        return linear(terms, x, sliced(terms, weight, 1, start, stop), sliced(terms, bias, 0, start, stop))
    count = len(range(start, stop, step))
    shape = (*term.shape[:axis], count, *term.shape[axis + 1 :])
    known = term.known[where] if term.known is not None else None
    attributes = given(axis=axis, start=start, stop=stop, step=step)
    return terms.make("Part", [term], attributes, dtype=term.dtype, shape=shape, known=known)


def joined(terms: Terms, parts: Sequence[Term], axis: int) -> Term | None:
    """Terms one after the other along an axis."""
    flat: list[Term] = []
    for part in parts:
        if part.operator == "Concat" and part.attribute("axis") == axis:
            flat += [o for o in part.operands if o is not None]
        else:
            flat.append(part)
    if len(flat) == 1:
        return flat[0]
    if all(p.leaf is not None for p in flat):
        leaves = [p.leaf for p in flat if p.leaf is not None]
        if len({a.array.dtype for a in leaves}) == 1:
            rooms = [np.broadcast_to(a.room if a.room is not None else 0.0, a.array.shape) for a in leaves]
            room = np.concatenate(rooms, axis) if any(a.room is not None for a in leaves) else None
            return terms.constant(np.concatenate([a.array for a in leaves], axis), leaves[0].hint, room)
    known = None
    if all(p.known is not None and p.known.dtype == object for p in flat):
        known = np.concatenate([p.known for p in flat if p.known is not None], axis)
    shape: tuple[Extent, ...] | None = None
    if all(p.shape is not None for p in flat):
        shapes = [p.shape for p in flat if p.shape is not None]
        total: Extent = 0
        for s in shapes:
            total = total + s[axis]
        shape = (*shapes[0][:axis], total, *shapes[0][axis + 1 :])
    dtype = flat[0].dtype
    return terms.make("Concat", flat, given(axis=axis), dtype=dtype, shape=shape, known=known)


# ---- layers


def linear(terms: Terms, x: Term, weight: Term, bias: Term | None = None) -> Term:
    """The product with a matrix, and a bias, which is zero where none is given."""
    assert weight.leaf is not None
    rows, units = weight.leaf.array.shape
    if bias is None:
        bias = zeros(terms, units, weight)
    core, factor = split(x)
    if factor != 1.0 and not is_small(factor):
        core, factor = x, 1.0
    if factor != 1.0 and bias.leaf is not None and bias.leaf.array.any():
        # the bias is not scaled: what comes in is
        return added(terms, scaled(terms, linear(terms, core, weight), factor), bias) or _linear(terms, x, weight, bias)
    inner = core.operands[0] if core.operator == "Reshape" and len(core.operands) == 1 else None
    if (
        inner is not None
        and inner.shape
        and core.shape
        and len(inner.shape) > 1
        and len(core.shape) > 1
        and inner.shape[-1] == core.shape[-1] == rows
    ):
        made = reshaped(terms, linear(terms, inner, weight, bias), (*core.shape[:-1], units))
    else:
        made = _linear(terms, core, weight, bias)
    return scaled(terms, made, factor)


def _linear(terms: Terms, x: Term, weight: Term, bias: Term) -> Term:
    assert weight.shape is not None
    shape = None if x.shape is None else (*x.shape[:-1], weight.shape[1])
    return terms.make("Linear", [x, weight, bias], dtype=x.dtype, shape=shape)


def zeros(terms: Terms, units: int, weight: Term) -> Term:
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


def channelwise(terms: Terms, term: Term, factor: np.ndarray, leaf: Leaf | None = None) -> Term | None:
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
    room = None if leaf is None or leaf.room is None else channel(term, np.broadcast_to(leaf.room, factor.shape))
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


def broadcast(a: Term, b: Term) -> tuple[Extent | None, ...] | None:
    """The shape of a sum of two terms, None for a length that cannot be told; None where the rank cannot."""
    if a.shape is None or b.shape is None:
        return None
    rank = max(len(a.shape), len(b.shape))
    found: list[Extent | None] = []
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


def keeps_shape(a: Term, b: Term) -> bool:
    """Is the shape of a sum of two terms that of the first?"""
    return a.shape is not None and broadcast(a, b) == a.shape


def added(terms: Terms, a: Term, b: Term, loose: frozenset[int] = frozenset()) -> Term:
    """The sum of two terms of floats; sums among them that are `loose` become part of it."""
    if a.leaf is not None and b.leaf is None:
        a, b = b, a
    if b.leaf is not None:
        return _add_constant(terms, a, b)
    parts: list[Term] = []
    for term in (a, b):
        parts += [o for o in term.operands if o] if term.operator == "Sum" and id(term) in loose else [term]
    parts.sort(key=lambda t: split(t)[0].digest)
    return terms.make("Sum", parts, dtype=a.dtype, shape=broadcast(a, b))


def _add_constant(terms: Terms, a: Term, b: Term) -> Term:
    assert b.leaf is not None
    if a.leaf is not None:
        made = computed(terms, "Add", [a.leaf, b.leaf])
        if made is not None:
            return made
    if b.number == 0.0 and keeps_shape(a, b):
        return a
    if is_layer(a) and keeps_shape(a, b):
        own = channel(a, b.leaf.array)
        if own is not None:
            made = _biased(terms, a, b.leaf, own)
            if made is not None:
                return made
    inner = a.operands[0] if a.operands else None
    if a.operator == "Add" and keeps_shape(a, b):
        constant = a.operands[1]
        assert constant is not None
        assert inner is not None
        if constant.leaf is not None and is_vector(constant.leaf.array) and is_vector(b.leaf.array):
            made = computed(terms, "Add", [constant.leaf, b.leaf])
            if made is not None and made.leaf is not None and is_vector(made.leaf.array):
                return _add_constant(terms, inner, made)
    if (
        _is_last_kept(a)
        and keeps_shape(a, b)
        and is_vector(b.leaf.array)
        and b.leaf.array.shape[-1:] in ((b.leaf.array.size,), ())
    ):
        assert inner is not None
        row = terms.moved(b.leaf, lambda x: x.reshape(-1))
        assert a.shape is not None
        return reshaped(terms, _add_constant(terms, inner, row), a.shape)
    return terms.make("Add", [a, b], dtype=a.dtype, shape=broadcast(a, b))


def _is_last_kept(term: Term) -> bool:
    """Is it a reshape that leaves the last axis as it was, of a layer behind which a bias may stand?"""
    if term.operator != "Reshape" or len(term.operands) != 1 or not term.shape:
        return False
    inner = term.operands[0]
    return inner is not None and inner.operator == "Linear" and bool(inner.shape) and inner.shape[-1:] == term.shape[-1:]


def _biased(terms: Terms, layer: Term, leaf: Leaf, own: np.ndarray) -> Term | None:
    x, weight, bias = layer.operands
    assert bias is not None
    assert bias.leaf is not None
    assert x is not None
    assert weight is not None
    units = units_of(layer)
    room = None if leaf.room is None else channel(layer, np.broadcast_to(leaf.room, leaf.array.shape))
    if not bias.leaf.array.any() and own.ndim and leaf.room is None:
        # a bias of zeros leaves the other as it is
        made: Term | None = terms.moved(leaf, lambda a: a.reshape(-1))
    else:
        whole = Leaf(np.broadcast_to(own, (units,)), leaf.hint, None, None if room is None else np.broadcast_to(room, (units,)))
        made = computed(terms, "Add", [Leaf(bias.leaf.array, leaf.hint, None, bias.leaf.room), whole])
    return None if made is None else _remade(terms, layer, [x, weight, made])


def multiplied(terms: Terms, a: Term, b: Term, loose: frozenset[int] = frozenset()) -> Term:
    """The product of two terms of floats, element by element; products among them that are `loose` become part of it."""
    whole = [id(a) in loose, id(b) in loose]
    (a, first), (b, second) = split(a), split(b)
    factor = first * second
    if a.leaf is not None and b.leaf is None:
        a, b = b, a
    if b.leaf is not None:
        number = b.number
        if number is not None and is_small(number) and is_small(factor * number) and keeps_shape(a, b):
            return scaled(terms, a, factor * number)
        return scaled(terms, _multiply_constant(terms, a, b), factor)
    parts: list[Term] = []
    for term, is_loose in zip((a, b), whole, strict=True):
        parts += [o for o in term.operands if o] if term.operator == "Product" and is_loose else [term]
    parts.sort(key=lambda t: t.digest)
    return scaled(terms, terms.make("Product", parts, dtype=a.dtype, shape=broadcast(a, b)), factor)


def _multiply_constant(terms: Terms, a: Term, b: Term) -> Term:
    assert b.leaf is not None
    if a.leaf is not None:
        made = computed(terms, "Mul", [a.leaf, b.leaf])
        if made is not None:
            return made
    if keeps_shape(a, b):
        made = channelwise(terms, a, b.leaf.array, b.leaf)
        if made is not None:
            return made
        inner, constant = (*a.operands, None, None)[:2]
        if a.operator in ("Add", "Mul") and inner is not None and constant is not None and constant.leaf is not None:
            both = is_vector(constant.leaf.array) and is_vector(b.leaf.array)
            made = computed(terms, "Mul", [constant.leaf, b.leaf]) if both else None
            if made is not None and made.leaf is not None and is_vector(made.leaf.array) and keeps_shape(inner, made):
                if a.operator == "Mul":
                    return _multiply_constant(terms, inner, made)
                return _add_constant(terms, _multiply_constant(terms, inner, b), made)
    return terms.make("Mul", [a, b], dtype=a.dtype, shape=broadcast(a, b))


def inverted(terms: Terms, term: Term) -> Term:
    """One divided by a term."""
    core, factor = split(term)
    if core.leaf is not None:
        made = computed(terms, "Reciprocal", [core.leaf])
        if made is not None:
            return scaled(terms, made, 1 / factor)
    return scaled(terms, terms.make("Reciprocal", [core], dtype=core.dtype, shape=core.shape), 1 / factor)


def rooted(terms: Terms, term: Term) -> Term:
    """The square root of a term."""
    if term.leaf is not None:
        made = computed(terms, "Sqrt", [term.leaf])
        if made is not None:
            return made
    return terms.make("Sqrt", [term], dtype=term.dtype, shape=term.shape)


def number(terms: Terms, value: float, like: Term) -> Term:
    """A constant of one number, of the type of a term."""
    return terms.constant(np.array(value, onnx.helper.tensor_dtype_to_np_dtype(like.dtype)))


def applied(terms: Terms, operator: str, term: Term, **attributes: object) -> Term:
    """An operator that acts on every element alone."""
    return terms.make(operator, [term], given(**attributes), dtype=term.dtype, shape=term.shape)


def reduced(terms: Terms, operator: str, term: Term, axes: Sequence[int]) -> Term:
    """A reduction that keeps the axes that it reduces, with length one."""
    axes = sorted(axes)
    if (
        term.shape is not None
        and all(term.shape[a] == 1 for a in axes)
        and operator in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
    ):
        return term
    if operator in ("ReduceMean", "ReduceSum") and term.operator == "Scale":
        return through(terms, term, lambda t: reduced(terms, operator, t, axes))
    shape = None
    if term.shape is not None:
        shape = tuple(1 if a in axes else n for a, n in enumerate(term.shape))
    return terms.make(operator, [term], given(axes=axes), dtype=term.dtype, shape=shape)


def normalised(terms: Terms, x: Term, axes: Sequence[int], epsilon: float, centred: bool) -> Term:
    """A term divided by its deviation along axes, or by its root mean square."""
    if centred:
        x = added(terms, x, scaled(terms, reduced(terms, "ReduceMean", x, axes), -1.0))
    square = reduced(terms, "ReduceMean", multiplied(terms, x, x), axes)
    root = rooted(terms, added(terms, square, number(terms, epsilon, x)))
    return multiplied(terms, x, inverted(terms, root))


def axis_of(call: Call, name: str = "axis", default: int = 0, term: Term | None = None) -> int:
    """An axis, counted from the first."""
    axis = int(call.attributes.get(name, default))
    rank = (term or call.first()).rank
    if axis >= 0:
        return axis
    if rank is None:
        raise NoForm(f"{call.node.op_type} counts axes from the end of a tensor of unknown rank")
    return axis + rank


def axes_of(call: Call, place: int = 1) -> list[int] | None:
    """Axes that are an attribute or an operand; None where they are neither, or are not known."""
    found = call.attributes.get("axes")
    operand = call.operand(place)
    if operand is not None:
        whole = operand.whole
        if whole is None:
            return None
        found = whole.ravel().tolist()
    if found is None:
        return None
    rank = call.first().rank
    if rank is None and any(a < 0 for a in found):
        return None
    return [int(a) + (rank or 0) if a < 0 else int(a) for a in found]


def counted(call: Call, name: str, place: int) -> list[int] | None:
    """Whole numbers that are an attribute in older versions, and an operand in newer ones; None where not known."""
    operand = call.operand(place)
    if operand is not None:
        return None if operand.whole is None else [int(v) for v in operand.whole.ravel()]
    found = call.attributes.get(name)
    return None if found is None else [int(v) for v in found]


__all__ = ["RULES", "Call", "generic", "rewrite"]
