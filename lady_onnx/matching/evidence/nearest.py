"""Finds the two nearest rows of every row by some of their elements, without a table of all pairs.

What some elements say is no less than what all of them say: a distance over all elements is no
smaller. So a row whose distance to its match, over all elements, is smaller than the distance to
any other row over some of them has no nearer row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...threads import map_in_threads

ROWS_PER_BLOCK = 512
"""So many rows are compared with all others at once."""


@dataclass(frozen=True)
class Nearest:
    """The likeliest copies of rows, by some of their elements.

    Attributes:
        first: int64 [rows]: the likeliest copy of each row.
        second: int64 [rows]: the one that comes next.
        best: float64 [rows]: the log-likelihood of the first.
        bounds: float64 [rows]: the log-likelihood of the second, which is no smaller than what all
            elements say of any row but the first.
        products: float64 [rows]: the products of each row with its second one.
        squares: float64 [rows]: those of each row with itself.
    """

    first: np.ndarray
    second: np.ndarray
    best: np.ndarray
    bounds: np.ndarray
    products: np.ndarray
    squares: np.ndarray


def find_nearest(x: np.ndarray, y: np.ndarray) -> Nearest:
    """Find the two likeliest copies of every row of `x` among those of `y`.

    Args:
        x, y: float32 [rows, elements], in units of the noise, two rows at least.

    >>> found = find_nearest(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[::-1])
    >>> found.first.tolist(), found.bounds.tolist()
    ([2, 1, 0], [-1.0, -1.0, -1.0])
    """
    halves = np.einsum("ij,ij->i", y, y) / 2
    # one more element takes these off within the product
    ours = np.vstack([x.T, np.ones((1, len(x)), np.float32)]).T
    theirs = np.vstack([y.T, -halves])
    own = np.einsum("ij,ij->i", x, x, dtype=np.float64) / 2
    first, second = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
    best, bounds, products = np.empty(len(x)), np.empty(len(x)), np.empty(len(x))

    def fill_rows(start: int) -> None:
        block = slice(start, start + ROWS_PER_BLOCK)
        scores = ours[block] @ theirs
        rows = np.arange(len(scores))
        first[block] = scores.argmax(1)
        best[block] = scores[rows, first[block]] - own[block]
        scores[rows, first[block]] = -np.inf
        second[block] = scores.argmax(1)
        products[block] = scores[rows, second[block]]
        bounds[block] = products[block] - own[block]
        products[block] += halves[second[block]]

    map_in_threads(fill_rows, range(0, len(x), ROWS_PER_BLOCK))
    return Nearest(first, second, best, bounds, products, 2 * own)
