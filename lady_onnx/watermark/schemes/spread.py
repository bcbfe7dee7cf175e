"""Spread spectrum: every bit is spread over many weights of many layers.

The key draws elements of the chosen layers, and for each a bit and a sign. A bit is read as the sum
of its elements times their signs. Each is divided by the size of its row and column first, so that
all layers count alike, and larger ratios than `MAX_RATIO` are clipped. Without a mark the sum, over
the root of its sum of squares, has the mean 0 and the deviation 1. To write a bit its elements
move, each by as little, until the sum has the bit's sign and the wanted size. Where it is known in
which directions the inputs of a layer vary little, its elements move together along these.

A weak mark cannot take out what the unmarked weights add up to. So it only moves the sum by the
wanted size, and is read from the changes of the weights since they were unmarked.

Source: Cox et al. 1997, Secure spread spectrum watermarking for multimedia, where marks are read
beside the unmarked work; the sum of the host is taken out as by Malvar and Florencio 2003, Improved
spread spectrum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...groups.permutations import Arrays
from ...numerics import MIN_DIVISOR
from .interface import Keys, Layer

MIN_UNIT_ELEMENTS = 64
"""Layers whose units have fewer elements carry nothing.

A depthwise convolution has nine elements a unit and hardly any of the weights of its network, but
what it computes changes most: the changes of few elements do not cancel.
"""
MIN_BIT_ELEMENTS = 256
"""On average each bit has at least so many elements."""
MAX_BIT_ELEMENTS = 1 << 16
"""More elements than this make no bit safer, and take longer."""
NORMAL_SIZE = (np.pi / 2) ** 0.5
"""The deviation of normal numbers over their mean magnitude."""
MAX_RATIO = 3.0
"""Elements count as at most so many times as large as their rows and columns.

Else a few huge ones would outweigh all others.
"""
MAX_STEP = 0.25
"""No layer's elements move further, on average, in units of the sizes of their rows and columns.

Layers that do not matter would else be all mark and no weight.
"""
MAX_LIMITING_ROUNDS, LIMITING_TOLERANCE = 50, 1e-2
"""The maximum number of rounds in which gains are limited, and the share by which they settle."""
EMBEDDING_ROUNDS, EMBEDDING_TOLERANCE = 6, 1e-2
"""Elements move in so many rounds at most, until no sum lacks more than this share of its size.

Those that move change the sizes of rows and columns a little, and those that move together write a
little of each other's bits.
"""


class SpreadScheme:
    """Every bit is spread over many weights of many layers."""

    source = "Cox et al. 1997; Malvar and Florencio 2003"
    has_gains = True
    strength = 3.0
    """The size of every bit's sum, in deviations of that of a weight without a mark."""
    blind_strength = 0.75

    def choose_layers(self, weights: Arrays, layers: Sequence[Layer], bits: int) -> list[Layer]:
        """Choose all layers that are not small, if there are enough elements."""
        chosen = [layer for layer in layers if _is_wide(layer)]
        return chosen if self.count_bits(chosen) >= bits else []

    def count_bits(self, layers: Sequence[Layer]) -> int:
        """Count the bits that have enough elements each."""
        return sum(layer.size for layer in layers if _is_wide(layer)) // MIN_BIT_ELEMENTS

    def embed(
        self,
        weights: Arrays,
        layers: Sequence[Layer],
        keys: Keys,
        bits: np.ndarray,
        strength: float,
    ) -> dict[str, np.ndarray]:
        """Move every bit's elements until their sum has, or has moved by, the wanted size."""
        signs, share = np.where(bits, 1.0, -1.0), _choose_share(layers, len(bits))
        changed: dict[str, np.ndarray] = {
            n.name: np.array(weights[n.name], _choose_type(weights[n.name])) for n in layers
        }
        is_blind = strength >= self.blind_strength
        start = 0 if is_blind else _sum_elements(changed, layers, keys, len(bits), share).sums
        for _ in range(EMBEDDING_ROUNDS):
            found = _sum_elements(changed, layers, keys, len(bits), share)
            # one that has the sign and more than the size already stays as it is
            wanted = strength * np.sqrt(found.powers)
            missing = np.maximum(wanted - signs * (found.sums - start), 0)
            if (missing <= EMBEDDING_TOLERANCE * wanted).all():
                break
            gains, steps = _choose_steps(layers, found, missing)
            for layer, gain in zip(layers, gains.tolist(), strict=True):
                _move_elements(changed[layer.name], layer, keys, share, gain * signs * steps)
        return {n: a.astype(np.asarray(weights[n]).dtype) for n, a in changed.items()}

    def erase(
        self, weights: Arrays, layers: Sequence[Layer], keys: Keys, count: int
    ) -> dict[str, np.ndarray]:
        """Move every bit's elements until their sum is zero."""
        share = _choose_share(layers, count)
        changed: dict[str, np.ndarray] = {
            n.name: np.array(weights[n.name], _choose_type(weights[n.name])) for n in layers
        }
        for _ in range(EMBEDDING_ROUNDS):
            found = _sum_elements(changed, layers, keys, count, share)
            steps = -found.sums / np.maximum(found.movable.sum(0), 1)
            for layer in layers:
                _move_elements(changed[layer.name], layer, keys, share, steps)
        return {n: a.astype(np.asarray(weights[n]).dtype) for n, a in changed.items()}

    def read(self, weights: Arrays, layers: Sequence[Layer], keys: Keys, count: int) -> np.ndarray:
        """Sum every bit's elements."""
        found = _sum_elements(weights, layers, keys, count, _choose_share(layers, count))
        return found.sums / np.sqrt(np.maximum(found.powers, MIN_DIVISOR))


