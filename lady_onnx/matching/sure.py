"""Matches units by some of their elements, and proves by all of them that none is nearer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..groups.model import Slot
from ..groups.permutations import Arrays
from ..groups.rows import (
    Thin,
    count_row_elements,
    split_slot,
    take_elements,
    thin_slot,
)
from ..numerics import MIN_DIVISOR
from ..storage import store_blocks
from ..threads import map_in_threads
from .evidence.copies import MIN_CHANCE_GAP
from .evidence.nearest import Nearest, find_nearest
from .evidence.noise import MIN_RELATIVE_NOISE
from .matches import Match
from .strategies import (
    Comparison,
    LikelihoodStrategy,
    MatchedRows,
    weigh_rows,
)

FIRST_SAMPLED_ELEMENTS = 128
"""So many elements of a row are taken at first; they tell how many are needed."""
SAMPLING_ROOM = 1.25
"""So many times more elements are compared than those that the first ones say are needed."""
TRIED_UNITS = 128
"""So many units tell what share of the elements that were taken is likely to do for all."""
TRYING_ROOM = 2.0
"""Some units say of all that a share does if it does even so many times over."""
TRIED_STEPS = (8, 4, 2)
"""One element in so many is a share that may do, the smallest first."""
BEARING_STEP = 4
"""Matches are borne out by one element in so many of as many others as were taken."""
SLOTS_AT_ONCE = 8
"""The elements of so many slots are in memory at once."""
MAX_FARTHER = 2.0
"""More elements bear out what some say if they are at most this many times farther apart."""
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
        # Matches without figures are not the last ones. So those of some elements will do, where
        # some more say the same.
        if not _are_borne_out(comparison, slots, sample):
            return None
        return Match(name, chosen, *[np.ones(size)] * 3)
    own, found, apart = _multiply_rows(comparison, strategy, slots, chosen)
    # Differences of large numbers are rounded. And NaN is not sure of anything.
    least = bounds + SURE_MARGIN_NATS + ROUNDING * own.max(0)
    if not (-apart / 2 >= least).all():
        return None
    similarity = found / np.maximum(np.sqrt(own[0] * own[1]), MIN_DIVISOR)
    # of all elements the second recovers about the share that it recovers of some
    some = np.maximum(sample.nearest.squares - 1, MIN_DIVISOR)
    others = 1 + (sample.nearest.products - 1) / some * (own[0] - 1)
    # Where that is nearly all, copies are hard to tell from others: the share must be exact.
    if not (others - 1).sum() <= (1 - MIN_CHANCE_GAP) * (own[0] - 1).sum():
        return None
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
        rows: float32 [units, elements], of the reference and of the suspect: the elements that were
            taken, a one before them.
        step: One position in so many was taken, along one axis of each weight.
        share: One element in so many of these was compared.
    """

    nearest: Nearest
    rows: tuple[np.ndarray, np.ndarray]
    step: int
    share: int

    @property
    def noise(self) -> float:
        """The variance of what differs in matched units, where that of the noise is taken for 1."""
        count = self.rows[0][:, :: self.share].shape[1]
        return 2 * -float(np.median(self.nearest.best)) / count


