"""The values of tensors that follow from constants and shapes alone.

Such are the operands that give a shape or an index. Values are computed when they are asked for,
with onnx's reference operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from onnx import NodeProto

from ...graph.model import Graph
from ...graph.nodes import read_attributes
from ...rules import find_rule
from ...vocabulary import names, structure
from .evaluation import evaluate_node
from .types import TensorTypes
from .versions import NodeVersions

MAX_READ_ELEMENTS = 1 << 22
"""Tensors of more elements than this are never read for their values."""
IsFixed = Callable[[str, int], bool]
"""Tells whether a tensor, by its name, has one length along an axis at all sizes of the inputs."""


class TensorValues:
    """The values of a graph's tensors, as far as they depend on no input's values.

    Args:
        graph: the graph.
        types: the shapes of its tensors.
        versions: the operator sets of its nodes.

    Attributes:
        read: the names of the weights on which a value that was asked for depends.
    """

    def __init__(self, graph: Graph, types: TensorTypes, versions: NodeVersions):
        self.read: set[str] = set()
        self._graph, self._types, self._versions = graph, types, versions
        self._copied: dict[str, str] = {}
        """By tensor the one whose values it has."""
        self._found: dict[str, np.ndarray | None] = {}
        self._free: dict[str, np.ndarray] = {}
        """By tensor which of its values hang on lengths that are not fixed."""
        self._sources: dict[str, frozenset[str]] = {}
        """By tensor the weights on which its values depend."""
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
        value = self._follow(name)
        # A weight on the way to values that are not known has told nothing: it keeps its freedom.
        if value is not None:
            self.read |= self._sources.get(name, frozenset())
        return value

    def find_free(self, name: str, is_fixed: IsFixed) -> np.ndarray:
        """Find which known values of a tensor hang on lengths that are not fixed.

        Args:
            name: the tensor; its values are known.
            is_fixed: tells whether a tensor, by its name, has one length along an axis whatever the
                sizes of the graph's inputs are.

        Returns:
            bool, of the shape of the values.
        """
        if name not in self._free:
            self._free[name] = self._compute_free(name, is_fixed)
        return self._free[name]

    def _compute_free(self, name: str, is_fixed: IsFixed) -> np.ndarray:
        value = self._follow(name)
        assert value is not None
        if name in self._copied:
            return self.find_free(self._copied[name], is_fixed)
        node = self._producers.get(name)
        # what has no node that made it was given, or is a weight
        if node is None or name in self._graph.tensors:
            return np.zeros(value.shape, bool)
        if node.op_type in (structure.SHAPE, structure.SIZE):
            axes = range(len(self._types.known_shape(node.input[0]) or ()))
            free = np.array([not is_fixed(node.input[0], a) for a in axes], bool)
            if node.op_type == structure.SIZE:
                return np.asarray(free.any())
            given = read_attributes(node)
            return free[slice(given.get("start", 0), given.get("end"))]
        return self._carry_free(node, name, value, is_fixed)

    def _carry_free(
        self, node: NodeProto, name: str, value: np.ndarray, is_fixed: IsFixed
    ) -> np.ndarray:
        """Carry what hangs on lengths from the operands of a node to a result.

        Elements that are only moved take it along. Any other result hangs on lengths as a whole.
        """
        masks = {o: self.find_free(o, is_fixed) for o in filter(None, node.input)}
        if not any(mask.any() for mask in masks.values()):
            return np.zeros(value.shape, bool)
        data = list(node.input) if node.op_type == names.CONCAT else list(node.input[:1])
        is_moved = node.op_type == names.CONCAT or node.op_type in structure.PARTS_OF_ONE
        if is_moved and not any(masks[o].any() for o in masks if o not in data):
            known = {o: self._follow(o) for o in masks}
            moved = {
                o: masks[o].astype(v.dtype) if o in data else v
                for o, v in known.items()
                if v is not None
            }
            opsets = {o.domain: o.version for o in self._versions.list_opsets(node)}
            found = evaluate_node(node, name, moved, opsets)
            if found is not None and found.shape == value.shape:
                return found.astype(bool)
        return np.ones(value.shape, bool)

    def _follow(self, name: str) -> np.ndarray | None:
        """Return the values of a tensor, and keep them and their sources."""
        if name not in self._found:
            # A tensor that depends on itself, through the body of a loop, has no known values.
            self._found[name] = None
            self._found[name] = self._compute_value(name)
        return self._found[name]

    def _compute_value(self, name: str) -> np.ndarray | None:
        """Compute the values of a tensor from those that its node reads, and note the sources."""
        if name in self._copied:
            value = self._follow(self._copied[name])
            self._note_sources(name, [self._copied[name]])
            return value
        if name in self._graph.tensors:
            if math.prod(self._graph.shape(name)) > MAX_READ_ELEMENTS:
                return None
            self._sources[name] = frozenset([name])
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
        for operand in filter(None, node.input):
            value = self._follow(operand)
            if value is None:
                return None
            values[operand] = value
        self._note_sources(name, values)
        opsets = {o.domain: o.version for o in self._versions.list_opsets(node)}
        return evaluate_node(node, name, values, opsets)

    def _note_sources(self, name: str, operands: Iterable[str]) -> None:
        """Note that the values of a tensor depend on what those of its operands depend on."""
        found = [self._sources.get(o, frozenset()) for o in operands]
        self._sources[name] = frozenset().union(*found)
