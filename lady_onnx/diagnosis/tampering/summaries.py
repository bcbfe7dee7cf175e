"""How the elements of a whole weight moved, in a few figures, taken in one pass over it.

They tell what the model shows of training, and which weights no test can find anything in. So the
tests, which hold whole weights in double precision, look at few weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...groups.model import Group, Slot
from ...groups.rows import multiply_lines, take_rows
from ...numerics import LEAST_DEVIATION, is_short_float, split_blocks
from .moves import MIN_ROW_ELEMENTS, Threshold, take_sample
from .outliers import (
    MAX_TAIL_SAMPLES,
    MIN_DEVIATIONS,
    MIN_TAIL_SAMPLES,
    NORMAL_MEDIAN_MAGNITUDE,
    are_few,
    have_mostly_stayed,
)

ROUNDING = 1e-4
"""Sums of squares are rounded by a smaller share than this."""
MEDIAN_SHARE = 0.75
"""The median of all moves is first taken for this share of that of some, and counted after."""


@dataclass(frozen=True)
class MoveSummary:
    """How the elements of one weight moved.

    Attributes:
        size: The number of the weight's elements.
        different: The number of those that are another number at all.
        moved: The number of those that moved.
        largest: How far the one that moved furthest did.
        least_typical: How far the usual element that moved did at least.
        squares: By axis the sums of the squared moves at each position, float64 [positions].
        places: By axis the positions at which any element moved, bool [positions].
        sample: How far some moved, float64 [n], all above zero.
        scale: The root of the mean square of the reference's elements.
        threshold: What tells moves from rounding.
    """

    size: int
    different: int
    moved: int
    largest: float
    least_typical: float
    squares: tuple[np.ndarray, ...]
    places: tuple[np.ndarray, ...]
    sample: np.ndarray
    scale: float
    threshold: Threshold

    @classmethod
    def between(cls, reference: np.ndarray, suspect: np.ndarray, least: float) -> MoveSummary:
        """Summarise the moves between two weights of one shape; see `Threshold.between`."""
        threshold = Threshold.between(reference, suspect, least)
        if threshold.decay == 1 and is_short_float(reference) and is_short_float(suspect):
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                found = cls._sum_up(reference, suspect, threshold, np.dtype(np.float32))
            # squares of large and of small numbers have no place in single precision
            squares = [
                z[has_moved] for z, has_moved in zip(found.squares, found.places, strict=True)
            ]
            sizes = np.sqrt(np.concatenate([[found.scale**2], *squares]))
            if ((sizes > LEAST_DEVIATION) & np.isfinite(sizes)).all():
                return found
        return cls._sum_up(reference, suspect, threshold, np.dtype(np.float64))

    @classmethod
    def _sum_up(
        cls, reference: np.ndarray, suspect: np.ndarray, threshold: Threshold, dtype: np.dtype
    ) -> MoveSummary:
        """Summarise moves, blocks in one precision."""
        sample = _thin_moves(threshold.measure_moves(*take_sample(reference, suspect))[2])
        middle = MEDIAN_SHARE * float(np.median(sample)) if sample.size else 0.0
        squares = tuple(np.zeros(n) for n in reference.shape)
        places = tuple(np.zeros(n, bool) for n in reference.shape)
        different = moved = above = 0
        largest = total = 0.0
        for block in split_blocks(reference.shape):
            ours, theirs = (np.asarray(array[block]) for array in (reference, suspect))
            x, _, gap = threshold.measure_moves(ours, theirs, dtype)
            total += float(np.vdot(x, x))
            largest = max(largest, float(gap.max(initial=0)))
            above += int(np.count_nonzero(gap > middle))
            # truth values are counted much faster than numbers
            many = int(np.count_nonzero(gap > 0))
            moved += many
            different += int(np.count_nonzero(ours != theirs))
            for axis, part in enumerate(block if many else ()):
                squares[axis][part] += multiply_lines(gap, gap, axis)
                if many == gap.size:
                    places[axis][part] = True
                else:
                    others = tuple(k for k in range(gap.ndim) if k != axis)
                    places[axis][part] |= gap.any(others)
        if sample.size < MIN_TAIL_SAMPLES and sample.size < moved:
            # so few moved that the sample has missed them
            sample = _thin_moves(threshold.measure_moves(reference, suspect)[2])
        return cls(
            size=reference.size,
            different=different,
            moved=moved,
            largest=largest,
            # more than half of all that moved did so further
            least_typical=middle / NORMAL_MEDIAN_MAGNITUDE if 2 * above > moved else 0.0,
            squares=squares,
            places=places,
            sample=sample,
            scale=float(np.sqrt(total / max(reference.size, 1))),
            threshold=threshold,
        )

    def find_moved_units(
        self, slot: Slot, reference: np.ndarray, suspect: np.ndarray
    ) -> np.ndarray:
        """Find the units of which any element in a slot moved, bool [units]."""
        if not slot.within:
            return np.asarray(self.places[slot.axis][slot.index].any(1))
        rows = (take_rows(array, slot) for array in (reference, suspect))
        return np.asarray(self.threshold.measure_moves(*rows)[2].any(1))

    def may_stand_out(self, own: Sequence[tuple[Group, Slot]]) -> bool:
        """Tell whether any test of tampering may find something in the weight.

        Args:
            own: the slots in it, each with its group.
        """
        if not self.moved:
            return False
        if are_few(self.different, self.size) or are_few(self.moved, self.size):
            return True
        if not self.largest <= MIN_DEVIATIONS * self.least_typical * (1 - ROUNDING):
            return True
        return any(self._may_have_odd_rows(slot) for _, slot in own)

    def _may_have_odd_rows(self, slot: Slot) -> bool:
        """Tell whether any row of a slot may stand out, by how far the rows moved."""
        if slot.within:
            return True
        many = slot.index.shape[1] * self.size // max(len(self.places[slot.axis]), 1)
        left = np.sqrt(self.squares[slot.axis][slot.index].sum(1))
        if many < MIN_ROW_ELEMENTS or not left.any():
            return False
        if have_mostly_stayed(left):
            return True
        common = float(np.median(left[left > 0]))
        return not bool((left <= MIN_DEVIATIONS * common * (1 - ROUNDING)).all())


def _thin_moves(gap: np.ndarray) -> np.ndarray:
    """Return some of the moves of elements that moved, so that no weight outweighs others."""
    gap = gap[gap > 0]
    return gap[:: gap.size // MAX_TAIL_SAMPLES + 1]
