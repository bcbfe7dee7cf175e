"""Calls: a node as its rewrite sees it, and the registry of rewrites by operator.

A rewrite makes terms out of terms that are in normal form already, so one pass from the inputs to
the outputs is enough. What does nothing is left out, and movements in a row are one
(`algebra.movements`). A factor that is one number stands behind what it scales; sums and products
of floats have one order; layers have a bias; normalisations and activations are spelled out. An
equality that holds for real numbers, and for floats up to rounding, is used for floats of 32 and 64
bits alone. Every rewrite holds for all inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto

from ...normalform.algebra.numbering import Terms
from ...normalform.algebra.term import NoNormalFormError, Term
from ...semantics.messages import is_same_message
from ...vocabulary.schemas import list_defaults

UNREAD_ATTRIBUTE = "consumed_inputs"
"""An attribute of the first version of the operator set, which no runtime reads."""


class TrackedAttributes(Mapping[str, Any]):
    """Attributes by name that remember which of them were asked for.

    Args:
        values: the attributes.

    Attributes:
        asked: the names that were asked for.

    >>> attributes = TrackedAttributes({"axis": 1})
    >>> attributes.get("axis", 0), attributes.get("keepdims", 1), sorted(attributes.asked)
    (1, 1, ['axis', 'keepdims'])
    """

    def __init__(self, values: Mapping[str, Any]):
        self._values = values
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class Call:
    """A node as its rewrite sees it.

    Attributes:
        terms: makes terms.
        node: the node.
        version: the version of its domain.
        operands: its operands; None for one that is left out.
        attributes: the attributes that are given, as Python values. One that the rewrite does not
            ask for must have its default or be ignored explicitly, so that none is dropped because
            nobody thought of it.
        unshared: the identities of the operands that nothing else reads.
    """

    terms: Terms
    node: NodeProto
    version: int
    operands: Sequence[Term | None]
    attributes: TrackedAttributes
    unshared: frozenset[int] = frozenset()

    def get_operand(self, k: int) -> Term | None:
        """Return an operand; None if it is left out."""
        return self.operands[k] if k < len(self.operands) else None

    def require_first(self) -> Term:
        """Return the first operand.

        Raises:
            NoNormalFormError: if it is left out.
        """
        term = self.get_operand(0)
        if term is None:
            raise NoNormalFormError(f"{self.node.op_type}: no first operand")
        return term

    @property
    def result_count(self) -> int:
        """The number of results that the node names, or leaves a place for."""
        return len(self.node.output)

    def has_result(self, k: int) -> bool:
        """Tell whether the node names a result."""
        return k < len(self.node.output) and bool(self.node.output[k])

    def ignore_attributes(self, *names: str) -> None:
        """Declare that attributes change nothing here, whatever their values are."""
        self.attributes.asked.update(names)

    def are_attributes_understood(self) -> bool:
        """Tell whether every attribute that the rewrite did not ask for has its default."""
        # Rewrites are of the default domain alone.
        defaults = list_defaults(self.node.op_type, "", self.version)
        others = (
            a
            for a in self.node.attribute
            if a.name not in {*self.attributes.asked, UNREAD_ATTRIBUTE}
        )
        return all(a.name in defaults and is_same_message(a, defaults[a.name]) for a in others)


Rewrite = Callable[[Call], Sequence[Term | None] | Term | None]
"""Gives the results of a node, or its only result.

None says that the rewrite does not apply: the node stands as it is written.
"""

REWRITES: dict[str, Rewrite] = {}
"""The rewrites of operators of the default domain."""


def register_rewrite(*operators: str) -> Callable[[Rewrite], Rewrite]:
    """Register the decorated function as the rewrite of operators of the default domain.

    Raises:
        ValueError: if one of them has a rewrite already.
    """

    def register(function: Rewrite) -> Rewrite:
        for operator in operators:
            if operator in REWRITES:
                raise ValueError(f"two rewrites for {operator}")
            REWRITES[operator] = function
        return function

    return register
