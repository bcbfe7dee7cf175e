"""The steps of an analysis, each fused operator as the plain ones that it stands for.

What reads these steps needs to know plain operators alone. An operator that has no plain form stays what it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from ..graph.model import Graph
from ..graph.nodes import read_attributes
from ..graph.types import FLOAT_TYPES
from ..rules import Body, Kind
from ..rules.plainforms import spell_out
from .engine import Analysis, analyse_graph
from .tensors import Tensor

OPSET = 20
"""The version of the default domain in which plain forms are written."""
COPIES = ("Cast", "CastLike", "Identity")
"""Operators whose result has the values of their first operand, but for rounding."""

Step = tuple[NodeProto, Kind | None]


@dataclass
class PlainSteps:
    """What an analysis saw, in plain operators.

    Attributes:
        graph: the analysed graph; the constants of plain forms are among its weights.
        steps: the nodes with what their rules say.
        tensors: what is known of every tensor.
        makers: by tensor the node that makes it; the last one, where several branches do.
    """

    graph: Graph
    steps: list[Step]
    tensors: dict[str, Tensor]
    makers: dict[str, NodeProto] = field(default_factory=dict)

    def known(self, name: str) -> np.ndarray | None:
        """The values of a weight, or of a copy of one; None for any other tensor."""
        while name not in self.graph.tensors:
            maker = self.makers.get(name)
            if maker is None or not is_plain(maker, *COPIES):
                return None
            if maker.op_type == "Cast" and read_attributes(maker).get("to") not in FLOAT_TYPES:
                return None
            name = maker.input[0]
        return self.graph.array(name)

    def kind_of(self, name: str) -> int | None:
        """The element type of a tensor, as far as it follows from what is written down."""
        declared = {v.name: v.type.tensor_type.elem_type for v in self.graph.model.graph.input}
        while name not in declared and name not in self.graph.tensors:
            maker = self.makers.get(name)
            if maker is not None and is_plain(maker, "Cast"):
                return int(read_attributes(maker)["to"])
            like = None if maker is None else _alike(maker)
            if like is None:
                return None
            name = like
        return declared[name] if name in declared else self.graph.tensors[name].data_type


def _alike(node: NodeProto) -> str | None:
    """An operand that has the element type of a node's first result, by the schema of its operator."""
    if not is_plain(node, node.op_type) or not onnx.defs.has(node.op_type, OPSET):
        return None
    schema = onnx.defs.get_schema(node.op_type, OPSET)
    kind = schema.outputs[0].type_str
    operands = zip(schema.inputs, node.input, strict=False)
    return next(
        (name for formal, name in operands if name and formal.type_str == kind and "(" not in kind),
        None,
    )


def is_plain(node: NodeProto, *operators: str) -> bool:
    """Is a node one of these operators of the default domain?"""
    return node.domain in ("", "ai.onnx") and node.op_type in operators


def list_plain_steps(graph: Graph, analysis: Analysis) -> PlainSteps:
    """The steps of an analysis of a graph, each fused operator as the plain ones that it stands for."""
    found = PlainSteps(graph.copy(), [], dict(analysis.tensors))
    numbers = itertools.count()
    for node, kind in analysis.steps:
        is_fused = node.domain not in ("", "ai.onnx") and not isinstance(kind, Body)
        inner = _spelled(found, node, numbers) if is_fused else None
        steps = [(node, kind)] if inner is None else inner
        found.steps += steps
        found.makers.update((name, maker) for maker, _ in steps for name in maker.output)
    return found


def _spelled(known: PlainSteps, node: NodeProto, numbers: Iterator[int]) -> list[Step] | None:
    """The steps of a node's plain form, None where it has none that can be followed."""
    operands = [name for name in dict.fromkeys(node.input) if name]
    shapes = {name: known.graph.shape(name) for name in operands if name in known.graph.tensors}
    shapes = {**{n: t.shape for n in operands if (t := known.tensors.get(n))}, **shapes}
    if len(shapes) < len(operands):
        return None
    ranks = {name: len(shape) for name, shape in shapes.items()}
    nodes = spell_out(node, ranks.get, lambda name: f"\0plain{next(numbers)}/{name}")
    if nodes is None:
        return None
    model = _model(known, node, nodes, shapes)
    graph = Graph(model)
    for name in graph.tensors.keys() & known.graph.tensors.keys():
        graph.replace(name, known.graph.array(name))
    inner = analyse_graph(graph)
    known.graph.tensors.update(
        {n: t for n, t in graph.tensors.items() if n not in known.graph.tensors}
    )
    known.tensors.update({n: t for n, t in inner.tensors.items() if n not in known.tensors})
    return inner.steps


def _model(
    known: PlainSteps, node: NodeProto, nodes: list[NodeProto], shapes: dict[str, tuple[int, ...]]
) -> onnx.ModelProto:
    """A model of a node's plain form alone; its weights have no values yet."""
    weights = [n for n in shapes if n in known.graph.tensors]
    kinds = {n: known.graph.tensors[n].data_type for n in weights}
    usual = next((k for k in kinds.values() if k in FLOAT_TYPES), TensorProto.FLOAT)
    inputs = [
        helper.make_tensor_value_info(n, known.kind_of(n) or usual, shape)
        for n, shape in shapes.items()
        if n not in kinds
    ]
    outputs = [
        helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in node.output if n
    ]
    tensors = [TensorProto(name=n, data_type=kinds[n], dims=shapes[n]) for n in weights]
    graph = helper.make_graph(nodes, "plain", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
