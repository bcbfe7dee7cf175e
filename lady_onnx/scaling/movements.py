"""Transfer function of operators that move elements: factors move with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dataflow.steps import move_role, move_shape
from ..errors import UnknownStructureError
from ..rules import Movement, Take
from .monomials import FactorRole
from .state import FactorState, PlainNode


def pass_movement(state: FactorState, node: PlainNode, kind: Movement) -> list[list[FactorRole]]:
    """Return the factors of every result of a node that moves elements.

    Raises:
        UnknownStructureError: a padding stands beside units, or units lie along several axes of
            what is concatenated.
    """
    # A movement has a law only if it puts something beside what it moves. The law is None unless
    # that is zero, which no factor changes.
    if not node.is_plain_movement and node.law is None:
        raise UnknownStructureError("a padding that is not zero")
    moved = {i for sources, _ in kind.results for i in sources}
    state.monomials.fix(
        r for i, n in enumerate(node.inputs) if i not in moved for r in state.list_factors(n)
    )
    return [_move(state, node, kind, k) for k in range(len(kind.results))]


def _move(state: FactorState, node: PlainNode, kind: Movement, result: int) -> list[FactorRole]:
    """Return the factors of one result of a movement."""
    sources, steps = kind.results[result]
    names = [node.inputs[i] for i in sources]
    shapes = [state.find_shape(n) for n in names]
    axis = kind.axis % max(len(shapes[0]), 1)
    roles = state.list_factors(names[0])
    if len(names) > 1:
        roles = _concatenate([state.list_factors(n) for n in names], shapes, axis)
    shape = tuple(sum(s[axis] for s in shapes) if a == axis else n for a, n in enumerate(shapes[0]))
    for step in steps if roles else ():
        is_padding = isinstance(step, Take) and (step.index < 0).any()
        if is_padding and any(a.shape[step.axis] > 1 for _, a in roles):  # type: ignore[union-attr]
            raise UnknownStructureError("units beside a padding")
        roles = [(g, move_role(a, step, shape)) for g, a in roles]
        shape = move_shape(shape, step)
    return roles


def _concatenate(
    entries: Sequence[list[FactorRole]], shapes: Sequence[tuple[int, ...]], axis: int
) -> list[FactorRole]:
    """Return the factors of concatenated tensors; a tensor without a group has its factor one.

    Raises:
        UnknownStructureError: the units of a group lie along several axes of one tensor.
    """
    found: list[FactorRole] = []
    for group in dict.fromkeys(g for entry in entries for g, _ in entry):
        own = [[a for g, a in entry if g == group] for entry in entries]
        if any(len(arrays) > 1 for arrays in own):
            raise UnknownStructureError("units along several axes")
        varying = (a for arrays in own for x in arrays for a, n in enumerate(x.shape) if n > 1)
        # To be joined, pieces need their full length along `axis`, and equal lengths along others.
        axes = {axis, *varying}
        pieces = []
        for arrays, shape in zip(own, shapes, strict=True):
            dims = [n if a in axes else 1 for a, n in enumerate(shape)]
            pieces.append(np.broadcast_to(arrays[0], dims) if arrays else np.zeros(dims, np.int64))
        found.append((group, np.concatenate(pieces, axis)))
    return found
