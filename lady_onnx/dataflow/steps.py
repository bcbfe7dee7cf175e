"""The steps of a movement: what each does to a shape, to a role and to runs of labels.

Steps are those of `lady_onnx.rules`: `Take`, `Reshape`, `Transpose` and `Expand`. What a whole
movement does to abstract tensors is in `movement`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..rules import Reshape, Step, Take, Transpose
from .labels.roles import ADDRESSES, drop_constant_axes, find_run_start, reshape_role
from .labels.tensors import RunStarts, Tensor


def move_shape(shape: tuple[int, ...], step: Step) -> tuple[int, ...]:
    """Return the shape of what a step makes of a tensor of `shape`."""
    if isinstance(step, Take):
        return tuple(len(step.index) if a == step.axis else n for a, n in enumerate(shape))
    if isinstance(step, Transpose):
        return tuple(shape[a] for a in step.order)
    return step.shape


def move_role(role: np.ndarray, step: Step, shape: tuple[int, ...]) -> np.ndarray:
    """Carry a role over a tensor of `shape` to what a step makes of the tensor."""
    if isinstance(step, Take):
        if role.shape[step.axis] == 1:
            return role
        # what is left may hold one label alone, and no role varies along an axis of one label
        return drop_constant_axes(role.take(step.index, step.axis), range(role.ndim))
    if isinstance(step, Reshape):
        return reshape_role(role, shape, step.shape)
    if isinstance(step, Transpose):
        return role.transpose(step.order)
    # an expansion: the role broadcasts over the axes that it makes longer
    return role.reshape((1,) * (len(step.shape) - role.ndim) + role.shape)


def move_runs(tensor: Tensor, steps: Sequence[Step]) -> Tensor | None:
    """Move a tensor whose labels are runs by steps; None where they do not stay runs."""
    starts, shape = tensor.run_starts, tensor.shape
    if starts is None:
        return None
    for step in steps:
        after = move_shape(shape, step)
        moved = _move_run_starts(starts, step, shape, after)
        if moved is None:
            return None
        starts, shape = moved, after
    return Tensor(shape, reason=tensor.reason, run_starts=starts)


def _move_run_starts(
    starts: RunStarts, step: Step, shape: tuple[int, ...], after: tuple[int, ...]
) -> RunStarts | None:
    """Move the starts of runs by a step from `shape` to `after`; None where they do not stay."""
    if isinstance(step, Transpose):
        return tuple(starts[a] for a in step.order)
    if isinstance(step, Reshape):
        if [n for n in shape if n > 1] != [n for n in after if n > 1]:
            return None
        long = iter([x for x, n in zip(starts, shape, strict=True) if n > 1])
        return tuple(next(long) if n > 1 else None for n in after)
    if isinstance(step, Take):
        first = find_run_start(step.index)
        if first is None:
            return None
        own = starts[step.axis]
        if own is not None and step.index.size == 1:
            own = None
        # addresses count again from the front of what is taken
        elif own is not None and own != ADDRESSES:
            own += first
        return (*starts[: step.axis], own, *starts[step.axis + 1 :])
    # an expansion: labels do not depend on an axis that was one and is repeated
    return (None,) * (len(after) - len(shape)) + tuple(
        x if n > 1 else None for x, n in zip(starts, shape, strict=True)
    )
