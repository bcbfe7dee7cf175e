"""Two graphs of one network, weight by weight, whichever way each is written.

Files that say one program are paired as they are; others in their normal forms, first in the one that leaves every bit
as it is, then in the one that holds for real numbers. Where the forms part the weights may still be paired, by what
follows what: then the suspect is no copy, whatever its weights.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from ..equality.declared import Said, find_unshown, length_of_dimension, list_declared_axes
from ..equality.pairing import (
    Difference,
    Pairing,
    find_shared_weight,
    make_parting_error,
    pair_graphs,
    pair_weights,
)
from ..errors import ArchitectureError
from ..graph.model import Graph
from ..normalform.form import Form, build_normal_form, choose_version, list_declarations
from ..normalform.terms import NoForm
from ..numerics import is_float_array
from ..runtime.simplification import simplify_models
from .skeleton import Place, pair_skeletons


@dataclass(frozen=True)
class Link:
    """Two graphs of one network, weight by weight.

    Attributes:
        reference, suspect: the graphs, in forms that hold the same weights.
        places: for weights of the reference where they lie in the suspect.
        alike: do the files say one program as they are written?
        apart: where the programs part; none where they are proven to be one, up to the values of the weights.
        bits: do equal weights give equal bits, and not just equal real numbers?
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
        """The suspect's weight, or that of a copy, in the layout and, if both are floats, the dtype of the reference's."""
        place = self.places[name]
        array = (graph or self.suspect).array(place.name)
        if self._fits:
            return array
        if place.turned and np.squeeze(array).ndim == 2:
            array = np.swapaxes(np.squeeze(array), 0, 1)
        return self._cast(array.reshape(self.reference.shape(name)), self.reference.array(name))

    def replace(self, graph: Graph, name: str, array: np.ndarray) -> None:
        """Gives a weight of a copy of the suspect values in the layout of the reference's."""
        place = self.places[name]
        old = graph.array(place.name)
        if not self._fits:
            if place.turned and np.squeeze(array).ndim == 2:
                array = np.swapaxes(np.squeeze(array), 0, 1)
            array = self._cast(np.ascontiguousarray(array).reshape(old.shape), old)
        graph.replace(place.name, array)

    @property
    def _fits(self) -> bool:
        """Have weights that stand for each other one layout and one type?"""
        return self.alike or self.forms is not None

    def constant_along(self, name: str, axis: int) -> bool:
        """Is a weight constant along an axis in both?"""
        if not self.reference.constant_along(name, axis):
            return False
        if name not in self.places:
            return True
        if self._fits:
            return self.suspect.constant_along(self.places[name].name, axis)
        array = self.array(name)
        return bool((array == array.take([0], axis)).all()) if array.size else True

    def number(self, name: str) -> bytes | None:
        """What a constant of one element is in both, one after the other; None of anything else, or where one has it not."""
        mine = self.reference.number(name)
        its = self.suspect.number(self.places[name].name) if name in self.places else None
        return mine + its if mine is not None and its is not None else None

    def room(self, name: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        """By how much rounding on the way to the normal form may have changed a weight, in the reference and the suspect."""
        if self.forms is None:
            return None, None
        ours, theirs = self.forms
        return ours.room(name), theirs.room(self.places[name].name)

    def written(self, graph: Graph) -> Graph:
        """A copy of the suspect, written as its file is; in normal form where what was changed stands in no weight alone."""
        if self.forms is None:
            return graph
        return self.forms[1].written(graph) or graph

    @staticmethod
    def _cast(array: np.ndarray, like: np.ndarray) -> np.ndarray:
        return array.astype(like.dtype) if is_float_array(array) and is_float_array(like) else array


def pair_models(reference: Graph, suspect: Graph) -> Link:
    """Which weight of the suspect is which of the reference.

    Raises ArchitectureError with the place where they part.
    """
    plain = pair_graphs(reference, suspect)
    names = plain.one_to_one
    if not plain.differences and names is not None:
        apart: tuple[str, ...] = ()
        if plain.declared:
            apart = list_unshown(suspect, plain.said, plain.declared, is_formed=False)
        return Link(reference, suspect, _places(names), True, apart)
    first = plain.differences[0] if plain.differences else find_shared_weight(plain)
    formed: list[Link] = []
    version = choose_version(reference, suspect)
    for exact in (True, False):
        try:
            found = _formed(reference, suspect, version, exact)
        except NoForm as error:
            found = Difference("a node", str(error), True)
        if isinstance(found, Difference):
            first = found
        elif not found.apart:
            return found
        else:
            formed.append(found)
    return _apart(reference, suspect, plain, first, formed)


def list_unshown(suspect: Graph, said: Said, doubted: Set[str], is_formed: bool) -> tuple[str, ...]:
    """The first place where a suspect declares what does not follow from its nodes, if there is one.

    The arguments are those of `find_unshown`.
    """
    try:
        found = find_unshown(list_declarations(suspect, said), said, doubted, is_formed)
    except NoForm as error:
        return (f"what is declared of inner values is not known to be so: {error}",)
    return () if found is None else (str(Difference(f"value '{found[0]}'", found[1], False)),)


def _places(names: Mapping[str, str]) -> dict[str, Place]:
    return {a: Place(b) for a, b in names.items()}


def _formed(reference: Graph, suspect: Graph, version: int, exact: bool) -> Link | Difference:
    """The normal forms, weight by weight, or where they part so that their weights cannot be paired."""
    ours, theirs = (build_normal_form(g, version, exact) for g in (reference, suspect))
    found = pair_graphs(ours.graph, theirs.graph)
    if found.one_to_one is None:
        ours, theirs = (
            _unshared(form, [pair[side] for pair in found.weights])
            for side, form in enumerate((ours, theirs))
        )
        found = pair_graphs(ours.graph, theirs.graph)
    final = [d for d in found.differences if d.final]
    if final:
        place = theirs.first_without(ours)
        what = "what it computes has no counterpart in the reference"
        return Difference(f"node {place}", what, True) if place else final[0]
    names = found.one_to_one
    if names is None:
        return find_shared_weight(found)
    apart = tuple(dict.fromkeys(str(d) for d in found.differences))
    if not apart and (found.declared or suspect.declares_inner_values):
        apart = list_unshown(suspect, _said(found, ours, theirs), found.declared, is_formed=True)
    return Link(ours.graph, theirs.graph, _places(names), False, apart, exact, (ours, theirs))


def _said(found: Pairing, ours: Form, theirs: Form) -> Said:
    """What the reference says of lengths in the suspect's file.

    Two values are each other's where their normal forms have one value for both.
    """
    inputs = {v.name for v in ours.source.required_inputs}
    said = {place: name for place, name in found.said.items() if place[0] in inputs}
    for name, value in theirs.values.items():
        for kind in ours.declared.get(found.values.get(value, ""), ()):
            for axis, dim in enumerate(list_declared_axes(kind)):
                length = length_of_dimension(dim)
                if length is not None:
                    said.setdefault((name, axis), length)
    return said


def _apart(
    reference: Graph, suspect: Graph, plain: Pairing, first: Difference, formed: list[Link]
) -> Link:
    """Two graphs that are not one program, weight by weight as far as that can be told."""
    names = plain.one_to_one
    if plain.differences and names is not None and not any(d.final for d in plain.differences):
        # what one file says otherwise than the other in the same place
        apart = tuple(dict.fromkeys(str(d) for d in plain.differences))
        return Link(reference, suspect, _places(names), True, apart)
    if formed:
        return formed[-1]
    error = make_parting_error(reference, suspect, first)
    # what onnxruntime cannot load has no other form
    for ours, theirs in simplify_models(reference, suspect):
        try:
            places, _ = pair_skeletons(ours, theirs)
        except ArchitectureError:
            continue
        if all(
            math.prod(ours.shape(a)) == math.prod(theirs.shape(p.name)) for a, p in places.items()
        ):
            return Link(ours, theirs, places, False, (str(first),), False)
    raise error


def _unshared(form: Form, paired_names: Iterable[str]) -> Form:
    """The same form, with a copy of every weight that stands for several for each of its uses."""
    counts = Counter(paired_names)
    many = {name for name, count in counts.items() if count > 1}
    model = form.graph.to_model("")
    weights = {t.name: t for t in model.graph.initializer}
    taken = {
        name for node in model.graph.node for name in (*node.input, *node.output)
    } | weights.keys()
    leaves, used = dict(form.leaves), set()
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            if name not in many or name not in weights:
                continue
            if name in used:
                node.input[k] = fresh = _add(model, weights[name], name, taken)
                leaves[fresh] = form.leaves[name]
            used.add(name)
    return replace(form, graph=Graph(model, form.graph.path), leaves=leaves)


def _add(model: onnx.ModelProto, tensor: onnx.TensorProto, name: str, taken: set[str]) -> str:
    """Adds a weight under a name like this that is not taken, and returns that."""
    fresh = next(other for n in itertools.count(2) if (other := f"{name}.{n}") not in taken)
    taken.add(fresh)
    model.graph.initializer.add().CopyFrom(tensor)
    model.graph.initializer[-1].name = fresh
    return fresh


def pair_by_name_alone(reference: Graph, suspect: Graph) -> dict[str, str] | None:
    """The suspect's weights by the reference's names if they differ in nothing but the length of axes, else None."""
    try:
        names = pair_weights(reference, suspect, sizes=False)
    except ArchitectureError:
        return None
    return names if any(reference.shape(a) != suspect.shape(b) for a, b in names.items()) else None
