"""Weights of a few layers, with groups of units, for tests that need no graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lady_onnx.groups.model import Group, Slot
from lady_onnx.groups.permutations import permute_arrays

Arrays = dict[str, np.ndarray]


def lay_flat(units: int, width: int) -> tuple[list[Group], Arrays]:
    """Two layers of units, of which the first is anchored by its inputs."""
    shapes = {"a": (width, units), "ab": (units,), "b": (units, units), "c": (units, width)}
    index = np.arange(units)[:, None]
    one = (Slot("a", 1, index), Slot("ab", 0, index), Slot("b", 0, index))
    two = (Slot("b", 1, index), Slot("c", 0, index))
    groups = [Group("one", "channels", units, (), one), Group("two", "channels", units, (), two)]
    return groups, {n: np.zeros(s, np.float32) for n, s in shapes.items()}


def lay_heads(count: int, size: int, width: int) -> tuple[list[Group], Arrays]:
    """Heads with an order of queries and keys, and one of values, in each."""
    places = np.arange(count * size).reshape(count, size)
    outer = Group(
        "heads", "blocks", count, (), tuple(Slot(n, int(n != "o"), places) for n in "qkvo")
    )
    inner = [
        Group(
            f"{kind}{u}",
            "inner",
            size,
            (("heads", u),),
            tuple(Slot(n, int(n != "o"), places[u][:, None]) for n in names),
        )
        for u in range(count)
        for kind, names in (("d", "qk"), ("e", "vo"))
    ]
    shape = (width, count * size)
    arrays = {n: np.zeros(shape if n != "o" else shape[::-1], np.float32) for n in "qkvo"}
    return [*inner, outer], arrays


def draw(rng: np.random.Generator, arrays: Arrays) -> Arrays:
    return {n: rng.standard_normal(a.shape).astype(np.float32) for n, a in arrays.items()}


def add_noise(rng: np.random.Generator, arrays: Arrays, strength: float) -> Arrays:
    return {n: a + np.float32(strength) * draw(rng, {n: a})[n] for n, a in arrays.items()}


def shuffle(rng: np.random.Generator, groups: Sequence[Group], arrays: Arrays) -> Arrays:
    moves = {g.id: rng.permutation(g.size) for g in groups}
    return {**arrays, **permute_arrays(arrays, groups, moves)}
