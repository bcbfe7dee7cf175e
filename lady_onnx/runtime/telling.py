"""Inputs made to tell two models apart. They are only made here; `runtime` runs them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from ..graph.model import Graph
from .axes import Axes, Shapes, choose_sizes
from .reach import Reach, find_reach, join_bounds

GRAINS = ((1, 1.0), (4, 3.0), (2, 3.0), (8, 1.0))
"""Size of the blocks of a random picture, in pixels, and its standard deviation; one pair a sample."""
PLAIN_SPAN = (0, 2)
"""What random integers are that reach no table."""
COVERED_ROWS = 256
"""Every row of a table of up to so many is looked up."""
LARGEST_INTEGER, LARGEST_BOUND = 100_000, 10_000
"""Integers beyond the first may be counts that take too long; floats beyond the second hide those beside them."""
SHORT_BYTES = 1
"""Integers of so many bytes take all their values, if they reach no table."""
WORDS = ("", "a", "word", "Two words", "0", "-1.5", "é")
ASSORTED = (0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 6.5, 10.0, 50.0, 100.0, 1e-3, 1e-6)
"""Magnitudes among random numbers: zero, halves, whole numbers, small and large ones."""
COUNTED = (0, 1, 2, -1, 3, 7, 100)
"""Integers beside the model's own."""
NEARBY = 1e-3
"""How far beside a bound the numbers below and above it lie, relatively."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """One set of inputs.

    Attributes:
        kind: what is special about it, in a few words; `random` where nothing is.
        inputs: the arrays by name.
        plainer: what to run where the model does not take this, since its integers are out of range; None for nothing.
    """

    kind: str
    inputs: Arrays
    plainer: Sample | None = None


@dataclass(frozen=True)
class Traits:
    """What is special about a sample; masks and booleans are all ones else, and the rest is random.

    Attributes:
        mask: where masks, and booleans of several elements, are zero.
        integers: which integers are taken.
        flags: the j-th boolean of one element is false where bit j is set.
        floats: which floats are taken.
        turn: the how-manieth of its sort this is, for inputs of one element.
    """

    mask: str | None = None
    integers: str | None = None
    flags: int = 0
    floats: str | None = None
    turn: int = 0


MIXED = (
    Traits(integers="whole range"),
    Traits(mask="zeros at the end", flags=1),
    Traits(mask="zeros in the middle", flags=3),
    Traits(mask="zeros at the start", integers="whole range", flags=2, turn=1),
    Traits(mask="all zeros", flags=4),
    Traits(integers="last", flags=5, turn=2),
    Traits(mask="every other zero", flags=7),
    Traits(integers="first", flags=6, turn=3),
)
"""Floats are random beside these, so that what masks and integers do is not hidden."""
FLOATS = ("assorted", "zeros", "large", "bounds", "negative", "huge", "positive", "tiny")
"""Kinds of floats, the most telling first."""
INPUT_SCALES = {"large": 100.0, "huge": 10_000.0, "tiny": 1e-4, "negative": -3.0, "positive": 3.0}
BEYOND_HALF = ("huge", "tiny")
"""Kinds that half precision does not hold on their way through a model."""


class Source:
    """Makes the inputs of one model, or of two models that take the same.

    Attributes:
        graph: the model, whose inputs they are.
        narrow: whether random integers are 0 and 1 alone, for a model that takes no others.
    """

    def __init__(self, graph: Graph, other: Graph | None = None):
        self.graph, self._other = graph, other
        self.narrow = False
        self._types = {
            v.name: _dtype(v) for v in graph.required_inputs if v.type.tensor_type.elem_type
        }

    @functools.cached_property
    def reach(self) -> Reach:
        """What the models' own numbers say of their inputs."""
        mine = find_reach(self.graph)
        return mine if self._other is None else join_bounds(mine, find_reach(self._other))

    def draw_random(self, shapes: Shapes, count: int, seed: int) -> Iterator[Arrays]:
        """Seeded random inputs: normal floats, integers that fit the tables they reach, true booleans, masks of ones.

        Shapes are those given; dtypes are the model's. Pictures come at several grains and contrasts, since on
        white noise alone many a detector's outputs are all zero, and nothing could be compared.
        """
        generator = np.random.default_rng(seed)
        for number in range(count):
            yield {
                n: self._draw_plain(generator, n, shapes[n], number)
                for n in self._types
                if n in shapes
            }

    def make(self, shapes: Shapes, traits: Traits, seed: int, number: int) -> Arrays:
        """Inputs of these shapes with these traits."""
        generator = np.random.default_rng([seed, number])
        false = self.false_flags(shapes, traits.flags)
        made = {}
        for name, dtype in self._types.items():
            if name not in shapes:
                continue
            shape = shapes[name]
            if name in false:
                made[name] = np.zeros(shape, dtype)
            elif self.is_mask(name) and traits.mask is not None and not self.is_flag(name, shapes):
                made[name] = _mask(traits.mask, shape).astype(dtype)
            elif self.is_integer(name) and traits.integers is not None:
                made[name] = self._draw_integers(generator, name, shape, traits)
            elif self.is_float(name) and traits.floats is not None:
                made[name] = _draw_floats(
                    generator, traits.floats, shape, self.float_bounds
                ).astype(dtype)
            else:
                made[name] = self._draw_plain(generator, name, shape, number)
        return made

    def false_flags(self, shapes: Shapes, bits: int) -> list[str]:
        """The booleans of one element that these bits make false."""
        flags = [n for n in self._types if n in shapes and self.is_flag(n, shapes)]
        return [name for j, name in enumerate(flags) if bits >> j & 1]

    def is_mask(self, name: str) -> bool:
        """Does this input say which places count? Numbers that are called masks, and all booleans."""
        kind = self._types[name].kind
        return kind == "b" or (kind != "O" and "mask" in name.lower())

    def is_flag(self, name: str, shapes: Shapes) -> bool:
        """Is this input one truth value?"""
        return self._types[name].kind == "b" and math.prod(shapes[name]) == 1

    def is_integer(self, name: str) -> bool:
        """Does this input hold numbers of rows, or other integers?"""
        return self._types[name].kind in "iu" and not self.is_mask(name)

    def is_float(self, name: str) -> bool:
        """Does this input hold floats?"""
        return self._types[name].kind not in "iubO"

    @functools.cached_property
    def float_bounds(self) -> list[float]:
        """The models' own bounds that floats may be made to meet."""
        return [b for b in self.reach.floats if abs(b) <= LARGEST_BOUND]

    def _draw_plain(
        self, generator: np.random.Generator, name: str, shape: tuple[int, ...], number: int
    ) -> np.ndarray:
        dtype = self._types[name]
        if self.is_mask(name) and not self.is_float(name):
            return np.ones(shape, dtype)
        if self.is_integer(name):
            low, high = PLAIN_SPAN if self.narrow else self.reach.spans.get(name, PLAIN_SPAN)
            # a negative number that fits is one that a sum behind it lifts: rare among honest inputs
            return generator.integers(max(low, 0) if high > 0 else low, high, shape).astype(dtype)
        if dtype.kind == "O":
            words = np.array([*WORDS, *self.reach.words], object)
            return words[generator.integers(0, len(words), shape)]
        return _noise(generator, shape, *GRAINS[number % len(GRAINS)]).astype(dtype)

    def _draw_integers(
        self, generator: np.random.Generator, name: str, shape: tuple[int, ...], traits: Traits
    ) -> np.ndarray:
        dtype, size = self._types[name], math.prod(shape)
        limits = np.iinfo(dtype)
        span = self.reach.spans.get(name)
        if span is None and dtype.itemsize <= SHORT_BYTES:
            span = (limits.min, limits.max + 1)
        if span is None:
            own = [c for c in self.reach.integers[::-1] if abs(c) <= LARGEST_INTEGER]
            pool = np.array(
                [c for c in dict.fromkeys((*own, *COUNTED)) if limits.min <= c <= limits.max]
            )
            chosen = (
                pool[generator.integers(0, len(pool), size)]
                if size > 1
                else pool[[traits.turn % len(pool)]]
            )
        else:
            low, last = max(span[0], limits.min), min(span[1] - 1, limits.max)
            ends = {"first": (low, low), "last": (last, last)}.get(
                traits.integers or "", (low, last)
            )
            chosen = generator.permutation(np.linspace(*ends, size).round())
        return chosen.reshape(shape).astype(dtype)


