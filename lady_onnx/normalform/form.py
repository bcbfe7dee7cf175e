"""The normal form of a graph: one way to write what many files write in many ways.

Every node becomes a term by the rewrite of its operator (`reader`, `rewrites`), a fused one by its
plain form, a local function by its nodes, and the terms are written as a graph again (`emission`).
Each step holds for all inputs; what has no rewrite stands as it is. Two files of one program have
normal forms that are equal in total (`equality`), up to the values of their weights.
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
from .algebra.term import Leaf, NoNormalFormError, Term
from .emission import FormWriter
from .reader import MISFIT_ERRORS, Reader

OLDEST, NEWEST = 21, 26
"""The oldest and the newest version of the operator sets that a normal form may be written in.

Reductions are written with their axes as an operand, which all of them have from 18 on.
"""


@dataclass(frozen=True)
class Form:
    """A graph in normal form.

    Attributes:
        graph: the form.
        source: the graph that it is the form of.
        leaves: the constants of the form by name.
        places: in the order of the form, a digest of how every value is computed, without the
            values of weights, and the node of the source that it comes from.
        values: the value of the form for every value of the source of which something is declared.
        declared: what the source declares of a value of the form.
    """

    graph: Graph
    source: Graph
    leaves: Mapping[str, Leaf]
    places: tuple[tuple[bytes, str], ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, Sequence[TypeProto]] = field(default_factory=dict)

    def find_first_without(self, other: Form) -> str | None:
        """Find the first node that computes what no node of another form computes."""
        known = {digest for digest, _ in other.places}
        return next((place for digest, place in self.places if digest not in known), None)

    def read_error_bound(self, name: str) -> np.ndarray | None:
        """Return by how much rounding may have changed every element of a constant.

        Args:
            name: the constant.

        Returns:
            float64 of the constant's shape; None where it is exact.
        """
        leaf = self.leaves.get(name)
        if leaf is None or leaf.error_bound is None:
            return None
        return np.broadcast_to(leaf.error_bound, leaf.array.shape)

    def write_back(self, form: Graph) -> Graph | None:
        """Write the constants of a copy of the form into a copy of the source.

        Args:
            form: the copy of the form.

        Returns:
            The copy of the source; None where a constant that was changed stands in no weight of
            the source, or where two constants say different things of one element.
        """
        result = self.source.copy()
        changed: dict[str, np.ndarray] = {}
        is_written: dict[str, np.ndarray] = {}
        for name, leaf in self.leaves.items():
            array = form.stored_array(name)
            if leaf.origin is None or leaf.origin[0] not in self.source.tensors:
                if not is_same(array, leaf.array):
                    return None
                continue
            weight, read_places = leaf.origin
            where = read_places().ravel()
            if weight not in changed:
                changed[weight] = np.array(self.source.stored_array(weight))
                is_written[weight] = np.zeros(changed[weight].size, bool)
            # a view, so that what is written into it is in the weight
            flat, written = changed[weight].reshape(-1), is_written[weight]
            new = array.ravel()
            # several constants may hold one element, as slices that overlap: they must agree
            if flat.dtype != new.dtype or not is_same(
                flat[where[written[where]]], new[written[where]]
            ):
                return None
            flat[where] = new
            written[where] = True
        for weight, array in changed.items():
            if not is_same(array, self.source.stored_array(weight)):
                result.store(weight, array)
        return result


def choose_version(*graphs: Graph) -> int:
    """Choose the version of the operator sets for the normal forms of graphs."""
    return min(max(OLDEST, *(g.opset() for g in graphs)), NEWEST)


def build_normal_form(graph: Graph, version: int, is_exact: bool = False) -> Form:
    """Build the normal form of a graph.

    Args:
        graph: the graph.
        version: the version of the default domain that the form is written in; forms that are
            compared have one version.
        is_exact: whether only such steps are taken that leave every bit as it is.

    Raises:
        NoNormalFormError: if a node has no normal form; the message names the first such node.
    """
    try:
        reader, ends = _read_graph(graph, version, is_exact)
        return _write_form(graph, reader, ends)
    except (MemoryError, RecursionError) as error:
        raise NoNormalFormError(f"{graph.name}: too large or too deep for a normal form") from error


def _read_graph(graph: Graph, version: int, is_exact: bool) -> tuple[Reader, list[Term]]:
    """Read a graph, and return the reader and the terms of the outputs."""
    reader = Reader(graph, Terms(graph, version, is_exact))
    ends = reader.read_graph()
    if is_exact:
        return reader, ends
    # a sum or product becomes part of a longer one only where nothing else reads it, and what
    # reads it is known after the first reading alone
    reader = Reader(graph, Terms(graph, version, is_exact), reader.find_unshared_operands(ends))
    return reader, reader.read_graph()


def _write_form(graph: Graph, reader: Reader, ends: Sequence[Term]) -> Form:
    outputs = graph.model.graph.output
    taken = [v.name for v in (*graph.required_inputs, *outputs)]
    writer = FormWriter(reader.terms, reader.labels, taken)
    try:
        model = writer.write_model(graph.required_inputs, list(zip(outputs, ends, strict=True)))
    except MISFIT_ERRORS as error:
        what = " ".join(str(error).split())
        raise NoNormalFormError(
            f"{graph.name}: cannot be written in normal form ({what})"
        ) from error
    known = [v for v in reader.environment.declared_values if v.term_id in writer.names]
    values = {v.name: writer.names[v.term_id] for v in known}
    declared: dict[str, list[TypeProto]] = {}
    for value in reader.environment.declared_values:
        if value.name in values:
            declared.setdefault(values[value.name], []).append(value.type)
    return Form(
        Graph(model, graph.path, given_states=graph.settled_states),
        graph,
        writer.leaves,
        tuple(writer.places),
        values,
        declared,
    )


def list_declarations(graph: Graph, stated: StatedLengths) -> list[Declaration]:
    """List everything that a file declares of its values, with what follows from the nodes.

    Args:
        graph: the graph of the file.
        stated: what is stated of the lengths of its inputs; those of one name are equal.

    Raises:
        NoNormalFormError: if an output cannot be read.
    """
    names = {place: name for place, name in stated.items() if isinstance(name, str)}
    reader = Reader(graph, Terms(graph, choose_version(graph), False, names), is_lenient=True)
    try:
        reader.read_graph()
    except (MemoryError, RecursionError) as error:
        raise NoNormalFormError(f"{graph.name}: too large or too deep to be read") from error
    return reader.environment.declarations
