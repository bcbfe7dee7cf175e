"""What a comparison of two graphs finds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Difference:
    """Where two graphs part.

    Attributes:
        place: the node, the input or the output, as the suspect calls it.
        what: what differs there.
        is_final: whether what lies before that place has no counterpart.
    """

    place: str
    what: str
    is_final: bool

    def __str__(self) -> str:
        return f"at {self.place}, {self.what}"


@dataclass
class Findings:
    """What is found while two graphs are walked.

    Attributes:
        weights: the pairs of weights that stand for each other somewhere, in the order of the walk.
        differences: where the graphs part.
        doubted: the values of which the suspect declares what the reference does not.
        stated: what the reference states of the lengths of the suspect's values.
        values: a value of the reference for every value of the suspect that was met.
    """

    weights: dict[tuple[str, str], None] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    doubted: set[str] = field(default_factory=set)
    stated: dict[tuple[str, int], int | str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    def add_difference(self, place: str, what: str, is_final: bool = False) -> None:
        """Note where the graphs part."""
        self.differences.append(Difference(place, what, is_final))
