"""Maps that onnxruntime lays out in blocks of channels, read as they were before that.

The highest level of its optimiser writes convolutions and pools on such maps. One is declared as [batch, channel, row,
column], but its numbers lie as [batch, block, row, column, channel in the block], and the last block is filled up. How
many channels a block has is no part of the file: it depends on the processor, and is what onnxruntime has here.

In the terms of a normal form such a map is a term `Blocked` of the map itself. Only what acts alike on both reads it.

Source: onnxruntime/core/optimizer/nchwc_transformer.cc and onnxruntime/core/mlas/lib/reorder.cpp
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx.helper
from onnx import NodeProto, TensorProto

from ..equality.extents import Length
from ..equality.meanings import normalise_domain
from ..rules.plain.writer import MICROSOFT
from ..runtime.sessions import measure_block_channels
from .calls import UNARY_OPERATORS
from .layouts import make_transpose
from .rewrites import combine_terms, make_concatenation, make_multiple, make_reduction, make_slice
from .terms import NoForm, Term, Terms

BLOCKED = "com.microsoft.nchwc"
PLAIN = 20
"""The version that nodes are written in here."""
ELEMENTWISE = {
    "": (
        *UNARY_OPERATORS,
        "Add",
        "Div",
        "HardSwish",
        "Identity",
        "Max",
        "Min",
        "Mul",
        "Sub",
        "Sum",
        "Swish",
    ),
    MICROSOFT: ("FastGelu", "Gelu", "QuickGelu"),
}
"""By domain the operators that act on every element alone; of more than one operand all but one are numbers, or lie alike."""
POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")

Rewrite = Callable[[NodeProto, int, Sequence[Term | None]], Sequence[Term | None]]
"""The results of a node of the default domain, or of one that has a plain form, at a version."""


def is_blocked(term: Term | None) -> bool:
    """Is it a map in blocks of channels?"""
    return term is not None and term.operator == "Blocked"


def blocked(terms: Terms, term: Term, map_shape: tuple[Length, ...]) -> Term:
    """A map of some shape in blocks, or what is left of it where only its numbers, and how they lie, count."""
    made = terms.make(
        "Blocked", [term], (("of", repr(map_shape).encode()),), dtype=term.dtype, shape=term.shape
    )
    made.layout = (map_shape, ())
    return made


def read_blocked(
    terms: Terms, node: NodeProto, operands: Sequence[Term | None], rewrite: Rewrite
) -> list[Term]:
    """The results of an operator on maps in blocks."""
    size = measure_block_channels()
    if size is None:
        raise NoForm("onnxruntime lays out no maps in blocks on this processor")
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    x = operands[0]
    if x is None:
        raise NoForm("no first operand")
    match node.op_type:
        case "ReorderInput":
            return [_reordered(terms, x, size, bool(given.get("channels_last")), rewrite)]
        case "ReorderOutput":
            count = int(given.get("channels", 0))
            whole = plain(x)
            if not 0 < count <= channels_of(whole):
                raise NoForm("another number of channels than its map has")
            made = cut(terms, whole, count) or make_slice(terms, whole, 1, 0, count)
            order = [0, *range(2, made.rank or 0), 1]
            return [make_transpose(terms, made, order) if given.get("channels_last") else made]
        case "Conv":
            return [_convolved(terms, node, operands, size, rewrite)]
        case "Upsample":
            return [_upsampled(terms, x, given, rewrite)]
        case operator if operator in POOLS:
            if given.get("ceil_mode") and given.get("count_include_pad"):
                raise NoForm(
                    "onnxruntime's pools do not agree whether places behind the padding count"
                )
            inner = onnx.helper.make_node(operator, ["x"], ["y"])
            inner.attribute.extend(node.attribute)
            return [_whole(terms, rewrite(inner, PLAIN, [plain(x)]))]
        case operator:
            raise NoForm(f"an operator on maps in blocks that is not known: {operator}")


def commute_with_blocking(
    terms: Terms, node: NodeProto, version: int, operands: Sequence[Term | None], rewrite: Rewrite
) -> list[Term]:
    """The result of a plain operator that reads maps in blocks, where it acts alike on these and on the maps themselves."""
    maps = [o for o in operands if o is not None and is_blocked(o)]
    others = [o for o in operands if o is not None and not is_blocked(o)]
    inner = [o.operands[0] if o is not None and is_blocked(o) else o for o in operands]
    operator, domain = node.op_type, normalise_domain(node.domain)
    is_alike = all(o.layout == maps[0].layout and o.shape == maps[0].shape for o in maps)
    if len(node.output) != 1:
        raise NoForm("it reads a map in blocks of channels")
    if (domain, operator) == ("", "Concat") and not others:
        wholes = [plain(o) for o in maps]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        made = make_concatenation(terms, wholes, 1) if axis == 1 else None
        if made is None:
            raise NoForm("it joins maps in blocks, and not along their channels")
        return [_whole(terms, [made])]
    numbers = all(o.leaf is not None and o.leaf.array.size == 1 for o in others)
    is_moved = (domain, operator) == ("", "Reshape") and is_blocked(operands[0]) and len(maps) == 1
    if not is_moved and not (operator in ELEMENTWISE.get(domain, ()) and is_alike and numbers):
        raise NoForm("it reads a map in blocks of channels")
    made = rewrite(node, version, inner)[0]
    assert made is not None
    return [blocked(terms, made, maps[0].layout[0])]


def plain(term: Term) -> Term:
    """The map that lies in blocks."""
    inner = term.operands[0] if is_blocked(term) else None
    if inner is None or inner.shape != term.layout[0]:
        raise NoForm("a map that does not lie in blocks of channels is read as if it did")
    return inner


def channels_of(term: Term) -> int:
    """How many channels a map has."""
    if term.shape is None or len(term.shape) < 3 or not isinstance(term.shape[1], int):
        raise NoForm("a map of unknown channels")
    return term.shape[1]


def _whole(terms: Terms, made: Sequence[Term | None]) -> Term:
    """A result in blocks."""
    term = made[0]
    if term is None or term.shape is None:
        raise NoForm("a map of unknown shape")
    return blocked(terms, term, term.shape)


def _reordered(terms: Terms, x: Term, size: int, channels_last: bool, rewrite: Rewrite) -> Term:
    if channels_last and x.rank is not None:
        x = make_transpose(terms, x, [0, x.rank - 1, *range(1, x.rank - 1)])
    missing = -channels_of(x) % size
    if x.rank != 4 or x.dtype != TensorProto.FLOAT:
        raise NoForm("no map of single precision")
    if missing % 4:
        raise NoForm("onnxruntime lays out no such number of channels")
    if missing:
        rank = x.rank or 0
        pads = terms.constant(np.array([0] * (rank + 1) + [missing] + [0] * (rank - 2)))
        made = rewrite(onnx.helper.make_node("Pad", ["x", "pads"], ["y"]), PLAIN, [x, pads])[0]
        assert made is not None
        x = made
    return _whole(terms, [x])


def _convolved(
    terms: Terms, node: NodeProto, operands: Sequence[Term | None], size: int, rewrite: Rewrite
) -> Term:
    """A convolution; a map of fewer channels than a block has is read as it is declared."""
    x, weight, *rest = operands
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    if x is None or weight is None or weight.leaf is None or weight.leaf.array.ndim < 3:
        raise NoForm("a weight that is not known")
    outer, inner, *kernel = weight.leaf.array.shape
    is_declared, is_depthwise = (
        group == 1 and inner < size,
        group > 1 and inner == 1 and outer == group,
    )
    lying = 1 if is_declared or is_depthwise else size
    if (
        inner % lying
        or outer % size
        or (group > 1 and not is_depthwise and (outer // group) % size)
    ):
        raise NoForm("channels that do not fill blocks")
    if is_declared and is_blocked(x):
        raise NoForm("it reads a map in blocks as it is declared")
    x = x if is_declared else plain(x)
    n = len(kernel)
    order = [0, n + 3, 1, n + 2, *range(2, n + 2)]
    apart = (outer // size, inner // lying, *kernel, lying, size)
    weight = terms.moved(
        weight.leaf, lambda a: a.reshape(apart).transpose(order).reshape(outer, inner, *kernel)
    )
    assert weight.leaf is not None
    if lying == size and group == 1:
        # what fills the last block meets zeros
        used = np.flatnonzero(weight.leaf.array.any((0, *range(2, n + 2)))).max(initial=0) + 1
        own = cut(terms, x, int(used)) if inner - size < used < inner else None
        if own is not None:
            x, weight = own, terms.moved(weight.leaf, lambda a: a[:, :used])
    fused = onnx.helper.make_node(
        "FusedConv", [f"x{k}" if o is not None else "" for k, o in enumerate(operands)], ["y"]
    )
    fused.domain = MICROSOFT
    fused.attribute.extend(node.attribute)
    bias, addend = (*rest, None, None)[:2]
    return _whole(
        terms, rewrite(fused, 1, [x, weight, bias, None if addend is None else plain(addend)])
    )


def _upsampled(terms: Terms, x: Term, given: dict[str, object], rewrite: Rewrite) -> Term:
    scales = given.get("scales")
    if not isinstance(scales, list) or scales[:2] != [1, 1] or len(scales) != x.rank:
        raise NoForm("more channels")
    if (
        given.get("mode", b"nearest") != b"nearest"
        or given.get("coordinate_transformation_mode", b"asymmetric") != b"asymmetric"
    ):
        raise NoForm("numbers between others")
    modes = {
        "coordinate_transformation_mode": "asymmetric",
        "mode": "nearest",
        "nearest_mode": "floor",
    }
    inner = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], **modes)
    return _whole(
        terms, rewrite(inner, PLAIN, [plain(x), None, terms.constant(np.array(scales, np.float32))])
    )


# ---- what fills the last block


def cut(terms: Terms, term: Term, count: int) -> Term | None:
    """The first channels of a map, computed without the others; None where that is not known. One term for all that ask."""
    key = (id(term), count)
    if key not in terms.parts:
        terms.parts[key] = _cut(terms, term, count)
    return terms.parts[key]


def _cut(terms: Terms, term: Term, count: int) -> Term | None:
    if term.shape is None or term.rank is None or term.rank < 3:
        return None
    if term.shape[1] == count:
        return term
    to = (term.shape[0], count, *term.shape[2:])
    first = term.operands[0] if term.operands else None
    operator = term.operator
    if operator == "Conv":
        return _cut_convolution(terms, term, count)
    if operator in ("Sum", "Product", "Add", "Mul"):
        parts = [None if o is None else _cut_side(terms, o, term, count) for o in term.operands]
        if any(p is None for p in parts):
            return None
        sides = [p for p in parts if p is not None]
        if operator in ("Sum", "Product"):
            return combine_terms(terms, operator, sides, to)
        return terms.make(operator, sides, term.attributes, dtype=term.dtype, shape=to)
    if first is None:
        return None
    if operator == "Pad" and first.shape is not None and first.shape[1] == count:
        pads = (
            term.operands[1].whole
            if len(term.operands) == 2 and term.operands[1] is not None
            else None
        )
        is_filled = pads is not None and np.flatnonzero(pads).tolist() == [term.rank + 1]
        return first if is_filled else None
    axes = term.attribute("axes") if operator.startswith("Reduce") else []
    if isinstance(axes, list) and 1 in axes:
        return None
    # a fourth operand of a Resize counts the channels
    numbers = (
        all(o is None or o.leaf is not None for o in term.operands[1:]) and len(term.operands) < 4
    )
    # what zeros become must be a number that zeros take back
    if operator in ("Log", "Reciprocal"):
        return None
    if operator not in (*UNARY_OPERATORS, *POOLS, "Resize", "Scale") and not operator.startswith(
        "Reduce"
    ):
        return None
    inner = cut(terms, first, count) if numbers else None
    if inner is None:
        return None
    if operator == "Scale":
        return make_multiple(terms, inner, term.scale)
    if operator.startswith("Reduce") and isinstance(axes, list):
        return make_reduction(terms, operator, inner, axes)
    return terms.make(
        operator, [inner, *term.operands[1:]], term.attributes, dtype=term.dtype, shape=to
    )


def _cut_side(terms: Terms, side: Term, whole: Term, count: int) -> Term | None:
    """What is added to a map or multiplied with it, for its first channels."""
    if side.shape is None or whole.shape is None:
        return None
    axis = len(side.shape) - len(whole.shape) + 1
    if axis < 0 or side.shape[axis] == 1:
        return side
    if side.shape[axis] != whole.shape[1]:
        return None
    if side.leaf is not None:
        where = (*[slice(None)] * axis, slice(count))
        return terms.moved(side.leaf, lambda a: a[where])
    return cut(terms, side, count) if axis == 1 else None


def _cut_convolution(terms: Terms, term: Term, count: int) -> Term | None:
    x, weight, bias = term.operands
    group = term.attribute("group")
    assert x is not None
    if (
        weight is None
        or bias is None
        or weight.leaf is None
        or bias.leaf is None
        or term.shape is None
    ):
        return None
    attributes = term.attributes
    if group != 1:
        if weight.leaf.array.shape[1] != 1 or weight.leaf.array.shape[0] != group:
            return None
        inner = cut(terms, x, count)
        if inner is None:
            return None
        x = inner
        made = onnx.helper.make_attribute("group", count).SerializeToString(deterministic=True)
        attributes = tuple((n, made if n == "group" else v) for n, v in attributes)
    weight = terms.moved(weight.leaf, lambda a: a[:count])
    bias = terms.moved(bias.leaf, lambda a: a[:count])
    shape = (term.shape[0], count, *term.shape[2:])
    return terms.make("Conv", [x, weight, bias], attributes, dtype=term.dtype, shape=shape)
