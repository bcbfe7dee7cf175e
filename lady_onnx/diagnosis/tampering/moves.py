"""How far the elements of a weight moved, beyond rounding and the decay of the whole weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...matching.evidence.scores import MAX_SCORE
from ...numerics import is_float_array, machine_epsilon
from ..alterations import RELATIVE_TOLERANCE, SAMPLED_ELEMENTS
from ..findings import MAX_TAMPERED_SHARE

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
class Moves:
    """How far the elements of one weight moved.

    Attributes:
        reference: float64, the reference's weight as the decay of the whole weight left it;
            infinities are zeros.
        suspect: float64, the suspect's weight; infinities are zeros.
        gap: float64, the difference of each element, 0 where rounding explains it.
        different: bool, whether each element is another number at all.
        has_decayed: Whether most elements were multiplied by one factor.
        eps: The step from one to the next number of the suspect's type.
    """

    reference: np.ndarray
    suspect: np.ndarray
    gap: np.ndarray
    different: np.ndarray
    has_decayed: bool
    eps: float

    @classmethod
    def between(cls, reference: np.ndarray, suspect: np.ndarray, least: float) -> Moves:
        """Measure the moves between two weights of one shape.

        Args:
            reference, suspect: the weight in both models, the units in place.
            least: differences count as none that are smaller than this times the weight's largest
                element.
        """
        eps = machine_epsilon(suspect.dtype if is_float_array(suspect) else np.dtype(np.float32))
        x, y = reference.astype(np.float64), suspect.astype(np.float64)
        different = np.asarray(x != y)
        decay, lag = _measure_decay(x, y, eps)
        # Whatever decayed by the common factor alone has not moved.
        x = x * decay
        # The difference of two scalars is a number, and no array.
        gap = np.asarray(measure_gaps(x, y))
        x, y = (np.where(np.isfinite(z), z, 0.0) for z in (x, y))
        room = np.maximum(
            8 * eps * np.maximum(np.abs(x), np.abs(y)), least * np.abs(x).max(initial=0)
        )
        gap[gap <= room + lag * np.abs(x)] = 0.0
        return cls(x, y, gap, different, abs(1 - decay) > 8 * eps, eps)

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
    return np.nan_to_num(np.abs(y - x), nan=0.0, posinf=MAX_SCORE)


def has_meaningful_numbers(array: np.ndarray) -> bool:
    """Return whether an array holds floating-point or quantised numbers, not sizes or indices.

    Integers of eight bits are quantised weights. ONNX has shapes and indices in 32 or 64 bits.
    """
    return is_float_array(array) or (array.dtype.kind in "iu" and array.dtype.itemsize == 1)


def _measure_decay(x: np.ndarray, y: np.ndarray, eps: float) -> tuple[float, float]:
    """Measure the factor that most elements have in common, and how far others may lag behind.

    Args:
        x, y: float64, the weight in both models.
        eps: the step from one to the next number of their type.

    Returns:
        The factor, 1 where there is none, and the share of its own size that an element may lag.
    """
    # An odd step comes to all columns of a table of 2^n columns, an even one to half at most.
    thin = slice(None, None, max(x.size // SAMPLED_ELEMENTS, 1) | 1)
    a, b = x.ravel()[thin], y.ravel()[thin]
    # what became zero was pruned: it says nothing of the factor of the rest
    told = np.isfinite(a) & np.isfinite(b) & (a != 0) & (b != 0)
    if told.sum() < MIN_ROW_ELEMENTS:
        return 1.0, 0.0
    a, b = a[told], b[told]
    factor = float(np.median(b / a))
    lag = min(MAX_LAG_SHARE * abs(1 - factor), UNDOING_TOLERANCE)
    shared = np.abs(b - factor * a) <= (8 * eps + lag) * np.abs(a)
    return (factor, lag) if 2 * shared.sum() > shared.size else (1.0, 0.0)
