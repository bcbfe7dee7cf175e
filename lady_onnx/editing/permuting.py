"""Finding the groups of a model, and applying an element of its symmetry to it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from ..dataflow.engine import analyse_graph
from ..errors import (
    LadyError,
    UnknownNameError,
    check_whole_number,
    suggest_name,
)
from ..graph.loading import Model, load_graph
from ..graph.model import Graph, map_weights
from ..groups.model import Group, StateOrder, Symmetry
from ..groups.permutations import Nesting, Permutations, invert_permutations, permute_arrays
from ..reporting import Report, count_things
from ..symmetry.finder import extract_groups
from .permutation_files import read_permutation, write_permutation


def find_groups(model: Model, *, states: Sequence[str] = ()) -> Symmetry:
    """Find every group of interchangeable units of a model, and what is pinned.

    Args:
        model: a path or a model.
        states: `OUTPUT=INPUT` each: outputs that are fed back as inputs, beside those that their
            names tell; `none` among them where names are not to be believed.

    Returns:
        The permutation symmetry.

    Raises:
        LadyError: the model cannot be read.
    """
    return extract_groups(analyse_graph(load_graph(model, states)))


PERMUTED_NOTE = "permuted"
"""What the metadata of a permuted model say was done to it."""


@dataclass(frozen=True, repr=False)
class Permuted(Report):
    """A permuted model.

    Attributes:
        graph: the model with its weights permuted.
        symmetry: the groups of the input.
        permutations: for each group's id, int64 [size]: unit j of the result is unit
            `permutation[j]` of the input. Inner groups are permuted before those that hold them.
        seed: the seed that they were drawn with, None for given ones.
        note: what the metadata of the result say was done to it.
    """

    graph: Graph
    symmetry: Symmetry
    permutations: Mapping[str, np.ndarray]
    seed: int | None
    note: str = PERMUTED_NOTE

    @property
    def model(self) -> ModelProto:
        """The permuted model."""
        return self.graph.to_model(self.note)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the permuted model, whole or not at all."""
        self.graph.save(Path(path), self.note)

    def save_permutation(self, path: str | os.PathLike[str]) -> None:
        """Write what was applied, in the format `lady-onnx-permutation/1`."""
        write_permutation(path, self.symmetry.groups, self.permutations, self.seed)

    @property
    def moved_states(self) -> tuple[StateOrder, ...]:
        """The outputs that are fed back as inputs, and have another order than before."""
        return self.symmetry.list_moved_states(self.permutations)

    def headline(self) -> str:
        """Say in one line how much was moved."""
        moved = count_things(count_moved(self.permutations), "unit")
        states = self.moved_states
        also = f"; {count_things(len(states), 'state')} in another order" if states else ""
        return f"{moved} moved in {count_things(len(self.permutations), 'group')}{also}"

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        moved = count_moved(self.permutations)
        return {
            "groups": len(self.permutations),
            "units_moved": moved,
            "seed": self.seed,
            "states": [s.output for s in self.moved_states],
        }


def draw_permutations(groups: Sequence[Group], seed: int) -> dict[str, np.ndarray]:
    """Draw a random permutation of every group, never the identity of two or more units.

    Args:
        groups: the groups.
        seed: the seed of the generator.

    Returns:
        The permutations by group id, int64 [size].

    >>> from lady_onnx.groups.model import Group
    >>> pair = Group("w:0", "units", 2, (), ())
    >>> draw_permutations([pair], seed=0)["w:0"].tolist()
    [1, 0]
    """
    generator = np.random.default_rng(seed)
    drawn = {}
    for group in groups:
        # One of the two orders of a pair is the identity, so it may take a few draws.
        while True:
            permutation = generator.permutation(group.size)
            if group.size < 2 or (permutation != np.arange(group.size)).any():
                break
        drawn[group.id] = permutation
    return drawn


