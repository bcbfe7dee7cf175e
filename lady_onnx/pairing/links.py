"""Which weight of one graph is which of another: the answer that pairing gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..graph.model import Graph
from ..numerics import is_float_array

if TYPE_CHECKING:
    from ..normalform.form import Form


@dataclass(frozen=True)
class Place:
    """Where a weight of the reference lies in the suspect.

    Attributes:
        name: its name there.
        is_transposed: whether it lies transposed there.
    """

    name: str
    is_transposed: bool = False


@dataclass(frozen=True)
class Link:
    """Two graphs of one network, weight by weight.

    Attributes:
        reference, suspect: the graphs, in forms that hold the same weights.
        places: where weights of the reference lie in the suspect.
        alike: whether the files say one program as they are written.
        apart: where the programs part; none where they are proven to be one, up to the values of
            the weights.
        bits: whether equal weights give equal bits, and not just equal real numbers.
        forms: the normal forms that the graphs are, if they are.
    """

    reference: Graph
    suspect: Graph
    places: Mapping[str, Place]
    alike: bool
    apart: tuple[str, ...] = ()
    bits: bool = True
    forms: tuple[Form, Form] | None = field(default=None, repr=False)

    def array(self, name: str, graph: Graph | None = None) -> np.ndarray:
        """Return the suspect's weight in the layout of the reference's.

        Args:
            name: the weight of the reference.
            graph: a copy of the suspect whose weight is returned in place of the suspect's.

        Returns:
            The weight, in the dtype of the reference's if both are floats.
        """
        place = self.places[name]
        array = (graph or self.suspect).array(place.name)
        if self.has_same_layout:
            return array
        # axes of one may differ: in a skeleton, weights agree in their longer axes alone
        if place.is_transposed and np.squeeze(array).ndim == 2:
            array = np.swapaxes(np.squeeze(array), 0, 1)
        return self._cast(array.reshape(self.reference.shape(name)), self.reference.array(name))

    def replace(self, graph: Graph, name: str, array: np.ndarray) -> None:
        """Replace a weight of a copy of the suspect.

        Args:
            graph: the copy.
            name: the weight of the reference.
            array: its new values, in the layout of the reference's.
        """
        place = self.places[name]
        old = graph.array(place.name)
        if not self.has_same_layout:
            if place.is_transposed and np.squeeze(array).ndim == 2:
                array = np.swapaxes(np.squeeze(array), 0, 1)
            array = self._cast(np.ascontiguousarray(array).reshape(old.shape), old)
        graph.replace(place.name, array)

    @property
    def has_same_layout(self) -> bool:
        """Whether weights that stand for each other have one layout and one type."""
        return self.alike or self.forms is not None

    def constant_along(self, name: str, axis: int) -> bool:
        """Tell whether a weight is constant along an axis in both."""
        if not self.reference.constant_along(name, axis):
            return False
        if name not in self.places:
            return True
        if self.has_same_layout:
            return self.suspect.constant_along(self.places[name].name, axis)
        array = self.array(name)
        return bool((array == array.take([0], axis)).all()) if array.size else True

    def number(self, name: str) -> bytes | None:
        """Return what a constant of one element is in both, one after the other.

        None for a weight of more elements, and where one side has no such constant.
        """
        ours = self.reference.number(name)
        theirs = self.suspect.number(self.places[name].name) if name in self.places else None
        return ours + theirs if ours is not None and theirs is not None else None

    def room(self, name: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return how far rounding on the way to the normal form may have moved a weight.

        Returns:
            The bounds for every element of the reference's weight and of the suspect's; None where
            it is exact.
        """
        if self.forms is None:
            return None, None
        ours, theirs = self.forms
        return ours.read_error_bound(name), theirs.read_error_bound(self.places[name].name)

    def written(self, graph: Graph) -> Graph:
        """Write a copy of the suspect as the suspect's file is written.

        It stays in normal form where a change stands in no weight of the file alone.
        """
        if self.forms is None:
            return graph
        return self.forms[1].write_back(graph) or graph

    @staticmethod
    def _cast(array: np.ndarray, like: np.ndarray) -> np.ndarray:
        return array.astype(like.dtype) if is_float_array(array) and is_float_array(like) else array


def make_places(names: Mapping[str, str]) -> dict[str, Place]:
    """Return the places of weights that lie as they do in the reference, by their names there."""
    return {a: Place(b) for a, b in names.items()}
