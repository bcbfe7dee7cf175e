"""Computes how certain matches are: probabilities among all assignments of a group's units.

Log-odds of pairs become a doubly stochastic matrix (Sinkhorn and Knopp 1967): an approximation, as
the sum over all assignments, a permanent, takes exponential time. The module knows scores alone.
"""

from __future__ import annotations

import numpy as np
import scipy

from ...numerics import MIN_DIVISOR
from .scores import MAX_DENSE_UNITS, MAX_SCORE

MAX_BALANCE_STEPS = 20
"""The maximum number of times that rows and columns of probabilities are balanced."""
BALANCE_TOLERANCE = 1e-9
"""Columns are balanced whose sums are nearer to one than this, or than rounding lets them be."""
ROWS_PER_CHUNK = 256
"""The number of rows that are searched for runners-up in one piece."""
MIN_ODDS = 1e-12
"""Smaller odds count for nothing beside those of one, of which every row and column has some."""
MIN_SPARSITY = 50
"""A wide table is treated as sparse if at most one in this many of its odds counts.

With more a sparse product is slower than a dense one.
"""


def balance_odds(score: np.ndarray) -> np.ndarray:
    """Balance log-odds to a doubly stochastic matrix.

    Args:
        score: float [n, n].

    Returns:
        float [n, n], rows of sum one, and columns of nearly that, as the steps are limited.
    """
    table, rows, columns = _balance_table(score)
    table *= rows[:, None]
    table *= columns
    return table


def compute_certainties(scores: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Compute the probability of every match among all assignments, by balanced odds.

    Args:
        scores: float [n, n]: log-odds.
        permutation: int64 [n]: for each row the column that it has.

    Returns:
        float64 [n].
    """
    table, rows, columns = _balance_table(scores)
    own = table[np.arange(len(permutation)), permutation].astype(np.float64)
    return own * rows * columns[permutation]


def find_runners_up(scores: np.ndarray, permutation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the best column that each row does not have.

    Args:
        scores: float [n, n].
        permutation: int64 [n]: for each row the column that it has.

    Returns:
        The runner-up of each row, int64 [n], and by how much the row's own column has a higher
        score, float [n].
    """
    rows = np.arange(len(permutation))
    second = np.empty_like(permutation)
    for start in range(0, len(rows), ROWS_PER_CHUNK):
        part = scores[start : start + ROWS_PER_CHUNK].copy()
        own = permutation[start : start + ROWS_PER_CHUNK]
        part[rows[: len(part)], own] = -np.inf
        second[start : start + ROWS_PER_CHUNK] = part.argmax(1)
    # A lone unit has no runner-up: its margin is infinite, and `second` is itself.
    others = np.where(len(rows) > 1, scores[rows, second], -np.inf)
    return second, scores[rows, permutation] - others


def _balance_table(score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the odds, and the factors of rows and columns that make them doubly stochastic.

    Args:
        score: float [n, n]: log-odds, which are not changed.

    Returns:
        The table of odds, float [n, n], the factors of rows and those of columns, float [n] each.
    """
    # The best of every row becomes one. What is taken off a row or a column is balanced anyway.
    table = score - score.max(1, keepdims=True)
    # A column that no row likes best must have odds near one as well, or all of them underflow.
    table -= np.maximum(table.max(0), -MAX_SCORE)
    np.exp(table, out=table)
    rows, columns = np.ones((2, len(table)), table.dtype)
    tolerance = max(BALANCE_TOLERANCE, 8 * float(np.finfo(table.dtype).eps))
    odds = _drop_faint_odds(table)
    for _ in range(MAX_BALANCE_STEPS):
        sums = columns * (rows @ odds)
        columns /= sums + np.float32(MIN_DIVISOR)
        rows /= rows * (odds @ columns) + np.float32(MIN_DIVISOR)
        if np.abs(sums - 1).max(initial=0) < tolerance:
            break
    return table, rows, columns


def _drop_faint_odds(table: np.ndarray) -> np.ndarray | scipy.sparse.csr_array:
    """Return a wide table as a sparse one of the odds that count, or as it is if many count."""
    size = len(table)
    if size <= MAX_DENSE_UNITS:
        return table
    kept = np.flatnonzero(table > MIN_ODDS)
    if kept.size > table.size / MIN_SPARSITY:
        return table
    starts = np.searchsorted(kept, np.arange(size + 1) * size)
    return scipy.sparse.csr_array((table.ravel()[kept], kept % size, starts), shape=table.shape)
