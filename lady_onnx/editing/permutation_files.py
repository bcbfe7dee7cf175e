"""Permutations in files of the format `lady-onnx-permutation/1`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LadyError
from ..graph.files import open_atomically
from ..groups.model import Group

PERMUTATION_FORMAT = "lady-onnx-permutation/1"
"""The name and the version of the format; it stands in every file."""


def write_permutation(
    path: str | os.PathLike[str],
    groups: Sequence[Group],
    permutations: Mapping[str, np.ndarray],
    seed: int | None,
) -> None:
    """Write a permutation file, whole or not at all.

    Args:
        path: the file.
        groups: the groups of the model that the permutations belong to.
        permutations: by group id, int64 [size].
        seed: the seed that they were drawn with, None for given ones.
    """
    entries = [
        {
            "id": g.id,
            "size": g.size,
            "slots": _list_slots(g),
            "permutation": permutations[g.id].tolist(),
        }
        for g in groups
        if g.id in permutations
    ]
    with open_atomically(Path(path)) as file:
        file.write(
            json.dumps({"format": PERMUTATION_FORMAT, "seed": seed, "groups": entries}).encode()
        )


def read_permutation(
    path: str | os.PathLike[str], groups: Sequence[Group]
) -> dict[str, np.ndarray]:
    """Read the permutations in a file.

    Args:
        path: the file.
        groups: the groups of the model that they are for.

    Returns:
        The permutations by group id, int64 [size]. That they are permutations is not checked here.

    Raises:
        LadyError: the file cannot be read, is no permutation file, or belongs to other groups.
    """
    mend = "that --save-permutation wrote"
    try:
        content = json.loads(Path(path).read_text())
        if content["format"] != PERMUTATION_FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return _read_entries(path, content["groups"], groups)
    except OSError as error:
        raise LadyError(f"{path}: {error.strerror}; give a file {mend}") from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise LadyError(f"{path}: not a permutation file ({error}); give one {mend}") from error


def _read_entries(
    path: str | os.PathLike[str], entries: Sequence[Mapping[str, Any]], groups: Sequence[Group]
) -> dict[str, np.ndarray]:
    """Return the permutations of the entries of a file.

    Raises:
        LadyError: a group lies elsewhere in the model.
        ValueError: two entries are of one group.
    """
    known = {g.id: (g.size, _list_slots(g)) for g in groups}
    found: dict[str, np.ndarray] = {}
    for entry in entries:
        name = entry["id"]
        if name in found:
            raise ValueError(f"group '{name}' occurs twice")
        size, slots = known.get(name, (None, None))
        # Files may leave size and slots out. A name that is not known is told by the caller.
        given = entry.get("size", size), entry.get("slots", slots)
        if name in known and given != known[name]:
            raise LadyError(
                f"{path}: group '{name}' lies elsewhere in the model; "
                "the permutation is another model's"
            )
        found[name] = np.array(entry["permutation"])
    return found


def _list_slots(group: Group) -> list[dict[str, Any]]:
    """Return the slots of a group as JSON values."""
    result = []
    for slot in group.slots:
        entry: dict[str, Any] = {
            "initializer": slot.initializer,
            "axis": slot.axis,
            "index": slot.index.tolist(),
        }
        if slot.within:
            entry["within"] = [{"axis": a, "positions": p.tolist()} for a, p in slot.within]
        result.append(entry)
    return result
