"""The short way through stages 2 and 3: suspects whose weights are the reference's, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..errors import make_nan_error
from ..graph.model import WeightMapping
from ..groups.permutations import Arrays, compose_axes, list_moved_slots
from ..matching.exact.comparison import Sides, compare_all
from ..matching.exact.search import find_order
from ..matching.matches import Match
from .options import Options
from .pairing import Pairing
from .result import Diagnosis


def diagnose_exact_copy(pairing: Pairing, options: Options) -> Diagnosis | None:
    """Find the order of a suspect whose weights are the reference's up to that order.

    A few elements of each row say what the order is. Then every weight is compared in it, whole.

    Args:
        pairing: the two models.
        options: which evidence is used; the paper's has its own way.

    Returns:
        The diagnosis; None where the suspect is no such copy, or where this way does not show it.

    Raises:
        LadyError: a weight holds NaN.
    """
    link = pairing.link
    is_whole = pairing.extension is None and pairing.common is None and link.has_same_layout
    if not is_whole or options.evidence != "all":
        return None
    ours = WeightMapping(pairing.names, link.reference.array)
    theirs = WeightMapping(pairing.names, link.array)
    if any(ours[n].dtype != theirs[n].dtype or ours[n].shape != theirs[n].shape for n in ours):
        return None
    found = find_order(pairing.symmetry.groups, ours, theirs)
    if found is None:
        return None
    moved = _compare_weights(pairing, found, ours, theirs)
    if moved is None:
        return None
    aligned = link.suspect.copy()
    for name in moved:
        # equal bit for bit: the reference's are there already
        link.replace(aligned, name, ours[name])
    weights = WeightMapping(pairing.names, lambda name: link.array(name, aligned))
    written = link.written(aligned)
    ones = {g.id: np.ones(g.size) for g in pairing.symmetry.groups}
    matches = tuple(
        replace(Match.in_place(name, len(one)), permutation=found[name])
        for name, one in ones.items()
    )
    every = np.concatenate(list(ones.values()) or [np.ones(1)])
    return Diagnosis(
        findings=(),
        aligned=written,
        result=written,
        weights=weights,
        symmetry=pairing.symmetry,
        matches=matches,
        certainty=every,
        similarity=every,
        differences={},
        restored=True,
        alterations={},
        apart=link.apart,
        alike=link.alike,
        bits=link.bits,
    )


def _compare_weights(
    pairing: Pairing,
    found: Mapping[str, np.ndarray],
    ours: Arrays,
    theirs: Arrays,
) -> list[str] | None:
    """Compare all weights in an order.

    Args:
        pairing: the two models.
        found: by group where each unit of the reference lies.
        ours, theirs: the weights of the reference and of the suspect.

    Returns:
        The weights of which something moved; None where a weight differs.

    Raises:
        LadyError: a weight holds NaN.
    """
    slots = list_moved_slots(pairing.symmetry.groups, found)

    def take(name: str) -> Sides:
        its, moved = theirs[name], slots.get(name, [])
        orders = compose_axes(moved, its.shape)
        if orders is None:
            its, orders = np.array(its), {}
            for slot, permutation in moved:
                slot.permute(its, permutation)
        return ours[name], its, orders

    are_equal, odd = compare_all(pairing.names, take)
    if odd is not None:
        raise make_nan_error(pairing.reference.name, odd)
    return list(slots) if are_equal else None
