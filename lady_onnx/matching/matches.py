"""Holds what a matching finds: where the units of one group went, and how sure that is.

How matches are found is the business of `matcher`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Match:
    """Where the units of one group went.

    Attributes:
        group: The group's id.
        permutation: int64 [size]. Unit j of the reference is unit `permutation[j]` of the suspect.
        similarity: float64 [size]. The cosine of the rows of unit j of the reference and of its
            match; 1 for equal units.
        margin: float64 [size]. By how many nats the match is likelier than the runner-up: 0 where
            the two are alike, infinite where the match alone is exact, bit for bit. It is negative
            where an assignment gives a unit to another one for the good of all.
        certainty: float64 [size]. The probability, among all assignments of the group's units, that
            the match is right.
    """

    group: str
    permutation: np.ndarray
    similarity: np.ndarray
    margin: np.ndarray
    certainty: np.ndarray

    @classmethod
    def in_place(cls, group: str, size: int) -> Match:
        """Return the exact match that leaves every unit where it is.

        >>> Match.in_place("conv:0", 3).permutation.tolist()
        [0, 1, 2]
        """
        return cls(group, np.arange(size), np.ones(size), np.full(size, np.inf), np.ones(size))

    @property
    def moved(self) -> int:
        """The number of units that stood elsewhere."""
        return int((self.permutation != np.arange(self.permutation.size)).sum())
