"""What a caller asks of a re-synchronisation, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import check_choice, check_whole_number
from ..matching.evidence.assignment import ASSIGNMENTS
from ..runtime.limits import NO_LIMITS, Limits
from ..runtime.providers import PROVIDERS
from ..runtime.sessions import check_libraries

EVIDENCE_CHOICES = ("all", "incoming")
"""Which slots of a unit are evidence: all, or those of its incoming weights."""
VERIFY_CHOICES = ("auto", "run", "proof", "none")
"""How it is shown that the outputs are preserved, see `resync`."""


@dataclass(frozen=True)
class Options:
    """Hold the choices of a caller of `resync`, whose documentation explains them."""

    verify: str = "auto"
    provider: str = "auto"
    samples: int = 4
    seed: int = 0
    repair: bool = False
    strip: bool = False
    evidence: str = "all"
    assignment: str = "optimal"
    custom_ops: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS

    def check(self) -> None:
        """Check every choice.

        Raises:
            LadyError: a choice does not exist; the message lists those that do.
            MissingFileError: a library of operators is not there.
        """
        check_choice("verify", self.verify, VERIFY_CHOICES)
        check_choice("provider", self.provider, PROVIDERS)
        check_choice("evidence", self.evidence, EVIDENCE_CHOICES)
        check_choice("assignment", self.assignment, ASSIGNMENTS)
        check_whole_number("samples", self.samples, 1)
        check_whole_number("seed", self.seed)
        check_libraries(self.custom_ops)
        self.limits.check()

    @property
    def is_usual(self) -> bool:
        """Whether all slots are evidence, and units are assigned in the best way."""
        return self.evidence == "all" and self.assignment == "optimal"
