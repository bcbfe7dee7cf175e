"""Matches units by some of their elements, and proves by all of them that none is nearer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..groups.model import Slot
from ..groups.permutations import Arrays
from ..groups.rows import (
    SlotPart,
    count_row_elements,
    multiply_lines,
    split_slot,
    thin_slot,
)
from ..numerics import MIN_DIVISOR, map_in_threads
from .evidence.nearest import Nearest, find_nearest
from .evidence.scores import join_rows
from .matches import Match
from .strategies import Comparison, MatchedRows, weigh_elements, weigh_rows

FIRST_SAMPLED_ELEMENTS = 128
"""So many elements of a row are compared at first; they tell how many are needed."""
SAMPLING_ROOM = 1.25
"""So many times more elements are compared than those that the first ones say are needed."""
MAX_SAMPLED_SHARE = 0.25
"""If a larger share of all elements is needed, the likelihoods of all pairs cost no more."""
SURE_MARGIN_NATS = 30.0
"""A match is sure if any other is less likely by more than this, as a difference of logarithms."""
ROUNDING = 1e-5
"""By at most this share of the squares of rows their log-likelihoods are rounded."""


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
    if not comparison.strategy.adds_up or size < 2:
        return None
    nearest = _find_nearest_units(comparison, slots, size)
    if nearest is None or np.unique(nearest.first).size < size:
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


def _find_nearest_units(comparison: Comparison, slots: Sequence[Slot], size: int) -> Nearest | None:
    """Find the nearest units by as few elements as tell them apart; None if it takes many."""
    total = sum(count_row_elements(comparison.reference[s.initializer].shape, s) for s in slots)
    most = max(int(MAX_SAMPLED_SHARE * total), FIRST_SAMPLED_ELEMENTS)
    count = min(FIRST_SAMPLED_ELEMENTS, total)
    while count <= most:
        step = max(total // max(count, 1), 1)
        sides = (
            [
                weigh_rows(
                    comparison.strategy, a, s, thin=thin_slot(a[s.initializer].shape, s, step)
                )
                for s in slots
            ]
            for a in (comparison.reference, comparison.current)
        )
        x, y = (join_rows(rows, size) for rows in sides)
        nearest = find_nearest(x, y)
        # What some elements say of a unit's match all of them say many times over, and must not be
        # more than what some say of the others.
        apart = -float(np.median(nearest.best)) * total / x.shape[1]
        other = -float(nearest.bounds.max()) / x.shape[1]
        needed = SAMPLING_ROOM * (apart + SURE_MARGIN_NATS) / max(other, MIN_DIVISOR)
        if not math.isfinite(needed):
            return None
        if needed <= x.shape[1] or x.shape[1] > total:
            return nearest
        # each turn takes twice as many at least, so that there are few
        count = int(min(max(needed, 2 * count), most + 1))
    return None


def _multiply_rows(
    comparison: Comparison, slots: Sequence[Slot], nearest: Nearest
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compare all elements of units with those of the two nearest rows, part by part.

    Returns:
        The squares of the reference's rows and of their matches, float64 [2, units]; the products
        of both [units]; the squared distances to both nearest rows [2, units], and the products
        with the second [units]. A one stands at the end of every row.
    """
    parts = [p for s in slots for p in split_slot(comparison.reference[s.initializer].shape, s)]
    sums = np.zeros((6, len(nearest.first)))
    sums[[0, 1, 2, 5]] = 1
    done = map_in_threads(lambda part: _multiply_part(comparison, part, nearest), parts)
    for part, figures in zip(parts, done, strict=True):
        sums[:, part.units] += figures
    return sums[:2], sums[2], sums[3:5], sums[5]


def _multiply_part(comparison: Comparison, part: SlotPart, nearest: Nearest) -> np.ndarray:
    """Return the figures of `_multiply_rows` for a part, float64 [6, units]."""
    slot, chosen = part.slot, nearest.first[part.units]

    def take(arrays: Arrays, units: np.ndarray | slice) -> np.ndarray:
        some = replace(slot, index=slot.index[units])
        return weigh_elements(comparison.strategy, arrays[slot.initializer], some, {}, part.thin)

    def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return multiply_lines(a, b, slot.axis).reshape(len(chosen), -1).sum(1)

    sums = np.zeros((6, len(chosen)))
    x, y = take(comparison.reference, part.units), take(comparison.current, chosen)
    sums[0], sums[1] = multiply(x, x), multiply(y, y)
    if comparison.judge is not None:
        sums[2] = multiply(x, y)
        z = take(comparison.current, nearest.second[part.units])
        sums[5] = multiply(x, z)
        z -= x
        sums[4] = multiply(z, z)
    y -= x
    sums[3] = multiply(y, y)
    return sums
