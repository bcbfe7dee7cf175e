"""Which of two relatives was made of the other, where the weights tell.

What is lost cannot be had again: a copy that was pruned, or has few values or bits left, was made
of the other one. Noise and training lose nothing that shows, so nothing is said of them.
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
CAST_TYPES = (np.dtype(np.float16), np.dtype(bfloat16))
"""The types that weights are cast to on the way to other ones."""


@dataclass(frozen=True)
class Direction:
    """Which of two relatives was made of the other.

    Attributes:
        child: `suspect` or `model`, None where nothing tells.
        reason: what tells it, None where nothing does.
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
        # units that were not found are NaN
        if np.isfinite(suspect).all() and np.isfinite(own).all():
            count += 1
            told["suspect"].update(_list_losses(suspect, own))
            told["model"].update(_list_losses(own, suspect))
    child = next((who for who, losses in told.items() if losses), None)
    if child is None or all(told.values()):
        return UNTOLD
    what = " and ".join(f"{text} in {n}" for text, n in sorted(told[child].items()))
    reason = f"the {child} was made of the other: {what} of {count_things(count, 'weight')}"
    return Direction(child, reason)


def _list_losses(copy: np.ndarray, original: np.ndarray) -> Iterator[str]:
    """List what a weight has lost that another has.

    Args:
        copy, original: float64 [elements], finite.
    """
    zeros, before = (float((a == 0).mean()) for a in (copy, original))
    if zeros > before + MIN_ZEROS_SHARE:
        yield "elements are zero"
    counts = [np.unique(a[a != 0]).size for a in (copy, original)]
    # pruning leaves fewer values: those of the elements that are left are counted
    left = min((1 - zeros) / max(1 - before, 1e-9), 1)
    if counts[0] < MAX_VALUES_SHARE * left * counts[1]:
        yield "few values are left"
    for kind in CAST_TYPES:
        with np.errstate(over="ignore"):
            shares = [
                float((a.astype(kind).astype(np.float64) == a).mean()) for a in (copy, original)
            ]
        if shares[0] == 1 and shares[1] < MAX_VALUES_SHARE:
            yield "few bits are left"
            return
