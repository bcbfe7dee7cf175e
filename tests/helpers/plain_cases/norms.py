"""Norms, plain, of a sum, and of embeddings."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ..draws import Draw, maybe, reals, some
from .base import Case, case, size, sizes


@case("SimplifiedLayerNormalization", domain="")
def simplified_layer_normalization(draw: Draw) -> Case:
    shape = sizes(draw, 1, 3)
    axis = draw(st.integers(0, len(shape) - 1))
    attributes = some(draw, epsilon=[1e-3, 0.5], stash_type=[1])
    if axis < len(shape) - 1 or draw(st.booleans()):
        attributes["axis"] = draw(st.sampled_from([axis, axis - len(shape)]))
    results = draw(st.sampled_from([["r0"], ["r0", "r1"]]))
    return Case([reals(draw, *shape), reals(draw, *shape[axis:])], attributes, results)


def rows(draw: Draw, *shape: int) -> np.ndarray:
    """Rows of numbers that lie apart: otherwise their norm magnifies how the operators round."""
    return 2 * np.arange(shape[-1], dtype=np.float32) + reals(draw, *shape) / 10


def skipping(draw: Draw) -> tuple[list[int], list[np.ndarray]]:
    """A shape, and two maps of which the second may have no batch of its own."""
    shape = sizes(draw, 2, 3)
    others = [shape, shape[-2:], [1, *shape[-2:]]] if len(shape) == 3 else [shape]
    return shape, [rows(draw, *shape), reals(draw, *draw(st.sampled_from(others))) / 10]


@case("SkipLayerNormalization")
def skip_layer_normalization(draw: Draw) -> Case:
    shape, maps = skipping(draw)
    others = [maybe(draw, lambda: reals(draw, shape[-1]) / 10) for _ in range(2)]
    operands = [*maps, reals(draw, shape[-1]), *others]
    results = draw(st.sampled_from([["r0"], ["r0", "", "", "r1"]]))
    return Case(operands, some(draw, epsilon=[1e-3, 0.5]), results)


@case("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(draw: Draw) -> Case:
    shape, maps = skipping(draw)
    operands = [*maps, reals(draw, shape[-1]), maybe(draw, lambda: reals(draw, shape[-1]) / 10)]
    results = draw(st.sampled_from([["r0"], ["r0", "", "", "r1"]]))
    return Case(operands, some(draw, epsilon=[1e-3, 0.5]), results)


@case("EmbedLayerNormalization")
def embed_layer_normalization(draw: Draw) -> Case:
    batch, length, width = size(draw), size(draw), size(draw)

    def numbers(rows: int, least: int, most: int) -> np.ndarray:
        generator = np.random.default_rng(draw(st.integers(0, 99)))
        return generator.integers(least, most, (rows, length)).astype(np.int32)

    segments = (
        [numbers(batch, 0, 2), reals(draw, 2, width) / 10] if draw(st.booleans()) else [None, None]
    )
    tables = [rows(draw, 5, width), reals(draw, 6, width) / 10]
    operands = [numbers(batch, 0, 5), segments[0], *tables, segments[1]]
    operands += [reals(draw, width), reals(draw, width), maybe(draw, lambda: numbers(batch, -1, 3))]
    operands += [maybe(draw, lambda: numbers(draw(st.sampled_from([1, batch])), 0, 6))]
    results = draw(st.sampled_from([["r0", "r1"], ["r0", "r1", "r2"], ["r0", "", "r2"]]))
    return Case(operands, some(draw, epsilon=[1e-3], mask_index_type=[0, 1]), results)


@case("GatedRMSNorm")
def gated_norm(draw: Draw) -> Case:
    *outer, heads, run = sizes(draw, 3, 4)
    shape = [*outer, heads * run]
    attributes = some(draw, activation=["silu", "swish", "sigmoid"], epsilon=[1e-3, 0.5])
    return Case([reals(draw, *shape), reals(draw, run), reals(draw, *shape)], attributes)


@case("QEmbedLayerNormalization")
def quantised_embed_layer_normalization(draw: Draw) -> Case:
    batch, length, width = size(draw), size(draw), size(draw) + 4
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    has_segments = draw(st.booleans())

    def numbers(most: int, *shape: int) -> np.ndarray:
        return generator.integers(0, most, shape).astype(np.int32)

    def table(*shape: int) -> np.ndarray:
        # Rows of numbers that lie apart: otherwise their norm magnifies how operators round.
        spread = 40 * np.arange(shape[-1]) + generator.integers(0, 9, shape)
        return spread.astype(np.uint8)

    tables = [
        table(7, width),
        table(length + 2, width),
        table(3, width),
        table(width),
        table(width),
    ]
    scales = [np.array(0.1 * (k + 1), np.float32) for k in range(5)]
    zeros = [np.array(generator.integers(0, 99), np.uint8) for _ in range(5)]
    if not has_segments:
        for items in (tables, scales, zeros):
            items[2] = None  # type: ignore[call-overload]
    mask = maybe(draw, lambda: numbers(2, batch, length))
    segments = numbers(3, batch, length) if has_segments else None
    operands = [numbers(7, batch, length), segments, *tables, mask, *scales, *zeros]
    return Case(operands, some(draw, epsilon=[1e-3, 0.5]), ["r0", "r1"])
