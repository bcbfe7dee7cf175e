"""Tartaglione's scheme: keyed elements of several layers hold fixed values.

The size of an element is `strength` times the root mean square of its layer. Its sign is that of
its bit, times a sign that the key draws. In training (`lady_onnx.converters.marking`) the elements
stay as they are, and replicas of the network, in which they are altered, are trained to be bad.

Source: Tartaglione et al. 2020, Delving in the loss landscape to embed robust watermarks into
neural networks (ICPR).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...groups.permutations import Arrays
from ...numerics import as_finite
from .interface import Keys, Layer
from .positions import PositionScheme, draw_positions, measure_size


class TartaglioneScheme(PositionScheme):
    """Keyed elements of several layers hold fixed values."""

    source = "Tartaglione et al. 2020"
    has_gains = False
    strength = 1.0
    """The size of the fixed values, in units of the root mean square of their layer."""

    def embed(
        self,
        weights: Arrays,
        layers: Sequence[Layer],
        keys: Keys,
        bits: np.ndarray,
        strength: float,
    ) -> dict[str, np.ndarray]:
        """Give the keyed elements their values."""
        changed = {}
        for name, positions in draw_positions(layers, keys, len(bits)).items():
            array = np.array(weights[name])
            held = strength * measure_size(as_finite(array)) * positions.choose_signs(bits)
            array.reshape(-1)[positions.places] = held.astype(array.dtype)
            changed[name] = array
        return changed


SCHEME = TartaglioneScheme()
