"""Sums up squares and products of two weights line by line, along some axes, in one pass over both.

A line holds all elements at one position along an axis, such as a row or a column of a table. Its
sums say how long a unit is in both models, and how far apart the two are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence, Set
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
    axes: Collection[int],
    pairs: Sequence[tuple[int, int]] = PAIRS,
    mean: float = 0.0,
    importance: Importance = NO_IMPORTANCE,
) -> dict[int, np.ndarray]:
    """Sum up products of two weights at every position along some axes.

    With a = x - mean and d = y - x these are a a, a d and d d. The importance of an element is the
    product of those of its positions along all axes but the one that the line stands on.

    Args:
        x, y: two weights of one shape.
        axes: the axes.
        pairs: which products.
        mean: is taken out of both.
        importance: by axis that of its positions; one where it is not given.

    Returns:
        By axis, the first one always among them, float64 [pairs, positions]. They are not finite
        where an element is not.

    >>> sums = sum_lines(np.array([[1.0, 2.0]]), np.array([[1.0, 5.0]]), (0, 1))
    >>> sums[0].tolist(), sums[1].tolist()
    ([[5.0], [6.0], [9.0]], [[1.0, 4.0], [0.0, 6.0], [0.0, 9.0]])
    """
    if not x.size:
        return {a: np.zeros((len(pairs), x.shape[a])) for a in axes}
    weights = [importance.get(a) for a in range(x.ndim)]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if is_short_float(x) and is_short_float(y):
            sums = _sum_products(x, y, set(axes), pairs, mean, weights, np.dtype(np.float32))
            # Squares of large and of small numbers have no place in single precision. Products of
            # two may well be zero.
            squares = [z[[a == b for a, b in pairs]] for z in sums.values()]
            means = np.concatenate([(z * (z.shape[1] / x.size)).ravel() for z in squares])
            if ((means > LEAST_DEVIATION**2) & np.isfinite(means)).all():
                return sums
        return _sum_products(x, y, set(axes), pairs, mean, weights, np.dtype(np.float64))


def _sum_products(
    x: np.ndarray,
    y: np.ndarray,
    axes: Set[int],
    pairs: Sequence[tuple[int, int]],
    mean: float,
    weights: Sequence[np.ndarray | None],
    dtype: np.dtype,
) -> dict[int, np.ndarray]:
    """Do what `sum_lines` says in one precision; an axis without weights has none of them."""
    many = math.prod(x.shape[1:])
    if x.ndim == 1:
        sides = _take_sides(x, y, mean, dtype)
        return {0: np.stack([sides[i] * sides[j] for i, j in pairs]).astype(np.float64)}
    inner = {axis - 1 for axis in axes if axis}
    if many > BLOCK_ELEMENTS:
        first = np.empty((len(pairs), len(x)))
        rest = {axis: np.zeros((len(pairs), x.shape[axis + 1])) for axis in inner}
        for k in range(len(x)):
            sums = _sum_products(x[k], y[k], inner | {0}, pairs, mean, weights[1:], dtype)
            first[:, k] = _weigh(sums[0], weights[1]).sum(1)
            for axis, total in rest.items():
                total += sums[axis] if weights[0] is None else weights[0][k] * sums[axis]
        return {0: first, **{axis + 1: total for axis, total in rest.items()}}
    beside = np.ones(1, dtype)
    for length, weight in zip(x.shape[1:], weights[1:], strict=True):
        lines = np.ones(length, dtype) if weight is None else weight.astype(dtype)
        beside = np.multiply.outer(beside, lines).ravel()
    across = np.ones(len(x), dtype) if weights[0] is None else weights[0].astype(dtype)
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
        if inner:
            columns += across[block] @ part
    result = {0: rows}
    for axis in inner:
        table = columns.reshape(len(pairs), *x.shape[1:])
        # the last axes first, so that those before keep their numbers
        for other in reversed(range(x.ndim - 1)):
            if other != axis:
                table = _weigh(np.moveaxis(table, other + 1, -1), weights[other + 1]).sum(-1)
        result[axis + 1] = table
    return result


def _weigh(lines: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return lines times the weights of their last axis."""
    return lines if weight is None else lines * weight


def _take_sides(
    x: np.ndarray, y: np.ndarray, mean: float, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Return the reference's elements without the mean, and the differences."""
    a, b = x.astype(dtype, copy=False), y.astype(dtype, copy=False)
    return (a - dtype.type(mean) if mean else a), b - a
