"""What was done to a weight, read off its values alone, whatever their order. Knows arrays, no ONNX.

Quantisation, pruning, a cast, clipping and scaling leave traces that no order hides: few levels, many zeros, a shorter
mantissa. Each candidate is applied to the reference's weight; it explains the suspect's when both hold the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import ml_dtypes
import numpy as np

from ..numerics import is_float_array

MAX_BITS = 16
"""Quantisation to more bits than this is not looked for."""
SAMPLED_ELEMENTS = 1 << 12
"""How many values are looked at before all are."""
FEW = 16
"""How many rows are looked at before all are."""
OFF = 0.02
"""How far from its level, in steps, a value may lie."""
RELATIVE_TOLERANCE = 1e-5
"""Values that differ by this part of the largest count as the same."""


@dataclass(frozen=True)
class Alteration:
    """One thing that was done to a weight.

    Attributes:
        kind: `cast`, `quantized`, `pruned`, `clipped`, `scaled` or `noise`.
        parameters: of `cast` the dtype; of `quantized` the bits, the axis that scales follow (-1 for one scale) and
            whether levels lie symmetrically; of `pruned` the sparsity; of `clipped` the bounds; of `scaled` the
            factor; of `noise` the level in units of the weight's own standard deviation.
    """

    kind: str
    parameters: Mapping[str, float | int | str] = field(default_factory=dict)


Step = tuple[Alteration, Callable[[np.ndarray], np.ndarray]]
BEFORE = ("pruned", "clipped")
"""What may have been done before something else was."""


def explain_alterations(
    reference: np.ndarray, suspect: np.ndarray
) -> tuple[np.ndarray, tuple[Alteration, ...]]:
    """The reference's weight as it must have been altered, and how; as it is where nothing explains the suspect's.

    Args:
        reference, suspect: the weight in both models, of one shape and dtype; units may have been reordered.
    """
    if (
        reference.size < 2
        or not is_float_array(reference)
        or not (np.isfinite(reference).all() and np.isfinite(suspect).all())
    ):
        return reference, ()
    singles = list(_candidates(reference, suspect))
    if not singles:
        return reference, ()
    target = np.sort(suspect, axis=None)
    if (np.sort(reference, axis=None) == target).all():
        return reference, ()
    for what, apply in singles:
        altered = _fitted(apply(reference), target)
        if altered is not None:
            return altered, (what,)
    for first, before in singles:
        if first.kind not in BEFORE:
            continue
        given = before(reference)
        for second, apply in _candidates(given, suspect):
            altered = _fitted(apply(given), target) if second.kind != first.kind else None
            if altered is not None:
                return altered, (first, second)
    return reference, ()


def describe_alterations(alterations: Mapping[str, Sequence[Alteration]]) -> str:
    """What was done to the weights of a model, in a few words: each kind, its strength, and on how many weights."""
    strength = {
        "quantized": "bits",
        "pruned": "sparsity",
        "noise": "level",
        "scaled": "factor",
        "cast": "dtype",
    }
    found: dict[str, list[float | int | str]] = {}
    for done in alterations.values():
        for one in done:
            found.setdefault(one.kind, []).append(
                one.parameters[strength[one.kind]] if one.kind in strength else ""
            )
    parts = []
    for kind, values in found.items():
        numbers = [v for v in values if not isinstance(v, str)]
        ends = (
            sorted({f"{n:.3g}" for n in (min(numbers), max(numbers))}, key=float)
            if numbers
            else sorted({*map(str, values)})
        )
        what = f", {strength[kind]} {' to '.join(ends)}" if kind in strength else ""
        parts.append(f"{kind}{what} ({len(values)} weight{'s' * (len(values) > 1)})")
    return "; ".join(parts)


def measure_noise(reference: np.ndarray, suspect: np.ndarray) -> float:
    """How far a weight lies from the reference's, in units of the latter's standard deviation; units must be in place."""
    if reference.dtype.kind not in "fiub" and not is_float_array(reference):
        return 0.0
    a, b = reference.astype(np.float64), suspect.astype(np.float64)
    known = np.isfinite(a) & np.isfinite(b)
    if not known.any():
        return 0.0
    a, b = a[known], b[known]
    spread = a.std() or np.abs(a).mean() or 1.0
    return float(np.sqrt(np.square(b - a).mean()) / spread)


def _fitted(altered: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """An array with the values of `target`, which are sorted, in its own order; None if its own are others."""
    order = np.argsort(altered, axis=None, kind="stable")
    gap = np.abs(altered.ravel()[order].astype(np.float64) - target.astype(np.float64)).max()
    if not gap <= RELATIVE_TOLERANCE * max(float(np.abs(target).max()), 1e-30):
        return None
    fitted = np.empty_like(altered)
    fitted.reshape(-1)[order] = target
    return fitted


def _candidates(reference: np.ndarray, suspect: np.ndarray) -> Iterator[Step]:
    """Whatever the suspect's values make likely, with the parameters that they say."""
    some = suspect.reshape(-1)[:SAMPLED_ELEMENTS]
    for short in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        if reference.dtype.itemsize > short.itemsize and (_cast(some, short) == some).all():
            yield Alteration("cast", {"dtype": short.name}), partial(_cast, short=short)
    zeros = int(suspect.size - np.count_nonzero(suspect))
    if zeros > reference.size - np.count_nonzero(reference):
        yield (
            Alteration("pruned", {"sparsity": zeros / suspect.size}),
            partial(prune_array, count=zeros),
        )
    low, high = suspect.min(), suspect.max()
    # where something was cut off, several values lie at the end
    ends = [
        (suspect == low).sum() - (reference <= low).sum(),
        (suspect == high).sum() - (reference >= high).sum(),
    ]
    cut = (low > reference.min() and (suspect == low).sum() > 1) or (
        high < reference.max() and (suspect == high).sum() > 1
    )
    if cut and not any(ends):
        yield (
            Alteration("clipped", {"low": float(low), "high": float(high)}),
            partial(np.clip, a_min=low, a_max=high),
        )
    top, length = (
        [float(np.abs(x).max()), float(np.linalg.norm(x.astype(np.float32)))]
        for x in (reference, suspect)
    )
    if min(*top, *length) > 0 and top[0] != length[0]:
        factors = length[0] / top[0], length[1] / top[1]
        # what is nearer to one is rounding
        if abs(factors[0] - factors[1]) < RELATIVE_TOLERANCE * factors[1] < abs(factors[0] - 1):
            yield Alteration("scaled", {"factor": factors[0]}), partial(_scaled, factor=factors[0])
    for axis in (-1, *range(reference.ndim if reference.ndim > 1 else 0)):
        for symmetric in (True, False):
            bits = _bits(suspect, axis, symmetric)
            if bits:
                how = {"bits": bits, "axis": axis, "symmetric": int(symmetric)}
                yield (
                    Alteration("quantized", how),
                    partial(quantize_array, bits=bits, axis=axis, symmetric=symmetric),
                )
    if np.unique(some).size <= some.size / 4:
        levels = np.unique(suspect)
        if levels.size <= min(2**MAX_BITS, suspect.size / 4):
            how = {"bits": max(int(levels.size - 1).bit_length(), 1), "axis": -1, "symmetric": 0}
            yield Alteration("quantized", how), partial(_nearest, levels=levels)


