"""A queue of jobs in a folder: a job that was taken is done, whenever the process dies.

A job is a file. It is written whole before its delivery is acknowledged, is moved to `done` once it
is done, and to `failed` once it was tried often enough. What is done is remembered, so that nothing
that is delivered twice is done twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LadyError
from ..graph.files import open_atomically

WAITING, DONE, FAILED = "waiting", "done", "failed"
MAX_ATTEMPTS = 5
FIRST_DELAY_S = 2.0
"""A job that failed is tried again after that time, then after twice, four times, ... as long."""
NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
"""The names of jobs, which are names of files."""


@dataclass(frozen=True)
class Job:
    """A job that waits.

    Attributes:
        name: its name, of letters, digits and hyphens.
        data: what is to be done.
        attempts: how often it was tried.
        due: when it is to be tried next, seconds since 1970.
        error: why it failed last, None where it was not tried.
    """

    name: str
    data: dict[str, Any]
    attempts: int = 0
    due: float = 0.0
    error: str | None = None


class JobQueue:
    """The jobs in a folder.

    Args:
        folder: the folder, which is made where it lacks.

    Raises:
        LadyError: it cannot be made.
    """

    def __init__(self, folder: Path):
        self._folders = {state: folder / state for state in (WAITING, DONE, FAILED)}
        try:
            for path in self._folders.values():
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LadyError(f"{folder}: cannot be the folder of a queue ({error})") from None

    def has(self, name: str) -> bool:
        """Tell whether a job of a name waits, was done, or failed."""
        return any((folder / f"{name}.json").exists() for folder in self._folders.values())

    def put(self, name: str, data: dict[str, Any]) -> None:
        """Add a job; once this returns, it is on the disk."""
        self._write(Job(name, data))

    def list_due(self) -> Iterator[Job]:
        """Yield the jobs that are to be tried now, in the order in which they came."""
        jobs = [self._read(path) for path in self._folders[WAITING].glob("*.json")]
        known = [job for job in jobs if job is not None and job[1].due <= time.time()]
        yield from (job for _, job in sorted(known, key=lambda pair: pair[0]))

    def finish(self, job: Job) -> None:
        """Note that a job is done."""
        self._move(job.name, DONE)

    def fail(self, job: Job, error: str) -> None:
        """Note that a job failed; it is tried again later, or given up."""
        attempts = job.attempts + 1
        due = time.time() + FIRST_DELAY_S * 2**job.attempts
        self._write(Job(job.name, {**job.data}, attempts, due, error))
        if attempts >= MAX_ATTEMPTS:
            self._move(job.name, FAILED)

    def forget(self, age_s: float) -> None:
        """Remove the memory of jobs that were done longer ago than some time."""
        for path in self._folders[DONE].glob("*.json"):
            if path.stat().st_mtime < time.time() - age_s:
                path.unlink(missing_ok=True)

    def _write(self, job: Job) -> None:
        fields = {"data": job.data, "attempts": job.attempts, "due": job.due, "error": job.error}
        with open_atomically(self._folders[WAITING] / f"{job.name}.json") as file:
            file.write(json.dumps({"name": job.name, **fields}).encode())

    def _read(self, path: Path) -> tuple[float, Job] | None:
        try:
            came = path.stat().st_mtime
            return came, Job(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            # moved by another process since, or no job of ours
            return None

    def _move(self, name: str, state: str) -> None:
        # another receiver with this queue may have moved it
        with contextlib.suppress(FileNotFoundError):
            os.replace(
                self._folders[WAITING] / f"{name}.json", self._folders[state] / f"{name}.json"
            )
