"""By what the units of a group may be multiplied, slot by slot, without changing what the model computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .model import Slot

pass


@dataclass(frozen=True)
class Scaling:
    """The factors that a group's units may have.

    Attributes:
        group: the group's id.
        slots: the places at which they are given: the group's own slots, and where a unit has several positions in one,
            that need not have one factor, these apart.
        scales: float64 [independent factors, slots]: logarithms of positive factors, one a slot; their sums too.
        signs: bool [independent flips, slots]: where a sign may change; any number of these one after the other.
        offsets: float64 [slots]: what is added to a slot's values before they are multiplied, the epsilon of a variance.
        incoming: bool [slots]: whether the unit is made there, and not what is read: no operator sums over the slot's axis.
        shifts: what biases behind a unit gain when its sign changes, where that reflects its activation.
        crossed: whether units meet each other otherwise than in a weighted sum, in a softmax, a norm, or an operator that
            nothing is known of: one more of them changes what the others are.
        linear: whether nothing but sums, and sums of squares, stands between the weights that make the units and those that
            read them.
        turned: whether sums of squares do.
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
        """Is anything but one allowed?"""
        return bool(self.scales.size or self.signs.size)

    def apply(self, arrays: dict[str, np.ndarray], factors: np.ndarray) -> None:
        """Multiplies every unit, in place, by a factor for each slot: `factors`, float64 [slots, units]."""
        for shift in self.shifts:
            places = [
                s.initializer == shift.slot.initializer and s.axis == shift.slot.axis
                for s in self.slots
            ]
            flipped = (factors[places.index(True)] < 0) if any(places) else np.zeros(0, bool)
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
            where = np.ix_(*locate_units(slot, array.shape))
            by = np.repeat(row, slot.index.shape[1]).reshape(
                [-1 if a == slot.axis else 1 for a in range(array.ndim)]
            )
            array[where] = ((array[where].astype(np.float64) + offset) * by - offset).astype(
                array.dtype
            )

    def drawn(self, generator: np.random.Generator, spread: float = 1.0) -> np.ndarray:
        """Random factors that leave the function as it is, [slots, units]: normal logarithms, and any signs."""
        units = len(self.slots[0].index) if self.slots else 0
        logs = self.scales.T @ generator.normal(0, spread, (len(self.scales), units))
        flips = self.signs.T.astype(np.int64) @ generator.integers(0, 2, (len(self.signs), units))
        return np.exp(logs) * (1 - 2 * (flips % 2))


def locate_units(slot: Slot, shape: Sequence[int]) -> list[np.ndarray]:
    """Where the units of a slot lie in an array that hangs on some axes of its weight."""
    axes = {**dict(slot.within), slot.axis: slot.index.ravel()}
    return [
        np.zeros(1, np.int64) if n == 1 else axes.get(a, np.arange(n)) for a, n in enumerate(shape)
    ]


@dataclass(frozen=True)
class Shift:
    """A bias behind units that become `top` less themselves when their sign changes: it gains what they read of `top`.

    `slot` is where the units are read, in a weight with its outputs along `out`; their columns there change signs.
    """

    slot: Slot
    out: int
    bias: str
    top: float

    def gain(self, weight: np.ndarray, flipped: np.ndarray) -> np.ndarray:
        """What the bias gains, [outputs], of the units that are flipped, bool [units], before their columns change."""
        rows = np.moveaxis(weight, self.slot.axis, 0)[self.slot.index[flipped].ravel()].astype(
            np.float64
        )
        out = self.out + (self.out < self.slot.axis)
        return self.top * rows.sum(tuple(a for a in range(rows.ndim) if a != out))
