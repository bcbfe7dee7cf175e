"""The types and shapes of nodes' results, by ONNX's own inference and by the rules of operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import NodeProto, TypeProto

from ...errors import MALFORMED_NODE_ERRORS, UnknownStructureError
from ...graph.model import Graph
from ...graph.nodes import read_attributes
from ...graph.shapes import MAX_RANK
from ...rules import find_rule, normalise_domain
from ...vocabulary.types import FLOAT_TYPES
from .types import TensorTypes
from .values import TensorValues
from .versions import NodeVersions


class Inference:
    """What is known of a graph's tensors besides labels, at one choice of its inputs' shapes.

    Args:
        graph: the graph.
        shapes: the shapes of its inputs, by name.
        loose: the names of inputs with a symbolic axis that was taken as one.

    Attributes:
        versions: the operator sets of the nodes.
        types: element types and shapes.
        values: the values that follow from constants and shapes.
    """

    def __init__(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]], loose: set[str]):
        self.versions = NodeVersions(graph)
        self.types = TensorTypes(graph, loose)
        self.values = TensorValues(graph, self.types, self.versions)
        self._ir_version = graph.model.ir_version
        self._declared = _resolve_declared(graph, shapes)
        self._inferred: dict[tuple, list[TypeProto | None] | None] = {}
        """The types of results by all that they depend on, see `_make_key`."""
        for value in graph.model.graph.input:
            if value.name in shapes:
                self.types.declare(value.name, value.type.tensor_type.elem_type, shapes[value.name])

    def give_value(self, name: str, value: np.ndarray) -> None:
        """Give a tensor its values, and their type and shape."""
        self.values.set_value(name, value)
        self.types.declare(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)

    def copy_tensor(self, name: str, source: str, with_values: bool = True) -> None:
        """Give a tensor the type of another, and if `with_values` its values."""
        self.types.copy_type(name, source)
        if with_values:
            self.values.copy_value(name, source)

    def infer(self, node: NodeProto) -> bool:
        """Infer types and shapes of a node's results, as far as they can be known.

        Returns:
            False if the operands do not fit the operator, else True.
        """
        self.values.note_producer(node)
        if not self.types.loose.isdisjoint(node.input):
            self.types.loose.update(filter(None, node.output))
        fits = self._infer_results(node)
        for name in node.output:
            # what the file declares counts where nothing is inferred
            if name in self._declared and self.types.known_shape(name) is None:
                element_type, shape = self._declared[name]
                self.types.declare(name, element_type, shape)
                # nobody checks what a file declares here: what it calls one may be longer
                if 1 in shape:
                    self.types.loose.add(name)
        return fits

    def _infer_results(self, node: NodeProto) -> bool:
        """Infer what `infer` says, without what the file declares."""
        inputs = self._list_operand_types(node)
        if inputs is None:
            # A rule may know the shapes of results all the same: those of attention do not depend
            # on a cache of unknown length.
            self._keep_types(node, self._infer_by_rule(node))
            return True
        data = self._list_read_values(node, inputs)
        key = self._make_key(node, inputs, data)
        if key not in self._inferred:
            self._inferred[key] = self._infer_types(node, inputs, data)
        kinds = self._inferred[key]
        if kinds is None:
            return False
        self._keep_types(node, kinds)
        return True

    def _keep_types(self, node: NodeProto, kinds: Sequence[TypeProto | None]) -> None:
        """Keep the types of a node's results, as far as they are known."""
        for name, kind in zip(node.output, kinds, strict=False):
            if name and kind is not None:
                self.types.set_type(name, kind)

    def _list_operand_types(self, node: NodeProto) -> dict[str, TypeProto] | None:
        """Return the types of a node's operands by name, None where one is not known."""
        found: dict[str, TypeProto] = {}
        for name in node.input:
            if name:
                kind = self.types.find_type(name)
                if kind is None:
                    return None
                found[name] = kind
        return found

    def _list_read_values(
        self, node: NodeProto, inputs: Mapping[str, TypeProto]
    ) -> dict[str, np.ndarray]:
        """Return the known values of the operands on which shapes depend, by name."""
        rule = find_rule(node.domain, node.op_type)
        first = rule.reads_values_from if rule else None
        found: dict[str, np.ndarray] = {}
        for name in node.input[first:] if first is not None else ():
            # shapes, axes and indices have one axis at most; the values of others are not asked
            # for, as each weight that is asked for is pinned
            if name and len(inputs[name].tensor_type.shape.dim) < 2:
                value = self.values.find_value(name)
                if value is not None:
                    found[name] = value
        return found

    def _make_key(
        self, node: NodeProto, inputs: Mapping[str, TypeProto], data: Mapping[str, np.ndarray]
    ) -> tuple:
        """Return all that the types of a node's results depend on.

        Blocks of a network repeat: the same operator on the same types gives the same types.
        """
        # types by their identities: equal types are one object, which `types` keeps alive; and
        # operands by their positions: their names differ from block to block
        values = [n in data and (data[n].dtype.str, data[n].tobytes()) for n in node.input]
        return (
            node.op_type,
            node.domain,
            self.versions.find_opset(node),
            len(node.output),
            *[a.SerializeToString() for a in node.attribute],
            *[id(inputs[n]) if n else 0 for n in node.input],
            *(values if data else ()),
        )

    def _infer_types(
        self, node: NodeProto, inputs: Mapping[str, TypeProto], data: Mapping[str, np.ndarray]
    ) -> list[TypeProto | None] | None:
        """Return the types of a node's results; None if the operands do not fit.

        The list is empty where nothing is known of the operator.
        """
        try:
            schema = onnx.defs.get_schema(node.op_type, self.versions.find_opset(node), node.domain)
        except onnx.defs.SchemaError:
            return self._infer_by_rule(node)
        protos = {n: onnx.numpy_helper.from_array(value, n) for n, value in data.items()}
        try:
            types = onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                dict(inputs),
                protos,
                opset_imports=self.versions.list_opsets(node),
                ir_version=self._ir_version,
            )
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            RuntimeError,
            ValueError,
        ):
            return None
        return [self.types.intern_type(types[o]) if o in types else None for o in node.output]

    def _infer_by_rule(self, node: NodeProto) -> list[TypeProto | None]:
        """Return the types of results that the rule of an operator gives, where ONNX has none."""
        rule = find_rule(node.domain, node.op_type)
        if rule is None or rule.shape is None:
            return []
        shaped = _ShapedNode(
            node.op_type,
            self.versions.find_opset(node),
            read_attributes(node),
            [self.types.known_shape(n) if n else None for n in node.input],
            len(node.output),
        )
        try:
            shapes = rule.shape(shaped)
        except (UnknownStructureError, *MALFORMED_NODE_ERRORS):
            return []
        element_type = self.types.find_element_type(_find_typing_operand(self.types, node))
        return [self.types.intern_tensor(element_type, shape) for shape in shapes]

    def complete_shape(self, name: str, shape: tuple[int, ...], node: NodeProto) -> None:
        """Give a result the shape that its node's rule found, where inference found none.

        Its element type is the one that inference found, or else that of an operand.
        """
        if self.types.known_shape(name) is not None:
            return
        kind = self.types.find_type(name)
        if kind is None:
            kind = self.types.find_type(_find_typing_operand(self.types, node))
        if kind is not None and kind.HasField("tensor_type"):
            self.types.declare(name, kind.tensor_type.elem_type, shape)


