"""The verdict alone: what the suspect is to the reference."""

from __future__ import annotations

from dataclasses import dataclass

from .alterations import in_words
from .errors import ArchitectureError
from .matching import Progress
from .permutation import Model
from .resync import Resync, resync

VERDICTS = ("identical", "permuted", "rescaled", "altered", "tampered", "unrelated")
UNRELATED_BELOW = 0.4
"""Mean cosine of matched units under which two models of one architecture count as unrelated."""


@dataclass(frozen=True)
class Check:
    """The verdict on a suspect.

    Attributes:
        verdict: one of `VERDICTS`.
        reason: one sentence that says why.
        resync: the re-synchronisation behind it, None for models of different architectures.
    """

    verdict: str
    reason: str
    resync: Resync | None

    @property
    def accepted(self) -> bool:
        """Is the suspect the reference, up to a change that leaves its function as it was?"""
        return self.verdict in VERDICTS[:3]


def check(reference: Model, suspect: Model, *, progress: Progress | None = None) -> Check:
    """What the suspect is to the reference: identical, permuted, altered or unrelated.

    Raises LadyError where a model cannot be read.
    """
    try:
        found = resync(reference, suspect, verify="none", progress=progress)
    except ArchitectureError as error:
        return Check("unrelated", str(error), None)
    if found.exact:
        if found.moved == 0:
            return Check("identical", "every weight is equal", found)
        return Check("permuted", f"{found.moved} units were moved, and every weight is equal once they are back", found)
    if found.symmetry.groups and found.similarity < UNRELATED_BELOW:
        return Check("unrelated", f"the units' mean similarity is {found.similarity:.3f}", found)
    what = f"by up to {found.max_weight_difference:.4g}" if found.max_weight_difference else "in the signs of zeros"
    done = in_words(found.alterations)
    return Check("altered", f"weights differ {what} once the units are back{f': {done}' if done else ''}", found)
