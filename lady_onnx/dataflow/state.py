"""The state of one walk over a graph: what is known so far, by the names of tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto

from ..errors import UnknownStructureError
from ..graph.model import Graph
from ..rules import Kind
from ..vocabulary import structure
from .inference.results import Inference
from .labels.facts import Facts
from .labels.roles import is_address, lay_along
from .labels.tensors import Index, Part, Tensor
from .labels.weights import Labelling

COPY_OPERATOR = structure.IDENTITY
"""The operator that leaves its operand as it is, be it a tensor or a sequence."""

Result = Tensor | list[str]
"""A tensor, or the names of a sequence's tensors."""


@dataclass
class WalkState:
    """What a walk knows so far.

    Attributes:
        graph: the graph that is walked.
        inference: types, shapes and values of tensors.
        labelling: the facts, and the labels of weights.
        constant_along: tells whether a weight, by its name, is constant along an axis.
        tensors: the abstract values of tensors.
        sequences: the names of the tensors in each sequence.
        steps: the nodes so far, those of bodies among them, with what their rules say; None in
            place of a rule where the node pins what it touches.
    """

    graph: Graph
    inference: Inference
    labelling: Labelling
    constant_along: Callable[[str, int], bool]
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

    def hangs_on_lengths(self, name: str) -> bool:
        """Tell whether the known values of a tensor may be others at other sizes of the inputs."""
        return bool(self.inference.values.find_free(name, self._is_fixed).any())

    def _is_fixed(self, name: str, axis: int) -> bool:
        """Tell whether a tensor has one length along an axis, whatever the inputs are.

        It has where units lie along it: their number is that of a weight.
        """
        if name in self.graph.tensors:
            return True
        tensor = self.tensors.get(name)
        return tensor is not None and (
            bool(tensor.parts) or any(r.shape[axis] > 1 and not is_address(r) for r in tensor.roles)
        )

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
