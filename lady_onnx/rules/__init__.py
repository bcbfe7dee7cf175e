"""What every operator does to the order of its operands' elements, one operator family a file.

A rule is one of six kinds of data; the engine in `lady_onnx.dataflow` is their only reader.

* `Equation`: an equation over named axes, in the spirit of einops and of XLA Shardy's sharding
  rules. A name shared by operands ties their axes; a name missing from the result is contracted;
  ``[x]`` pins; ``{x}`` is normalised over; ``(g i)`` is a row-major product; ``x..`` stands for any
  number of axes; ``1`` is an axis of size one. An operand that the equation does not name is pinned.
* `Elementwise`: numpy broadcasting over all operands.
* `Movement`: for each result, the operand that it comes from and the steps (`Take`, `Reshape`,
  `Transpose`, `Expand`) that move its elements; they are run on the labels.
* `Source`: a result that depends on no operand's order, such as a shape.
* `Steps`: several of these, one after the other, for operators that are made of simpler ones.
* `Body`: an operator with subgraphs, or one that its specification spells out in others: it is run through.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from ..errors import UnknownStructure


class Node(Protocol):
    """What a rule may ask about the node that it describes."""

    operator: str
    opset: int
    attributes: dict[str, Any]
    shapes: Sequence[tuple[int, ...] | None]
    """The operands' shapes, None for one that is not given."""
    results: int
    """How many results the node has."""

    def value(self, operand: int) -> np.ndarray:
        """The values of an operand that can be computed from constants and shapes; else UnknownStructure."""

    def needed(self, result: int) -> bool:
        """Does any other node, or an output of the graph, read this result?"""

    def shape(self, result: int = 0) -> tuple[int, ...]:
        """The shape of a result, by ONNX's own inference; else UnknownStructure."""


@dataclass(frozen=True)
class Take:
    """Result position j along `axis` is operand position `index[j]`; -1 is a padding constant."""

    axis: int
    index: np.ndarray


@dataclass(frozen=True)
class Reshape:
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Transpose:
    order: tuple[int, ...]


@dataclass(frozen=True)
class Expand:
    shape: tuple[int, ...]


Step = Take | Reshape | Transpose | Expand


@dataclass(frozen=True)
class Equation:
    text: str
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Elementwise:
    pass


@dataclass(frozen=True)
class Movement:
    """For each result, `(operands, steps)`; several operands are concatenated along `axis` first."""

    results: list[tuple[tuple[int, ...], list[Step]]]
    axis: int = 0


@dataclass(frozen=True)
class Source:
    uniform: bool = False
    """True where all elements of the result are the same."""


@dataclass(frozen=True)
class Steps:
    """Several rules, one after the other: `(name, rule, operands)`, for operators that are made of simpler ones.

    The node's own operands are called `0`, `1` and so on; one of several elements that no step names pins them all.
    `states` are tensors that a step reads before one has made them, with their shapes: what an earlier turn of a
    loop left behind.
    """

    steps: list[tuple[str, Kind, tuple[str, ...]]]
    results: tuple[str, ...]
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Body:
    """The operator is run through: its subgraphs, or the function that its specification spells it out as."""


Kind = Equation | Elementwise | Movement | Source | Steps | Body
Describe = Callable[[Node], Kind]
Rule = TypeVar("Rule", bound=Describe)

REGISTRY: dict[tuple[str, str], Describe] = {}


def register(*operators: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Registers the decorated function as the rule of `operators`; twice is an error."""

    def add(describe: Rule) -> Rule:
        for operator in operators:
            if (domain, operator) in REGISTRY:
                raise ValueError(f"operator {domain or 'ai.onnx'}.{operator} has a rule already")
            REGISTRY[domain, operator] = describe
        return describe

    return add


def register_equation(
    text: str, *operators: str, sizes: dict[str, tuple[str, int]] | None = None, domain: str = ""
) -> None:
    """Registers one equation; `sizes` names the attribute, and its default, that a name's size is read from."""

    def describe(node: Node) -> Kind:
        return Equation(
            text, {n: node.attributes.get(a, default) for n, (a, default) in (sizes or {}).items()}
        )

    describe.__doc__ = f"`{text}`"
    register(*operators, domain=domain)(describe)


def register_pinned(reason: str, *operators: str, domain: str = "") -> None:
    """Registers operators that keep the order of all that they touch, and why."""

    def describe(node: Node) -> Kind:
        raise UnknownStructure(reason)

    describe.__doc__ = f"pinned: {reason}"
    register(*operators, domain=domain)(describe)


def make_table() -> str:
    """Every operator and what its rule says, in Markdown."""
    lines = ["| operator | rule |", "| --- | --- |"]
    for (domain, operator), describe in sorted(REGISTRY.items()):
        what = " ".join((describe.__doc__ or "").split()).rstrip(".")
        lines.append(
            f"| {domain + '.' if domain else ''}{operator} | {what.replace('|', chr(92) + '|')} |"
        )
    return "\n".join(lines)


def axis_of(node: Node, default: int, rank: int) -> int:
    """The attribute `axis`, counted from the front."""
    axis = int(node.attributes.get("axis", default))
    return axis + rank if axis < 0 else axis


def shape_of(node: Node, operand: int = 0) -> tuple[int, ...]:
    """The shape of an operand that must be there."""
    shape = node.shapes[operand]
    if shape is None:
        raise UnknownStructure("an operand is missing")
    return shape


def rank_of(node: Node, operand: int = 0) -> int:
    """The number of axes of an operand that must be there."""
    return len(shape_of(node, operand))


for _module in pkgutil.iter_modules(__path__):
    if _module.name == "__main__":
        continue
    importlib.import_module(f"{__name__}.{_module.name}")
