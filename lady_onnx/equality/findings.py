"""TODO."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """Where two graphs part.

    Attributes:
        place: the node, the input or the output, as the suspect calls it.
        what: what differs there.
        final: whether what lies before that place has no counterpart.
    """

    place: str
    what: str
    final: bool

    def __str__(self) -> str:
        return f"at {self.place}, {self.what}"
