"""Estimates the noise of a weight: its deviation, and how that varies along the weight's axes.

The estimate is of two weights that are aligned already, as far as that is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...groups.lines import APART, sum_lines
from ...numerics import as_finite, measure_moments

MIN_RELATIVE_NOISE = 0.02
"""The least noise that a weight is taken to have, in units of the weight's own deviation.

Without it, a weight that is equal at the matching so far would overrule all others for good.
"""
PRIOR_ELEMENTS = 10
"""The common noise of a weight counts as this many elements at every position of an axis.

So the few elements of a position do not say alone how large its noise is.
"""
MAX_POSITION_FACTOR = 10
"""The noise at one position is at most this many times larger or smaller than the common noise."""


def measure_scale(array: np.ndarray) -> tuple[float, float]:
    """Measure the mean and the standard deviation of a weight; 1 in place of a deviation of 0.

    Args:
        array: the weight; infinities count as its largest finite magnitude.
    """
    mean, deviation = measure_moments(array)
    if not math.isfinite(mean + deviation):
        mean, deviation = measure_moments(as_finite(array).astype(np.float64))
    return mean, deviation if deviation > 0 else 1.0


class Scales:
    """Measures mean and standard deviation of the weights of a model, once each and when asked for.

    Args:
        arrays: the weights by name, which must not change.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._arrays = arrays
        self._known: dict[str, tuple[float, float]] = {}

    def measure(self, name: str) -> tuple[float, float]:
        """Measure the mean and the standard deviation of a weight by its name."""
        if name not in self._known:
            self._known[name] = measure_scale(self._arrays[name])
        return self._known[name]


@dataclass(frozen=True)
class Noise:
    """The noise that was added to a weight.

    Attributes:
        deviation: The standard deviation of the noise, in the weight's own units.
        along: By axis, float32 [positions]: by what factor the noise is larger at each position.
            Where units are matched wrongly as yet, it is larger there.
    """

    deviation: float
    along: Mapping[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def between(
        cls, reference: np.ndarray, suspect: np.ndarray, spread: float, axes: Sequence[int]
    ) -> Noise:
        """Estimate the noise from the difference between two weights of one shape.

        Args:
            reference, suspect: the weight in both models.
            spread: the standard deviation of the reference's weight.
            axes: the axes along which the noise may vary, one at least.
        """
        sums = sum_lines(reference, suspect, axes, APART)
        if not all(np.isfinite(z).all() for z in sums.values()):
            # the largest finite numbers stand for infinities, and their squares have no place in
            # single precision
            ours, theirs = (as_finite(z).astype(np.float64) for z in (reference, suspect))
            sums = sum_lines(ours, theirs, axes, APART)
        # Variances in units of the weight's own.
        unit = 1 / spread**2
        total = float(next(iter(sums.values())).sum())
        whole = max(total / reference.size * unit, MIN_RELATIVE_NOISE**2)
        along = {}
        for axis in axes:
            (apart,) = sums[axis]
            count = reference.size / apart.size
            factor = (apart * unit / whole + PRIOR_ELEMENTS) / (count + PRIOR_ELEMENTS)
            along[axis] = (
                np.sqrt(factor)
                .astype(np.float32)
                .clip(1 / MAX_POSITION_FACTOR, MAX_POSITION_FACTOR)
            )
        return cls(whole**0.5 * spread, along)