def _dtype(value: onnx.ValueInfoProto) -> np.dtype:
    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def _noise(
    generator: np.random.Generator, shape: tuple[int, ...], grain: int, contrast: float
) -> np.ndarray:
    noise = generator.standard_normal(shape)
    if len(shape) < 4:
        return noise
    for axis in np.argsort(shape)[-2:]:
        size = shape[axis]
        noise = noise.take(np.arange(size) // grain, axis)
    return contrast * noise


def _mask(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Ones along the longest axis, the last one of equals, with zeros at some places; at least one stays if it can."""
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
    noise = generator.standard_normal(shape)
    if kind == "zeros":
        return np.zeros(shape)
    if kind in ("negative", "positive"):
        return INPUT_SCALES[kind] * np.abs(noise)
    if kind in INPUT_SCALES:
        return INPUT_SCALES[kind] * noise
    if kind == "bounds":
        meant = np.array(bounds)
        meant = np.concatenate(
            [
                meant,
                meant - NEARBY * (np.abs(meant) + 1),
                meant + NEARBY * (np.abs(meant) + 1),
                -meant,
            ]
        )
    else:
        meant = np.concatenate([ASSORTED, np.negative(ASSORTED)])
    return np.where(
        generator.random(shape) < 0.5, meant[generator.integers(0, meant.size, shape)], noise
    )


def make_telling_samples(
    source: Source, axes: Axes, small: Mapping[str, int], count: int, seed: int, half: bool
) -> list[Sample]:
    """Inputs made to tell, at most `count`.

    Three sorts take turns: symbolic axes of other sizes, small, odd and larger than those of random inputs; masks with
    zeros at either end, in the middle and everywhere, integers over the whole range of the tables that they reach,
    booleans both ways; and floats that are zero, large, small, of one sign, whole, halves, or at the model's own
    bounds. Where the model has symbolic axes, all are small but those of the first sort.

    Args:
        source: of the model.
        axes: its symbolic axes.
        small: small sizes at which it runs.
        count: how many samples at most.
        seed: of what is random in them.
        half: whether numbers must stay within half precision.
    """
    mixed = _keep_telling(source, axes.shapes(small), MIXED)
    kinds = [
        k
        for k in FLOATS
        if not (half and k in BEYOND_HALF) and (k != "bounds" or source.float_bounds)
    ]
    floats = [Traits(floats=kind, flags=number) for number, kind in enumerate(kinds)]
    floats = [t for t in _keep_telling(source, axes.shapes(small), floats) if t.floats]
    sorts = (
        _make_sized(source, axes, mixed, seed),
        _make_small(source, axes, small, mixed, seed),
        _make_small(source, axes, small, floats, seed),
    )
    turns = itertools.chain.from_iterable(itertools.zip_longest(*sorts))
    return list(itertools.islice((s for s in turns if s is not None), count))


def _keep_telling(source: Source, shapes: Shapes, wanted: Sequence[Traits]) -> list[Traits]:
    """Of these traits those that the model has inputs for, each once."""
    names = list(shapes)
    flags = sum(source.is_flag(n, shapes) for n in names)
    masks = any(source.is_mask(n) and not source.is_flag(n, shapes) for n in names)
    integers = any(source.is_integer(n) for n in names)
    floats = any(source.is_float(n) for n in names)
    kept: dict[Traits, Traits] = {}
    for traits in wanted:
        mine = Traits(
            mask=traits.mask if masks else None,
            integers=traits.integers if integers else None,
            flags=traits.flags & ((1 << flags) - 1),
            floats=traits.floats if floats else None,
        )
        if mine != Traits():
            kept.setdefault(mine, replace(mine, turn=traits.turn))
    return list(kept.values())


def _make_sized(source: Source, axes: Axes, mixed: Sequence[Traits], seed: int) -> Iterator[Sample]:
    """Samples at other sizes of the symbolic axes."""
    for number, (kind, sizes) in enumerate(choose_sizes(axes, source.reach.integers)):
        shapes = axes.shapes(sizes)
        plain = Sample(kind, source.make(shapes, Traits(), seed, number))
        if mixed:
            traits = mixed[(number + 1) % len(mixed)]
            made = source.make(shapes, traits, seed, number)
            yield Sample(
                ", ".join(filter(None, (kind, _describe(source, traits, shapes)))), made, plain
            )
        else:
            yield plain


def _make_small(
    source: Source, axes: Axes, small: Mapping[str, int], wanted: Sequence[Traits], seed: int
) -> Iterator[Sample]:
    """Samples with these traits at small sizes; where every row is looked up, with room for all."""
    shapes = axes.shapes(small)
    roomy = axes.shapes(_make_room(source, axes, small))
    for number, traits in enumerate(wanted):

        def made(
            traits: Traits, shapes: Shapes, plainer: Sample | None, number: int = number
        ) -> Sample:
            return Sample(
                _describe(source, traits, shapes),
                source.make(shapes, traits, seed, number),
                plainer,
            )

        rest = replace(traits, integers=None, turn=0)
        sample = made(
            traits,
            shapes,
            made(rest, shapes, None) if traits.integers and rest != Traits() else None,
        )
        yield (
            made(traits, roomy, sample)
            if traits.integers == "whole range" and roomy != shapes
            else sample
        )


def _make_room(source: Source, axes: Axes, small: Mapping[str, int]) -> Mapping[str, int]:
    """The small sizes, with larger batches, or else other axes, where that makes room for every row of small tables."""
    sizes = dict(small)
    shapes = axes.shapes(small)
    for name, places in axes.places.items():
        low, high = source.reach.spans.get(name, PLAIN_SPAN)
        symbols = sorted(
            (p for p in places if isinstance(p, str)), key=lambda p: p not in axes.batches
        )
        if (
            symbols
            and source.is_integer(name)
            and math.prod(shapes[name]) < high - low <= COVERED_ROWS
        ):
            others = math.prod(shapes[name]) // shapes[name][places.index(symbols[0])]
            sizes[symbols[0]] = max(sizes[symbols[0]], -(-(high - low) // others))
    return sizes


def _describe(source: Source, traits: Traits, shapes: Shapes) -> str:
    """Traits in a few words."""
    parts = {
        "mask": traits.mask,
        "integers": traits.integers,
        "false": " and ".join(source.false_flags(shapes, traits.flags)),
        "floats": traits.floats,
    }
    return ", ".join(f"{name}: {value}" for name, value in parts.items() if value)
