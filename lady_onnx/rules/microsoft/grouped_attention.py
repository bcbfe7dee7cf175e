"""Attention in which several query heads share a key head, with rotations, norms and caches.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...errors import UnknownStructureError
from ...vocabulary.structure import MICROSOFT
from ..kinds import Kind, Node, Reshape, Take, require_shape
from ..laws import SUM, Linear
from ..registry import register
from ..step_list import StepList
from .heads import (
    Scene,
    Shape,
    attend,
    find_operand,
    keep_orders,
    rotate,
    take_columns,
)


@dataclass(frozen=True)
class GroupedOperands:
    """Where an operator has its operands.

    Operands 0, 1 and 2 are queries, keys and values. Without keys and values the first one has all
    of them side by side. Operands 3 and 4 are the caches of keys and values.

    Attributes:
        kept: those that tell places from each other: lengths, positions, masks, indices.
        tables: the cosines of the rotation; behind them stand the sines.
        bias: what is added to the scores.
        sink: a score of every head beside those of the places.
        norms: the gain of the norm of queries; behind it stands that of keys.
        scales: the scales of the cached keys; behind them stand those of values.
        others: keys that are looked at beside the cached ones; behind them stand values.
        layouts: which places heads see, of which there may be several ways.
        is_paged: whether tokens of all sequences stand side by side, and caches are pages,
            [page, place, heads, dimensions].
    """

    kept: tuple[int, ...]
    tables: int
    bias: int | None = None
    sink: int | None = None
    norms: int | None = None
    scales: int | None = None
    others: int | None = None
    layouts: int | None = None
    is_paged: bool = False


GROUPED = {
    "GroupQueryAttention": GroupedOperands((5, 6, 9), 7, bias=10, sink=11, norms=14, scales=12),
    "SparseAttention": GroupedOperands((5, 6, 7, 8), 9, layouts=5),
    "DynamicSparseAttention": GroupedOperands((7, 8, 9, 10, 13), 11, sink=16, norms=14, others=5),
    "PagedAttention": GroupedOperands(
        (5, 6, 7, 10, 16), 8, sink=11, norms=12, scales=14, is_paged=True
    ),
    "SparsePagedAttention": GroupedOperands(
        (5, 6, 7, 8, 9, 10, 13, 21), 14, sink=16, norms=17, scales=19, others=11, is_paged=True
    ),
}
"""By operator where it has its operands."""


GROWING = ("GroupQueryAttention", "DynamicSparseAttention")
"""Operators that return longer caches than they are given; others write into theirs."""


@dataclass(frozen=True)
class _Sizes:
    """The sizes of an attention node.

    Attributes:
        batch: how many sequences there are; one with all tokens where caches are pages.
        length: how many places queries have.
        key_length: how many places new keys have.
        heads: how many query heads there are.
        key_heads: how many key heads there are.
        dimensions: how many dimensions a head has.
        seen: how many of them a value has.
        is_latent: whether keys are values as well.
    """

    batch: int
    length: int
    key_length: int
    heads: int
    key_heads: int
    dimensions: int
    seen: int
    is_latent: bool


def _find_sizes(node: Node) -> _Sizes:
    """Return the sizes of a node, by its queries, keys and attributes."""
    *outer, width = require_shape(node)
    heads, keys = int(node.attributes["num_heads"]), int(node.attributes["kv_num_heads"])
    is_latent = node.attributes.get("kv_cache_layout") == b"LATENT"
    given = find_operand(node, 1)
    d = width // (heads if given else heads + (1 if is_latent else 2) * keys)
    seen = int(node.attributes.get("v_head_size", 0)) or d
    b, s = outer if len(outer) == 2 else (1, outer[0])
    return _Sizes(b, s, given[-2] if given else s, heads, keys, d, seen, is_latent)


def find_grouped_shapes(node: Node) -> list[Shape]:
    """Return the shapes of results: what is seen, and the caches as far as they are known."""
    size, is_paged = _find_sizes(node), GROUPED[node.operator].is_paged
    shapes: list[Shape] = [(*require_shape(node)[:-1], size.heads * size.seen)]
    for which in (0, 1):
        past = find_operand(node, 3 + which)
        if past is None:
            break
        longer = size.key_length if _grows(node) else 0
        # A cache may have a symbolic length of dimensions: they are those of the keys.
        is_known = is_paged or size.is_latent or _is_packed(node, size, which)
        dimensions = past[3] if is_known else size.dimensions
        shapes.append((*past[:2], past[2] + longer, dimensions))
    return shapes


@register(*GROUPED, domain=MICROSOFT, shape=find_grouped_shapes, typed_like=0)
def describe_grouped_attention(node: Node) -> Kind:
    """Orders of key heads, of the queries of each, and inside them; caches keep theirs.

    A norm of queries or keys has one gain for all heads, so dimensions have one order in all of
    them. So have the pairs that turn, which are in the order of the tables' columns.
    """
    w, at, size = StepList(), GROUPED[node.operator], _find_sizes(node)
    query, key, value = _list_parts(w, node, size)
    query = _prepare(w, node, query, (size.length, size.heads), size, at.norms)
    key = _prepare(w, node, key, (size.key_length, size.key_heads), size, at.norms and at.norms + 1)
    keep_orders(w, node, *at.kept)
    key, *caches = _store(w, node, key, size, 0)
    if value is None:
        # A latent key is the value as well, as far as a value reaches.
        value = w.move(key, Take(3, np.arange(size.seen)))
    else:
        value, *more = _store(w, node, value, size, 1)
        caches += more
    if at.others is not None:
        key, value = _look_beside(w, node, at.others, key, value)
    shape = (size.batch, size.length, size.heads, size.dimensions)
    bias = find_operand(node, at.bias)
    seen, scores = attend(
        w,
        Scene(query, key, value, shape, size.key_length, size.key_heads, is_placed=True),
        None if bias is None else (str(at.bias), bias),
        None if find_operand(node, at.sink) is None else str(at.sink),
    )
    if at.layouts is not None and require_shape(node, at.layouts)[0] > 1:
        # Heads take in turn the ways in which places are seen, so that they are not alike.
        w.relate("b [h] s t -> b [h] s t", scores)
    if at.is_paged:
        seen = w.move(seen, Reshape((size.length, size.heads * size.seen)))
    return w.finish(*[seen, *caches, scores][: node.results])


def _list_parts(w: StepList, node: Node, size: _Sizes) -> tuple[str, str, str | None]:
    """Add what lays queries, keys and values out by heads, [batch, places, heads, dimensions]."""
    counts = [size.heads, size.key_heads, *([] if size.is_latent else [size.key_heads])]
    parts = [str(k) for k in range(len(counts))]
    if find_operand(node, 1) is None:
        last = len(require_shape(node)) - 1
        parts = take_columns(w, "0", last, [n * size.dimensions for n in counts])
    elif not size.is_latent and find_operand(node, 2) is None:
        raise UnknownStructureError("keys without values")
    lengths = [size.length, size.key_length, size.key_length]
    laid = [
        w.move(part, Reshape((size.batch, length, count, size.dimensions)))
        for part, length, count in zip(parts, lengths, counts, strict=False)
    ]
    return laid[0], laid[1], None if size.is_latent else laid[2]


def _prepare(
    w: StepList, node: Node, x: str, outer: tuple[int, int], size: _Sizes, norm: int | None
) -> str:
    """Add the norm and the rotation of queries or keys.

    Args:
        w: gets the steps.
        node: the node.
        x: the queries or keys, [batch, places, heads, dimensions].
        outer: how many places and heads they have.
        size: the sizes of the node.
        norm: the operand with the gain of their norm.
    """
    at = GROUPED[node.operator]
    if find_operand(node, norm) is not None:
        x = w.relate("b s h {d}, d -> b s h d", x, str(norm))
    if not node.attributes.get("do_rotary"):
        return x
    return rotate(
        w,
        x,
        (size.batch, *outer, size.dimensions),
        (str(at.tables), str(at.tables + 1)),
        2 * require_shape(node, at.tables)[1],
        is_interleaved=bool(node.attributes.get("rotary_interleaved")),
        offset=int(node.attributes.get("rotary_offset", 0)),
    )


def _store(w: StepList, node: Node, x: str, size: _Sizes, which: int) -> tuple[str, str]:
    """Add what puts new keys or values into their cache, which has their heads and dimensions.

    Args:
        w: gets the steps.
        node: the node.
        x: the new ones, [batch, places, heads, dimensions].
        size: the sizes of the node.
        which: 0 for keys, 1 for values.

    Returns:
        The new ones, and the cache with them.
    """
    at = GROUPED[node.operator]
    past = find_operand(node, 3 + which)
    scale = find_operand(node, at.scales and at.scales + which)
    new = (size.batch, size.key_length, size.key_heads, size.dimensions)
    # Two numbers of four bits share a byte of the cache: pairs of dimensions stay together.
    is_packed = _is_packed(node, size, which)
    inner = "d [q]" if is_packed else "d"
    pair: tuple[int, ...] = (size.dimensions // 2, 2) if is_packed else (size.dimensions,)
    side = f"b [t] h {inner}"
    stored = "[m] [z] h d" if at.is_paged else "b h [p] d"
    sides = {w.move(x, Reshape((*new[:3], *pair))): side}
    if past is not None:
        sides[str(3 + which)] = stored
    has_scale = scale is not None and math.prod(scale) > 1
    if scale is not None and has_scale:
        name = str((at.scales or 0) + which)
        name = w.move(name, Reshape((*scale[:-1], *pair))) if is_packed else name
        sides[name] = f"h 1 {inner}" if at.is_paged else f"1 h 1 {inner}"
    # Numbers that are rounded to whole ones on their way let no factor pass.
    law = None if scale is not None else SUM
    laid = w.relate(f"{', '.join(sides.values())} -> {side}", *sides, law=law)
    cache = w.relate(f"{side} -> b h [t] d", laid, law=Linear())
    if past is not None:
        turned = dict(sorted(sides.items(), key=lambda item: item[1] != stored))
        old = w.relate(f"{', '.join(turned.values())} -> {stored}", *turned, law=law)
        cache = w.join((old, cache), 2) if _grows(node) else old
    return w.move(laid, Reshape(new)), cache


def _is_packed(node: Node, size: _Sizes, which: int) -> bool:
    """Tell whether two numbers of four bits share a byte of the cache of keys (0) or values (1)."""
    at, past = GROUPED[node.operator], find_operand(node, 3 + which)
    if int(node.attributes.get("kv_cache_bit_width", 8)) == 4:
        return True
    # Only a cache of integers has scales.
    has_scales = find_operand(node, at.scales and at.scales + which) is not None
    return past is not None and has_scales and 2 * past[3] == size.dimensions


def _grows(node: Node) -> bool:
    """Tell whether a cache that is returned is longer than the one that is given."""
    return node.operator in GROWING and not node.attributes.get("sliding_window_cache")


def _look_beside(w: StepList, node: Node, others: int, key: str, value: str) -> tuple[str, str]:
    """Add what ties keys and values to those that are looked at beside them.

    Without values beside them the other keys are values as well.
    """
    if find_operand(node, others) is None:
        return key, value
    is_paged = GROUPED[node.operator].is_paged
    side = "[m] [c] h d" if is_paged else "[m] h [c] d"
    seen = others if find_operand(node, others + 1) is None else others + 1
    text = f"b [t] h d, {side} -> b [t] h d"
    return w.relate(text, key, str(others)), w.relate(text, value, str(seen))
