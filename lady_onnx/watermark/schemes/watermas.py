"""A reconstruction of WaterMAS: the signs of keyed elements of several layers are the bits.

The key draws which sign of an element means a one. The elements keep their sizes. In training
(`lady_onnx.converters.marking`) they stay as they are, and the loss around them is made sharp: a
replica of the network, in which they are moved to where the loss grows fastest, is trained to be
bad. So even small changes of them cost much.

Source: De Sousa Trias et al. 2024, WaterMAS: Sharpness-aware maximization for neural network
watermarking (ICPR). This follows its abstract alone, and may differ from the authors' scheme.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...groups.permutations import Arrays
from ...numerics import as_finite
from .interface import Keys, Layer
from .positions import PositionScheme, draw_positions, measure_size


class WatermasScheme(PositionScheme):
    """The signs of keyed elements of several layers are the bits."""

    source = "De Sousa Trias et al. 2024, reconstructed from the abstract"
    has_gains = False
    reads_signs_alone = True
    strength = 0.5
    """The least size of a keyed element, in units of the root mean square of its layer."""

    def embed(
        self,
        weights: Arrays,
        layers: Sequence[Layer],
        keys: Keys,
        bits: np.ndarray,
        strength: float,
    ) -> dict[str, np.ndarray]:
        """Give the keyed elements their signs; faint ones grow to the least size."""
        changed = {}
        for name, positions in draw_positions(layers, keys, len(bits)).items():
            array = np.array(weights[name])
            flat = array.reshape(-1)
            least = strength * measure_size(as_finite(array))
            sizes = np.maximum(np.abs(as_finite(flat[positions.places])), least)
            flat[positions.places] = (sizes * positions.choose_signs(bits)).astype(array.dtype)
            changed[name] = array
        return changed


SCHEME = WatermasScheme()
