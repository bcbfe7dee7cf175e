"""TODO."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto

from ...semantics.messages import is_same_message
from ...semantics.schemas import list_defaults
from ..algebra.numbering import Terms
from ..algebra.term import NoNormalForm, Term

UNREAD_ATTRIBUTE = "consumed_inputs"
"""An attribute of the first version of the operator set, which no runtime reads."""


FLAG_ATTRIBUTES = (
    *(
        "allowzero",
        "ceil_mode",
        "count_include_pad",
        "is_test",
        "keepdims",
        "noop_with_empty_axes",
        "spatial",
    ),
    *("training_mode", "transA", "transB"),
)
"""Attributes that say yes or no; of other numbers runtimes make what they like."""


class TrackedAttributes(Mapping[str, Any]):
    """Values by name, that knows for which of them was asked."""

    def __init__(self, values: Mapping[str, Any]):
        self._values = values
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class Call:
    """A node as its rule sees it.

    Attributes:
        terms: makes terms.
        node: the node.
        version: the version of its domain.
        operands: None for one that is left out.
        attributes: those that are given, as Python values. One that the rule does not ask for must have its default, or be
            left aside: what nobody thought of is not dropped.
        loose: the operands, by identity, that nothing else reads.
    """

    terms: Terms
    node: NodeProto
    version: int
    operands: Sequence[Term | None]
    attributes: TrackedAttributes
    loose: frozenset[int] = frozenset()

    def operand(self, k: int) -> Term | None:
        return self.operands[k] if k < len(self.operands) else None

    def first(self) -> Term:
        term = self.operand(0)
        if term is None:
            raise NoNormalForm(f"{self.node.op_type}: no first operand")
        return term

    @property
    def results(self) -> int:
        return len(self.node.output)

    def is_asked(self, k: int) -> bool:
        return k < len(self.node.output) and bool(self.node.output[k])

    def leave_aside(self, *names: str) -> None:
        """Attributes that change nothing here, whatever they are."""
        self.attributes.names.update(names)

    def is_understood(self) -> bool:
        """Has every attribute its default, but for those that the rule asked for?"""
        defaults = list_defaults(self.node.op_type, "", self.version)
        others = (
            a
            for a in self.node.attribute
            if a.name not in {*self.attributes.names, UNREAD_ATTRIBUTE}
        )
        return all(a.name in defaults and is_same_message(a, defaults[a.name]) for a in others)


Rewrite = Callable[[Call], Sequence[Term | None] | Term | None]
"""The results of a node; None where the rule does not apply, and the node stands as it is."""


REWRITES: dict[str, Rewrite] = {}


def register_rewrite(*operators: str) -> Callable[[Rewrite], Rewrite]:
    def register(function: Rewrite) -> Rewrite:
        for operator in operators:
            if operator in REWRITES:
                raise ValueError(f"two rules for {operator}")
            REWRITES[operator] = function
        return function

    return register