SCHEME = SpreadScheme()


@dataclass(frozen=True)
class _Drawn:
    """The elements of a layer that are used.

    Attributes:
        places: int64 [elements], where they lie in the flat weight.
        bits: int64 [elements], the bit of each.
        signs: float32 [elements], the sign of each.
    """

    places: np.ndarray
    bits: np.ndarray
    signs: np.ndarray


@dataclass(frozen=True)
class _Sums:
    """What the elements of every bit add up to, float64 [bits].

    Attributes:
        sums: The sums of the elements times their signs.
        powers: The sums of their squares.
        movable: How many of them are neither clipped nor zero, [layers, bits].
    """

    sums: np.ndarray
    powers: np.ndarray
    movable: np.ndarray


def _is_wide(layer: Layer) -> bool:
    """Tell whether a layer carries bits."""
    return layer.width >= MIN_UNIT_ELEMENTS


def _move_elements(
    array: np.ndarray, layer: Layer, keys: Keys, share: float, steps: np.ndarray
) -> None:
    """Move the elements of a layer, in place.

    Args:
        array: the weight, of a float type.
        layer: the layer.
        keys: its key.
        share: which share of its elements is used.
        steps: float64 [bits], in units of the sizes of rows and columns.
    """
    drawn = _draw_elements(layer, keys, len(steps), share)
    values, sizes = _take_values(array, drawn.places)
    moved = steps[drawn.bits] * drawn.signs * _is_movable(values)
    if layer.directions is None:
        array.reshape(-1)[drawn.places] += (moved * sizes).astype(array.dtype)
        return
    moves = np.zeros(array.size)
    moves[drawn.places] = moved
    turned = layer.directions.apply(moves.reshape(array.shape)) * _measure_sizes(array)
    # what was pruned stays zero
    array += np.where(array == 0, 0, turned).astype(array.dtype)


def _choose_type(array: np.ndarray) -> type:
    """Return the type that elements move in: their own, and at least single precision."""
    return np.float64 if array.dtype == np.float64 else np.float32


def _choose_share(layers: Sequence[Layer], bits: int) -> float:
    """Choose which share of the elements of every layer is used."""
    return min(1.0, MAX_BIT_ELEMENTS * bits / max(sum(layer.size for layer in layers), 1))


