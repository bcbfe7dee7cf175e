"""Which tensors have equal elements by chance alone.

Where an operator takes the largest elements, it takes the first of equal ones. So their order
shows, unless elements are equal by chance alone, as different weighted sums are. Where that is not
known, elements may be equal for many inputs: behind a ReLU many are zero, and so are the small
ones behind a softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto

from ..graph.model import Graph
from ..graph.nodes import read_attributes
from ..rules import Equation, Kind, Movement, Steps, Take, find_rule
from ..rules.laws import Law, Linear, Multilinear


def is_equal_by_chance(
    name: str, steps: Sequence[tuple[NodeProto, Kind | None]], graph: Graph
) -> bool:
    """Tell whether elements of a tensor are equal by chance alone.

    Args:
        name: the tensor.
        steps: the nodes so far, with what their rules say.
        graph: the graph; a weight that is added to sums leaves them what they are.
    """
    makers = {made: step for step in steps for made in step[0].output}
    while name in makers:
        node, kind = makers[name]
        law = _find_law(node)
        if _is_sum(kind, law):
            return True
        weights = [n for n in node.input if n in graph.tensors]
        others = [n for n in node.input if n and n not in graph.tensors]
        is_shifted = law == Linear() and bool(weights)
        if len(others) != 1 or not (_is_plain_movement(kind) or is_shifted):
            return False
        name = others[0]
    return False


def _is_sum(kind: Kind | None, law: Law | None) -> bool:
    """Tell whether a node sums elements, each times a weight of its own."""
    if isinstance(kind, Steps):
        return any(isinstance(own, Multilinear) for own in kind.laws.values())
    return isinstance(kind, Equation) and isinstance(law, Multilinear)


def _is_plain_movement(kind: Kind | None) -> bool:
    """Tell whether a node only moves elements, and puts nothing beside them."""
    steps = [s for _, own in kind.results for s in own] if isinstance(kind, Movement) else []
    is_padded = any(isinstance(s, Take) and (s.index < 0).any() for s in steps)
    return isinstance(kind, Movement) and not is_padded


def _find_law(node: NodeProto) -> Law | None:
    """Return what an operator does to scale and sign, as far as its attributes tell it."""
    rule = find_rule(node.domain, node.op_type)
    if rule is None:
        return None
    if not callable(rule.law):
        return rule.law
    return rule.law(_Attributes(read_attributes(node), list(node.input)))


@dataclass(frozen=True)
class _Attributes:
    """A node of whose operands nothing is known; see `rules.laws.ScaledNode`."""

    attributes: dict[str, Any]
    operands: list[str]

    def find_value(self, operand: int) -> np.ndarray | None:
        return None

    def find_element_type(self, operand: int) -> int | None:
        return None
