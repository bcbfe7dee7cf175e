"""Trials in processes of their own: some mutants kill onnxruntime, and some never end."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn

from . import bases, trials

PATIENCE_S = 60
"""A trial that computes for longer is ended, and is a crash where it was `check` that took long."""
MEMORY_BYTES = 8 << 30
"""A process gets so much, so that a mutant with huge sizes ends as an error."""
READY, STAGE, DONE, DEAD = "ready", "stage", "done", "dead"
"""What a process says: that it is there, its trial's stage, the trial; which signal ended it."""


def _prepare(pipe: Connection, seed: int, keep: Path | None) -> None:
    """Makes the models once, and for every process that dies another one that has them."""
    families = trials.by_family(bases.pool())
    while True:
        child = os.fork()
        if not child:
            _serve(pipe, families, seed, keep)
        _, status = os.waitpid(child, 0)
        pipe.send(
            (
                DEAD,
                signal.Signals(os.WTERMSIG(status)).name
                if os.WIFSIGNALED(status)
                else "its own end",
            )
        )


def _serve(
    pipe: Connection, families: dict[str, list[bases.Base]], seed: int, keep: Path | None
) -> NoReturn:
    """Runs trials whose indices come through a pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    pipe.send((READY, None))
    try:
        while True:
            index = pipe.recv()
            resource.setrlimit(
                resource.RLIMIT_CPU, (int(time.process_time()) + PATIENCE_S, resource.RLIM_INFINITY)
            )
            pipe.send(
                (
                    DONE,
                    trials.run_trial(
                        families, seed, index, keep, lambda stage: pipe.send((STAGE, stage))
                    ),
                )
            )
    finally:
        os._exit(0)


class _Worker:
    """One process at a time, and the trial that it runs."""

    def __init__(self, seed: int, keep: Path | None):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_prepare, args=(other, seed, keep), daemon=True)
        self.process.start()
        other.close()
        self.ready = False
        self.index: int | None = None
        self.stage = ""

    def give(self, index: int) -> None:
        self.index = index
        self.pipe.send(index)

    def receive(self) -> trials.Trial | None:
        """Hears what the process says; a trial where one came to its end."""
        what, content = self.pipe.recv()
        if what == STAGE:
            self.stage = content
        elif what == READY:
            self.ready = True
        elif what == DONE:
            self.index = None
            return content
        else:
            self.ready = False
            if self.index is None:
                raise RuntimeError(f"a process without a trial was ended by {content}")
            kind = ".".join(trials.kind_of(self.index))
            verdict = trials.CRASHED if self.stage == "check" else trials.LOST
            lost = trials.Trial(
                self.index, kind, verdict=verdict, reason=f"ended by {content} in {self.stage}"
            )
            self.index = None
            return lost
        return None


def run_trials(
    indices: Sequence[int], seed: int, count: int = 1, keep: Path | None = None
) -> Iterator[trials.Trial]:
    """Runs trials in `count` processes; they come in the order in which they end."""
    waiting = list(reversed(indices))
    left = len(waiting)
    workers = [_Worker(seed, keep) for _ in range(min(count, left))]
    while left:
        ready = wait([w.pipe for w in workers])
        for worker in [w for w in workers if w.pipe in ready]:
            found = worker.receive()
            if worker.ready and worker.index is None and waiting:
                worker.give(waiting.pop())
            if found is not None:
                left -= 1
                yield found
    for worker in workers:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
