"""The values of tensors that follow from constants and shapes alone.

Such are the operands that give a shape or an index. Values are computed when they are asked for,
with onnx's reference operators.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from ...graph.model import Graph
from ...graph.nodes import read_attributes
from ...rules import find_rule
from ...rules.vocabulary import structure
from .evaluation import evaluate_node
from .types import TensorTypes
from .versions import NodeVersions

MAX_READ_ELEMENTS = 1 << 22
"""Tensors of more elements than this are never read for their values."""


class TensorValues:
    """The values of a graph's tensors, as far as they depend on no input's values.

    Args:
        graph: the graph.
        types: the shapes of its tensors.
        versions: the operator sets of its nodes.

    Attributes:
        read: the names of the weights that were read for their values.
    """

    def __init__(self, graph: Graph, types: TensorTypes, versions: NodeVersions):
        self.read: set[str] = set()
        self._graph, self._types, self._versions = graph, types, versions
        self._copied: dict[str, str] = {}
        """By tensor the one whose values it has."""
        self._found: dict[str, np.ndarray | None] = {}
        # the whole graph from the start: a value may be asked for before the walk is there
        self._producers = {o: n for n in graph.nodes for o in n.output if o}

    def note_producer(self, node: NodeProto) -> None:
        """Note that a node makes its results: it may stand in a body or in a plain form."""
        for name in node.output:
            if name:
                self._producers[name] = node

    def set_value(self, name: str, value: np.ndarray) -> None:
        """Give a tensor its values."""
        self._found[name] = value

    def copy_value(self, name: str, source: str) -> None:
        """Note that a tensor has the values of another."""
        self._copied[name] = source

    def find_value(self, name: str) -> np.ndarray | None:
        """Return the values of a tensor, None unless they follow from constants and shapes."""
        if name not in self._found:
            # A tensor that depends on itself, through the body of a loop, has no known values.
            self._found[name] = None
            self._found[name] = self._compute_value(name)
        return self._found[name]

    def _compute_value(self, name: str) -> np.ndarray | None:
        """Compute the values of a tensor from those that its node reads."""
        if name in self._copied:
            return self.find_value(self._copied[name])
        if name in self._graph.tensors:
            if math.prod(self._graph.shape(name)) > MAX_READ_ELEMENTS:
                return None
            self.read.add(name)
            return self._graph.array(name)
        node = self._producers.get(name)
        # operators of other domains are taken to give neither shapes nor indices
        if node is None or node.domain:
            return None
        rule = find_rule(node.domain, node.op_type)
        if rule is not None and (rule.holds_bodies or rule.makes_sequences or rule.is_random):
            return None
        if node.op_type in (structure.SHAPE, structure.SIZE) and node.input:
            return self._read_lengths(node)
        return self._run_node(node, name)

    def _read_lengths(self, node: NodeProto) -> np.ndarray | None:
        """Return what a node says of its operand's shape, int64; None where that is not known."""
        source = self._types.known_shape(node.input[0])
        if source is None:
            return None
        if node.op_type == structure.SIZE:
            return np.array(math.prod(source), np.int64)
        given = read_attributes(node)
        # the specification clamps start and end as a slice of Python does
        return np.array(source[slice(given.get("start", 0), given.get("end"))], np.int64)

    def _run_node(self, node: NodeProto, name: str) -> np.ndarray | None:
        """Return a result of a node that is run on the values of all its operands."""
        # looked at before anything is computed: a small shape may expand to a huge tensor
        sizes = [self._types.known_shape(n) for n in (name, *node.input) if n]
        if any(shape is not None and math.prod(shape) > MAX_READ_ELEMENTS for shape in sizes):
            return None
        values: dict[str, np.ndarray] = {}
        for operand in node.input:
            if operand:
                value = self.find_value(operand)
                if value is None:
                    return None
                values[operand] = value
        opsets = {o.domain: o.version for o in self._versions.list_opsets(node)}
        return evaluate_node(node, name, values, opsets)
