"""Convolutions and products that are fused with what stands beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import helper

from ..draws import Draw, activation, maybe, reals, some
from .activations import tanh_gelu
from .base import Case, case, defined, present, run, size, sizes


@case("FusedConv")
def fused_conv(draw: Draw) -> Case:
    attributes, operands = convolution(draw)
    result = run(
        [helper.make_node("Conv", ["x", "w"], ["r"], **attributes)],
        dict(zip("xw", operands[:2], strict=True)),
        ["r"],
    )
    addend = maybe(draw, lambda: reals(draw, *result[0].shape))
    return Case([*operands, addend], attributes | activation(draw))


def convolution(draw: Draw) -> tuple[dict[str, Any], list[Any]]:
    """The attributes of a convolution, and its operands."""
    axes = draw(st.integers(1, 3))
    group, inner, outer = size(draw, 3), size(draw, 3), size(draw, 3)
    kernel = [size(draw, 3) for _ in range(axes)]
    attributes = some(
        draw,
        strides=[[1] * axes, [2] * axes],
        dilations=[[2] * axes, [1] * axes],
        kernel_shape=[kernel],
    )
    attributes |= draw(
        st.sampled_from(
            [{}, {"pads": [1] * axes + [0] * axes}, {"pads": [1] * 2 * axes}, {"auto_pad": "VALID"}]
        )
    )
    if "dilations" not in attributes and "pads" not in attributes:
        attributes |= some(draw, auto_pad=["SAME_UPPER", "SAME_LOWER"])
    image = [draw(st.integers(6, 7)) for _ in range(axes)]
    weight = reals(draw, group * outer, inner, *kernel)
    operands = [
        reals(draw, 2, group * inner, *image),
        weight,
        maybe(draw, lambda: reals(draw, group * outer)),
    ]
    return attributes | ({"group": group} if group > 1 or draw(st.booleans()) else {}), operands


@case("FusedGemm")
def fused_gemm(draw: Draw) -> Case:
    m, k, n = size(draw), size(draw), size(draw)
    attributes = some(draw, alpha=[0.5, -1.0], beta=[0.5, -1.0], transA=[0, 1], transB=[0, 1])
    kinds: list[dict[str, Any]] = [
        {"activation": k} for k in ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
    ]
    kinds += [
        {"activation": k, "activation_alpha": 0.3} for k in ("Elu", "LeakyRelu", "ThresholdedRelu")
    ]
    kinds += [{"activation": "HardSigmoid", "activation_alpha": 0.3, "activation_beta": 0.4}]
    kinds += [{"activation": "Selu", "activation_alpha": 0.3, "activation_gamma": 0.4}]
    a = reals(draw, *((k, m) if attributes.get("transA") else (m, k)))
    b = reals(draw, *((n, k) if attributes.get("transB") else (k, n)))
    c = maybe(
        draw, lambda: reals(draw, *draw(st.sampled_from([(n,), (1, n), (m, 1), (m, n), (1,), ()])))
    )
    return Case([a, b, c], attributes | draw(st.sampled_from(kinds)))


def product(draw: Draw, batched: bool) -> Case:
    m, k, n = size(draw), size(draw), size(draw)
    attributes = some(draw, alpha=[0.5, -1.0, 1.0], transA=[0, 1], transB=[0, 1])
    batches = sizes(draw, 1, 2) if batched else sizes(draw, 0, 2)
    if batched:
        attributes |= some(draw, transBatchA=[0, 1], transBatchB=[0, 1])
    operands = []
    for side, (rows, columns) in {"A": (m, k), "B": (k, n)}.items():
        own = [draw(st.sampled_from([1, b])) for b in batches]
        if not batched:
            own = own[draw(st.integers(0, len(own))) :]
        if attributes.get("trans" + side):
            rows, columns = columns, rows
        shape = (
            [rows, *own, columns] if attributes.get("transBatch" + side) else [*own, rows, columns]
        )
        operands.append(reals(draw, *shape))
    if not batched and draw(st.booleans()):
        operands[0] = reals(draw, k)
    elif not batched and not attributes.get("transA") and draw(st.booleans()):
        operands[1] = reals(draw, k)
    return Case(operands, attributes)


@case("FusedMatMul")
def fused_matmul(draw: Draw) -> Case:
    return product(draw, draw(st.booleans()))


@case("TransposeMatMul")
def transpose_matmul(draw: Draw) -> Case:
    return product(draw, False)


@case("GemmFastGelu")
def gemm_fast_gelu(draw: Draw) -> Case:
    rows, k, n = sizes(draw, 1, 3), size(draw), size(draw)
    return Case(
        [reals(draw, *rows, k), reals(draw, k, n), *draw(st.sampled_from([[], [reals(draw, n)]]))]
    )


@defined("GemmFastGelu")
def defined_gemm_fast_gelu(drawn: Case) -> np.ndarray:
    x, w, *bias = present(drawn)
    return tanh_gelu(x @ w + sum(bias))


@case("FusedMatMulActivation")
def fused_matmul_activation(draw: Draw) -> Case:
    m, k, n = size(draw), size(draw), size(draw)
    kinds: list[dict[str, Any]] = [{"activation": k} for k in ("Relu", "Tanh")]
    kinds.append({"activation": "LeakyRelu", "activation_alpha": 0.3})
    attributes = some(draw, alpha=[0.5, -1.0], transA=[0, 1], transB=[0, 1])
    a = reals(draw, *((k, m) if attributes.get("transA") else (m, k)))
    b = reals(draw, *((n, k) if attributes.get("transB") else (k, n)))
    return Case([a, b], attributes | draw(st.sampled_from(kinds)))


@defined("FusedMatMulActivation")
def defined_fused_matmul_activation(drawn: Case) -> np.ndarray:
    given = drawn.attributes
    a, b = present(drawn)
    a, b = a.T if given.get("transA") else a, b.T if given.get("transB") else b
    y = (a @ b) * np.float32(given.get("alpha", 1.0))
    if given["activation"] == "Tanh":
        return np.tanh(y)
    slope = np.float32(given.get("activation_alpha", 0))
    return np.where(y > 0, y, slope * y).astype(np.float32)
