"""Scores pairs of units: by cosines, and by log-likelihoods under noise.

The module knows rows of numbers alone. How rows are weighed before is the business of `noise`,
and what follows for a match is that of `probabilities`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...groups.model import Group
from ...groups.permutations import Arrays
from ...groups.rows import take_rows
from ...numerics import MIN_DIVISOR

MAX_SCORE = 1e30
"""The largest magnitude of a score; it stands for infinity, also in single precision."""
MAX_DENSE_UNITS = 1024
"""Tables of more units than this are computed tile by tile, and treated as sparse."""


def join_rows(parts: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Put rows side by side, and a one at their end.

    In these homogeneous coordinates a lone bias has an angle, and not just a sign.

    Args:
        parts: float32 [count, elements] each; there may be none.
        count: the number of rows.

    Returns:
        float32 [count, elements of all parts and one more].

    >>> join_rows([np.array([[2.0], [3.0]])], 2).tolist()
    [[2.0, 1.0], [3.0, 1.0]]
    """
    return np.concatenate([*parts, np.ones((count, 1), np.float32)], 1)


def compute_cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute the cosine of every row of `x` with every row of `y`; 0 for a row of zeros.

    Args:
        x: float [m, elements].
        y: float [n, elements].

    Returns:
        float [m, n].
    """
    # Units without any weight are taken for being in place.
    if not x.shape[1]:
        return np.eye(len(x), dtype=np.float32)
    norms = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    return (x @ y.T) / np.maximum(np.outer(*norms), MIN_DIVISOR)


def compute_log_likelihoods(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute how likely every row of `y` is as a copy of every row of `x`.

    Args:
        x: float [m, elements], in units of the noise.
        y: float [n, elements], in units of the noise.

    Returns:
        float64 [m, n]: log-likelihoods under normal noise of deviation one, up to a constant.
    """
    # -|x - y|^2 / 2 = x y - |x|^2 / 2 - |y|^2 / 2: one product of matrices in place of a table of
    # differences. For copies the three nearly cancel, so they are summed in double precision.
    norms = [np.einsum("ij,ij->i", z, z, dtype=np.float64) / 2 for z in (x, y)]
    score = (x @ y.T).astype(np.float64)
    score -= norms[0][:, None]
    score -= norms[1]
    return score


def compute_similarities(group: Group, reference: Arrays, suspect: Arrays) -> np.ndarray:
    """Compute the cosine of every unit of the reference with every unit of the suspect.

    Only the slot with the most elements is compared, as in the paper.

    Returns:
        float32 [size, size].
    """
    slot = max(group.slots, key=lambda s: reference[s.initializer].size)
    a, b = (
        take_rows(np.asarray(x[slot.initializer]), slot).astype(np.float32)
        for x in (reference, suspect)
    )
    return compute_cosines(a, b)
