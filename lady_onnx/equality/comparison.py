"""TODO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import ArchitectureError
from ..graph.model import Graph
from ..semantics.declarations import StatedLengths
from .findings import Difference
from .walk import Walk


@dataclass(frozen=True)
class Pairing:
    """Two graphs, side by side.

    Attributes:
        weights: the pairs of weights, by name, that stand for each other somewhere, in the order of the walk.
        differences: where the graphs part; none where they say one program, whatever the values of the weights.
        declared: the values of which the suspect declares what the reference does not; it has to follow from the nodes.
        said: what the reference says of the lengths of the suspect's values.
        values: by a value of the suspect, without the prefix of its body, one of the reference's that it is.
    """

    weights: tuple[tuple[str, str], ...]
    differences: tuple[Difference, ...]
    declared: frozenset[str] = frozenset()
    said: StatedLengths = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def one_to_one(self) -> dict[str, str] | None:
        """The suspect's weight by the reference's; None where one stands for several."""
        names, back = dict(self.weights), {b: a for a, b in self.weights}
        return names if len(names) == len(back) == len(self.weights) else None


def pair_graphs(reference: Graph, suspect: Graph, sizes: bool = True) -> Pairing:
    """Walks two graphs side by side.

    Args:
        reference, suspect: the graphs.
        sizes: whether the lengths of axes count; without, weights may be longer or shorter, and numbers of groups of
            channels and of heads others.
    """
    walk = Walk(reference, suspect, sizes)
    walk.run()
    return Pairing(
        tuple(walk.weights),
        tuple(walk.differences),
        frozenset(walk.declared),
        walk.said,
        walk.values,
    )


def pair_weights(reference: Graph, suspect: Graph, sizes: bool = True) -> dict[str, str]:
    """For every weight of the reference that is read the name of the suspect's.

    Raises ArchitectureError with the place where the graphs part.
    """
    found = pair_graphs(reference, suspect, sizes)
    if found.differences:
        raise make_parting_error(reference, suspect, found.differences[0])
    names = found.one_to_one
    if names is None:
        raise make_parting_error(reference, suspect, find_shared_weight(found))
    return names


def find_shared_weight(pairing: Pairing) -> Difference:
    """The first weight that stands for several of the other side."""
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
    """The error that says where two graphs part."""
    return ArchitectureError(
        f"{suspect.name}: another architecture than {reference.name}: {difference}; "
        "compare models exported from the same network"
    )