def _resolve_declared(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Resolve the types that a file declares of inner values, at one choice of its inputs' shapes.

    Args:
        graph: the graph.
        shapes: the shapes of its inputs.

    Returns:
        By value its element type and its shape, for those whose symbolic lengths all occur in the
        inputs.
    """
    sizes: dict[str, int] = {}
    for value in graph.required_inputs:
        dims = value.type.tensor_type.shape.dim
        sizes.update(
            (d.dim_param, n) for d, n in zip(dims, shapes.get(value.name, ()), strict=False)
        )
    found = {}
    for value in (*graph.model.graph.value_info, *graph.model.graph.output):
        kind = value.type.tensor_type
        if not kind.elem_type or not kind.HasField("shape") or len(kind.shape.dim) > MAX_RANK:
            continue
        lengths = [
            d.dim_value if d.dim_value > 0 else sizes.get(d.dim_param) if d.dim_param else None
            for d in kind.shape.dim
        ]
        known = tuple(n for n in lengths if n is not None)
        if len(known) == len(lengths):
            found[value.name] = kind.elem_type, known
    return found


def _find_typing_operand(types: TensorTypes, node: NodeProto) -> str:
    """Return an operand that has the element type of a node's results, "" where none is known.

    It is the one that the rule names. Else it is the first one of an operator of the default
    domain, and the first one of floats of any other.
    """
    rule = find_rule(node.domain, node.op_type)
    if rule is not None and rule.typed_like is not None:
        place = rule.typed_like
        place = place if isinstance(place, int) else place(len(node.input))
        return next(iter(node.input[place:]), "")
    if not normalise_domain(node.domain):
        return next(iter(node.input), "")
    for name in node.input:
        kind = types.find_type(name) if name else None
        if kind is not None and kind.tensor_type.elem_type in FLOAT_TYPES:
            return name
    return ""


@dataclass(frozen=True)
class _ShapedNode:
    """What a rule's shape function may ask about its node; see `rules.Node`."""

    operator: str
    opset: int
    attributes: dict[str, Any]
    shapes: Sequence[tuple[int, ...] | None]
    results: int

    def read_value(self, operand: int) -> np.ndarray:
        raise UnknownStructureError("values of operands are not asked for shapes")

    def is_needed(self, result: int) -> bool:
        raise UnknownStructureError("readers of results are not asked for shapes")

    def is_equal_by_chance(self, operand: int) -> bool:
        raise UnknownStructureError("makers of operands are not asked for shapes")

    def find_shape(self, result: int = 0) -> tuple[int, ...]:
        raise UnknownStructureError("a shape that ONNX's inference does not know")
