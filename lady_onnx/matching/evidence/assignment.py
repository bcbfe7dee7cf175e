"""Assigns rows to columns by a table of scores: optimally, or each row to its own best column.

The module knows scores alone. Wide tables go to `sparse_assignment` first, and to scipy's dense
solver, which takes cubic time, where that gives up.
"""

from __future__ import annotations

import numpy as np

from ...numerics import assign_optimally
from .scores import MAX_DENSE_UNITS, MAX_SCORE
from .sparse_assignment import assign_sparsely


def assign_rows(scores: np.ndarray) -> np.ndarray:
    """Find the assignment of rows to columns with the largest sum of scores.

    Where every row's best is a different column, that is the optimum, and no solver runs.

    Args:
        scores: float [n, n]; infinite or NaN where weights overflow.

    Returns:
        int64 [n]: for each row its column.

    >>> assign_rows(np.array([[5.0, 4.0], [5.0, 1.0]])).tolist()
    [1, 0]
    """
    scores, best = _find_best_columns(scores)
    if np.unique(best).size == best.size:
        return best
    if not np.isfinite(scores).all():
        scores = _make_finite(scores)
    found = (
        assign_sparsely(scores, choose_best_columns(scores))
        if len(scores) > MAX_DENSE_UNITS
        else None
    )
    return assign_optimally(scores, maximize=True) if found is None else found


def choose_best_columns(scores: np.ndarray) -> np.ndarray:
    """Give every row its best column, as Algorithm 1 of the paper does.

    Of several rows that want one column the row with the best score has it; the others share the
    columns that are left, in their order.

    Args:
        scores: float [n, n].

    Returns:
        int64 [n]: for each row its column.

    >>> choose_best_columns(np.array([[5.0, 4.0], [6.0, 1.0]])).tolist()
    [1, 0]
    """
    rows = np.arange(len(scores))
    scores, wanted = _find_best_columns(scores)
    found = np.full(len(scores), -1)
    # Rows in the order of their best scores: the first one that wants a column gets it.
    order = np.argsort(-scores[rows, wanted], kind="stable")
    columns, first = np.unique(wanted[order], return_index=True)
    found[order[first]] = columns
    found[found < 0] = np.setdiff1d(rows, columns)
    return found


def _find_best_columns(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores, NaN as the worst, and for each row its best column."""
    best = scores.argmax(1)
    # numpy takes NaN for the largest number: a row that holds one has it here
    if not np.isnan(scores[np.arange(len(scores)), best]).any():
        return scores, best
    scores = _make_finite(scores)
    return scores, scores.argmax(1)


def _make_finite(scores: np.ndarray) -> np.ndarray:
    """Return scores without infinities and NaN: solvers take finite ones alone.

    The squares of very large weights overflow.
    """
    return np.nan_to_num(scores, nan=-MAX_SCORE, posinf=MAX_SCORE, neginf=-MAX_SCORE)


ASSIGNMENTS = {"optimal": assign_rows, "argmax": choose_best_columns}
"""The ways to assign units by name: the best of all assignments, or each unit's own best."""
