"""The registry: the one declaration of every operator, found by its domain and name.

Plain forms of fused operators have a registry of their own in `plain_forms`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..errors import UnknownStructureError
from ..vocabulary.structure import normalise_domain
from .kinds import Describe, Equation, Kind, Node
from .laws import Law, LawOf
from .plugins import load_entry_points

DescribeT = TypeVar("DescribeT", bound=Describe)
TypedLike = Callable[[int], int]
"""Takes the number of a node's operands; gives the one with the element type of the results."""
ShapeOf = Callable[[Node], list[tuple[int, ...]]]
"""Gives the shapes of a node's results from its operands' shapes and its attributes.

It may raise UnknownStructureError where the operands do not fit.
"""


@dataclass(frozen=True)
class Rule:
    """All that is known of an operator.

    Attributes:
        domain: the operator's domain, "" for the default one.
        operator: the operator's name.
        order: tells what a node does to the order of elements. It raises UnknownStructureError,
            with the reason, where the node pins what it touches.
        law: what the operator does to scale and sign, or a function of a node that tells it; None
            where no factor passes.
        reads_values_from: the first operand whose values decide the shape of a result; None where
            shapes depend on shapes alone.
        shape: gives the shapes of results where ONNX's inference does not know the operator.
        typed_like: the operand with the element type of the results, or a function of the number
            of operands, where ONNX's inference does not know the operator. By default it is the
            first operand of floats.
        type_attribute: the attribute that gives the element type of the results.
        is_random: whether the results are drawn anew at every run.
        results_stay: whether the results behind the first keep their values whatever factors pass.
        holds_bodies: whether the operator's nodes hold subgraphs.
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
"""The rules by domain and operator. Use `find_rule`, which knows both names of a domain."""


def find_rule(domain: str, operator: str) -> Rule | None:
    """Return the rule of an operator, None where it has none.

    Rules of other packages are loaded once an operator is met that has none.

    >>> from lady_onnx import rules
    >>> rules.find_rule("", "Relu").law
    PositivelyHomogeneous(operands=None)
    """
    key = normalise_domain(domain), operator
    if key not in REGISTRY:
        load_entry_points()
    return REGISTRY.get(key)


def _claim_names(domain: str, operators: Sequence[str]) -> str:
    """Return the one name of a domain; raise ValueError if one of the operators has a rule.

    All are looked at before any is registered: a second try must not find half of the first.
    """
    where = normalise_domain(domain)
    for operator in operators:
        if (where, operator) in REGISTRY:
            raise ValueError(f"operator {where or 'ai.onnx'}.{operator} has a rule already")
    return where


def register(  # noqa: PLR0913 - people call it, with what their operator needs
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
    """Register the rule of operators: the decorated function, and all else that holds of them.

    The function takes a `Node` and returns a `Kind`. Its docstring stands in the table of
    operators. The decorator may be stacked, so that operators that differ in their laws share one
    function.

    Args:
        operators: the names of the operators.
        domain: their domain, "" for the default one.
        law: as in `Rule`, and so are all arguments that follow.
        reads_values_from: see `Rule`.
        shape: see `Rule`.
        typed_like: see `Rule`.
        type_attribute: see `Rule`.
        is_random: see `Rule`.
        results_stay: see `Rule`.
        holds_bodies: see `Rule`.
        makes_sequences: see `Rule`.

    Returns:
        A decorator that registers a function and returns it unchanged.

    Raises:
        ValueError: an operator has a rule already.
    """

    def add(order: DescribeT) -> DescribeT:
        where = _claim_names(domain, operators)
        for operator in operators:
            REGISTRY[where, operator] = Rule(
                where,
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
    """Register operators that act on order as one equation says.

    Args:
        text: the equation, see `Equation`.
        operators: the names of the operators.
        sizes: by a name of the equation `(attribute, default)`: the attribute that gives its size,
            and the size where that is left out.
        domain: the domain of the operators, "" for the default one.
        law: see `Rule`.
        reads_values_from: see `Rule`.
        results_stay: see `Rule`.

    Raises:
        ValueError: an operator has a rule already.
    """

    def describe(node: Node) -> Kind:
        given = (sizes or {}).items()
        return Equation(text, {n: node.attributes.get(a, default) for n, (a, default) in given})

    # The table of operators shows it.
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
    """Register operators that pin all that they touch.

    Args:
        reason: why they do; it is shown as the reason of every pin.
        operators: the names of the operators.
        domain: their domain, "" for the default one.
        reads_values_from: see `Rule`.
        is_random: see `Rule`.

    Raises:
        ValueError: an operator has a rule already.
    """

    def describe(node: Node) -> Kind:
        raise UnknownStructureError(reason)

    describe.__doc__ = f"pinned: {reason}"
    register(*operators, domain=domain, reads_values_from=reads_values_from, is_random=is_random)(
        describe
    )
