"""Measures by what factors the units of a suspect were multiplied, slot by slot.

A factor is the median ratio of a unit's elements, so that few altered ones do not move it far.
Its error follows from how much the elements differ from it. Which factors a structure allows is
the business of `fitting`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...groups.lines import sum_lines
from ...groups.model import Group, Slot
from ...groups.permutations import Arrays
from ...groups.rows import take_rows
from ...groups.scaling import Scaling
from ...numerics import is_same, machine_epsilon
from ...threads import map_in_threads

SAMPLED_ROW_ELEMENTS = 400
"""Of rows of more elements about this many tell the factor."""
FAINT_ROW_SHARE = 1e-6
"""Rows are all but zero whose elements are smaller than this share of those of the median row."""
ROUNDING_DEVIATION = 0.25
"""The mean change of an element by rounding, in steps of its type: up to half a step, uniformly."""
MIN_AGREEING_ELEMENTS = 8
"""If all of so many elements agree on a factor, the row was multiplied by it, however faint."""
MAX_FACTOR_DEVIATIONS = 5.5
"""Noise makes one of some ten million lines seem multiplied by more than so many deviations."""
AGREEMENT_TOLERANCE = 1e-4
"""Elements agree that differ by less than this share on average."""


def measure_factors(
    scaling: Scaling, reference: Arrays, suspect: Arrays, applied: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Measure by which factor the elements of every unit are larger in the suspect, with its error.

    A single element says nothing of its own error. Its error is the larger one of two: that of the
    elements of other slots, and the usual difference of the same element in all units.

    Args:
        scaling: the slots in which units may be multiplied.
        reference, suspect: weights of the same names, the units in place.
        applied: float64 [slots, units]: factors that were taken out of the suspect before; None
            leaves the second of these errors out.

    Returns:
        The ratios and their errors, float64 [slots, units]; a ratio is nan where a row is zero, or
        all but zero.
    """
    found, counts, apart = [], [], []
    for k, (slot, offset) in enumerate(zip(scaling.slots, scaling.offsets, strict=True)):
        x, y = (
            take_rows(a, slot).astype(np.float64) for a in _thin_weights(reference, suspect, slot)
        )
        if not np.abs(x).sum(1).all():
            # What was left out may hold all elements of a sparse row that are not zero.
            x, y = (
                take_rows(np.asarray(a[slot.initializer]), slot).astype(np.float64)
                for a in (reference, suspect)
            )
        found.append(measure_row_factors(x, y, offset, pruned=True))
        x, y = x + offset, y + offset
        counts.append(x.shape[1])
        if applied is None:
            apart.append(np.zeros(len(x)))
        else:
            apart.append(_measure_lone_errors(x, y, np.abs(applied[k])))
    ratio, error = np.array([r for r, _ in found]), np.array([e for _, e in found])
    count = np.array(counts)[:, None]
    known = np.isfinite(ratio) & (ratio != 0) & (count > 1)
    # The error of a mean of n elements, times the root of n, is that of one of them.
    each = (
        float(np.median((error * np.sqrt(count) / np.abs(np.where(known, ratio, 1.0)))[known]))
        if known.any()
        else 1.0
    )
    alone = np.maximum(each * np.abs(np.where(np.isfinite(ratio), ratio, 1.0)), np.array(apart))
    error = np.where(count == 1, alone, error)
    # What was multiplied was rounded, even if few of its elements show it. The reference shows the
    # type that it was rounded to; the suspect's weights may be widened already.
    steps = np.array(
        [machine_epsilon(np.asarray(reference[s.initializer]).dtype) for s in scaling.slots]
    )[:, None]
    is_rounded = np.isfinite(ratio) & (ratio != 1)
    return ratio, np.maximum(
        error,
        np.where(is_rounded, ROUNDING_DEVIATION * steps / np.sqrt(count) * np.abs(ratio), 0.0),
    )


