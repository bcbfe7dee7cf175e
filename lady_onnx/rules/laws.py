"""What an operator does to the scale and the sign of its operands' units.

A unit that is multiplied by a factor comes out of an operator multiplied as well, or with another
factor, or as something else altogether. A law says which. The factor walk, the search for mixed
units, the reflections and the gains of biases (`lady_onnx.scaling`) read laws and know no operator.
An operator without a law lets no factor pass: nothing is guessed.

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
        """Return the values of an operand that is a weight, or a copy of one; None for others."""

    def find_element_type(self, operand: int) -> int | None:
        """Return the element type of an operand as ONNX counts them; None where it is not known."""


@dataclass(frozen=True)
class Independent:
    """The results hang on no operand's values: f(x) = f(y). Shapes and sizes."""


@dataclass(frozen=True)
class Linear:
    """A sum of operands, each times a number of its own: a common factor passes, of either sign.

    Attributes:
        operands: the operands that are summed, all by default; of others no factor passes.
        coefficients: by what they are multiplied, one each; ones by default.
        is_mean: whether an equation's contracted elements are averaged, all with one weight.
        typed_by: an operand that gives the element type, and has no part in the values.
        is_copy: whether the result is the operand but for rounding.
    """

    operands: tuple[int, ...] | None = None
    coefficients: tuple[float, ...] | None = None
    is_mean: bool = False
    typed_by: int | None = None
    is_copy: bool = False


@dataclass(frozen=True)
class PositivelyHomogeneous:
    """f(c x) = c f(x) for every c > 0 that the operands share: ReLUs, maxima, norms.

    Attributes:
        operands: the operands that share the factor, all by default; of others no factor passes.
    """

    operands: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Odd:
    """f(-x) = -f(x): a sign passes, and no other factor."""


@dataclass(frozen=True)
class Even:
    """f(-x) = f(x): a sign is lost, and no other factor passes."""


@dataclass(frozen=True)
class Absolute:
    """f(c x) = |c| f(x)."""


@dataclass(frozen=True)
class Signum:
    """f(c x) = sign(c) f(x)."""


@dataclass(frozen=True)
class Selection:
    """Every element is that of one operand or another, as a condition says.

    Attributes:
        operands: the operands that are chosen among.
    """

    operands: tuple[int, ...]


@dataclass(frozen=True)
class Monomial:
    """The product of the operands, each to a power of its own: factors multiply in the same way.

    Attributes:
        powers: the power of each operand; of operands behind them no factor passes.
    """

    powers: tuple[float, ...]


@dataclass(frozen=True)
class Window:
    """How the windows of a convolution lie.

    Attributes:
        is_padded: whether windows reach beyond the map, so that places at its edge differ from others.
    """

    is_padded: bool


@dataclass(frozen=True)
class Multilinear:
    """Linear in each of some operands, which are multiplied; what comes behind them is added.

    Attributes:
        factors: how many operands are multiplied, all for None.
        coefficient: a number that multiplies the product.
        addend: a number that multiplies what is added.
        window: how the windows lie, for operators that have them.
    """

    factors: int | None = 2
    coefficient: float = 1.0
    addend: float = 1.0
    window: Window | None = None


@dataclass(frozen=True)
class Reflective:
    """f(-x) = top - f(x), or f(top - x) = top - f(x): sigmoids, and clipping between bounds.

    Attributes:
        top: what the two values add up to.
        is_input_shifted: whether the input is reflected at the middle too: it becomes `top` less itself.
    """

    top: float
    is_input_shifted: bool = False


@dataclass(frozen=True)
class StatisticsNorm:
    """(x - mean) / sqrt(variance + epsilon) * gain + bias, all of them operands in the order of BatchNormalization."""

    epsilon: float


@dataclass(frozen=True)
class Norm:
    """The first operand divided by its own size, times a gain, plus a bias.

    Attributes:
        keeps_sign: whether the sign of one unit passes: nothing but sums of squares is taken. Else
            the mean is taken out, and no factor of a single unit passes.
        axis: from which axis on is normalised, where all units together may be rotated (by rotations
            that keep the mean, where it is taken out); None where they may not.
    """

    keeps_sign: bool
    axis: int | None = None


@dataclass(frozen=True)
class Softmax:
    """Adding one number to all elements along the normalised axis changes nothing.

    Attributes:
        is_share: whether the results along that axis sum to one.
    """

    is_share: bool


@dataclass(frozen=True)
class Recurrence:
    """The cell of a recurrent layer: the sign of a unit passes its candidate's tanh, its state, its peepholes.

    Attributes:
        gates: how many gates and candidates the weights hold side by side; the candidate is the last.
    """

    gates: int


@dataclass(frozen=True)
class Opaque:
    """Factors are not followed inside the operator, although its parts are known."""


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
    | Opaque
)
LawOf = Callable[[ScaledNode], Law | None]
"""A law that hangs on a node's attributes or operands; None where no factor passes."""
