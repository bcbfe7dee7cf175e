"""Transfer function of recurrent cells.

The sign of a unit passes its candidate, its state and its peepholes; all other factors are one.
Operands lie as ONNX has them: W is [directions, gates * hidden, input], R is [directions, gates *
hidden, hidden], B is [directions, 2 * gates * hidden] with the biases of W before those of R, and P
is [directions, 3 * hidden].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dataflow.labels.roles import find_varying_axes
from .monomials import FactorRole
from .state import FactorState, PlainNode


def pass_recurrence(state: FactorState, node: PlainNode, gates: int) -> list[list[FactorRole]]:
    """Return the factors of the results of a cell: signs alone. Those of its gates are one.

    Args:
        state: the walk.
        node: the node, with the operands X, W, R, B, sequence_lens, initial_h, initial_c and P.
        gates: the number of gates and candidates side by side; the candidate is the last.
    """
    monomials = state.monomials
    # Operands at the end may be left out.
    names = [*node.inputs, *[""] * 8]
    # The first axis of X is time, and not that of directions.
    (features,) = _split_by_axis(state, names[0], (2,), None)
    # Along axis 1, W and R make units. Along axis 2, W reads the input's, and R the cell's own.
    (made, read), (fed, back) = (_split_by_axis(state, n, (1, 2)) for n in names[1:3])
    (bias,), (peepholes,) = (_split_by_axis(state, names[k], (1,)) for k in (3, 7))
    # A start of zeros has any factor.
    given = [n for n in names[5:7] if n and not state.is_zero(n)]
    starts = [_split_by_axis(state, n, (2,))[0] for n in given]
    _split_by_axis(state, names[4], ())
    # The units of the input are summed over.
    monomials.fix(monomials.multiply([*features, *read]))
    state.note_reading([*read, *back])
    weights = ((names[1], made), (names[2], fed))
    parts = [_split_parts(state, n, roles, gates) for n, roles in weights]
    biases = _split_parts(state, names[3], bias, 2 * gates)
    ways = [q for p in parts for q in p[:-1]]
    # The factors of gates are one. Of the biases, the candidate's are the last of either half.
    for part in (*ways, *biases[: gates - 1], *biases[gates:-1]):
        monomials.fix(part)
    own = [*(p[-1] for p in parts if p), *(biases[k * gates - 1] for k in (1, 2) if biases)]
    sides = [
        *own,
        *_split_parts(state, names[2], back, 1),
        *_split_parts(state, names[7], peepholes, 3),
        *starts,
    ]
    for side in sides:
        monomials.fix(side, sign=False)
    result = monomials.equate(sides) if sides else []
    # Y has an axis of time in front of those of Y_h and Y_c.
    first = [(g, np.expand_dims(a, 0)) for g, a in result]
    return [first, result, result][: len(node.outputs)]


def _split_by_axis(
    state: FactorState, name: str, axes: Sequence[int], beside: int | None = 0
) -> list[list[FactorRole]]:
    """Return the factors of an operand along each of some axes, and note that all others are one.

    Args:
        state: the walk.
        name: the operand.
        axes: the axes; there is one list of factors for each.
        beside: an axis along which factors may vary as well, such as that of directions.
    """
    found: list[list[FactorRole]] = [[] for _ in axes]
    for role in state.list_factors(name):
        varying = set(find_varying_axes(role[1])) - {beside}
        own = [k for k, a in enumerate(axes) if varying == {a}]
        if own:
            found[own[0]].append(role)
        else:
            state.monomials.fix([role])
    return found


def _split_parts(
    state: FactorState, name: str, roles: Sequence[FactorRole], count: int
) -> list[list[FactorRole]]:
    """Return the factors of the parts of a cell's weight, [directions, 1, hidden] each.

    Args:
        state: the walk.
        name: the weight; a weight of zeros has no parts.
        roles: the factors on it, along the axis of the parts.
        count: the number of parts of one size.
    """
    if not name or state.is_zero(name):
        return []
    found: list[list[FactorRole]] = [[] for _ in range(count)]
    for group, array in roles:
        flat = array.reshape(array.shape[0], 1, -1)
        for part, piece in zip(found, np.split(flat, count, 2), strict=True):
            part.append((group, piece))
    return found
