"""Samples made to tell two models apart. They are only made here; `comparison` runs them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..axes import Axes, Shapes, choose_sizes
from ..source import PLAIN_SPAN, Inputs, Source, Traits

MAX_COVERED_ROWS = 256
"""Every row of a table of up to this number of rows is looked up."""

MIXED_TRAITS = (
    Traits(integers="whole range"),
    Traits(mask="zeros at the end", flags=1),
    Traits(mask="zeros in the middle", flags=3),
    Traits(mask="zeros at the start", integers="whole range", flags=2, turn=1),
    Traits(mask="all zeros", flags=4),
    Traits(integers="last", flags=5, turn=2),
    Traits(mask="every other zero", flags=7),
    Traits(integers="first", flags=6, turn=3),
)
"""Traits of masks, integers and flags. Floats beside them are random and hide no effect."""
FLOAT_KINDS = ("assorted", "zeros", "large", "bounds", "negative", "huge", "positive", "tiny")
"""Kinds of floats, the most telling first."""
BEYOND_HALF = ("huge", "tiny")
"""Kinds of floats that half precision does not hold on their way through a model."""


@dataclass(frozen=True)
class Sample:
    """One set of inputs.

    Attributes:
        kind: what is special about it, in a few words; `random` where nothing is.
        inputs: the arrays by name.
        plainer: what to run where the model does not take this, since its integers are out of
            range; None for nothing.
    """

    kind: str
    inputs: Inputs
    plainer: Sample | None = None


def make_telling_samples(
    source: Source, axes: Axes, small: Mapping[str, int], count: int, seed: int, half: bool
) -> list[Sample]:
    """Make samples that tell two models apart.

    Three sorts take turns:

    * symbolic axes of other sizes: small, odd, and larger than those of random inputs;
    * masks with zeros at either end, in the middle and everywhere, integers over the whole range of
      the tables that they reach, booleans both ways;
    * floats that are zero, large, small, of one sign, whole, halves, or at the model's own bounds.

    Where the model has symbolic axes, all are small but those of the first sort.

    Args:
        source: the source of the model's inputs.
        axes: the model's symbolic axes.
        small: small sizes at which it runs.
        count: the number of samples at most.
        seed: the seed of what is random in them.
        half: whether numbers must stay within half precision.
    """
    shapes = axes.resolve_shapes(small)
    mixed = _keep_telling(source, shapes, MIXED_TRAITS)
    kinds = [
        kind
        for kind in FLOAT_KINDS
        if not (half and kind in BEYOND_HALF) and (kind != "bounds" or source.float_bounds)
    ]
    floats = [Traits(floats=kind, flags=number) for number, kind in enumerate(kinds)]
    floats = [t for t in _keep_telling(source, shapes, floats) if t.floats]
    sorts = (
        _make_sized(source, axes, mixed, seed),
        _make_small(source, axes, small, mixed, seed),
        _make_small(source, axes, small, floats, seed),
    )
    # They take turns, so that a caller of few samples gets the first ones of each sort.
    turns = itertools.chain.from_iterable(itertools.zip_longest(*sorts))
    return list(itertools.islice((s for s in turns if s is not None), count))


def _keep_telling(source: Source, shapes: Shapes, wanted: Sequence[Traits]) -> list[Traits]:
    """Keep of some traits those that the model has inputs for, each once."""
    names = list(shapes)
    flags = sum(source.is_flag(n, shapes) for n in names)
    has_masks = any(source.is_mask(n) and not source.is_flag(n, shapes) for n in names)
    has_integers = any(source.is_integer(n) for n in names)
    has_floats = any(source.is_float(n) for n in names)
    # Traits that differ in their turn alone are one and the same, so they are compared without it.
    kept: dict[Traits, Traits] = {}
    for traits in wanted:
        own = Traits(
            mask=traits.mask if has_masks else None,
            integers=traits.integers if has_integers else None,
            flags=traits.flags & ((1 << flags) - 1),
            floats=traits.floats if has_floats else None,
        )
        if own != Traits():
            kept.setdefault(own, replace(own, turn=traits.turn))
    return list(kept.values())


def _make_sized(source: Source, axes: Axes, mixed: Sequence[Traits], seed: int) -> Iterator[Sample]:
    """Make samples at other sizes of the symbolic axes, with mixed traits where there are any."""
    for number, (kind, sizes) in enumerate(choose_sizes(axes, source.reach.integers)):
        shapes = axes.resolve_shapes(sizes)
        plain = Sample(kind, source.make_inputs(shapes, Traits(), seed, number))
        if not mixed:
            yield plain
            continue
        traits = mixed[(number + 1) % len(mixed)]
        inputs = source.make_inputs(shapes, traits, seed, number)
        parts = (kind, _describe_traits(source, traits, shapes))
        yield Sample(", ".join(filter(None, parts)), inputs, plain)


def _make_small(
    source: Source, axes: Axes, small: Mapping[str, int], wanted: Sequence[Traits], seed: int
) -> Iterator[Sample]:
    """Make samples with these traits at small sizes.

    Where every row of a table is looked up, the sizes leave room for all rows.
    """
    shapes = axes.resolve_shapes(small)
    roomy = axes.resolve_shapes(_make_room(source, axes, small))
    for number, traits in enumerate(wanted):
        rest = replace(traits, integers=None, turn=0)
        plainer = None
        if traits.integers and rest != Traits():
            plainer = _make_sample(source, rest, shapes, None, (seed, number))
        sample = _make_sample(source, traits, shapes, plainer, (seed, number))
        if traits.integers == "whole range" and roomy != shapes:
            sample = _make_sample(source, traits, roomy, sample, (seed, number))
        yield sample


def _make_sample(
    source: Source,
    traits: Traits,
    shapes: Shapes,
    plainer: Sample | None,
    seeds: tuple[int, int],
) -> Sample:
    """Make one sample with these traits; `seeds` are the seed and the number of the sample."""
    inputs = source.make_inputs(shapes, traits, *seeds)
    return Sample(_describe_traits(source, traits, shapes), inputs, plainer)


def _make_room(source: Source, axes: Axes, small: Mapping[str, int]) -> Mapping[str, int]:
    """Enlarge small sizes so that every row of small tables can be looked up.

    Batches become larger, or other axes where an input has no batch.
    """
    sizes = dict(small)
    shapes = axes.resolve_shapes(small)
    for name, places in axes.places.items():
        low, high = source.reach.spans.get(name, PLAIN_SPAN)
        symbols = sorted(
            (p for p in places if isinstance(p, str)), key=lambda p: p not in axes.batches
        )
        room = math.prod(shapes[name])
        if symbols and source.is_integer(name) and room < high - low <= MAX_COVERED_ROWS:
            others = room // shapes[name][places.index(symbols[0])]
            sizes[symbols[0]] = max(sizes[symbols[0]], -(-(high - low) // others))
    return sizes


def _describe_traits(source: Source, traits: Traits, shapes: Shapes) -> str:
    """Say in a few words what is special about a sample."""
    parts = {
        "mask": traits.mask,
        "integers": traits.integers,
        "false": " and ".join(source.list_false_flags(shapes, traits.flags)),
        "floats": traits.floats,
    }
    return ", ".join(f"{name}: {value}" for name, value in parts.items() if value)
