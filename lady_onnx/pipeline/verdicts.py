"""What a suspect is to the reference, judged from what re-synchronisation found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..reporting import count_things, format_share

if TYPE_CHECKING:
    from ..diagnosis.alterations import Alteration
    from ..diagnosis.findings import Finding
    from ..groups.model import StateOrder
    from ..matching.matches import Match
    from ..matching.shared.copies import Common

# What judges a re-synchronisation is loaded by the functions below that need it: files that are
# equal need the words of this module alone.

VERDICTS = ("identical", "permuted", "rescaled", "derived", "altered", "tampered", "unrelated")
"""What a suspect may be to a reference, the best first."""
UNRELATED = VERDICTS[-1]
"""The verdict on models that have next to nothing in common."""
ACCEPTED = VERDICTS[:3]
"""The verdicts on suspects that compute what the reference does."""
MAX_HARMLESS_FACTOR = 1e3
"""Units that were multiplied by more than this may overflow, by less than its inverse vanish."""
MIN_RECOGNISED_SHARE = 0.4
"""Models with a smaller share of units that are likely copies, beyond chance, are unrelated."""
BITS, ROUNDING = "bits", "rounding"
"""Two models are equal in every bit, or as real numbers, so that results differ by rounding."""


EQUAL_WEIGHTS = "every weight is equal"


@dataclass(frozen=True)
class Verdict:
    """What a suspect is to the reference.

    Attributes:
        verdict: one of `VERDICTS`.
        reason: one sentence that says why.
        equality: of an accepted suspect, `bits` where it computes the same bits up to the order of
            sums, and `rounding` where it computes the same real numbers; None of any other.
    """

    verdict: str
    reason: str
    equality: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the suspect computes what the reference does."""
        return self.verdict in ACCEPTED


class Judged(Protocol):
    """What a verdict is judged from: a re-synchronisation. `Resync` explains the attributes."""

    @property
    def exact(self) -> bool:
        """Whether every weight is the reference's, bit for bit."""

    @property
    def restored(self) -> bool:
        """Whether every weight is the reference's, to rounding."""

    @property
    def alike(self) -> bool:
        """Whether both files hold one program as they are written."""

    @property
    def bits(self) -> bool:
        """Whether equal weights give equal bits."""

    @property
    def apart(self) -> tuple[str, ...]:
        """The places where the programs differ."""

    @property
    def moved(self) -> int:
        """The number of units that stood elsewhere in the suspect."""

    @property
    def moved_states(self) -> tuple[StateOrder, ...]:
        """The outputs that are fed back as inputs, and had another order in the suspect."""

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
    def common(self) -> Common | None:
        """The part that both models share, where they share a part alone."""

    @property
    def interchangeable(self) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        """By group the sets of units that nothing tells apart."""


def judge_suspect(found: Judged) -> Verdict:
    """Judge a suspect that was re-synchronised."""
    # Whatever is equal in a part, the whole is another one: this comes before any yes.
    if found.common is not None:
        return _judge_derived(found, found.common)
    # The order decides: a yes first, and then whether it is a copy at all. Only a copy is altered.
    equality = BITS if found.exact and found.bits else ROUNDING
    if not found.apart:
        accepted = _judge_accepted(found, equality)
        if accepted is not None:
            from .wording import describe_states

            told = "; ".join([accepted.reason, *describe_states(found.moved_states)])
            return replace(accepted, reason=told)
    share = measure_recognised(found)
    if share < MIN_RECOGNISED_SHARE:
        similar = f"their mean similarity is {found.similarity:.3f}"
        return Verdict(
            UNRELATED,
            f"not a copy: {100 * share:.2f} % of the units are likely to be copies, {similar}",
        )
    if found.apart and (found.exact or found.restored):
        places = count_things(len(found.apart) - 1, "more place")
        more = f", and in {places}" if len(found.apart) > 1 else ""
        what = "the weights are equal, but it was not shown that the files compute the same"
        return Verdict("altered", f"{what}: {found.apart[0]}{more}")
    return _judge_altered(found)


