"""Lengths of axes as polynomials of those that only a run shows.

The batch, the length of a sequence, the height of a picture are unknowns, one for each axis of each input; what a graph
computes of them by sums, products and exact quotients is a polynomial of them with whole coefficients. Two lengths are
equal where their polynomials are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Union

import numpy as np

MOST_TERMS, MOST_FACTORS = 64, 6
"""No length is of more terms, nor a term of more lengths."""
MOST, MOST_SHORT = 1 << 40, 1 << 12
"""Nor is one multiplied by more; of those in four bytes the second."""
Monomial = tuple[str, ...]
"""A product of unknowns, sorted."""


class Poly:
    """A polynomial that is no plain number."""

    __slots__ = ("terms",)

    def __init__(self, terms: Iterable[tuple[Monomial, int]]):
        self.terms = tuple(sorted(terms))

    def __hash__(self) -> int:
        return hash(self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __repr__(self) -> str:
        return " + ".join("*".join([str(c), *m]) for m, c in self.terms)

    def __add__(self, other: Length) -> Length:
        return _made([*self.terms, *_terms(other)])

    def __mul__(self, other: Length) -> Length:
        return _made(
            (tuple(sorted((*m, *n))), c * d) for m, c in self.terms for n, d in _terms(other)
        )

    def __neg__(self) -> Length:
        return self * -1

    def __sub__(self, other: Length) -> Length:
        return self + -other

    def __rsub__(self, other: Length) -> Length:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__


Length = Union[int, Poly]  # noqa: UP007
"""The length of an axis."""


def make_unknown_length(name: str) -> Poly:
    """The length that is called so."""
    return Poly([((name,), 1)])


def multiply_lengths(extents: Iterable[Length]) -> Length:
    """The product of lengths: how many elements a tensor has."""
    total: Length = 1
    for extent in extents:
        total = total * extent
    return total


def divide_lengths(a: Length, b: Length) -> Length | None:
    """`a` divided by `b`; None where that leaves a rest, or where a polynomial of several terms divides."""
    terms = _terms(b)
    if len(terms) != 1 or not terms[0][1]:
        return 1 if a == b and terms else None
    monomial, coefficient = terms[0]
    found = []
    for m, c in _terms(a):
        left = Counter(m)
        left.subtract(Counter(monomial))
        if c % coefficient or min(left.values(), default=0) < 0:
            return None
        found.append((tuple(sorted(left.elements())), c // coefficient))
    return _made(found)


def is_number(values: Iterable[Length]) -> bool:
    """Are all lengths plain numbers?"""
    return all(not isinstance(v, Poly) for v in values)


def fits_int32(values: Iterable[Length]) -> bool:
    """Do lengths fit into four bytes wherever the lengths that they are made of are of usual size?"""
    return all(abs(c) <= MOST_SHORT for v in values for _, c in _terms(v))


def numbers(array: np.ndarray) -> np.ndarray | None:
    """An array of lengths as int64; None where one is unknown."""
    return array.astype(np.int64) if is_number(array.ravel().tolist()) else None


def _terms(value: Length) -> list[tuple[Monomial, int]]:
    return list(value.terms) if isinstance(value, Poly) else [((), int(value))]


def _made(terms: Iterable[tuple[Monomial, int]]) -> Length:
    total: dict[Monomial, int] = {}
    for m, c in terms:
        total[m] = total.get(m, 0) + c
    kept: Mapping[Monomial, int] = {m: c for m, c in total.items() if c}
    if len(kept) > MOST_TERMS or any(
        len(m) > MOST_FACTORS or abs(c) > MOST for m, c in kept.items()
    ):
        raise ArithmeticError("lengths that whole numbers may not hold")
    if not kept.keys() - {()}:
        return math.prod(kept.values()) if kept else 0
    return Poly(kept.items())
