"""Biases that may be changed without changing what a model computes: those that a softmax forgets, and pairs that cancel.

The bias of keys adds the same to every score of a query. What the bias of values adds to all of them passes the weighted
mean as it is, and the bias behind takes it back; so does any bias behind another with nothing but sums between. That
nothing else comes of it is proven, step by step (`gains`): a mask that multiplies scores or probabilities stands in the way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dataflow.engine import analyse_graph
from ..dataflow.plainsteps import PlainSteps, list_plain_steps
from ..graph.model import Graph
from ..groups.permutations import Arrays
from ..numerics import as_finite, is_float_array, is_same
from .gain_walk import GainWalk
from .gains import MAX_TAKEN_BACK, Gain

MAX_CHANGED_SHARE = 0.25
"""Where more of the weights differ than this share, none of them is tried."""


def _list_changed(reference: Arrays, suspect: Arrays) -> list[str]:
    """Weights with one axis that differ, where few do."""
    apart = [n for n, a in reference.items() if is_float_array(a) and not is_same(a, suspect[n])]
    if len(apart) > MAX_CHANGED_SHARE * len(reference):
        return []
    return [n for n in apart if reference[n].size == max(reference[n].shape, default=0) > 1]


def _make_gain(reference: Arrays, suspect: Arrays, name: str) -> Gain:
    """What is added to a bias."""
    ours, theirs = (as_finite(a[name]).astype(np.float64) for a in (reference, suspect))
    size = float(np.abs(ours).max())
    return Gain(theirs - ours, size=size, max_taken_back=MAX_TAKEN_BACK * size)


def find_inert_biases(graph: Graph, reference: Arrays, suspect: Arrays) -> list[str]:
    """Weights with one axis that differ where the function does not depend on them: the bias of keys in attention.

    Args:
        graph: the reference.
        reference, suspect: the weights by the same names, all units in place.
    """
    apart = _list_changed(reference, suspect)
    plain = list_plain_steps(graph, analyse_graph(graph)) if apart else None
    found = []
    for name in apart:
        gain = _make_gain(reference, suspect, name)
        # what is rounded alone is no step
        step = np.where(
            np.isclose(gain.array, 0, atol=1e-5 * np.abs(as_finite(reference[name]))), 0, gain.array
        )
        if (
            plain is not None
            and step.any()
            and GainWalk(plain, {name: gain.with_array(step)}).leaves_outputs()
        ):
            found.append(name)
    return found


def find_cancelling_biases(
    graph: Graph, reference: Arrays, suspect: Arrays
) -> list[tuple[str, str]]:
    """Pair of biases that differ, of which the second takes back what the first adds; arguments as of `find_inert_biases`."""
    apart = _list_changed(reference, suspect)
    return (
        _find_pairs(list_plain_steps(graph, analyse_graph(graph)), apart, reference, suspect)
        if len(apart) > 1
        else []
    )


def _find_pairs(
    plain: PlainSteps, apart: Sequence[str], reference: Arrays, suspect: Arrays
) -> list[tuple[str, str]]:
    gains = {name: _make_gain(reference, suspect, name) for name in apart}
    found = []
    for name in apart:
        alone = GainWalk(plain, {name: gains[name]})
        alone.leaves_outputs()
        for last in dict.fromkeys(alone.met_biases):
            if (
                last in gains
                and last != name
                and GainWalk(plain, {n: gains[n] for n in (name, last)}).leaves_outputs()
            ):
                found.append((name, last))
    return found
