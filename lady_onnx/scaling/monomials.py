"""Products of unknown factors on the elements of tensors, and the equations that hold between them.

A monomial is a product of unknown factors, each to a power, and of unknown signs. Every element of
a tensor carries the number of its monomial. The walk over a graph multiplies monomials where
tensors are multiplied, and notes an equation where the function would change otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..dataflow.labels.roles import find_varying_axes
from ..errors import UnknownStructureError

Factor = tuple[tuple[tuple[int, float], ...], frozenset[int]]
"""A monomial: unknown factors by number, each to a power, and unknown signs by number."""
FactorRole = tuple[str, np.ndarray]
"""A group's id, and for every element of a tensor its unit and the number of its monomial.

The array is int64, of size one along axes on which it does not depend. The monomial's number stands
above the lowest `UNIT_BITS`, which hold the unit. The whole is 0 where the factor is one: then the
unit is forgotten, and may meet any other.
"""
UNIT_BITS = 32
"""The number of bits, the lowest ones, that hold the unit of an element."""
NEGLIGIBLE_POWER = 1e-9
"""Powers below this come from rounding, and are zero."""


class Monomials:
    """All monomials that occur, by number, and the equations that hold between unknowns.

    Attributes:
        factors: the monomials by number; number 0 is one.
        logs: linear equations over the logarithms of the unknown factors: by unknown its
            coefficient in a sum that is zero.
        flips: linear equations over the integers modulo two: unknown signs whose product is plus.
    """

    def __init__(self) -> None:
        self.factors: list[Factor] = [((), frozenset())]
        self._numbers = {self.factors[0]: 0}
        self.logs: list[dict[int, float]] = []
        self.flips: list[frozenset[int]] = []

    def number_factor(self, factor: Factor) -> int:
        """Return the number of a monomial, a new one where it occurs for the first time.

        >>> monomials = Monomials()
        >>> factor = (((7, 1.0),), frozenset({7}))
        >>> monomials.number_factor(((), frozenset())), monomials.number_factor(factor)
        (0, 1)
        """
        if factor not in self._numbers:
            self._numbers[factor] = len(self.factors)
            self.factors.append(factor)
        return self._numbers[factor]

    def list_unknowns(self, array: np.ndarray) -> set[int]:
        """Return the unknown factors that occur in an array of numbers."""
        numbers = np.unique(array >> UNIT_BITS).tolist()
        return {k for n in numbers for k, _ in self.factors[n][0]}

    def fix(self, roles: Iterable[FactorRole], scale: bool = True, sign: bool = True) -> None:
        """Note that factors are one.

        Args:
            roles: the factors.
            scale: whether their sizes are one.
            sign: whether their signs are plus.
        """
        for _, array in roles:
            for number in np.unique(array >> UNIT_BITS).tolist():
                log, flips = self.factors[number]
                if scale and log:
                    self.logs.append(dict(log))
                if sign and flips:
                    self.flips.append(flips)

    def map_factors(self, array: np.ndarray, change: Callable[[Factor], Factor]) -> np.ndarray:
        """Return an array with `change` applied to the monomial of every element."""
        found, where = np.unique(array >> UNIT_BITS, return_inverse=True)
        # The shape of `where` depends on the version of numpy.
        new = np.array([self.number_factor(change(self.factors[n])) for n in found.tolist()])
        return encode_factors(new[where].reshape(array.shape), array)

    def pair_numbers(
        self, a: np.ndarray, b: np.ndarray
    ) -> tuple[list[tuple[int, int]], np.ndarray, np.ndarray]:
        """Find the pairs of monomials that meet in the elements of two arrays that broadcast.

        Returns:
            The pairs of numbers; for every element the position of its pair in that list; and for
            every element its unit.

        Raises:
            UnknownStructureError: different units meet in an element.
        """
        a, b = np.broadcast_arrays(a, b)
        if _has_different_units(a, b):
            raise UnknownStructureError("different units meet")
        # A pair is one number: to sort rows of two takes ten times as long.
        total = len(self.factors)
        numbers = (a >> UNIT_BITS) * total + (b >> UNIT_BITS)
        if numbers.size and (numbers == numbers.flat[0]).all():
            pairs, where = numbers.ravel()[:1], np.zeros(a.shape, np.int64)
        else:
            pairs, where = np.unique(numbers, return_inverse=True)
        units = np.maximum(decode_units(a), decode_units(b))
        return [divmod(n, total) for n in pairs.tolist()], where.reshape(a.shape), units

    def multiply_arrays(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the products of two arrays of monomials, element by element.

        Raises:
            UnknownStructureError: different units meet in an element.
        """
        pairs, where, units = self.pair_numbers(a, b)
        factors = [multiply_factors(self.factors[i], self.factors[j]) for i, j in pairs]
        return encode_factors(np.array([self.number_factor(f) for f in factors])[where], units)

    def merge(self, role: FactorRole, axes: Sequence[int]) -> FactorRole | None:
        """Return the one factor that each unit has wherever it stands along axes.

        Its factors there are noted to be equal.

        Returns:
            The factors, of size one along the axes; None where different units lie along them.
        """
        group, array = role
        first = array[tuple(slice(1) if a in axes else slice(None) for a in range(array.ndim))]
        if _has_different_units(first, array):
            return None
        self._note_equal(first, array)
        return group, first

    def _note_equal(self, a: np.ndarray, b: np.ndarray) -> None:
        """Note that the factors of elements of two arrays that broadcast are equal.

        Raises:
            UnknownStructureError: different units meet in an element.
        """
        a, b = np.broadcast_arrays(a, b)
        is_apart = a != b
        if not is_apart.any():
            return
        for i, j in self.pair_numbers(a[is_apart], b[is_apart])[0]:
            if i != j:
                log, flips = multiply_factors(self.factors[i], self.factors[j], -1)
                self.logs.append(dict(log))
                self.flips.append(flips)

    def equate(self, sides: Sequence[Sequence[FactorRole]]) -> list[FactorRole]:
        """Note that the factors of all terms of a sum are equal, and return those of the sum.

        Args:
            sides: the factors on each term.
        """
        # A dict, unlike a set, keeps the order: equations and results must not depend on hashes.
        groups = dict.fromkeys(g for side in sides for g, _ in side)
        found: list[FactorRole] = []
        for group in groups:
            own = [[a for g, a in side if g == group] for side in sides]
            made = self._equate_group(group, own)
            if made is not None:
                found.append((group, made))
        return found

    def _equate_group(self, group: str, own: Sequence[list[np.ndarray]]) -> np.ndarray | None:
        """Note that the factors of one group on all terms are equal, and return them.

        They are one, and None is returned, where the terms have the group along different axes.
        """
        first = next(arrays for arrays in own if arrays)
        is_along_same = all(self._is_of_same_units(first[0], a) for arrays in own for a in arrays)
        if not is_along_same or any(len(arrays) != 1 for arrays in own):
            self.fix((group, a) for arrays in own for a in arrays)
            # An equation makes the factor one. But it keeps its number, and with that its units,
            # which must still not meet others.
            is_single = is_along_same and all(len(arrays) < 2 for arrays in own)
            return first[0] if is_single else None
        for other in own:
            self._note_equal(first[0], other[0])
        return min((arrays[0] for arrays in own), key=np.size)

    def multiply(self, roles: Iterable[FactorRole]) -> list[FactorRole]:
        """Return the factors of a product.

        Factors of one group on the same units are multiplied. All others stand beside each other.
        """
        found: list[FactorRole] = []
        for group, array in roles:
            for k, (name, other) in enumerate(found):
                if name == group and self._is_of_same_units(other, array):
                    found[k] = group, self.multiply_arrays(other, array)
                    break
            else:
                found.append((group, array))
        return found

    def _is_of_same_units(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Tell whether the units of two factors are along the same axes.

        One of them may differ along others as well: a unit may have several factors.
        """
        first, second = set(find_varying_axes(a)), set(find_varying_axes(b))
        if first == second:
            return True
        return (first <= second or second <= first) and not _has_different_units(a, b)

    def raise_to(self, roles: Iterable[FactorRole], power: float) -> list[FactorRole]:
        """Return factors to a power.

        Only whole positive powers let signs pass. The sign of a zero decides which infinity its
        inverse is, so a changed sign would not pass an inverse as it passes other numbers.
        """
        roles = list(roles)
        is_whole = float(power).is_integer()
        if not is_whole or power < 0:
            self.fix(roles, scale=False)

        def change(factor: Factor) -> Factor:
            log, flips = factor
            kept = flips if is_whole and power % 2 else frozenset()
            return tuple((k, c * power) for k, c in log), kept

        return [(g, self.map_factors(a, change)) for g, a in roles]

    def keep_signs(self, roles: Iterable[FactorRole]) -> list[FactorRole]:
        """Return the signs of factors."""
        return [(g, self.map_factors(a, lambda f: ((), f[1]))) for g, a in roles]

    def keep_sizes(self, roles: Iterable[FactorRole]) -> list[FactorRole]:
        """Return the sizes of factors."""
        return [(g, self.map_factors(a, lambda f: (f[0], frozenset()))) for g, a in roles]


def _has_different_units(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether elements of two arrays that broadcast are of different units."""
    return bool(((a > 0) & (b > 0) & (decode_units(a) != decode_units(b))).any())


def decode_units(array: np.ndarray) -> np.ndarray:
    """Return the units of an array of encoded factors; 0 where the factor is one."""
    return array & ((1 << UNIT_BITS) - 1)


def encode_factors(numbers: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return the numbers of monomials encoded with their units; 0 where the factor is one.

    >>> encoded = encode_factors(np.array([0, 3]), np.array([5, 5]))
    >>> (encoded >> UNIT_BITS).tolist(), decode_units(encoded).tolist()
    ([0, 3], [0, 5])
    """
    return np.where(numbers == 0, 0, (numbers << UNIT_BITS) | decode_units(units))


def multiply_factors(a: Factor, b: Factor, power: float = 1) -> Factor:
    """Return the product of a monomial and another to a power.

    >>> multiply_factors((((1, 1.0),), frozenset({1})), (((1, 1.0), (2, 1.0)), frozenset({2})))
    (((1, 2.0), (2, 1.0)), frozenset({1, 2}))
    """
    log = dict(a[0])
    # The power is 1 or -1, and a sign is its own inverse.
    for k, c in b[0]:
        log[k] = log.get(k, 0.0) + power * c
    kept = ((k, c) for k, c in log.items() if abs(c) > NEGLIGIBLE_POWER)
    return tuple(sorted(kept)), a[1] ^ b[1]
