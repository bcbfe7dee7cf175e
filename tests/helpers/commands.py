"""Commands as people call them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lady_onnx.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def noised(model: onnx.ModelProto) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    for t in model.graph.initializer:
        a = numpy_helper.to_array(t)
        t.CopyFrom(
            numpy_helper.from_array(
                (a + 0.05 * rng.standard_normal(a.shape)).astype(np.float32), t.name
            )
        )
    return model
