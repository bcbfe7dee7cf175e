"""What a diagnosis passes on: a suspect from which changes were taken out that change nothing.

The module holds the results alone; `undoing` and `mixing` make them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..matching.matches import Match
from .findings import Finding


@dataclass(frozen=True)
class Undone:
    """A suspect whose units are in place, and no longer multiplied.

    Attributes:
        matches: Where the units are.
        arrays: The weights with the units in place, and not multiplied.
        placed: These with the units in place, as they are multiplied in the suspect.
        expected: The reference's weights, multiplied in the same way.
        findings: One for every unit that was multiplied, and every group that was mixed.
        settled: Whether every weight of a group is the reference's, bit for bit.
        grown: Where units were mixed, by how much more than their own size weights may have been
            rounded.
        roundings: By weight of a short type how many groups have factors in it, each of which
            rounds it.
    """

    matches: list[Match]
    arrays: dict[str, np.ndarray]
    placed: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    findings: tuple[Finding, ...]
    settled: bool = False
    grown: Mapping[str, float] = field(default_factory=dict)
    roundings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Unmixed:
    """A suspect from which maps of units were taken out, all else where it is.

    Attributes:
        arrays: The weights that change.
        grown: For each of them, by how much more than its own size it may have been rounded.
        findings: One for every group whose units were mixed.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    grown: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
