"""Attention as one operator of onnxruntime, whose heads have a key and a value each.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import UnknownStructureError
from ...vocabulary.structure import MICROSOFT
from ..kinds import Kind, Node, Reshape, Take, Transpose, require_shape
from ..laws import Linear, Multilinear
from ..registry import register
from ..step_list import StepList
from .heads import (
    Scene,
    Shape,
    append_to_cache,
    attend,
    find_operand,
    keep_orders,
    rotate,
    take_columns,
)


@dataclass(frozen=True)
class ProjectedOperands:
    """Where attention with a projection of its own has its operands.

    Operands 0, 1 and 2 are the rows, the weights of queries, keys and values side by side, and
    their biases.

    Attributes:
        kept: those that tell places from each other: masks and lengths.
        past: the keys and values of the past.
        bias: what is added to the scores.
        columns: those that each column of the weights may have one of: scales and zero points.
    """

    kept: tuple[int, ...]
    past: int | None = None
    bias: int | None = None
    columns: tuple[int, ...] = ()


PROJECTED = {
    "Attention": ProjectedOperands(kept=(3, 6), past=4, bias=5),
    "DecoderMaskedSelfAttention": ProjectedOperands(kept=(3, 6, 7, 8), past=4, bias=5),
    "PackedAttention": ProjectedOperands(kept=(3, 4), bias=5),
    "QAttention": ProjectedOperands(kept=(5,), past=8, columns=(4, 7)),
}
"""By operator where it has its operands."""


def find_projected_shape(node: Node) -> list[Shape]:
    """Return the shape of what is seen; caches are as long as the rule says."""
    total = require_shape(node, 1)[1]
    widths = node.attributes.get("qkv_hidden_sizes") or [total // 3] * 3
    return [(*require_shape(node)[:-1], widths[2])]


@register(*PROJECTED, domain=MICROSOFT, shape=find_projected_shape)
def describe_attention(node: Node) -> Kind:
    """Projection, heads of queries, keys and values, and an order inside each.

    `Attention` has a plain form as well. It is described here where its plain form says nothing:
    where later places are masked, or the mask is no table of what is kept.
    """
    w, at, heads = StepList(), PROJECTED[node.operator], int(node.attributes["num_heads"])
    rows, shape = "0", require_shape(node)
    is_packed = len(shape) == 2
    if is_packed:
        shape = (1, *shape)
        rows = w.move(rows, Reshape(shape))
    b, s, _ = shape
    total = require_shape(node, 1)[1]
    widths = node.attributes.get("qkv_hidden_sizes") or [total // 3] * 3
    query, key, value = (
        w.move(part, Reshape((b, s, heads, width // heads)))
        for part, width in zip(_project(w, node, rows, widths), widths, strict=True)
    )
    query_shape = (b, s, heads, widths[0] // heads)
    if node.attributes.get("do_rotary"):
        # The angles come from no operand.
        turned = int(node.attributes.get("rotary_embedding_dim", 0)) or query_shape[3]
        query, key = (rotate(w, x, query_shape, (), turned) for x in (query, key))
    past = find_operand(node, at.past)
    if past is not None and node.results == 1:
        raise UnknownStructureError(UNRETURNED)
    is_placed = keep_orders(w, node, *at.kept) or bool(node.attributes.get("unidirectional"))
    is_placed = is_placed or past is not None or node.results > 1
    scene = Scene(query, key, value, query_shape, s, heads, is_placed)
    pasts: list[str | None] = [None, None]
    if past is not None:
        pasts = [w.move(str(at.past), Take(0, np.array([k])), Reshape(past[1:])) for k in (0, 1)]
    scene, caches = _remember(w, node, scene, pasts, past[3] if past else 0)
    bias = find_operand(node, at.bias)
    seen, _ = attend(w, scene, None if bias is None else (str(at.bias), bias))
    if is_packed:
        seen = w.move(seen, Reshape((s, widths[2])))
    if node.results == 1:
        return w.finish(seen)
    # Keys and values lie side by side here: the cache is one tensor of both.
    lengths = past[3] if past and node.attributes.get("past_present_share_buffer") else scene.length
    flat = [w.move(x, Reshape((b, lengths, widths[0]))) for x in caches]
    laid = Reshape((b, lengths, 2, heads, widths[0] // heads)), Transpose((2, 0, 3, 1, 4))
    return w.finish(seen, w.move(w.join(flat, 2), *laid))


def _project(w: StepList, node: Node, rows: str, widths: Sequence[int]) -> list[str]:
    """Add the products that make queries, keys and values of the rows, [batch, places, width]."""
    at = PROJECTED[node.operator]
    shapes = {k: find_operand(node, k) for k in (2, *at.columns)}
    met = ["1", *(str(k) for k, shape in shapes.items() if shape not in (None, (), (1,)))]
    columns = zip(*(take_columns(w, x, int(x == "1"), widths) for x in met), strict=True)
    text = f"b s i, i n{', n' * (len(met) - 1)} -> b s n"
    law = None if at.columns else Multilinear()
    return [w.relate(text, rows, *own, law=law) for own in columns]


def _remember(
    w: StepList, node: Node, scene: Scene, pasts: list[str | None], length: int
) -> tuple[Scene, list[str]]:
    """Add what puts new keys and values behind those of the past.

    Args:
        w: gets the steps.
        node: the node.
        scene: queries, new keys and new values.
        pasts: the keys and values of the past, [batch, heads, places, dimensions]; None for none.
        length: the number of places of the past.

    Returns:
        The scene with all keys and values, and those that the node returns, [batch, places, heads,
        dimensions].
    """
    is_shared = bool(node.attributes.get("past_present_share_buffer"))
    key, value = scene.keys, scene.values
    if is_shared and node.operator.startswith("DecoderMasked"):
        # Some kernels lay such keys out with their dimensions in front of their places.
        key = w.relate("b [t] h [d] -> b [t] h [d]", key, law=Linear())
        if pasts[0] is not None:
            text = "b h [t] [d] -> b h [t] [d]"
            pasts = [w.relate(text, pasts[0], law=Linear()), pasts[1]]
    key, value = append_to_cache(w, pasts[0], key), append_to_cache(w, pasts[1], value)
    caches = [key, value] if node.results > 1 else []
    if is_shared and pasts[0] is not None:
        # The cache is as long as it was, and the new places stand somewhere in it.
        caches = [w.move(cache, Take(1, np.arange(length))) for cache in caches]
    # What is cached keeps the order of time.
    caches = [w.relate("b [t] h d -> b [t] h d", cache, law=Linear()) for cache in caches]
    return replace(scene, keys=key, values=value, length=scene.length + length), caches


UNRETURNED = "a past that is not returned: onnxruntime reads the wrong places of it"


@dataclass(frozen=True)
class HeadOperands:
    """Where attention without a projection has its operands.

    Operands 0, 1 and 2 are queries, keys and values.

    Attributes:
        kept: those that tell places from each other: masks and lengths.
        bias: what is added to the scores.
        addend: the biases of queries, keys and values, side by side.
        past: the keys of the past; behind them stand the values.
    """

    kept: tuple[int, ...]
    bias: int
    addend: int
    past: int | None = None


SEPARATE = {
    "MultiHeadAttention": HeadOperands(kept=(4, 8, 9), bias=5, addend=3, past=6),
    "DecoderMaskedMultiHeadAttention": HeadOperands(kept=(3, 7, 8, 9), bias=4, addend=10, past=5),
    "PackedMultiHeadAttention": HeadOperands(kept=(4, 5), bias=6, addend=3),
}
"""By operator where it has its operands."""


def find_separate_shape(node: Node) -> list[Shape]:
    """Return the shape of what is seen; caches are as long as the rule says."""
    query, value = require_shape(node), find_operand(node, 2)
    if value is None or len(value) > 3 or len(query) > 3:
        raise UnknownStructureError("packed operands, or heads on an axis of their own")
    return [(*query[:-1], value[-1])]


@register(*SEPARATE, domain=MICROSOFT, shape=find_separate_shape)
def describe_multi_head_attention(node: Node) -> Kind:
    """Heads, and an order of queries and keys and one of values inside each.

    `MultiHeadAttention` has a plain form as well. It is described here where its plain form says
    nothing: where later places are masked, the mask is no table of what is kept, operands are
    packed, or there is a cache.
    """
    w, at, heads = StepList(), SEPARATE[node.operator], int(node.attributes["num_heads"])
    pasts = [find_operand(node, at.past and at.past + k) for k in (0, 1)]
    if any(pasts) and node.results < 3:
        raise UnknownStructureError(UNRETURNED)
    parts = _split_heads(w, node, heads, pasts)
    parts = _add_biases(w, node, at.addend, parts)
    (query, shape), (key, (_, length, *_)), (value, (*_, size)) = parts
    kept = keep_orders(w, node, *at.kept)
    is_placed = kept or any(pasts) or node.results > 1 or node.operator != "MultiHeadAttention"
    is_placed = is_placed or bool(node.attributes.get("unidirectional"))
    scene = Scene(query, key, value, shape, length, heads, is_placed)
    names = [None if past is None else str((at.past or 0) + k) for k, past in enumerate(pasts)]
    scene, caches = _remember(w, node, scene, names, pasts[0][2] if pasts[0] else 0)
    bias = find_operand(node, at.bias)
    seen, scores = attend(w, scene, None if bias is None else (str(at.bias), bias))
    caches = [w.move(cache, Transpose((0, 2, 1, 3))) for cache in caches]
    if node.operator == "PackedMultiHeadAttention":
        seen = w.move(seen, Reshape((shape[1], heads * size)))
    return w.finish(*[seen, *caches, scores][: node.results])


Parts = list[tuple[str, Shape]]
"""Queries, keys and values, [batch, places, heads, dimensions], with their shapes."""


def _split_heads(w: StepList, node: Node, heads: int, pasts: list[Shape | None]) -> Parts:
    """Add what lays queries, keys and values out by heads.

    Args:
        w: gets the steps.
        node: the node.
        heads: the number of heads.
        pasts: the shapes of keys and values of the past.

    Raises:
        UnknownStructureError: the operands have other shapes than the specification says.
    """
    shapes = [find_operand(node, k) for k in range(3)]
    # Without batches there is one, of all tokens.
    if node.operator == "PackedMultiHeadAttention":
        shapes = [shape and (1, *shape) for shape in shapes]
    query, key, value = shapes
    if query is None or (value is not None and key is None):
        raise UnknownStructureError("an operand is missing")
    if len(query) == 5:
        return _unpack(w, "0", query)
    if key is None:
        width = query[2]
        d, e = (p[3] if p else width // (3 * heads) for p in pasts)
        columns = take_columns(w, "0", 2, [heads * d, heads * d, heads * e])
        sizes = [(*query[:2], heads, x) for x in (d, d, e)]
        return [(w.move(x, Reshape(n)), n) for x, n in zip(columns, sizes, strict=True)]
    if len(key) == 5:
        return [_split_last(w, "0", query, heads), *_unpack(w, "1", key)]
    found = [_split_last(w, "0", query, heads)]
    for name, shape in (("1", key), ("2", value)):
        if shape is None:
            raise UnknownStructureError("an operand is missing")
        if len(shape) == 4:
            b, h, t, d = shape
            found.append((w.move(name, Transpose((0, 2, 1, 3))), (b, t, h, d)))
        else:
            found.append(_split_last(w, name, shape, heads))
    return found


def _split_last(w: StepList, x: str, shape: Shape, heads: int) -> tuple[str, Shape]:
    """Add what splits the last axis, of `shape`, into heads and dimensions."""
    wide = (*shape[:2], heads, shape[2] // heads)
    return w.move(x, Reshape(wide)), wide


def _unpack(w: StepList, x: str, shape: Shape) -> Parts:
    """Add what takes the parts out of [batch, places, heads, parts, dimensions], `shape`."""
    b, s, heads, count, d = shape
    wide = (b, s, heads, d)
    laid = w.move(x, Reshape(shape))
    takes = [(Take(3, np.array([k])), Reshape(wide)) for k in range(count)]
    return [(w.move(laid, *steps), wide) for steps in takes]


def _add_biases(w: StepList, node: Node, operand: int, parts: Parts) -> Parts:
    """Add what adds to queries, keys and values their biases, which stand side by side."""
    if find_operand(node, operand) is None:
        return parts
    columns = take_columns(w, str(operand), 0, [h * d for _, (_, _, h, d) in parts])
    return [
        (w.combine(x, w.move(own, Reshape(shape[2:])), law=Linear()), shape)
        for (x, shape), own in zip(parts, columns, strict=True)
    ]


@register("LongformerAttention", domain=MICROSOFT)
def describe_longformer_attention(node: Node) -> Kind:
    """Two attentions over the same heads, one of near places and one of all; both add up."""
    # The operands: 0 input, 1 weight, 2 bias, 3 mask, 4 and 5 the same for all places, 6 which
    # places see all. Scores of near places are those of operand 1 also where all are seen.
    w, heads = StepList(), int(node.attributes["num_heads"])
    b, s, width = require_shape(node)
    keep_orders(w, node, 3, 6)
    seen = []
    for weight, bias in (("1", "2"), ("4", "5")):
        columns = zip(
            *(take_columns(w, x, int(x == weight), [width] * 3) for x in (weight, bias)),
            strict=True,
        )
        parts = [
            w.move(
                w.relate("b s i, i n, n -> b s n", "0", *own, law=Multilinear()),
                Reshape((b, s, heads, width // heads)),
            )
            for own in columns
        ]
        query, key, value = parts
        shape = (b, s, heads, width // heads)
        seen.append(attend(w, Scene(query, key, value, shape, s, heads, is_placed=True))[0])
    return w.finish(w.combine(*seen, law=Linear()))
