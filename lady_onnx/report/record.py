"""What a result rests on: enough to repeat it, and to see later that nothing was exchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lady_onnx

from ..errors import LadyError
from ..graph.formats import name_source
from ..reporting import list_fields


@dataclass(frozen=True)
class FileRecord:
    """A file that was read or written.

    Attributes:
        role: `reference`, `suspect`, `graph`, `like`, `output` or `permutation`.
        path: its path, or its address in MLflow.
        bytes: its length.
        sha256: its SHA-256, as hexadecimal digits.
    """

    role: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Record:
    """What a result rests on.

    Attributes:
        version: the version of lady-onnx.
        command: the command.
        options: its options and their values; those that were not given, and have none, are left
            out.
        time: when the result was there, UTC, ISO 8601.
        files: the files in and out, external data too.
    """

    version: str
    command: str
    options: Mapping[str, Any]
    time: str
    files: tuple[FileRecord, ...]

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return list_fields(self)


def make_record(
    command: str, options: Mapping[str, Any], files: Mapping[str, Sequence[Path]]
) -> Record:
    """Record what a result rests on; every file is read once more.

    Args:
        command: the command.
        options: its options and their values.
        files: by role the files.

    Raises:
        LadyError: a file cannot be read any more.
    """
    found = [_record_file(role, path) for role, paths in files.items() for path in paths]
    given = {n: v for n, v in options.items() if v is not None and v is not False and v != []}
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(lady_onnx.__version__, command, given, time, tuple(found))


def _record_file(role: str, path: Path) -> FileRecord:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return FileRecord(role, name_source(path), file.tell(), digest)
    except OSError as error:
        raise LadyError(f"{path}: cannot be read again for the report: {error.strerror}") from error
