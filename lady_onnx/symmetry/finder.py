"""From the facts of a graph to its groups of interchangeable units: the stages, in order.

Equal labels become classes (`classes`), some of which are pinned (`pinning`). Colour refinement
(`colouring`) tells apart what cannot be interchangeable, and proposes candidates (`candidates`).
Those that are symmetric are accepted (`acceptance`) and named (`naming`).
"""

from __future__ import annotations

from ..dataflow.engine import Analysis
from ..groups.model import Symmetry
from .acceptance import accept_candidates
from .candidates import list_candidates
from .classes import merge_labels
from .colouring import colour_classes
from .incidence import index_incidence
from .naming import list_pins, name_groups, order_groups, unfold_groups
from .pinning import pin_classes, pin_lone_children
from .run_folding import Fold, UnfoldingError, fold_runs, keep_runs


def extract_groups(analysis: Analysis) -> Symmetry:
    """Find the groups and pins that the facts of a graph amount to.

    The facts are folded first: the cost is then one of the graph, not of its widths. Where units do
    not lie in runs that can be folded, all labels are kept.

    Args:
        analysis: what the label engine found.

    Returns:
        The groups, inner ones first, and the pins.
    """
    try:
        return find_symmetry(fold_runs(analysis))
    except UnfoldingError:
        # folding saves time and nothing else: without it every label is looked at
        return find_symmetry(keep_runs(analysis))


def find_symmetry(fold: Fold) -> Symmetry:
    """Find the groups and pins of a folded graph.

    Raises:
        UnfoldingError: the units of a group do not lie as the fold has them.
    """
    classed = merge_labels(fold)
    causes = pin_classes(classed)
    colouring = colour_classes(classed, causes)
    incidence = index_incidence(classed, colouring)
    candidates = list_candidates(incidence, causes)
    accepted = accept_candidates(incidence, candidates, causes)
    ordered = order_groups(classed, accepted.groups, colouring.colours)
    pin_lone_children(
        accepted.causes, [g.units for g in accepted.groups], classed.congruence.relations
    )
    groups, states = name_groups(incidence, unfold_groups(classed, ordered))
    return Symmetry(
        groups=groups,
        pinned=list_pins(classed, accepted.causes),
        unknown_operators=tuple(sorted(fold.analysis.unknown)),
        states=states,
    )
