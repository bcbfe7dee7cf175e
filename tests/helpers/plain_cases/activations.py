"""Activations, and biases that are fused with what stands behind them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy import special

from ..draws import Draw, maybe, reals, some
from .base import Case, case, defined, present, sizes


@case("Gelu")
def gelu(draw: Draw) -> Case:
    return Case([reals(draw, *sizes(draw, 0, 3))])


@case("QuickGelu")
def quick_gelu(draw: Draw) -> Case:
    return Case([reals(draw, *sizes(draw, 1, 3))], some(draw, alpha=[1.0, 1.702, -0.5]))


@case("FastGelu")
def fast_gelu(draw: Draw) -> Case:
    shape = sizes(draw, 1, 3)
    return Case([reals(draw, *shape), maybe(draw, lambda: reals(draw, shape[-1]))])


@case("BiasGelu")
def bias_gelu(draw: Draw) -> Case:
    shape = sizes(draw, 1, 3)
    return Case([reals(draw, *shape), reals(draw, shape[-1])])


def erf_gelu(x: np.ndarray) -> np.ndarray:
    return (x * (1 + special.erf(x / np.sqrt(2))) / 2).astype(np.float32)


def tanh_gelu(x: np.ndarray) -> np.ndarray:
    return (x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2).astype(np.float32)


@case("BiasAdd")
def bias_add(draw: Draw) -> Case:
    shape = sizes(draw, 3, 3)
    return Case([reals(draw, *shape), reals(draw, shape[-1]), reals(draw, *shape)])


@case("BiasSplitGelu")
def bias_split_gelu(draw: Draw) -> Case:
    *shape, half = sizes(draw, 3, 3)
    return Case([reals(draw, *shape, 2 * half), reals(draw, 2 * half)])


@defined("BiasSplitGelu")
def defined_bias_split_gelu(drawn: Case) -> np.ndarray:
    first, second = np.split(sum(present(drawn)), 2, axis=-1)
    return first * erf_gelu(second)


@case("BiasDropout", "BitmaskBiasDropout")
def bias_dropout(draw: Draw) -> Case:
    shape = sizes(draw, 1, 3)
    bias = reals(draw, *draw(st.sampled_from([shape, shape[-1:]])))
    residual = maybe(draw, lambda: reals(draw, *shape))
    ratio = maybe(draw, lambda: np.array(0.5, np.float32))
    return Case([reals(draw, *shape), bias, residual, ratio], some(draw, seed=[0, 7]))


@defined("BiasAdd")
@defined("BiasDropout")
@defined("BitmaskBiasDropout")
def defined_sum(drawn: Case) -> np.ndarray:
    return sum(present(Case(drawn.operands[:3])))


@case("BiasSoftmax")
def bias_softmax(draw: Draw) -> Case:
    """The bias is as the data, with ones where it is broadcast.

    That is in front of an axis, or from that on to the axis.
    """
    shape = sizes(draw, 2, 4)
    axis = draw(st.integers(1, len(shape) - 1))
    place = draw(st.integers(0, axis))
    is_inner = draw(st.booleans())
    ones = range(place, axis) if is_inner else range(place)
    bias = [1 if k in ones else n for k, n in enumerate(shape)]
    bias = bias[0 if is_inner else draw(st.integers(0, place)) :]
    given_axis = {"axis": draw(st.sampled_from([axis, axis - len(shape)]))}
    attributes = {"is_inner_broadcast": int(is_inner)} | (
        {} if axis == 1 and draw(st.booleans()) else given_axis
    )
    return Case([reals(draw, *shape), reals(draw, *bias)], attributes)


@defined("BiasSoftmax")
def defined_bias_softmax(drawn: Case) -> np.ndarray:
    total = sum(present(drawn))
    axis = drawn.attributes.get("axis", 1) % total.ndim
    return special.softmax(total, axis=tuple(range(axis, total.ndim)))


@case("ScaledSiLU")
def scaled_silu(draw: Draw) -> Case:
    scale = maybe(draw, lambda: reals(draw))
    return Case([reals(draw, *sizes(draw, 1, 3)), scale], some(draw, alpha=[0.5, 1.702]))


@case("GatedAdd")
def gated_add(draw: Draw) -> Case:
    shape = sizes(draw, 1, 3)
    return Case([reals(draw, *shape), reals(draw, *shape), reals(draw, *shape[:-1], 1)])
