"""What a diagnosis passes on: a suspect from which changes that leave its function were taken out.

The module holds the results alone; `undoing` and `mixing` make them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..matching.matches import Match
from .findings import Finding

Enlargements = dict[str, dict[int, float]]
"""By weight, and by axis along which its units were mixed, by which factor taking the map out may
have enlarged the rounding of the largest unit at any place of the other axes.
"""


@dataclass(frozen=True)
class Undone:
    """A suspect whose units are in place, and no longer multiplied.

    `arrays`, `placed` and `expected` hold only weights of which units were moved, multiplied or
    mixed.

    Attributes:
        matches: Where the units are.
        arrays: The weights with the units in place and the factors taken out, in the suspect's
            dtypes.
        placed: The weights with the units in place, and the suspect's factors left in them.
        expected: The reference's weights with the suspect's factors in them, float64; empty where
            nothing was multiplied.
        findings: One for every unit that was multiplied, and every group that was mixed.
        settled: Whether every weight of a group is the reference's, bit for bit.
        grown: For weights whose units were mixed, see `Enlargements`.
        roundings: By weight of a short type how many groups have factors in it, each of which
            rounds it.
    """

    matches: list[Match]
    arrays: dict[str, np.ndarray]
    placed: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    findings: tuple[Finding, ...]
    settled: bool = False
    grown: Enlargements = field(default_factory=dict)
    roundings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Unmixed:
    """A suspect from which maps of units were taken out, all else where it is.

    Attributes:
        arrays: The weights that change.
        grown: For each of them how much rounding was enlarged.
        findings: One for every group whose units were mixed.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    grown: Enlargements = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def join_enlargements(a: Enlargements, b: Enlargements) -> Enlargements:
    """Join what two steps enlarged, one after the other."""
    joined: Enlargements = {}
    for name, axis, factor in [(n, k, f) for e in (a, b) for n in e for k, f in e[n].items()]:
        own = joined.setdefault(name, {})
        own[axis] = own.get(axis, 1.0) * factor
    return joined
