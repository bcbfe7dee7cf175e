"""Which tensors have equal elements by chance alone.

Where an operator takes the largest elements, it takes the first of equal ones. So their order
shows, unless elements are equal by chance alone, as weighted sums with different weights are. Where
that is not known, elements may be equal for many inputs: behind a ReLU many are zero, and so are
the small ones behind a softmax.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto

from ..graph.nodes import read_attributes
from ..rules import Equation, Kind, Movement, Steps, Take, find_rule
from ..rules.laws import SUM, Law, Linear, Multilinear
from .state import WalkState

GROUPING = str.maketrans("()[]{}", "      ")
"""What stands around names in an equation."""


def is_equal_by_chance(name: str, state: WalkState) -> bool:
    """Tell whether elements along a tensor's last axis are equal by chance alone.

    They are sums, each with weights of its own, which may be moved, and have a weight added.

    Args:
        name: the tensor.
        state: the walk so far.
    """
    tensor = state.find_tensor(name)
    makers = {made: step for step in state.steps for made in step[0].output}
    while tensor is not None and tensor.shape and name in makers:
        node, kind = makers[name]
        kind, law = _find_last(node, kind, name)
        if isinstance(kind, Equation) and isinstance(law, Multilinear):
            is_sum = _is_contracting(kind.text)
            return is_sum and _has_different_weights(node, tensor.shape[-1], state)
        weights = [n for n in node.input if n in state.graph.tensors]
        others = [n for n in node.input if n and n not in state.graph.tensors]
        is_kept = _is_plain_movement(kind) or _is_copy(node, law) or (law == Linear() and weights)
        if len(others) != 1 or not is_kept:
            return False
        name = others[0]
    return False


def _find_last(node: NodeProto, kind: Kind | None, name: str) -> tuple[Kind | None, Law | None]:
    """Return what makes a result of a node, but for moves and for what is added to it."""
    if not isinstance(kind, Steps):
        return kind, _find_law(node)
    steps = {step: (own, operands) for step, own, operands in kind.steps}
    last = kind.results[list(node.output).index(name)]
    while last in steps:
        own, operands = steps[last]
        law = kind.laws.get(last)
        if law != SUM and not _is_plain_movement(own):
            return own, law
        last = operands[0]
    return None, None


def _is_contracting(text: str) -> bool:
    """Tell whether an equation sums over a name that two operands share.

    >>> _is_contracting("m k, k n -> m n"), _is_contracting("m n, m n -> m n")
    (True, False)
    """
    left, _, right = (part.translate(GROUPING) for part in text.partition("->"))
    counts = Counter(name for side in left.split(",") for name in set(side.split()))
    return any(n > 1 and name not in right.split() for name, n in counts.items())


def _has_different_weights(node: NodeProto, count: int, state: WalkState) -> bool:
    """Tell whether a node has a weight with other numbers for each of its `count` sums."""
    weights = [n for n in dict.fromkeys(node.input) if n in state.graph.tensors]
    for name in weights:
        shape = state.graph.shape(name)
        axes = [a for a, n in enumerate(shape) if n == count and len(shape) > 1]
        array = state.graph.array(name)
        rows = (np.moveaxis(array, a, 0).reshape(count, -1).astype(np.float64) for a in axes)
        if axes and all(len(np.unique(own, axis=0)) == count for own in rows):
            return True
    return False


def _is_plain_movement(kind: Kind | None) -> bool:
    """Tell whether a node only moves elements, and puts nothing beside them."""
    steps = [s for _, own in kind.results for s in own] if isinstance(kind, Movement) else []
    is_padded = any(isinstance(s, Take) and (s.index < 0).any() for s in steps)
    return isinstance(kind, Movement) and not is_padded


def _is_copy(node: NodeProto, law: Law | None) -> bool:
    """Tell whether a node copies its operand, in the operand's own type."""
    rule = find_rule(node.domain, node.op_type)
    is_copy = isinstance(law, Linear) and law.is_copy and law.typed_by is None
    return is_copy and rule is not None and rule.type_attribute is None


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
