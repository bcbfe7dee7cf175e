"""Single elements of many layers that hold bits, several for each bit: replicas."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from ...groups.permutations import Arrays
from ...numerics import MIN_DIVISOR
from .interface import Keys, Layer

REPLICAS = 16
"""The number of elements that hold each bit."""
MAX_SHARE = 1 / 16
"""At most this share of the elements of a layer hold bits."""
MIN_LAYER_ELEMENTS = 1024
"""Weights of fewer elements hold none."""


@dataclass(frozen=True)
class Positions:
    """The elements of a layer that hold bits.

    Attributes:
        places: int64 [elements], where they lie in the flat weight.
        bits: int64 [elements], the bit of each.
        signs: float32 [elements], the sign that stands for a one. The key draws it, because the
            weights of a layer may be positive for the most part.
    """

    places: np.ndarray
    bits: np.ndarray
    signs: np.ndarray

    def choose_signs(self, bits: np.ndarray) -> np.ndarray:
        """Return the sign that every element gets, float32 [elements].

        Args:
            bits: bool [bits].
        """
        return np.where(bits[self.bits], self.signs, -self.signs)


class PositionScheme:
    """What schemes share whose bits lie in single elements.

    Attributes:
        reads_signs_alone: Whether elements are read by their signs, and not by their sizes.
        blind_strength: As in `interface.Scheme`.
    """

    reads_signs_alone = False
    blind_strength = 0.0

    def choose_layers(self, weights: Arrays, layers: Sequence[Layer], bits: int) -> list[Layer]:
        """Choose all layers that are not small, if they hold enough bits."""
        chosen = [layer for layer in layers if layer.size >= MIN_LAYER_ELEMENTS]
        return chosen if self.count_bits(chosen) >= bits else []

    def count_bits(self, layers: Sequence[Layer]) -> int:
        """Count the bits that layers hold."""
        total = sum(layer.size for layer in layers if layer.size >= MIN_LAYER_ELEMENTS)
        return int(total * MAX_SHARE / REPLICAS)

    def erase(
        self, weights: Arrays, layers: Sequence[Layer], keys: Keys, count: int
    ) -> dict[str, np.ndarray]:
        """Make the keyed elements zero."""
        cleared = {}
        for name, positions in draw_positions(layers, keys, count).items():
            cleared[name] = np.array(weights[name])
            cleared[name].reshape(-1)[positions.places] = 0
        return cleared

    def read(self, weights: Arrays, layers: Sequence[Layer], keys: Keys, count: int) -> np.ndarray:
        """Sum the replicas of every bit, over the root of their sum of squares."""
        sums, powers = np.zeros(count), np.zeros(count)
        for name, positions in draw_positions(layers, keys, count, weights).items():
            array = np.asarray(weights[name])
            values = array.reshape(-1)[positions.places].astype(np.float64) * positions.signs
            values = np.where(np.isfinite(values), values, 0.0)
            values = np.sign(values) if self.reads_signs_alone else values / measure_size(array)
            sums += np.bincount(positions.bits, values, count)
            powers += np.bincount(positions.bits, values**2, count)
        return sums / np.sqrt(np.maximum(powers, MIN_DIVISOR))


def draw_positions(
    layers: Sequence[Layer], keys: Keys, bits: int, known: Container[str] | None = None
) -> dict[str, Positions]:
    """Draw the elements that hold bits, by layer, in proportion to the sizes of the layers.

    Args:
        layers: those that hold bits.
        keys: their keys.
        bits: the number of bits.
        known: the layers to draw for, all by default. A mark file may name any number of others.
    """
    total = REPLICAS * bits
    ends = np.cumsum([float(layer.size) for layer in layers])
    ends = np.rint(ends * (total / max(float(ends[-1]), 1.0))).astype(np.int64)
    order = keys("").derive("replicas").draw_order(total) % bits
    found = {}
    for layer, start, end in zip(layers, [0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        if known is not None and layer.name not in known:
            continue
        key = keys(layer.name)
        places = key.derive("places").draw_order(layer.size, end - start)
        signs = key.derive("signs").draw_signs(len(places))
        found[layer.name] = Positions(places, order[start : start + len(places)], signs)
    return found


def measure_size(array: np.ndarray) -> float:
    """Measure the root mean square of the elements that are known."""
    known = array[np.isfinite(array)]
    power = float(np.square(known, dtype=np.float64).mean()) if known.size else 0.0
    return max(power**0.5, MIN_DIVISOR)
