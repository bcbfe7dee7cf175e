"""Lengths of axes as polynomials of the lengths that only a run shows.

The batch, the length of a sequence and the height of a picture are unknowns, one for each axis of
each input. What a graph computes of them by sums, products and exact quotients is a polynomial of
them with whole coefficients. Two lengths are equal where their polynomials are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Union

MAX_TERMS = 64
"""The largest number of terms that a length may have: every product of sums multiplies it."""
MAX_FACTORS = 6
"""The largest number of unknowns that one term may multiply."""
MAX_COEFFICIENT = 1 << 40
"""The largest absolute coefficient of a length.

Lengths are computed in int64 when a model runs. This leaves 23 bits for the unknowns.
"""
MAX_INT32_COEFFICIENT = 1 << 12
"""The largest absolute coefficient of a length that is held in four bytes: 19 bits are left."""

Monomial = tuple[str, ...]
"""A product of unknowns, by their names, sorted."""


class Polynomial:
    """A length that is no plain number.

    Args:
        terms: the monomials with their coefficients.
    """

    __slots__ = ("terms",)

    # No coefficient is zero, and a plain number is no polynomial (`_make_length`). So two lengths
    # are equal where their terms are.
    def __init__(self, terms: Iterable[tuple[Monomial, int]]):
        self.terms = tuple(sorted(terms))

    def __hash__(self) -> int:
        return hash(self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __repr__(self) -> str:
        return " + ".join("*".join([str(c), *m]) for m, c in self.terms)

    def __add__(self, other: Length) -> Length:
        return _make_length([*self.terms, *_list_terms(other)])

    def __mul__(self, other: Length) -> Length:
        return _make_length(
            (tuple(sorted((*m, *n))), c * d) for m, c in self.terms for n, d in _list_terms(other)
        )

    def __neg__(self) -> Length:
        return self * -1

    def __sub__(self, other: Length) -> Length:
        return self + -other

    def __rsub__(self, other: Length) -> Length:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__


Length = Union[int, Polynomial]  # noqa: UP007
"""The length of an axis: a plain number, or a polynomial."""


def make_unknown_length(name: str) -> Polynomial:
    """Make the unknown length of a name."""
    return Polynomial([((name,), 1)])


def multiply_lengths(lengths: Iterable[Length]) -> Length:
    """Multiply lengths; the product of a shape is the number of its elements."""
    total: Length = 1
    for length in lengths:
        total = total * length
    return total


def divide_lengths(a: Length, b: Length) -> Length | None:
    """Divide a length by another one.

    Returns:
        The quotient; None where a rest is left, or where the divisor has several terms.

    >>> batch = make_unknown_length("batch")
    >>> divide_lengths(batch * 12, 4), divide_lengths(batch, 2)
    (3*batch, None)
    """
    terms = _list_terms(b)
    if len(terms) != 1 or not terms[0][1]:
        return 1 if a == b and terms else None
    monomial, coefficient = terms[0]
    found = []
    for m, c in _list_terms(a):
        left = Counter(m)
        left.subtract(Counter(monomial))
        if c % coefficient or min(left.values(), default=0) < 0:
            return None
        found.append((tuple(sorted(left.elements())), c // coefficient))
    return _make_length(found)


def are_numbers(values: Iterable[Length]) -> bool:
    """Tell whether all lengths are plain numbers."""
    return all(not isinstance(v, Polynomial) for v in values)


def fit_int32(values: Iterable[Length]) -> bool:
    """Tell whether lengths fit into four bytes as long as the unknown ones are of a usual size."""
    return all(abs(c) <= MAX_INT32_COEFFICIENT for v in values for _, c in _list_terms(v))


def _list_terms(value: Length) -> list[tuple[Monomial, int]]:
    """List the monomials of a length, with their coefficients."""
    return list(value.terms) if isinstance(value, Polynomial) else [((), int(value))]


def _make_length(terms: Iterable[tuple[Monomial, int]]) -> Length:
    """Add up monomials; the sum is a plain number where no unknown is left.

    Raises:
        ArithmeticError: if a length is so large that integers may not hold it.
    """
    total: dict[Monomial, int] = {}
    for m, c in terms:
        total[m] = total.get(m, 0) + c
    kept: Mapping[Monomial, int] = {m: c for m, c in total.items() if c}
    if len(kept) > MAX_TERMS or any(
        len(m) > MAX_FACTORS or abs(c) > MAX_COEFFICIENT for m, c in kept.items()
    ):
        raise ArithmeticError("lengths that whole numbers may not hold")
    # The empty monomial stands for the plain number, and is the only one here.
    if not kept.keys() - {()}:
        return math.prod(kept.values()) if kept else 0
    return Polynomial(kept.items())
