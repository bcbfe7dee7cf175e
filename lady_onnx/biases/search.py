"""Finds biases that were changed without changing what a model computes, alone or in pairs.

The bias of keys adds the same number to every score of a query, and the softmax does not see it.
The bias of values adds the same to all values; their weighted mean passes that on as it is, and the
bias behind it may cancel it. So may any bias that follows another with only sums between them. That
no output changes is proven node by node (`gain_walk`). The proof fails, for example, where a mask
multiplies scores or probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dataflow.engine import analyse_graph
from ..dataflow.plainsteps import PlainSteps, list_plain_steps
from ..graph.model import Graph
from ..groups.permutations import Arrays
from ..numerics import as_finite, is_float_array, is_same
from .gain_walk import prove_outputs_kept
from .gains import MAX_TAKEN_BACK, Gain

MAX_CHANGED_SHARE = 0.25
"""Where more than this share of the weights differ, no bias is tried.

Whoever trains or noises a model changes nearly all of them, and each try is a walk over the graph.
"""
STEP_TOLERANCE = 1e-5
"""Elements of a bias that differ by no larger share of themselves were rounded, not changed."""


def _list_changed_biases(reference: Arrays, suspect: Arrays) -> list[str]:
    """List the weights along one axis that differ; none where too many weights differ.

    Other axes may have length one. Weights of a single element are left out.
    """
    apart = [n for n, a in reference.items() if is_float_array(a) and not is_same(a, suspect[n])]
    if len(apart) > MAX_CHANGED_SHARE * len(reference):
        return []
    biases = [n for n in apart if reference[n].size == max(reference[n].shape, default=0) > 1]
    # Behind an infinity there is nothing that a softmax or another bias could take back.
    return [n for n in biases if all(np.isfinite(a[n]).all() for a in (reference, suspect))]


def _make_gain(reference: Arrays, suspect: Arrays, name: str) -> Gain:
    """Return what was added to a bias."""
    ours, theirs = (a[name].astype(np.float64) for a in (reference, suspect))
    step = theirs - ours
    own = float(np.abs(ours).max())
    # The bias takes back no more than a multiple of what it was, whatever the suspect made of it.
    size = max(own, float(np.abs(step).max()))
    return Gain(step, size=size, max_taken_back=MAX_TAKEN_BACK * own)


def find_inert_biases(graph: Graph, reference: Arrays, suspect: Arrays) -> list[str]:
    """Find biases that differ although the function does not depend on them: those of keys.

    Args:
        graph: the reference.
        reference: its weights by name.
        suspect: the suspect's weights by the same names, with all units in place.

    Returns:
        The names of weights with one axis.
    """
    apart = _list_changed_biases(reference, suspect)
    if not apart:
        return []
    plain = list_plain_steps(graph, analyse_graph(graph))
    found = []
    for name in apart:
        gain = _make_gain(reference, suspect, name)
        # The size of an own bias of zeros is not known. One stands for it, as norms make keys so.
        if gain.size > (gain.max_taken_back or MAX_TAKEN_BACK):
            continue
        # What rounding changed is no step: factors that were undone leave such rests everywhere.
        room = STEP_TOLERANCE * np.abs(as_finite(reference[name]))
        step = np.where(np.isclose(gain.array, 0, atol=room), 0, gain.array)
        if step.any() and prove_outputs_kept(plain, {name: gain.with_array(step)}).is_complete:
            found.append(name)
    return found


def find_cancelling_biases(
    graph: Graph, reference: Arrays, suspect: Arrays
) -> list[tuple[str, str]]:
    """Find pairs of biases that differ, the second of which cancels what the first adds.

    Args:
        graph: the reference.
        reference: its weights by name.
        suspect: the suspect's weights by the same names, with all units in place.

    Returns:
        Pairs of names of weights with one axis.
    """
    apart = _list_changed_biases(reference, suspect)
    if len(apart) < 2:
        return []
    plain = list_plain_steps(graph, analyse_graph(graph))
    return _find_pairs(plain, apart, reference, suspect)


def _find_pairs(
    plain: PlainSteps, apart: Sequence[str], reference: Arrays, suspect: Arrays
) -> list[tuple[str, str]]:
    """Find pairs among some changed biases, see `find_cancelling_biases`."""
    gains = {name: _make_gain(reference, suspect, name) for name in apart}
    found = []
    for name in apart:
        # The first walk fails, but shows which biases the gain meets before it does. Only these can
        # cancel it, and to try them takes fewer walks than to try all pairs.
        alone = prove_outputs_kept(plain, {name: gains[name]})
        for last in dict.fromkeys(alone.met_biases):
            if (
                last in gains
                and last != name
                and prove_outputs_kept(plain, {n: gains[n] for n in (name, last)}).is_complete
            ):
                found.append((name, last))
    return found
