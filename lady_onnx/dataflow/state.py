"""The state of one walk over a graph: what is known so far, by the names of tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto

from ..errors import UnknownStructureError
from ..graph.model import Graph
from ..graph.shapes import choose_input_shapes
from ..rules import Kind
from ..rules.vocabulary import structure
from .inference.results import Inference
from .labels.facts import Facts
from .labels.roles import lay_along
from .labels.tensors import Index, Part, Tensor
from .labels.weights import Labelling

COPY_OPERATOR = structure.IDENTITY
"""The operator that leaves its operand as it is, be it a tensor or a sequence."""

OTHER_SIZES = (3, 10_007)
"""Sizes of symbolic axes at which a condition on lengths is asked for, far from each other."""

Result = Tensor | list[str]
"""A tensor, or the names of a sequence's tensors."""


class OtherSizes:
    """What is known of a graph's tensors at other sizes of its symbolic axes, outside of bodies.

    It is found when it is first asked for, and serves all walks over the graph.

    Args:
        graph: the graph.
    """

    def __init__(self, graph: Graph):
        self._graph = graph

    @functools.cached_property
    def inferences(self) -> list[Inference]:
        """One inference a choice of sizes."""
        found = []
        for shapes, loose in choose_input_shapes(self._graph, OTHER_SIZES, batch_sizes=OTHER_SIZES):
            inference = Inference(self._graph, shapes, loose)
            for node in self._graph.nodes:
                inference.infer(node)
            found.append(inference)
        return found


@dataclass
class WalkState:
    """What a walk knows so far.

    Attributes:
        graph: the graph that is walked.
        inference: types, shapes and values of tensors.
        labelling: the facts, and the labels of weights.
        constant_along: tells whether a weight, by its name, is constant along an axis.
        others: what is known at other sizes.
        tensors: the abstract values of tensors.
        sequences: the names of the tensors in each sequence.
        steps: the nodes so far, those of bodies among them, with what their rules say; None in
            place of a rule where the node pins what it touches.
    """

    graph: Graph
    inference: Inference
    labelling: Labelling
    constant_along: Callable[[str, int], bool]
    others: OtherSizes
    tensors: dict[str, Tensor] = field(default_factory=dict)
    sequences: dict[str, list[str]] = field(default_factory=dict)
    steps: list[tuple[NodeProto, Kind | None]] = field(default_factory=list)

    @property
    def facts(self) -> Facts:
        """What the operators have said."""
        return self.labelling.facts

    def find_tensor(self, name: str) -> Tensor | None:
        """Find the tensor of that name; None where its shape is not known."""
        if name not in self.tensors and name in self.graph.tensors:
            shape = self.graph.shape(name)
            # the index is made when it is asked for: it has to read all elements of the weight
            index = functools.partial(self._index_weight, name, shape)
            self.tensors[name] = Tensor(shape, parts=(Part(name, index, True),))
        return self.tensors.get(name)

    def read_tensor(self, name: str) -> Tensor:
        """Return the tensor of that name.

        Raises:
            UnknownStructureError: its shape is not known.
        """
        found = self.find_tensor(name)
        if found is None:
            raise UnknownStructureError("an operand of unknown shape")
        return found

    def list_items(self, name: str) -> list[str]:
        """List the names of the tensors in a sequence.

        Raises:
            UnknownStructureError: they are not known.
        """
        if name not in self.sequences:
            raise UnknownStructureError("a sequence that cannot be followed")
        return self.sequences[name]

    def find_result(self, name: str) -> Result | None:
        """Find the tensor or sequence of that name; None where its shape is not known."""
        return self.sequences[name] if name in self.sequences else self.find_tensor(name)

    def record_step(self, node: NodeProto, kind: Kind | None) -> None:
        """Keep a node and what its rule says, None where it pins, for those who read the walk."""
        self.steps.append((node, kind))

    def _index_weight(self, name: str, shape: tuple[int, ...]) -> Index:
        """Index every element of a weight, without the axes along which it is constant."""
        return tuple(
            None
            if n < 2 or self.constant_along(name, a)
            else lay_along(np.arange(n), a, len(shape))
            for a, n in enumerate(shape)
        )


def name_operator(node: NodeProto) -> str:
    """Return the operator's name of a node of the default domain, "" for any other node."""
    return node.op_type if node.domain in ("", "ai.onnx") else ""
