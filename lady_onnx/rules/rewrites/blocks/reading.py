"""Reads maps that onnxruntime lays out in blocks of channels as they were before that.

The highest level of its optimiser writes convolutions and pools on such maps. A map is declared as
[batch, channel, row, column], but its numbers lie as [batch, block, row, column, channel in the
block], and the last block is filled up. How many channels a block has is not part of the file: it
depends on the processor, and is asked of the onnxruntime that runs here.

In normal form such a map is a term `Blocked` of the map itself. It is read only by what acts in the
same way on both (`maps` holds how maps in blocks are made and cut).

Source: onnxruntime/core/optimizer/nchwc_transformer.cc and onnxruntime/core/mlas/lib/reorder.cpp
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx.helper
from onnx import NodeProto, TensorProto

from ....normalform.algebra.movements import make_transpose
from ....normalform.algebra.numbering import Terms
from ....normalform.algebra.slices import make_concatenation, make_slice
from ....normalform.algebra.term import NoNormalFormError, Term
from ....runtime.sessions import measure_block_channels
from ....vocabulary.structure import MICROSOFT, normalise_domain
from ...operators.elementwise import describe_elementwise
from ...registry import find_rule
from .fillings import has_finite_filling
from .maps import (
    BLOCKED_POOLS,
    count_channels,
    is_blocked,
    keep_channels,
    make_blocked,
    read_map,
)

BLOCKED_DOMAIN = "com.microsoft.nchwc"
"""The domain of onnxruntime's operators on maps in blocks."""
PLAIN_VERSION = 20
"""The version of the default domain that the nodes made here are of."""
FUSED_ACTIVATIONS = ("FastGelu", "Gelu", "QuickGelu")
"""onnxruntime's own elementwise operators of one map."""
NodeRewriter = Callable[[NodeProto, int, Sequence[Term | None]], Sequence[Term | None]]
"""Gives the results of a node of the default domain, or of one with a plain form, at a version."""


def read_blocked_node(
    terms: Terms, node: NodeProto, operands: Sequence[Term | None], rewrite: NodeRewriter
) -> list[Term]:
    """Make the results of an operator on maps in blocks.

    Args:
        terms: makes terms.
        node: a node of `BLOCKED_DOMAIN`.
        operands: its operands.
        rewrite: makes the results of nodes that stand in no file.

    Raises:
        NoNormalFormError: if the operator, or what it reads, is not understood.
    """
    size = measure_block_channels()
    if size is None:
        raise NoNormalFormError("onnxruntime lays out no maps in blocks on this processor")
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    x = operands[0]
    if x is None:
        raise NoNormalFormError("no first operand")
    match node.op_type:
        case "ReorderInput":
            return [_reorder_input(terms, x, size, bool(given.get("channels_last")), rewrite)]
        case "ReorderOutput":
            count = int(given.get("channels", 0))
            whole = read_map(x)
            if not 0 < count <= count_channels(whole):
                raise NoNormalFormError("another number of channels than its map has")
            made = keep_channels(terms, whole, count) or make_slice(terms, whole, 1, 0, count)
            order = [0, *range(2, made.rank or 0), 1]
            return [make_transpose(terms, made, order) if given.get("channels_last") else made]
        case "Conv":
            return [_convolve(terms, node, operands, size, rewrite)]
        case "Upsample":
            return [_upsample(terms, x, given, rewrite)]
        case operator if operator in BLOCKED_POOLS:
            if given.get("ceil_mode") and given.get("count_include_pad"):
                raise NoNormalFormError(
                    "onnxruntime's pools do not agree whether places behind the padding count"
                )
            inner = onnx.helper.make_node(operator, ["x"], ["y"])
            inner.attribute.extend(node.attribute)
            return [_make_whole_blocked(terms, rewrite(inner, PLAIN_VERSION, [read_map(x)]))]
        case operator:
            raise NoNormalFormError(f"an operator on maps in blocks that is not known: {operator}")


def commute_with_blocking(
    terms: Terms,
    node: NodeProto,
    version: int,
    operands: Sequence[Term | None],
    rewrite: NodeRewriter,
) -> list[Term]:
    """Make the result of a plain operator that reads maps in blocks.

    Args:
        terms: makes terms.
        node: the node.
        version: the version of its domain.
        operands: its operands, of which one at least is a map in blocks.
        rewrite: makes the results of the same node on the maps themselves.

    Raises:
        NoNormalFormError: if the operator acts differently on maps in blocks and on the maps
            themselves.
    """
    maps = [o for o in operands if o is not None and is_blocked(o)]
    others = [o for o in operands if o is not None and not is_blocked(o)]
    inner = [o.operands[0] if o is not None and is_blocked(o) else o for o in operands]
    operator, domain = node.op_type, normalise_domain(node.domain)
    is_alike = all(o.layout == maps[0].layout and o.shape == maps[0].shape for o in maps)
    if len(node.output) != 1:
        raise NoNormalFormError("it reads a map in blocks of channels")
    if (domain, operator) == ("", "Concat") and not others:
        wholes = [read_map(o) for o in maps]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        made = make_concatenation(terms, wholes, 1) if axis == 1 else None
        if made is None:
            raise NoNormalFormError("it joins maps in blocks, and not along their channels")
        return [_make_whole_blocked(terms, [made])]
    # A reshape changes what is declared, and not how the numbers lie. `read_map` takes the map
    # again once it has its own shape.
    are_numbers = all(o.leaf is not None and o.leaf.array.size == 1 for o in others)
    is_moved = (domain, operator) == ("", "Reshape") and is_blocked(operands[0]) and len(maps) == 1
    # of several operands all but one have to be numbers, or to lie in the same way
    if not is_moved and not (_is_elementwise(domain, operator) and is_alike and are_numbers):
        raise NoNormalFormError("it reads a map in blocks of channels")
    made = rewrite(node, version, inner)[0]
    assert made is not None
    return [make_blocked(terms, made, maps[0].layout[0])]


