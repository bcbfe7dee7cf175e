"""Products of unknown factors on the elements of tensors, and the equations that hold between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..dataflow.labels.roles import find_varying_axes
from ..errors import UnknownStructure

Factor = tuple[tuple[tuple[int, float], ...], frozenset[int]]
"""A product: of unknown factors by number, each to a power, and of unknown signs."""
FactorRole = tuple[str, np.ndarray]
"""A group, and for every element of a tensor its unit and the number of its factor, 0 where that is one.

Of size one along axes that it does not hang on. The number stands above the unit's `UNIT_BITS`.
"""
UNIT_BITS = 32


class Monomials:
    """All products that occur, by number, and what is known of them.

    Attributes:
        factors: the products; the first is one.
        logs: what is zero: sums of the unknowns' logarithms, by unknown how often.
        flips: what is even: sets of unknown signs.
    """

    def __init__(self) -> None:
        self.factors: list[Factor] = [((), frozenset())]
        self._numbers = {self.factors[0]: 0}
        self.logs: list[dict[int, float]] = []
        self.flips: list[frozenset[int]] = []

    def number(self, factor: Factor) -> int:
        if factor not in self._numbers:
            self._numbers[factor] = len(self.factors)
            self.factors.append(factor)
        return self._numbers[factor]

    def unknowns(self, array: np.ndarray) -> set[int]:
        """The unknown factors that occur in an array."""
        return {k for n in np.unique(array >> UNIT_BITS).tolist() for k, _ in self.factors[n][0]}

    def still(self, roles: Iterable[FactorRole], scale: bool = True, sign: bool = True) -> None:
        """Factors that must be one, or positive."""
        for _, array in roles:
            for number in np.unique(array >> UNIT_BITS).tolist():
                log, flips = self.factors[number]
                if scale and log:
                    self.logs.append(dict(log))
                if sign and flips:
                    self.flips.append(flips)

    def mapped(self, array: np.ndarray, change: Callable[[Factor], Factor]) -> np.ndarray:
        """An array with every factor changed."""
        found, where = np.unique(array >> UNIT_BITS, return_inverse=True)
        new = np.array([self.number(change(self.factors[n])) for n in found.tolist()])[
            where
        ].reshape(array.shape)
        return encode_factors(new, array)

    def pairs(
        self, a: np.ndarray, b: np.ndarray
    ) -> tuple[list[tuple[int, int]], np.ndarray, np.ndarray]:
        """The numbers that meet element by element, which pair stands where, and the units; they must be the same."""
        a, b = np.broadcast_arrays(a, b)
        if ((a > 0) & (b > 0) & (decode_units(a) != decode_units(b))).any():
            raise UnknownStructure("different units meet")
        pairs, where = np.unique(
            np.stack([a.ravel(), b.ravel()]) >> UNIT_BITS, axis=1, return_inverse=True
        )
        return (
            [(i, j) for i, j in pairs.T.tolist()],
            where.reshape(a.shape),
            np.maximum(decode_units(a), decode_units(b)),
        )

    def joined(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The products of two arrays of factors, element by element."""
        pairs, where, units = self.pairs(a, b)
        return encode_factors(
            np.array(
                [self.number(multiply_factors(self.factors[i], self.factors[j])) for i, j in pairs]
            )[where],
            units,
        )

    def alike(self, sides: Sequence[Sequence[FactorRole]]) -> list[FactorRole]:
        """What is added: the factors of all `sides` must be the same; they are those of the sum."""
        groups = dict.fromkeys(g for side in sides for g, _ in side)
        found: list[FactorRole] = []
        for group in groups:
            own = [[a for g, a in side if g == group] for side in sides]
            first = next(o for o in own if o)
            one = len({find_varying_axes(a) for o in own for a in o}) == 1
            if not one or any(len(o) != 1 for o in own):
                self.still((group, a) for o in own for a in o)
                if one and all(len(o) < 2 for o in own):
                    # it is one now, and still the unit's
                    found.append((group, first[0]))
                continue
            for other in own:
                for i, j in self.pairs(first[0], other[0])[0]:
                    if i != j:
                        log, flips = multiply_factors(self.factors[i], self.factors[j], -1)
                        self.logs.append(dict(log))
                        self.flips.append(flips)
            found.append((group, np.broadcast_arrays(*(o[0] for o in own))[0]))
        return found

    def product(self, roles: Iterable[FactorRole]) -> list[FactorRole]:
        """What is multiplied: factors of one group along the same axes are; others stand beside each other."""
        found: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}
        for group, array in roles:
            key = group, find_varying_axes(array)
            found[key] = self.joined(found[key], array) if key in found else array
        return [(group, array) for (group, _), array in found.items()]

    def power(self, roles: Iterable[FactorRole], power: float) -> list[FactorRole]:
        """Factors to a power; of any but a whole positive one they must be positive.

        The sign of a zero says which infinity its inverse is, and no factor changes it as it changes others.
        """
        roles = list(roles)
        whole = float(power).is_integer()
        if not whole or power < 0:
            self.still(roles, scale=False)

        def change(factor: Factor) -> Factor:
            log, flips = factor
            return tuple(
                (k, c * power) for k, c in log
            ), flips if whole and power % 2 else frozenset()

        return [(g, self.mapped(a, change)) for g, a in roles]

    def signs(self, roles: Iterable[FactorRole]) -> list[FactorRole]:
        return [(g, self.mapped(a, lambda f: ((), f[1]))) for g, a in roles]

    def sizes(self, roles: Iterable[FactorRole]) -> list[FactorRole]:
        return [(g, self.mapped(a, lambda f: (f[0], frozenset()))) for g, a in roles]


def decode_units(array: np.ndarray) -> np.ndarray:
    return array & ((1 << UNIT_BITS) - 1)


def encode_factors(numbers: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Numbers of factors with their units; 0 where the factor is one."""
    return np.where(numbers == 0, 0, (numbers << UNIT_BITS) | decode_units(units))


def multiply_factors(a: Factor, b: Factor, power: float = 1) -> Factor:
    log = dict(a[0])
    for k, c in b[0]:
        log[k] = log.get(k, 0.0) + power * c
    return tuple(sorted((k, c) for k, c in log.items() if abs(c) > 1e-9)), a[1] ^ b[1]
