"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import LadyError


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears at `path` complete, or never: temporary file, fsync, rename."""
    try:
        handle = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)
    except OSError as error:
        raise LadyError(
            f"{path}: cannot write there: {error.strerror}; choose another folder"
        ) from error
    try:
        with handle as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(handle.name, 0o666 & ~umask)
        os.replace(handle.name, path)
    except OSError as error:
        raise LadyError(
            f"{path}: cannot write: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        Path(handle.name).unlink(missing_ok=True)
