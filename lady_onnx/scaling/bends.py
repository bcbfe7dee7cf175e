"""Which groups' units any map may mix, and which any rotation: what the walk over the factors sees on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from onnx import NodeProto

from ..dataflow.labels.roles import find_varying_axes
from ..dataflow.plainsteps import PlainSteps
from ..graph.nodes import read_attributes
from ..rules import Kind, Movement
from .factors import FactorRole

LINEAR = ("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Resize", "Upsample")
"""A factor of the operand, of either sign, is one of the result."""
PRODUCTS = ("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul")
"""Linear in each of two operands; the third is added."""
SUMS = ("Add", "Cast", "CastLike", "Dropout", "Identity", "Mean", "Neg", "Sub", "Sum")
"""What is added has one factor."""
TURNING = ("LayerNormalization", "RMSNormalization")
"""Norms that no rotation changes, or none that keeps the mean."""


class Bends:
    """The groups of which some node does not treat all units alike.

    Attributes:
        bent: groups whose units meet anything but sums, and sums of squares.
        turned: groups whose units meet in a sum of squares, as a norm has it.
    """

    def __init__(
        self, plain: PlainSteps, roles: Mapping[str, list[FactorRole]], zero: Callable[[str], bool]
    ):
        self.plain = plain
        self.roles = roles
        self.zero = zero
        self.bent: set[str] = set()
        self.turned: set[str] = set()
        self.squares: dict[str, set[str]] = {}
        """By tensor the groups whose units are squared there."""
        self.means: dict[str, set[str]] = {}
        """By tensor the groups of whose units it is the mean."""

    def see(self, node: NodeProto, kind: Kind | None, made: list[list[FactorRole]]) -> None:
        """Notes the groups of which a node does not treat all units alike, whatever map mixes them."""
        operator, names = node.op_type, list(node.input)
        sides = [{g for g, _ in self._on(name)} for name in names]
        every: set[str] = set().union(*sides)
        kept = {g for roles in made for g, _ in roles}
        both = sides[0] & sides[1] if len(sides) > 1 else set()
        squared = {g for name in names for g in self.squares.get(name, ())}
        mean = {g for name in names for g in self.means.get(name, ())}
        if isinstance(kind, Movement):
            self.squares.update(dict.fromkeys(node.output, squared))
            self.means.update(dict.fromkeys(node.output, mean))
            return
        if operator == "Sub" and mean <= sides[0]:
            # a norm's deviations from the mean
            names, mean = names[:1], set()
        self.bent |= mean
        if operator in SUMS:
            self.bent |= squared
            self.bent |= every - self._in_all(
                names[:1] if operator in ("CastLike", "Dropout") else names
            )
        elif operator in LINEAR:
            summed = every - kept
            # no rotation changes the sum of squares; whether a mean does is seen where it is used
            self.turned |= summed & squared
            if operator == "ReduceMean":
                self.means[node.output[0]] = summed - squared
            else:
                self.bent |= summed - squared
            self.squares[node.output[0]] = squared & kept
        elif operator in PRODUCTS:
            # units that both operands have are summed up in pairs, and gone, or multiplied one by one
            self.bent |= (
                squared
                | (both & kept)
                | ((every - both) - kept)
                | (kept - self._in_all(names[2:], kept))
            )
        elif (operator == "Mul" and names[0] == names[1]) or (
            operator == "Pow" and self._two(names[1])
        ):
            self.squares[node.output[0]] = every
        elif operator == "Mul":
            self.bent |= both | squared
        elif operator == "Div":
            self.bent |= sides[1] | squared
        elif operator in TURNING:
            axis = read_attributes(node).get("axis", -1)
            over = {g for g, a in self._on(names[0]) if min(find_varying_axes(a)) >= axis % a.ndim}
            self.turned |= over
            self.bent |= (every - over) | sides[1] | (over - self._in_all(names[2:], over))
        else:
            self.bent |= every

    def shown(self, name: str) -> None:
        """Notes the groups of which an output of the graph shows the units, their squares, or their mean."""
        self.bent |= (
            {g for g, _ in self._on(name)}
            | self.squares.get(name, set())
            | self.means.get(name, set())
        )

    def _in_all(self, names: Sequence[str], every: Iterable[str] = ()) -> set[str]:
        """The groups that all of these tensors have, zeros apart; `every` where there are none."""
        sides = [
            {g for g, _ in self._on(name)}
            for name in names
            if name and (self._on(name) or not self.zero(name))
        ]
        return set.intersection(*sides) if sides else set(every)

    def _on(self, name: str) -> list[FactorRole]:
        return self.roles.get(name, [])

    def _two(self, name: str) -> bool:
        array = self.plain.known(name)
        return array is not None and bool((array == 2).all())
