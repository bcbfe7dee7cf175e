"""The plain case of an operator, in which nothing is an array: labels that follow each other along single axes.

Most tensors have along each axis one line of labels that stand in their own order, or positions. What an operator says
of such lines does not depend on how long they are. It says the same as `ties` would; where anything else meets,
the caller must go that way.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from ..rules import Reshape, Step, Take, Transpose
from .equations import SolvedEquation
from .labels import ADDRESSES, Facts, LabelRun, Role, find_run_start, find_varying_axes
from .tensors import Tensor, move_shape

Axes = Sequence[Sequence[Hashable]]
"""For every operand the name of each of its axes; None for an axis of one."""


class Labelled(Protocol):
    """What is known so far: the facts, and the roles of the weights."""

    facts: Facts
    weights: dict[str, list[Role]]


def combine_elementwise(
    out: Labelled, operands: Sequence[Tensor], shape: tuple[int, ...]
) -> Tensor | None:
    """The result of numpy's broadcasting; None where this is not a plain case."""
    rank = len(shape)
    axes: Axes = [
        [a + rank - len(o.shape) if n > 1 else None for a, n in enumerate(o.shape)]
        for o in operands
    ]
    order = {a: a for a in range(rank)}
    found = _meet(out, operands, axes, order, set(), set(), [frozenset()] * len(operands))
    if found is None:
        return None
    return Tensor(shape, reason=out.facts.reason, lines=tuple(found.get(a) for a in range(rank)))


def apply_equation(
    out: Labelled, operands: Sequence[Tensor | None], solved: SolvedEquation
) -> list[Tensor] | None:
    """The results of an equation; None where this is not a plain case."""
    if solved.single is None:
        return None
    how = solved.how
    axes, ends = solved.single
    order = {n: k for k, n in enumerate(solved.sizes)}
    # an operand that is contracted says what its axes are, by batch if there is one
    held = [
        frozenset(how.batch if s & how.gone and len(how.contracting) > 1 else ()) for s in how.named
    ]
    found = _meet(out, operands, axes, order, how.gone, how.pinned, held)
    if found is None:
        return None
    results = []
    for end, shape in zip(ends, solved.shapes, strict=True):
        lines = tuple(None if e is None else ADDRESSES if e[1] else found.get(e[0]) for e in end)
        results.append(Tensor(shape, reason=out.facts.reason, lines=lines))
    return results


def apply_movement(tensor: Tensor, steps: Sequence[Step]) -> Tensor | None:
    """A tensor whose elements move; None where this is not a plain case."""
    line, shape = tensor.lines, tensor.shape
    if line is None:
        return None
    for step in steps:
        after = move_shape(shape, step)
        if isinstance(step, Transpose):
            line = tuple(line[a] for a in step.order)
        elif isinstance(step, Reshape):
            if [n for n in shape if n > 1] != [n for n in after if n > 1]:
                return None
            long = iter([x for x, n in zip(line, shape, strict=True) if n > 1])
            line = tuple(next(long) if n > 1 else None for n in after)
        elif isinstance(step, Take):
            start = find_run_start(step.index)
            if start is None:
                return None
            own = line[step.axis]
            own = (
                None
                if own is None or step.index.size == 1
                else own
                if own == ADDRESSES
                else own + start
            )
            line = (*line[: step.axis], own, *line[step.axis + 1 :])
        else:
            line = (None,) * (len(after) - len(shape)) + tuple(
                x if n > 1 else None for x, n in zip(line, shape, strict=True)
            )
        shape = after
    return Tensor(shape, reason=tensor.reason, lines=line)


def _meet(
    out: Labelled,
    operands: Sequence[Tensor | None],
    axes: Axes,
    order: dict,
    gone: set[str],
    pinned: set[str],
    held: Sequence[frozenset[str]],
) -> dict[Hashable, int] | None:
    """Ties the lines that meet under one name; the line of every name that is left, or None before anything is said."""
    entries: list[tuple[Hashable, int, int]] = []
    waiting: list[tuple[bool, str, list[tuple[Hashable, int, int]], int]] = []
    for i, (operand, own) in enumerate(zip(operands, axes, strict=True)):
        if operand is None:
            continue
        named = [x for x in own if x is not None]
        if len(set(named)) < len(named):
            return None
        if not operand.parts:
            if operand.lines is None:
                return None
            entries += [
                (x, line, n)
                for x, line, n in zip(own, operand.lines, operand.shape, strict=True)
                if line is not None
            ]
            continue
        if len(operand.parts) > 1:
            return None
        (part,) = operand.parts
        if (
            not part.plain
            or part.weight in out.weights
            or any(w == part.weight for _, w, _, _ in waiting)
        ):
            return None
        places = [
            (find_varying_axes(index)[0], a)
            for a, index in enumerate(part.index)
            if index is not None
        ]
        spans = sorted(
            ((own[t], a, operand.shape[t]) for t, a in places), key=lambda s: order[s[0]]
        )
        if any(x in held[i] for x, _, _ in spans) and any(
            x not in held[i] and x not in pinned for x, _, _ in spans
        ):
            return None
        # what it makes, or reads, along two axes has an order of the one at every place of the other
        free = [x in gone for x, _, _ in spans if x not in pinned]
        if any(free) and max(sum(free), len(free) - sum(free)) > 1:
            return None
        waiting.append((gone.isdisjoint(named), part.weight, spans, len(part.index)))
    facts = out.facts
    for _, weight, spans, rank in sorted(waiting, key=lambda w: w[0]):
        roles: list[Role] = []
        for x, a, n in spans:
            start = facts.born(n)
            roles.append(LabelRun(start, n, a, rank))
            entries.append((x, start, n))
        out.weights[weight] = roles
    met: dict[Hashable, list[int]] = {}
    size: dict[Hashable, int] = {}
    for x, line, n in entries:
        lines = met.setdefault(x, [])
        size[x] = n
        if line not in lines:
            lines.append(line)
        if line != ADDRESSES and x in pinned:
            facts.pin_line(
                LabelRun(line, n), facts.reason if facts.reason != "graph input" else "position"
            )
        if line != ADDRESSES and (x in pinned or x in gone):
            facts.read.append(LabelRun(line, n))
    found: dict[Hashable, int] = {}
    for x, lines in met.items():
        labels = [s for s in lines if s != ADDRESSES]
        for other in labels[1:]:
            facts.tie_lines(LabelRun(labels[0], size[x]), LabelRun(other, size[x]))
        if labels and len(labels) < len(lines):
            facts.pin_line(LabelRun(labels[0], size[x]), facts.reason)
        if x not in gone and x not in pinned:
            found[x] = labels[0] if labels else ADDRESSES
    return found
