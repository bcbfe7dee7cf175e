"""Operators that ONNX has as well, with other operands or attributes."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ..draws import Draw, maybe, one_of, reals, some
from .base import Case, case, defined, size, sizes


@case("Trilu")
def trilu(draw: Draw) -> Case:
    offset = maybe(draw, lambda: np.array(draw(st.integers(-2, 2))))
    return Case([reals(draw, *sizes(draw, 2, 4)), offset], some(draw, upper=[0, 1]))


@case("Pad")
def pad(draw: Draw) -> Case:
    shape = [n + 2 for n in sizes(draw, 1, 3)]
    mode = some(draw, mode=["constant", "reflect", "edge"])
    pads = np.array([draw(st.integers(0, 2)) for _ in range(2 * len(shape))])
    pads = pads.reshape(one_of(draw, (-1,), (1, -1)))
    value = maybe(draw, lambda: reals(draw, *one_of(draw, (), (1,))))
    return Case([reals(draw, *shape), pads, value], mode)


@case("GatherND")
def gather_nd(draw: Draw) -> Case:
    shape = sizes(draw, 2, 3)
    depth = draw(st.integers(1, len(shape)))
    count = size(draw)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    index = np.stack([rng.integers(0, n, count) for n in shape[:depth]], axis=-1)
    return Case([reals(draw, *shape), index.astype(one_of(draw, np.int32, np.int64))])


@case("GridSample")
def grid_sample(draw: Draw) -> Case:
    batch, channels, height, width = (size(draw) for _ in range(4))
    grid = np.tanh(reals(draw, batch, size(draw), size(draw), 2)) * np.float32(1.2)
    attributes = some(draw, align_corners=[0, 1], mode=["bilinear", "nearest", "bicubic"])
    attributes |= some(draw, padding_mode=["zeros", "border", "reflection"])
    return Case([reals(draw, batch, channels, height, width), grid], attributes)


@case("ExpandDims")
def expand_dims(draw: Draw) -> Case:
    shape = sizes(draw, 1, 3)
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return Case([reals(draw, *shape), np.array(axis, np.int32)])


@case("BitmaskDropout")
def bitmask_dropout(draw: Draw) -> Case:
    ratio = maybe(draw, lambda: np.array(0.5, np.float32))
    return Case([reals(draw, *sizes(draw, 1, 3)), ratio], some(draw, seed=[0, 7]))


@defined("BitmaskDropout")
def defined_copy(drawn: Case) -> np.ndarray:
    assert drawn.operands[0] is not None
    return drawn.operands[0]
