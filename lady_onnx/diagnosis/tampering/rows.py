"""The test of rows: units that moved so much further than others that no training explains it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...groups.model import Group, Slot
from ...groups.rows import take_rows
from ..factors.measuring import measure_row_factors
from ..findings import Finding
from .lone_moves import find_untrained_rows
from .moves import MIN_ROW_ELEMENTS, Moves
from .outliers import (
    MAX_ROW_CHANCE,
    MIN_DEVIATIONS,
    MIN_FACTOR_STEP,
    MIN_GAP_RATIO,
    are_faded,
    count_most_tampered,
    count_outliers,
    estimate_deviation,
    have_mostly_stayed,
)
from .training import TrainingLaw

MAD_TO_DEVIATION = 1.4826
"""The deviation of normal numbers, as a multiple of their median absolute deviation."""
MAX_FACTOR_MISFIT = 0.2
"""A row was multiplied if a factor leaves no larger share of it unexplained."""


@dataclass(frozen=True)
class _Rows:
    """The rows of the units of a group in one weight, and how far they moved.

    Attributes:
        ours, theirs: float64 [units, elements]: the rows of the reference and of the suspect.
        gap: float64 [units, elements]: how far their elements moved.
        lengths: float64 [units]: the lengths of the reference's rows.
        left: float64 [units]: how far each row moved.
        is_alone: Whether all but a few rows stayed.
        crowd: bool [units]: the rows that others are compared with, those that moved, or all if
            only a few did.
        common: How far the rows of the crowd usually moved; 0 if only a few rows moved.
    """

    ours: np.ndarray
    theirs: np.ndarray
    gap: np.ndarray
    lengths: np.ndarray
    left: np.ndarray
    is_alone: bool
    crowd: np.ndarray
    common: float

    @classmethod
    def taken(cls, slot: Slot, moves: Moves, gap: np.ndarray) -> _Rows:
        """Take the rows of a slot."""
        a, b, d = (take_rows(z, slot) for z in (moves.reference, moves.suspect, gap))
        left = np.linalg.norm(d, axis=1)
        is_alone = have_mostly_stayed(left)
        # No length is negative: the first of these takes all rows.
        crowd = left >= 0 if is_alone else left > 0
        common = 0.0 if is_alone else float(np.median(left[crowd]))
        return cls(a, b, d, np.linalg.norm(a, axis=1), left, is_alone, crowd, common)


@dataclass(frozen=True)
class _RowFactors:
    """The factors of rows beside each other.

    Attributes:
        ratio: float64 [units]: the factor of each row, nan where none is known.
        away: float64 [units]: how far it is from that of the middle row.
        spreads: float64 [units]: how far factors usually are from each other.
    """

    ratio: np.ndarray
    away: np.ndarray
    spreads: np.ndarray


def find_odd_rows(
    name: str, group: Group, slot: Slot, moves: Moves, gap: np.ndarray, law: TrainingLaw
) -> list[Finding]:
    """Find units whose rows in one slot moved further than training explains.

    Args:
        name: the weight.
        group, slot: the units, and where they lie in it.
        moves: how far the weight's elements moved.
        gap: the same, float64, without what has been found before.
        law: what the model shows of training.
    """
    rows = _Rows.taken(slot, moves, gap)
    if rows.ours.shape[1] < MIN_ROW_ELEMENTS:
        return []
    far = rows.left > MIN_DEVIATIONS * rows.common
    if not far.any():
        return []
    ratio, error = measure_row_factors(rows.ours, rows.theirs)
    if (np.isfinite(ratio) & rows.crowd).sum() < 2:
        # A row has nothing to be compared with.
        return []
    if not rows.is_alone:
        far &= _find_outlying_rows(rows.left, rows.lengths)
    elif law.is_trained:
        both = (rows.ours, rows.theirs)
        far &= find_untrained_rows(name, group.id, both, rows.left, ratio, moves.scale, law)
    factors = _compare_factors(rows, ratio, error, moves.eps)
    middling = 0.0 if rows.is_alone else estimate_deviation(gap[gap > 0])
    odd = np.flatnonzero(far & _have_changed(rows, factors, middling))
    if odd.size > count_most_tampered(group.size):
        return []
    return [_describe_row(name, group, unit, rows, factors, moves.eps) for unit in odd.tolist()]


def _find_outlying_rows(left: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Find rows that moved so much further than the others that training does not explain it.

    Args:
        left: float64 [units]: how far each row moved.
        lengths: float64 [units]: how long each row is.

    Returns:
        bool [units].
    """
    result = np.zeros(left.size, bool)
    moved = np.flatnonzero(left > 0)
    order = moved[np.argsort(-left[moved])]
    count = count_outliers(np.log(left[moved]), count_most_tampered(left.size), MAX_ROW_CHANCE)
    result[order[:count]] = True
    return result & ~are_faded(left, lengths)


def _compare_factors(rows: _Rows, ratio: np.ndarray, error: np.ndarray, eps: float) -> _RowFactors:
    """Compare the factors of rows, and their errors, float64 [units], with each other."""
    known = np.isfinite(ratio)
    middle = float(np.median(ratio[known & rows.crowd]))
    spread = MAD_TO_DEVIATION * float(np.median(np.abs(ratio[known & rows.crowd] - middle)))
    spreads = np.maximum(np.maximum(spread, error), eps)
    return _RowFactors(ratio, np.where(known, np.abs(ratio - middle), 0.0), spreads)


def _have_changed(rows: _Rows, factors: _RowFactors, middling: float) -> np.ndarray:
    """Return which rows have another factor than the rest, or other values in most elements.

    Args:
        rows: the rows.
        factors: their factors.
        middling: how far the weight's elements usually moved; 0 if only a few rows moved.
    """
    is_scaled = factors.away > np.maximum(MIN_DEVIATIONS * factors.spreads, MIN_FACTOR_STEP)
    # A row that was replaced lies about as far from the old one as either is long, or further, and
    # most of its elements are others.
    has_other_values = (rows.left > 0.5 * float(np.median(rows.lengths))) & (
        (rows.gap > MIN_GAP_RATIO * middling).mean(1) > 0.5
    )
    return is_scaled | has_other_values


def _describe_row(
    name: str, group: Group, unit: int, rows: _Rows, factors: _RowFactors, eps: float
) -> Finding:
    """Return the finding of a row that was multiplied or replaced."""
    k, length = float(factors.ratio[unit]), rows.lengths[unit]
    rest = np.linalg.norm(rows.theirs[unit] - k * rows.ours[unit])
    if rest <= max(MAX_FACTOR_MISFIT * abs(k) * length, MIN_DEVIATIONS * rows.common):
        size = float(factors.away[unit] / factors.spreads[unit])
        return Finding("scaled", group.id, unit, name, k, size)
    size = float(rows.left[unit] / max(rows.common, eps * length, 1e-300))
    return Finding("replaced", group.id, unit, name, None, size)
