"""Movement: the transfer function of operators that only move elements.

The steps of a movement are run, with numpy, on the labels themselves. Several operands are
concatenated first. What one step does to one role is in `steps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .. import rules
from .labels.facts import POSITION, Facts
from .labels.roles import (
    drop_constant_axes,
    find_varying_axes,
    is_address,
    lay_along,
    make_addresses,
)
from .labels.tensors import Part, Tensor, tidy_roles
from .labels.unification import unify_roles
from .labels.weights import Labelling
from .steps import move_role, move_runs, move_shape


def move_tensor(labelling: Labelling, tensor: Tensor, steps: Sequence[rules.Step]) -> Tensor:
    """Move the elements of a tensor by steps, one after the other."""
    plain = None if tensor.parts else move_runs(tensor, steps)
    if plain is not None:
        return plain
    if tensor.parts and any(_is_padding(step) for step in steps):
        # padding is no element of the weight, so that the result cannot stay a part of it
        tensor = labelling.label_tensor(tensor)
    roles, parts, shape = list(tensor.roles), tensor.parts, tensor.shape
    for step in steps:
        if isinstance(step, rules.Take) and _is_padding(step):
            # what is padded differs from what is not, even along an axis that no role runs along
            is_plain = not any(r.shape[step.axis] > 1 for r in roles)
            places = lay_along(make_addresses(shape[step.axis]), step.axis, len(shape))
            roles = [
                _pad_role(labelling.facts, r, step) if r.shape[step.axis] > 1 else r for r in roles
            ]
            roles += [_pad_role(labelling.facts, places, step)] if is_plain else []
        else:
            roles = [move_role(r, step, shape) for r in roles]
        parts = tuple(_move_part(p, step, shape) for p in parts)
        shape = move_shape(shape, step)
    return Tensor(shape, tidy_roles(roles, shape), parts, tensor.reason)


def _is_padding(step: rules.Step) -> bool:
    """Tell whether a step takes positions that the operand does not have."""
    return isinstance(step, rules.Take) and bool((step.index < 0).any())


def _move_part(part: Part, step: rules.Step, shape: tuple[int, ...]) -> Part:
    """Move a weight inside a tensor; its index moves as a role does."""
    return Part(
        part.weight,
        tuple(None if i is None else move_role(i, step, shape) for i in part.index),
        part.is_whole and isinstance(step, rules.Transpose),
    )


def _pad_role(facts: Facts, role: np.ndarray, step: rules.Take) -> np.ndarray:
    """Pad a role with new labels, or with one more address, at the positions that are padding."""
    # an index of -1 takes the last label, which is overwritten below; `take` makes a copy
    taken = role.take(step.index, step.axis)
    hole = np.broadcast_to(lay_along(step.index < 0, step.axis, role.ndim), taken.shape)
    taken[hole] = facts.make_labels((int(hole.sum()),)) if not is_address(role) else role.min() - 1
    return taken


def concatenate_tensors(labelling: Labelling, operands: Sequence[Tensor], axis: int) -> Tensor:
    """Concatenate tensors along an axis.

    Args:
        labelling: gives weights among the operands their labels.
        operands: tensors that differ in size along the axis alone.
        axis: the axis, counted from either end.
    """
    rank = len(operands[0].shape)
    axis %= rank
    size = sum(o.shape[axis] for o in operands)
    shape = tuple(size if i == axis else n for i, n in enumerate(operands[0].shape))
    operands = [o for o in operands if o.shape[axis]]
    each = [list(labelling.label_tensor(o).roles) for o in operands]
    reason = next((o.reason for o in operands if not o.parts), POSITION)
    # along the axis the labels stand one after the other; elsewhere the operands share one order,
    # unless they are stacked: then each keeps its own, in a role that tells their places
    result: list[np.ndarray] = []
    each, stacked = _take_stacked(labelling.facts, operands, each, axis)
    result += stacked
    # each role that runs along the axis has to stand in one of the result, or what it says is lost
    left = [[r for r in roles if r.shape[axis] > 1] for roles in each]
    for span in _list_role_spans(each, axis, size):
        has_wider = any(set(span) < set(find_varying_axes(r)) and not is_address(r) for r in result)
        while not has_wider or any(_get_span(r, axis) == span for roles in left for r in roles):
            result += _concatenate_roles(labelling.facts, operands, each, left, axis, span)
            has_wider = True
    shared: list[tuple[np.ndarray, int]] = []
    for i, roles in enumerate(each):
        shared += [(r, i) for r in roles if r.shape[axis] == 1]
    # the reason of these operands alone: a node may have others, or empty ones
    labelling.facts.reason = reason
    # nothing is contracted, so that the sizes of the axes are not asked for
    result += unify_roles(labelling.facts, shared, [], set(), set())
    return Tensor(shape, tidy_roles(result, shape), reason=reason)


def _take_stacked(
    facts: Facts, operands: Sequence[Tensor], each: Sequence[Sequence[np.ndarray]], axis: int
) -> tuple[list[list[np.ndarray]], list[np.ndarray]]:
    """Take the roles of stacked operands, of one position each, that do not run along the axis.

    Args:
        facts: what has been said of the labels so far.
        operands: the operands.
        each: their roles.
        axis: the axis along which they are concatenated.

    Returns:
        The roles of each that are left, and those of the stack: over the axis as well, with the
        labels of one operand after those of the other.
    """
    left = [list(roles) for roles in each]
    if len(operands) < 2 or any(o.shape[axis] != 1 for o in operands):
        return left, []
    made = []
    for span in {find_varying_axes(r) for r in each[0] if not is_address(r)}:
        own = [[r for r in roles if find_varying_axes(r) == span] for roles in each]
        if any(len(roles) != 1 or (roles[0] < 0).any() for roles in own):
            continue
        # what stands in two operands, under whatever label, has one order in both
        units = [np.unique(facts.classes[roles[0]]) for roles in own]
        if np.unique(np.concatenate(units)).size < sum(u.size for u in units):
            continue
        made.append(np.concatenate([roles[0] for roles in own], axis))
        for roles, mine in zip(left, own, strict=True):
            roles[:] = [r for r in roles if r is not mine[0]]
    return left, made


def _list_role_spans(
    each: Sequence[Sequence[np.ndarray]], axis: int, size: int
) -> list[tuple[int, ...]]:
    """List the sets of axes of roles along the concatenated axis, those of most axes first."""
    spans = {_get_span(r, axis) for roles in each for r in roles if r.shape[axis] > 1}
    spans |= {(axis,)} if size > 1 and not spans else set()
    return sorted(spans, key=len, reverse=True)


def _get_span(role: np.ndarray, axis: int) -> tuple[int, ...]:
    return tuple(sorted({*find_varying_axes(role), axis}))


def _concatenate_roles(
    facts: Facts,
    operands: Sequence[Tensor],
    each: Sequence[Sequence[np.ndarray]],
    left: Sequence[list[np.ndarray]],
    axis: int,
    span: tuple[int, ...],
) -> Iterator[np.ndarray]:
    """Yield the role of a concatenation over the axes `span`, and one of addresses if needed.

    Args:
        facts: makes new labels.
        operands: the operands.
        each: their roles.
        left: those of these that stand in no role of the result yet; what is taken is taken out.
        axis: the axis along which they are concatenated.
        span: the axes.
    """
    pieces, marks = [], []
    for operand, roles, waiting in zip(operands, each, left, strict=True):
        piece, mark = _take_piece(facts, operand, roles, waiting, axis, span)
        pieces.append(piece)
        marks.append(mark)
    yield drop_constant_axes(np.concatenate(pieces, axis), span)
    # the same label in two operands stands for units of two tensors that move together, and not
    # for copies of one unit: their places tell them apart
    labels = np.concatenate([np.unique(p[p >= 0]) for p in pieces])
    placed = any(
        (p < 0).any() or (m.size and m.min() != m.max()) for p, m in zip(pieces, marks, strict=True)
    )
    if placed or np.unique(labels).size < labels.size:
        # the addresses of an operand begin where those of the one before end
        base = 0
        for i, m in enumerate(marks):
            marks[i] = m - base
            base = -int(marks[i].min(initial=-base))
        yield drop_constant_axes(np.concatenate(marks, axis), span)


def _take_piece(
    facts: Facts,
    operand: Tensor,
    roles: Sequence[np.ndarray],
    left: list[np.ndarray],
    axis: int,
    span: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Take what one operand contributes to a concatenated role over the axes `span`.

    Args:
        facts: makes new labels.
        operand: the operand.
        roles: its roles.
        left: those of these that were not taken yet; what is taken is taken out.
        axis: the axis along which operands are concatenated.
        span: the axes of the role.

    Returns:
        Its labels, or addresses where it has no labels along the axis; and its addresses.
    """
    dims = [n if i in span else 1 for i, n in enumerate(operand.shape)]
    # a role that does not run along the axis belongs to the order that the operands share
    own = [
        r
        for r in roles
        if set(find_varying_axes(r)) <= set(span)
        and (r.shape[axis] > 1 or operand.shape[axis] == 1)
    ]
    own.sort(key=lambda r: (not _has_role(left, r), -r.size))
    named = [r for r in own if not is_address(r)]
    fixed = [r for r in own if is_address(r) and r.shape[axis] > 1]
    is_named = bool(named) and named[0].shape[axis] > 1
    taken = [*named[: int(is_named)], *fixed[:1]]
    left[:] = [r for r in left if not _has_role(taken, r)]
    if is_named:
        return np.broadcast_to(named[0], dims), np.broadcast_to(fixed[0] if fixed else -1, dims)
    if fixed:
        return np.broadcast_to(fixed[0], dims), np.broadcast_to(fixed[0], dims)
    line = [n if i == axis else 1 for i, n in enumerate(dims)]
    free = facts.make_labels(line)
    if operand.shape[axis] == 1 and (operand.roles or operand.parts):
        # a single position has no order of its own; where it stands among the others counts
        free = make_addresses(1).reshape(line)
    return np.broadcast_to(free, dims), np.broadcast_to(-1, dims)


def _has_role(roles: Sequence[np.ndarray], role: np.ndarray) -> bool:
    return any(role is other for other in roles)