def _sum_elements(
    weights: Arrays, layers: Sequence[Layer], keys: Keys, bits: int, share: float
) -> _Sums:
    """Sum every bit's elements; what is not known counts as nothing."""
    sums, powers, movable = np.zeros(bits), np.zeros(bits), np.zeros((len(layers), bits))
    for number, layer in enumerate(layers):
        if layer.name not in weights:
            continue
        drawn = _draw_elements(layer, keys, bits, share)
        values, _ = _take_values(np.asarray(weights[layer.name]), drawn.places)
        counted = np.clip(values, -MAX_RATIO, MAX_RATIO)
        counted *= layer.emphasis
        sums += np.bincount(drawn.bits, counted * drawn.signs, bits)
        powers += np.bincount(drawn.bits, counted**2, bits)
        movable[number] = np.bincount(drawn.bits, _is_movable(values), bits)
    return _Sums(sums, powers, movable)


def _choose_steps(
    layers: Sequence[Layer], found: _Sums, missing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Choose how far elements move, in units of the sizes of their rows and columns.

    Args:
        layers: the layers, with how far their elements move, relative to others.
        found: what the elements add up to.
        missing: float64 [bits], what their sums lack.

    Returns:
        The gains, smaller where elements would move further than `MAX_STEP`, and float64 [bits],
        the steps that they multiply.
    """
    gains = np.array([layer.gain for layer in layers])
    emphases = np.array([layer.emphasis for layer in layers])
    reach = np.array([layer.directions.reach if layer.directions else 1.0 for layer in layers])
    for _ in range(MAX_LIMITING_ROUNDS):
        steps = missing / np.maximum((gains * emphases) @ found.movable, MIN_DIVISOR)
        usual = max(float(np.sqrt(np.mean(steps**2))), MIN_DIVISOR)
        limited = np.minimum(gains, MAX_STEP / (usual * reach))
        is_settled = np.allclose(limited, gains, rtol=LIMITING_TOLERANCE)
        gains = limited
        if is_settled:
            break
    # if even that is not enough for what is missing, all layers have nearly the same gain by now
    return gains, missing / np.maximum((gains * emphases) @ found.movable, MIN_DIVISOR)


def _is_movable(values: np.ndarray) -> np.ndarray:
    """Tell which elements are neither clipped nor zero: what was pruned stays zero."""
    return (np.abs(values) < MAX_RATIO) & (values != 0)


def _take_values(array: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take elements of a weight.

    Returns:
        The elements in units of the sizes of their rows and columns, 0 where one is not known, and
        these sizes, float64 [elements].
    """
    sizes = _measure_sizes(array).reshape(-1)[places]
    taken = array.reshape(-1)[places].astype(np.float64)
    values = np.divide(taken, sizes, out=np.zeros_like(taken), where=sizes > 0)
    return np.nan_to_num(values, posinf=0.0, neginf=0.0), sizes


def _draw_elements(layer: Layer, keys: Keys, bits: int, share: float) -> _Drawn:
    """Draw the elements of a layer that are used, with the bit and the sign of each."""
    key = keys(layer.name)
    drawn = key.derive("bits").draw_integers(layer.size)
    places = np.arange(layer.size)
    if share < 1:
        places = np.flatnonzero((drawn >> np.uint64(40)) < np.uint64(share * 2**24))
    # the upper half of a product of 32 bits each is even over all bits
    which = ((drawn[places] & np.uint64(0xFFFFFFFF)) * np.uint64(bits)) >> np.uint64(32)
    signs = key.derive("signs").draw_signs(layer.size)[places]
    return _Drawn(places, which.astype(np.int64), signs)


def _measure_sizes(array: np.ndarray) -> np.ndarray:
    """Measure the size of every element's row and column, float64 of the array's shape.

    It is the mean magnitude of its slice along the first axis, times that along the second one,
    over that of the whole weight. A root mean square would follow a few huge elements.
    """
    flat = array.reshape(array.shape[0], array.shape[1] if array.ndim > 1 else 1, -1)
    # an element that is not known is as large as the others
    is_known = np.isfinite(flat)
    known = np.where(is_known, np.abs(flat), 0).astype(np.float64)
    rows, columns, whole = (
        known.sum(axes, keepdims=True) / np.maximum(is_known.sum(axes, keepdims=True), 1)
        for axes in ((1, 2), (0, 2), (0, 1, 2))
    )
    sizes = NORMAL_SIZE * rows * columns / np.maximum(whole, MIN_DIVISOR)
    return np.broadcast_to(sizes, flat.shape).reshape(array.shape)
