"""External data: weights that lie in a file of their own beside the model."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from ..errors import LadyError, to_one_line
from ..vocabulary.types import PACKED_TYPES

Stamp = tuple[int, int, int]
"""The size, the time of the last change and the number of a file."""


def take_stamp(file: Path) -> Stamp:
    """Return what changes when a file does.

    Raises:
        OSError: it cannot be looked at.
    """
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        # reading a pipe changes its time
        return 0, 0, found.st_ino
    return found.st_size, found.st_mtime_ns, found.st_ino


def check_stamp(file: Path, stamp: Stamp) -> None:
    """Check that a file did not change since its stamp was taken.

    Raises:
        LadyError: it has another size or time, or is gone.
    """
    try:
        is_same = take_stamp(file) == stamp
    except OSError:
        is_same = False
    if not is_same:
        raise LadyError(f"{file}: changed while it was read; run again once it is written")


def is_external(tensor: TensorProto) -> bool:
    """Tell whether a weight's values lie in a file of their own."""
    return tensor.data_location == TensorProto.EXTERNAL


class DataFiles:
    """The files of a model's external data, each mapped into memory once.

    Args:
        folder: the folder of the model, None for a model in memory.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._mapped: dict[str, np.ndarray] = {}
        self._stamps: dict[Path, Stamp] = {}

    def check_unchanged(self) -> None:
        """Check that no file changed since it was mapped: what is written into it shows, in part.

        Raises:
            LadyError: a file has another size or time, or is gone.
        """
        for file, stamp in self._stamps.items():
            check_stamp(file, stamp)

    def locate(self, tensors: Iterable[TensorProto]) -> set[Path]:
        """Return the files that weights lie in."""
        if self._folder is None:
            return set()
        locations = {_read_fields(t).get("location", "") for t in tensors if is_external(t)}
        return {(self._folder / location).resolve() for location in locations}

    def read(self, tensor: TensorProto, where: str) -> np.ndarray:
        """Return the external data of a weight.

        Args:
            tensor: the weight.
            where: the model and the weight, for messages.

        Returns:
            The bytes, uint8 [size], read-only.

        Raises:
            LadyError: the data are missing, too short, or outside the model's folder.
        """
        fields = _read_fields(tensor)
        location = fields.get("location", "")
        size = count_bytes(tensor)
        try:
            offset = _read_number(fields.get("offset", "0"))
            length = _read_number(fields.get("length", str(size)))
            if length != size:
                raise ValueError(f"the length is {length} bytes, and the shape takes {size}")
            if len(fields) < len(tensor.external_data):
                raise ValueError("two entries have one name")
            if location not in self._mapped:
                self._mapped[location] = self._map_file(location, where)
            whole = self._mapped[location]
            if offset < 0 or whole.size < offset + size:
                what = f"'{location}' is shorter than the model says; copy it again"
                raise LadyError(f"{where}: {what}")
            return whole[offset : offset + size]
        except OSError as error:
            what = f"'{location}': {error.strerror}; put it beside the model"
            raise LadyError(f"{where}: {what}") from error
        except ValueError as error:
            what = f"'{location}': {to_one_line(error)}; export the model again"
            raise LadyError(f"{where}: {what}") from error

    def _map_file(self, location: str, where: str) -> np.ndarray:
        """Map a file into memory, as uint8 [size], read-only."""
        if self._folder is None:
            what = "a model in memory has no folder; load it with its data, or give its path"
            raise LadyError(f"{where}: {what}")
        file = self._folder / location
        # A model must not be able to read files that its user did not give.
        if Path(location).is_absolute() or not file.resolve().is_relative_to(
            self._folder.resolve()
        ):
            raise LadyError(f"{where}: '{location}' lies outside the model's folder; move it there")
        self._stamps[file] = take_stamp(file)
        if not file.stat().st_size:
            return np.empty(0, np.uint8)
        # a plain array costs less to slice than one that is a map
        return np.memmap(file, np.uint8, "r").view(np.ndarray)


def _read_number(text: str) -> int:
    """Read a number of plain digits: Python reads spaces, signs and digits of other scripts, too.

    Raises:
        ValueError: it is none.
    """
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"'{text}' is no number")
    return int(text)


def _read_fields(tensor: TensorProto) -> dict[str, str]:
    """Return what a weight says of where its values lie."""
    return {entry.key: entry.value for entry in tensor.external_data}


def count_bytes(tensor: TensorProto) -> int:
    """Return the number of bytes of a weight's values."""
    # A product that overflows is refused where the bytes are given the tensor's shape.
    count = int(np.prod(tensor.dims, dtype=np.int64))
    itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    if tensor.data_type not in PACKED_TYPES:
        return count * itemsize
    return -(-count * PACKED_TYPES[tensor.data_type] // 8)