def are_in_proportion(groups: Sequence[Group], reference: Arrays, suspect: Arrays) -> bool:
    """Tell whether noise alone is seen between weights, and no factor of any unit.

    The factor of every line along an axis is that of least squares, and its error follows from what
    it leaves. Lines of few elements say nothing.

    Args:
        groups: the groups.
        reference, suspect: weights of the same names, the units in place.
    """
    axes: dict[str, set[int]] = {}
    for slot in (s for g in groups for s in g.slots):
        axes.setdefault(slot.initializer, set()).add(slot.axis)

    def is_in_proportion(name: str) -> bool:
        x, y = np.asarray(reference[name]), np.asarray(suspect[name])
        if is_same(x, y):
            return True
        long = [a for a in axes[name] if x.size >= MIN_AGREEING_ELEMENTS * x.shape[a]]
        lines = sum_lines(x, y, long)
        return all(_are_lines_in_proportion(lines[a], x.size // x.shape[a]) for a in long)

    return all(map_in_threads(is_in_proportion, list(axes)))


def _are_lines_in_proportion(sums: np.ndarray, count: int) -> bool:
    """Tell whether no line of `count` elements shows a factor other than one; see `sum_lines`."""
    own, shared, apart = sums
    # The factor is 1 + shared / own, and the square of its error what is left of `apart` over
    # `own` and the number of elements.
    left = apart * own - shared**2
    seen = shared**2 * (count - 1) > MAX_FACTOR_DEVIATIONS**2 * left
    return bool(np.isfinite(sums).all()) and not seen.any()


def _measure_lone_errors(x: np.ndarray, y: np.ndarray, applied: np.ndarray) -> np.ndarray:
    """Measure the error of single elements by how much those of all units differ.

    Noise that was added before the units were multiplied is even once the factors are out, and
    noise that was added later is even with them in. The larger error counts. Half of the units may
    be fitted exactly, so it follows from an upper quartile.

    Args:
        x, y: float64 [units, elements]: the rows of the reference and of the suspect.
        applied: float64 [units]: magnitudes of the factors that were taken out.

    Returns:
        float64 [units]: each error as a share of its element.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        # The upper quartile of the magnitudes of normal numbers is 1.15 deviations.
        rows = [
            np.quantile(np.abs(y - x).max(1) * c, 0.75) / 1.15 / (np.abs(x).max(1) * c)
            for c in (np.ones(len(x)), applied)
        ]
        return np.nan_to_num(np.max(rows, 0), posinf=0.0)


def _thin_weights(reference: Arrays, suspect: Arrays, slot: Slot) -> list[np.ndarray]:
    """Return a weight of both models, with only every so many positions of its longest other axis.

    About `SAMPLED_ROW_ELEMENTS` elements are left of every unit, the same ones in both models.
    """
    arrays = [np.asarray(a[slot.initializer]) for a in (reference, suspect)]
    shape = arrays[0].shape
    axes = [a for a in range(len(shape)) if a != slot.axis and a not in dict(slot.within)]
    step = arrays[0].size // max(shape[slot.axis] * SAMPLED_ROW_ELEMENTS, 1)
    if not axes or step < 2:
        return arrays
    longest = max(axes, key=lambda a: shape[a])
    thin = (*[slice(None)] * longest, slice(None, None, min(step, shape[longest])))
    return [a[thin] for a in arrays]


def measure_row_factors(
    x: np.ndarray, y: np.ndarray, offset: float = 0.0, pruned: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the ratio of every row of `y` to that of `x`, and its error.

    The ratio is the median of the elements' ratios, weighted by the size of the elements. That is
    the r for which the sum of |y - r x| is least.

    Args:
        x, y: float64 [units, elements].
        offset: is added to both first.
        pruned: where zeros of `y` stand for half of a row or more, whether the rest of the row
            tells the ratio; if not, zeros are elements like others.

    Returns:
        The ratios and their errors, float64 [units]. A ratio is nan for rows of zeros, and for
        rows that are all but zero beside the others.

    >>> row = np.array([[1.0, 2.0, 4.0]])
    >>> ratio, error = measure_row_factors(row, 3 * row)
    >>> ratio.tolist(), error.tolist()
    ([3.0], [0.0])
    """
    # `unscaling` writes -offset where a variance was pruned, so that the sum below is zero.
    gone = ((y == 0) | (y == -offset)) & pruned
    x, y = x + offset, y + offset
    weight = np.abs(x)
    left = ~(gone & ((weight * gone).sum(1, keepdims=True) >= weight.sum(1, keepdims=True) / 2))
    weight = weight * left
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = np.where(weight > 0, y / x, 1.0)
    order = np.argsort(share, axis=1)
    summed = np.cumsum(np.take_along_axis(weight, order, 1), 1)
    middle = (summed >= summed[:, -1:] / 2).argmax(1)
    ratio = np.take_along_axis(share, np.take_along_axis(order, middle[:, None], 1), 1)[:, 0]
    error = (
        (np.abs(y - ratio[:, None] * x) * left).sum(1)
        / np.maximum(weight.sum(1), 1e-300)
        / np.sqrt(x.shape[1])
    )
    # The median is one of the elements itself, so only the others say how far it may be off.
    error *= x.shape[1] / max(x.shape[1] - 1, 1)
    # A row that is all but zero beside the others says nothing, unless all its elements agree.
    silent = ~np.isfinite(ratio) | ~np.isfinite(error)
    faint = silent | (weight.sum(1) == 0)
    unsure = (x.shape[1] < MIN_AGREEING_ELEMENTS) | ~(
        error * np.sqrt(x.shape[1]) <= AGREEMENT_TOLERANCE * np.abs(ratio)
    )
    for total in (weight.sum(1), (np.abs(y) * left).sum(1)):
        faint |= (total <= FAINT_ROW_SHARE * np.median(total)) & unsure
    return np.where(faint, np.nan, ratio), np.where(faint, 0.0, error)
