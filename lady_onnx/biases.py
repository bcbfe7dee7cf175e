"""Biases that may be changed without changing what a model computes: those that a softmax forgets, and pairs that cancel.

The bias of keys adds the same to every score of a query. What the bias of values adds to all of them passes the weighted
mean as it is, and the bias behind takes it back; so does any bias behind another with nothing but sums between. What the
graph suggests the reference has to show: it computes the same with large random biases, of both signs, which no one chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .alterations import floating
from .evidence import finite, same
from .graph import Graph, captured
from .groups import Group, Slot
from .inference import FLOATS
from .outcome import alike

FEW = 0.25
"""Where more of the weights differ than this share, none of them is tried."""
SOFTMAX = ("Softmax", "Attention", "MultiHeadAttention")
LARGE = 5.0
"""Weights are tried with values of this deviation, in units of their largest."""
NEAR = 1e-4
"""What a bias takes back it takes back to this share of what went in."""
Arrays = Mapping[str, np.ndarray]


def _changed(graph: Graph, reference: Arrays, suspect: Arrays) -> list[str]:
    """Weights with one axis that differ, where few do and a model's outputs can be compared."""
    apart = [n for n, a in reference.items() if floating(a) and not same(a, suspect[n])]
    kinds = (v.type.tensor_type.elem_type for v in graph.model.graph.output)
    if len(apart) > FEW * len(reference) or any(k not in FLOATS for k in kinds):
        return []
    return [n for n in apart if reference[n].size == max(reference[n].shape, default=0) > 1]


def _drawn(array: np.ndarray, count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, LARGE * max(float(np.abs(finite(array)).max()), 1.0), count)


def _into_softmax(graph: Graph, name: str) -> bool:
    """Does whatever a weight does pass a softmax? What other operators hide in some inputs, others show."""
    reached = {name}
    for node in graph.nodes:
        if node.op_type not in SOFTMAX and reached & {*node.input, *captured(node)}:
            reached.update(node.output)
    return not any(v.name in reached for v in graph.model.graph.output)


def inert(graph: Graph, reference: Arrays, suspect: Arrays) -> list[str]:
    """Weights with one axis that differ where the function does not depend on them: the bias of keys in attention."""
    found = []
    for name in _changed(graph, reference, suspect):
        array = graph.array(name)
        if not _into_softmax(graph, name):
            continue
        changed = array.copy()
        where = ~np.isclose(finite(array), finite(suspect[name]), rtol=1e-5)
        changed[where] = _drawn(array, int(where.sum())).astype(array.dtype)
        twin = graph.copy()
        twin.replace(name, changed)
        if where.any() and alike(graph, twin, 2, 0):
            found.append(name)
    return found


def shifted(graph: Graph, groups: Sequence[Group], reference: Arrays, suspect: Arrays) -> list[tuple[str, str]]:
    """Pairs of biases that differ, of which the second takes back what the first adds.

    Args:
        graph: the reference.
        groups: its groups.
        reference, suspect: the weights by the same names, all units in place.
    """
    apart = _changed(graph, reference, suspect)
    pairs: dict[tuple[str, str], list[tuple[Slot, Slot]]] = {}
    for group in (g for g in groups if g.kind != "blocks"):
        for one in group.slots:
            for other in group.slots if one.initializer in apart else ():
                array = reference[other.initializer]
                if array.ndim > 1 and floating(array) and other.axis < 2 and one.index.shape[1] <= other.index.shape[1]:
                    pairs.setdefault((one.initializer, other.initializer), []).append((one, other))
    found = []
    for (bias, weight), slots in pairs.items():
        gap = suspect[bias].astype(np.float64).ravel() - reference[bias].astype(np.float64).ravel()
        behind, size = _passed(slots, gap, reference[weight])
        for last in apart:
            if last == bias or reference[last].size != behind.size or not behind.any():
                continue
            taken = suspect[last].astype(np.float64).ravel() - reference[last].astype(np.float64).ravel()
            if np.abs(taken + behind).max() > NEAR * size:
                continue
            twin = graph.copy()
            drawn = _drawn(reference[bias], gap.size) * (gap != 0)
            for name, step in ((bias, drawn), (last, -_passed(slots, drawn, reference[weight])[0])):
                array = graph.array(name)
                twin.replace(name, (array.astype(np.float64) + step.reshape(array.shape)).astype(array.dtype))
            if alike(graph, twin, 2, 0):
                found.append((bias, last))
    return found


def _passed(slots: Sequence[tuple[Slot, Slot]], step: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """What steps of a bias add behind a weight, [outputs], and the size of its terms."""
    total: np.ndarray = np.zeros(1)
    size = 0.0
    for one, other in slots:
        front = np.moveaxis(weight.astype(np.float64), other.axis, 0)[other.index]
        by = step[one.index].mean(1).reshape(-1, *[1] * (front.ndim - 1))
        part = (by * front).sum((0, 1))
        total = total + part.reshape(len(part), -1).sum(1)
        size = max(size, float(np.abs(by * front).max(initial=0)))
    return total, size
