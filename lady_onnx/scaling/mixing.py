"""Which groups' units any map may mix, and which any rotation: what the factor walk sees on its way.

Where nothing but weighted sums stands between the weights that make units and those that read them,
any invertible map of the units leaves the function as it is. Where sums of squares do as well, as in
a norm, rotations do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..dataflow.labels.roles import find_varying_axes
from ..rules import Elementwise, Movement
from ..rules.laws import Linear, Monomial, Multilinear, Norm
from .monomials import FactorRole
from .state import FactorState, PlainNode


class Mixing:
    """The groups of which some node does not treat all units alike.

    Attributes:
        nonlinear: groups whose units meet anything but sums, and sums of squares.
        squared: groups whose units meet in a sum of squares, as a norm has it.
    """

    def __init__(self, state: FactorState):
        self.state = state
        self.nonlinear: set[str] = set()
        self.squared: set[str] = set()
        self._squares: dict[str, set[str]] = {}
        """By tensor the groups whose units are squared there."""
        self._means: dict[str, set[str]] = {}
        """By tensor the groups of whose units it is the mean."""

    def note_node(self, node: PlainNode, made: list[list[FactorRole]]) -> None:
        """Note the groups of which a node does not treat all units alike, whatever map mixes them.

        Args:
            node: the node.
            made: the factors of its results.
        """
        names, law = node.inputs, node.law
        every: set[str] = set().union(*(self._groups_on(n) for n in names))
        kept = {g for roles in made for g, _ in roles}
        squared = {g for n in names for g in self._squares.get(n, ())}
        mean = {g for n in names for g in self._means.get(n, ())}
        if isinstance(node.kind, Movement):
            self._squares.update(dict.fromkeys(node.outputs, squared))
            self._means.update(dict.fromkeys(node.outputs, mean))
            return
        is_elementwise = isinstance(node.kind, Elementwise)
        if law == Linear(coefficients=(1.0, -1.0)) and mean <= self._groups_on(names[0]):
            # a norm's deviations from the mean
            names, mean = names[:1], set()
        self.nonlinear |= mean
        match law:
            case Linear(operands=operands) if is_elementwise:
                added = names if operands is None else [names[k] for k in operands]
                self.nonlinear |= squared | (every - self._in_all(added))
            case Linear():
                self._sum_up(node, every - kept, squared, kept)
            case Multilinear() if is_elementwise and len(names) == 2 and names[0] == names[1]:
                self._squares[node.outputs[0]] = every
            case Multilinear() if is_elementwise:
                both = set.intersection(*(self._groups_on(n) for n in names))
                self.nonlinear |= both | squared
            case Multilinear():
                self._multiply(names, every, kept, squared)
            case Monomial(powers=(2.0,)):
                self._squares[node.outputs[0]] = every
            case Monomial(powers=(1.0, _)):
                self.nonlinear |= self._groups_on(names[1]) | squared
            case Norm(axis=int(axis)):
                self._normalise(names, every, axis)
            case _:
                self.nonlinear |= every

    def note_output(self, name: str) -> None:
        """Note the groups of which an output of the graph shows the units, their squares, or their mean."""
        shown = self._squares.get(name, set()) | self._means.get(name, set())
        self.nonlinear |= self._groups_on(name) | shown

    def _sum_up(self, node: PlainNode, summed: set[str], squared: set[str], kept: set[str]) -> None:
        # no rotation changes the sum of squares; whether a mean changes is seen where it is used
        self.squared |= summed & squared
        if isinstance(node.law, Linear) and node.law.is_mean:
            self._means[node.outputs[0]] = summed - squared
        else:
            self.nonlinear |= summed - squared
        self._squares[node.outputs[0]] = squared & kept

    def _multiply(
        self, names: Sequence[str], every: set[str], kept: set[str], squared: set[str]
    ) -> None:
        # units that both operands have are summed up in pairs, and gone, or multiplied one by one
        both = self._groups_on(names[0]) & self._groups_on(names[1]) if len(names) > 1 else set()
        unpaired = (every - both) - kept
        self.nonlinear |= (
            squared | (both & kept) | unpaired | (kept - self._in_all(names[2:], kept))
        )

    def _normalise(self, names: Sequence[str], every: set[str], axis: int) -> None:
        roles = self.state.list_factors(names[0])
        over = {g for g, a in roles if min(find_varying_axes(a)) >= axis % a.ndim}
        self.squared |= over
        gains = self._groups_on(names[1])
        self.nonlinear |= (every - over) | gains | (over - self._in_all(names[2:], over))

    def _groups_on(self, name: str) -> set[str]:
        return {g for g, _ in self.state.list_factors(name)}

    def _in_all(self, names: Sequence[str], every: Iterable[str] = ()) -> set[str]:
        """Return the groups that all of these tensors have, zeros apart; `every` where there are none."""
        sides = [
            self._groups_on(n)
            for n in names
            if n and (self.state.list_factors(n) or not self.state.is_zero(n))
        ]
        return set.intersection(*sides) if sides else set(every)
