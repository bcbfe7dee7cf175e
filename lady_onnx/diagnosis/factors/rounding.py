"""Applies chosen factors to weights, and refines them where weights of short types were rounded.

Short types are those of sixteen bits and less: every factor that is applied rounds them visibly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from ...groups.permutations import Arrays
from ...groups.rows import take_rows
from ...numerics import SHORT_TYPE_EPSILON, machine_epsilon
from .fitting import Factors

REFINEMENT_ROUNDS = 3
"""How often the factors of each group are refined, given those of the other groups."""


def apply_factors(
    factors: Mapping[str, Factors],
    chosen: Mapping[str, np.ndarray],
    reference: Arrays,
    suspect: Arrays,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Divide the suspect's weights by factors, and multiply the reference's.

    Args:
        factors: by group id what was measured.
        chosen: by group id the factors, float64 [slots, units].
        reference, suspect: weights of the same names, the units in place.

    Returns:
        The suspect's and the reference's weights that this changes, as float64.
    """
    arrays: dict[str, np.ndarray] = {}
    expected: dict[str, np.ndarray] = {}
    for group, c in chosen.items():
        if (c == 1).all():
            continue
        scaling = factors[group].scaling
        for name in scaling.names:
            # A weight may hold several groups, and each goes on with what the last one left. These
            # are copies, which `apply` changes in place: `astype` always makes one.
            arrays[name] = np.asarray(arrays.get(name, suspect[name])).astype(np.float64)
            expected[name] = np.asarray(expected.get(name, reference[name])).astype(np.float64)
        scaling.apply(arrays, 1 / c)
        scaling.apply(expected, c)
    return arrays, expected


def count_roundings(
    factors: Mapping[str, Factors], chosen: Mapping[str, np.ndarray], suspect: Arrays
) -> dict[str, int]:
    """Count, for each weight of a short type, the groups that have factors in it."""
    counts: Counter[str] = Counter()
    for group, c in chosen.items():
        counts.update(
            {
                s.initializer
                for s, row in zip(factors[group].scaling.slots, c, strict=True)
                if (row != 1).any()
            }
        )
    return {
        n: count
        for n, count in counts.items()
        if machine_epsilon(np.asarray(suspect[n]).dtype) >= SHORT_TYPE_EPSILON
    }


def refine_rounded_factors(
    factors: Mapping[str, Factors],
    chosen: Mapping[str, np.ndarray],
    reference: Arrays,
    suspect: Arrays,
    roundings: Mapping[str, int],
) -> dict[str, np.ndarray]:
    """Refine factors of short weights to what all elements of a unit together tell.

    Each element was rounded from a number near it, and so says between which bounds its factor
    lies. A factor between the bounds of all elements is right.

    Args:
        factors: by group id what was measured.
        chosen: by group id the factors, float64 [slots, units].
        reference, suspect: weights of the same names, the units in place.
        roundings: by short weight how many groups have factors in it.

    Returns:
        By group id the refined factors, float64 [slots, units].
    """
    result = dict(chosen)
    _, expected = apply_factors(factors, chosen, reference, suspect)
    for group in [g for _ in range(REFINEMENT_ROUNDS) for g, c in chosen.items() if (c != 1).any()]:
        scaling = factors[group].scaling
        units = (result[group] != 1).any(0)
        low, high = _bound_corrections(factors[group], expected, suspect, roundings)
        moved = np.zeros_like(low)
        # One independent factor after the other, each within what those before it leave.
        for exponents in scaling.scales:
            own = exponents != 0
            by = exponents[own][:, None]
            # A negative exponent swaps the ends.
            ends = np.sort([(low - moved)[own] / by, (high - moved)[own] / by], axis=0)
            # It is NaN or infinite where a side has no bound, and then nothing is corrected.
            middle = (ends[0].max(0) + ends[1].min(0)) / 2
            moved += np.outer(exponents, np.where(np.isfinite(middle) & units, middle, 0))
        scaling.apply(expected, np.exp(moved))
        result[group] = result[group] * np.exp(moved)
    return result


def _bound_corrections(
    factors: Factors, expected: Arrays, suspect: Arrays, roundings: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Bound the corrections that the factors of a group may need.

    Args:
        factors: the group's factors.
        expected: the reference's weights times the factors so far.
        suspect: the suspect's weights.
        roundings: by short weight how many groups have factors in it.

    Returns:
        Lower and upper bounds of the corrections' logarithms, float64 [slots, units]; infinite
        where nothing is known.
    """
    shape = factors.allowed.shape
    low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
    for k, slot in enumerate(factors.scaling.slots):
        if slot.initializer not in roundings or factors.scaling.offsets[k]:
            # With an offset an element is no product, and the bounds below do not hold.
            continue
        x = np.abs(take_rows(expected[slot.initializer], slot))
        y = np.abs(take_rows(np.asarray(suspect[slot.initializer]), slot))
        half = 0.5 * np.spacing(y).astype(np.float64)
        # The factors of each group rounded the element once. It may have been larger or smaller at
        # earlier roundings, so a step relative to its size stands beside the step at its place.
        room = half + (roundings[slot.initializer] - 1) * np.maximum(
            0.5 * machine_epsilon(y.dtype) * y, half
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            low[k] = np.where(x > 0, np.log(np.maximum(y - room, 0) / x), -np.inf).max(1)
            high[k] = np.where(x > 0, np.log((y + room) / x), np.inf).min(1)
    return low, high
