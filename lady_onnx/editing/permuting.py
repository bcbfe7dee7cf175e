"""Finding the groups of a model, and applying an element of its symmetry to it."""

from __future__ import annotations

import json
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
from ..graph.files import open_atomically
from ..graph.loading import load_graph
from ..graph.model import Graph, map_weights
from ..groups.model import Group, Symmetry
from ..groups.permutations import Nesting, Permutations, invert_permutations, permute_arrays
from ..reporting import Report, count_things
from ..symmetry.finder import extract_groups

FORMAT = "lady-onnx-permutation/1"

Model = str | os.PathLike[str] | ModelProto | Graph
"""A path, a model in memory, or a graph that is loaded already."""


def find_groups(model: Model) -> Symmetry:
    """The permutation symmetry of a model: every group of interchangeable units, and what is pinned.

    Raises LadyError where the model cannot be read.
    """
    return extract_groups(analyse_graph(load_graph(model)))


@dataclass(frozen=True, repr=False)
class Permuted(Report):
    """A permuted model.

    Attributes:
        graph: the model with its weights permuted.
        symmetry: the groups of the input.
        permutations: for each group's id, int64 [size]: unit j of the result is unit `permutation[j]` of the
            input; inner groups are permuted before the groups that hold them.
        seed: the seed they were drawn with, None for given ones.
    """

    graph: Graph
    symmetry: Symmetry
    permutations: Mapping[str, np.ndarray]
    seed: int | None

    @property
    def model(self) -> ModelProto:
        """The permuted model."""
        return self.graph.to_model(PERMUTED_NOTE)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the permuted model, whole or not at all."""
        self.graph.save(Path(path), PERMUTED_NOTE)

    def save_permutation(self, path: str | os.PathLike[str]) -> None:
        """Writes what was applied, in the format `lady-onnx-permutation/1`."""
        write_permutation(path, self.symmetry.groups, self.permutations, self.seed)

    def headline(self) -> str:
        """Say in one line how much was moved."""
        moved = count_things(count_moved(self.permutations), "unit")
        return f"{moved} moved in {count_things(len(self.permutations), 'group')}"

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        moved = count_moved(self.permutations)
        return {"groups": len(self.permutations), "units_moved": moved, "seed": self.seed}


PERMUTED_NOTE = "permuted"


def draw_permutations(groups: Sequence[Group], seed: int) -> dict[str, np.ndarray]:
    """A random permutation of every group, never the identity."""
    generator = np.random.default_rng(seed)
    drawn = {}
    for group in groups:
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
) -> Permuted:
    """Applies a random element of a model's permutation symmetry, or a given one.

    Args:
        model: a path or a model.
        seed: of the random permutations.
        groups: ids of the groups to permute, all by default.
        permutations: what to apply instead, by group id, or the path of a file that `save_permutation` wrote.
        inverse: undo them instead.

    Raises LadyError for an unknown group, a permutation that does not fit, a seed that is no number from 0 on, or a model
    without groups.
    """
    if permutations is None and inverse:
        raise LadyError("only given permutations can be undone; give them")
    if permutations is not None and groups is not None:
        raise LadyError("give groups, for random permutations, or permutations, not both")
    check_whole_number("seed", seed)
    graph = load_graph(model)
    symmetry = find_groups(graph)
    known = {g.id: g for g in symmetry.groups}
    chosen: Sequence[Group] = symmetry.groups
    if groups is not None:
        for name in groups:
            if name not in known:
                lists = f"{suggest_name(name, known)}`lady-onnx groups` lists them"
                raise UnknownNameError(f"{graph.name}: no group '{name}'; {lists}")
        chosen = [known[name] for name in groups]
    if not chosen:
        raise LadyError(
            f"{graph.name}: no group of interchangeable units, so nothing can be permuted; see `lady-onnx groups`"
        )
    given: int | None = None
    if permutations is None:
        elements, given = draw_permutations(chosen, seed), seed
    else:
        if not isinstance(permutations, Mapping):
            permutations = read_permutation(permutations, symmetry.groups)
        elements = {}
        for name, permutation in permutations.items():
            if name not in known:
                raise LadyError(
                    f"{graph.name}: no group '{name}'; the permutation is another model's"
                )
            size, places = known[name].size, np.asarray(permutation)
            if places.dtype.kind not in "iu" or not np.array_equal(
                np.sort(places, None), np.arange(size)
            ):
                raise LadyError(
                    f"group '{name}': not a permutation of 0 to {size - 1}; mend it, or give the model's own"
                )
            elements[name] = places.astype(np.int64).reshape(size)
    if inverse:
        elements = invert_permutations(Nesting(symmetry.groups), elements)
    return Permuted(permute_graph(graph, symmetry.groups, elements), symmetry, elements, given)


def list_slots_json(group: Group) -> list[dict[str, Any]]:
    """The slots of a group as JSON values."""
    result = []
    for slot in group.slots:
        entry: dict[str, Any] = {
            "initializer": slot.initializer,
            "axis": slot.axis,
            "index": slot.index.tolist(),
        }
        if slot.within:
            entry["within"] = [
                {"axis": axis, "positions": positions.tolist()} for axis, positions in slot.within
            ]
        result.append(entry)
    return result


def write_permutation(
    path: str | os.PathLike[str],
    groups: Sequence[Group],
    permutations: Mapping[str, np.ndarray],
    seed: int | None,
) -> None:
    """Writes a permutation file, whole or not at all."""
    entries = [
        {
            "id": g.id,
            "size": g.size,
            "slots": list_slots_json(g),
            "permutation": permutations[g.id].tolist(),
        }
        for g in groups
        if g.id in permutations
    ]
    with open_atomically(Path(path)) as file:
        file.write(json.dumps({"format": FORMAT, "seed": seed, "groups": entries}).encode())


def read_permutation(
    path: str | os.PathLike[str], groups: Sequence[Group]
) -> dict[str, np.ndarray]:
    """The permutations in a file, by group id; LadyError where it is none, or one for other groups than these."""
    try:
        content = json.loads(Path(path).read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        known = {g.id: (g.size, list_slots_json(g)) for g in groups}
        found: dict[str, np.ndarray] = {}
        for entry in content["groups"]:
            name = entry["id"]
            if name in found:
                raise ValueError(f"group '{name}' occurs twice")
            size, slots = known.get(name, (None, None))
            if (
                name in known
                and (entry.get("size", size), entry.get("slots", slots)) != known[name]
            ):
                raise LadyError(
                    f"{path}: group '{name}' lies elsewhere in the model; the permutation is another model's"
                )
            found[name] = np.array(entry["permutation"])
        return found
    except OSError as error:
        raise LadyError(
            f"{path}: {error.strerror}; give a file that --save-permutation wrote"
        ) from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise LadyError(
            f"{path}: not a permutation file ({error}); give one that --save-permutation wrote"
        ) from error


def permute_graph(graph: Graph, groups: Sequence[Group], permutations: Permutations) -> Graph:
    """A copy of `graph` with its weights permuted."""
    result = graph.copy()
    arrays = map_weights(graph)
    for name, array in permute_arrays(arrays, groups, permutations).items():
        result.replace(name, array)
    return result


def count_moved(permutations: Mapping[str, np.ndarray]) -> int:
    """Return the number of units that permutations, int64 [size] by group, move."""
    return sum(int((p != np.arange(p.size)).sum()) for p in permutations.values())
