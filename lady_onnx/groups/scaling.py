"""Applies and draws factors that the units of a group may have without changing the function.

Which factors these are is found by `lady_onnx.scaling`.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np

from .model import Slot

NEGLIGIBLE_EXPONENT = 1e-6
"""Exponents that are smaller than this come from rounding."""


@dataclass(frozen=True)
class Scaling:
    """The factors that a group's units may have.

    Attributes:
        group: The group's id.
        slots: Where factors are given: the group's own slots. If the positions of a unit in a slot
            may have different factors, each set of positions with one factor is a slot by itself.
        scales: float64 [independent factors, slots]. Each row has the logarithms of positive
            factors, one for each slot, that one unit may have together. The rows are a basis: every
            linear combination of them is allowed, for each unit another one.
        signs: bool [independent flips, slots]. Each row says in which slots the sign of a unit may
            change together; the rows are a basis modulo two.
        offsets: float64 [slots]. What is added to a slot's values before they are multiplied, and
            taken off again behind: the epsilon of a variance.
        incoming: bool [slots]. Whether a slot makes the unit, and does not read it: no operator
            sums over the slot's axis.
        shifts: What biases behind a unit gain when its sign changes, if that reflects its
            activation.
        crossed: Whether units meet each other otherwise than in a weighted sum: in a softmax, a
            norm, or an unknown operator. Then one more unit changes what the others are.
        linear: Whether nothing but sums, and sums of squares, stands between the weights that make
            the units and those that read them.
        turned: Whether a sum of squares stands there: then only rotations leave it as it is.
    """

    group: str
    slots: tuple[Slot, ...]
    scales: np.ndarray
    signs: np.ndarray
    offsets: np.ndarray
    incoming: np.ndarray
    shifts: tuple[Shift, ...] = ()
    crossed: bool = False
    linear: bool = False
    turned: bool = False

    @property
    def names(self) -> set[str]:
        """The weights that factors change."""
        return {s.initializer for s in self.slots} | {s.bias for s in self.shifts}

    @property
    def free(self) -> bool:
        """Whether any factor other than the number one is allowed."""
        return bool(self.scales.size or self.signs.size)

    @property
    def is_zero_kept(self) -> bool:
        """Whether a unit computes zero if zeros make it.

        It does if a factor or a sign passes it, and nothing else: half of it would be it otherwise.
        """
        made, read = self.incoming, ~self.incoming
        is_scaled, is_flipped = (
            bool((z[:, made].any(1) & z[:, read].any(1)).any())
            for z in (np.abs(self.scales) > NEGLIGIBLE_EXPONENT, self.signs)
        )
        return is_scaled or (is_flipped and not self.shifts)

    def apply(self, arrays: MutableMapping[str, np.ndarray], factors: np.ndarray) -> None:
        """Multiply every unit of `arrays`, in place, by `factors`, float64 [slots, units]."""
        # A shift reads the weight behind the unit, so it comes before that weight is multiplied.
        for shift in self.shifts:
            same = [
                s.initializer == shift.slot.initializer and s.axis == shift.slot.axis
                for s in self.slots
            ]
            # The positions of a unit are reflected together: the first slot speaks for all.
            flipped = (factors[same.index(True)] < 0) if any(same) else np.zeros(0, bool)
            if flipped.any():
                bias = arrays[shift.bias]
                gain = shift.gain(arrays[shift.slot.initializer], flipped)
                arrays[shift.bias] = (bias.astype(np.float64) + gain.reshape(bias.shape)).astype(
                    bias.dtype
                )
        for slot, offset, row in zip(self.slots, self.offsets, factors, strict=True):
            if (row == 1).all():
                continue
            array = arrays[slot.initializer]
            places = locate_units(slot, array.shape)
            # The positions of a unit are neighbours in this order, and have one factor.
            by = np.repeat(row, slot.index.shape[1]).reshape(
                [-1 if a == slot.axis else 1 for a in range(array.ndim)]
            )
            # In double precision, so that a weight is rounded once, on its way back.
            if not offset and np.issubdtype(array.dtype, np.floating) and _is_all(places, array):
                np.multiply(array, by, out=array, casting="same_kind")
                continue
            where = np.ix_(*places)
            array[where] = ((array[where].astype(np.float64) + offset) * by - offset).astype(
                array.dtype
            )

    def drawn(self, generator: np.random.Generator, spread: float = 1.0) -> np.ndarray:
        """Draw random factors that leave the function as it is, float64 [slots, units].

        Their logarithms are normal, with deviation `spread`, and any signs may change.
        """
        units = len(self.slots[0].index) if self.slots else 0
        logs = self.scales.T @ generator.normal(0, spread, (len(self.scales), units))
        flips = self.signs.T.astype(np.int64) @ generator.integers(0, 2, (len(self.signs), units))
        # An even number of flips leaves a sign as it was.
        return np.exp(logs) * (1 - 2 * (flips % 2))


def locate_units(slot: Slot, shape: Sequence[int]) -> list[np.ndarray]:
    """Locate the units of a slot in an array that broadcasts over the slot's weight.

    Args:
        slot: the slot.
        shape: the array's shape: the weight's, or one wherever the array does not vary.

    Returns:
        For every axis the positions, as `numpy.ix_` takes them.
    """
    axes = {**dict(slot.within), slot.axis: slot.index.ravel()}
    return [
        np.zeros(1, np.int64) if n == 1 else axes.get(a, np.arange(n)) for a, n in enumerate(shape)
    ]


def _is_all(places: Sequence[np.ndarray], array: np.ndarray) -> bool:
    """Return whether places along every axis are all of them, in their order."""
    return all(
        p.size == n and np.array_equal(p, np.arange(n))
        for p, n in zip(places, array.shape, strict=True)
    )


@dataclass(frozen=True)
class Shift:
    """A bias behind units that become `top` less themselves when their sign changes.

    The weight w that reads such a unit y gets the opposite sign: -w (top - y) = w y - w top. So the
    bias must gain w top.

    Attributes:
        slot: Where the units are read; their columns there change signs.
        out: The axis of that weight along which its outputs lie.
        bias: The bias.
        top: The sum of a unit and its reflection.
    """

    slot: Slot
    out: int
    bias: str
    top: float

    def gain(self, weight: np.ndarray, flipped: np.ndarray) -> np.ndarray:
        """Return what the bias gains, float64 [outputs], before the columns of units change signs.

        Args:
            weight: the weight that reads the units.
            flipped: bool [units]: the units whose signs change.
        """
        rows = np.moveaxis(weight, self.slot.axis, 0)[self.slot.index[flipped].ravel()].astype(
            np.float64
        )
        # The units' axis went to the front, which moves the axes that stood before it.
        out = self.out + (self.out < self.slot.axis)
        return self.top * rows.sum(tuple(a for a in range(rows.ndim) if a != out))
