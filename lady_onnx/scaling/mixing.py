"""Which groups' units may be mixed by any invertible map, and which by any rotation.

Where only weighted sums stand between the weights that make units and those that read them, any
invertible map of the units leaves the function as it is. Where sums of squares stand there as well,
as in a norm, rotations leave it as it is. The factor walk shows every node to this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..dataflow.labels.roles import find_varying_axes
from ..rules import Elementwise, Movement
from ..rules.laws import Linear, Monomial, Multilinear, Norm
from .monomials import FactorRole
from .state import FactorState, PlainNode


class Mixing:
    """The groups whose units some node does not treat as vectors that may be mixed.

    Args:
        state: the factors of the walk.

    Attributes:
        state: the same.
        nonlinear: groups whose units meet in anything but sums and sums of squares.
        squared: groups whose units meet in a sum of squares, as in a norm.
    """

    def __init__(self, state: FactorState):
        self.state = state
        self.nonlinear: set[str] = set()
        self.squared: set[str] = set()
        self._squares: dict[str, set[str]] = {}
        """By tensor the groups whose units are squared there."""
        self._means: dict[str, set[str]] = {}
        """By tensor the groups over whose units it is the mean.

        A rotation changes a mean. Whether that shows is up to the node that reads it.
        """

    def note_node(self, node: PlainNode, made: list[list[FactorRole]]) -> None:
        """Note the groups to whose units a node does more than sum them, or square and sum them.

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
        if law == Linear(coefficients=(1.0, -1.0)) and mean and mean <= self._groups_on(names[0]):
            # The mean is subtracted from its own units: these are the deviations in a norm.
            names, mean = names[:1], set()
        self.nonlinear |= mean
        match law:
            case Linear(operands=operands) if is_elementwise:
                added = names if operands is None else [names[k] for k in operands]
                # A sum of mixed units and of something that is not mixed with them is no mixture.
                self.nonlinear |= squared | (every - self._in_all(added))
            case Linear():
                self._sum_up(node, every - kept, squared, kept)
            case Multilinear() if is_elementwise and len(names) == 2 and names[0] == names[1]:
                self._squares[node.outputs[0]] = every
            case Multilinear() if is_elementwise:
                # What multiplies units one by one tells them apart, and holds the group itself.
                both = set.intersection(*(self._groups_on(n) for n in names))
                self.nonlinear |= both | squared
            case Multilinear():
                self._multiply(names, every, kept, squared)
            case Monomial(powers=(2.0,)):
                self._squares[node.outputs[0]] = every
            case Monomial(powers=(1.0, _)):
                # The first operand is divided, say, by the second: its units may still be mixed.
                self.nonlinear |= self._groups_on(names[1]) | squared
            case Norm(axis=int(axis)):
                self._normalise(names, every, axis)
            case _:
                self.nonlinear |= every

    def note_output(self, name: str) -> None:
        """Note the groups of units that an output shows, or whose squares or mean it shows."""
        shown = self._squares.get(name, set()) | self._means.get(name, set())
        self.nonlinear |= self._groups_on(name) | shown

    def _sum_up(self, node: PlainNode, summed: set[str], squared: set[str], kept: set[str]) -> None:
        """Note the groups that a node sums up, or takes the mean of.

        Args:
            node: the node.
            summed: the groups whose units are summed over.
            squared: the groups whose units are squared in the operand.
            kept: the groups whose units stay.
        """
        # No rotation changes the sum of squares.
        self.squared |= summed & squared
        if isinstance(node.law, Linear) and node.law.is_mean:
            self._means[node.outputs[0]] = summed - squared
        else:
            self.nonlinear |= summed - squared
        self._squares[node.outputs[0]] = squared & kept

    def _multiply(
        self, names: Sequence[str], every: set[str], kept: set[str], squared: set[str]
    ) -> None:
        """Note the groups of whose units a product is no weighted sum.

        Args:
            names: the operands; those behind the second are added.
            every: the groups on all of them.
            kept: the groups whose units stay.
            squared: the groups whose squared units are multiplied.
        """
        # Units of a group on both operands are multiplied in pairs. If they are gone, they were
        # summed up, and a map of one side is undone by the other. If they stay, they were not.
        both = self._groups_on(names[0]) & self._groups_on(names[1]) if len(names) > 1 else set()
        unpaired = (every - both) - kept
        self.nonlinear |= (
            squared | (both & kept) | unpaired | (kept - self._in_all(names[2:], kept))
        )

    def _normalise(self, names: Sequence[str], every: set[str], axis: int) -> None:
        """Note the groups that a norm over all axes from `axis` on divides by their own size."""
        roles = self.state.list_factors(names[0])
        over = {g for g, a in roles if min(find_varying_axes(a)) >= axis % a.ndim}
        self.squared |= over
        gains = {g for n in names[1:2] if n for g in self._groups_on(n)}
        self.nonlinear |= (every - over) | gains | (over - self._in_all(names[2:], over))

    def _groups_on(self, name: str) -> set[str]:
        """Return the groups whose units a tensor has."""
        return {g for g, _ in self.state.list_factors(name)}

    def _in_all(self, names: Sequence[str], every: Iterable[str] = ()) -> set[str]:
        """Return the groups that some tensors share.

        Args:
            names: the tensors; weights of zeros are left out, because they share any group.
            every: the result where no tensor is left.
        """
        sides = [
            self._groups_on(n)
            for n in names
            if n and (self.state.list_factors(n) or not self.state.is_zero(n))
        ]
        return set.intersection(*sides) if sides else set(every)
