"""Finds tensors whose elements sum to one along an axis: results of a softmax, also where moved.

A mean with such weights passes on what all its terms have in common: the gain of a bias of values
in attention.
"""

from __future__ import annotations

import numpy as np

from ..dataflow.labels.equations import SolvedEquation, lay_over_names
from ..dataflow.labels.roles import find_varying_axes, lay_along
from ..dataflow.plainsteps import PlainSteps
from ..dataflow.steps import move_role, move_shape
from ..rules import Elementwise, Equation, Movement
from ..rules.laws import Linear, Multilinear, Softmax
from ..scaling.state import PlainNode


class Shares:
    """The tensors of a graph whose elements sum to one along an axis.

    Args:
        plain: the steps of the graph.

    Attributes:
        plain: the same.
        places: by such a tensor an int64 array of 0, 1, ..., n - 1, in any order, along the axis of
            n elements, and of size one along all other axes.
    """

    def __init__(self, plain: PlainSteps):
        self.plain = plain
        self.places: dict[str, np.ndarray] = {}

    def is_share(
        self, node: PlainNode, law: Multilinear, operand: int, solution: SolvedEquation
    ) -> bool:
        """Tell whether the elements of an operand sum to one over all that a product contracts.

        Args:
            node: the product.
            law: its law.
            operand: the position of the operand.
            solution: the equation of the product.
        """
        share = self.places.get(node.inputs[operand])
        if share is None or law.window is not None:
            return False
        names, sizes = tuple(solution.sizes), solution.sizes
        laid = lay_over_names(share, solution.how.sides[operand], names, sizes)
        # A sum over less than the axis is less than one, and a sum over more is more.
        gone = {n for n in solution.how.gone if sizes[n] > 1}
        return {names[a] for a in find_varying_axes(laid)} == gone

    def pass_node(self, node: PlainNode) -> list[np.ndarray | None]:
        """Return for each result of a node the places along the axis over which it sums to one.

        An entry is None for a result that does not, and so are results behind the last entry.
        """
        if isinstance(node.kind, Equation) and node.law == Softmax(is_share=True):
            shape = self.plain.find_shape(node.outputs[0])
            terms = node.kind.text.partition("->")[0].split()
            over = [a for a, term in enumerate(terms) if term.startswith("{")]
            # Over two axes at once neither sums to one. An axis of length one tells nothing: it may
            # be longer in another run.
            if len(over) != 1 or shape[over[0]] == 1:
                return []
            return [lay_along(np.arange(shape[over[0]]), over[0], len(shape))]
        share = self.places.get(node.inputs[0]) if node.inputs else None
        if share is None or node.kind is None:
            return []
        match node.law, node.kind:
            case Linear(operands=(0,), coefficients=None), Elementwise():
                # One operand alone, as of a cast or a dropout: what is added would change the sum.
                return [share]
            case _, Movement(results=[((_,), _)]) as kind if node.is_plain_movement:
                return [self._move_share(node, kind, share)]
        return []

    def _move_share(self, node: PlainNode, kind: Movement, share: np.ndarray) -> np.ndarray | None:
        """Return the places of a share that was moved, None where it is no whole any more."""
        shape, places = self.plain.find_shape(node.inputs[0]), share
        for step in kind.results[0][1]:
            places, shape = move_role(places, step, shape), move_shape(shape, step)
        # After a cut or a repetition some place is missing or occurs twice; after a reshape of the
        # axis itself places may lie along two axes.
        is_along_one = len(find_varying_axes(places)) == 1
        is_whole = np.array_equal(np.sort(places, axis=None), np.arange(share.size))
        return places if is_along_one and is_whole else None
