"""Matches units by some of their elements, and proves by all of them that none is nearer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..groups.model import Slot
from ..groups.permutations import Arrays
from ..numerics import MIN_DIVISOR
from .evidence.nearest import Nearest, find_nearest
from .evidence.scores import join_rows
from .matches import Match
from .strategies import Comparison, MatchedRows, Thin, weigh_rows

MIN_SAMPLED_ELEMENTS, SAMPLED_SHARE = 256, 16
"""At first so many elements of a row are compared, or one in so many of them."""
SURE_MARGIN_NATS = 30.0
"""A match is sure if any other is less likely by more than this, as a difference of logarithms."""
ROUNDING = 1e-5
"""By at most this share of the squares of rows their log-likelihoods are rounded."""
BLOCK_ELEMENTS = 1 << 22
"""About so many elements of rows are held at once."""


def match_surely(
    comparison: Comparison, name: str, slots: Sequence[Slot], size: int
) -> Match | None:
    """Match units by some of their elements, if all their elements bear that out.

    Every unit is nearer to its match over all elements than to any other unit over some. So it has
    no nearer one, and the matches are the best of all assignments, as each is another unit.

    Args:
        comparison: the models, and how they are compared.
        name: the id of the units' group.
        slots: the slots by which they are matched.
        size: the number of units.

    Returns:
        The matches; None where they are not that sure.
    """
    total = sum(_count_row_elements(comparison.reference, s) for s in slots)
    if not comparison.strategy.adds_up or size < 2:
        return None
    step = max(total // max(MIN_SAMPLED_ELEMENTS, total // SAMPLED_SHARE), 1)
    sides = (
        [
            weigh_rows(comparison.strategy, a, s, thin=_thin_slot(a[s.initializer].shape, s, step))
            for s in slots
        ]
        for a in (comparison.reference, comparison.current)
    )
    nearest = find_nearest(*(join_rows(rows, size) for rows in sides))
    if np.unique(nearest.first).size < size:
        return None
    own, found, apart, others = _multiply_rows(comparison, slots, nearest)
    # Differences of large numbers are rounded. And NaN is not sure of anything.
    margin = SURE_MARGIN_NATS + ROUNDING * own.max(0)
    if not (-apart[0] / 2 >= nearest.bounds + margin).all():
        return None
    if comparison.judge is None:
        return Match(name, nearest.first, *[np.ones(size)] * 3)
    similarity = found / np.maximum(np.sqrt(own[0] * own[1]), MIN_DIVISOR)
    # The judge knows rows by their products: rows of one number have the same ones.
    norm = np.maximum(np.sqrt(own[0]), MIN_DIVISOR)
    rows = (z[:, None] for z in (norm, found / norm, others / norm))
    certainty = comparison.judge(MatchedRows(name, None, nearest.first, *rows))
    return Match(name, nearest.first, similarity, (apart[1] - apart[0]) / 2, certainty)


def _count_row_elements(arrays: Arrays, slot: Slot) -> int:
    """Count the elements of a unit in a slot."""
    shape, within = arrays[slot.initializer].shape, dict(slot.within)
    sizes = (len(within[a]) if a in within else n for a, n in enumerate(shape) if a != slot.axis)
    return slot.index.shape[1] * math.prod(sizes)


def _thin_slot(shape: tuple[int, ...], slot: Slot, step: int) -> Thin:
    """Return every so many positions along the longest axis of a weight that is free for that."""
    free = [a for a in range(len(shape)) if a != slot.axis and a not in dict(slot.within)]
    if not free:
        return {}
    longest = max(free, key=lambda a: shape[a])
    return {longest: slice(None, None, min(step, max(shape[longest], 1)))}


def _multiply_rows(
    comparison: Comparison, slots: Sequence[Slot], nearest: Nearest
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compare all elements of units with those of the two nearest rows, some units at a time.

    Returns:
        The squares of the reference's rows and of their matches, float64 [2, units]; the products
        of both [units]; the squared distances to both nearest rows [2, units], and the products
        with the second [units]. A one stands at the end of every row.
    """
    size = len(nearest.first)
    own, apart = np.ones((2, size)), np.zeros((2, size))
    found, others = np.ones(size), np.ones(size)
    total = sum(_count_row_elements(comparison.reference, s) for s in slots)
    many = max(BLOCK_ELEMENTS // max(total, 1), 1)
    for start, slot in itertools.product(range(0, size, many), slots):
        units = slice(start, start + many)

        def take(arrays: Arrays, chosen: np.ndarray, slot: Slot = slot) -> np.ndarray:
            part = replace(slot, index=slot.index[chosen])
            return weigh_rows(comparison.strategy, arrays, part)

        x = take(comparison.reference, np.arange(size)[units])
        y = take(comparison.current, nearest.first[units])
        own[0, units] += _multiply(x, x)
        own[1, units] += _multiply(y, y)
        found[units] += _multiply(x, y)
        y -= x
        apart[0, units] += _multiply(y, y)
        if comparison.judge is not None:
            z = take(comparison.current, nearest.second[units])
            others[units] += _multiply(x, z)
            z -= x
            apart[1, units] += _multiply(z, z)
    return own, found, apart, others


def _multiply(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the product of every row of `x` with that of `y`."""
    return np.einsum("ij,ij->i", x, y)
