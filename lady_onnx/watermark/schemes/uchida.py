"""Uchida's scheme: the mean unit of one layer, times a keyed matrix, has the signs of the bits.

Only the mean of the layer's units counts, so that a shuffle of them keeps the mark. A shuffle of
the layer before destroys it, because that moves the columns of the mean. Here the mean moves by as
little as gives all bits a margin, and all units move with it. `lady_onnx.converters.marking` trains
the bits in.

Source: Uchida et al. 2017, Embedding watermarks into deep neural networks (ICMR).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...groups.permutations import Arrays
from ...numerics import MIN_DIVISOR, as_finite
from .interface import Keys, Layer

ELEMENTS_PER_BIT = 2
"""The mean unit has at least so many elements for each bit."""
MAX_SWEEPS = 500
"""The largest number of sweeps over the bits in search of the smallest change."""
MARGIN_TOLERANCE = 1e-3
"""The search ends once steps are smaller than this share of the largest margin that is missing."""


class UchidaScheme:
    """The mean unit of one layer, times a keyed matrix, has the signs of the bits."""

    source = "Uchida et al. 2017"
    has_gains = False
    strength = 2.0
    """The size of every product, in units of what noise as large as the weights makes of it."""
    blind_strength = 0.0

    def choose_layers(self, weights: Arrays, layers: Sequence[Layer], bits: int) -> list[Layer]:
        """Choose the layer that is expected to change least, of those whose units are wide enough.

        Of a short mean unit little has to change.
        """
        wide = [layer for layer in layers if layer.width >= ELEMENTS_PER_BIT * bits]

        def estimate_change(layer: Layer) -> float:
            array = as_finite(weights[layer.name])
            mean = float(np.linalg.norm(array.mean(layer.axis)))
            size = measure_chance(array, layer)
            return (mean + size) / size * (bits / layer.size) ** 0.5

        return [min(wide, key=estimate_change)] if wide else []

    def count_bits(self, layers: Sequence[Layer]) -> int:
        """Count the bits that the layer with the widest units may carry."""
        return max((layer.width for layer in layers), default=0) // ELEMENTS_PER_BIT

    def embed(
        self,
        weights: Arrays,
        layers: Sequence[Layer],
        keys: Keys,
        bits: np.ndarray,
        strength: float,
    ) -> dict[str, np.ndarray]:
        """Move the mean unit by as little as gives every product its sign and its size."""
        (layer,) = layers
        array = as_finite(weights[layer.name]).astype(np.float64)
        mean = array.mean(layer.axis)
        signed = draw_matrix(layer, keys, len(bits)) * np.where(bits, 1.0, -1.0)[:, None]
        flat = mean.ravel()
        margin = strength * measure_chance(array, layer)
        flat = flat + find_least_change(signed, margin - signed @ flat)
        moved = array + np.expand_dims(flat.reshape(mean.shape) - mean, layer.axis)
        return {layer.name: moved.astype(np.asarray(weights[layer.name]).dtype)}

    def erase(
        self, weights: Arrays, layers: Sequence[Layer], keys: Keys, count: int
    ) -> dict[str, np.ndarray]:
        """Move the mean unit by as little as makes all products zero."""
        (layer,) = layers
        array = as_finite(weights[layer.name]).astype(np.float64)
        mean = array.mean(layer.axis)
        matrix = draw_matrix(layer, keys, count)
        shift = np.linalg.lstsq(matrix, -(matrix @ mean.ravel()), rcond=None)[0]
        moved = array + np.expand_dims(shift.reshape(mean.shape), layer.axis)
        return {layer.name: moved.astype(np.asarray(weights[layer.name]).dtype)}

    def read(self, weights: Arrays, layers: Sequence[Layer], keys: Keys, count: int) -> np.ndarray:
        """Multiply the mean unit by the keyed matrix."""
        (layer,) = layers
        if layer.name not in weights:
            return np.zeros(count)
        array = np.asarray(weights[layer.name]).astype(np.float64)
        is_known = np.isfinite(array)
        known = np.maximum(is_known.sum(layer.axis), 1)
        mean = (np.where(is_known, array, 0.0).sum(layer.axis) / known).ravel()
        products: np.ndarray = draw_matrix(layer, keys, count) @ mean
        return products / max(float(np.linalg.norm(mean)), MIN_DIVISOR)


SCHEME = UchidaScheme()


def draw_matrix(layer: Layer, keys: Keys, bits: int) -> np.ndarray:
    """Draw the keyed matrix of normal numbers, float64 [bits, elements of a unit]."""
    drawn = keys(layer.name).derive("matrix").draw_normals(bits * layer.width)
    return drawn.reshape(bits, layer.width)


def measure_chance(array: np.ndarray, layer: Layer) -> float:
    """Measure the norm of the mean of random units that are as large as the layer's."""
    length = float(np.linalg.norm(array.astype(np.float64)))
    return max(length / layer.shape[layer.axis], MIN_DIVISOR)


def find_least_change(rows: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Find the shortest vector whose product with every row is at least what is missing.

    Args:
        rows: float64 [rows, elements].
        missing: float64 [rows].

    Returns:
        The vector, float64 [elements].

    Source: Hildreth 1957, A quadratic programming procedure.

    >>> find_least_change(np.array([[2.0, 0.0], [1.0, 0.0]]), np.array([4.0, -1.0])).tolist()
    [2.0, 0.0]
    """
    products = rows @ rows.T
    shares = np.zeros(len(rows))
    left = missing.astype(np.float64)
    goal = MARGIN_TOLERANCE * max(float(np.abs(missing).max(initial=0)), MIN_DIVISOR)
    for _ in range(MAX_SWEEPS):
        largest = 0.0
        for k in range(len(rows)):
            # a row of which more is there than is missing gives back what it took, but no more
            step = max(left[k] / max(products[k, k], MIN_DIVISOR), -shares[k])
            if step:
                shares[k] += step
                left -= step * products[:, k]
                largest = max(largest, abs(step) * products[k, k])
        if largest <= goal:
            break
    change: np.ndarray = shares @ rows
    return change
