"""Shapes as products of factors, which reshapes split, join and reorder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .lengths import Length, divide_lengths, multiply_lengths


def as_integers(shape: Sequence[Length]) -> list[int]:
    """Return a shape whose lengths are all plain numbers."""
    return [n for n in shape if isinstance(n, int | np.integer)]


def split_factors(
    factors: Sequence[Length], order: Sequence[int], shape: Sequence[Length]
) -> tuple[list[Length], list[int]] | None:
    """Split reordered factors until they are as fine as the axes of a shape.

    Args:
        factors: the factors, in their first order.
        order: the factors in their new order.
        shape: the axes that the reordered factors are laid out in.

    Returns:
        The finer factors in their first order, and their new order; None where an axis divides no
        factor.

    >>> split_factors([2, 12], [1, 0], [3, 4, 2])
    ([2, 3, 4], [1, 2, 0])
    """
    found = refine_shapes([factors[k] for k in order], shape)
    if found is None:
        return None
    parts: dict[int, list[Length]] = dict(zip(order, found[0], strict=True))
    first: dict[int, int] = {}
    fine: list[Length] = []
    for k in range(len(factors)):
        first[k] = len(fine)
        # an axis of length one that the shape drops has no factors
        fine += parts.get(k, [])
    return fine, [first[k] + i for k in order for i in range(len(parts[k]))]


def group_factors(factors: Sequence[Length], shape: Sequence[Length]) -> list[list[int]] | None:
    """Find for every axis of a shape the run of factors that it is the product of.

    Returns:
        The positions of the factors for every axis; None where an axis is no such product.

    >>> group_factors([2, 3, 4], [6, 4])
    [[0, 1], [2]]
    """
    found: list[list[int]] = []
    at = 0
    for n in shape:
        # An axis of length one is the product of no factors.
        run: list[int] = []
        while multiply_lengths(factors[k] for k in run) != n:
            if at == len(factors):
                return None
            run.append(at)
            at += 1
        found.append(run)
    # factors of one at the end may belong to no axis
    return found if all(n == 1 for n in factors[at:]) else None


def refine_shapes(
    a: Sequence[Length], b: Sequence[Length]
) -> tuple[list[list[Length]], list[list[Length]]] | None:
    """Split the lengths of two shapes into the same factors.

    Args:
        a, b: shapes of as many elements.

    Returns:
        For every length of each shape its factors; None where there are no such factors.

    >>> refine_shapes([6, 4], [2, 12])
    ([[2, 3], [4]], [[2], [3, 4]])
    """
    # x and y are what is left of the axes before i and j. The factor that both have is split off,
    # and whichever is used up goes on to its next axis.
    left: list[list[Length]] = [[] for _ in a]
    right: list[list[Length]] = [[] for _ in b]
    i = j = 0
    x: Length = 1
    y: Length = 1
    while True:
        while x == 1 and i < len(a):
            x, i = a[i], i + 1
        while y == 1 and j < len(b):
            y, j = b[j], j + 1
        if x == 1 or y == 1:
            return (left, right) if x == y else None
        if x == y:
            factor: Length | None = x
        elif divide_lengths(x, y) is not None:
            factor = y
        elif divide_lengths(y, x) is not None:
            factor = x
        else:
            return None
        assert factor is not None
        left[i - 1].append(factor)
        right[j - 1].append(factor)
        left_of_x, left_of_y = divide_lengths(x, factor), divide_lengths(y, factor)
        if left_of_x is None or left_of_y is None:
            return None
        x, y = left_of_x, left_of_y
