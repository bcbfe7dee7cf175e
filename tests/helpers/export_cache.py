"""Models that are slow to make, kept on disk for the time of one run of the tests.

The workers of pytest-xdist are processes of their own: what one has exported, the other reads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from filelock import FileLock

_folders: list[Path] = []


def set_folder(folder: Path) -> None:
    """Names the folder that all workers of this run share."""
    folder.mkdir(exist_ok=True)
    _folders[:] = [folder]


def read_or_make(name: str, make: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    """Returns the model of a name, made by whoever asks first.

    Args:
        name: Says what the model is, in full: two models never share one.
        make: Makes it.
    """
    if not _folders:
        # outside a run of pytest, as in a benchmark
        set_folder(Path(tempfile.mkdtemp(prefix="lady-onnx-exports-")))
    path = _folders[0] / f"{name}.onnx"
    # whoever comes second waits for the first, in place of the same work
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            model = make()
            # a process that is killed here leaves no half of a file under the name
            partial = path.with_suffix(".partial")
            onnx.save(model, partial)
            partial.replace(path)
    return onnx.load(path)
