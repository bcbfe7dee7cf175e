"""The verdict alone: what the suspect is to the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .alterations import in_words
from .errors import ArchitectureError
from .integrity import TAMPERING
from .matching import Progress
from .outcome import Resync
from .permutation import Model
from .resync import resync

VERDICTS = ("identical", "permuted", "rescaled", "altered", "tampered", "unrelated")
EXTREME = 1e3
"""Units that were multiplied by more than this, or less than its inverse, may overflow, or vanish, where others do not."""
RECOGNISED = 0.4
"""Where a smaller share of the units is likely to be copies, beyond what chance gives, two models are unrelated."""


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
    """What the suspect is to the reference: one of `VERDICTS`.

    Raises LadyError where a model cannot be read.
    """
    try:
        found = resync(reference, suspect, verify="none", progress=progress)
    except ArchitectureError as error:
        return Check("unrelated", str(error), None)
    if found.apart and found.restored:
        return Check("altered", f"every weight is equal to rounding, but the operators differ: {', '.join(found.apart)}", found)
    if found.exact and not found.integrity:
        if found.moved == 0:
            return Check("identical", "every weight is equal", found)
        return Check("permuted", f"{_units(found.moved, 'moved')}, and every weight is equal once they are back", found)
    moved = f"{_units(found.moved, 'moved')}, " if found.moved else ""
    idle = sum(f.kind == "obfuscated" for f in found.integrity)
    gone = sum(f.kind == "removed" for f in found.integrity)
    if idle and found.restored and idle == len(found.integrity):
        what = "that the function does not need, and every weight is equal to rounding without"
        return Check("rescaled", f"{moved}{_units(idle, 'inserted')} {what}", found)
    if not found.alike and found.restored and not found.integrity:
        return Check("permuted", f"{moved}the files are written differently, and every weight is equal to rounding", found)
    share = _recognised(found)
    if share < RECOGNISED:
        similar = f"their mean similarity is {found.similarity:.3f}"
        return Check("unrelated", f"{100 * share:.2f} % of the units are likely to be copies, {similar}", found)
    odd = [f for f in found.integrity if f.kind in TAMPERING]
    if odd:
        first = max(odd, key=lambda f: f.size)
        k = f" (times {first.factor:.4g})" if first.factor is not None else ""
        more = f", and {len(odd) - 1} more" if len(odd) > 1 else ""
        what = "a weight" if first.group is None else f"unit {first.unit} of group {first.group}"
        return Check("tampered", f"{what} was {first.kind} in {first.slot}{k}{more}", found)
    scaled = sum(f.kind == "rescaled" for f in found.integrity)
    mixed = sum(f.kind == "mixed" for f in found.integrity)
    inert = sum(f.kind in ("inert", "shifted") for f in found.integrity)
    extreme = [f for f in found.integrity if f.factor is not None and not 1 / EXTREME < abs(f.factor) < EXTREME]
    if extreme:
        f = extreme[0]
        return Check("altered", f"unit {f.unit} of group {f.group} was multiplied by {f.factor:.4g}: it may overflow", found)
    if found.restored and scaled + mixed + inert:
        kept = "in a way that leaves the function as it was"
        parts = [
            (found.moved, _units(found.moved, "moved")),
            (scaled, f"{_units(scaled, 'multiplied')} {kept}"),
            (mixed, f"the units of {_count(mixed, 'group', 'groups')} were mixed {kept}"),
            (inert, f"{_count(inert, 'bias', 'biases')} changed that the function does not depend on"),
        ]
        what = ", ".join(text for count, text in parts if count)
        return Check("rescaled", f"{what}, and every weight is equal to rounding once that is undone", found)
    if gone:
        return Check("altered", _units(gone, "removed"), found)
    least = "in the signs of zeros, or in what stands for infinity"
    what = f"by up to {found.max_weight_difference:.4g}" if found.max_weight_difference else least
    done = in_words(found.alterations)
    return Check("altered", f"weights differ {what} once the units are back{f': {done}' if done else ''}", found)


def _recognised(found: Resync) -> float:
    """The share of the units that are likely to be copies, but for one a group, which is right by chance.

    What is interchangeable with others tells nothing.
    """
    likely, count = 0.0, 0
    for match in found.matches:
        alike = [unit for units in found.interchangeable.get(match.group, ()) for unit in units]
        certain = np.delete(match.certainty, alike)
        if certain.size > 1:
            likely += max(float(certain.sum()) - 1, 0.0)
            count += certain.size - 1
    return likely / count if count else 1.0


def _units(count: int, what: str) -> str:
    return f"{_count(count, 'unit was', 'units were')} {what}"


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
