"""The interface of the ways to write bits into weights, and the table of them.

A scheme gets weights by name, the names of the layers that carry the mark, and a key for each. It
writes bits into copies of them, and reads a number for every bit from weights. It knows no
payload, no file and no order of units: who calls it has brought the units back.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ...errors import check_choice
from ...groups.permutations import Arrays
from ..secrets.keys import Key

SCHEMES = ("spread", "uchida", "tartaglione", "watermas")
"""The names of the schemes; the module of the same name has `SCHEME`. The first is the default."""


@dataclass(frozen=True)
class Directions:
    """How far a layer's elements move together.

    Attributes:
        matrix: float32 [inputs, inputs], symmetric, 1 on its diagonal on average.
        axis: the axis of the weight that it is multiplied along.
    """

    matrix: np.ndarray
    axis: int

    @functools.cached_property
    def reach(self) -> float:
        """How much larger moves get, as a root mean square."""
        return float(np.sqrt(np.square(self.matrix).sum() / len(self.matrix)))

    def apply(self, moves: np.ndarray) -> np.ndarray:
        """Turn moves of a weight, of its shape, into those that change its outputs least."""
        turned = np.moveaxis(moves, self.axis, -1).astype(np.float32) @ self.matrix
        return np.moveaxis(turned, -1, self.axis)


@dataclass(frozen=True)
class Layer:
    """A weight that may carry a mark.

    Attributes:
        name: its name.
        shape: its shape.
        axis: the axis of the units that the layer makes.
        gain: how far its elements move when bits are written, relative to those of other layers.
            Who reads does not need it.
        directions: how far its elements move together; None where each moves by itself. Who reads
            does not need it either.
        emphasis: how much its elements count in what is read, at most 1.
    """

    name: str
    shape: tuple[int, ...]
    axis: int
    gain: float = 1.0
    directions: Directions | None = field(default=None, compare=False)
    emphasis: float = 1.0

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """The number of elements of each of its units."""
        return self.size // self.shape[self.axis]


Keys = Callable[[str], Key]
"""Returns the key of a layer, by its name."""


class Scheme(Protocol):
    """A way to write bits into weights.

    Attributes:
        source: The paper that it is from.
        has_gains: Whether it asks for the gains and directions of layers.
        strength: Its usual strength. What a strength means is the scheme's own business; a larger
            one changes the weights more.
        blind_strength: Weaker marks drown in the weights as they were before, and are written to be
            read from what changed since then.
    """

    source: str
    has_gains: bool
    strength: float
    blind_strength: float

    def choose_layers(self, weights: Arrays, layers: Sequence[Layer], bits: int) -> list[Layer]:
        """Choose the layers that carry so many bits; none where they do not fit."""

    def count_bits(self, layers: Sequence[Layer]) -> int:
        """Count the bits that layers may carry."""

    def embed(
        self,
        weights: Arrays,
        layers: Sequence[Layer],
        keys: Keys,
        bits: np.ndarray,
        strength: float,
    ) -> dict[str, np.ndarray]:
        """Write bits into weights.

        Args:
            weights: by name, of floats.
            layers: those that carry the mark.
            keys: their keys.
            bits: bool [bits].
            strength: how strongly.

        Returns:
            The weights that changed, by name, in their own types.
        """

    def erase(
        self, weights: Arrays, layers: Sequence[Layer], keys: Keys, count: int
    ) -> dict[str, np.ndarray]:
        """Take out of weights what is read of bits, so that each is read as 0.

        Args:
            weights: by name, of floats.
            layers: those that carry the mark.
            keys: their keys.
            count: the number of bits.

        Returns:
            The weights that changed, by name, in their own types.
        """

    def read(self, weights: Arrays, layers: Sequence[Layer], keys: Keys, count: int) -> np.ndarray:
        """Read bits from weights.

        Args:
            weights: by name, of floats; an element that is not known is NaN, and a weight may lack.
                Those of a mark that is weaker than `blind_strength` are the changes of the weights.
            layers: those that carry the mark.
            keys: their keys.
            count: the number of bits.

        Returns:
            float64 [count]: positive for a one, and the larger the surer. In a model that does not
            bear the mark, and under any other key, each has the mean 0 and the deviation 1. A bit
            of which nothing is known is 0.
        """


def find_scheme(name: str) -> Scheme:
    """Return a scheme by its name.

    Raises:
        LadyError: there is none of that name.
    """
    check_choice("scheme", name, SCHEMES)
    scheme: Scheme = importlib.import_module(f".{name}", __package__).SCHEME
    return scheme
