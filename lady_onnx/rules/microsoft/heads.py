"""What operators with attention heads share: rotations, caches, scores and what is seen.

Spec: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..kinds import Node, Reshape, Step, Take, Transpose
from ..laws import SUM, Linear, Multilinear
from ..step_list import StepList

Shape = tuple[int, ...]


def keep_orders(w: StepList, node: Node, *operands: int) -> bool:
    """Add that operands keep the order of all their axes; tell whether any of them has axes."""
    found = [k for k in operands if k < len(node.shapes) and node.shapes[k]]
    for k in found:
        w.keep(str(k), len(node.shapes[k] or ()))
    return bool(found)


def find_operand(node: Node, operand: int | None) -> Shape | None:
    """Return the shape of an operand, None where it is left out or the node is too short."""
    given = operand is not None and operand < len(node.shapes)
    return node.shapes[operand] if given and operand is not None else None


def take_columns(w: StepList, x: str, axis: int, widths: Sequence[int]) -> list[str]:
    """Add what cuts a tensor into parts along an axis."""
    starts = np.cumsum([0, *widths[:-1]])
    return [
        w.move(x, Take(axis, np.arange(start, start + n)))
        for start, n in zip(starts, widths, strict=True)
    ]


def rotate(
    w: StepList,
    x: str,
    shape: Shape,
    tables: Sequence[str],
    turned: int,
    *,
    is_interleaved: bool = False,
    offset: int = 0,
) -> str:
    """Add what rotates dimensions of a tensor in pairs, each by an angle of its own.

    Args:
        w: gets the steps.
        x: the tensor.
        shape: its shape, [batch, places, heads, dimensions].
        tables: the tables of cosines and sines, [position, pair]; empty where the angles come from
            no operand, so that pairs keep their order. A third one tells pairs apart, [pair, batch,
            place].
        turned: the number of dimensions that are rotated.
        is_interleaved: whether the two of a pair stand beside each other, and not half of `turned`
            apart.
        offset: the first dimension that is rotated.
    """
    *outer, d = shape
    half = turned // 2
    pairs: list[Step] = [
        Take(3, np.arange(offset, offset + turned)),
        Reshape((*outer, half, 2) if is_interleaved else (*outer, 2, half)),
    ]
    free = "j" if tables else "[j]"
    text = f"b s h {free} [p]" if is_interleaved else f"b s h [p] {free}"
    sides = ["", *["[m] j"] * len(tables[:2]), *["j [c] [u]"] * len(tables[2:])]
    angles = ", ".join(sides)
    law = Linear(is_mixed_where_pinned=True)
    turning = w.relate(f"{text}{angles} -> {text}", w.move(x, *pairs), *tables, law=law)
    parts = [w.move(turning, Reshape((*outer, turned)))]
    if offset:
        parts.insert(0, w.move(x, Take(3, np.arange(offset))))
    if offset + turned < d:
        parts.append(w.move(x, Take(3, np.arange(offset + turned, d))))
    return w.join(parts, 3) if len(parts) > 1 else parts[0]


def append_to_cache(w: StepList, past: str | None, new: str) -> str:
    """Add what puts new keys or values behind those of the past.

    The past has the heads of the new ones, and in each head their dimensions.

    Args:
        w: gets the steps.
        past: what is cached, [batch, heads, places, dimensions]; None for nothing.
        new: the new ones, [batch, places, heads, dimensions].

    Returns:
        All of them, [batch, places, heads, dimensions].
    """
    if past is None:
        return new
    moved = w.move(past, Transpose((0, 2, 1, 3)))
    text = "b [x] h d, b [y] h d -> b [x] h d"
    parts = [w.relate(text, *pair, law=SUM) for pair in ((moved, new), (new, moved))]
    return w.join(parts, 1)


@dataclass(frozen=True)
class Scene:
    """What attention looks from and at.

    Attributes:
        query: the queries, [batch, places, heads, dimensions].
        keys: the keys, [batch, places, heads, dimensions].
        values: the values, [batch, places, heads, dimensions].
        shape: the shape of `query`.
        length: the number of places of `keys`.
        key_heads: the number of heads of keys and values; each is that of a run of query heads.
        is_placed: whether places are told from each other, so that they keep their order.
    """

    query: str
    keys: str
    values: str
    shape: Shape
    length: int
    key_heads: int
    is_placed: bool


def attend(
    w: StepList, scene: Scene, bias: tuple[str, Shape] | None = None, sink: str | None = None
) -> tuple[str, str]:
    """Add scaled dot-product attention.

    Args:
        w: gets the steps.
        scene: queries, keys and values.
        bias: what is added to the scores, and its shape, [batch, head, place, place]; all but the
            places may be one.
        sink: a score of every head, [heads], beside those of the places.

    Returns:
        What is seen, [batch, places, heads x dimensions], and the scores, [batch, heads, places,
        places].
    """
    (b, s, heads, d), group = scene.shape, (scene.key_heads, scene.shape[2] // scene.key_heads)
    asked = w.move(scene.query, Reshape((b, s, *group, d)))
    sides = "[b] [s] h g d, [b] [t] h d" if scene.is_placed else "b s h g d, b t h d"
    scores = w.relate(f"{sides} -> b h g s t", asked, scene.keys, law=Multilinear())
    if bias is not None:
        scores = _add_bias(w, scores, bias, (b, *group, s, scene.length))
    beside = () if sink is None else (w.move(sink, Reshape(group)),)
    sides = "b h g s {t}" if sink is None else "b h g s {t}, h g"
    shares = w.relate(f"{sides} -> b h g s t", scores, *beside)
    text = "b h g s t, b t h e -> b s (h g e)"
    seen = w.relate(text, shares, scene.values, law=Multilinear())
    return seen, w.move(shares, Reshape((b, heads, s, scene.length)))


def _add_bias(w: StepList, scores: str, bias: tuple[str, Shape], shape: Shape) -> str:
    """Add what adds a bias to scores of `shape`, [batch, heads, group, place, place]."""
    name, (batch, heads, *places) = bias
    group = shape[1:3] if heads > 1 else (1, 1)
    laid = w.move(name, Reshape((batch, *group, *places)))
    if all(n in (1, m) for n, m in zip((batch, *places), (shape[0], *shape[3:]), strict=True)):
        return w.combine(scores, laid)
    # A bias for more places than there are at the sizes that were chosen for symbolic axes.
    side = "[c] h g [u] [v]" if heads > 1 else "[c] 1 1 [u] [v]"
    return w.relate(f"b h g [s] [t], {side} -> b h g [s] [t]", scores, laid)
