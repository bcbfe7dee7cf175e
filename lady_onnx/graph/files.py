"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import OutputError


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears at `path` complete, or never.

    What is written goes to a temporary file beside it, which is flushed to the disk and renamed.

    Raises:
        OutputError: the folder or the disk does not take the file.
    """
    try:
        handle = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)
    except OSError as error:
        what = f"cannot write there: {error.strerror}"
        raise OutputError(f"{path}: {what}; choose another folder") from error
    try:
        with handle as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are private; this one gets the permissions of any new file. The mask can
        # only be read by setting it.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(handle.name, 0o666 & ~umask)
        os.replace(handle.name, path)
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        raise OutputError(f"{path}: {what}; free some space or choose another folder") from error
    finally:
        Path(handle.name).unlink(missing_ok=True)
