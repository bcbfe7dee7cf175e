"""The weights of a model that may carry a mark, and a hash of them before they are marked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ..dataflow.engine import analyse_graph
from ..graph.model import Graph
from ..groups.permutations import Arrays
from ..matching.incoming import find_incoming_slots
from ..numerics import is_float_array
from ..scaling.walk import find_scalings
from ..symmetry.finder import extract_groups
from .schemes.interface import Layer


def list_layers(graph: Graph) -> list[Layer]:
    """List the weights of a model that may carry a mark, in the order of their names.

    A weight may carry a mark if it is of floats, has two axes or more, and a group lies along one
    of them. Of others it is not known whether they are tables, such as angles or anchors.
    """
    analysis = analyse_graph(graph)
    groups = extract_groups(analysis).groups
    made = {
        slot.initializer: slot.axis
        for slots in find_incoming_slots(groups, find_scalings(graph, analysis, groups)).values()
        for slot in slots
    }
    read: dict[str, int] = {}
    for slot in (s for g in groups for s in g.slots):
        read.setdefault(slot.initializer, slot.axis)
    layers = []
    for name, axis in sorted(read.items()):
        array = graph.array(name)
        if array.ndim < 2 or not is_float_array(array) or not _is_finite(array):
            continue
        # the last layer makes outputs, of which no group is: they lie along its other axis
        own = made.get(name, int(axis == 0))
        layers.append(Layer(name, array.shape, own))
    return layers


def _is_finite(array: np.ndarray) -> bool:
    """Tell whether all elements are finite: a mark would change others."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.astype(np.float64)).all())


def hash_layers(weights: Arrays, layers: Sequence[Layer]) -> str:
    """Return the SHA-256 of layers as they are, as hexadecimal digits.

    The key of a mark depends on this hash. Whoever judges a claim has it checked with the unmarked
    model (`extract --unmarked`): a claim on a model that is there already would need an unmarked
    model near it whose own hash gives the key of what is between them.
    """
    digest = hashlib.sha256()
    for layer in layers:
        digest.update(f"{len(layer.name)} {layer.name} {list(layer.shape)} ".encode())
        digest.update(np.ascontiguousarray(weights[layer.name]).view(np.uint8).data)
    return digest.hexdigest()
