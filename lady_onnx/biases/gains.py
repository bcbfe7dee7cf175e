"""Computes with gains: a gain is what is added to a tensor when biases change.

The values of a gain are known, or else the axes along which it may vary. Which node does what to
gains is said in `gain_walk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from ..dataflow.labels.equations import SolvedEquation, take_result_axes
from ..dataflow.labels.roles import find_varying_axes
from ..errors import UnknownStructureError

CANCELLING_TOLERANCE = 4e-6
"""Two gains cancel where their sum is at most this share of the largest number summed up to them.

That is about 34 times 2**-23, the step between numbers of single precision near one.
"""
MAX_TAKEN_BACK = 30
"""A bias cancels no gain that is more than so many times as large as the bias itself.

Nor does a softmax cancel a larger step of the bias of keys.

The tolerance grows with the gain. So 30 times the bias lets no more than about a ten-thousandth of
the bias's own size go unseen.
"""
LOWEST_NUMBER: dict[int, float] = {
    TensorProto.BFLOAT16: float(np.finfo(np.float32).min),
    TensorProto.DOUBLE: float(np.finfo(np.float64).min),
    TensorProto.FLOAT: float(np.finfo(np.float32).min),
    TensorProto.FLOAT16: float(np.finfo(np.float16).min),
}
"""The lowest number of each element type; bfloat16 has the range of float."""


@dataclass(frozen=True)
class Gain:
    """What is added to a tensor.

    Attributes:
        array: float64, of size one along axes along which the gain does not vary. It holds the
            values, or, where they are not known, a different number for every element that may have
            a value of its own. Unlike numbers keep an axis: helpers for roles drop an axis along
            which all numbers are equal.
        is_known: whether `array` holds the values.
        size: the largest magnitude of all that was summed up to it; rounding grows with it.
        max_taken_back: the largest magnitude that it may cancel; infinite where there is no limit,
            as behind a product.
    """

    array: np.ndarray
    is_known: bool = True
    size: float = 0.0
    max_taken_back: float = np.inf

    def with_array(self, array: np.ndarray) -> Gain:
        """Return the same gain laid out as another array."""
        return replace(self, array=array)


def make_unknown(shape: Sequence[int]) -> Gain:
    """Make a gain of unknown values that varies along all axes of `shape` longer than one."""
    numbers = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    return Gain(numbers, is_known=False)


def make_known(
    array: np.ndarray, size: float | None = None, max_taken_back: float = np.inf
) -> Gain:
    """Make a gain of known values.

    Args:
        array: the values, float64.
        size: see `Gain`; by default the largest of the values.
        max_taken_back: see `Gain`.

    Raises:
        UnknownStructureError: a value is not finite.
    """
    if not np.isfinite(array).all():
        raise UnknownStructureError("a gain that is not finite")
    largest = float(np.abs(array).max(initial=0))
    return Gain(array, size=largest if size is None else size, max_taken_back=max_taken_back)


def multiply_gain(gain: Gain | None, factor: float) -> Gain | None:
    """Return a gain times a number; no gain stays none."""
    if gain is None or factor == 1:
        return gain
    return replace(gain, array=gain.array * factor, size=gain.size * abs(factor))


def scale_gain(gain: Gain, values: np.ndarray | None, shape: Sequence[int], power: float) -> Gain:
    """Return a gain times a power of a tensor, element by element.

    Args:
        gain: the gain.
        values: the tensor's values, None where they are not known.
        shape: the tensor's shape.
        power: the power: 1 to multiply, -1 to divide.
    """
    if values is None or not gain.is_known:
        # A single number, whatever its axes, makes nothing vary that did not.
        own = () if values is not None and values.size == 1 else tuple(shape)
        return make_unknown(np.broadcast_shapes(gain.array.shape, own))
    # A division by zero makes infinities or NaN here, which `make_known` refuses.
    with np.errstate(all="ignore"):
        factor = 1 / values.astype(np.float64) if power < 0 else values.astype(np.float64)
        largest = float(np.abs(factor).max(initial=0))
        return make_known(gain.array * factor, max_taken_back=gain.max_taken_back * largest)


def add_gains(gains: Sequence[Gain]) -> Gain | None:
    """Return the sum of gains; None where they cancel each other, up to rounding.

    Args:
        gains: the gains; their arrays broadcast against each other.

    Raises:
        UnknownStructureError: a gain is too large to be cancelled: its rounding would hide other
            changes.
    """
    if len(gains) < 2:
        return gains[0] if gains else None
    if not all(g.is_known for g in gains):
        return make_unknown(np.broadcast_shapes(*(g.array.shape for g in gains)))
    total = np.sum(np.broadcast_arrays(*(g.array for g in gains)), 0)
    # A sum keeps the size of its terms: what is left of large ones holds their rounding.
    size = max(g.size for g in gains)
    if any(size > g.max_taken_back for g in gains):
        raise UnknownStructureError(
            "a step that is too large would hide in its rounding what else was done"
        )
    is_cancelled = np.abs(total).max(initial=0) <= CANCELLING_TOLERANCE * size
    return None if is_cancelled else Gain(total, size=size)


def concatenate_gains(
    gains: Sequence[Gain | None], shapes: Sequence[tuple[int, ...]], axis: int
) -> Gain:
    """Return the gain of concatenated tensors.

    Args:
        gains: the gain of each tensor, None for no gain; one at least has a gain.
        shapes: the shapes of the tensors.
        axis: the axis along which they are concatenated.
    """
    given = [g for g in gains if g is not None]
    if not all(g.is_known for g in given):
        # Parts with and without a gain lie side by side: every element may have one of its own.
        total = sum(s[axis] for s in shapes)
        return make_unknown([total if a == axis else n for a, n in enumerate(shapes[0])])
    axes = {axis, *(a for g in given for a in find_varying_axes(g.array))}
    pieces = []
    for gain, shape in zip(gains, shapes, strict=True):
        dims = [n if a in axes else 1 for a, n in enumerate(shape)]
        pieces.append(np.zeros(dims) if gain is None else np.broadcast_to(gain.array, dims))
    size, limit = max(g.size for g in given), min(g.max_taken_back for g in given)
    return Gain(np.concatenate(pieces, axis), size=size, max_taken_back=limit)


def weigh_gain(gain: Gain, weight: np.ndarray, solution: SolvedEquation) -> Gain:
    """Return what a known gain becomes in a weighted sum.

    Args:
        gain: the gain over the names of an equation, the same at all places of a map.
        weight: float64, the weight over the same names.
        solution: the equation.

    Raises:
        UnknownStructureError: the sum is not finite.
    """
    names, sizes, how = tuple(solution.sizes), solution.sizes, solution.how
    kept = {n for term in how.results[0] for n in term.names}
    gone = tuple(a for a, n in enumerate(names) if n not in kept)
    terms = gain.array * weight
    # Along a contracted name that neither varies along, one term is added as often as it is long.
    # The places of a map are no such names: every place of the result has a sum of its own.
    lengths = [sizes[names[a]] for a in gone if terms.shape[a] == 1 and names[a] in how.gone]
    made = np.prod(lengths or [1]) * terms.sum(gone, keepdims=True)
    return take_gain(make_known(made, float(np.abs(terms).max(initial=0))), solution)


def average_gain(gain: Gain, solution: SolvedEquation) -> Gain:
    """Return the mean of a gain over the names of an equation that its result lacks.

    Args:
        gain: the gain over the names of the equation.
        solution: the equation of a mean over whole axes, and not over windows of them.
    """
    names = tuple(solution.sizes)
    results = solution.how.results[0]
    unnamed = (n for n in names if not any(n in t.names for t in results))
    places = tuple(names.index(n) for n in {*solution.how.gone, *unnamed})
    if gain.is_known:
        return take_gain(gain.with_array(gain.array.mean(places, keepdims=True)), solution)
    dims = [1 if a in places else n for a, n in enumerate(gain.array.shape)]
    return take_gain(make_unknown(dims), solution)


def take_gain(gain: Gain, solution: SolvedEquation) -> Gain:
    """Return a gain over the names of an equation as one over the axes of its result.

    Raises:
        UnknownStructureError: the gain varies along a name that the result lacks.
    """
    names, sizes = tuple(solution.sizes), solution.sizes
    laid = take_result_axes(gain.array, solution.how.results[0], names, sizes)
    if laid is None:
        raise UnknownStructureError("a gain along an axis that the result has not")
    return gain.with_array(laid)
