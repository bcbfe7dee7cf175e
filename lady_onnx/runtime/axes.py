"""The symbolic axes of a model's inputs, and the sizes of them that tell two models apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..graph.model import Graph
from ..graph.shapes import Sum, find_sums, size_length

SMALL_SIZE = 7
"""A small size of symbolic axes; odd, so that no stride of two divides it."""
LARGE_SIZE = 33
"""A larger odd size, the small one of pictures."""
STRIDED_SIZE = 96
"""A size of pictures of three strides of 32."""
MAX_DOUBLED_SIZE = 64
"""Up to this size, twice as much, and one, does not take too long to run."""
MAX_BOUND = 520
"""Sizes go beyond a bound that the model has for a size, if the bound lies below this.

The usual tables of positions have 512 rows.
"""
MAX_GROWTH = 8
"""Inputs may get this many times larger than random ones for that ..."""
MAX_FREE_ELEMENTS = 100_000
"""... or have this number of elements, whichever is more."""

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of inputs by name."""


@dataclass(frozen=True)
class Axes:
    """The symbolic axes of a model's inputs.

    Attributes:
        places: by input, for every axis its size or its symbol.
        base: by symbol, a size at which the model runs.
        batches: the symbols of batches.
        sums: the symbols of lengths that are sums of others; they are not in `base`.
        past: the symbols of lengths that states alone have, such as that of a cache; they may be
            zero.
    """

    places: Mapping[str, tuple[int | str, ...]]
    base: Mapping[str, int]
    batches: frozenset[str]
    sums: Mapping[str, Sum] = field(default_factory=dict)
    past: frozenset[str] = frozenset()

    @property
    def has_pictures(self) -> bool:
        """Whether there are inputs of four axes or more."""
        # the keys and values of a cache have four axes as well, and are no pictures
        return not self.past and any(len(places) >= 4 for places in self.places.values())

    @property
    def others(self) -> list[str]:
        """The symbols of axes that are not batches."""
        return [s for s in self.base if s not in self.batches]

    def resolve_shapes(self, sizes: Mapping[str, int]) -> Shapes:
        """Return the shapes of the inputs at these sizes; other symbols have those of `base`."""
        known = {**self.base, **sizes}
        return {
            name: tuple(
                size_length(p, self.sums, known, 0) if isinstance(p, str) else p for p in places
            )
            for name, places in self.places.items()
        }

    def count_elements(self, sizes: Mapping[str, int]) -> int:
        """Return the number of elements that inputs of these sizes have."""
        return sum(math.prod(shape) for shape in self.resolve_shapes(sizes).values())

    def set_all(self, size: int) -> dict[str, int]:
        """Return this size for all symbols but batches, which are one."""
        return {s: 1 if s in self.batches else size for s in self.base}


def read_axes(graph: Graph, shapes: Shapes) -> Axes:
    """Read the symbolic axes of a model's inputs.

    Args:
        graph: the model.
        shapes: the shapes that its inputs had in a run.
    """
    places: dict[str, tuple[int | str, ...]] = {}
    base: dict[str, int] = {}
    batches = set()
    sums = find_sums(graph)
    units = graph.unit_axes
    past: set[str] = set()
    elsewhere: set[str] = set()
    for value in graph.required_inputs:
        dims = value.type.tensor_type.shape.dim
        if value.name not in shapes:
            continue
        found: list[int | str] = []
        for axis, dim in enumerate(dims):
            # An axis without a name is tied to no other, so it gets a name of its own.
            symbol = dim.dim_param or f"{value.name}[{axis}]"
            if dim.dim_value > 0 or axis in units.get(value.name, ()):
                # the length of units is that of weights, whatever it is called
                found.append(shapes[value.name][axis])
                continue
            found.append(symbol)
            if symbol in sums:
                continue
            base[symbol] = shapes[value.name][axis]
            (past if value.name in units else elsewhere).add(symbol)
            if axis == 0 and len(dims) > 1:
                batches.add(symbol)
        places[value.name] = tuple(found)
    # if the sums do not hold for the shapes that ran, every length is chosen alone
    if any(
        size_length(p, sums, base, 0) != n
        for name, own in places.items()
        for p, n in zip(own, shapes[name], strict=True)
        if isinstance(p, str)
    ):
        free = {
            p: n
            for name, own in places.items()
            for p, n in zip(own, shapes[name], strict=True)
            if isinstance(p, str)
        }
        return Axes(places, free, frozenset(batches))
    return Axes(places, base, frozenset(batches), sums, frozenset(past - elsewhere - batches))


def list_small_sizes(axes: Axes) -> list[dict[str, int]]:
    """Return small sizes to try one after the other until the model runs.

    The model is known to run at the last ones.
    """
    small = axes.set_all(LARGE_SIZE if axes.has_pictures else SMALL_SIZE)
    single = {**axes.base, **dict.fromkeys(axes.batches, 1)}
    return [small, single, dict(axes.base)] if axes.base else [{}]


def choose_sizes(axes: Axes, bounds: Sequence[int]) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield sizes of the symbolic axes, the most telling first, and what to call them.

    The caller takes as many as it has samples for, so the order counts.

    Args:
        axes: the symbolic axes.
        bounds: integers of the model at which something changes.
    """
    if not axes.others:
        for size in (1, 3) if axes.batches else ():
            yield _name_sizes(sorted(axes.batches), size), dict.fromkeys(axes.batches, size)
        return
    odd = LARGE_SIZE if axes.has_pictures else SMALL_SIZE
    if axes.past:
        # a loop begins without a past
        past = sorted(axes.past)
        yield _name_sizes(past, 0), axes.set_all(odd) | dict.fromkeys(past, 0)
    longest, longer = _choose_longer_sizes(axes, bounds)
    for size in dict.fromkeys((odd, 1, longest)):
        yield _name_sizes(axes.others, size), axes.set_all(size)
    # All axes differ from each other here: a model that takes one for another shows it.
    apart = {s: odd + 2 * k for k, s in enumerate(axes.others)} | dict.fromkeys(axes.batches, 3)
    yield f"axes {', '.join(f'{s}={n}' for s, n in apart.items())}", apart
    rest = (STRIDED_SIZE, 2, longer, SMALL_SIZE) if axes.has_pictures else (2, longer)
    for size in dict.fromkeys(s for s in rest if s not in (odd, 1, longest)):
        yield _name_sizes(axes.others, size), axes.set_all(size)


def _choose_longer_sizes(axes: Axes, bounds: Sequence[int]) -> tuple[int, int]:
    """Return two sizes larger than those of random inputs.

    The first lies beyond the model's bounds if that can be run; the second is odd.
    """
    largest = max(axes.base[s] for s in axes.others)
    longer = largest + 1 + largest % 2
    longest = 2 * largest + 1 if largest <= MAX_DOUBLED_SIZE else longer
    beyond = max((bound + 1 for bound in bounds if bound < MAX_BOUND), default=0)
    room = max(MAX_GROWTH * axes.count_elements({}), MAX_FREE_ELEMENTS)
    fits = beyond > longest and axes.count_elements(axes.set_all(beyond)) <= room
    return (beyond if fits else longest), longer


def _name_sizes(symbols: Sequence[str], size: int) -> str:
    """Say in a few words that these symbols have this size."""
    return f"{'axis' if len(symbols) == 1 else 'axes'} {', '.join(f'{s}={size}' for s in symbols)}"
