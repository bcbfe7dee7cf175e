"""The normal form of a graph: one way to write what many files write in many ways.

Every node becomes a term by the rule of its operator (`reader`, `calls`), fused ones by their plain forms, local functions
by their bodies. Each step holds for all inputs; what has no rule stands as it is. Two files of one program have normal
forms that are equal in total (`equality`), up to the values of their weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import TypeProto

from ..graph.model import Graph
from ..numerics import is_same
from ..semantics.declarations import Declaration, StatedLengths
from .algebra.numbering import Terms
from .algebra.term import Leaf, NoNormalForm
from .emission import Emission
from .reader import Reader

OLDEST, NEWEST = 21, 26
"""The normal form speaks a version of the operator sets between these."""


@dataclass(frozen=True)
class Form:
    """A graph in normal form.

    Attributes:
        graph: the form.
        source: the graph that it is the form of.
        leaves: the constants of the form by name.
        places: in the order of the form, how every value is computed, without the values of weights, and the node of the
            source that it comes from.
        values: by a value of the source, of which something is declared there, the value of the form that it is.
        declared: by a value of the form what the source declares of it.
    """

    graph: Graph
    source: Graph
    leaves: Mapping[str, Leaf]
    places: tuple[tuple[bytes, str], ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, Sequence[TypeProto]] = field(default_factory=dict)

    def first_without(self, other: Form) -> str | None:
        """The first node, in the order of the form, that computes what no node of another form does."""
        known = {digest for digest, _ in other.places}
        return next((place for digest, place in self.places if digest not in known), None)

    def room(self, name: str) -> np.ndarray | None:
        """By how much rounding may have changed every element of a constant; None where it is exact."""
        leaf = self.leaves.get(name)
        return (
            None
            if leaf is None or leaf.room is None
            else np.broadcast_to(leaf.room, leaf.array.shape)
        )

    def written(self, form: Graph) -> Graph | None:
        """The source with the constants that a copy of the form has.

        Returns:
            A copy of the source; None where a constant that was changed stands in no weight of the source, or where two
            of them say different things of one.
        """
        result = self.source.copy()
        changed: dict[str, np.ndarray] = {}
        said: dict[str, np.ndarray] = {}
        for name, leaf in self.leaves.items():
            array = form.array(name)
            is_changed = not is_same(array, leaf.array)
            if leaf.origin is None:
                if is_changed:
                    return None
                continue
            weight, places = leaf.origin
            if weight not in self.source.tensors:
                if is_changed:
                    return None
                continue
            where = places().ravel()
            if weight not in changed:
                changed[weight] = np.array(self.source.array(weight))
                said[weight] = np.zeros(changed[weight].size, bool)
            flat, told = changed[weight].reshape(-1), said[weight]
            new = array.ravel()
            if flat.dtype != new.dtype or not is_same(flat[where[told[where]]], new[told[where]]):
                return None
            flat[where] = new
            told[where] = True
        for weight, array in changed.items():
            if not is_same(array, self.source.array(weight)):
                result.replace(weight, array)
        return result


def choose_version(*graphs: Graph) -> int:
    """The version of the operator sets that the normal forms of some graphs speak."""
    return min(max(OLDEST, *(g.opset() for g in graphs)), NEWEST)


def build_normal_form(graph: Graph, version: int, exact: bool = False) -> Form:
    """The normal form of a graph.

    Args:
        graph: the graph.
        version: the version of the default domain that the form speaks; one for both graphs that are compared.
        exact: whether only such steps are taken as leave every bit as it is.

    Raises NoForm with the first node that has none.
    """
    try:
        return _normal_form(graph, version, exact)
    except (MemoryError, RecursionError) as error:
        raise NoNormalForm(f"{graph.name}: too large or too deep for a normal form") from error


def _normal_form(graph: Graph, version: int, exact: bool) -> Form:
    reader = Reader(graph, Terms(graph, version, exact))
    ends = reader.run()
    if not exact:
        # what nothing else reads becomes part of a longer sum or product, and what reads it is known at the end
        reader = Reader(graph, Terms(graph, version, exact), reader.read_once(ends))
        ends = reader.run()
    names = [v.name for v in (*graph.required_inputs, *graph.model.graph.output)]
    emission = Emission(reader.terms, reader.labels, names)
    try:
        model = emission.model(
            graph.required_inputs, list(zip(graph.model.graph.output, ends, strict=True))
        )
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise NoNormalForm(
            f"{graph.name}: cannot be written in normal form ({' '.join(str(error).split())})"
        ) from error
    declared: dict[str, list[TypeProto]] = {}
    values = {
        name: emission.names[key] for name, key, _ in reader.terms_of if key in emission.names
    }
    for name, _, kind in reader.terms_of:
        if name in values:
            declared.setdefault(values[name], []).append(kind)
    return Form(
        Graph(model, graph.path), graph, emission.leaves, tuple(emission.places), values, declared
    )


def list_declarations(graph: Graph, said: StatedLengths) -> list[Declaration]:
    """Everything that a file declares of its values, and what follows of them from the nodes.

    Args:
        graph: the graph.
        said: of the lengths of its inputs, which of them a caller gives equal.

    Raises NoForm where an output cannot be read.
    """
    names = {place: name for place, name in said.items() if isinstance(name, str)}
    reader = Reader(graph, Terms(graph, choose_version(graph), False, names), is_lenient=True)
    try:
        reader.run()
    except (MemoryError, RecursionError) as error:
        raise NoNormalForm(f"{graph.name}: too large or too deep to be read") from error
    return reader.declared
