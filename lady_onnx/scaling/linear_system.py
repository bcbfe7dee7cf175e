"""Sparse homogeneous linear equations, solved by elimination.

Most of the equations of a factor walk say that two unknowns are equal, so rows stay short.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

NEGLIGIBLE_COEFFICIENT = 1e-9
"""Coefficients below this come from rounding, and are zero."""
KEY_DECIMALS = 6
"""Coefficients that are equal to so many decimals are equal."""


class LinearSystem:
    """The solutions of homogeneous linear equations, over the reals or the integers modulo 2.

    Args:
        unknowns: the numbers of the unknowns that are asked for.
        rows: the equations: by unknown its coefficient in a sum that is zero.
        modulus: 0 for real numbers, or 2.

    Attributes:
        values: by unknown its value as a weighted sum of free unknowns: their coefficients.
        free: the free unknowns, sorted.

    >>> system = LinearSystem([0, 1, 2], [{0: 1.0, 1: -1.0}], 0)
    >>> system.values, system.free
    ({0: {0: 1.0}, 1: {0: 1.0}, 2: {2: 1.0}}, [0, 2])
    """

    def __init__(self, unknowns: Sequence[int], rows: Iterable[Mapping[int, float]], modulus: int):
        self.modulus = modulus
        self.pivots: dict[int, dict[int, float]] = {}
        for row in rows:
            left = self._reduce(row)
            if left:
                # The smallest numbers stay free, so that the result does not depend on the order of
                # the rows. A pivot equals a sum of smaller unknowns alone.
                lead = max(left)
                scale = left.pop(lead)
                self.pivots[lead] = self._drop_zeros({k: -c / scale for k, c in left.items()})
        self.values = {k: self._reduce({k: 1.0}) for k in unknowns}
        self.free = sorted({k for value in self.values.values() for k in value})

    def _drop_zeros(self, terms: Mapping[int, float]) -> dict[int, float]:
        """Return the terms of a sum whose coefficients are not zero, in the field of the system."""
        if self.modulus:
            terms = {k: c % self.modulus for k, c in terms.items()}
        return {k: c for k, c in terms.items() if abs(c) > NEGLIGIBLE_COEFFICIENT}

    def _reduce(self, row: Mapping[int, float]) -> dict[int, float]:
        """Return a sum with every pivot replaced by what it is equal to."""
        left = self._drop_zeros(row)
        # Pivots stand for smaller unknowns, so this ends.
        while True:
            known = [k for k in left if k in self.pivots]
            if not known:
                return left
            for k in known:
                by = left.pop(k)
                for other, c in self.pivots[k].items():
                    left[other] = left.get(other, 0.0) + by * c
            left = self._drop_zeros(left)

    def make_key(self, unknown: int) -> tuple:
        """Return a key that is the same for unknowns that are equal in every solution."""
        return tuple(sorted((k, round(c, KEY_DECIMALS)) for k, c in self.values[unknown].items()))
