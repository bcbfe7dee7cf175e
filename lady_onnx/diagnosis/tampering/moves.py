"""How far the elements of a weight moved, beyond rounding and the decay of the whole weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...matching.evidence.scores import MAX_SCORE
from ...numerics import is_float_array, machine_epsilon, split_blocks
from ..alterations import RELATIVE_TOLERANCE
from ..findings import MAX_TAMPERED_SHARE
from ..quantisation import SAMPLED_ELEMENTS

UNDOING_TOLERANCE = 1e-3
"""If factors were taken out, differences may be theirs that are smaller than this share of a
weight's largest element.

It also bounds what an element may lag behind, as a share of the element.
"""
MAX_LAG_SHARE = 0.5
"""An element may lag behind by this part of its decay.

Weight decay multiplies by a number near one at every step of training. A step below half a rounding
unit is lost.
"""
MIN_ROW_ELEMENTS = 8
"""Rows of fewer elements say nothing of a factor."""


@dataclass(frozen=True)
class Threshold:
    """How far the elements of one weight lie apart if they did not move.

    Attributes:
        decay: The factor that most elements were multiplied by; 1 where there is none.
        lag: The share of its own size that an element may lag behind its decay.
        eps: The step from one to the next number of the suspect's type.
        least: Differences count as none that are no larger than this.
    """

    decay: float
    lag: float
    eps: float
    least: float

    @classmethod
    def between(cls, reference: np.ndarray, suspect: np.ndarray, least: float) -> Threshold:
        """Measure the decay between two weights of one shape.

        Args:
            reference, suspect: the weight in both models, the units in place.
            least: differences count as none that are smaller than this times the weight's largest
                element.
        """
        eps = machine_epsilon(suspect.dtype if is_float_array(suspect) else np.dtype(np.float32))
        decay, lag = _measure_decay(*take_sample(reference, suspect), eps)
        largest = _find_largest(reference) * abs(decay) if least else 0.0
        return cls(decay, lag, eps, least * largest)

    def measure_moves(
        self, reference: np.ndarray, suspect: np.ndarray, dtype: npt.DTypeLike = np.float64
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Measure how far elements moved, in the whole weight or a part of it.

        Args:
            reference, suspect: the elements of both models.
            dtype: the precision. In single precision a decay is rounded by as much as an element
                may move without being noticed.

        Returns:
            The reference's elements as the decay left them and the suspect's, infinities as zeros;
            and how far each moved, 0 where it did not; of the shape of both.
        """
        x, y = (z.astype(dtype, copy=False) for z in (reference, suspect))
        # Whatever decayed by the common factor alone has not moved.
        if self.decay != 1:
            x = x * self.decay
        gap = np.asarray(np.abs(y - x))
        if not np.isfinite(gap.max(initial=0)):
            gap = measure_gaps(x, y)
            x, y = (np.where(np.isfinite(z), z, 0.0) for z in (x, y))
        size = np.abs(x)
        # What is computed of two scalars is a number, and no array.
        room = np.asarray(np.maximum(size, np.abs(y)))
        room *= 8 * self.eps
        if self.least:
            np.maximum(room, self.least, out=room)
        if self.lag:
            room += self.lag * size
        gap *= gap > room
        return x, y, gap

    @property
    def has_decayed(self) -> bool:
        """Whether most elements were multiplied by one factor."""
        return abs(1 - self.decay) > 8 * self.eps


@dataclass(frozen=True)
class Moves:
    """How far the elements of one weight moved.

    Attributes:
        reference: float64, the reference's weight as the decay of the whole weight left it;
            infinities are zeros.
        suspect: float64, the suspect's weight; infinities are zeros.
        gap: float64, the difference of each element, 0 where rounding explains it.
        different: bool, whether each element is another number at all.
        eps: The step from one to the next number of the suspect's type.
    """

    reference: np.ndarray
    suspect: np.ndarray
    gap: np.ndarray
    different: np.ndarray
    eps: float

    @classmethod
    def between(cls, reference: np.ndarray, suspect: np.ndarray, least: float) -> Moves:
        """Measure the moves between two weights of one shape; see `Threshold.between`."""
        threshold = Threshold.between(reference, suspect, least)
        moves = threshold.measure_moves(reference, suspect)
        return cls(
            *moves,
            np.asarray(reference.astype(np.float64) != suspect.astype(np.float64)),
            threshold.eps,
        )

    @property
    def scale(self) -> float:
        """The root of the mean square of the reference's elements."""
        return float(np.sqrt(np.square(self.reference).mean()))


def is_nearly_equal(reference: np.ndarray, result: np.ndarray) -> bool:
    """Return whether two weights are equal to rounding, but for elements that may be tampered with.

    Args:
        reference, result: weights of one shape.
    """
    x, y = (np.asarray(a).astype(np.float64) for a in (reference, result))
    if not x.size:
        return True
    apart = np.abs(y - x) > RELATIVE_TOLERANCE * np.abs(x).max(initial=0)
    return bool(apart.mean() <= MAX_TAMPERED_SHARE)


def measure_gaps(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return how far elements are from each other; infinities of one sign are equal.

    Their difference is NaN. Other infinite differences become large ones whose squares are finite.
    """
    gap = np.asarray(np.abs(y - x))
    if np.isfinite(gap).all():
        return gap
    return np.nan_to_num(gap, nan=0.0, posinf=MAX_SCORE)


def take_sample(reference: np.ndarray, suspect: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return some elements of two weights of one shape, from the same places all over them."""
    # An odd step comes to all columns of a table of 2^n columns, an even one to half at most.
    thin = slice(None, None, max(reference.size // SAMPLED_ELEMENTS, 1) | 1)
    return reference.reshape(-1)[thin], suspect.reshape(-1)[thin]


def has_meaningful_numbers(array: np.ndarray) -> bool:
    """Return whether an array holds floating-point or quantised numbers, not sizes or indices.

    Integers of eight bits are quantised weights. ONNX has shapes and indices in 32 or 64 bits.
    """
    return is_float_array(array) or (array.dtype.kind in "iu" and array.dtype.itemsize == 1)


def _find_largest(array: np.ndarray) -> float:
    """Return the largest finite magnitude in a weight."""
    blocks = (np.abs(array[b].astype(np.float64)) for b in split_blocks(array.shape))
    return max((float(z.max(where=np.isfinite(z), initial=0)) for z in blocks), default=0.0)


def _measure_decay(x: np.ndarray, y: np.ndarray, eps: float) -> tuple[float, float]:
    """Measure the factor that most elements have in common, and how far others may lag behind.

    Args:
        x, y: some elements of the weight in both models.
        eps: the step from one to the next number of their type.

    Returns:
        The factor, 1 where there is none, and the share of its own size that an element may lag.
    """
    a, b = x.astype(np.float64), y.astype(np.float64)
    # what became zero was pruned: it says nothing of the factor of the rest
    told = np.isfinite(a) & np.isfinite(b) & (a != 0) & (b != 0)
    if told.sum() < MIN_ROW_ELEMENTS:
        return 1.0, 0.0
    a, b = a[told], b[told]
    factor = float(np.median(b / a))
    lag = min(MAX_LAG_SHARE * abs(1 - factor), UNDOING_TOLERANCE)
    shared = np.abs(b - factor * a) <= (8 * eps + lag) * np.abs(a)
    return (factor, lag) if 2 * shared.sum() > shared.size else (1.0, 0.0)
