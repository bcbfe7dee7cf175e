"""Finds the best assignment in a wide table of scores among the few pairs that can be in it.

Only the likeliest partners of each row and each column matter. The best assignment among those
pairs has prices, one for each column: what a row is paid for taking it, beside the score. If no
other pair is worth more to its row, at these prices, than the pair that the row has, the assignment
is the best of all (linear programming duality). Pairs that are worth more join the others, and the
search is repeated.

The module knows scores alone; small tables are the business of `assignment`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

PARTNERS_PER_UNIT = 16
"""About how many partners of every row and column the first round considers."""
SAMPLED_PARTNERS = 1024
"""The score that separates these partners from the rest is estimated from about this many."""
MAX_PRICING_ROUNDS = 8
"""The maximum number of rounds, each of which takes in more pairs."""
MAX_PRICE_UPDATES = 60
"""The maximum number of price changes within a round."""
MAX_NEW_PAIRS_PER_ROW = 64
"""If a round finds more new pairs than this, on average, only the best of each row is taken in."""
TEMPERATURES = (1, 0.3, 0.1, 0.03, 0.01, 0.003)
"""The temperatures of the price guess, in the price unit, from warm to cold.

In the cold the probabilities become an assignment; warm steps bring prices near it quickly.
"""
MAX_STEPS_PER_TEMPERATURE = 8
"""The maximum number of balancing steps at each temperature."""
RELATIVE_PRICE_TOLERANCE = 0.1
"""A temperature is done when no price moves by more than this share of it."""
EQUAL_PRICE_TOLERANCE = 1e-4
"""Prices count as equal that differ by less than this, in the price unit."""
SCORES_PER_CHUNK = 1 << 20
"""The number of scores that are looked at in one piece."""


def assign_sparsely(scores: np.ndarray, start: np.ndarray) -> np.ndarray | None:
    """Find the assignment of rows to columns with the largest sum of scores.

    Args:
        scores: float [n, n], finite.
        start: int64 [n]: any assignment, for each row its column. Its pairs are looked at as well,
            so that an assignment among the pairs exists.

    Returns:
        int64 [n]: for each row its column, or None if that takes too many rounds.
    """
    size = len(scores)
    pairs = np.concatenate([np.arange(size) * size + start, *_find_likely_pairs(scores)])
    prices, unit = None, 1.0
    for _ in range(MAX_PRICING_ROUNDS):
        # Sorting is faster here than the hashing of `np.unique`.
        pairs = np.sort(pairs)
        pairs = pairs[np.r_[True, pairs[1:] != pairs[:-1]]]
        rows, columns = np.divmod(pairs, size)
        worth = scores[rows, columns].astype(np.float64)
        if prices is None:
            unit = _measure_price_unit(rows, worth)
            prices = unit * _guess_prices(rows, columns, worth / unit).astype(np.float64)
        settled = settle_prices(rows, columns, worth, prices, EQUAL_PRICE_TOLERANCE * unit)
        if settled is None:
            return None
        found, prices = settled
        better = _find_better_pairs(scores, found, prices, EQUAL_PRICE_TOLERANCE * unit)
        if not better.size:
            return found
        pairs = np.concatenate([pairs, better])
    return None


def _iterate_row_chunks(size: int) -> Iterator[slice]:
    """Yield slices of the rows of a table [size, size], of `SCORES_PER_CHUNK` scores each."""
    step = max(SCORES_PER_CHUNK // size, 1)
    yield from (slice(k, k + step) for k in range(0, size, step))


def _find_likely_pairs(scores: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pairs that are among the likeliest of their row or their column.

    Each pair is a number: row times size plus column. Of many pairs with one score a random few
    are taken.
    """
    size = len(scores)
    # Every step-th partner is a sample. Its best `count` stand for about PARTNERS_PER_UNIT of all.
    step = max(size // SAMPLED_PARTNERS, 1)
    count = max(PARTNERS_PER_UNIT // step, 1)
    rows = np.partition(scores[:, ::step], -count, axis=1)[:, -count]
    columns = np.partition(scores[::step].T, -count, axis=1)[:, -count]
    rng = np.random.default_rng(0)
    for chunk in _iterate_row_chunks(size):
        part = scores[chunk]
        among = np.flatnonzero((part >= rows[chunk, None]) | (part >= columns))
        row, column = np.divmod(among, size)
        worth = part.ravel().take(among)
        above = (worth > rows[chunk].take(row)) | (worth > columns.take(column))
        yield among[above] + chunk.start * size
        # Many columns may have one score, clones for example. A random choice gives each row
        # others than its neighbours have.
        row, among = row[~above], among[~above]
        ties = np.bincount(row, minlength=len(part))[row]
        yield among[rng.random(row.size) * ties < PARTNERS_PER_UNIT] + chunk.start * size


def _measure_price_unit(rows: np.ndarray, worth: np.ndarray) -> float:
    """Return the median, over rows, of how far the best partner lies above the mean partner."""
    starts = np.searchsorted(rows, np.arange(int(rows[-1]) + 1))
    ends = np.append(starts[1:], rows.size)
    apart = np.maximum.reduceat(worth, starts) - np.add.reduceat(worth, starts) / (ends - starts)
    return float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0


def _guess_prices(rows: np.ndarray, columns: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Guess prices of columns at which about one row wants each.

    These are the prices that balance the probabilities of rows and columns (Sinkhorn), from warm
    to cold.
    """
    size = int(rows[-1]) + 1
    order = np.argsort(columns, kind="stable")
    # For either side the pairs of one row, or of one column, are adjacent, as `reduceat` needs it.
    # It also needs one pair for each, or it returns another's element: `start` brought these.
    sides = ((rows, columns, np.arange(rows.size)), (columns[order], rows[order], order))
    starts = [np.searchsorted(own, np.arange(size)) for own, _, _ in sides]
    # Relative to the best of its row, single precision keeps enough digits of a score.
    scores = (scores - np.maximum.reduceat(scores, starts[0])[rows]).astype(np.float32)
    prices = np.zeros((2, size), np.float32)
    for temperature in map(np.float32, TEMPERATURES):
        for _ in range(MAX_STEPS_PER_TEMPERATURE):
            before = prices[1].copy()
            for k, ((own, other, which), start) in enumerate(zip(sides, starts, strict=True)):
                warm = (scores[which] + prices[1 - k][other]) / temperature
                # The largest exponent is taken out, or the exponentials would overflow.
                top = np.maximum.reduceat(warm, start)
                odds = np.add.reduceat(np.exp(warm - top[own]), start)
                prices[k] = -temperature * (top + np.log(odds))
            if np.abs(prices[1] - before).max() < RELATIVE_PRICE_TOLERANCE * temperature:
                break
    return prices[1]


def settle_prices(
    rows: np.ndarray, columns: np.ndarray, worth: np.ndarray, prices: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Find the best assignment among some pairs, and its prices (Kuhn 1955, Munkres 1957).

    As long as too many rows like the same columns best, more is paid for the other columns: just as
    much as it takes until a row without a column likes one of them as much, or likes one that can
    be handed on to it.

    Args:
        rows, columns: int64 [pairs], sorted by row; every row and every column occurs.
        worth: float64 [pairs]: the score of each pair.
        prices: float64 [n]: where the search for prices begins.
        tolerance: prices that differ by no more count as equal.

    Returns:
        For each row its column, int64 [n], and the prices, float64 [n]; None if that takes too
        many price changes.
    """
    # most files need none of it
    import scipy

    size = len(prices)
    starts = np.searchsorted(rows, np.arange(size + 1))
    for _ in range(MAX_PRICE_UPDATES):
        gain = worth + prices[columns]
        short = np.maximum.reduceat(gain, starts[:-1])[rows] - gain
        # A row likes its tight pairs best. If each row can have one of these, all have what is
        # worth most to them, so no assignment among the pairs has a larger sum.
        tight = np.flatnonzero(short <= tolerance)
        liked = scipy.sparse.csr_array(
            (np.ones(tight.size, np.int8), columns[tight], np.searchsorted(tight, starts)),
            shape=(size, size),
        )
        found = scipy.sparse.csgraph.maximum_bipartite_matching(liked, perm_type="column")
        if (found >= 0).all():
            return found.astype(np.int64), prices
        # No price rises by more than the shortest way to its column. So the pairs that are matched
        # stay tight, and those on the shortest ways become so.
        prices = prices + _measure_distances(
            np.where(found >= 0, found, size)[rows], columns, np.maximum(short, 0), size
        )
    return None


def _measure_distances(
    source: np.ndarray, columns: np.ndarray, lengths: np.ndarray, size: int
) -> np.ndarray:
    """Measure how far every column is from the rows that have no column.

    A path leads, pair by pair, from the column that the pair's row has to the pair's own column.

    Args:
        source: for each pair the column that its row has; `size` if the row has none.
        columns: for each pair its own column.
        lengths: the length of each pair.
        size: the number of columns.

    Returns:
        float64 [size]; a column that no path reaches is as far as the farthest that one does.
    """
    import scipy

    # All rows without a column share one more node, number `size`, where the search begins.
    order = np.argsort(source, kind="stable")
    starts = np.searchsorted(source[order], np.arange(size + 2))
    graph = scipy.sparse.csr_array(
        (lengths[order], columns[order], starts), shape=(size + 1, size + 1)
    )
    far = scipy.sparse.csgraph.dijkstra(graph, indices=np.array([size]))[0, :size]
    return np.minimum(far, far[np.isfinite(far)].max(initial=0.0))


def _find_better_pairs(
    scores: np.ndarray, found: np.ndarray, prices: np.ndarray, tolerance: float
) -> np.ndarray:
    """Find the pairs that are worth more to their row, at these prices, than the pair it has.

    If there are too many, only the best pair of each row is returned.
    """
    size = len(scores)
    every, best = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for chunk in _iterate_row_chunks(size):
        worth = scores[chunk] + prices
        rows = np.arange(len(worth))
        own = worth[rows, found[chunk]]
        top = worth.argmax(1)
        # A known pair may be better by one tolerance. Twice that finds new pairs alone.
        above = own + 2 * tolerance
        odd = worth[rows, top] > above
        if odd.any():
            best.append(((rows + chunk.start) * size + top)[odd])
            row, column = np.nonzero(worth[odd] > above[odd, None])
            every.append((rows[odd][row] + chunk.start) * size + column)
    whole = np.concatenate(every)
    return whole if whole.size <= MAX_NEW_PAIRS_PER_ROW * size else np.concatenate(best)
