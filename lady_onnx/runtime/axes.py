"""The symbolic axes of a model's inputs, and the sizes that tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..graph.model import Graph

SMALL_SIZE, LARGE_SIZE, STRIDED_SIZE = 7, 33, 96
"""Sizes of symbolic axes: a small odd one, a larger odd one, and one of pictures of three strides of 32."""
DOUBLED_SIZE = 64
"""Up to this size twice as much, and one, is not too long to run."""
LONGEST_SIZE = 520
"""A bound that the model has for a size is gone beyond up to here."""
GROWTH, FREE_ELEMENTS = 8, 100_000
"""So much larger than random inputs, or of so many elements, may they get for that."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Axes:
    """The symbolic axes of a model's inputs.

    Attributes:
        places: by input, for every axis its size, or its symbol.
        base: by symbol a size at which the model runs.
        batches: the symbols of batches.
    """

    places: Mapping[str, tuple[int | str, ...]]
    base: Mapping[str, int]
    batches: frozenset[str]

    @property
    def pictures(self) -> bool:
        """Are there inputs of four axes or more?"""
        return any(len(places) >= 4 for places in self.places.values())

    @property
    def others(self) -> list[str]:
        """The symbols of axes that are no batches."""
        return [s for s in self.base if s not in self.batches]

    def shapes(self, sizes: Mapping[str, int]) -> Shapes:
        """The shapes of the inputs with these sizes, and those of `base` for other symbols."""
        known = {**self.base, **sizes}
        return {
            n: tuple(known[p] if isinstance(p, str) else p for p in places)
            for n, places in self.places.items()
        }

    def count(self, sizes: Mapping[str, int]) -> int:
        """How many elements inputs of these sizes have."""
        return sum(math.prod(shape) for shape in self.shapes(sizes).values())

    def with_size(self, size: int) -> dict[str, int]:
        """This size for all symbols but batches, which are one."""
        return {s: 1 if s in self.batches else size for s in self.base}


def read_axes(graph: Graph, shapes: Shapes) -> Axes:
    """The symbolic axes of inputs that have these shapes in a run."""
    places: dict[str, tuple[int | str, ...]] = {}
    base: dict[str, int] = {}
    batches = set()
    for value in graph.required_inputs:
        dims = value.type.tensor_type.shape.dim
        if value.name not in shapes:
            continue
        found: list[int | str] = []
        for axis, dim in enumerate(dims):
            symbol = dim.dim_param or f"{value.name}[{axis}]"
            found.append(dim.dim_value if dim.dim_value > 0 else symbol)
            if dim.dim_value <= 0:
                base[symbol] = shapes[value.name][axis]
                if axis == 0 and len(dims) > 1:
                    batches.add(symbol)
        places[value.name] = tuple(found)
    return Axes(places, base, frozenset(batches))


def list_small_sizes(axes: Axes) -> list[dict[str, int]]:
    """Small sizes to try one after the other until the model runs; the last ones are those at which it is known to."""
    small = axes.with_size(LARGE_SIZE if axes.pictures else SMALL_SIZE)
    single = {**axes.base, **dict.fromkeys(axes.batches, 1)}
    return [small, single, dict(axes.base)] if axes.base else [{}]


def choose_sizes(axes: Axes, bounds: Sequence[int]) -> Iterator[tuple[str, dict[str, int]]]:
    """Sizes of the symbolic axes, the most telling first, and what to call them.

    Args:
        axes: the symbolic axes.
        bounds: integers of the model at which something changes.
    """
    if not axes.others:
        for size in (1, 3) if axes.batches else ():
            yield _name_sizes(sorted(axes.batches), size), dict.fromkeys(axes.batches, size)
        return
    odd = LARGE_SIZE if axes.pictures else SMALL_SIZE
    longest, longer = _longer_sizes(axes, bounds)
    for size in dict.fromkeys((odd, 1, longest)):
        yield _name_sizes(axes.others, size), axes.with_size(size)
    apart = {s: odd + 2 * k for k, s in enumerate(axes.others)} | dict.fromkeys(axes.batches, 3)
    yield f"axes {', '.join(f'{s}={n}' for s, n in apart.items())}", apart
    rest = (STRIDED_SIZE, 2, longer, SMALL_SIZE) if axes.pictures else (2, longer)
    for size in dict.fromkeys(s for s in rest if s not in (odd, 1, longest)):
        yield _name_sizes(axes.others, size), axes.with_size(size)


def _longer_sizes(axes: Axes, bounds: Sequence[int]) -> tuple[int, int]:
    """Two sizes larger than those of random inputs: one beyond the model's bounds if it can be run, and an odd one."""
    largest = max(axes.base[s] for s in axes.others)
    longer = largest + 1 + largest % 2
    longest = 2 * largest + 1 if largest <= DOUBLED_SIZE else longer
    beyond = max((c + 1 for c in bounds if c < LONGEST_SIZE), default=0)
    room = max(GROWTH * axes.count({}), FREE_ELEMENTS)
    return (
        beyond if beyond > longest and axes.count(axes.with_size(beyond)) <= room else longest
    ), longer


def _name_sizes(symbols: Sequence[str], size: int) -> str:
    return f"{'axis' if len(symbols) == 1 else 'axes'} {', '.join(f'{s}={size}' for s in symbols)}"
