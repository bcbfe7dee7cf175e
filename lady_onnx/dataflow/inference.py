"""Shapes, element types, and the values of shape and index operands, by ONNX's own inference and reference operators."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import NodeProto, OperatorSetIdProto, TypeProto
from onnx.reference import ReferenceEvaluator

from ..errors import UnknownStructure
from ..graph.model import Graph
from ..graph.nodes import read_attributes
from ..rules import find_rule, normalise_domain
from ..rules.plain.writer import PLAIN_OPSET
from ..rules.vocabulary.types import FLOAT_TYPES

VALUE_LIMIT = 1 << 22
"""Operands of more elements than this are never read for their values."""


class Inference:
    """What is known of the tensors of a graph besides their labels, at one choice of its inputs' shapes."""

    def __init__(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]], loose: set[str]):
        self.graph = graph
        self.read: set[str] = set()
        """Weights that were read for their values."""
        self.loose = set(loose)
        """Tensors that hang on a symbolic axis taken as one: an axis of one in them may be longer."""
        self._types: dict[str, TypeProto] = {}
        self._kinds: dict[bytes, TypeProto] = {}
        """One object for every type, so that blocks that repeat are known by identity."""
        self._shapes: dict[int, tuple[int, ...] | None] = {}
        """The shape of each of these objects, None where it is not known."""
        self._plain: dict[int, NodeProto] = {}
        """The nodes of plain forms, by identity."""
        self._alias: dict[str, str] = {}
        self._inferred: dict[tuple, list[TypeProto | None] | None] = {}
        self._values: dict[str, np.ndarray | None] = {}
        self._producers = {o: n for n in graph.nodes for o in n.output if o}
        for value in graph.model.graph.input:
            if value.name in shapes:
                self.declare(value.name, value.type.tensor_type.elem_type, shapes[value.name])

    def type_of(self, name: str) -> TypeProto | None:
        """The type of a tensor, None where it is not known."""
        if name not in self._types and name in self.graph.tensors:
            self.declare(name, self.graph.tensors[name].data_type, self.graph.shape(name))
        return self._types.get(name)

    def declare(self, name: str, kind: int, shape: Sequence[int]) -> None:
        """Gives a tensor its element type and shape."""
        self._types[name] = self._one(_tensor_type(kind, tuple(shape)))

    def _one(self, kind: TypeProto) -> TypeProto:
        if id(kind) not in self._shapes:
            kind = self._kinds.setdefault(kind.SerializeToString(), kind)
            tensor = kind.tensor_type
            known = tensor.HasField("shape") and all(
                d.HasField("dim_value") for d in tensor.shape.dim
            )
            self._shapes[id(kind)] = tuple(_dims(kind)) if known else None
        return kind

    def declare_like(self, name: str, shape: Sequence[int], like: str) -> None:
        """Gives a tensor a shape, and all else that is known of another."""
        kind = self.type_of(like)
        self.declare(name, kind.tensor_type.elem_type if kind else onnx.TensorProto.FLOAT, shape)
        if like in self.loose:
            self.loose.add(name)

    def give(self, name: str, value: np.ndarray) -> None:
        """Gives a tensor its values, and their type and shape."""
        self._values[name] = value
        self.declare(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)

    def same(self, name: str, source: str, value: bool = True) -> None:
        """A tensor has the type, and if `value` the values, of another."""
        kind = self.type_of(source)
        if kind is not None:
            self._types[name] = kind
        if value:
            self._alias[name] = source
        if source in self.loose:
            self.loose.add(name)

    def infer(self, node: NodeProto) -> bool:
        """Types and shapes of the node's results, as far as they can be known; False if the operands do not fit."""
        operator, names, results = node.op_type, list(node.input), list(node.output)
        for name in results:
            if name:
                self._producers[name] = node
        if not self.loose.isdisjoint(names):
            self.loose.update(results)
        inputs: dict[str, TypeProto] = {}
        for name in names:
            if name:
                kind = self._types.get(name) or self.type_of(name)
                if kind is None:
                    return True
                inputs[name] = kind
        data: dict[str, np.ndarray] = {}
        rule = find_rule(node.domain, operator)
        first = rule.reads_values_from if rule else None
        for name in names[first:] if first is not None else ():
            if name and len(inputs[name].tensor_type.shape.dim) < 2:
                value = self.value(name)
                if value is not None:
                    data[name] = value
        # blocks repeat: the same operator on the same types gives the same types
        key = (
            operator,
            node.domain,
            self.opset_of(node),
            len(results),
            *[a.SerializeToString() for a in node.attribute],
        )
        key += (*[id(inputs[n]) if n else 0 for n in names],)
        if data:
            key += (*[n in data and (data[n].dtype.str, data[n].tobytes()) for n in names],)
        if key not in self._inferred:
            self._inferred[key] = self._infer(node, inputs, data)
        kinds = self._inferred[key]
        if kinds is None:
            return False
        for name, kind in zip(results, kinds, strict=False):
            if name and kind is not None:
                self._types[name] = kind
        return True

    def _infer(
        self, node: NodeProto, inputs: Mapping[str, TypeProto], data: Mapping[str, np.ndarray]
    ) -> list[TypeProto | None] | None:
        """The types of a node's results, none where nothing is known of its operator; None if the operands do not fit."""
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset_of(node), node.domain)
        except onnx.defs.SchemaError:
            return self._infer_by_rule(node)
        model = self.graph.model
        protos = {n: onnx.numpy_helper.from_array(value, n) for n, value in data.items()}
        try:
            types = onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                dict(inputs),
                protos,
                opset_imports=self._list_opsets(node),
                ir_version=model.ir_version,
            )
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            RuntimeError,
            ValueError,
        ):
            return None
        return [self._one(types[o]) if o in types else None for o in node.output]

    def _infer_by_rule(self, node: NodeProto) -> list[TypeProto | None]:
        """The types of the results of a node that ONNX's inference does not know, as its rule gives them."""
        rule = find_rule(node.domain, node.op_type)
        if rule is None or rule.shape is None:
            return []
        try:
            shapes = rule.shape(
                _ShapedNode(
                    node.op_type,
                    self.opset_of(node),
                    read_attributes(node),
                    [self.known_shape(n) if n else None for n in node.input],
                    len(node.output),
                )
            )
        except UnknownStructure:
            return []
        kind = self.type_of(self.like(node))
        element = kind.tensor_type.elem_type if kind else onnx.TensorProto.FLOAT
        return [self._one(_tensor_type(element, shape)) for shape in shapes]

    def note_plain(self, node: NodeProto) -> None:
        """Notes that a node stands in a plain form, which has an opset of its own."""
        self._plain[id(node)] = node

    def opset_of(self, node: NodeProto) -> int:
        """Returns the version of the operator set that a node speaks."""
        is_plain = id(node) in self._plain
        return PLAIN_OPSET if is_plain else self.graph.opset(node.domain)

    def _list_opsets(self, node: NodeProto) -> list[OperatorSetIdProto]:
        """Returns the operator sets with which a node is read."""
        if id(node) in self._plain:
            return [onnx.helper.make_opsetid("", PLAIN_OPSET)]
        return list(self.graph.model.opset_import)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; UnknownStructure where it cannot be computed."""
        shape = self.known_shape(name)
        if shape is None:
            raise UnknownStructure("a shape that cannot be computed")
        return shape

    def known_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, None where it cannot be computed."""
        if name in self.graph.tensors:
            return self.graph.shape(name)
        kind = self._types.get(name)
        return None if kind is None else self._shapes[id(kind)]

    def like(self, node: NodeProto) -> str:
        """An operand of the element type that a result has, as far as operators outside the specification go."""
        rule = find_rule(node.domain, node.op_type)
        if rule is not None and rule.typed_like is not None:
            place = rule.typed_like
            place = place if isinstance(place, int) else place(len(node.input))
            return next(iter(node.input[place:]), "")
        if not normalise_domain(node.domain):
            return next(iter(node.input), "")
        for name in node.input:
            kind = self.type_of(name) if name else None
            if kind is not None and kind.tensor_type.elem_type in FLOAT_TYPES:
                return name
        return ""

    def note(self, name: str, shape: tuple[int, ...], node: NodeProto) -> None:
        """Completes the type of a result of `node` with the shape that its rule gave, and with an operand's element type."""
        if self.known_shape(name) is not None:
            return
        kind = self._types.get(name) or self.type_of(self.like(node))
        if kind is not None and kind.HasField("tensor_type"):
            self.declare(name, kind.tensor_type.elem_type, shape)

    def value(self, name: str) -> np.ndarray | None:
        """The values of a tensor that hangs on constants and shapes alone, else None."""
        if name not in self._values:
            self._values[name] = None
            self._values[name] = self._compute(name)
        return self._values[name]

    def _compute(self, name: str) -> np.ndarray | None:
        if name in self._alias:
            return self.value(self._alias[name])
        if name in self.graph.tensors:
            if math.prod(self.graph.shape(name)) > VALUE_LIMIT:
                return None
            self.read.add(name)
            return self.graph.array(name)
        node = self._producers.get(name)
        if node is None or node.domain:
            return None
        rule = find_rule(node.domain, node.op_type)
        if rule is not None and (rule.holds_bodies or rule.makes_sequences or rule.is_random):
            return None
        if node.op_type in ("Shape", "Size") and node.input:
            source = self.known_shape(node.input[0])
            if source is None:
                return None
            if node.op_type == "Size":
                return np.array(math.prod(source), np.int64)
            given = read_attributes(node)
            return np.array(source[slice(given.get("start", 0), given.get("end"))], np.int64)
        sizes = [self.known_shape(n) for n in (name, *node.input) if n]
        if any(shape is not None and math.prod(shape) > VALUE_LIMIT for shape in sizes):
            return None
        values: dict[str, np.ndarray] = {}
        for operand in node.input:
            if operand:
                value = self.value(operand)
                if value is None:
                    return None
                values[operand] = value
        opsets = {o.domain: o.version for o in self._list_opsets(node)}
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                result = ReferenceEvaluator(node, opsets=opsets).run(None, values)
            except FOREIGN:
                return None
        return np.asarray(list(result)[list(node.output).index(name)])


FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What onnx's reference operators raise on operands that do not fit them."""


@functools.lru_cache(maxsize=1 << 12)
def _tensor_type(kind: int, shape: tuple[int, ...]) -> TypeProto:
    return onnx.helper.make_tensor_type_proto(kind, shape)


def _dims(kind: TypeProto) -> list[int]:
    return [d.dim_value for d in kind.tensor_type.shape.dim]


@dataclass(frozen=True)
class _ShapedNode:
    """What a rule's shape function may ask about its node; see `rules.Node`."""

    operator: str
    opset: int
    attributes: dict[str, Any]
    shapes: Sequence[tuple[int, ...] | None]
    results: int

    def value(self, operand: int) -> np.ndarray:
        raise UnknownStructure("values of operands are not asked for shapes")

    def needed(self, result: int) -> bool:
        raise UnknownStructure("readers of results are not asked for shapes")

    def shape(self, result: int = 0) -> tuple[int, ...]:
        raise UnknownStructure("a shape that ONNX's inference does not know")
