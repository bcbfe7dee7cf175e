"""Which of two relatives was made of the other, where the weights tell.

A copy that was pruned, cast or quantised keeps what is left as it was: each of its elements is told
by that of the original. So it is known to be made of the other one. If anything else was done as
well, nothing is said: a network may be trained on from pruned or rounded weights, and then it is
the original that has less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ml_dtypes import bfloat16

from ..graph.model import Graph
from ..numerics import is_float_array
from ..pipeline.checking import Check
from ..reporting import count_things

MIN_ELEMENTS = 64
"""Smaller weights have few values by chance."""
MAX_SAMPLED = 1 << 16
"""So many elements of a weight are looked at."""
MIN_ZEROS_SHARE = 0.05
"""A weight is pruned where it has that share of zeros more than the other."""
MAX_VALUES_SHARE = 0.5
"""A weight is rounded where it has less than that share of the other's number of values."""
MIN_FILLED = 0.25
"""Rounding moves elements by up to half a step, and by over this share of that on average. What
moved them by less was training that began with rounded weights."""
CAST_TYPES = ((np.dtype(np.float16), 2.0**-10), (np.dtype(bfloat16), 2.0**-7))
"""The types that weights are cast to on the way to other ones, and their largest relative step."""
ROUNDING, FEW = 1e-5, 1e-3
"""Elements are equal that differ by less, relatively; and so many of them may be odd."""


@dataclass(frozen=True)
class Direction:
    """Which of two relatives was made of the other.

    Attributes:
        child: `suspect` or `model`, None where nothing tells.
        reason: what of its weights tells it, None where nothing does.
    """

    child: str | None
    reason: str | None


UNTOLD = Direction(None, None)


def tell_direction(found: Check, model: Graph) -> Direction:
    """Tell which of two relatives was made of the other.

    Args:
        found: the check of a suspect against the model.
        model: the model.
    """
    if found.resync is None or found.accepted:
        return UNTOLD
    told: dict[str, Counter[str]] = {"suspect": Counter(), "model": Counter()}
    count = 0
    for name, theirs in found.resync.weights.items():
        ours = model.array(name) if name in model.tensors else None
        if ours is None or ours.size < MIN_ELEMENTS or not is_float_array(ours):
            continue
        step = -(-ours.size // MAX_SAMPLED)
        suspect, own = (a.reshape(-1)[::step].astype(np.float64) for a in (theirs, ours))
        if np.isclose(suspect, own, ROUNDING, 0).all():
            continue
        count += 1
        losses = _list_losses(suspect, own), _list_losses(own, suspect)
        if not any(losses):
            # something else was done
            return UNTOLD
        for who, own_losses in zip(told, losses, strict=True):
            told[who].update(own_losses)
    child = next((who for who, losses in told.items() if losses), None)
    if child is None or all(told.values()):
        return UNTOLD
    what = " and ".join(f"{text} in {n}" for text, n in sorted(told[child].items()))
    return Direction(child, f"{what} of {count_things(count, 'weight')}")


def _list_losses(copy: np.ndarray, original: np.ndarray) -> list[str]:
    """List what a weight has lost that another has, and nothing else was done to it.

    Args:
        copy, original: float64 [elements]; NaN where a unit was not found.
    """
    if not (np.isfinite(copy).all() and np.isfinite(original).all()):
        return []
    return [text for text, is_lost in _ask_losses(copy, original) if is_lost]


def _ask_losses(copy: np.ndarray, original: np.ndarray) -> Iterator[tuple[str, bool]]:
    left = copy != 0
    is_equal = np.isclose(copy[left], original[left], ROUNDING, 0)
    is_pruned = left.mean() < (original != 0).mean() - MIN_ZEROS_SHARE
    yield "elements are zero", bool(left.any() and is_pruned and (~is_equal).mean() <= FEW)
    yield "few bits are left", any(_is_cast(copy, original, *kind) for kind in CAST_TYPES)
    yield "few values are left", _is_quantised(copy, original)


def _is_cast(copy: np.ndarray, original: np.ndarray, kind: np.dtype, step: float) -> bool:
    with np.errstate(over="ignore"):
        expected = original.astype(kind).astype(np.float64)
    if not np.array_equal(expected, copy):
        return False
    moved = np.abs(original - copy)[copy != 0] / np.abs(copy[copy != 0])
    return bool(moved.size and moved.mean() > MIN_FILLED * step / 2)


def _is_quantised(copy: np.ndarray, original: np.ndarray) -> bool:
    levels = np.unique(copy)
    if levels.size < 2 or levels.size >= MAX_VALUES_SHARE * np.unique(original).size:
        return False
    step = float(np.median(np.diff(levels)))
    moved = np.abs(original - copy)
    # no element is further from its level than half a step, but for those beyond the last level
    inside = (original > levels[0]) & (original < levels[-1])
    if not inside.any() or (moved[inside] > step * (0.5 + ROUNDING)).mean() > FEW:
        return False
    return bool(moved[inside].mean() > MIN_FILLED * step / 2)
