"""What a reader may conclude from a verdict, and may not; and how a stranger's names are shown."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..pipeline.checking import Check
from ..pipeline.result import Resync
from ..pipeline.verdicts import ACCEPTED, ROUNDING

MAX_LISTED = 100
"""So many findings are listed, the largest first."""
MAX_NAME, MAX_REASON = 80, 1000
"""Longer names and reasons are cut."""
UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
"""What stands in place of characters that do not print, or turn text around."""
MADE_FROM = "One of the two was made from the other, or both from one model"
MAY_CONCLUDE = {
    True: "The suspect computes what the reference does, for all inputs{rounding}, where no value "
    "overflows. Its weights are those of the reference, up to what is said above.",
    "derived": "A part of one was made from the other, or both parts from one model. Elsewhere "
    "they differ.",
    "altered": f"{MADE_FROM}. That they compute the same was not shown{{changed}}.",
    "tampered": f"{MADE_FROM}, and single units or weights were changed besides: they stand out "
    "from all other changes.",
    "unrelated": "No sign was found that one model was made from the other.",
}
"""What a reader may conclude, by verdict, or `True` for all that are accepted."""
FIRST = "which of the two was first"
MAY_NOT_CONCLUDE = {
    True: "Who made the copy, and when; that the reference itself is sound; and that what the "
    "files say besides, such as names of classes, is equal.",
    "derived": f"That the suspect as a whole computes what the reference does; {FIRST}.",
    "altered": f"That the changes are harmless, or that they harm; {FIRST}.",
    "tampered": f"Who did it, and why: a change may be a repair; {FIRST}. In copies that were "
    "rescaled, pruned or rounded to few bits besides, units may be named that nobody touched.",
    "unrelated": "That the suspect was made without the reference: distillation leaves no trace in "
    "weights, and very strong changes hide it.",
}
"""What a reader may not conclude."""


def say_conclusions(
    verdict: str, found: Check | Resync, result: Resync | None, left_out: Sequence[str]
) -> list[str]:
    """Say what a reader may conclude, and may not.

    Args:
        verdict: the verdict.
        found: the result.
        result: the re-synchronisation in it, if there is one.
        left_out: the tensors of which nothing is said.

    Returns:
        The paragraphs of the page.
    """
    which = True if verdict in ACCEPTED else verdict
    equality = found.equality if isinstance(found, Check) else found.judged.equality
    rounding = ", up to rounding" if equality == ROUNDING else ""
    has_changes = result is not None and bool(result.alterations or result.integrity)
    changed = ", and weights were changed" if has_changes else ""
    told = MAY_CONCLUDE[which].format(rounding=rounding, changed=changed)
    parts = [
        f"<p><b>You may conclude:</b> {told}</p>",
        f"<p><b>You may not conclude:</b> {MAY_NOT_CONCLUDE[which]}</p>",
    ]
    if left_out:
        names = ", ".join(f"'{cut(name)}'" for name in left_out[:MAX_LISTED])
        more = f" and {len(left_out) - MAX_LISTED} more" * (len(left_out) > MAX_LISTED)
        parts.append(f"<p><b>Not compared:</b> {escape(names)}{more}, left out as was asked.</p>")
    return parts


def escape(text: str) -> str:
    """Return a stranger's text without markup, and without what does not print."""
    return html.escape("".join(c if c.isprintable() else UNPRINTABLE for c in text))


def cut(text: str, length: int = MAX_NAME) -> str:
    """Return a text, its end cut off if it is longer than `length`."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
