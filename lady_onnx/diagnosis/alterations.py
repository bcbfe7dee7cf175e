"""What was done to a whole weight, read off its values alone, whatever their order.

Quantisation, pruning, a cast, clipping and scaling leave traces that no order hides: few levels,
many zeros, a shorter mantissa. Each candidate is applied to the reference's weight. It explains the
suspect's weight if the altered reference then holds the same values, up to `RELATIVE_TOLERANCE`.
What was done to single units is the business of `tampering` and `undoing`.

Alterations are looked for before units are matched. So a candidate knows the two weights alone, in
different orders: neither groups nor matches. One that depends on the row has to find the rows by
their values, as `channel_clipping` does. A candidate is a `Step` of `_propose_alterations`. A new
kind also has a place in the docstring of `Alteration`, in `describe_alterations`, in
`docs/explanation/findings.md`, and in `FIRST_KINDS` if another alteration may follow it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import ml_dtypes
import numpy as np

from ..numerics import LEAST_DEVIATION, hash_values, is_float_array, split_blocks
from .channel_clipping import clip_channels, find_channel_bounds
from .pruning import prune_array
from .quantisation import MAX_BITS, SAMPLED_ELEMENTS, count_bits, move_to_levels, quantize_array

MAX_CHANCE_ZEROS = 1e-5
"""Noise makes at most about this share of numbers zero by chance."""
RELATIVE_TOLERANCE = 1e-5
"""Values that differ by this part of the largest count as the same."""


@dataclass(frozen=True)
class Alteration:
    """One thing that was done to a weight.

    Attributes:
        kind: `cast`, `quantized`, `pruned`, `clipped`, `scaled` or `noise`.
        parameters: Of `cast` the `dtype`; of `quantized` the `bits`, the `axis` that scales follow
            (-1 for one scale) and whether levels lie `symmetric`; of `pruned` the `sparsity`, and
            `guessed` where noise hides it; of `clipped` the bounds `low` and `high`, or, where each
            channel has its own, the `axis` of the channels, and `lows` and `highs` in the
            reference's order; of `scaled` the `factor`; of `noise` the `level` in units of the
            weight's own standard deviation.
    """

    kind: str
    parameters: Mapping[str, float | int | str | tuple[float, ...]] = field(default_factory=dict)


Step = tuple[Alteration, Callable[[np.ndarray], np.ndarray]]
FIRST_KINDS = ("pruned", "clipped", "cast")
"""The kinds after which a second alteration is looked for, in this order."""


def explain_alterations(
    reference: np.ndarray, suspect: np.ndarray
) -> tuple[np.ndarray, tuple[Alteration, ...]]:
    """Explain by what alterations a weight of the suspect came from the reference's.

    Args:
        reference, suspect: the weight in both models, of one shape and dtype; units may have been
            reordered.

    Returns:
        The reference's weight with these alterations, and the alterations, in the order in which
        they were done. The weight holds the suspect's very values, in the reference's order. If
        nothing explains the suspect's weight, the reference's weight as it is, and none.
    """
    if reference.size < 2 or not is_float_array(reference):
        return reference, ()
    ours, theirs = _Extent.of(reference), _Extent.of(suspect)
    if not (ours.is_finite and theirs.is_finite):
        return reference, ()
    # The hash does not depend on the order of the values: units that only moved alter nothing.
    if ours.has_same_ends(theirs) and hash_values(reference) == hash_values(suspect):
        return reference, ()
    if not (candidates := list(_propose_alterations(reference, suspect, ours, theirs))):
        return reference, ()
    target = np.sort(suspect, axis=None)
    if ours.has_same_ends(theirs) and (np.sort(reference, axis=None) == target).all():
        return reference, ()
    for what, apply in candidates:
        altered = _fit_values(apply(reference), target)
        if altered is not None:
            return altered, (what,)
    firsts = [step for kind in FIRST_KINDS for step in candidates if step[0].kind == kind]
    for first, before in firsts:
        given = before(reference)
        for second, apply in _propose_alterations(given, suspect, _Extent.of(given), theirs):
            altered = _fit_values(apply(given), target) if second.kind != first.kind else None
            if altered is not None:
                return altered, (first, second)
    return reference, ()


def describe_pruning(pruned: np.ndarray, is_guess: bool) -> Alteration:
    """Return what is said of a weight that was pruned; a guess is told to be one."""
    sparsity = np.count_nonzero(pruned == 0) / pruned.size
    return Alteration("pruned", {"sparsity": sparsity, **({"guessed": 1} if is_guess else {})})


def describe_alterations(alterations: Mapping[str, Sequence[Alteration]]) -> str:
    """Say in a few words what was done to the weights of a model.

    That is each kind, its strength, and the number of weights.
    """
    strength = {
        "quantized": "bits",
        "pruned": "sparsity",
        "noise": "level",
        "scaled": "factor",
        "cast": "dtype",
    }
    found: dict[str, list[float | int | str | tuple[float, ...]]] = {}
    for done in alterations.values():
        for one in done:
            found.setdefault(one.kind, []).append(
                one.parameters[strength[one.kind]] if one.kind in strength else ""
            )
    guessed = {a.kind for done in alterations.values() for a in done if "guessed" in a.parameters}
    parts = []
    for kind, values in found.items():
        numbers = [v for v in values if isinstance(v, float | int)]
        ends = (
            sorted({f"{n:.3g}" for n in (min(numbers), max(numbers))}, key=float)
            if numbers
            else sorted({*map(str, values)})
        )
        about = "about " * (kind in guessed)
        what = f", {strength[kind]} {about}{' to '.join(ends)}" if kind in strength else ""
        parts.append(f"{kind}{what} ({len(values)} weight{'s' * (len(values) > 1)})")
    return "; ".join(parts)


@dataclass(frozen=True)
class _Extent:
    """How far the values of a weight reach, whatever their order.

    Attributes:
        low, high: The least and the largest value; NaN if any is.
        zeros: How many values are zero.
        norm: The root of the sum of all squares.
    """

    low: float
    high: float
    zeros: int
    norm: float

    @classmethod
    def of(cls, array: np.ndarray) -> _Extent:
        """Measure a weight that has elements, block by block."""
        low, high, zeros, square = math.inf, -math.inf, 0, 0.0
        for block in split_blocks(array.shape):
            part = np.asarray(array[block])
            # unlike that of Python, numpy's minimum of a number and NaN is NaN
            low, high = np.minimum(low, float(part.min())), np.maximum(high, float(part.max()))
            zeros += int(np.count_nonzero(part == 0))
            # squares of large and of small numbers have no place in single precision
            is_usual = LEAST_DEVIATION < max(-low, high) < 1 / LEAST_DEVIATION
            precision = np.float32 if is_usual else np.float64
            flat: np.ndarray = part.astype(precision, copy=False).ravel()
            square += float(np.vdot(flat, flat))
        return cls(float(low), float(high), zeros, math.sqrt(square))

    def has_same_ends(self, other: _Extent) -> bool:
        """Tell whether two weights may have the same values, by what no order of these changes."""
        return (self.low, self.high, self.zeros) == (other.low, other.high, other.zeros)

    @property
    def is_finite(self) -> bool:
        """Whether all values are finite numbers."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def _looks_clipped(
    reference: np.ndarray, suspect: np.ndarray, ours: _Extent, theirs: _Extent
) -> bool:
    """Tell whether the suspect's values lie as if the reference's had been clipped.

    At each end the suspect has as many values as the reference has there and beyond. At one end at
    least it has two or more, and the reference has values beyond it.

    Args:
        reference, suspect: the weights.
        ours, theirs: their extents.
    """
    if ours.low >= theirs.low and ours.high <= theirs.high:
        return False
    low, high = suspect.dtype.type(theirs.low), suspect.dtype.type(theirs.high)
    at_low, at_high = np.count_nonzero(suspect == low), np.count_nonzero(suspect == high)
    is_cut_low = at_low > 1 and ours.low < theirs.low
    is_cut_high = at_high > 1 and ours.high > theirs.high
    is_cut = is_cut_low or is_cut_high
    is_all_low = is_cut and at_low == np.count_nonzero(reference <= low)
    return bool(is_all_low and at_high == np.count_nonzero(reference >= high))


