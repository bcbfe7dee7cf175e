"""What a suspect is to the reference, judged from what re-synchronisation found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..diagnosis.alterations import Alteration, describe_alterations
from ..diagnosis.findings import TAMPERING, Finding
from ..matching.matches import Match

VERDICTS = ("identical", "permuted", "rescaled", "altered", "tampered", "unrelated")
ACCEPTED = VERDICTS[:3]
"""The suspect computes what the reference does."""
MAX_HARMLESS_FACTOR = 1e3
"""Units that were multiplied by more than this, or less than its inverse, may overflow, or vanish, where others do not."""
MIN_RECOGNISED_SHARE = 0.4
"""Where a smaller share of the units is likely to be copies, beyond what chance gives, two models are unrelated."""
BITS, ROUNDING = "bits", "rounding"
"""How the two are equal: in every bit, or as real numbers, so that results differ by rounding."""


@dataclass(frozen=True)
class Verdict:
    """What a suspect is to the reference.

    Attributes:
        verdict: one of `VERDICTS`.
        reason: one sentence that says why.
        equality: of an accepted suspect, `bits` where it computes the same bits up to the order of sums, `rounding` where it
            computes the same real numbers; None of any other.
    """

    verdict: str
    reason: str
    equality: str | None = None

    @property
    def accepted(self) -> bool:
        """Does the suspect compute what the reference does?"""
        return self.verdict in ACCEPTED


class Judged(Protocol):
    """What a verdict is judged from: a re-synchronisation, see `Resync` for the attributes."""

    @property
    def exact(self) -> bool:
        """Whether every weight is the reference's, bit for bit."""

    @property
    def restored(self) -> bool:
        """Whether every weight is the reference's, to rounding."""

    @property
    def alike(self) -> bool:
        """Whether both files say one program as they are written."""

    @property
    def bits(self) -> bool:
        """Whether equal weights give equal bits."""

    @property
    def apart(self) -> tuple[str, ...]:
        """Where the programs part."""

    @property
    def moved(self) -> int:
        """How many units stood elsewhere."""

    @property
    def similarity(self) -> float:
        """The mean cosine of matched units."""

    @property
    def max_weight_difference(self) -> float:
        """The largest difference of a weight."""

    @property
    def integrity(self) -> tuple[Finding, ...]:
        """What was done to single units."""

    @property
    def matches(self) -> tuple[Match, ...]:
        """Where the units of every group were found."""

    @property
    def alterations(self) -> Mapping[str, tuple[Alteration, ...]]:
        """By weight what was done to it."""

    @property
    def interchangeable(self) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        """By group the sets of units that nothing tells apart."""


def judge_suspect(found: Judged) -> Verdict:
    """The verdict on a suspect that was re-synchronised."""
    equality = BITS if found.exact and found.bits else ROUNDING
    if not found.apart:
        accepted = _judge_accepted(found, equality)
        if accepted is not None:
            return accepted
    share = measure_recognised(found)
    if share < MIN_RECOGNISED_SHARE:
        similar = f"their mean similarity is {found.similarity:.3f}"
        return Verdict(
            "unrelated",
            f"not a copy: {100 * share:.2f} % of the units are likely to be copies, {similar}",
        )
    if found.apart and (found.exact or found.restored):
        more = f", and in {len(found.apart) - 1} more places" if len(found.apart) > 1 else ""
        return Verdict(
            "altered",
            f"the weights are equal, but the files compute something else: {found.apart[0]}{more}",
        )
    return _judge_altered(found)


def _judge_accepted(found: Judged, equality: str) -> Verdict | None:
    """The verdict on a suspect that computes what the reference does, None for any other."""
    moved = f"{_count_units(found.moved, 'moved')}, and " if found.moved else ""
    written = "" if found.alike else "the files are written differently, and "
    how = "" if found.exact else " to rounding"
    if (found.exact or found.restored) and not found.integrity:
        back = " once they are back" if found.moved and found.alike else ""
        reason = f"{moved}{written}every weight is equal{how}{back}"
        return Verdict("permuted" if found.moved else "identical", reason, equality)
    if not found.restored:
        return None
    idle = sum(f.kind == "obfuscated" for f in found.integrity)
    if idle and idle == len(found.integrity):
        what = "that the function does not need, and every weight is equal to rounding without"
        moved = f"{_count_units(found.moved, 'moved')}, " if found.moved else ""
        return Verdict("rescaled", f"{moved}{_count_units(idle, 'inserted')} {what}", ROUNDING)
    if any(
        f.kind in TAMPERING or f.kind == "removed" or _is_extreme(f.factor) for f in found.integrity
    ):
        return None
    counts = [
        sum(f.kind in kinds for f in found.integrity)
        for kinds in (("rescaled",), ("mixed",), ("inert", "shifted"))
    ]
    if not any(counts):
        return None
    scaled, mixed, inert = counts
    kept = "in a way that leaves the function as it was"
    parts = [
        (found.moved, _count_units(found.moved, "moved")),
        (scaled, f"{_count_units(scaled, 'multiplied')} {kept}"),
        (mixed, f"the units of {_count(mixed, 'group', 'groups')} were mixed {kept}"),
        (inert, f"{_count(inert, 'bias', 'biases')} changed that the function does not depend on"),
    ]
    what = ", ".join(text for count, text in parts if count)
    return Verdict(
        "rescaled", f"{what}, and every weight is equal to rounding once that is undone", ROUNDING
    )


def _judge_altered(found: Judged) -> Verdict:
    """The verdict on a suspect that is a copy, and computes something else."""
    odd = [f for f in found.integrity if f.kind in TAMPERING]
    if odd:
        first = max(odd, key=lambda f: f.size)
        k = f" (times {first.factor:.4g})" if first.factor is not None else ""
        more = f", and {len(odd) - 1} more" if len(odd) > 1 else ""
        what = "a weight" if first.group is None else f"unit {first.unit} of group {first.group}"
        return Verdict("tampered", f"{what} was {first.kind} in {first.slot}{k}{more}")
    extreme = [f for f in found.integrity if _is_extreme(f.factor)]
    if extreme:
        f = extreme[0]
        return Verdict(
            "altered",
            f"unit {f.unit} of group {f.group} was multiplied by {f.factor:.4g}: it may overflow",
        )
    gone = sum(f.kind == "removed" for f in found.integrity)
    if gone:
        return Verdict("altered", _count_units(gone, "removed"))
    where = f"the files compute something else, {found.apart[0]}; " if found.apart else ""
    what = (
        f"by up to {found.max_weight_difference:.4g}"
        if found.max_weight_difference
        else "in the signs of zeros"
    )
    done = describe_alterations(found.alterations)
    return Verdict(
        "altered",
        f"{where}weights differ {what} once the units are back{f': {done}' if done else ''}",
    )


def _is_extreme(factor: float | None) -> bool:
    return factor is not None and not 1 / MAX_HARMLESS_FACTOR < abs(factor) < MAX_HARMLESS_FACTOR


def measure_recognised(found: Judged) -> float:
    """The share of the units that are likely to be copies, but for one a group, which is right by chance.

    What is interchangeable with others tells nothing. Where there is nothing to be told, the share is one.
    """
    likely, count = 0.0, 0
    for match in found.matches:
        alike = [unit for units in found.interchangeable.get(match.group, ()) for unit in units]
        certain = np.delete(match.certainty, alike)
        if certain.size > 1:
            likely += max(float(certain.sum()) - 1, 0.0)
            count += certain.size - 1
    return likely / count if count else 1.0


def _count_units(count: int, what: str) -> str:
    return f"{_count(count, 'unit was', 'units were')} {what}"


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
