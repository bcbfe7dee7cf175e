"""What the tests of commands share."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from ..helpers.networks import perceptron


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(perceptron(), path)
    return path
