"""Sparse homogeneous linear equations, solved by elimination: most of them say that two unknowns are equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


class LinearSystem:
    """The solutions of homogeneous linear equations, over real numbers or over the integers modulo 2.

    Args:
        unknowns: the numbers of the unknowns that are asked for.
        rows: equations, the coefficient of every unknown in a sum that is zero.
        modulus: 0 for real numbers, or 2.

    Attributes:
        values: of every unknown, a sum of free ones: their coefficients.
        free: the free unknowns.
    """

    def __init__(self, unknowns: Sequence[int], rows: Iterable[Mapping[int, float]], modulus: int):
        self.modulus = modulus
        self.pivots: dict[int, dict[int, float]] = {}
        for row in rows:
            left = self._reduce(row)
            if left:
                # the least number stays free
                lead = max(left)
                scale = left.pop(lead)
                self.pivots[lead] = self._drop_zeros({k: -c / scale for k, c in left.items()})
        self.values = {k: self._reduce({k: 1.0}) for k in unknowns}
        self.free = sorted({k for value in self.values.values() for k in value})

    def _drop_zeros(self, terms: Mapping[int, float]) -> dict[int, float]:
        if self.modulus:
            terms = {k: c % self.modulus for k, c in terms.items()}
        return {k: c for k, c in terms.items() if abs(c) > 1e-9}

    def _reduce(self, row: Mapping[int, float]) -> dict[int, float]:
        left = self._drop_zeros(row)
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
        """The same for unknowns that are equal in every solution."""
        return tuple(sorted((k, round(c, 6)) for k, c in self.values[unknown].items()))
