"""Moves gains with the elements that operators move: the transfer function of movements."""

from __future__ import annotations

from ..dataflow.steps import move_role, move_shape
from ..errors import UnknownStructureError
from ..rules import Movement, Take
from ..scaling.state import PlainNode
from .gains import Gain, concatenate_gains
from .state import Gains, GainState


def move_gains(
    state: GainState, node: PlainNode, kind: Movement, gains: Gains
) -> list[Gain | None]:
    """Return the gains of all results of a movement.

    Raises:
        UnknownStructureError: an operand that gives places has a gain, or padding stands beside
            one.
    """
    for sources, _ in kind.results:
        if any(gain and i not in sources for i, gain in enumerate(gains)):
            # Such an operand says which elements are taken: another value takes others.
            raise UnknownStructureError("a place that changes")
    return [_move_gain(state, node, kind, k) for k in range(len(kind.results))]


def _move_gain(state: GainState, node: PlainNode, kind: Movement, result: int) -> Gain | None:
    """Return the gain of one result of a movement; in a concatenation other parts have none."""
    sources, steps = kind.results[result]
    names = [node.inputs[i] for i in sources]
    gains = [state.gains.get(n) for n in names]
    if not any(gains):
        return None
    shapes = [state.plain.find_shape(n) for n in names]
    axis = kind.axis % max(len(shapes[0]), 1)
    gain = gains[0] if len(names) == 1 else concatenate_gains(gains, shapes, axis)
    assert gain is not None
    array = gain.array
    shape = tuple(sum(s[axis] for s in shapes) if a == axis else n for a, n in enumerate(shapes[0]))
    for step in steps:
        if isinstance(step, Take) and (step.index < 0).any():
            # -1 stands for a constant, which has no gain; numpy would take the last element.
            raise UnknownStructureError("a padding beside a gain")
        array = move_role(array, step, shape)
        shape = move_shape(shape, step)
    return gain.with_array(array)
