"""What a rule says of the order of a node's elements: one of six kinds of data.

The label engine in `lady_onnx.dataflow` reads them. A rule that is not sure of a node raises
`UnknownStructureError`, and the engine pins every axis that the node touches. What is said of scale
and sign is a law (`laws`), and stands beside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..errors import UnknownStructureError
from .laws import Law


class Node(Protocol):
    """What a rule may ask about the node that it describes."""

    @property
    def operator(self) -> str:
        """The operator's name."""

    @property
    def opset(self) -> int:
        """The version of the operator's domain."""

    @property
    def attributes(self) -> dict[str, Any]:
        """The node's attributes as Python values."""

    @property
    def shapes(self) -> Sequence[tuple[int, ...] | None]:
        """The operands' shapes, None for an operand that is left out."""

    @property
    def results(self) -> int:
        """The number of the node's results."""

    def read_value(self, operand: int) -> np.ndarray:
        """Return the values of an operand that follow from constants and shapes.

        Raises:
            UnknownStructureError: the operand is missing, or depends on more than that.
        """

    def is_needed(self, result: int) -> bool:
        """Tell whether another node, or an output of the graph, reads a result."""

    def is_equal_by_chance(self, operand: int) -> bool:
        """Tell whether elements along an operand's last axis are equal by chance alone.

        That holds for sums each of which has weights of its own.
        """

    def find_shape(self, result: int = 0) -> tuple[int, ...]:
        """Return the shape of a result by ONNX's own inference.

        Raises:
            UnknownStructureError: it cannot be computed.
        """


@dataclass(frozen=True)
class Take:
    """Picks positions: position j of the result along `axis` is position `index[j]` of the operand.

    Attributes:
        axis: the axis, counted from the front.
        index: int64 [length of the result's axis]; -1 stands for a padding constant.
    """

    axis: int
    index: np.ndarray


@dataclass(frozen=True)
class Reshape:
    """Lays the elements out in another shape, in row-major order."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Transpose:
    """Reorders axes: axis k of the result is axis `order[k]` of the operand."""

    order: tuple[int, ...]


@dataclass(frozen=True)
class Expand:
    """Repeats elements by numpy's broadcasting to `shape`."""

    shape: tuple[int, ...]


Step = Take | Reshape | Transpose | Expand
"""One step of a movement."""


@dataclass(frozen=True)
class Equation:
    """An equation over named axes, in the spirit of einops and of XLA Shardy's sharding rules.

    A name that operands share ties their axes. A name that is missing from the result is
    contracted. ``[x]`` pins, ``{x}`` is normalised over, ``(g i)`` is a row-major product, ``x..``
    stands for any number of axes, ``1`` is an axis of size one. A side that is empty says nothing
    of its operand. An operand behind the last side is pinned.

    Attributes:
        text: the equation, such as ``m k, k n -> m n``.
        sizes: the sizes of names that do not follow from the operands' shapes.

    >>> Equation("b (g i) [x..], (g o) i [w..], (g o) -> b (g o) [y..]", {"g": 2}).sizes
    {'g': 2}
    """

    text: str
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Elementwise:
    """Every element depends on those that broadcasting brings to its place, and on no others."""


@dataclass(frozen=True)
class Movement:
    """The elements of each result are elements of operands.

    Attributes:
        results: for each result `(operands, steps)`: the positions of the operands, which are
            concatenated where there are several, and the steps that follow.
        axis: the axis along which operands are concatenated.

    >>> halves = Movement([((0,), [Take(1, np.arange(4))]), ((0,), [Take(1, np.arange(4, 8))])])
    >>> len(halves.results)
    2
    """

    results: list[tuple[tuple[int, ...], list[Step]]]
    axis: int = 0


@dataclass(frozen=True)
class Source:
    """The result depends on the order of no operand: shapes, constants, counted numbers.

    Attributes:
        uniform: whether all elements of the result are the same.
    """

    uniform: bool = False


@dataclass(frozen=True)
class Steps:
    """Several kinds, one after the other, for operators that are made of simpler ones.

    Attributes:
        steps: `(name, kind, operands)` each. The node's own operands are called `0`, `1` and so on.
            An operand of several elements that no step names is pinned.
        results: the names of the steps that are the node's results.
        states: the shapes, by name, of tensors that a step reads before any step makes them. An
            earlier turn of a loop left them behind.
        laws: by name what steps do to scale and sign. Without any, no factor passes the node. With
            some, all that the node does must be a step: a movement passes factors as it is, and any
            other step without a law stops them.

    >>> gate = Steps([("s", Elementwise(), ("0",)), ("y", Elementwise(), ("0", "s"))], ("y",))
    """

    steps: list[tuple[str, Kind, tuple[str, ...]]]
    results: tuple[str, ...]
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)
    laws: dict[str, Law] = field(default_factory=dict)


@dataclass(frozen=True)
class Body:
    """The analysis walks the operator's subgraphs, or the function that its specification gives.

    Attributes:
        is_repeated: whether what stands inside runs several times, or on the tensors of a sequence.
            Then no single tensor outside stands for one inside.
    """

    is_repeated: bool = False


Kind = Equation | Elementwise | Movement | Source | Steps | Body
Describe = Callable[[Node], Kind]
"""Tells what a node does to order, and raises UnknownStructureError where that is not known."""


def read_axis_attribute(node: Node, default: int, rank: int) -> int:
    """Return the attribute `axis`, counted from the front.

    Args:
        node: the node.
        default: the axis where the attribute is left out.
        rank: the number of axes; a negative axis is counted from their end.
    """
    axis = int(node.attributes.get("axis", default))
    return axis + rank if axis < 0 else axis


def require_shape(node: Node, operand: int = 0) -> tuple[int, ...]:
    """Return the shape of an operand.

    Raises:
        UnknownStructureError: the operand is left out.
    """
    shape = node.shapes[operand]
    if shape is None:
        raise UnknownStructureError("an operand is missing")
    return shape


def require_rank(node: Node, operand: int = 0) -> int:
    """Return the number of axes of an operand.

    Raises:
        UnknownStructureError: the operand is left out.
    """
    return len(require_shape(node, operand))
