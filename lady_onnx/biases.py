"""Biases that may be changed without changing what a model computes: those that a softmax forgets, and pairs that cancel.

The bias of keys adds the same to every score of a query. What the bias of values adds to all of them passes the weighted
mean as it is, and the bias behind takes it back; so does any bias behind another with nothing but sums between. Both are
biases of units that meet nothing but sums, so that what they add hangs on no input; that no more hangs on them the reference
has to show: it computes the same with large random ones, of both signs, which no one chose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .alterations import floating
from .evidence import finite, same
from .graph import Graph, captured
from .groups import Group, Slot
from .inference import FLOATS
from .outcome import alike
from .rewrite import Arrays
from .scaling import Scaling

FEW = 0.25
"""Where more of the weights differ than this share, none of them is tried."""
LARGE = 5.0
"""Weights are tried with values of this deviation, in units of their largest."""
NEAR = 4e-6
"""What a bias takes back it takes back to the rounding of what went in."""
MOST = 30
"""It takes back no more than so many times itself."""
Scalings = Callable[[], Mapping[str, Scaling]]


def _changed(graph: Graph, reference: Arrays, suspect: Arrays) -> list[str]:
    """Weights with one axis that differ, where few do and a model's outputs can be compared."""
    apart = [n for n, a in reference.items() if floating(a) and not same(a, suspect[n])]
    kinds = (v.type.tensor_type.elem_type for v in graph.model.graph.output)
    if len(apart) > FEW * len(reference) or any(k not in FLOATS for k in kinds):
        return []
    return [n for n in apart if reference[n].size == max(reference[n].shape, default=0) > 1]


def _drawn(count: int, *arrays: np.ndarray) -> np.ndarray:
    """So many values that are large beside all that these hold: also beside what a suspect chose."""
    return np.random.default_rng(0).normal(0, LARGE * max(1.0, *(float(np.abs(finite(a)).max()) for a in arrays)), count)


def _straight(groups: Sequence[Group], scalings: Scalings) -> list[Group]:
    """The groups whose units meet nothing but sums."""
    known = ((g, scalings().get(g.id)) for g in groups)
    return [g for g, s in known if s is not None and s.linear and not s.turned]


def inert(graph: Graph, groups: Sequence[Group], scalings: Scalings, reference: Arrays, suspect: Arrays) -> list[str]:
    """Weights with one axis that differ where the function does not depend on them: the bias of keys in attention.

    Args:
        graph: the reference.
        groups, scalings: its groups, and what gives the factors that their units may have.
        reference, suspect: the weights by the same names, all units in place.
    """
    found = []
    apart = _changed(graph, reference, suspect)
    slots = [s for g in (_straight(groups, scalings) if apart else ()) for s in g.slots]
    for name in apart:
        array = graph.array(name)
        where = ~np.isclose(finite(array), finite(suspect[name]), rtol=1e-5)
        free = np.zeros(array.shape, bool)
        for slot in slots:
            if slot.initializer == name:
                free[slot.region(array.shape)] = True
        if not where.any() or (where & ~free).any():
            continue
        twins = []
        for sign in (1, -1):
            changed = array.copy()
            changed[where] = (sign * _drawn(int(where.sum()), array, suspect[name])).astype(array.dtype)
            twins.append(graph.copy())
            twins[-1].replace(name, changed)
        if all(alike(graph, twin, 2, 0) for twin in twins):
            found.append(name)
    return found


def shifted(
    graph: Graph, groups: Sequence[Group], scalings: Scalings, reference: Arrays, suspect: Arrays
) -> list[tuple[str, str]]:
    """Pairs of biases that differ, of which the second takes back what the first adds; arguments as of `inert`."""
    apart = _changed(graph, reference, suspect)
    pairs: dict[tuple[str, str], list[tuple[Slot, Slot]]] = {}
    for group in _straight(groups, scalings) if len(apart) > 1 else ():
        known = scalings()[group.id]
        read = {s.initializer for s, made in zip(known.slots, known.incoming, strict=True) if not made}
        if len(read) != 1:
            # one bias takes nothing back from two readers
            continue
        readers = [s for s in group.slots if s.initializer in read and reference[s.initializer].ndim > 1 and s.axis < 2]
        for one in group.slots:
            for other in readers if one.initializer in set(apart) - read else ():
                if floating(reference[other.initializer]) and one.index.shape[1] <= other.index.shape[1]:
                    pairs.setdefault((one.initializer, other.initializer), []).append((one, other))
    found = []
    for (bias, weight), slots in pairs.items():
        gap = suspect[bias].astype(np.float64).ravel() - reference[bias].astype(np.float64).ravel()
        behind, size = _passed(slots, gap, reference[weight])
        for last in apart:
            if last == bias or reference[last].size != behind.size or not behind.any() or not _added(graph, weight, last):
                continue
            ours, theirs = (a[last].astype(np.float64).ravel() for a in (reference, suspect))
            # a step that is too large would hide what else was done to the bias in its own rounding
            if size > MOST * np.abs(ours).max() or np.abs(theirs - ours + behind).max() > NEAR * max(size, np.abs(ours).max()):
                continue
            twins = []
            for sign in (1, -1):
                drawn = sign * _drawn(gap.size, reference[bias], gap) * (gap != 0)
                twin = graph.copy()
                for name, step in ((bias, drawn), (last, -_passed(slots, drawn, reference[weight])[0])):
                    array = graph.array(name)
                    twin.replace(name, (array.astype(np.float64) + step.reshape(array.shape)).astype(array.dtype))
                twins.append(twin)
            if all(alike(graph, twin, 2, 0) for twin in twins):
                found.append((bias, last))
    return found


def _added(graph: Graph, weight: str, bias: str) -> bool:
    """Is a bias added to the product with a weight, and are both read nowhere else?"""
    for node in graph.nodes:
        if weight in node.input:
            behind = [n for n in graph.nodes if node.output[0] in n.input and n.op_type == "Add"]
            there = [n for n in graph.nodes if bias in [*n.input, *captured(n)]]
            alone = sum(weight in [*n.input, *captured(n)] for n in graph.nodes) == 1
            return alone and len(there) == 1 and (there[0] is node or any(there[0] is n for n in behind))
    return False


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
