"""Runs work in a child process with limits on its time and memory, whose death is an answer.

A model may take hours, or more memory than the machine has, and a kernel that runs can be ended by
the end of its process alone.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from ..errors import ExecutionError, LadyError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

Result = TypeVar("Result")

POLL_SECONDS = 0.02
"""How often the memory of a child is read."""
ADVICE = "allow more, or rely on resync --verify proof"
"""What to do about a run that was ended."""
STATUS_FILE = "/proc/{}/status"
"""Where Linux says how much memory a process has, by its number."""


@dataclass(frozen=True)
class Limits:
    """How long work may take, and how much memory.

    Attributes:
        timeout: Seconds; None: any time.
        memory: GB beyond what this process has, pages of files left out; None: any.
    """

    timeout: float | None = None
    memory: float | None = None

    def check(self) -> None:
        """Check that limits are numbers above zero, and that this system can keep them.

        Raises:
            LadyError: one is not, or it cannot.
        """
        for name, value in (("timeout", self.timeout), ("memory", self.memory)):
            if value is None:
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 < value < math.inf:
                raise LadyError(f"{name} is a number above zero, not {value!r}")
            # most runs have no limits, and need none of what this loads
            import multiprocessing

            if "fork" not in multiprocessing.get_all_start_methods():
                raise LadyError(f"{name}: this system cannot copy processes; leave it out")
        if self.memory is not None and _read_anonymous_bytes("self") is None:
            raise LadyError("memory: this system does not tell what a process has; leave it out")


NO_LIMITS = Limits()
"""The limits of work that may take any time and memory, and so needs no process of its own."""


def run_limited(work: Callable[[], Result], limits: Limits, name: str) -> Result:
    """Do work, in a child process if there are limits.

    Args:
        work: what is done. Its result, and the `LadyError` that it may raise, are sent back.
        limits: the limits.
        name: the file in question, for the message.

    Raises:
        ExecutionError: the work went beyond a limit, or its process died.
        LadyError: the work raised it.
    """
    if limits.timeout is None and limits.memory is None:
        return work()
    import multiprocessing

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_result, args=(work, sender), daemon=True)
    with warnings.catch_warnings():
        # Python warns of copies of processes with threads: those of ours have ended by now
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    sender.close()
    try:
        _await_end(child, receiver, limits, name)
        result, error = receiver.recv()
    except EOFError:
        child.join()
        what = f"running it ended its process, code {child.exitcode}"
        raise ExecutionError(f"{name}: {what}; {ADVICE}") from None
    finally:
        child.kill()
        child.join()
        receiver.close()
    if error is not None:
        raise error
    return cast(Result, result)


def _send_result(work: Callable[[], Result], sender: Connection) -> None:
    """Do work in the child, and send what came of it."""
    try:
        sender.send((work(), None))
    except LadyError as error:
        sender.send((None, error))
    except MemoryError:
        sender.send(
            (None, ExecutionError(f"the machine has too little memory to run it; {ADVICE}"))
        )


def _await_end(child: BaseProcess, receiver: Connection, limits: Limits, name: str) -> None:
    """Wait until the child sends something or dies.

    Raises:
        ExecutionError: it went beyond a limit.
    """
    start, first = time.monotonic(), _read_anonymous_bytes(str(child.pid)) or 0
    while not receiver.poll(POLL_SECONDS):
        if limits.timeout is not None and time.monotonic() - start > limits.timeout:
            raise ExecutionError(f"{name}: running it took over {limits.timeout:g} s; {ADVICE}")
        taken = (_read_anonymous_bytes(str(child.pid)) or 0) - first
        if limits.memory is not None and taken > limits.memory * 1e9:
            raise ExecutionError(f"{name}: running it took over {limits.memory:g} GB; {ADVICE}")


def _read_anonymous_bytes(process: str) -> int | None:
    """Return what a process has in memory beyond pages of files; None if that is not told."""
    try:
        lines = Path(STATUS_FILE.format(process)).read_text().splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith("RssAnon:")]
    return int(found[0].split()[1]) * 1024 if found else None