def _is_elementwise(domain: str, operator: str) -> bool:
    """Tell whether an operator acts on every element alone."""
    if domain == MICROSOFT:
        return operator in FUSED_ACTIVATIONS
    rule = find_rule(domain, operator)
    return rule is not None and rule.order is describe_elementwise


def _make_whole_blocked(terms: Terms, made: Sequence[Term | None]) -> Term:
    """Lay a result out in blocks."""
    term = made[0]
    if term is None or term.shape is None:
        raise NoNormalFormError("a map of unknown shape")
    return make_blocked(terms, term, term.shape)


def _reorder_input(
    terms: Terms, x: Term, size: int, channels_last: bool, rewrite: NodeRewriter
) -> Term:
    """Lay a map out in blocks of `size` channels, with zeros for what fills the last block."""
    if channels_last and x.rank is not None:
        x = make_transpose(terms, x, [0, x.rank - 1, *range(1, x.rank - 1)])
    missing = -count_channels(x) % size
    if x.rank != 4 or x.dtype != TensorProto.FLOAT:
        raise NoNormalFormError("no map of single precision")
    if missing % 4:
        raise NoNormalFormError("onnxruntime lays out no such number of channels")
    if missing:
        rank = x.rank or 0
        pads = terms.make_constant(np.array([0] * (rank + 1) + [missing] + [0] * (rank - 2)))
        made = rewrite(
            onnx.helper.make_node("Pad", ["x", "pads"], ["y"]), PLAIN_VERSION, [x, pads]
        )[0]
        assert made is not None
        x = made
    return _make_whole_blocked(terms, [x])


def _convolve(
    terms: Terms, node: NodeProto, operands: Sequence[Term | None], size: int, rewrite: NodeRewriter
) -> Term:
    """Convolve a map in blocks.

    A map of fewer channels than a block has is read as it is declared.
    """
    x, weight, *rest = operands
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    if x is None or weight is None or weight.leaf is None or weight.leaf.array.ndim < 3:
        raise NoNormalFormError("a weight that is not known")
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
        raise NoNormalFormError("channels that do not fill blocks")
    if is_declared and is_blocked(x):
        raise NoNormalFormError("it reads a map in blocks as it is declared")
    x = x if is_declared else read_map(x)
    # onnxruntime lays the weight out as [outer block, inner block, places, inner in its block,
    # outer in its block]. This brings each "in its block" back behind its block.
    n = len(kernel)
    order = [0, n + 3, 1, n + 2, *range(2, n + 2)]
    apart = (outer // size, inner // lying, *kernel, lying, size)
    weight = terms.move_constant(
        weight.leaf, lambda a: a.reshape(apart).transpose(order).reshape(outer, inner, *kernel)
    )
    assert weight.leaf is not None
    if lying == size and group == 1:
        # where the weight of what fills the last block is zero, the map is read without it
        used = np.flatnonzero(weight.leaf.array.any((0, *range(2, n + 2)))).max(initial=0) + 1
        own = None
        if inner - size < used < inner and has_finite_filling(x, int(used)):
            own = keep_channels(terms, x, int(used))
        if own is not None:
            x, weight = own, terms.move_constant(weight.leaf, lambda a: a[:, :used])
    fused = onnx.helper.make_node(
        "FusedConv", [f"x{k}" if o is not None else "" for k, o in enumerate(operands)], ["y"]
    )
    fused.domain = MICROSOFT
    fused.attribute.extend(node.attribute)
    bias, addend = (*rest, None, None)[:2]
    return _make_whole_blocked(
        terms, rewrite(fused, 1, [x, weight, bias, None if addend is None else read_map(addend)])
    )


def _upsample(terms: Terms, x: Term, given: dict[str, object], rewrite: NodeRewriter) -> Term:
    """Repeat the pixels of a map in blocks."""
    scales = given.get("scales")
    if not isinstance(scales, list) or scales[:2] != [1, 1] or len(scales) != x.rank:
        raise NoNormalFormError("more channels")
    if (
        given.get("mode", b"nearest") != b"nearest"
        or given.get("coordinate_transformation_mode", b"asymmetric") != b"asymmetric"
    ):
        raise NoNormalFormError("numbers between others")
    modes = {
        "coordinate_transformation_mode": "asymmetric",
        "mode": "nearest",
        "nearest_mode": "floor",
    }
    inner = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], **modes)
    return _make_whole_blocked(
        terms,
        rewrite(
            inner,
            PLAIN_VERSION,
            [read_map(x), None, terms.make_constant(np.array(scales, np.float32))],
        ),
    )
