"""Matches units by some of their elements, and proves by all of them that none is nearer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from .strategies import (
    Comparison,
    LikelihoodStrategy,
    MatchedRows,
    weigh_elements,
    weigh_rows,
)

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
    strategy = comparison.strategy
    if not isinstance(strategy, LikelihoodStrategy) or not strategy.adds_up or size < 2:
        return None
    sample = _find_nearest_units(comparison, slots, size)
    if sample is None or np.unique(sample.nearest.first).size < size:
        return None
    chosen, bounds = sample.nearest.first, sample.nearest.bounds
    if comparison.judge is None:
        # Matches without figures are not the last ones, and those of some elements will do.
        is_sure = sample.share * (bounds + SURE_MARGIN_NATS) <= sample.nearest.best
        return Match(name, chosen, *[np.ones(size)] * 3) if is_sure.all() else None
    own, found, apart = _multiply_rows(comparison, strategy, slots, chosen)
    # Differences of large numbers are rounded. And NaN is not sure of anything.
    least = bounds + SURE_MARGIN_NATS + ROUNDING * own.max(0)
    if not (-apart / 2 >= least).all():
        return None
    similarity = found / np.maximum(np.sqrt(own[0] * own[1]), MIN_DIVISOR)
    others = (sample.others - 1) / sample.share + 1
    margin = (own[0] + own[1][sample.nearest.second]) / 2 - others - apart / 2
    # The judge knows rows by their products: rows of one number have the same ones.
    norm = np.maximum(np.sqrt(own[0]), MIN_DIVISOR)
    rows = (z[:, None] for z in (norm, found / norm, others / norm))
    certainty = comparison.judge(MatchedRows(name, None, chosen, *rows))
    # what some elements say of the second is an estimate of what all say, and a bound
    return Match(name, chosen, similarity, np.maximum(margin, -apart / 2 - bounds), certainty)


@dataclass(frozen=True)
class _Sample:
    """The nearest units by some elements.

    Attributes:
        nearest: The units.
        share: The share of the elements that were compared.
        others: The products of the elements of each unit with those of the second one, and the
            one at their end, float64 [units].
    """

    nearest: Nearest
    share: float
    others: np.ndarray


def _find_nearest_units(comparison: Comparison, slots: Sequence[Slot], size: int) -> _Sample | None:
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
            others = np.einsum("ij,ij->i", x, y[nearest.second], dtype=np.float64)
            return _Sample(nearest, (x.shape[1] - 1) / max(total, 1), others)
        # each turn takes twice as many at least, so that there are few
        count = int(min(max(needed, 2 * count), most + 1))
    return None


def _multiply_rows(
    comparison: Comparison, strategy: LikelihoodStrategy, slots: Sequence[Slot], chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare all elements of units with those of their matches. A one stands at each row's end.

    Args:
        comparison: the models.
        strategy: how they are compared.
        slots: the slots of the units.
        chosen: int64 [units]: their matches.

    Returns:
        The squares of the reference's rows and of their matches, float64 [2, units]; the products
        of both [units]; and the squared distances [units].
    """
    is_in_place = bool((chosen == np.arange(chosen.size)).all())

    def multiply(slot: Slot) -> np.ndarray:
        if is_in_place and not slot.within:
            # the lines of a weight, along all axes at once, take less than their elements
            sides = (a[slot.initializer] for a in (comparison.reference, comparison.current))
            lines = strategy.sum_weighed_lines(slot.initializer, *sides)[slot.axis]
            return lines[:, slot.index].sum(2)
        sums = np.zeros((3, chosen.size))
        for part in split_slot(comparison.reference[slot.initializer].shape, slot):
            sums[:, part.units] += _multiply_part(comparison, part, chosen[part.units])
        return sums

    sums = sum(map_in_threads(multiply, slots), np.array([[1.0], [0.0], [0.0]]))
    own, shared, apart = np.broadcast_to(sums, (3, chosen.size))
    return np.stack([own, own + 2 * shared + apart]), own + shared, apart


def _multiply_part(comparison: Comparison, part: SlotPart, chosen: np.ndarray) -> np.ndarray:
    """Return what `sum_lines` sums up, for the units of a part and their matches, [3, units]."""
    slot = part.slot

    def take(arrays: Arrays, units: np.ndarray | slice) -> np.ndarray:
        some = replace(slot, index=slot.index[units])
        return weigh_elements(comparison.strategy, arrays[slot.initializer], some, {}, part.thin)

    x, y = take(comparison.reference, part.units), take(comparison.current, chosen)
    y -= x
    pairs = (x, x), (x, y), (y, y)
    return np.stack(
        [multiply_lines(*pair, slot.axis).reshape(len(chosen), -1).sum(1) for pair in pairs]
    )
