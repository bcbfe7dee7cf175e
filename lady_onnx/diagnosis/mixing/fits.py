"""Measures of maps between units: how well one fits, and how much it mixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...groups.model import Slot
from ...groups.permutations import Arrays
from ...matching.matches import Match
from ...numerics import MIN_DIVISOR, is_float_array

MAX_MISFIT = 1e-4
"""A fit is exact if less than this share of every row is left.

Single precision leaves about 1e-5, where a map of the condition `maps.MAX_CONDITION` enlarges it.
"""
MIN_MIXING = 1e-3
"""A map mixes units if an element that is not the largest of its row exceeds this share of the
largest of all. Else it moves and multiplies units, which is undone elsewhere."""
MAX_MIXED_SIMILARITY = 0.9
"""If the units of a group are more alike than this, they were not mixed."""
MIN_SINGULAR_SHARE = 1e-5
"""If its smallest singular value is a smaller share of the largest, a product is degenerate.

Then it does not tell all of a map.
"""


def measure_misfit(reference: np.ndarray, found: np.ndarray) -> float:
    """Return the largest distance of a unit's row from the reference's, as a share of the latter.

    Args:
        reference, found: float64 [units, elements].
    """
    sizes = np.linalg.norm(reference, axis=1)
    apart = np.linalg.norm(found - reference, axis=1)
    return float((apart / np.maximum(sizes, MIN_DIVISOR)).max())


def measure_mixing(map_: np.ndarray) -> float:
    """Return the largest element of a map that is not the largest one of its row.

    It is a share of the largest element of all, and 0 for a map that moves and multiplies units.

    >>> measure_mixing(np.array([[0.0, 2.0], [1.0, 0.0]]))
    0.0
    """
    sizes = np.abs(map_)
    largest = sizes.max(1, keepdims=True)
    return float(np.where(sizes == largest, 0.0, sizes).max() / largest.max())


def average_similarities(matches: Sequence[Match]) -> Mapping[str, float]:
    """Return the mean similarity of the units of each group, by group id."""
    return {m.group: float(m.similarity.mean()) for m in matches}


def are_floating(slots: Sequence[Slot], *models: Arrays) -> bool:
    """Return whether the weights of all slots are floating-point numbers in all models."""
    return all(is_float_array(np.asarray(m[s.initializer])) for s in slots for m in models)
