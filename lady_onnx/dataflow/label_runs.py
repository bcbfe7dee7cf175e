"""Unification of label runs: the common case of an operator, in which nothing is an array.

Most tensors have one run of consecutive labels along each axis, or addresses. What an operator says
of such runs does not depend on how long they are. The functions here say the same of them as
`labels.unification` would, and return None, before anything is said, where they meet something
else. The caller then takes the general way.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from .labels.equations import SolvedEquation
from .labels.facts import Facts
from .labels.roles import ADDRESSES, LabelRun, Role, find_varying_axes
from .labels.tensors import Part, Tensor
from .labels.weights import Labelling

AxisNames = Sequence[Sequence[Hashable]]
"""For every operand the name of each of its axes; None for an axis of one."""
RunsByName = dict[Hashable, int]
"""The first label of the run along every named axis, or `ADDRESSES`."""


class _Span(NamedTuple):
    """An axis of a weight that has no labels yet: its name in the equation, and its size."""

    name: Hashable
    axis: int
    size: int


class _Unlabelled(NamedTuple):
    """A weight that gets its labels from an operator. Contracted weights get theirs first.

    Attributes:
        is_kept: whether no axis of the weight is contracted.
        weight: the weight's name.
        spans: the axes along which it varies.
        rank: the number of its axes.
    """

    is_kept: bool
    weight: str
    spans: list[_Span]
    rank: int


class _Meeting(NamedTuple):
    """The axes that meet in one operator.

    Attributes:
        axes: the names of the operands' axes.
        order: the place of every name among all.
        gone: names that are contracted.
        pinned: names that keep their order.
        batch: for every operand the names of its batch; it has orders of its own at each place
            of that batch.
    """

    axes: AxisNames
    order: Mapping
    gone: set[str]
    pinned: set[str]
    batch: Sequence[frozenset[str]]


def unify_elementwise_runs(
    labelling: Labelling, operands: Sequence[Tensor], shape: tuple[int, ...]
) -> Tensor | None:
    """Broadcast operands to a result of `shape`; None where not all labels are runs."""
    rank = len(shape)
    axes: AxisNames = [
        [a + rank - len(o.shape) if n > 1 else None for a, n in enumerate(o.shape)]
        for o in operands
    ]
    order = {a: a for a in range(rank)}
    meeting = _Meeting(axes, order, set(), set(), [frozenset()] * len(operands))
    found = _unify_runs(labelling, operands, meeting)
    if found is None:
        return None
    return Tensor(
        shape, reason=labelling.facts.reason, run_starts=tuple(found.get(a) for a in range(rank))
    )


def unify_equation_runs(
    labelling: Labelling, operands: Sequence[Tensor | None], solved: SolvedEquation
) -> list[Tensor] | None:
    """Apply an equation to operands; None where not all labels are runs along one name each."""
    if solved.single is None:
        return None
    how = solved.how
    axes, ends = solved.single
    order = {n: k for k, n in enumerate(solved.sizes)}
    # as `equation_transfer._list_own_orders` says for arrays: an operand that is contracted decides
    # what its axes are, at every place of the batch if there is one
    batch = [
        frozenset(how.batch if s & how.gone and len(how.contracting) > 1 else ()) for s in how.named
    ]
    found = _unify_runs(labelling, operands, _Meeting(axes, order, how.gone, how.pinned, batch))
    if found is None:
        return None
    results = []
    for end, shape in zip(ends, solved.shapes, strict=True):
        starts = tuple(None if e is None else ADDRESSES if e[1] else found.get(e[0]) for e in end)
        results.append(Tensor(shape, reason=labelling.facts.reason, run_starts=starts))
    return results


def _unify_runs(
    labelling: Labelling, operands: Sequence[Tensor | None], meeting: _Meeting
) -> RunsByName | None:
    """Tie the runs that meet under one name.

    Returns:
        The run of every name that is left. None, before anything is said, where labels are no runs.
    """
    entries: list[tuple[Hashable, int, int]] = []
    waiting: list[_Unlabelled] = []
    for i, (operand, own) in enumerate(zip(operands, meeting.axes, strict=True)):
        if operand is None:
            continue
        named = [x for x in own if x is not None]
        if len(set(named)) < len(named):
            # a diagonal: one name along two axes of an operand
            return None
        if operand.parts:
            found = _find_unlabelled(labelling, operand, own, meeting, meeting.batch[i])
            # a weight that meets itself must get its labels once
            if found is None or any(w.weight == found.weight for w in waiting):
                return None
            waiting.append(found)
        elif operand.run_starts is None:
            return None
        else:
            entries += [
                (x, start, n)
                for x, start, n in zip(own, operand.run_starts, operand.shape, strict=True)
                if start is not None
            ]
    # contracted weights first, as in the general way: both ways number the labels alike
    for unlabelled in sorted(waiting, key=lambda w: w.is_kept):
        entries += _label_weight(labelling, unlabelled)
    return _tie_entries(labelling.facts, entries, meeting)


def _find_unlabelled(
    labelling: Labelling,
    operand: Tensor,
    own: Sequence[Hashable],
    meeting: _Meeting,
    batch: frozenset[str],
) -> _Unlabelled | None:
    """Find the weight that an operand is; None where its roles would be no runs, or are given."""
    if len(operand.parts) > 1:
        return None
    (part,) = operand.parts
    if not part.is_whole or part.weight in labelling.weights:
        return None
    spans = _list_weight_spans(part, operand, own, meeting.order)
    # at every place of the batch it has an order of its own, which takes an array over both axes
    if any(s.name in batch for s in spans) and any(
        s.name not in batch and s.name not in meeting.pinned for s in spans
    ):
        return None
    # along two axes that it makes, or reads, it has an order of the one at every place of the other
    free = [s.name in meeting.gone for s in spans if s.name not in meeting.pinned]
    if any(free) and max(sum(free), len(free) - sum(free)) > 1:
        return None
    is_kept = not any(x in meeting.gone for x in own)
    return _Unlabelled(is_kept, part.weight, spans, len(part.index))


def _list_weight_spans(
    part: Part, operand: Tensor, own: Sequence[Hashable], order: Mapping
) -> list[_Span]:
    """List the axes of a whole weight along which it varies, in the order of their names."""
    places = [
        (find_varying_axes(index)[0], a) for a, index in enumerate(part.index) if index is not None
    ]
    spans = [_Span(own[t], a, operand.shape[t]) for t, a in places]
    return sorted(spans, key=lambda s: order[s.name])


def _label_weight(labelling: Labelling, unlabelled: _Unlabelled) -> list[tuple[Hashable, int, int]]:
    """Give a weight a new run along each of its axes, and return them by their names."""
    entries = []
    roles: list[Role] = []
    for span in unlabelled.spans:
        start = labelling.facts.reserve_labels(span.size)
        roles.append(LabelRun(start, span.size, span.axis, unlabelled.rank))
        entries.append((span.name, start, span.size))
    labelling.weights[unlabelled.weight] = roles
    return entries


def _tie_entries(
    facts: Facts, entries: Sequence[tuple[Hashable, int, int]], meeting: _Meeting
) -> RunsByName:
    """State what follows from runs that meet, each given by its name, first label and size."""
    gone, pinned = meeting.gone, meeting.pinned
    met: dict[Hashable, list[int]] = {}
    size: dict[Hashable, int] = {}
    for x, start, n in entries:
        starts = met.setdefault(x, [])
        size[x] = n
        if start not in starts:
            starts.append(start)
        if start != ADDRESSES and x in pinned:
            facts.pin_run(LabelRun(start, n), facts.bracket_reason)
        # a pinned axis is read as well: an order that must be kept matters to the result
        if start != ADDRESSES and (x in pinned or x in gone):
            facts.read.append(LabelRun(start, n))
    found: RunsByName = {}
    for x, starts in met.items():
        labels = [s for s in starts if s != ADDRESSES]
        for other in labels[1:]:
            facts.tie_runs(LabelRun(labels[0], size[x]), LabelRun(other, size[x]))
        # labels met addresses: the first run is pinned, and the others are tied to it
        if labels and len(labels) < len(starts):
            facts.pin_run(LabelRun(labels[0], size[x]), facts.reason)
        if x not in gone and x not in pinned:
            found[x] = labels[0] if labels else ADDRESSES
    return found
