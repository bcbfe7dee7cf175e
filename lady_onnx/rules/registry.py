"""The registry: every operator's one declaration, found by its domain and name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..errors import UnknownStructure
from .kinds import Describe, Equation, Kind, Node
from .laws import Law, LawOf

DescribeT = TypeVar("DescribeT", bound=Describe)
TypedLike = Callable[[int], int]
"""Gives, by how many operands a node has, the one that gives the element type of its results."""
ShapeOf = Callable[[Node], list[tuple[int, ...]]]
"""Gives the shapes of a node's results from its operands' shapes and its attributes."""


@dataclass(frozen=True)
class Rule:
    """All that is known of an operator.

    Attributes:
        domain: the operator's domain, "" for the default one.
        operator: the operator's name.
        order: says what a node does to the order of elements; raises UnknownStructure with the
            reason where the node pins what it touches.
        law: what the operator does to scale and sign, or a function of a node that says it; None
            where no factor passes.
        reads_values_from: the first operand whose values decide the shape of a result; None where
            shapes alone do.
        shape: gives the shapes of results where ONNX's inference knows nothing of the operator.
        typed_like: the operand that gives the element type of the results, or a function of the
            number of operands, where ONNX's inference knows nothing; by default the first of floats.
        type_attribute: the attribute that gives the element type of the results.
        is_random: whether the results are drawn anew at every run.
        results_stay: whether results behind the first keep their values whatever factors pass.
        holds_bodies: whether its nodes hold subgraphs.
        makes_sequences: whether it makes, changes or reads a sequence of tensors.
    """

    domain: str
    operator: str
    order: Describe
    law: Law | LawOf | None = None
    reads_values_from: int | None = None
    shape: ShapeOf | None = None
    typed_like: int | TypedLike | None = None
    type_attribute: str | None = None
    is_random: bool = False
    results_stay: bool = False
    holds_bodies: bool = False
    makes_sequences: bool = False


REGISTRY: dict[tuple[str, str], Rule] = {}
"""By domain and operator."""


def normalise_domain(domain: str) -> str:
    """Return a domain under one name: the default domain has two."""
    return "" if domain == "ai.onnx" else domain


def find_rule(domain: str, operator: str) -> Rule | None:
    """Return the rule of an operator, None where it has none."""
    return REGISTRY.get((normalise_domain(domain), operator))


def register(
    *operators: str,
    domain: str = "",
    law: Law | LawOf | None = None,
    reads_values_from: int | None = None,
    shape: ShapeOf | None = None,
    typed_like: int | TypedLike | None = None,
    type_attribute: str | None = None,
    is_random: bool = False,
    results_stay: bool = False,
    holds_bodies: bool = False,
    makes_sequences: bool = False,
) -> Callable[[DescribeT], DescribeT]:
    """Register the decorated function as what `operators` do to order, and all else that holds of them.

    The decorated function takes a `Node` and returns a `Kind`. Its docstring stands in the table of
    operators. The other arguments are the attributes of `Rule`.

    Raises:
        ValueError: an operator has a rule already.
    """

    def add(order: DescribeT) -> DescribeT:
        for operator in operators:
            if (domain, operator) in REGISTRY:
                raise ValueError(f"operator {domain or 'ai.onnx'}.{operator} has a rule already")
            REGISTRY[domain, operator] = Rule(
                domain,
                operator,
                order,
                law=law,
                reads_values_from=reads_values_from,
                shape=shape,
                typed_like=typed_like,
                type_attribute=type_attribute,
                is_random=is_random,
                results_stay=results_stay,
                holds_bodies=holds_bodies,
                makes_sequences=makes_sequences,
            )
        return order

    return add


def register_equation(
    text: str,
    *operators: str,
    sizes: dict[str, tuple[str, int]] | None = None,
    domain: str = "",
    law: Law | LawOf | None = None,
    reads_values_from: int | None = None,
    results_stay: bool = False,
) -> None:
    """Register operators whose order one equation says.

    Args:
        text: the equation.
        operators: the operators' names.
        sizes: by a name of the equation the attribute that gives its size, and that one's default.
        domain, law, reads_values_from, results_stay: as for `register`.
    """

    def describe(node: Node) -> Kind:
        given = (sizes or {}).items()
        return Equation(text, {n: node.attributes.get(a, default) for n, (a, default) in given})

    describe.__doc__ = f"`{text}`"
    register(
        *operators,
        domain=domain,
        law=law,
        reads_values_from=reads_values_from,
        results_stay=results_stay,
    )(describe)


def register_pinned(
    reason: str,
    *operators: str,
    domain: str = "",
    reads_values_from: int | None = None,
    is_random: bool = False,
) -> None:
    """Register operators that keep the order of all that they touch, and why."""

    def describe(node: Node) -> Kind:
        raise UnknownStructure(reason)

    describe.__doc__ = f"pinned: {reason}"
    register(*operators, domain=domain, reads_values_from=reads_values_from, is_random=is_random)(
        describe
    )