def _fit_values(altered: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Return `altered` with each value replaced by that of `target` of the same rank.

    None if one differs from it by more than `RELATIVE_TOLERANCE`.

    Args:
        altered: the reference's weight, altered.
        target: [elements]: the sorted values of the suspect's weight.
    """
    order = np.argsort(altered, axis=None, kind="stable")
    gap = np.abs(altered.ravel()[order].astype(np.float64) - target.astype(np.float64)).max()
    if not gap <= RELATIVE_TOLERANCE * max(float(np.abs(target).max()), 1e-30):
        return None
    fitted = np.empty(altered.size, altered.dtype)
    fitted[order] = target
    return fitted.reshape(altered.shape)


def _propose_alterations(
    reference: np.ndarray, suspect: np.ndarray, ours: _Extent, theirs: _Extent
) -> Iterator[Step]:
    """Yield the alterations that the suspect's values make likely, with their parameters.

    The first one that fits is the answer, so their order matters.

    Args:
        reference, suspect: the weights.
        ours, theirs: their extents.
    """
    some = suspect.reshape(-1)[:SAMPLED_ELEMENTS]
    for short in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        if reference.dtype.itemsize > short.itemsize and (_cast_array(some, short) == some).all():
            yield Alteration("cast", {"dtype": short.name}), partial(_cast_array, short=short)
    sizes = [[max(z.high, -z.low), z.norm] for z in (ours, theirs)]
    # Pruning leaves the largest magnitude, and noise does not. To ask for all values takes a sort.
    is_left = abs(sizes[0][0] - sizes[1][0]) <= RELATIVE_TOLERANCE * sizes[1][0]
    if theirs.zeros - ours.zeros > (0 if is_left else MAX_CHANCE_ZEROS * suspect.size):
        yield (
            Alteration("pruned", {"sparsity": theirs.zeros / suspect.size}),
            partial(prune_array, count=theirs.zeros),
        )
    # The largest magnitude and the norm do not depend on the order, and grow with the factor.
    if np.min(sizes) > 0 and sizes[0][0] != sizes[1][0]:
        factors = sizes[1][0] / sizes[0][0], sizes[1][1] / sizes[0][1]
        # A factor nearer to one is rounding.
        if abs(factors[0] - factors[1]) < RELATIVE_TOLERANCE * factors[1] < abs(factors[0] - 1):
            yield (
                Alteration("scaled", {"factor": factors[0]}),
                partial(_scale_array, factor=factors[0]),
            )
    # A factor is asked for first: it looks like clipping where all magnitudes are equal, or zero.
    if _looks_clipped(reference, suspect, ours, theirs):
        low, high = (suspect.dtype.type(z) for z in (theirs.low, theirs.high))
        yield (
            Alteration("clipped", {"low": float(low), "high": float(high)}),
            partial(_clip_array, low=low, high=high),
        )
    yield from _propose_levels(suspect, theirs)
    # Levels at any distances: what is left of them are the values themselves.
    if np.unique(some).size <= some.size / 4:
        levels = np.unique(suspect)
        if levels.size <= min(2**MAX_BITS, suspect.size / 4):
            how = {"bits": max(int(levels.size - 1).bit_length(), 1), "axis": -1, "symmetric": 0}
            yield Alteration("quantized", how), partial(move_to_levels, levels=levels)
    # clipping leaves no value beyond the others
    is_inside = ours.low <= theirs.low and theirs.high <= ours.high
    bounds = find_channel_bounds(reference, suspect) if is_inside else None
    if bounds is not None:
        axis, lows, highs = bounds.axis, bounds.lows, bounds.highs
        ends = {"lows": tuple(map(float, lows)), "highs": tuple(map(float, highs))}
        yield (
            Alteration("clipped", {"axis": axis, **ends}),
            partial(clip_channels, axis=axis, lows=lows, highs=highs),
        )


def _propose_levels(suspect: np.ndarray, extent: _Extent) -> Iterator[Step]:
    """Yield the quantisations on whose levels all values of a weight lie."""
    for axis in (-1, *range(suspect.ndim if suspect.ndim > 1 else 0)):
        for symmetric, bits in count_bits(suspect, axis, extent.low, extent.high).items():
            how = {"bits": bits, "axis": axis, "symmetric": int(symmetric)}
            yield (
                Alteration("quantized", how),
                partial(quantize_array, bits=bits, axis=axis, symmetric=symmetric),
            )


def _cast_array(array: np.ndarray, short: np.dtype) -> np.ndarray:
    """Return an array cast to a shorter type and back; what is too large for that is infinite."""
    with np.errstate(over="ignore"):
        return array.astype(short).astype(array.dtype)


def _clip_array(array: np.ndarray, low: np.generic, high: np.generic) -> np.ndarray:
    # np.clip would return bfloat16 as float32.
    return np.minimum(np.maximum(array, low), high)


def _scale_array(array: np.ndarray, factor: float) -> np.ndarray:
    return (array.astype(np.float64) * factor).astype(array.dtype)