def _find_nearest_units(comparison: Comparison, slots: Sequence[Slot], size: int) -> _Sample | None:
    """Find the nearest units by as few elements as tell them apart; None if all do not."""
    shapes = [comparison.reference[s.initializer].shape for s in slots]
    total = sum(count_row_elements(z, s) for z, s in zip(shapes, slots, strict=True))
    count = min(FIRST_SAMPLED_ELEMENTS, total)
    while count <= total:
        step = max(total // max(count, 1), 1)
        rows = _lay_rows(comparison, slots, size, step)
        needed = math.inf
        for share in _list_shares(comparison, rows, total):
            x, y = (z[:, ::share] for z in rows)
            sample = _Sample(find_nearest(x, y), rows, step, share)
            needed = _count_needed_elements(comparison, sample, total)
            if not math.isfinite(needed):
                return None
            if needed <= x.shape[1] or x.shape[1] > total:
                return sample
        # each turn takes twice as many at least, so that there are few
        count = int(min(max(needed, 2 * count), total + 1))
    return None


def _list_shares(
    comparison: Comparison, rows: tuple[np.ndarray, np.ndarray], total: int
) -> Iterator[int]:
    """List what shares of the elements that were taken may do, one in so many, and all of them."""
    some = slice(None, None, -(-len(rows[0]) // TRIED_UNITS))
    # The nearest other unit by few elements seems nearer than it is, which figures must not say.
    tried = TRIED_STEPS if comparison.judge is None else ()
    for share in tried:
        x, y = (z[:, ::share] for z in rows)
        sample = _Sample(find_nearest(x[some], y), rows, 0, share)
        if TRYING_ROOM * _count_needed_elements(comparison, sample, total) <= x.shape[1]:
            yield share
            break
    yield 1


def _count_needed_elements(comparison: Comparison, sample: _Sample, total: int) -> float:
    """Return how many elements of units tell them apart, as far as a sample tells; inf if none do.

    Args:
        comparison: how units are compared.
        sample: what some elements say.
        total: the number of all elements.
    """
    nearest = sample.nearest
    count = sample.rows[0][:, :: sample.share].shape[1]
    if comparison.judge is None:
        # The noise is not known as yet, and at most what was taken for it.
        margin = SURE_MARGIN_NATS * min(max(sample.noise, MIN_RELATIVE_NOISE**2), 1.0)
        apart = float((nearest.best - nearest.bounds).min()) / count
        return SAMPLING_ROOM * margin / max(apart, MIN_DIVISOR)
    # What some elements say of a unit's match all of them say many times over, and must not be more
    # than what some say of the others.
    own = -float(np.median(nearest.best)) * total / count
    other = -float(nearest.bounds.max()) / count
    return SAMPLING_ROOM * (own + SURE_MARGIN_NATS) / max(other, MIN_DIVISOR)


def _are_borne_out(comparison: Comparison, slots: Sequence[Slot], sample: _Sample) -> bool:
    """Tell whether other elements of all units say what those of a sample do."""
    chosen, best = sample.nearest.first, -sample.nearest.best
    x, y = sample.rows
    count = x[:, :: sample.share].shape[1]
    if sample.step > 1:
        step, start = BEARING_STEP * sample.step, sample.step // 2
        x, y = _lay_rows(comparison, slots, chosen.size, step, start)
    # elements lie one after the other, each of all units
    apart = x.T - y.T[:, chosen]
    level = np.maximum(best, np.median(best)) * x.shape[1] / count
    limit = MAX_FARTHER * level + SURE_MARGIN_NATS * min(sample.noise, 1.0)
    return bool((np.einsum("ij,ij->j", apart, apart) / 2 <= limit).all())


def _lay_rows(
    comparison: Comparison, slots: Sequence[Slot], size: int, step: int, start: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return some weighed elements of units in all slots, and a one before them.

    Args:
        comparison: the models.
        slots: the slots.
        size: the number of units.
        step: one in so many elements is taken.
        start: the first of these.

    Returns:
        float32 [units, elements] of the reference and of the suspect. The elements of one slot
        after the other are in memory, and those of many slots need not be there at once.
    """
    shapes = [comparison.reference[s.initializer].shape for s in slots]
    pairs = [(s, thin_slot(z, s, step, start)) for s, z in zip(slots, shapes, strict=True)]
    count = sum(count_row_elements(z, *pair) for z, pair in zip(shapes, pairs, strict=True))

    def lay(arrays: Arrays) -> np.ndarray:
        def weigh(pair: tuple[Slot, Thin]) -> np.ndarray:
            return weigh_rows(comparison.strategy, arrays, pair[0], thin=pair[1]).T

        def list_blocks() -> Iterator[np.ndarray]:
            yield np.ones((1, size), np.float32)
            for number in range(0, len(pairs), SLOTS_AT_ONCE):
                some = pairs[number : number + SLOTS_AT_ONCE]
                yield from map_in_threads(weigh, some, count * size)

        return store_blocks(list_blocks, (count + 1, size), np.dtype(np.float32)).T

    return lay(comparison.reference), lay(comparison.current)


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
        name = slot.initializer
        x, y = comparison.reference[name], comparison.current[name]
        if is_in_place and not slot.within:
            return strategy.sum_weighed_lines(x, y, name, slot.axis)[:, slot.index].sum(2)
        sums = np.zeros((3, chosen.size))
        for part in split_slot(x.shape, slot):
            theirs = replace(slot, index=slot.index[chosen[part.units]])
            a, b = part.take_elements(x), take_elements(y, theirs, {}, part.thin)
            own = {slot.axis, *dict(slot.within)}
            lines = strategy.sum_weighed_lines(a, b, name, slot.axis, own, part.thin)
            sums[:, part.units] += lines.reshape(3, -1, slot.index.shape[1]).sum(2)
        return sums

    sums = sum(map_in_threads(multiply, slots), np.array([[1.0], [0.0], [0.0]]))
    own, shared, apart = np.broadcast_to(sums, (3, chosen.size))
    return np.stack([own, own + 2 * shared + apart]), own + shared, apart
