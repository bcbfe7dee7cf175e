"""Trials in processes of their own: some mutants kill onnxruntime, and some never end."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

from . import bases, trials

PATIENCE_S = 90
"""A trial that takes longer is ended, and counted as a crash where it was `check` that took so long."""
MEMORY_BYTES = 8 << 30
"""A worker gets so much, so that a mutant with huge sizes ends as an error."""


def _work(pipe: Connection, seed: int, keep: Path | None) -> None:
    """Runs trials whose indices come through a pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    families = trials.by_family(bases.pool())
    pipe.send(("ready", None))
    while True:
        found = trials.run_trial(families, seed, pipe.recv(), keep, lambda stage: pipe.send(("stage", stage)))
        pipe.send(("done", found))


class _Worker:
    """A process that runs trials; it is replaced where a mutant kills it, or never ends."""

    def __init__(self, seed: int, keep: Path | None):
        self.given = seed, keep
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, *self.given), daemon=True)
        self.process.start()
        other.close()
        self.index: int | None = None
        self.stage, self.since = "start", time.monotonic()

    def give(self, index: int) -> None:
        self.index, self.since = index, time.monotonic()
        self.pipe.send(index)

    def lose(self, why: str) -> trials.Trial:
        """The trial that killed the process, which starts again."""
        self.process.kill()
        self.process.join()
        index, stage = self.index, self.stage
        if index is None:
            raise RuntimeError(f"a worker does not start: {why}")
        self.start()
        verdict = trials.CRASHED if stage == "check" else trials.LOST
        return trials.Trial(index, ".".join(trials.kind_of(index)), verdict=verdict, reason=f"{why} in {stage}")

    def receive(self) -> tuple[str, object]:
        """What the process says next."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            return "lost", self.lose("the process ended")


def run_trials(indices: Sequence[int], seed: int, count: int = 1, keep: Path | None = None) -> Iterator[trials.Trial]:
    """Runs trials in `count` processes; they come in the order in which they end."""
    waiting = list(reversed(indices))
    left = len(waiting)
    workers = [_Worker(seed, keep) for _ in range(min(count, left))]
    while left:
        ready = {id(p) for p in wait([w.pipe for w in workers], timeout=5)}
        for worker in workers:
            what, content = "nothing", None
            if id(worker.pipe) in ready:
                what, content = worker.receive()
            elif worker.index is not None and time.monotonic() - worker.since > PATIENCE_S:
                what, content = "lost", worker.lose(f"no end after {PATIENCE_S} s")
            if what == "stage":
                worker.stage = str(content)
            if isinstance(content, trials.Trial):
                left -= 1
                worker.index = None
                yield content
            # one that was lost says when it is ready again
            if what in ("ready", "done") and waiting:
                worker.give(waiting.pop())
    for worker in workers:
        worker.process.kill()
        worker.process.join()
