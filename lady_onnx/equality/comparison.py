"""Total equality of two graphs, and which weight of one is which of the other.

Weights are equal as far as this goes: they are paired, and whoever asks compares their values,
whole. How the graphs are walked is in `walk`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from ..errors import ArchitectureError
from ..graph.model import Graph
from ..semantics.declarations import StatedLengths
from .findings import Difference
from .validity import find_fault_of_one, list_versions
from .walk import Walk


@dataclass(frozen=True)
class GraphComparison:
    """Two graphs, side by side.

    Attributes:
        weights: the pairs of weights, by name, that stand for each other somewhere, in the order of
            the walk.
        differences: where the graphs part; none where they say one program, whatever the values of
            the weights.
        doubted: the values of which the suspect declares what the reference does not; it has to
            follow from the nodes.
        stated: what the reference states of the lengths of the suspect's values.
        values: a value of the reference for every value of the suspect that was met, without the
            prefixes of bodies.
    """

    weights: tuple[tuple[str, str], ...]
    differences: tuple[Difference, ...]
    doubted: frozenset[str] = frozenset()
    stated: StatedLengths = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def one_to_one(self) -> dict[str, str] | None:
        """The suspect's weight by the reference's; None where a weight stands for several."""
        # the pairs are distinct: as many names on each side, and none is in two pairs
        names, back = dict(self.weights), {b: a for a, b in self.weights}
        return names if len(names) == len(back) == len(self.weights) else None


def are_written_alike(reference: Graph, suspect: Graph) -> bool:
    """Tell whether two files say the same in the same words, but for the numbers in their weights.

    It takes a small part of the time of a walk, which has to compare what says the same otherwise.
    """
    return _list_words(reference) == _list_words(suspect)


def _list_words(graph: Graph) -> list[object]:
    """List all that a file says, but for the numbers in the weights of its main graph."""
    words: list[object] = [
        (t.name, t.data_type, tuple(t.dims)) for t in graph.model.graph.initializer
    ]
    # whatever field there is, so that none is left out that nobody thought of
    for owner, apart in ((graph.model, "graph"), (graph.model.graph, "initializer")):
        words += [(f.name, _serialize(v)) for f, v in owner.ListFields() if f.name != apart]
    return words


def _serialize(value: Any) -> object:
    """Return what a field holds, messages as bytes: else zeros of either sign would be equal."""
    if isinstance(value, Message):
        return value.SerializeToString(deterministic=True)
    is_plain = isinstance(value, str | bytes | int | float)
    return value if is_plain else [_serialize(v) for v in value]


def pair_graphs(reference: Graph, suspect: Graph, with_sizes: bool = True) -> GraphComparison:
    """Walk two graphs side by side, and pair their weights.

    Args:
        reference, suspect: the graphs.
        with_sizes: whether the lengths of axes count. If not, weights may be longer or shorter, and
            the numbers of groups of channels and of heads may differ.
    """
    found = Walk(reference, suspect, with_sizes).run()
    if not found.differences and list_versions(reference) != list_versions(suspect):
        fault = find_fault_of_one(reference, suspect)
        if fault:
            found.add_difference("the operator sets", fault)
    return GraphComparison(
        tuple(found.weights),
        tuple(found.differences),
        frozenset(found.doubted),
        found.stated,
        found.values,
    )


def pair_weights(reference: Graph, suspect: Graph, with_sizes: bool = True) -> dict[str, str]:
    """Pair the weights of two graphs one to one.

    Args:
        reference, suspect: the graphs.
        with_sizes: whether the lengths of axes count.

    Returns:
        The suspect's weight for every weight of the reference that is read.

    Raises:
        ArchitectureError: if the graphs part; the message says where.
    """
    found = pair_graphs(reference, suspect, with_sizes)
    if found.differences:
        raise make_parting_error(reference, suspect, found.differences[0])
    names = found.one_to_one
    if names is None:
        raise make_parting_error(reference, suspect, find_shared_weight(found))
    return names


def find_shared_weight(pairing: GraphComparison) -> Difference:
    """Find the first weight that stands for several of the other side; there must be one."""
    names: dict[str, str] = {}
    back: dict[str, str] = {}
    for a, b in pairing.weights:
        if names.setdefault(a, b) != b or back.setdefault(b, a) != a:
            return Difference(
                f"weight '{b}'",
                f"it and '{a}' stand for each other in one place, and not in another",
                True,
            )
    raise AssertionError(pairing)


def make_parting_error(
    reference: Graph, suspect: Graph, difference: Difference
) -> ArchitectureError:
    """Make the error that says where two graphs part."""
    return ArchitectureError(
        f"{suspect.name}: another architecture than {reference.name}: {difference}; "
        "compare models exported from the same network"
    )
