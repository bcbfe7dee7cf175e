"""The verdict alone: what the suspect is to the reference."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ArchitectureError
from ..matching.alignment import Progress
from .outcome import Resync
from .permuting import Model
from .resynchronization import resync
from .verdicts import VERDICTS, Verdict


@dataclass(frozen=True)
class Check(Verdict):
    """The verdict on a suspect.

    Attributes:
        verdict: one of `VERDICTS`.
        reason: one sentence that says why.
        equality: of an accepted suspect, `bits` where it computes the same bits up to the order of sums, `rounding` where it
            computes the same real numbers; None of any other.
        resync: the re-synchronisation behind it, None for models of different architectures.
    """

    resync: Resync | None = None

    @property
    def recognised(self) -> float:
        """The share of the units that are likely to be copies, 0 for models of different architectures."""
        return self.resync.recognised if self.resync else 0.0


def check(reference: Model, suspect: Model, *, progress: Progress | None = None) -> Check:
    """What the suspect is to the reference: one of `VERDICTS`.

    Raises LadyError where a model cannot be read.
    """
    try:
        found = resync(reference, suspect, verify="none", progress=progress)
    except ArchitectureError as error:
        return Check("unrelated", str(error))
    judged = found.judged
    return Check(judged.verdict, judged.reason, judged.equality, found)


__all__ = ["VERDICTS", "Check", "check"]
