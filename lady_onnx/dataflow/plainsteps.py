"""The steps of an analysis, each fused operator as the plain ones that it stands for.

A reader of these steps needs to know the laws of plain operators alone. An operator whose rule has
laws for the steps that it is made of becomes these steps, nodes without an operator. Any other one
without a plain form stays what it is.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from ..errors import MALFORMED_NODE_ERRORS, UnknownStructureError
from ..graph.model import Graph
from ..graph.nodes import read_attributes
from ..graph.weights import read_constant
from ..rules import Equation, Kind, Movement, Steps, find_rule, normalise_domain
from ..rules.laws import Law, Linear
from ..rules.plain_forms import PLAIN_OPSET
from .engine import Analysis
from .labels.equations import solve_equation
from .labels.tensors import Tensor
from .steps import move_shape

PlainStep = tuple[NodeProto, Kind | None]
"""A node with what its rule says of order, None where it pins what it touches."""


@dataclass
class PlainSteps:
    """The nodes and tensors of an analysis, in plain operators.

    Attributes:
        graph: the analysed graph; the constants of plain forms are among its weights.
        steps: the nodes, in an order in which they can run, with what their rules say.
        tensors: what is known of every tensor.
        makers: by tensor the node that makes it; the last one, where several branches do.
        laws: by result what the steps that stand in place of a node do to scale and sign.
    """

    graph: Graph
    steps: list[PlainStep]
    tensors: dict[str, Tensor]
    makers: dict[str, NodeProto] = field(default_factory=dict)
    laws: dict[str, Law | None] = field(default_factory=dict)

    def find_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            UnknownStructureError: it is not known.
        """
        tensor = self.tensors.get(name)
        if tensor is None and name not in self.graph.tensors:
            raise UnknownStructureError("an unknown shape")
        return self.graph.shape(name) if tensor is None else tensor.shape

    def find_law(self, node: NodeProto) -> Law | None:
        """Return what a node does to scale and sign, None where no factor passes."""
        if not node.op_type:
            return self.laws[node.output[0]]
        rule = find_rule(node.domain, node.op_type)
        if rule is None:
            return None
        # a law is a dataclass, or a function of the node where it depends on attributes or values
        if not callable(rule.law):
            return rule.law
        try:
            return rule.law(_ScaledNode(self, list(node.input), read_attributes(node)))
        except MALFORMED_NODE_ERRORS:
            return None

    def find_value(self, name: str) -> np.ndarray | None:
        """Return the values of a weight, or of a copy of one; None for any other tensor."""
        while name not in self.graph.tensors:
            maker = self.makers.get(name)
            law = self.find_law(maker) if maker is not None else None
            if maker is None or not isinstance(law, Linear) or not law.is_copy:
                return None
            name = maker.input[0]
        return self.graph.array(name)

    def find_element_type(self, name: str) -> int | None:
        """Return the element type of a tensor, as ONNX counts them.

        It follows from the type of a weight or an input, through the nodes in between; None where
        that is not known.
        """
        declared = {v.name: v.type.tensor_type.elem_type for v in self.graph.model.graph.input}
        while name not in declared and name not in self.graph.tensors:
            maker = self.makers.get(name)
            if maker is None:
                return None
            rule = find_rule(maker.domain, maker.op_type)
            if rule is not None and rule.type_attribute:
                return int(read_attributes(maker)[rule.type_attribute])
            like = _find_operand_of_result_type(maker)
            if like is None:
                return None
            name = like
        return declared[name] if name in declared else self.graph.tensors[name].data_type


@dataclass(frozen=True)
class _ScaledNode:
    """What a law may ask about its node; see `rules.laws.ScaledNode`."""

    plain: PlainSteps
    operands: list[str]
    attributes: dict[str, Any]

    def find_value(self, operand: int) -> np.ndarray | None:
        name = self.operands[operand] if operand < len(self.operands) else ""
        return self.plain.find_value(name) if name else None

    def find_element_type(self, operand: int) -> int | None:
        return self.plain.find_element_type(self.operands[operand])


