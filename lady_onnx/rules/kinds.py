"""What a rule says of the order of a node's elements: one of six kinds of data.

The label engine in `lady_onnx.dataflow` reads them. A node that says nothing it is sure of raises
`UnknownStructure`, and the engine pins what the node touches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..errors import UnknownStructure


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
        """How many results the node has."""

    def read_value(self, operand: int) -> np.ndarray:
        """Return an operand that follows from constants and shapes; else raises UnknownStructure."""

    def is_needed(self, result: int) -> bool:
        """Return whether another node, or an output of the graph, reads this result."""

    def find_shape(self, result: int = 0) -> tuple[int, ...]:
        """Return the shape of a result by ONNX's own inference; else raises UnknownStructure."""


@dataclass(frozen=True)
class Take:
    """Result position j along `axis` is operand position `index[j]`; -1 is a padding constant."""

    axis: int
    index: np.ndarray


@dataclass(frozen=True)
class Reshape:
    """The elements in row-major order, laid out in another shape."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Transpose:
    """Axis k of the result is axis `order[k]` of the operand."""

    order: tuple[int, ...]


@dataclass(frozen=True)
class Expand:
    """The elements, repeated by numpy's broadcasting to `shape`."""

    shape: tuple[int, ...]


Step = Take | Reshape | Transpose | Expand
"""One step of a movement."""


@dataclass(frozen=True)
class Equation:
    """An equation over named axes, in the spirit of einops and of XLA Shardy's sharding rules.

    A name that operands share ties their axes. A name that is missing from the result is
    contracted. ``[x]`` pins, ``{x}`` is normalised over, ``(g i)`` is a row-major product,
    ``x..`` stands for any number of axes, ``1`` is an axis of size one. An operand that the
    equation does not name is pinned.

    Attributes:
        text: the equation, such as ``m k, k n -> m n``.
        sizes: the sizes of names that the operands' shapes do not tell.
    """

    text: str
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Elementwise:
    """Every element of the result hangs on the elements that numpy's broadcasting brings there."""


@dataclass(frozen=True)
class Movement:
    """The elements of each result are elements of operands.

    Attributes:
        results: for each result `(operands, steps)`; several operands are concatenated first.
        axis: the axis along which they are concatenated.
    """

    results: list[tuple[tuple[int, ...], list[Step]]]
    axis: int = 0


@dataclass(frozen=True)
class Source:
    """The result hangs on no operand's order: a shape, a constant, numbers that are counted.

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
        states: tensors that a step reads before one has made them, by name with their shapes: what
            an earlier turn of a loop left behind.
    """

    steps: list[tuple[str, Kind, tuple[str, ...]]]
    results: tuple[str, ...]
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Body:
    """The operator is run through: its subgraphs, or the function that its specification gives.

    Attributes:
        is_repeated: whether what stands inside runs several times, or on the tensors of a sequence,
            so that no single tensor outside stands for one inside.
    """

    is_repeated: bool = False


Kind = Equation | Elementwise | Movement | Source | Steps | Body
Describe = Callable[[Node], Kind]
"""Says what a node does to order; raises UnknownStructure where that is not known."""


def read_axis(node: Node, default: int, rank: int) -> int:
    """Return the attribute `axis`, counted from the front."""
    axis = int(node.attributes.get("axis", default))
    return axis + rank if axis < 0 else axis


def require_shape(node: Node, operand: int = 0) -> tuple[int, ...]:
    """Return the shape of an operand that must be there; else raises UnknownStructure."""
    shape = node.shapes[operand]
    if shape is None:
        raise UnknownStructure("an operand is missing")
    return shape


def require_rank(node: Node, operand: int = 0) -> int:
    """Return the number of axes of an operand that must be there; else raises UnknownStructure."""
    return len(require_shape(node, operand))