def permute(
    model: Model,
    seed: int = 0,
    *,
    groups: Sequence[str] | None = None,
    permutations: Mapping[str, np.ndarray] | str | os.PathLike[str] | None = None,
    inverse: bool = False,
    states: Sequence[str] = (),
) -> Permuted:
    """Apply a random element of a model's permutation symmetry, or a given one.

    Args:
        model: a path or a model.
        seed: the seed of the random permutations.
        groups: the ids of the groups to permute, all by default.
        permutations: what to apply instead, by group id int64 [size], or the path of a file that
            `save_permutation` wrote.
        inverse: whether to undo the given permutations instead.
        states: `OUTPUT=INPUT` each: outputs that are fed back as inputs, beside those that their
            names tell; `none` among them where names are not to be believed.

    Returns:
        The permuted model, and what was applied.

    Raises:
        LadyError: a group is unknown, a permutation does not fit, the seed is no number from 0 on,
            or the model has no groups.
    """
    if permutations is None and inverse:
        raise LadyError("only given permutations can be undone; give them")
    if permutations is not None and groups is not None:
        raise LadyError("give groups, for random permutations, or permutations, not both")
    check_whole_number("seed", seed)
    graph = load_graph(model, states)
    symmetry = find_groups(graph)
    chosen = _choose_groups(graph, symmetry, groups)
    is_random = permutations is None
    elements = (
        draw_permutations(chosen, seed)
        if permutations is None
        else _read_elements(graph, symmetry, permutations)
    )
    if inverse:
        elements = invert_permutations(Nesting(symmetry.groups), elements)
    result = permute_graph(graph, symmetry.groups, elements)
    return Permuted(result, symmetry, elements, seed if is_random else None)


def _choose_groups(
    graph: Graph, symmetry: Symmetry, names: Sequence[str] | None
) -> Sequence[Group]:
    """Return the groups of some ids, all for None.

    Raises:
        LadyError: there are none.
        UnknownNameError: no group has one of the ids.
    """
    chosen: Sequence[Group] = symmetry.groups
    if names is not None:
        known = {g.id: g for g in symmetry.groups}
        for name in names:
            if name not in known:
                lists = f"{suggest_name(name, known)}`lady-onnx groups` lists them"
                raise UnknownNameError(f"{graph.name}: no group '{name}'; {lists}")
        chosen = [known[name] for name in names]
    if not chosen:
        raise LadyError(
            f"{graph.name}: no group of interchangeable units, so nothing can be permuted; "
            "see `lady-onnx groups`"
        )
    return chosen


def _read_elements(
    graph: Graph,
    symmetry: Symmetry,
    permutations: Mapping[str, np.ndarray] | str | os.PathLike[str],
) -> dict[str, np.ndarray]:
    """Return given permutations by group id, int64 [size].

    Args:
        graph: the model.
        symmetry: its groups.
        permutations: the permutations by group id, or the path of a file of them.

    Raises:
        LadyError: a permutation does not fit the model.
    """
    if not isinstance(permutations, Mapping):
        permutations = read_permutation(permutations, symmetry.groups)
    known = {g.id: g for g in symmetry.groups}
    elements = {}
    for name, permutation in permutations.items():
        if name not in known:
            raise LadyError(f"{graph.name}: no group '{name}'; the permutation is another model's")
        # Its places have to be whole numbers: numpy would round others without a word.
        size, places = known[name].size, np.asarray(permutation)
        is_whole = places.dtype.kind in "iu" and places.ndim == 1
        if not is_whole or not np.array_equal(np.sort(places, None), np.arange(size)):
            raise LadyError(
                f"group '{name}': not a permutation of 0 to {size - 1}; "
                "mend it, or give the model's own"
            )
        elements[name] = places.astype(np.int64).reshape(size)
    return elements


def permute_graph(graph: Graph, groups: Sequence[Group], permutations: Permutations) -> Graph:
    """Return a copy of a graph with its weights permuted.

    Args:
        graph: the model.
        groups: its groups.
        permutations: by group id, int64 [size], see `Permuted`; other groups stay.
    """
    result = graph.copy()
    arrays = map_weights(graph)
    for name, array in permute_arrays(arrays, groups, permutations).items():
        result.replace(name, array)
    return result


def count_moved(permutations: Mapping[str, np.ndarray]) -> int:
    """Return the number of units that permutations, int64 [size] by group, move."""
    return sum(int((p != np.arange(p.size)).sum()) for p in permutations.values())
