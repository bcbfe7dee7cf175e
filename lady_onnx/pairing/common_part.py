"""Finds the largest part that two graphs share which are not one program."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..graph.model import Graph
from ..normalform.algebra.term import NoNormalFormError
from ..normalform.form import Form, build_normal_form, choose_version
from .common_nodes import CommonNodes, pair_common_nodes
from .links import Link, Place
from .programs import Program

LARGE_SHARE = 0.9
"""If more weights than this are common as the files are written, normal forms are not looked at.

It is a share of the weights of the model that has fewer.
"""
MIN_FORM_GAIN = 0.05
"""Normal forms are used only if they have this much more in common.

People know the names in their files.
"""


@dataclass(frozen=True)
class CommonPart:
    """The part that two graphs share.

    Attributes:
        link: which weight of the part is which in both; `apart` says where the graphs part.
        ours, theirs: the number of elements of all weights of the reference, and of the suspect,
            without constants that say where elements go.
    """

    link: Link
    ours: int
    theirs: int

    @property
    def elements(self) -> int:
        """The number of elements of the reference's weights that are common."""
        return sum(self.link.reference.array(name).size for name in self.link.places)

    @property
    def share(self) -> float:
        """The share of weights that are common, of the model that has fewer; 0 to 1."""
        return self.elements / max(min(self.ours, self.theirs), 1)


def find_common_part(reference: Graph, suspect: Graph) -> CommonPart | None:
    """Find the largest part that two graphs share; None where they share no weight.

    They are looked at as they are written, and in their normal forms if these have more in common.
    """
    found = _compare_graphs(reference, suspect, True)
    if found is not None and found.share >= LARGE_SHARE:
        return found
    try:
        version = choose_version(reference, suspect)
        forms = build_normal_form(reference, version), build_normal_form(suspect, version)
    except NoNormalFormError:
        return found
    formed = _compare_graphs(forms[0].graph, forms[1].graph, True, forms)
    if found is None or (formed is not None and formed.share > found.share + MIN_FORM_GAIN):
        return formed
    return found


def find_part_of_other_sizes(reference: Graph, suspect: Graph) -> CommonPart | None:
    """Find the largest part that two graphs share if the lengths of axes do not count.

    They are looked at as they are written.

    Returns:
        The part; None where nothing is shared, or every two weights of it have one shape.
    """
    found = _compare_graphs(reference, suspect, False)
    if found is None:
        return None
    places = found.link.places.items()
    others = [(a, p.name) for a, p in places if reference.shape(a) != suspect.shape(p.name)]
    if not others:
        return None
    ours, theirs = reference.shape(others[0][0]), suspect.shape(others[0][1])
    first = f"weight '{others[0][1]}' has shape {list(theirs)}, the reference's {list(ours)}"
    return replace(found, link=replace(found.link, apart=(first, *found.link.apart)))


def _compare_graphs(
    reference: Graph, suspect: Graph, with_sizes: bool, forms: tuple[Form, Form] | None = None
) -> CommonPart | None:
    """Find the part that two graphs share, as they stand."""
    inputs = _pair_inputs(reference, suspect)
    one, two = (
        Program(graph, names, with_sizes)
        for graph, names in zip((reference, suspect), inputs, strict=True)
    )
    nodes = pair_common_nodes(one, two)
    places = _pair_weights(one, two, nodes)
    if not places:
        return None
    apart = (_describe_parting(one, two, nodes),)
    link = Link(reference, suspect, places, False, apart, False, forms)
    return CommonPart(
        link,
        _count_elements(one),
        _count_elements(two),
    )


def _pair_inputs(reference: Graph, suspect: Graph) -> tuple[list[str], list[str]]:
    """Order the inputs of two graphs so that those that belong to each other come first.

    Inputs of one name belong to each other. Of the others those of one type do, in their order.
    """
    ours, theirs = (
        {v.name: v.type.tensor_type.elem_type for v in graph.required_inputs}
        for graph in (reference, suspect)
    )
    pairs = [(name, name) for name in ours if name in theirs]
    left = [name for name in theirs if name not in ours]
    for name, kind in ours.items():
        twin = next((other for other in left if theirs[other] == kind), None)
        if name not in theirs and twin is not None:
            pairs.append((name, twin))
            left.remove(twin)
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    # inputs without a counterpart must not be taken for each other's by their number
    gap = [""] * sum(name not in first for name in ours)
    return (
        [*first, *(n for n in ours if n not in first)],
        [*second, *gap, *(n for n in theirs if n not in second)],
    )


def _pair_weights(one: Program, two: Program, nodes: CommonNodes) -> dict[str, Place]:
    """Pair the weights of nodes that are paired, one to one.

    Where a weight stands for several weights of the other side, the first one counts.
    """
    found: dict[str, Place] = {}
    taken: set[str] = set()
    for a in sorted(nodes.theirs):
        names = zip(one.list_weights(a), two.list_weights(nodes.theirs[a]), strict=True)
        for name, other in names:
            if name not in found and other not in taken and one.count_elements(name):
                found[name] = Place(other)
                taken.add(other)
    return found


def _count_elements(program: Program) -> int:
    """Count the elements of all weights that a program reads."""
    names = {name for number in range(len(program.nodes)) for name in program.list_weights(number)}
    return sum(map(program.count_elements, names))


def _describe_parting(one: Program, two: Program, nodes: CommonNodes) -> str:
    """Describe the first node at which two programs part, as the suspect calls it."""
    first = next((b for b in range(len(two.nodes)) if b not in nodes.ours), None)
    if first is None:
        left = next((a for a in range(len(one.nodes)) if a not in nodes.theirs), None)
        return (
            "an output" if left is None else f"the reference's {one.describe(left)}, which it lacks"
        )
    place = two.describe(first)
    other = next((a for a, b in nodes.parted if b == first and a not in nodes.theirs), None)
    if other is None or one.nodes[other].op_type != two.nodes[first].op_type:
        return place
    shapes = zip(one.list_weights(other), two.list_weights(first), strict=False)
    for name, twin in shapes:
        ours, theirs = one.graph.shape(name), two.graph.shape(twin)
        if ours != theirs:
            return (
                f"{place}, weight '{twin}' has shape {list(theirs)}, the reference's {list(ours)}"
            )
    return f"{place}, the reference's {one.describe(other).removeprefix('node ')} is another"
