"""Lengths that are rounded: where one is known, the kernels of onnxruntime give it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from lady_onnx.graph.loading import load_graph
from lady_onnx.normalform.form import list_declarations

from ..helpers import oracle

Draw = Any
F = np.float32
NAMES = ("n", "c", "h", "w")


def pool(draw: Draw) -> tuple[str, dict[str, Any], dict[str, np.ndarray], int]:
    operator = draw(st.sampled_from(["MaxPool", "AveragePool", "LpPool"]))
    kernel = [draw(st.integers(1, 3)) for _ in range(2)]
    chosen: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 4)) for _ in range(2)],
    }
    if draw(st.booleans()):
        chosen["pads"] = [draw(st.integers(0, k - 1)) for k in kernel] * 2
    oldest = {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}[operator]
    chosen["ceil_mode"] = draw(st.integers(0, 1))
    return operator, chosen, {}, draw(st.integers(oldest, 22))


def resize(draw: Draw) -> tuple[str, dict[str, Any], dict[str, np.ndarray], int]:
    scale = st.sampled_from([0.3, 0.5, 0.7, 0.9, 1.0, 1.1, 1.5, 2.0, 7 / 3])
    scales = np.array([1, 1, draw(scale), draw(scale)], F)
    return (
        "Resize",
        {"mode": "nearest"},
        {"roi": np.zeros(0, F), "scales": scales},
        draw(st.integers(11, 22)),
    )


def transposed(draw: Draw) -> tuple[str, dict[str, Any], dict[str, np.ndarray], int]:
    strides = [draw(st.integers(1, 3)) for _ in range(2)]
    chosen: dict[str, Any] = {
        "strides": strides,
        "output_padding": [draw(st.integers(0, s - 1)) for s in strides],
    }
    chosen["auto_pad"] = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    return "ConvTranspose", chosen, {"weight": np.ones((2, 1, 3, 3), F)}, draw(st.integers(11, 22))


def built(
    operator: str,
    chosen: dict[str, Any],
    weights: dict[str, np.ndarray],
    version: int,
    shape: list[int],
) -> ModelProto:
    node = helper.make_node(operator, ["x", *weights], ["out"], **chosen)
    starts = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    ends = [helper.make_tensor_value_info("out", TensorProto.FLOAT, NAMES)]
    held = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    graph = helper.make_graph([node], "lengths", starts, ends, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


def known_and_true(
    model: ModelProto, shape: list[int]
) -> tuple[list[object], tuple[int, ...]] | None:
    """What is known of the result's shape, and what it is; None where onnxruntime has no kernel."""
    session = oracle.opened(model.SerializeToString())
    ran = None if session is None else oracle.run(session, {"x": np.zeros(shape, F)})
    if ran is None:
        return None
    found = next(d for d in list_declarations(load_graph(model), {}) if d.name == "out")
    return [None] * 4 if found.shape is None else list(found.shape), ran[0].shape


@pytest.mark.parametrize("case", [pool, resize, transposed])
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_known_is_so(case: Any, data: st.DataObject) -> None:
    shape = [1, 2, data.draw(st.integers(3, 12)), data.draw(st.integers(3, 12))]
    model = built(*case(data.draw), shape)
    pair = known_and_true(model, shape)
    if pair is not None:
        assert all(k == n for k, n in zip(*pair, strict=True) if isinstance(k, int)), (
            onnx.printer.to_text(model)
        )


@pytest.mark.parametrize(
    ("operator", "chosen", "scales"),
    [
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, None),
        (
            "AveragePool",
            {"kernel_shape": [3, 3], "strides": [1, 1], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
            None,
        ),
        ("Resize", {"mode": "nearest"}, [1, 1, 2, 2]),
        ("Resize", {"mode": "nearest"}, [1, 1, 0.5, 1.5]),
    ],
)
def test_what_nothing_rounds_is_known(
    operator: str, chosen: dict[str, Any], scales: list[float] | None
) -> None:
    weights = {} if scales is None else {"roi": np.zeros(0, F), "scales": np.array(scales, F)}
    shape = [1, 2, 6, 8]
    pair = known_and_true(built(operator, chosen, weights, 19, shape), shape)
    assert pair is not None
    assert tuple(pair[0]) == pair[1]
