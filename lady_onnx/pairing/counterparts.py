"""Two graphs of one network, weight by weight, whichever way each is written.

Files that say one program are paired as they are. Others are paired in other forms (`forms`), which
are loaded for them alone.
"""

from __future__ import annotations

from ..equality.comparison import pair_graphs, pair_weights
from ..errors import ArchitectureError
from ..graph.model import Graph
from .links import Link, make_places


def pair_models(reference: Graph, suspect: Graph) -> Link:
    """Find which weight of the suspect is which of the reference.

    Raises:
        ArchitectureError: if the weights cannot be paired; the message says where the graphs part.
    """
    plain = pair_graphs(reference, suspect)
    names = plain.one_to_one
    if not plain.differences and names is not None:
        apart: tuple[str, ...] = ()
        if plain.doubted:
            from .forms import list_unshown

            apart = list_unshown(suspect, plain.stated, plain.doubted, is_formed=False)
        return Link(reference, suspect, make_places(names), True, apart)
    from .forms import pair_forms

    return pair_forms(reference, suspect, plain)


def pair_by_name_alone(reference: Graph, suspect: Graph) -> dict[str, str] | None:
    """Pair the weights of graphs that differ in the lengths of axes, and in nothing else.

    Returns:
        The suspect's weight for every weight of the reference; None for any other two graphs.
    """
    try:
        names = pair_weights(reference, suspect, with_sizes=False)
    except ArchitectureError:
        return None
    return names if any(reference.shape(a) != suspect.shape(b) for a, b in names.items()) else None