def _judge_accepted(found: Judged, equality: str) -> Verdict | None:
    """Return the verdict on a suspect that computes what the reference does, else None."""
    from ..diagnosis.findings import REMOVED, TAMPERING

    moved = f"{_count_units(found.moved, 'moved')}, and " if found.moved else ""
    written = "" if found.alike else "the files are written differently, and "
    how = "" if found.exact else " to rounding"
    if (found.exact or found.restored) and not found.integrity:
        back = " once they are back" if found.moved and found.alike else ""
        reason = f"{moved}{written}{EQUAL_WEIGHTS}{how}{back}"
        return Verdict("permuted" if found.moved else "identical", reason, equality)
    # From here on there are findings: a yes needs that undoing them gives the reference's weights.
    if not found.restored:
        return None
    idle = sum(f.kind == "obfuscated" for f in found.integrity)
    if idle and idle == len(found.integrity):
        what = "that the function does not need, and every weight is equal to rounding without"
        moved = f"{_count_units(found.moved, 'moved')}, " if found.moved else ""
        return Verdict("rescaled", f"{moved}{_count_units(idle, 'inserted')} {what}", ROUNDING)
    if any(
        f.kind in TAMPERING or f.kind == REMOVED or _is_extreme(f.factor) for f in found.integrity
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
        (mixed, f"the units of {count_things(mixed, 'group')} were mixed {kept}"),
        (
            inert,
            f"{count_things(inert, 'bias', 'biases')} changed that the function does not depend on",
        ),
    ]
    what = ", ".join(text for count, text in parts if count)
    return Verdict(
        "rescaled", f"{what}, and every weight is equal to rounding once that is undone", ROUNDING
    )


def _judge_derived(found: Judged, common: Common) -> Verdict:
    """Return the verdict on a suspect that has copies of a part of the reference."""
    ours = f"{format_share(common.weights)} of the reference's weights"
    ours = f"{ours} and {format_share(common.units)} of its units"
    theirs = f"{format_share(common.suspect_weights)} and {format_share(common.suspect_units)}"
    how = (
        "equal bit for bit"
        if common.equal
        else f"different by up to {found.max_weight_difference:.4g}"
    )
    back = " once the units are back" if found.moved else ""
    return Verdict(
        "derived",
        f"copies make up {ours}, and {theirs} of the suspect's; their weights are {how}{back}; "
        f"the graphs part at {common.parts_at}",
    )


def _judge_altered(found: Judged) -> Verdict:
    """Return the verdict on a copy of which it was not shown that it computes the same."""
    from ..diagnosis.findings import REMOVED, TAMPERING

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
    gone = sum(f.kind == REMOVED for f in found.integrity)
    if gone:
        return Verdict("altered", _count_units(gone, "removed"))
    apart = "it was not shown that the files compute the same"
    where = f"{apart}: {found.apart[0]}; " if found.apart else ""
    what = (
        f"by up to {found.max_weight_difference:.4g}"
        if found.max_weight_difference
        # Zeros of both signs are equal as numbers, and not as bits.
        else "in the signs of zeros"
    )
    # equal files, which most are, need none of what this loads
    from ..diagnosis.alterations import describe_alterations

    done = describe_alterations(found.alterations)
    return Verdict(
        "altered",
        f"{where}weights differ {what} once the units are back{f': {done}' if done else ''}",
    )


def _is_extreme(factor: float | None) -> bool:
    """Tell whether a unit with a factor may overflow or vanish."""
    return factor is not None and not 1 / MAX_HARMLESS_FACTOR < abs(factor) < MAX_HARMLESS_FACTOR


def measure_recognised(found: Judged) -> float:
    """Return the share of the units that are likely to be copies, beyond what chance gives, 0 to 1.

    One unit of every group is left out, because one is right by chance. So are units that are
    interchangeable with others, because they tell nothing. Of two numbers of units the smaller one
    counts: a wider copy has all units of the reference. The share is one where no unit is left.
    """
    from ..diagnosis.findings import ADDED, REMOVED

    likely, count = 0.0, 0
    more = Counter(f.group for f in found.integrity if f.kind in ADDED)
    more.subtract(f.group for f in found.integrity if f.kind == REMOVED)
    for match in found.matches:
        alike = [unit for units in found.interchangeable.get(match.group, ()) for unit in units]
        certain = np.delete(match.certainty, alike)
        if certain.size > 1:
            likely += max(float(certain.sum()) - 1, 0.0)
            count += max(certain.size - max(more[match.group], 0) - 1, 0)
    return likely / count if count else 1.0


def _count_units(count: int, what: str) -> str:
    """Say what was done to a number of units."""
    return f"{count_things(count, 'unit was', 'units were')} {what}"
