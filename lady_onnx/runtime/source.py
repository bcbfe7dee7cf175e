"""A source of inputs for one model, or for two that take the same inputs."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ..errors import LadyError
from ..graph.model import Graph
from .axes import Shapes
from .reach import Reach, find_reach, join_bounds

GRAINS = ((1, 1.0), (4, 3.0), (2, 3.0), (8, 1.0))
"""The size of the blocks of a random picture, in pixels, and its standard deviation, by sample."""
PLAIN_SPAN = (0, 2)
"""The span of random integers that reach no table: 0 and 1, which most models take."""
MAX_INTEGER = 100_000
"""Larger integers may be counts that take too long."""
MAX_FLOAT_BOUND = 10_000
"""Larger floats hide those beside them."""
SHORT_INTEGER_BYTES = 1
"""Integers of this number of bytes take all their values, if they reach no table."""
WORDS = ("", "a", "word", "Two words", "0", "-1.5", "é")
"""Texts that every model is given, beside its own words."""
ASSORTED_MAGNITUDES = (0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 6.5, 10.0, 50.0, 100.0, 1e-3, 1e-6)
"""Magnitudes among random numbers: zero, halves, whole numbers, small and large ones."""
COUNTS = (0, 1, 2, -1, 3, 7, 100)
"""Integers that every model is given, beside its own."""
RELATIVE_DISTANCE = 1e-3
"""How far beside a bound the numbers below and above it lie, relatively."""
INPUT_SCALES = {"large": 100.0, "huge": 10_000.0, "tiny": 1e-4, "negative": -3.0, "positive": 3.0}
"""The factors of normal numbers by kind of floats."""

Inputs = dict[str, np.ndarray]
"""Inputs by name."""


@dataclass(frozen=True)
class Traits:
    """What is special about a sample.

    Where nothing is said, masks and booleans are all ones, and the rest is random.

    Attributes:
        mask: where masks, and booleans of several elements, are zero.
        integers: which integers are taken.
        flags: the j-th boolean of one element is false where bit j is set.
        floats: which floats are taken.
        turn: the number of this sample among those of its sort, for inputs of one element.
    """

    mask: str | None = None
    integers: str | None = None
    flags: int = 0
    floats: str | None = None
    turn: int = 0


class Source:
    """Makes the inputs of one model, or of two models that take the same.

    Attributes:
        graph: the model whose inputs they are.
        narrow: whether random integers are 0 and 1 alone, for a model that takes no others.
    """

    def __init__(self, graph: Graph, other: Graph | None = None):
        self.graph, self._other = graph, other
        self.narrow = False
        self._types = {
            v.name: onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)
            for v in graph.required_inputs
            if v.type.tensor_type.elem_type
        }
        self._unit_axes = graph.unit_axes

    @functools.cached_property
    def reach(self) -> Reach:
        """What the models' own numbers say of their inputs."""
        own = find_reach(self.graph)
        return own if self._other is None else join_bounds(own, find_reach(self._other))

    @functools.cached_property
    def float_bounds(self) -> list[float]:
        """The models' own bounds that floats may be made to meet."""
        return [b for b in self.reach.floats if abs(b) <= MAX_FLOAT_BOUND]

    def draw_random(self, shapes: Shapes, count: int, seed: int) -> Iterator[Inputs]:
        """Draw seeded random inputs.

        Floats are normal, integers fit the tables that they reach, booleans are true and masks are
        ones. Pictures come at several grains and contrasts: on white noise alone, all outputs of
        many detectors are zero, and nothing could be compared.

        Args:
            shapes: the shapes of the inputs by name. Their dtypes are the model's.
            count: the number of samples.
            seed: the seed of the values.
        """
        generator = np.random.default_rng(seed)
        for number in range(count):
            yield {
                name: self._level_state(
                    name, self._draw_plain(generator, name, shapes[name], number)
                )
                for name in self._types
                if name in shapes
            }

    def make_inputs(self, shapes: Shapes, traits: Traits, seed: int, number: int) -> Inputs:
        """Make the inputs of one sample.

        Args:
            shapes: the shapes of the inputs by name.
            traits: what is special about them.
            seed: the seed of what is random.
            number: the number of the sample, which is part of the seed.
        """
        generator = np.random.default_rng([seed, number])
        false = self.list_false_flags(shapes, traits.flags)
        made = {}
        for name, dtype in self._types.items():
            if name not in shapes:
                continue
            shape = shapes[name]
            if name in false:
                made[name] = np.zeros(shape, dtype)
            elif self.is_mask(name) and traits.mask is not None and not self.is_flag(name, shapes):
                made[name] = _draw_mask(traits.mask, shape).astype(dtype)
            elif self.is_integer(name) and traits.integers is not None:
                made[name] = self._draw_integers(generator, name, shape, traits)
            elif self.is_float(name) and traits.floats is not None:
                floats = _draw_floats(generator, traits.floats, shape, self.float_bounds)
                made[name] = floats.astype(dtype)
            else:
                made[name] = self._draw_plain(generator, name, shape, number)
            made[name] = self._level_state(name, made[name])
        return made

    def complete_states(self, data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return given inputs, with zeros for the states among them that are left out.

        A symbolic length is that of another input, where that is given. One without a name is taken
        for the batch. Along any other the state is empty, as that of a loop is that begins.

        Raises:
            LadyError: a given state differs from unit to unit. Two models may have their units in
                two orders, so such a state is not the same for both.
        """
        graph, done = self.graph, dict(data)
        values = {v.name: v.type.tensor_type.shape.dim for v in graph.required_inputs}
        sizes = {
            d.dim_param: n
            for name, dims in values.items()
            if name in data and name not in self._unit_axes
            for d, n in zip(dims, np.shape(data[name]), strict=False)
        }
        others = (np.shape(x) for name, x in data.items() if name in values)
        sizes[""] = next((shape[0] for shape in others if len(shape) > 1), 1)
        for name in self._unit_axes:
            if name not in data:
                shape = [d.dim_value or sizes.get(d.dim_param, 0) for d in values[name]]
                done[name] = np.zeros(shape, self._types[name])
            elif not np.array_equal(self._level_state(name, np.asarray(data[name])), data[name]):
                what = "is a state, and differs from unit to unit"
                why = f"the given input '{name}' {what}; leave it out, or give zeros"
                raise LadyError(f"{graph.name}: {why}")
        return done

    def _level_state(self, name: str, array: np.ndarray) -> np.ndarray:
        """Return the input made constant along the units of a state; any other as it is.

        The two models may have their units in two orders. Such a state means the same to both.
        """
        axes = [a for a in self._unit_axes.get(name, ()) if array.shape[a] > 1]
        if not axes or not array.size:
            return array
        first = array.take([0], axes[0])
        for axis in axes[1:]:
            first = first.take([0], axis)
        return np.broadcast_to(first, array.shape).copy()

    def list_false_flags(self, shapes: Shapes, bits: int) -> list[str]:
        """Return the booleans of one element that these bits make false."""
        flags = [n for n in self._types if n in shapes and self.is_flag(n, shapes)]
        return [name for j, name in enumerate(flags) if bits >> j & 1]

    def is_mask(self, name: str) -> bool:
        """Tell whether an input says which places count: numbers called masks, and all booleans."""
        kind = self._types[name].kind
        return kind == "b" or (kind != "O" and "mask" in name.lower())

    def is_flag(self, name: str, shapes: Shapes) -> bool:
        """Tell whether an input is one truth value."""
        return self._types[name].kind == "b" and math.prod(shapes[name]) == 1

    def is_integer(self, name: str) -> bool:
        """Tell whether an input holds numbers of rows, or other integers."""
        return self._types[name].kind in "iu" and not self.is_mask(name)

    def is_float(self, name: str) -> bool:
        """Tell whether an input holds floats."""
        return self._types[name].kind not in "iubO"

    def _draw_plain(
        self, generator: np.random.Generator, name: str, shape: tuple[int, ...], number: int
    ) -> np.ndarray:
        """Draw one input about which nothing is special."""
        dtype = self._types[name]
        if self.is_mask(name) and not self.is_float(name):
            return np.ones(shape, dtype)
        if self.is_integer(name):
            low, high = PLAIN_SPAN if self.narrow else self.reach.spans.get(name, PLAIN_SPAN)
            # A negative number fits where a sum behind it lifts it, which is rare among honest
            # inputs.
            return generator.integers(max(low, 0) if high > 0 else low, high, shape).astype(dtype)
        if dtype.kind == "O":
            words = np.array([*WORDS, *self.reach.words], object)
            return words[generator.integers(0, len(words), shape)]
        return _draw_noise(generator, shape, *GRAINS[number % len(GRAINS)]).astype(dtype)

    def _draw_integers(
        self, generator: np.random.Generator, name: str, shape: tuple[int, ...], traits: Traits
    ) -> np.ndarray:
        """Draw integers over the span that fits, or from the model's own integers if all fit."""
        dtype, size = self._types[name], math.prod(shape)
        limits = np.iinfo(dtype)
        span = self.reach.spans.get(name)
        if span is None and dtype.itemsize <= SHORT_INTEGER_BYTES:
            span = (limits.min, limits.max + 1)
        if span is None:
            # The largest come first: an input of one element takes them in turn, and has few turns.
            own = [c for c in self.reach.integers[::-1] if abs(c) <= MAX_INTEGER]
            known = [c for c in dict.fromkeys((*own, *COUNTS)) if limits.min <= c <= limits.max]
            pool = np.array(known)
            drawn = (
                generator.integers(0, len(pool), size) if size > 1 else [traits.turn % len(pool)]
            )
            chosen = pool[drawn]
        else:
            low, last = max(span[0], limits.min), min(span[1] - 1, limits.max)
            ends = {"first": (low, low), "last": (last, last)}
            # Spread evenly, so that as many rows as possible are looked up, and then shuffled.
            chosen = generator.permutation(
                np.linspace(*ends.get(traits.integers or "", (low, last)), size).round()
            )
        return chosen.reshape(shape).astype(dtype)


def _draw_noise(
    generator: np.random.Generator, shape: tuple[int, ...], grain: int, contrast: float
) -> np.ndarray:
    """Draw normal numbers, in blocks along the longest two axes of four axes or more."""
    noise = generator.standard_normal(shape)
    if len(shape) < 4:
        return noise
    for axis in np.argsort(shape)[-2:]:
        size = shape[axis]
        noise = noise.take(np.arange(size) // grain, axis)
    return contrast * noise


def _draw_mask(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return ones with zeros at some places along the longest axis, the last one of equals.

    At least one of them stays a one where that is possible.
    """
    axis = max(range(len(shape)), key=lambda a: (shape[a], a), default=0)
    size = shape[axis] if shape else 1
    third = max(1, size // 3)
    places = np.arange(size)
    zeros = {
        "all zeros": places >= 0,
        "every other zero": places % 2 == 1,
        "zeros at the start": places < min(third, size - 1),
        "zeros at the end": places >= max(size - third, 1),
        "zeros in the middle": (places >= third) & (places < size - third),
    }[kind]
    along = [size if a == axis else 1 for a in range(len(shape))]
    return np.broadcast_to(~zeros.reshape(along), shape)


def _draw_floats(
    generator: np.random.Generator, kind: str, shape: tuple[int, ...], bounds: list[float]
) -> np.ndarray:
    """Draw floats of one kind.

    Args:
        generator: the source of what is random.
        kind: `zeros`, one of `INPUT_SCALES`, `bounds` or `assorted`.
        shape: the shape of the result.
        bounds: the model's own bounds, for the kind `bounds`.
    """
    noise = generator.standard_normal(shape)
    if kind == "zeros":
        return np.zeros(shape)
    if kind in ("negative", "positive"):
        return INPUT_SCALES[kind] * np.abs(noise)
    if kind in INPUT_SCALES:
        return INPUT_SCALES[kind] * noise
    if kind == "bounds":
        meant = np.array(bounds)
        distance = RELATIVE_DISTANCE * (np.abs(meant) + 1)
        meant = np.concatenate([meant, meant - distance, meant + distance, -meant])
    else:
        meant = np.concatenate([ASSORTED_MAGNITUDES, np.negative(ASSORTED_MAGNITUDES)])
    is_meant = generator.random(shape) < 0.5
    return np.where(is_meant, meant[generator.integers(0, meant.size, shape)], noise)
