"""Attention, of one projection or of three, under masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ..draws import Draw, maybe, reals, some
from .base import Case, case, size


def masks(
    draw: Draw, batch: int, queries: int, keys: int
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """A mask, and what it adds.

    Where that is large every query sees a key, for rounding is large where it sees none.
    """
    generator = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    shape = draw(st.sampled_from([(batch, keys), (batch, queries, keys)]))
    mask = generator.integers(-1, 3, shape).astype(np.int32)
    attributes = some(
        draw, mask_filter_value=[-1.0, -50.0], scale=[0.0, 0.7, -0.3], unidirectional=[0]
    )
    if "mask_filter_value" not in attributes:
        mask[..., generator.integers(0, keys)] = 1
    return (mask if draw(st.booleans()) else None), attributes


def score_bias(draw: Draw, batch: int, heads: int, queries: int, keys: int) -> np.ndarray | None:
    return maybe(
        draw,
        lambda: reals(
            draw,
            draw(st.sampled_from([1, batch])),
            draw(st.sampled_from([1, heads])),
            queries,
            keys,
        ),
    )


@case("Attention")
def attention(draw: Draw) -> Case:
    batch, length, inner, heads = size(draw, 3), size(draw), size(draw), size(draw, 3)
    width = heads * size(draw, 3)
    mask, attributes = masks(draw, batch, length, length)
    widths = [width, width, width]
    if draw(st.booleans()):
        widths[2] = heads * size(draw, 3)
        attributes["qkv_hidden_sizes"] = widths
    operands = [
        reals(draw, batch, length, inner),
        reals(draw, inner, sum(widths)) / 2,
        reals(draw, sum(widths)),
    ]
    bias = score_bias(draw, batch, heads, length, length)
    return Case([*operands, mask, None, bias], attributes | {"num_heads": heads})


@case("MultiHeadAttention")
def multi_head_attention(draw: Draw) -> Case:
    batch, queries, keys, heads = size(draw, 3), size(draw), size(draw), size(draw, 3)
    width, values = heads * size(draw, 3), heads * size(draw, 3)
    mask, attributes = masks(draw, batch, queries, keys)
    operands = [
        reals(draw, batch, queries, width),
        reals(draw, batch, keys, width),
        reals(draw, batch, keys, values),
    ]
    operands += [
        maybe(draw, lambda: reals(draw, 2 * width + values)),
        mask,
        score_bias(draw, batch, heads, queries, keys),
    ]
    return Case(operands, attributes | {"num_heads": heads})
