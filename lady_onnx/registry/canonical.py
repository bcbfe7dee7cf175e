"""The one order of units that every shuffled copy of a model has in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..editing.permuting import Permuted, find_groups, permute_graph
from ..errors import LadyError
from ..graph.loading import Model, load_graph
from ..graph.model import map_weights
from ..groups.model import Group
from ..groups.permutations import Arrays
from .colours import Weights

CANONICAL_NOTE = "canonical"
"""What the metadata of a model in canonical order say was done to it."""


@dataclass(frozen=True)
class CanonicalOrder:
    """An order of units that does not depend on the order in which they were.

    Attributes:
        permutations: by group id, int64 [size]: unit j of the result is unit `permutation[j]`.
        undecided: the id of a group some of whose units nothing tells apart although they are no
            copies of each other; None where all are told. Two copies may have different orders
            then.
    """

    permutations: dict[str, np.ndarray]
    undecided: str | None


def canonicalize(model: Model, *, states: Sequence[str] = ()) -> Permuted:
    """Put the units of a model in canonical order.

    Copies of one file whose units are in other orders become the same file, bit for bit. So hashes,
    deduplication and signatures work on them again.

    Args:
        model: a path or a model.
        states: `OUTPUT=INPUT` each: outputs that are fed back as inputs, as for `permute`.

    Returns:
        The model in canonical order, and the permutations that were applied.

    Raises:
        LadyError: the model cannot be read, or nothing tells some of its units apart, so that
            copies may have other orders.
    """
    graph = load_graph(model, states)
    symmetry = find_groups(graph)
    order = find_canonical_order(symmetry.groups, map_weights(graph), sorted(graph.tensors))
    if order.undecided is not None:
        what = f"group {order.undecided}: nothing tells its units apart, and they are no copies"
        raise LadyError(f"{graph.name}: {what}; the model has no canonical order")
    result = permute_graph(graph, symmetry.groups, order.permutations)
    return Permuted(result, symmetry, order.permutations, None, CANONICAL_NOTE)


def find_canonical_order(
    groups: Sequence[Group], arrays: Arrays, names: Sequence[str]
) -> CanonicalOrder:
    """Find the order of units that every shuffled copy of a model has in common.

    Units are sorted by keys that no order changes. Copies of each other have one key, and may stand
    in any order. Other units with one key are undecided: a symmetry may exchange them or not, and
    only a search through all of them would tell.

    Args:
        groups: the groups of the model, inner ones first.
        arrays: its weights.
        names: the names of its weights, in an order that all copies have in common.
    """
    weights = Weights(groups, arrays, names)
    keys = {g.id: np.zeros(g.size, np.uint64) for g in groups}
    keys = _refine(weights, keys)
    tied = _find_tie(weights, keys)
    orders = {name: np.argsort(k, kind="stable") for name, k in keys.items()}
    return CanonicalOrder(orders, tied)


def _refine(weights: Weights, keys: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute keys anew until they tell no more units apart."""
    count = -1
    while (told := sum(len(np.unique(k)) for k in keys.values())) > count:
        count = told
        keys = weights.refine(keys)
    return keys


def _find_tie(weights: Weights, keys: dict[str, np.ndarray]) -> str | None:
    """Find a group with units of one key that are no copies of each other."""
    if all(len(np.unique(k)) == k.size for k in keys.values()):
        return None
    copies = weights.hash_in_place(keys)
    for name, own in keys.items():
        order = np.lexsort((copies[name], own))
        same = own[order][1:] == own[order][:-1]
        if (same & (copies[name][order][1:] != copies[name][order][:-1])).any():
            return name
    return None
