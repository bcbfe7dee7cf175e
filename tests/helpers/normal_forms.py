"""Outputs of models, and whether two of them are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort


def run(model: onnx.ModelProto, feed: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})


def is_same(a: Any, b: Any, room: float | None = None) -> bool:
    """Are two outputs equal, up to the rounding of their type, or up to a room of their own?"""
    if isinstance(a, list | dict) or a is None:
        return True
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind in "OSU":
        return bool((a == b).all())
    room = room or (2e-3 if a.dtype.itemsize == 2 else 1e-5)
    x, y = a.astype(np.float64), b.astype(np.float64)
    size = float(np.abs(x[np.isfinite(x)]).max(initial=0))
    return bool(np.allclose(x, y, rtol=room, atol=room * size + 1e-7, equal_nan=True))
