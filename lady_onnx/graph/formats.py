"""Things that are given in place of an ONNX file, and the way from each of them to ONNX."""

from __future__ import annotations

import difflib
from pathlib import Path

from ..errors import MIN_NAME_SIMILARITY

TORCH_WAY = "load it in PyTorch and write it with torch.onnx.export"
KERAS_WAY = "python -m tf2onnx.convert --keras FILE --output model.onnx"
WAY_OF_SUFFIX = {
    ".pt": ("a PyTorch file", TORCH_WAY),
    ".pth": ("a PyTorch file", TORCH_WAY),
    ".ckpt": ("a checkpoint", TORCH_WAY),
    ".safetensors": (
        "weights without a graph",
        "export the model that they belong to: optimum-cli export onnx --model FOLDER OUT; then "
        "give that as --graph, and a checkpoint that it is of as --like",
    ),
    ".h5": ("a Keras file", KERAS_WAY),
    ".keras": ("a Keras file", KERAS_WAY),
    ".tflite": (
        "a TensorFlow Lite model",
        "python -m tf2onnx.convert --tflite FILE --output model.onnx",
    ),
    ".gguf": (
        "a llama.cpp model",
        "export the original model: optimum-cli export onnx --model NAME OUT",
    ),
}
"""What a file is by its suffix, and how it becomes an ONNX file."""

FOLDER_MARKS = (
    ("saved_model.pb", "python -m tf2onnx.convert --saved-model FOLDER --output model.onnx"),
    ("config.json", "optimum-cli export onnx --model FOLDER OUT"),
)
"""Files that tell what a folder is, and how it becomes an ONNX file."""

MAX_SHOWN_FILES = 3
"""The number of files of a folder that a message names."""


def is_address(path: Path | str) -> bool:
    """Tell whether something is an address on the web, also one that was made a path.

    >>> is_address("https://example.org/m.onnx"), is_address(Path("https://example.org/m.onnx"))
    (True, True)
    >>> is_address("models/m.onnx")
    False
    """
    # One letter and a colon are a drive of Windows.
    scheme, colon, rest = str(path).partition(":/")
    return bool(colon and rest) and scheme.isalpha() and len(scheme) > 1


def explain_format(path: Path) -> str | None:
    """Say in a few words what a file is instead of an ONNX model, and the way to ONNX.

    Returns:
        The explanation, or None where the file's suffix says nothing.

    >>> explain_format(Path("net.tflite"))
    'a TensorFlow Lite model; python -m tf2onnx.convert --tflite net.tflite --output model.onnx'
    >>> explain_format(Path("net.onnx")) is None
    True
    """
    if path.suffix.lower() not in WAY_OF_SUFFIX:
        return None
    what, way = WAY_OF_SUFFIX[path.suffix.lower()]
    return f"{what}; {way.replace('FILE', str(path)).replace('FOLDER', str(path.parent))}"


def explain_address(path: Path) -> str:
    """Say what to do with an address on the web, in full: a path has lost one of its slashes.

    >>> explain_address(Path("https://example.org/m.onnx"))
    'https://example.org/m.onnx: an address; download the file, and give its path'
    """
    address = str(path).replace(":/", "://", 1)
    return f"{address}: an address; download the file, and give its path"


def explain_folder(path: Path) -> str:
    """Say which file of a folder to give, or how what is in it becomes an ONNX file."""
    models = sorted(file.name for file in path.glob("*.onnx"))
    if models:
        rest = f" and {len(models) - MAX_SHOWN_FILES} more" * (len(models) > MAX_SHOWN_FILES)
        return f"give a file in it: {', '.join(models[:MAX_SHOWN_FILES])}{rest}"
    for mark, way in FOLDER_MARKS:
        if (path / mark).exists():
            return f"it holds no .onnx file; {way.replace('FOLDER', str(path))}"
    return "it holds no .onnx file; give the path of one"


def suggest_path(path: Path) -> str:
    """Return a question that names the file closest to a missing one, or an empty text."""
    try:
        known = [file.name for file in path.parent.iterdir()]
    except (OSError, ValueError):
        return ""
    close = difflib.get_close_matches(path.name, known, 1, MIN_NAME_SIMILARITY)
    return f"did you mean '{path.with_name(close[0])}'? " if close else ""
