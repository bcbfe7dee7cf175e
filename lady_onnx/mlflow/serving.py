"""What MLflow does with a model beside running its ONNX file, and so can make it answer otherwise.

A model with one input gets the columns of a data frame in the order of its signature. Options of
the runtime stand beside it. An ONNX file says nothing of either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

NEUTRAL = frozenset(
    {"code", "data", "env", "loader_module", "onnx_version", "providers", "python_version"}
)
"""The settings of a flavor that leave answers as they are, or that are checked as files are found.
"""
MAX_SHOWN_CHARACTERS = 80


def read_serving(folder: Path, input_count: int) -> dict[str, Any]:
    """Read what MLflow does with a model beside running its ONNX file.

    Args:
        folder: the model's folder, or a file.
        input_count: the number of the graph's inputs.

    Returns:
        By name what was set; nothing for what is as MLflow has it by itself.
    """
    if not (folder / "MLmodel").exists():
        return {}
    from mlflow.models import Model

    model = Model.load(str(folder))
    found = {
        f"{flavor} {key}": value
        for flavor, settings in model.flavors.items()
        for key, value in settings.items()
        if value and key not in NEUTRAL
    }
    schema = model.signature.inputs if model.signature else None
    # tensors keep their order, and several inputs go by their names
    if schema and not schema.is_tensor_spec() and input_count == 1 and len(schema.inputs) > 1:
        found["columns"] = [str(name) for name in schema.input_names()]
    return found


def explain_difference(reference: Mapping[str, Any], suspect: Mapping[str, Any]) -> str | None:
    """Say what MLflow does otherwise with a suspect than with a reference; None for nothing."""
    for name in sorted({*reference, *suspect}):
        ours, theirs = reference.get(name), suspect.get(name)
        if ours != theirs:
            other = "nothing" if ours is None else _shorten(ours)
            own = "nothing" if theirs is None else _shorten(theirs)
            return f"MLflow would run it with {name} {own}, and the reference with {other}"
    return None


def _shorten(value: Any) -> str:
    text = ", ".join(map(ascii, value)) if isinstance(value, list) else ascii(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."