def _cast(array: np.ndarray, short: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        return array.astype(short).astype(array.dtype)


def _scaled(array: np.ndarray, factor: float) -> np.ndarray:
    return (array.astype(np.float64) * factor).astype(array.dtype)


def _bits(suspect: np.ndarray, axis: int, symmetric: bool) -> int:
    """The fewest bits whose levels all values lie on, 0 where there are none."""
    lines = suspect.reshape(1, *suspect.shape) if axis < 0 else np.moveaxis(suspect, axis, 0)
    # a few rows say already that most weights lie on no levels
    for some in (lines[:FEW], lines):
        rows = some.reshape(len(some), -1)
        low = np.zeros(len(rows)) if symmetric else rows.min(1).astype(np.float64)
        span = (np.abs(rows) if symmetric else rows).max(1).astype(np.float64) - low
        step = np.where(span == 0, 1, span)
        part = rows[:, : max(SAMPLED_ELEMENTS // len(rows), 1)] if some is not lines else rows
        unit = (part - low[:, None]) / step[:, None]
        for bits in range(2, MAX_BITS + 1):
            levels = unit * (2 ** (bits - 1) - 1 if symmetric else 2**bits - 1)
            if np.abs(levels - np.round(levels)).max() < OFF:
                break
        else:
            return 0
    return bits


def _nearest(array: np.ndarray, levels: np.ndarray) -> np.ndarray:
    place = np.searchsorted(levels, array).clip(1, max(levels.size - 1, 1))
    if levels.size == 1:
        return np.full_like(array, levels[0])
    below, above = levels[place - 1], levels[place]
    return np.where(array - below <= above - array, below, above)


def prune_array(array: np.ndarray, count: int) -> np.ndarray:
    """The array with its `count` smallest magnitudes, and all that equal the largest of them, set to zero."""
    if count <= 0:
        return array.copy()
    limit = np.partition(np.abs(array), count - 1, axis=None)[count - 1]
    return np.where(np.abs(array) <= limit, array.dtype.type(0), array)


def quantize_array(
    array: np.ndarray, bits: int, axis: int = -1, symmetric: bool = True
) -> np.ndarray:
    """The array with its values at the nearest of at most 2**bits levels, equally far apart.

    Symmetric levels are the multiples of the largest magnitude divided by 2**(bits - 1) - 1; others divide the range
    from the least to the largest value. `axis` is the one along which every position has levels of its own, -1 for
    none.
    """
    others = tuple(a for a in range(array.ndim) if a != axis)
    wide = array.astype(np.float64)
    if symmetric:
        step = np.abs(wide).max(others, keepdims=True) / max(2 ** (bits - 1) - 1, 1)
        origin = np.zeros_like(step)
    else:
        origin = wide.min(others, keepdims=True)
        step = (wide.max(others, keepdims=True) - origin) / (2**bits - 1)
    step[step == 0] = 1.0
    return (origin + np.round((wide - origin) / step) * step).astype(array.dtype)
