"""The test of single weights: elements that moved so much further than all others that moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...groups.model import Group, Slot
from ..findings import MAX_CHANCE, Finding
from .lone_moves import choose_row_axes, find_untrained_elements, list_holders
from .moves import MIN_ROW_ELEMENTS, Moves
from .outliers import (
    MIN_DEVIATIONS,
    MIN_FACTOR_STEP,
    MIN_GAP_RATIO,
    MIN_TAIL_SAMPLES,
    are_faded,
    compute_gap_chance,
    count_most_tampered,
    count_outliers,
    estimate_deviation,
    have_mostly_stayed,
)
from .training import TrainingLaw

MAX_ODD_ELEMENTS = 16
"""The maximum number of elements of one weight that are told from others that moved."""


@dataclass(frozen=True)
class _Elements:
    """The elements of one weight that moved.

    Attributes:
        sizes: float64 [n]: how far each moved, with what training explains taken out.
        total: The number of all elements of the weight.
        typical: How far elements usually moved.
        least: The rounding of the largest element.
        mean: The mean size of all elements.
        is_alone: Whether all but a few elements stayed.
    """

    sizes: np.ndarray
    total: int
    typical: float
    least: float
    mean: float
    is_alone: bool


def find_odd_elements(
    name: str, own: Sequence[tuple[Group, Slot]], moves: Moves, gap: np.ndarray, law: TrainingLaw
) -> list[Finding]:
    """Find elements that differ by far more than all others that do.

    If hardly any differ, all of these are looked at.

    Args:
        name: the weight.
        own: the slots in it, each with its group.
        moves: how far its elements moved.
        gap: the same, float64, without what has been found before.
        law: what the model shows of training.

    Returns:
        One finding for each unit, that of its largest move.
    """
    flat, size = gap.ravel(), np.abs(moves.reference)
    least = moves.eps * float(size.max(initial=0))
    moved = np.flatnonzero(flat > 0)
    is_alone = have_mostly_stayed(flat)
    typical = 0.0 if is_alone else estimate_deviation(flat[moved])
    if not (flat > max(MIN_DEVIATIONS * typical, MIN_GAP_RATIO * least)).any():
        return []
    sizes = flat[moved]
    if not is_alone:
        # A move has to be odd in the whole weight, and odd in its row and column as well. What may
        # be decay counts as usual.
        sizes = np.minimum(sizes, typical * _polish_gaps(gap).ravel()[moved])
        sizes = np.where(
            are_faded(flat[moved], size.ravel()[moved]), np.minimum(sizes, typical), sizes
        )
    elements = _Elements(sizes, flat.size, typical, least, float(size.mean()), is_alone)
    chosen = moved[_select_odd(elements)]
    if is_alone and law.is_trained and chosen.size:
        chosen = chosen[find_untrained_elements(name, own, gap, chosen, moves.scale, law)]
    found: dict[tuple[str | None, int | None], Finding] = {}
    for place in chosen.tolist():
        key: tuple[str | None, int | None] = next(
            list_holders(own, np.unravel_index(place, gap.shape)), (None, None)
        )
        far = float(flat[place] / max(typical, least, 1e-300))
        if key not in found or found[key].size < far:
            found[key] = Finding("replaced", *key, name, None, far)
    return list(found.values())


def _select_odd(elements: _Elements) -> np.ndarray:
    """Return the numbers of the elements above a gap that training does not explain, if any."""
    sizes, typical = elements.sizes, elements.typical
    most = count_most_tampered(elements.total)
    order = np.argsort(-sizes)[: most + 1]
    values = sizes[order]
    # Each value is compared with the next one. Behind the last one of all comes zero.
    after = np.append(values[1:], 0.0) if order.size == sizes.size else values[1:]
    steps = np.flatnonzero(
        (values[: after.size] > MIN_GAP_RATIO * np.maximum(after, elements.least))
        & (values[: after.size] > MIN_DEVIATIONS * typical)
    )
    if elements.is_alone:
        # Above the last gap lies all that moved by clearly more than rounding.
        steps = steps[-1:]
    else:
        is_large = values[steps] > MIN_FACTOR_STEP * elements.mean
        steps = steps[(steps < MAX_ODD_ELEMENTS) & is_large]
        # The first gap that is rare enough, which is the one above which the fewest elements lie.
        steps = np.array(
            [k for k in steps.tolist() if compute_gap_chance(sizes, k + 1, typical) < MAX_CHANCE][
                :1
            ],
            int,
        )
        if sizes.size < MIN_TAIL_SAMPLES:
            # So few elements tell no law of their tail: they have to pass the test of rows, too.
            logs = np.log(np.maximum(sizes, 1e-300))
            steps = steps[steps < count_outliers(logs, most, MAX_CHANCE)]
    return order[: steps[0] + 1] if steps.size else order[:0]


def _polish_gaps(gap: np.ndarray) -> np.ndarray:
    """Return the sizes of what moved with those of rows, then of columns, taken out.

    The sizes are medians of logarithms (one turn of Tukey's median polish), over what moved alone.
    The result is a size of one for what moved as its row and its column usually do.
    """
    moved = gap > 0
    logs = np.log(np.where(moved, gap, 1.0))
    logs -= np.median(logs[moved])
    for axis in choose_row_axes(gap.shape):
        # `lines` is a view: what is taken out of a line is taken out of `logs`.
        lines, there = np.moveaxis(logs, axis, 0), np.moveaxis(moved, axis, 0)
        for line, own in zip(lines, there, strict=True):
            if own.sum() >= MIN_ROW_ELEMENTS:
                line -= np.median(line[own])
    return np.where(moved, np.exp(logs), 0.0)
