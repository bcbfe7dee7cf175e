"""The check: what a suspect is to a reference, without a file of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ArchitectureError
from ..graph.loading import Model
from ..matching.alignment import Progress
from ..reporting import MAX_SHOWN_ENTRIES, Report
from .result import Resync
from .resynchronization import resync
from .verdicts import VERDICTS, Verdict


@dataclass(frozen=True, repr=False)
class Check(Report, Verdict):
    """The verdict on a suspect.

    Attributes:
        verdict: one of `VERDICTS`.
        reason: one sentence that says why.
        equality: of an accepted suspect, `bits` where it computes the same bits up to the order of
            sums, and `rounding` where it computes the same real numbers; None of any other.
        resync: the re-synchronisation behind the verdict, None for models of different
            architectures.
    """

    resync: Resync | None = None

    @property
    def recognised(self) -> float:
        """The share of the units that are likely to be copies; 0 for different architectures."""
        return self.resync.recognised if self.resync else 0.0

    def headline(self) -> str:
        """Say the verdict and why in one line."""
        return f"{self.verdict}: {self.reason}"

    def details(self, limit: int | None = MAX_SHOWN_ENTRIES) -> list[str]:
        """List the groups that were matched worst, and what was done to single units."""
        return self.resync.details(limit) if self.resync else []

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        found = self.resync
        missing: dict[str, Any] = {
            "equality": None,
            "recognised": 0.0,
            "states": [],
            "common": None,
            "psi_estimate": None,
            "alterations": {},
        }
        return {
            # The fields of the check itself stand last, and so go over those of its resync.
            **(found.to_verdict_fields() if found else missing),
            "verdict": self.verdict,
            "reason": self.reason,
            "moved": found.moved if found else None,
            "max_weight_difference": found.max_weight_difference if found else None,
            "integrity": found.integrity if found else [],
        }


def check(
    reference: Model,
    suspect: Model,
    *,
    custom_ops: Sequence[str] = (),
    states: Sequence[str] = (),
    progress: Progress | None = None,
) -> Check:
    """Judge what a suspect is to a reference.

    Args:
        reference: a path or a model.
        suspect: a path or a model.
        custom_ops: paths of libraries with kernels of operators that onnxruntime does not have.
        states: `OUTPUT=INPUT` each: outputs that are fed back as inputs, beside those that their
            names tell; `none` among them where names are not to be believed.
        progress: called with the number of groups that are matched, and that of all.

    Returns:
        The verdict, one of `VERDICTS`, with its reason and the re-synchronisation behind it. Models
        of different architectures are `unrelated`.

    Raises:
        LadyError: a model cannot be read.
    """
    try:
        # A verdict rests on the programs and the weights, so that outputs need not be compared.
        found = resync(
            reference,
            suspect,
            verify="none",
            custom_ops=custom_ops,
            states=states,
            progress=progress,
        )
    except ArchitectureError as error:
        return Check("unrelated", str(error))
    judged = found.judged
    return Check(judged.verdict, judged.reason, judged.equality, found)


__all__ = ["VERDICTS", "Check", "check"]