def _find_operand_of_result_type(node: NodeProto) -> str | None:
    """Return an operand with the element type of the first result, by the operator's schema."""
    if normalise_domain(node.domain):
        # only its rule knows an operator of another domain
        rule = find_rule(node.domain, node.op_type)
        place = rule.typed_like if rule is not None else None
        place = place(len(node.input)) if callable(place) else place
        return node.input[place] if place is not None and place < len(node.input) else None
    if not onnx.defs.has(node.op_type, PLAIN_OPSET):
        return None
    schema = onnx.defs.get_schema(node.op_type, PLAIN_OPSET)
    kind = schema.outputs[0].type_str
    operands = zip(schema.inputs, node.input, strict=False)
    # a type with a parenthesis is no variable but one type, `tensor(int64)`, and the same text on
    # both sides says nothing of the operand's type
    return next(
        (name for formal, name in operands if name and formal.type_str == kind and "(" not in kind),
        None,
    )


def list_plain_steps(graph: Graph, analysis: Analysis) -> PlainSteps:
    """List the steps of an analysis; those of a fused operator are the steps of its plain form.

    Args:
        graph: the analysed graph; it is not changed.
        analysis: its analysis.
    """
    found = PlainSteps(graph.copy(), [], dict(analysis.tensors))
    for node, _ in analysis.steps:
        found.makers.update((name, node) for name in node.output)
        constant = read_constant(node)
        if constant is not None and node.output[0] not in found.graph.tensors:
            found.graph.tensors[node.output[0]] = constant
    for node, kind in analysis.steps:
        if isinstance(kind, Steps) and kind.laws:
            found.steps += _list_inner_steps(found, node, kind)
        else:
            found.steps.append((node, kind))
    return found


def _list_inner_steps(plain: PlainSteps, node: NodeProto, kind: Steps) -> list[PlainStep]:
    """List what a node does as nodes of their own, without an operator.

    Args:
        plain: gets the tensors between the nodes, and the laws of the nodes.
        node: the node.
        kind: what its rule says.
    """
    made = {step for step, _, _ in kind.steps}
    shown = {step: name for step, name in zip(kind.results, node.output, strict=False) if name}
    if not made.issuperset(shown) or len(set(kind.results)) < len(kind.results):
        return [(node, kind)]
    names = {str(k): name for k, name in enumerate(node.input)} | shown
    for step in made - shown.keys():
        name = f"{node.output[0]} {step}"
        # a file may have tensors of any name
        while name in plain.tensors or name in plain.graph.tensors:
            name += "'"
        names[step] = name
    found: list[PlainStep] = []
    for step, rule, operands in kind.steps:
        inner = NodeProto(name=node.name, input=[names[o] for o in operands], output=[names[step]])
        plain.tensors.setdefault(names[step], _shape_result(plain, rule, inner))
        plain.makers.setdefault(names[step], inner)
        plain.laws[names[step]] = kind.laws.get(step)
        found.append((inner, rule))
    return found


def _shape_result(plain: PlainSteps, kind: Kind, node: NodeProto) -> Tensor:
    """Return the shape of what a step makes; weights that are moved are weights still."""
    shapes = [plain.find_shape(name) for name in node.input]
    if isinstance(kind, Equation):
        return Tensor(solve_equation(kind.text, shapes, kind.sizes, [None]).shapes[0])
    if not isinstance(kind, Movement):
        return Tensor(np.broadcast_shapes(*shapes))
    steps = kind.results[0][1]
    shape = shapes[0]
    if len(shapes) > 1:
        whole = sum(s[kind.axis] for s in shapes)
        shape = tuple(whole if a == kind.axis else n for a, n in enumerate(shape))
    first = plain.tensors.get(node.input[0])
    parts = first.parts if first is not None else ()
    return Tensor(functools.reduce(move_shape, steps, shape), parts=parts)
