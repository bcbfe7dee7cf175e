"""The weights of a model that may carry a mark: what is read of them, and a hash of them before."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Sequence

import numpy as np
from onnx import AttributeProto, NodeProto

from ..dataflow.engine import analyse_graph
from ..graph.model import Graph, WeightMapping
from ..groups.permutations import Arrays
from ..matching.incoming import find_incoming_slots
from ..numerics import is_float_array
from ..scaling.walk import find_scalings
from ..symmetry.finder import extract_groups
from .schemes.interface import Layer

LEFT_SHARE = 0.5
"""Elements of which a smaller share is left may have been pruned."""


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


def read_layers(weights: Arrays, layers: Sequence[Layer], unmarked: Arrays | None = None) -> Arrays:
    """Return the layers of a mark as a model has them, or what changed in them.

    Args:
        weights: those of the model by name.
        layers: those that carry the mark.
        unmarked: them as they were before they were marked, where changes are asked for.

    Returns:
        The layers by name. One that has another shape, or none of floats, is left out.
    """
    sides = [weights] if unmarked is None else [weights, unmarked]
    names = [n.name for n in layers if all(has_layer(side, n) for side in sides)]

    # one layer after the other is read, so that not all of them are in memory
    def read(name: str) -> np.ndarray:
        arrays = [side[name] for side in sides]
        return arrays[0] if unmarked is None else _find_changes(*arrays)

    return WeightMapping(names, read)


def has_layer(weights: Arrays, layer: Layer) -> bool:
    """Tell whether a model has a layer, of floats."""
    array = weights.get(layer.name)
    return array is not None and array.shape == layer.shape and is_float_array(array)


def _find_changes(array: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return how far elements are from what they were, NaN where they may have been pruned."""
    is_double = np.float64 in (array.dtype, before.dtype)
    dtype = np.dtype(np.float64 if is_double else np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        now, old = array.astype(dtype), before.astype(dtype)
        change: np.ndarray = now - old
        # what is left of a pruned element, which noise may have moved, says nothing of a mark
        change[np.abs(now) < LEFT_SHARE * np.abs(old)] = np.nan
    return change


def hash_layers(weights: Arrays, layers: Sequence[Layer]) -> str:
    """Return the SHA-256 of layers as they are, as hexadecimal digits."""
    digest = hashlib.sha256()
    for layer in layers:
        digest.update(f"{len(layer.name)} {layer.name} {list(layer.shape)} ".encode())
        digest.update(np.ascontiguousarray(weights[layer.name]).view(np.uint8).data)
    return digest.hexdigest()


def hash_model(graph: Graph) -> str:
    """Return the SHA-256 of a model's weights and nodes, as hexadecimal digits.

    The key of a mark depends on this hash of the unmarked model. Whoever judges a claim has that
    model shown (`extract --unmarked`), and brings the suspect back to it. So a thief who claims a
    model that is there already has nothing left to choose once the key is known. All of the model
    counts: what does not could be chosen to move units, or to multiply them.
    """
    digest = hashlib.sha256()
    for name in sorted(graph.tensors):
        array = graph.array(name)
        digest.update(f"{len(name)} {name} {array.dtype} {list(array.shape)} ".encode())
        if array.dtype.hasobject:
            digest.update(repr(array.tolist()).encode())
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    bodies = [graph.nodes, *(function.node for function in graph.functions.values())]
    for part in (part for nodes in bodies for part in _describe_nodes(nodes, graph.tensors)):
        digest.update(part)
    return digest.hexdigest()


def _describe_nodes(nodes: Iterable[NodeProto], weights: Container[str]) -> Iterator[bytes]:
    """Describe nodes and their bodies, but for the weights in them, which lie anywhere."""
    for node in nodes:
        yield repr((node.op_type, node.domain, list(node.input), list(node.output))).encode()
        for attribute in sorted(node.attribute, key=lambda a: a.name):
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                yield repr(attribute.name).encode()
                for body in (attribute.g, *attribute.graphs):
                    yield from _describe_nodes(body.node, weights)
            elif not any(name in weights for name in node.output):
                yield attribute.SerializeToString(deterministic=True)
