"""Sums up squares and products of two weights line by line, along all axes, in one pass over both.

A line holds all elements at one position along an axis, such as a row or a column of a table. Its
sums say how long a unit is in both models, and how far apart the two are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ..numerics import BLOCK_ELEMENTS, LEAST_DEVIATION, is_short_float

Importance = Mapping[int, np.ndarray]
"""By axis, float [positions]: how much an element counts at each position."""
NO_IMPORTANCE: Importance = MappingProxyType({})


PAIRS = ((0, 0), (0, 1), (1, 1))
"""The products that are summed up, of the reference's elements (0) and of differences (1)."""
OWN, APART = PAIRS[:1], PAIRS[2:]


def sum_lines(
    x: np.ndarray,
    y: np.ndarray,
    mean: float = 0.0,
    importance: Importance = NO_IMPORTANCE,
    pairs: Sequence[tuple[int, int]] = PAIRS,
) -> list[np.ndarray]:
    """Sum up products of two weights at every position along every axis.

    With a = x - mean and d = y - x these are a a, a d and d d. The importance of an element is the
    product of those of its positions along all axes but the one that the line stands on.

    Args:
        x, y: two weights of one shape.
        mean: is taken out of both.
        importance: by axis that of its positions; one where it is not given.
        pairs: which products.

    Returns:
        For every axis float64 [pairs, positions]. They are not finite where an element is not.

    >>> rows, columns = sum_lines(np.array([[1.0, 2.0]]), np.array([[1.0, 5.0]]))
    >>> rows.tolist(), columns.tolist()
    ([[5.0], [6.0], [9.0]], [[1.0, 4.0], [0.0, 6.0], [0.0, 9.0]])
    """
    if not x.size:
        return [np.zeros((len(pairs), n)) for n in x.shape]
    weights = [np.asarray(importance.get(a, np.ones(n))) for a, n in enumerate(x.shape)]
    least = LEAST_DEVIATION**2 * x.size
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if is_short_float(x) and is_short_float(y):
            sums = _sum_products(x, y, mean, weights, pairs, np.dtype(np.float32))
            # what is neither too large nor lost; sums of products of both may be zero
            squares = [a == b for a, b in pairs]
            if all(np.isfinite(s).all() and (s[squares].sum(1) > least).all() for s in sums):
                return sums
        return _sum_products(x, y, mean, weights, pairs, np.dtype(np.float64))


def _sum_products(
    x: np.ndarray,
    y: np.ndarray,
    mean: float,
    weights: list[np.ndarray],
    pairs: Sequence[tuple[int, int]],
    dtype: np.dtype,
) -> list[np.ndarray]:
    """Do what `sum_lines` says in one precision; every axis has its weights."""
    many = math.prod(x.shape[1:])
    if x.ndim == 1:
        sides = _take_sides(x, y, mean, dtype)
        return [np.stack([sides[i] * sides[j] for i, j in pairs]).astype(np.float64)]
    if many > BLOCK_ELEMENTS:
        first = np.empty((len(pairs), len(x)))
        rest = [np.zeros((len(pairs), n)) for n in x.shape[1:]]
        for k in range(len(x)):
            inner = _sum_products(x[k], y[k], mean, weights[1:], pairs, dtype)
            first[:, k] = inner[0] @ weights[1]
            for total, part in zip(rest, inner, strict=True):
                total += weights[0][k] * part
        return [first, *rest]
    beside = np.ones(1)
    for weight in weights[1:]:
        beside = np.multiply.outer(beside, weight).ravel()
    beside, across = beside.astype(dtype), weights[0].astype(dtype)
    rows, columns = np.empty((len(pairs), len(x))), np.zeros((len(pairs), many))
    step = BLOCK_ELEMENTS // many
    products = np.empty((len(pairs), min(step, len(x)), many), dtype)
    for start in range(0, len(x), step):
        block = slice(start, start + step)
        sides = _take_sides(x[block].reshape(-1, many), y[block].reshape(-1, many), mean, dtype)
        part = products[:, : len(sides[0])]
        for product, (i, j) in zip(part, pairs, strict=True):
            np.multiply(sides[i], sides[j], out=product)
        rows[:, block] = part @ beside
        columns += across[block] @ part
    shape, sums = (len(pairs), *x.shape[1:]), [rows]
    for axis in range(1, x.ndim):
        table = columns.reshape(shape)
        for other in range(1, x.ndim):
            if other != axis:
                lines = [-1 if a == other else 1 for a in range(x.ndim)]
                table = table * weights[other].reshape(lines)
        sums.append(table.sum(tuple(a for a in range(1, x.ndim) if a != axis)))
    return sums


def _take_sides(
    x: np.ndarray, y: np.ndarray, mean: float, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Return the reference's elements without the mean, and the differences."""
    a, b = x.astype(dtype, copy=False), y.astype(dtype, copy=False)
    return (a - dtype.type(mean) if mean else a), b - a
