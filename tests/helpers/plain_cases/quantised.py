"""Operators of whole numbers with a scale and a zero point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ..draws import Draw, average_pooling, maybe, one_of, reals, some
from .base import Case, case, size, sizes

KINDS = (np.uint8, np.int8)
"""The types of bytes."""


def whole(draw: Draw, kind: Any, *shape: int) -> np.ndarray:
    generator = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    information = np.iinfo(kind)
    return generator.integers(information.min, information.max + 1, shape).astype(kind)


def pair(
    draw: Draw, kind: Any, shape: Sequence[int] = (), size_of_result: float = 0.1
) -> list[np.ndarray]:
    """A scale and a zero point."""
    scale = size_of_result * draw(st.integers(1, 60)) / 16
    zero = np.asarray(whole(draw, kind, *shape) // 4, kind)
    scales = scale * (1 + np.arange(zero.size).reshape(shape) / 3)
    return [np.asarray(scales, np.float32), zero]


def no_scale_or_a_vector(draw: Draw) -> tuple[int, ...]:
    """The shape of a scale for a whole tensor."""
    return one_of(draw, (), (1,))


@case("QLinearAdd", "QLinearMul")
def qlinear_pair(draw: Draw) -> Case:
    kind, shape = one_of(draw, *KINDS), sizes(draw, 1, 3)
    b = [one_of(draw, 1, n) for n in shape][draw(st.integers(0, len(shape) - 1)) :]
    operands = [
        whole(draw, kind, *shape),
        *pair(draw, kind),
        whole(draw, kind, *b),
        *pair(draw, kind),
    ]
    return Case([*operands, *pair(draw, kind, size_of_result=0.5)], steps=1)


@case("QLinearLeakyRelu", "QLinearSigmoid")
def qlinear_single(draw: Draw) -> Case:
    kind = one_of(draw, *KINDS)
    operands = [whole(draw, kind, *sizes(draw, 1, 3)), *pair(draw, kind), *pair(draw, kind)]
    operands[2] = one_of(draw, operands[2], None)
    return Case(operands, steps=1)


@case("QLinearLeakyRelu")
def qlinear_leaky_relu(draw: Draw) -> Case:
    drawn = qlinear_single(draw)
    drawn.attributes |= some(draw, alpha=[0.3, 0.0])
    return drawn


@case("QLinearAveragePool")
def qlinear_average_pool(draw: Draw) -> Case:
    kind = one_of(draw, *KINDS)
    axes = draw(st.integers(1, 3))
    attributes = average_pooling(draw, axes) | some(draw, channels_last=[0, 1])
    image, channels = [draw(st.integers(6, 7)) for _ in range(axes)], size(draw)
    shape = [2, *image, channels] if attributes.get("channels_last") else [2, channels, *image]
    return Case(
        [whole(draw, kind, *shape), *pair(draw, kind), *pair(draw, kind)], attributes, steps=1
    )


@case("QLinearGlobalAveragePool")
def qlinear_global_average_pool(draw: Draw) -> Case:
    kind = one_of(draw, *KINDS)
    shape = sizes(draw, 3, 5)
    return Case(
        [whole(draw, kind, *shape), *pair(draw, kind), *pair(draw, kind)],
        some(draw, channels_last=[0, 1]),
        steps=1,
    )


@case("QLinearConcat")
def qlinear_concat(draw: Draw) -> Case:
    kind, shape = one_of(draw, *KINDS), sizes(draw, 1, 3)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    operands = pair(draw, kind)
    for _ in range(size(draw, 3)):
        shape[axis] = size(draw)
        operands += [whole(draw, kind, *shape), *pair(draw, kind)]
    return Case(operands, {"axis": axis}, steps=1)


@case("QGemm")
def qgemm(draw: Draw) -> Case:
    left, right = one_of(draw, (np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    m, k, n = size(draw), size(draw), size(draw)
    attributes = some(draw, alpha=[0.5, -1.0], transA=[0, 1], transB=[0, 1])
    a = whole(draw, left, *((k, m) if attributes.get("transA") else (m, k)))
    b = whole(draw, right, *((n, k) if attributes.get("transB") else (k, n)))
    scales = (
        pair(draw, left, no_scale_or_a_vector(draw)),
        pair(draw, right, one_of(draw, (), (1,), (n,))),
    )
    shapes = [(n,), (1, n), (m, n)]
    addend = maybe(draw, lambda: np.asarray(reals(draw, *one_of(draw, *shapes)) * 100, np.int32))
    result = pair(draw, left, size_of_result=3.0) if draw(st.booleans()) else []
    return Case([a, *scales[0], b, *scales[1], addend, *result], attributes, steps=1)


@case("MatMulIntegerToFloat")
def matmul_integer_to_float(draw: Draw) -> Case:
    left, right = one_of(draw, (np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    rows, k, n = sizes(draw, 1, 3), size(draw), size(draw)
    batches = one_of(draw, [], rows[:-1])
    weight = whole(draw, right, *batches, k, n)
    columns = () if batches else (n,)
    scales = (
        pair(draw, left, no_scale_or_a_vector(draw)),
        pair(draw, right, one_of(draw, (), (1,), columns)),
    )
    zeros = [maybe(draw, lambda: scales[0][1]), maybe(draw, lambda: scales[1][1])]
    bias = maybe(draw, lambda: reals(draw, n))
    return Case([whole(draw, left, *rows, k), weight, scales[0][0], scales[1][0], *zeros, bias])


@case("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(draw: Draw) -> Case:
    kind = one_of(draw, *KINDS)
    rows, k, n = sizes(draw, 1, 3), size(draw), size(draw)
    scale, zero = pair(draw, kind, one_of(draw, (), (1,), (n,)))
    operands = [reals(draw, *rows, k), whole(draw, kind, k, n), scale, one_of(draw, zero, None)]
    return Case([*operands, maybe(draw, lambda: reals(draw, n))])


def with_axis(draw: Draw, kind: Any) -> tuple[list[int], list[np.ndarray | None], dict[str, int]]:
    """A shape, a scale and a zero point that may be along an axis, and which that is."""
    shape = sizes(draw, 1, 3)
    if draw(st.booleans()):
        return shape, pair(draw, kind), some(draw, axis=[0])
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return shape, pair(draw, kind, (shape[axis],)), {"axis": axis}


@case("DequantizeLinear")
def dequantize_linear(draw: Draw) -> Case:
    kind = one_of(draw, np.int8, np.uint8)
    shape, (scale, zero), attributes = with_axis(draw, kind)
    return Case([whole(draw, kind, *shape), scale, one_of(draw, zero, None)], attributes)


@case("QuantizeLinear")
def quantize_linear(draw: Draw) -> Case:
    kind = one_of(draw, np.int8, np.uint8)
    shape, (scale, zero), attributes = with_axis(draw, kind)
    return Case([3 * reals(draw, *shape), scale, one_of(draw, zero, None)], attributes)
