"""A gate in MLflow's model registry.

Needs the extra `mlflow`: `pip install 'lady-onnx[mlflow]'`. Addresses such as `models:/name/3` are
understood wherever a path is.
"""

from __future__ import annotations

from .gate import Decision as Decision
from .gate import gate as gate

__all__ = ["Decision", "gate"]
