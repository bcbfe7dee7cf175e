"""Check where results go, before any work is done."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import OutputError


def claim_destination(path: Path, taken: set[Path]) -> Path:
    """Check that a result can be written to a path, and take the path for it.

    Args:
        path: the file to write.
        taken: the files of the inputs and of other results; the new one is added.

    Returns:
        The path.

    Raises:
        OutputError: it would overwrite one of `taken`, or cannot be written.
    """
    try:
        # A model with external data is written to two files (`Graph.save`).
        places = {path.resolve(), path.with_name(f"{path.name}.data").resolve()}
    except ValueError as error:
        raise OutputError(f"{path}: {error}; choose another name") from error
    if places & taken:
        what = "would overwrite an input or another result; choose another name"
        raise OutputError(f"{path}: {what}")
    taken |= places
    folder = path.parent
    if not folder.is_dir():
        why = "is not a folder" if folder.exists() else "does not exist"
        what = f"cannot write there: '{folder}' {why}; choose another folder"
        raise OutputError(f"{path}: {what}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: cannot write there: no permission; choose another folder")
    return path
