"""Weights of which every channel was clipped to an interval of its own.

A channel is a slice of a weight along one axis, such as the weights that make one unit. Neither the
order of the channels is known nor that of the values in them. Clipping changes no order among the
values of a channel, and leaves the values inside the interval as they are. So the values of each
channel are sorted, and the channel is recognised by values at ranks at which none was cut.

Two bounds a channel can explain much. So they must explain all that differs, bit for bit, and what
was cut must be no chance: see `_measure_surprise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy

from .findings import MAX_CHANCE, MAX_TAMPERED_SHARE

MIN_CHANNEL_VALUES = 3
"""A channel with fewer values has none between its ends."""
SAMPLED_CHANNELS = 4
"""The number of channels that are looked at before all are."""
KEY_RANKS = 16
"""The number of values by which a channel is recognised."""


@dataclass(frozen=True)
class ChannelBounds:
    """The intervals to which the channels of a weight were clipped.

    Attributes:
        axis: the axis whose positions are the channels.
        lows, highs: the bounds of each channel, that is its least and its largest value, in the
            reference's order and dtype, [channels].
        surprise: minus the logarithm of the chance that other changes look like these cuts.
    """

    axis: int
    lows: np.ndarray
    highs: np.ndarray
    surprise: float


def find_channel_bounds(reference: np.ndarray, suspect: np.ndarray) -> ChannelBounds | None:
    """Find the axis along which channels were clipped, and the interval of each.

    Args:
        reference, suspect: the weight in both models, of one shape and dtype, all values finite;
            every axis may have been reordered.

    Returns:
        The axis and its intervals; None if the weight was not clipped in this way.
    """
    axes = range(suspect.ndim if suspect.ndim > 1 else 0)
    found = [b for a in axes if (b := _find_bounds_along(reference, suspect, a)) is not None]
    # A few cuts along one axis may lie at the ends of channels along another one as well.
    return max(found, key=lambda b: b.surprise, default=None)


def clip_channels(array: np.ndarray, axis: int, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """Clip every channel of an array to its interval.

    Args:
        array: the weight.
        axis: the axis whose positions are the channels.
        lows, highs: the bounds of each channel, of the weight's dtype, [channels].
    """
    shape = [-1 if a == axis else 1 for a in range(array.ndim)]
    return np.minimum(np.maximum(array, lows.reshape(shape)), highs.reshape(shape))


def _find_bounds_along(
    reference: np.ndarray, suspect: np.ndarray, axis: int
) -> ChannelBounds | None:
    """Find the intervals to which the channels along one axis were clipped."""
    count = suspect.shape[axis]
    if count < 2 or suspect.size < MIN_CHANNEL_VALUES * count:
        return None
    if not (_has_values(reference, suspect, axis) and _has_ends(reference, suspect, axis)):
        return None
    ours, theirs = (
        np.sort(np.moveaxis(a, axis, 0).reshape(count, -1), axis=1) for a in (reference, suspect)
    )
    ranks = _choose_ranks(theirs)
    if not ranks.size:
        return None
    order, place = (np.lexsort(rows[:, ranks].astype(np.float64).T) for rows in (ours, theirs))
    ours, theirs = ours[order], theirs[place]
    low, high = theirs[:, 0], theirs[:, -1]
    if not (clip_channels(ours, 0, low, high) == theirs).all():
        return None
    surprise = _measure_surprise(ours, theirs)
    if surprise <= -math.log(MAX_CHANCE):
        return None
    lows, highs = np.empty_like(low), np.empty_like(high)
    lows[order], highs[order] = low, high
    return ChannelBounds(axis, lows, highs, surprise)


def _has_values(reference: np.ndarray, suspect: np.ndarray, axis: int) -> bool:
    """Return whether the reference has the middle values of the suspect's first channels.

    Noise, training and factors leave hardly any value as it was, which one channel shows already.
    """
    for channel in np.moveaxis(suspect, axis, 0)[:SAMPLED_CHANNELS]:
        inner = channel[(channel > channel.min()) & (channel < channel.max())]
        middle = inner.size // 2
        if inner.size and not (reference == np.partition(inner, middle)[middle]).any():
            return False
    return True


def _has_ends(reference: np.ndarray, suspect: np.ndarray, axis: int) -> bool:
    """Return whether the ends of the suspect's channels are as clipping some would leave them.

    Clipping lowers the largest value of a channel or leaves it, whichever channel it is. So it does
    the same to the k-th largest of these values, for each k; and the reverse to the smallest ones.
    Pruning leaves nearly all of them.
    """
    others = tuple(a for a in range(suspect.ndim) if a != axis)
    top, new_top = (np.sort(a.max(others)) for a in (reference, suspect))
    if (new_top > top).any():
        return False
    bottom, new_bottom = (np.sort(a.min(others)) for a in (reference, suspect))
    is_narrower = (new_top < top).any() or (new_bottom > bottom).any()
    return bool(is_narrower and (new_bottom >= bottom).all())


def _choose_ranks(rows: np.ndarray) -> np.ndarray:
    """Return some ranks at which no channel has one of its ends.

    Args:
        rows: the values of each channel of the suspect, sorted, [channels, values].
    """
    low, high = rows[:, :1], rows[:, -1:]
    # A channel of equal values, such as that of a dead unit, has its ends at all ranks. Zeros at an
    # end are those that pruning left: who clips leaves values of both signs.
    is_inside = ((rows > low) & (rows < high)) | (rows == 0) | (low == high)
    ranks = np.flatnonzero(is_inside.all(0))
    return ranks[np.linspace(0, max(ranks.size - 1, 0), min(KEY_RANKS, ranks.size)).astype(int)]


def _measure_surprise(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return minus the logarithm of the chance that other changes look like cuts at the ends.

    Other changes are as many, wherever they lie in a channel: that all lie at its ends is one
    choice of many. What pruning and factors can leave as well is not counted. These are values that
    became zero, and channels without any other values than zero and their ends. The result is zero
    where few channels were cut.

    Args:
        ours, theirs: the values of each channel, sorted, [channels, values], theirs clipped.
    """
    low, high = theirs[:, :1], theirs[:, -1:]
    cut = np.count_nonzero((ours != theirs) & (theirs != 0), axis=1).astype(np.float64)
    kept = np.count_nonzero((theirs > low) & (theirs < high) & (theirs != 0), axis=1)
    counts = (cut > 0) & (kept > 0)
    cut, kept = cut[counts], kept[counts]
    if cut.size <= max(MAX_TAMPERED_SHARE * len(ours), 1):
        return 0.0
    choices = (
        scipy.special.gammaln(cut + kept + 1)
        - scipy.special.gammaln(cut + 1)
        - scipy.special.gammaln(kept + 1)
    )
    # There are k + 1 ways to cut k values, some at the lower end and the rest at the upper one.
    return float((choices - np.log(cut + 1)).clip(min=0).sum())
