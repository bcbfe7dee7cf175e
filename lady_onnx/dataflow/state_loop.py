"""The states of a graph: outputs that are fed back as inputs, and have the order of these.

A state is no answer of the model. Its units may have any order, as long as the output has the order
that the input is taken in. So every element of the input gets a label of its own along the axes of
units, and at the end of the walk the output is tied to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

import numpy as np

from ..graph.model import Graph
from ..graph.nodes import find_live_nodes
from ..graph.shapes import choose_input_shapes
from .inference.results import Inference
from .labels.facts import GRAPH_INPUT
from .labels.roles import (
    drop_constant_axes,
    find_varying_axes,
    is_address,
    lay_along,
    make_addresses,
    to_dense,
)
from .labels.tensors import Tensor
from .state import WalkState

GRAPH_OUTPUT = "graph output"
MAX_STATE_LABELS = 1 << 15
"""States of more elements beside those of batch and time keep their order.

Each element has a label of its own, which takes about a kilobyte on the way. The keys of 128 heads
of 128 dimensions are half as many.
"""
OTHER_LENGTH = "a state of another length after a step"


def find_ordered_axes(role: np.ndarray) -> tuple[int, ...]:
    """Find the axes along which the addresses of a role vary, or give way to labels.

    >>> find_ordered_axes(np.array([[4, -1], [5, -1]]))
    (1,)
    """
    places = np.minimum(role, 0)
    return find_varying_axes(drop_constant_axes(places, range(role.ndim)))


class StateLoop:
    """The states of one walk.

    Attributes:
        inputs: the outputs that are fed back, by the inputs whose units may move.
        ordered: axes of states, as `(input, axis)`, that come out with an order of their own, such
            as one of time: no units lie along them, and the walk has to be done again.
    """

    def __init__(
        self,
        state: WalkState,
        shapes: Mapping[str, tuple[int, ...]],
        ordered: Set[tuple[str, int]],
    ):
        """Give the inputs that are states labels along the axes of their units.

        Args:
            state: the walk.
            shapes: the shapes of the graph's inputs.
            ordered: axes of states that are known to have an order of their own.
        """
        self._state = state
        self._axes: dict[str, tuple[int, ...]] = {}
        self.inputs: dict[str, str] = {}
        self.ordered: set[tuple[str, int]] = set()
        graph = state.graph
        axes = {
            name: tuple(a for a in own if (name, a) not in ordered)
            for name, own in graph.unit_axes.items()
        }
        for pair in graph.states:
            shape = shapes.get(pair.input)
            if shape is None:
                continue
            along = [n if a in axes[pair.input] else 1 for a, n in enumerate(shape)]
            count = math.prod(along)
            if not 1 < count <= MAX_STATE_LABELS:
                continue
            role = state.facts.make_labels(along)
            places = [
                lay_along(make_addresses(n), a, len(shape))
                for a, n in enumerate(shape)
                if n > 1 and a not in axes[pair.input]
            ]
            state.tensors[pair.input] = Tensor(shape, (role, *places), reason=GRAPH_INPUT)
            state.labelling.weights[pair.input] = [role]
            self._axes[pair.output] = axes[pair.input]
            self.inputs[pair.input] = pair.output

    def close(self, output: str) -> bool:
        """Tie an output to the input that it is fed back as.

        Args:
            output: the name of an output of the graph.

        Returns:
            Whether the output is such a state.
        """
        source = next((i for i, o in self.inputs.items() if o == output), None)
        if source is None:
            return False
        walk, axes = self._state, self._axes[output]
        before, made = walk.tensors[source], walk.find_tensor(output)
        role = to_dense(walk.labelling.weights[source][0])
        if made is None:
            walk.facts.pin_labels(role, OTHER_LENGTH)
            return True
        after = walk.labelling.label_tensor(made).roles
        self.ordered |= {(source, a) for r in after for a in find_ordered_axes(r) if a in axes}
        if any(made.shape[a : a + 1] != before.shape[a : a + 1] for a in axes):
            for other in (role, *after):
                walk.facts.pin_labels(other, OTHER_LENGTH)
            return True
        self._tie_roles(role, after, set(axes))
        return True

    def _tie_roles(self, role: np.ndarray, after: Sequence[np.ndarray], axes: set[int]) -> None:
        """Tie the role of a state that is taken in to those of what comes out.

        Args:
            role: the labels of the input, one for every element along the axes of units.
            after: the roles of the output.
            axes: the axes of units.
        """
        facts = self._state.facts
        named = [r for r in after if not is_address(r)]
        for other in named:
            if not set(find_varying_axes(other)) <= axes:
                # what lies along other axes too, such as those of time, has moved on by a step
                facts.pin_labels(other, OTHER_LENGTH)
        named = [r for r in named if set(find_varying_axes(r)) <= axes]
        spanned = {a for r in named for a in find_varying_axes(r)}
        places = [r for r in after if is_address(r) and spanned & set(find_varying_axes(r))]
        if not named or any(set(find_varying_axes(r)) <= axes for r in places):
            # several places of one unit have an order here that the input does not know of
            for other in (role, *named):
                facts.pin_labels(other, GRAPH_OUTPUT)
            return
        whole = next((r for r in named if set(find_varying_axes(r)) == spanned), None)
        if whole is not None:
            # along an axis that the output has no units on, the input has none either
            facts.tie_labels(role, np.broadcast_to(whole, role.shape))
        for other in named:
            if other is not whole and not facts.try_relate_labels(role, other):
                facts.pin_labels(role, GRAPH_OUTPUT)


def solve_state_lengths(graph: Graph, sizes: Sequence[int]) -> dict[str, int]:
    """Find undeclared lengths of units of states, from the inferred shapes of the outputs.

    Args:
        graph: the graph.
        sizes: sizes for all other symbolic axes.

    Returns:
        The lengths by their names, as far as they follow from shapes.
    """
    model = graph.model.graph
    outputs = {v.name: v.type.tensor_type.shape.dim for v in model.output}
    axes = graph.unit_axes
    wanted = {
        (s.output, a): outputs[s.output][a].dim_param
        for s in graph.states
        for a in axes[s.input]
        if a < len(outputs[s.output]) and outputs[s.output][a].dim_param
    }
    found: dict[str, int] = {}
    if not wanted:
        return found
    shapes, loose = next(iter(choose_input_shapes(graph, sizes)))
    inference = Inference(graph, shapes, loose)
    for node in find_live_nodes(graph.nodes, [o.name for o in model.output]):
        inference.infer(node)
        for (output, axis), name in wanted.items():
            shape = inference.types.known_shape(output) if output in node.output else None
            if shape is not None:
                found.setdefault(name, shape[axis])
        if len(found) == len(set(wanted.values())):
            break
    return found
