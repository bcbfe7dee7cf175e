"""External data: weights that lie in a file of their own beside the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import onnx
import onnx.numpy_helper
from onnx import TensorProto

from ..errors import LadyError, to_one_line
from ..rules.vocabulary.types import PACKED_TYPES

PAGE_BYTES = 4096
"""Weights begin at multiples of this, so that they can be mapped into memory."""


def is_external(tensor: TensorProto) -> bool:
    """Tell whether a weight's values lie in a file of their own."""
    return tensor.data_location == TensorProto.EXTERNAL


def locate_data(tensor: TensorProto, folder: Path | None) -> Path | None:
    """Return the file of a weight's external data, None where it has none or no folder is known."""
    if not is_external(tensor) or folder is None:
        return None
    entries = (entry.value for entry in tensor.external_data if entry.key == "location")
    return (folder / next(entries, "")).resolve()


def map_data(tensor: TensorProto, folder: Path | None, where: str) -> np.ndarray:
    """Map the external data of a weight into memory.

    Args:
        tensor: the weight.
        folder: the folder of its model, None for a model in memory.
        where: the model and the weight, for messages.

    Returns:
        The bytes, uint8 [size], read-only.

    Raises:
        LadyError: the data are missing, too short, or outside the model's folder.
    """
    if folder is None:
        what = "a model in memory has no folder; load it with its data, or give its path"
        raise LadyError(f"{where}: {what}")
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location = fields.get("location", "")
    file = folder / location
    # A model must not be able to read files that its user did not give.
    if Path(location).is_absolute() or not file.resolve().is_relative_to(folder.resolve()):
        raise LadyError(f"{where}: '{location}' lies outside the model's folder; move it there")
    # The shape says how much is read, and the entry `length` is not asked: it could say otherwise.
    size = _count_bytes(tensor)
    try:
        offset = int(fields.get("offset", 0))
        if offset < 0 or file.stat().st_size < offset + size:
            what = f"'{location}' is shorter than the model says; copy it again"
            raise LadyError(f"{where}: {what}")
        return np.memmap(file, np.uint8, "r", offset, (size,)) if size else np.empty(0, np.uint8)
    except OSError as error:
        what = f"'{location}': {error.strerror}; put it beside the model"
        raise LadyError(f"{where}: {what}") from error
    except ValueError as error:
        what = f"'{location}': {to_one_line(error)}; export the model again"
        raise LadyError(f"{where}: {what}") from error


def _count_bytes(tensor: TensorProto) -> int:
    """Return the number of bytes of a weight's values."""
    # A product that overflows is refused where the bytes are given the tensor's shape.
    count = int(np.prod(tensor.dims, dtype=np.int64))
    itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return (count + 1) // 2 if tensor.data_type in PACKED_TYPES else count * itemsize


def write_data(
    file: IO[bytes],
    location: str,
    weights: Sequence[tuple[str, TensorProto]],
    read: Callable[[str], np.ndarray],
    changed: frozenset[str],
) -> None:
    """Write weights to a file of external data, and where they lie there into their tensors.

    Args:
        file: the open file.
        location: its name, as the model gives it.
        weights: the weights by name, with their tensors in the model that will be written.
        read: returns the values of a weight by its name.
        changed: the names of weights whose values are not those of their file.
    """
    for name, tensor in weights:
        file.write(b"\0" * (-file.tell() % PAGE_BYTES))
        start = file.tell()
        # Two elements of a packed type share a byte in the file, and not in memory.
        if name in changed or tensor.data_type in PACKED_TYPES:
            file.write(onnx.numpy_helper.from_array(read(name), name).raw_data)
        else:
            read(name).tofile(file)
        del tensor.external_data[:]
        places = (("location", location), ("offset", start), ("length", file.tell() - start))
        for key, value in places:
            tensor.external_data.add(key=key, value=str(value))
