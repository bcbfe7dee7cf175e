"""The best assignment of many rows to as many columns, by the few pairs of them that can be in it. Knows arrays alone.

Of each row and each column only the likeliest partners matter. The best assignment among those pairs has prices, one a
column, and where no other pair is worth more than its row's own at these prices, it is the best of all (linear
programming duality). Pairs that are worth more are taken in, and the search is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra, maximum_bipartite_matching

NEAR = 16
"""About so many partners of every row and column are looked at first."""
SAMPLE = 1024
"""They are told by so many others."""
ROUNDS = 8
"""At most so often pairs are taken in."""
PHASES = 60
"""At most so often prices are changed in between."""
MORE = 64
"""No more pairs than this for each row at a time."""
HEATS = (1, 0.3, 0.1, 0.03, 0.01, 0.003)
"""By what scores are divided, step by step, where prices are guessed, in the same unit."""
STEPS = 8
"""At most so many steps at each."""
STILL = 0.1
"""Or until no price moves by more than this share of it."""
EXACT = 1e-4
"""Prices are equal that differ by less than this part of what the likeliest partners of a row differ by."""
CHUNK = 1 << 20
"""So many scores are looked at at a time."""


def assign_sparsely(scores: np.ndarray, start: np.ndarray) -> np.ndarray | None:
    """For each row of finite scores [n, n] its column in the best assignment; None where it takes too many pairs.

    `start` is any assignment.
    """
    size = len(scores)
    pairs = np.concatenate([np.arange(size) * size + start, *_likely(scores)])
    prices, unit = None, 1.0
    for _ in range(ROUNDS):
        # sorting is faster than hashing
        pairs = np.sort(pairs)
        pairs = pairs[np.r_[True, pairs[1:] != pairs[:-1]]]
        rows, columns = np.divmod(pairs, size)
        worth = scores[rows, columns].astype(np.float64)
        if prices is None:
            unit = _unit(rows, worth)
            prices = unit * _guessed(rows, columns, worth / unit).astype(np.float64)
        settled = _settled(rows, columns, worth, prices, EXACT * unit)
        if settled is None:
            return None
        found, prices = settled
        better = _better(scores, found, prices, EXACT * unit)
        if not better.size:
            return found
        pairs = np.concatenate([pairs, better])
    return None


def _chunks(size: int) -> Iterator[slice]:
    step = max(CHUNK // size, 1)
    yield from (slice(k, k + step) for k in range(0, size, step))


def _likely(scores: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs, as row times size plus column, that are among the likeliest of their row or column; of many alike some."""
    size = len(scores)
    step = max(size // SAMPLE, 1)
    count = max(NEAR // step, 1)
    rows = np.partition(scores[:, ::step], -count, axis=1)[:, -count]
    columns = np.partition(scores[::step].T, -count, axis=1)[:, -count]
    rng = np.random.default_rng(0)
    for chunk in _chunks(size):
        part = scores[chunk]
        among = np.flatnonzero((part >= rows[chunk, None]) | (part >= columns))
        row, column = np.divmod(among, size)
        worth = part.ravel().take(among)
        above = (worth > rows[chunk].take(row)) | (worth > columns.take(column))
        yield among[above] + chunk.start * size
        # of many alike, clones say, each takes others than its neighbours do
        row, among = row[~above], among[~above]
        many = np.bincount(row, minlength=len(part))[row]
        yield among[rng.random(row.size) * many < NEAR] + chunk.start * size


def _unit(rows: np.ndarray, worth: np.ndarray) -> float:
    """By what the likeliest partners of the middle row differ."""
    starts = np.searchsorted(rows, np.arange(int(rows[-1]) + 1))
    ends = np.append(starts[1:], rows.size)
    apart = np.maximum.reduceat(worth, starts) - np.add.reduceat(worth, starts) / (ends - starts)
    return float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0


def _guessed(rows: np.ndarray, columns: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Prices of columns at which about one row wants each: those that balance probabilities, from warm to cold."""
    size = int(rows[-1]) + 1
    order = np.argsort(columns, kind="stable")
    sides = ((rows, columns, np.arange(rows.size)), (columns[order], rows[order], order))
    starts = [np.searchsorted(own, np.arange(size)) for own, _, _ in sides]
    # beside the best of its row a score has the digits that single precision keeps
    scores = (scores - np.maximum.reduceat(scores, starts[0])[rows]).astype(np.float32)
    prices = np.zeros((2, size), np.float32)
    for heat in map(np.float32, HEATS):
        for _ in range(STEPS):
            before = prices[1].copy()
            for k, ((own, other, which), start) in enumerate(zip(sides, starts, strict=True)):
                warm = (scores[which] + prices[1 - k][other]) / heat
                top = np.maximum.reduceat(warm, start)
                odds = np.add.reduceat(np.exp(warm - top[own]), start)
                prices[k] = -heat * (top + np.log(odds))
            if np.abs(prices[1] - before).max() < STILL * heat:
                break
    return prices[1]


def _settled(
    rows: np.ndarray, columns: np.ndarray, worth: np.ndarray, prices: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """The best assignment among these pairs, and its prices: from any prices to those at which all rows have what they like.

    While too many rows like the same columns, all others get cheaper by as much as it takes until a row that has none
    likes one of them as much, or one that is handed on to it (Kuhn, Munkres). None where that takes too long.
    """
    size = len(prices)
    starts = np.searchsorted(rows, np.arange(size + 1))
    for _ in range(PHASES):
        gain = worth + prices[columns]
        short = np.maximum.reduceat(gain, starts[:-1])[rows] - gain
        tight = np.flatnonzero(short <= least)
        liked = csr_array(
            (np.ones(tight.size, np.int8), columns[tight], np.searchsorted(tight, starts)),
            shape=(size, size),
        )
        found = maximum_bipartite_matching(liked, perm_type="column")
        if (found >= 0).all():
            return found.astype(np.int64), prices
        prices = prices + _distances(
            np.where(found >= 0, found, size)[rows], columns, np.maximum(short, 0), size
        )
    return None


def _distances(
    source: np.ndarray, columns: np.ndarray, lengths: np.ndarray, size: int
) -> np.ndarray:
    """How far every column is from a row that has none, by pairs: from the column that the pair's row has to its own.

    Of rows that have none `source` is `size`. What cannot be reached is as far as the farthest.
    """
    order = np.argsort(source, kind="stable")
    starts = np.searchsorted(source[order], np.arange(size + 2))
    graph = csr_array((lengths[order], columns[order], starts), shape=(size + 1, size + 1))
    far = dijkstra(graph, indices=np.array([size]))[0, :size]
    return np.minimum(far, far[np.isfinite(far)].max(initial=0.0))


def _better(scores: np.ndarray, found: np.ndarray, prices: np.ndarray, least: float) -> np.ndarray:
    """Pairs that are worth more to their row, at these prices, than the one that it has; of too many the best of each row."""
    size = len(scores)
    every, most = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for chunk in _chunks(size):
        worth = scores[chunk] + prices
        rows = np.arange(len(worth))
        own = worth[rows, found[chunk]]
        top = worth.argmax(1)
        above = own + 2 * least
        odd = worth[rows, top] > above
        if odd.any():
            most.append(((rows + chunk.start) * size + top)[odd])
            row, column = np.nonzero(worth[odd] > above[odd, None])
            every.append((rows[odd][row] + chunk.start) * size + column)
    whole = np.concatenate(every)
    return whole if whole.size <= MORE * size else np.concatenate(most)
