"""Files of arrays that a user gives as inputs and labels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ...errors import FormatError, MissingFileError


def read_data(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file by name.

    Raises:
        MissingFileError: there is no such file.
        FormatError: the file cannot be read, or holds anything but arrays.
    """
    if not Path(path).exists():
        raise MissingFileError(f"{path}: no such file; give an .npz file of arrays")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, AttributeError) as error:
        what = "not an .npz file of arrays; write one with numpy.savez"
        raise FormatError(f"{path}: {what}") from error
