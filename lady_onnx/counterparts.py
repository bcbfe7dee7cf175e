"""Two graphs of one network, weight by weight, whichever way each is written."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from .alterations import floating
from .errors import ArchitectureError, LadyError
from .evidence import finite
from .graph import Graph, attributes
from .pairing.equality import correspond
from .runtime import compare, simplified
from .skeleton import Place, paired

PART = 0.05
"""A part of an output that differs by more than this share of its largest value, weights being equal, is computed otherwise."""
BIASED = ("Conv", "ConvTranspose", "Gemm")
"""Operators whose third operand, a bias, may be left out."""


@dataclass(frozen=True)
class Link:
    """Two graphs of one network, weight by weight.

    Attributes:
        reference, suspect: the graphs, in forms that hold the same weights.
        places: for weights of the reference where they lie in the suspect.
        alike: are the graphs alike node by node, so that what one computes the other does?
        apart: operators without weights that one has more often than the other, or with other numbers.
    """

    reference: Graph
    suspect: Graph
    places: Mapping[str, Place]
    alike: bool
    apart: tuple[str, ...] = ()

    def array(self, name: str, graph: Graph | None = None) -> np.ndarray:
        """The suspect's weight, or that of a copy, in the layout and, if both are floats, the dtype of the reference's."""
        place = self.places[name]
        array = (graph or self.suspect).array(place.name)
        if self.alike:
            return array
        if place.turned and np.squeeze(array).ndim == 2:
            array = np.swapaxes(np.squeeze(array), 0, 1)
        return self._cast(array.reshape(self.reference.shape(name)), self.reference.array(name))

    def replace(self, graph: Graph, name: str, array: np.ndarray) -> None:
        """Gives a weight of a copy of the suspect values in the layout of the reference's."""
        place = self.places[name]
        old = graph.array(place.name)
        if not self.alike:
            if place.turned and np.squeeze(array).ndim == 2:
                array = np.swapaxes(np.squeeze(array), 0, 1)
            array = self._cast(np.ascontiguousarray(array).reshape(old.shape), old)
        graph.replace(place.name, array)

    def constant_along(self, name: str, axis: int) -> bool:
        """Is a weight constant along an axis in both?"""
        if not self.reference.constant_along(name, axis):
            return False
        if name not in self.places:
            return True
        if self.alike:
            return self.suspect.constant_along(self.places[name].name, axis)
        array = self.array(name)
        return bool((array == array.take([0], axis)).all())

    def number(self, name: str) -> bytes | None:
        """What a constant of one element is in both, one after the other; None of anything else, or where one has it not."""
        mine = self.reference.number(name)
        its = self.suspect.number(self.places[name].name) if name in self.places else None
        return mine + its if mine is not None and its is not None else None

    @staticmethod
    def _cast(array: np.ndarray, like: np.ndarray) -> np.ndarray:
        return array.astype(like.dtype) if floating(array) and floating(like) else array


def connect(reference: Graph, suspect: Graph) -> Link:
    """Which weight of the suspect is which of the reference; both simplified where they are not alike node by node.

    Raises ArchitectureError with the place where they part.
    """
    try:
        names = correspond(reference, suspect)
    except ArchitectureError as error:
        try:
            ours, theirs, places, apart = _simpler(reference, suspect, error)
        except ArchitectureError:
            raise
        except LadyError:
            # what onnxruntime cannot load has no other form
            raise error from None
    else:
        return Link(reference, suspect, {a: Place(b) for a, b in names.items()}, True)
    # where no weight was changed on the way, the suspect stays as it is
    kept = all(_kept(suspect, theirs, place.name) for place in places.values())
    link = Link(ours, suspect if kept else theirs, places, False, apart)
    twin = link.suspect.copy()
    for name in places:
        link.replace(twin, name, link.reference.array(name))
    if not compare(reference, twin, samples=2, provider_name="cpu", part_tolerance=PART).equal:
        raise ArchitectureError(
            f"{suspect.name}: another architecture than {reference.name}: it holds weights of the same shapes, but computes "
            "something else with them; compare models exported from the same network"
        )
    return link


def _simpler(
    reference: Graph, suspect: Graph, error: ArchitectureError
) -> tuple[Graph, Graph, dict[str, Place], tuple[str, ...]]:
    """Both graphs in the plainest form in which they hold the same weights; raises `error`, or where they part, if none."""
    written = [[(n.op_type, sorted(a.SerializeToString() for a in n.attribute)) for n in g.nodes] for g in (reference, suspect)]
    simple = functools.cache(lambda fused: (simplified(reference, fused), simplified(suspect, fused)))
    found = []
    for spelled, fused in itertools.product((None, _untied, _biased), (False, True)):
        try:
            ours, theirs = (spelled(g) if spelled else g for g in simple(fused))
            found.append((ours, theirs, *paired(ours, theirs)))
        except ArchitectureError as other:
            # of nodes that are written alike the one that differs says more, and of others the plainest form
            error = error if spelled or fused or written[0] == written[1] else other
        else:
            if not found[-1][3]:
                return found[-1]
    if not found:
        raise error
    return found[0]


def _untied(graph: Graph) -> Graph:
    """The same graph, with a copy of every weight for each of its uses: exporters write equal ones once."""
    model = graph.to_model("")
    weights = {t.name: t for t in model.graph.initializer}
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)} | weights.keys()
    used: set[str] = set()
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            if name in used:
                node.input[k] = _add(model, weights[name], name, taken)
            elif name in weights:
                used.add(name)
    return Graph(model, graph.path)


def _biased(graph: Graph) -> Graph:
    """The same graph, with the biases of zeros that exporters leave out, and a copy of every weight for each of its uses."""
    untied = _untied(graph)
    model = untied.model
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)} | untied.tensors.keys()
    for node in model.graph.node:
        if node.op_type in BIASED and node.input[1] in untied.tensors and not any(node.input[2:3]):
            given, (first, second, *_) = attributes(node), untied.shape(node.input[1])
            turned = given.get("transB", 0) if node.op_type == "Gemm" else node.op_type != "ConvTranspose"
            units = first if turned else second * given.get("group", 1)
            dtype = onnx.helper.tensor_dtype_to_np_dtype(untied.tensors[node.input[1]].data_type)
            zeros = onnx.numpy_helper.from_array(np.zeros(units, dtype))
            name = _add(model, zeros, f"{node.input[1]}.bias", taken)
            node.input[:] = [*node.input[:2], name, *node.input[3:]]
    return Graph(model, graph.path)


def _add(model: onnx.ModelProto, tensor: onnx.TensorProto, name: str, taken: set[str]) -> str:
    """Adds a weight under a name like this that is not taken, and returns that."""
    fresh = next(other for n in itertools.count(2) if (other := f"{name}.{n}") not in taken)
    taken.add(fresh)
    model.graph.initializer.add().CopyFrom(tensor)
    model.graph.initializer[-1].name = fresh
    return fresh


def _kept(graph: Graph, simple: Graph, name: str) -> bool:
    """Is a weight of the simplified graph one of the graph itself?"""
    if name not in graph.tensors or graph.shape(name) != simple.shape(name):
        return False
    return bool(np.array_equal(finite(graph.array(name)), finite(simple.array(name))))
