"""What an operator does to the scale and the sign of its operands' units.

A unit that is multiplied by a factor comes out of an operator multiplied by the same factor, by
another one, or changed in another way. A law says which. The factor walk, the search for units that
may be mixed, and the reflections (`lady_onnx.scaling`) read laws, and so does the walk over the
gains of biases (`lady_onnx.biases`). None of them knows an operator by name. An operator without a
law lets no factor pass: nothing is guessed.

Sources: Neyshabur et al. 2015 (positive homogeneity of ReLU networks); Ganju et al. 2018;
arXiv 2205.00199 (scales and signs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class ScaledNode(Protocol):
    """What a law may ask about its node."""

    @property
    def attributes(self) -> dict[str, Any]:
        """The node's attributes as Python values."""

    @property
    def operands(self) -> list[str]:
        """The names of the operands, "" for one that is left out."""

    def find_value(self, operand: int) -> np.ndarray | None:
        """Return the values of an operand that is a weight or a copy of one, None of others."""

    def find_element_type(self, operand: int) -> int | None:
        """Return the element type of an operand as ONNX counts them, None where it is unknown."""


@dataclass(frozen=True)
class Independent:
    """f(x) = f(y): the results depend on no operand's values. Shapes and sizes."""


@dataclass(frozen=True)
class Linear:
    """A sum of operands, each times a number of its own: f(c x, c y) = c f(x, y).

    A factor that the operands share passes, whatever its sign.

    Attributes:
        operands: the operands that are summed, all by default. No factor of another one passes.
        coefficients: the numbers that multiply them, one each; ones by default.
        is_mean: whether the elements that an equation contracts are averaged with one weight.
        typed_by: an operand that gives the element type, and has no part in the values.
        is_copy: whether the result is the operand, up to rounding.
        is_mixed_where_pinned: whether elements along the pinned axes of an equation are summed, as
            the two are that a rotation turns. They share a factor.
    """

    operands: tuple[int, ...] | None = None
    coefficients: tuple[float, ...] | None = None
    is_mean: bool = False
    typed_by: int | None = None
    is_copy: bool = False
    is_mixed_where_pinned: bool = False


@dataclass(frozen=True)
class PositivelyHomogeneous:
    """f(c x) = c f(x) for every c > 0 that the operands share: ReLUs, maxima, norms.

    Attributes:
        operands: the operands that share the factor, all by default. No factor of another passes.
    """

    operands: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Odd:
    """f(-x) = -f(x): a sign passes, and no other factor does."""


@dataclass(frozen=True)
class Even:
    """f(-x) = f(x): a sign is lost, and no other factor passes."""


@dataclass(frozen=True)
class Absolute:
    """f(c x) = |c| f(x): the size of a factor passes, and its sign is lost."""


@dataclass(frozen=True)
class Signum:
    """f(c x) = sign(c) f(x): the sign of a factor passes, and its size is lost."""


@dataclass(frozen=True)
class Selection:
    """A condition chooses, element by element, among operands: a factor that they share passes.

    Attributes:
        operands: the operands that are chosen among.
    """

    operands: tuple[int, ...]


@dataclass(frozen=True)
class Monomial:
    """f(a x, b y) = a^p b^q f(x, y): the product of operands, each to a power of its own.

    Attributes:
        powers: the powers p, q, ..., one an operand. No factor of an operand behind them passes.
    """

    powers: tuple[float, ...]


@dataclass(frozen=True)
class Window:
    """The windows of a convolution.

    Attributes:
        is_padded: whether windows reach beyond the map, so that its edge differs from its middle.
    """

    is_padded: bool


@dataclass(frozen=True)
class Multilinear:
    """A product that is linear in each of its factors; the operands behind them are added.

    Attributes:
        factors: the number of operands that are multiplied, None for all.
        coefficient: the number that multiplies the product.
        addend: the number that multiplies what is added.
        window: the windows of operators that have some.
    """

    factors: int | None = 2
    coefficient: float = 1.0
    addend: float = 1.0
    window: Window | None = None


SUM = Multilinear(factors=1)
"""The law of an equation that adds operands to the first."""


@dataclass(frozen=True)
class Reflective:
    """f(-x) = top - f(x), or f(top - x) = top - f(x): sigmoids, and clipping between bounds.

    Attributes:
        top: the sum of the two values.
        is_input_shifted: whether the second equation holds: the input is reflected at its middle
            as well, and becomes `top` less itself.
    """

    top: float
    is_input_shifted: bool = False


@dataclass(frozen=True)
class StatisticsNorm:
    """(x - mean) / sqrt(variance + epsilon) * gain + bias, with stored statistics.

    The operands are x, gain, bias, mean and variance, in the order of BatchNormalization.

    Attributes:
        epsilon: the number that is added to the variance.
    """

    epsilon: float


@dataclass(frozen=True)
class Norm:
    """The first operand divided by its own size, times a gain, plus a bias.

    The second operand is the gain, and the third the bias; either may be missing.

    Attributes:
        keeps_sign: whether the sign of one unit passes, because the size depends on absolute values
            alone. Else the mean is subtracted as well, and no factor of a single unit passes.
        axis: the first of the axes that are normalised over, if the size is a 2-norm: then all
            units together may be rotated, where the mean is subtracted by rotations that keep it.
            None for any other size, or where nothing is known: then no rotation passes.
    """

    keeps_sign: bool
    axis: int | None = None


@dataclass(frozen=True)
class Softmax:
    """f(x + c) = f(x) for a number c that is added to all elements along the normalised axis.

    Attributes:
        is_share: whether the results along that axis sum to one.
    """

    is_share: bool


@dataclass(frozen=True)
class Recurrence:
    """The cell of a recurrent layer.

    The sign of a unit passes the tanh of its candidate, its state and its peepholes.

    Attributes:
        gates: the number of gates and candidates that stand side by side in the weights. The
            candidate is the last of them.
    """

    gates: int


Law = (
    Independent
    | Linear
    | PositivelyHomogeneous
    | Odd
    | Even
    | Absolute
    | Signum
    | Selection
    | Monomial
    | Multilinear
    | Reflective
    | StatisticsNorm
    | Norm
    | Softmax
    | Recurrence
)
LawOf = Callable[[ScaledNode], Law | None]
"""Gives the law of a node by its attributes and operands, None where no factor passes."""
