"""Large arrays that are made on the way: they lie in files, so that their pages can be put away.

Where memory is short, models of any size are worked on. An array that takes the place of a weight
is laid at once where the model will have it that is written in the end, if that is known.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

MAPPED_BYTES = 1 << 21
"""Arrays of at least so many bytes lie in files."""

CAN_SHARE_FILES = hasattr(os, "pwrite")
"""Whether several threads can write to one open file; those of Windows cannot."""

Blocks = Callable[[], Iterable[np.ndarray]]
"""Makes the blocks of an array, which follow each other, of the array's type."""


def store_blocks(
    list_blocks: Blocks,
    shape: Sequence[int],
    dtype: np.dtype,
    source: np.ndarray | None = None,
) -> np.ndarray:
    """Return an array of blocks; a large one lies in a file.

    What is changed in such an array is changed in memory alone.

    Args:
        list_blocks: makes the blocks.
        shape, dtype: of the array.
        source: the array whose place it takes, of its shape and type; None if of no other.
    """
    if math.prod(shape) * dtype.itemsize >= MAPPED_BYTES and not dtype.hasobject:
        given = _laid_file.get()
        laid = given.lay(source, list_blocks) if given and source is not None else None
        if laid is not None:
            return laid
        # there may be no room, or no folder for it
        with contextlib.suppress(OSError), tempfile.TemporaryFile() as file:
            count = _write_blocks(file.fileno(), 0, list_blocks)
            return _map_array(file.fileno(), 0, count, dtype, shape)
    result = np.empty(math.prod(shape), dtype)
    start = 0
    for block in list_blocks():
        result[start : start + block.size] = block.reshape(-1)
        start += block.size
    return result.reshape(shape)


def copy_array(array: np.ndarray) -> np.ndarray:
    """Return a copy of an array that nobody changes; a large one lies in a file."""
    rows = array.reshape(-1) if array.ndim == 0 else array
    step = max(len(rows) * MAPPED_BYTES // max(rows.nbytes, 1), 1)

    def list_blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(rows), step):
            yield rows[start : start + step]

    copy = store_blocks(list_blocks, array.shape, array.dtype)
    copy.flags.writeable = False
    return copy


def _write_blocks(descriptor: int, start: int, list_blocks: Blocks) -> int:
    """Write blocks to an open file from a place on; returns the number of bytes."""
    end = start
    for block in list_blocks():
        raw = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
        while raw:
            count = _write_at(descriptor, raw, end)
            end, raw = end + count, raw[count:]
    return end - start


def _write_at(descriptor: int, raw: memoryview, place: int) -> int:
    """Write bytes at a place of a file; returns how many were written."""
    if CAN_SHARE_FILES:
        return os.pwrite(descriptor, raw, place)
    os.lseek(descriptor, place, os.SEEK_SET)
    return os.write(descriptor, raw)


def _map_array(
    descriptor: int, start: int, count: int, dtype: np.dtype, shape: Sequence[int]
) -> np.ndarray:
    """Return an array that lies in an open file."""
    # a map begins where a page does
    before = start % mmap.ALLOCATIONGRANULARITY
    mapped = mmap.mmap(descriptor, before + count, access=mmap.ACCESS_COPY, offset=start - before)
    return np.frombuffer(mapped, dtype, offset=before).reshape(shape)


def locate(array: np.ndarray) -> tuple[int, int]:
    """Return where an array begins in memory, and its number of bytes."""
    return array.__array_interface__["data"][0], array.nbytes


class LaidFile:
    """A file in which arrays are laid as they are made, each in a place that is known before.

    So they are written once, and not to one file first and to another later.

    Args:
        open_file: makes the file, which has a name; called when it is first needed.
    """

    def __init__(self, open_file: Callable[[], Any]):
        self._open_file, self._lock = open_file, Lock()
        self._places: dict[tuple[int, int], tuple[str, int]] = {}
        self._laid: dict[str, tuple[int, tuple[int, int]]] = {}
        self._size = 0
        self._file: Any = None

    def lay_out(self, places: Mapping[str, tuple[int, np.ndarray]], size: int) -> None:
        """Say where arrays are to lie.

        Args:
            places: by name where it begins, and what has the place now.
            size: that of the file.
        """
        self._places = {locate(array): (name, start) for name, (start, array) in places.items()}
        self._size = size

    def lay(self, source: np.ndarray, list_blocks: Blocks) -> np.ndarray | None:
        """Lay an array where what takes the place of `source` is to lie.

        Returns:
            The array; None where it is to lie nowhere, or does not fit on the disk.
        """
        with self._lock:
            # what takes the place once more lies elsewhere: the first one may be in use
            place = self._places.pop(locate(source), None)
            if place is None:
                return None
            try:
                if self._file is None:
                    self._file = self._open_file()
                    self._file.truncate(self._size)
                descriptor = os.dup(self._file.fileno())
            except OSError:
                return None
        name, start = place
        try:
            count = _write_blocks(descriptor, start, list_blocks)
            array = _map_array(descriptor, start, count, source.dtype, source.shape)
        except OSError:
            self.close()
            return None
        finally:
            os.close(descriptor)
        self._laid[name] = start, locate(array)
        return array

    def take(
        self, places: Mapping[str, tuple[int, np.ndarray]], size: int
    ) -> tuple[Any, Collection[str]]:
        """Hand over the file, if all that is laid in it is to lie there.

        Args:
            places, size: as `lay_out` has them, now with what is to have each place.

        Returns:
            The open file, and the names of what lies in it; None and nothing if it is of no use.
        """
        wanted = {n: (start, locate(array)) for n, (start, array) in places.items()}
        is_right = all(wanted.get(name) == place for name, place in self._laid.items())
        if self._file is None or size != self._size or not is_right:
            return None, ()
        file, self._file = self._file, None
        self._places.clear()
        return file, self._laid

    def close(self) -> None:
        """Remove the file, unless it was handed over."""
        with self._lock:
            self._places.clear()
            if self._file is not None:
                self._file.close()
                Path(self._file.name).unlink(missing_ok=True)
                self._file = None


_laid_file: ContextVar[LaidFile | None] = ContextVar("laid_file", default=None)


def get_laid_file() -> LaidFile | None:
    """Return the file in which arrays are laid, if there is one."""
    return _laid_file.get()


@contextlib.contextmanager
def lay_arrays(open_file: Callable[[], Any]) -> Iterator[None]:
    """Let arrays be laid inside in a file that is made for them; see `LaidFile`.

    Args:
        open_file: makes the file.
    """
    laid = LaidFile(open_file)
    token = _laid_file.set(laid)
    try:
        yield
    finally:
        _laid_file.reset(token)
        laid.close()
