"""A proof that a change of some biases changes no output of a graph.

What is added to a bias, its gain, is followed through the graph. The values of a gain are known as
long as they depend on no input. Behind a product with a tensor that depends on inputs, only the
axes along which the gain may vary are known. A gain is gone behind a softmax over an axis along
which it does not vary, and where it meets another gain that cancels it. A mean with weights that
sum to one passes it on as it is. Nothing is known of any other operator, and the proof fails there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..dataflow.labels.equations import SolvedEquation, lay_over_names, solve_equation, spread_shape
from ..dataflow.labels.roles import find_varying_axes
from ..dataflow.plainsteps import PlainSteps
from ..dataflow.steps import move_role, move_shape
from ..errors import UnknownStructure
from ..rules import Body, Elementwise, Equation, Movement, Take
from ..rules.laws import (
    Independent,
    Linear,
    Monomial,
    Multilinear,
    Selection,
    Softmax,
)
from ..rules.vocabulary.types import FLOAT_TYPES
from ..scaling.state import PlainNode, read_node
from .gains import (
    LOWEST_NUMBER,
    Gain,
    add_gains,
    average_gain,
    concatenate_gains,
    make_unknown,
    multiply_gain,
    scale_gain,
    take_gain,
    weigh_gain,
)
from .shares import Shares

Gains = Sequence[Gain | None]
"""The gain of every operand, None where it has none."""


class GainWalk:
    """One walk over the steps of a graph.

    Args:
        plain: the steps.
        biases: by weight what is added to it.

    Attributes:
        gains: by tensor what is added to it.
        met_biases: the weights to which a gain of known values was added.
    """

    def __init__(self, plain: PlainSteps, biases: Mapping[str, Gain]):
        self.plain = plain
        self.gains = {name: gain for name, gain in biases.items() if gain.array.any()}
        self.met_biases: list[str] = []
        self._shares = Shares(plain)
        self._done: set[str] = set()

    def leaves_outputs(self) -> bool:
        """Walk the graph, and tell whether it is proven that none of its outputs changes."""
        try:
            for proto, kind in self.plain.steps:
                if not isinstance(kind, Body) or kind.is_repeated:
                    self._pass_node(read_node(self.plain, proto, kind))
        except UnknownStructure:
            return False
        return self.gains.keys().isdisjoint(o.name for o in self.plain.graph.model.graph.output)

    def _pass_node(self, node: PlainNode) -> None:
        """Find the gains of a node's results.

        Raises:
            UnknownStructure: nothing is known of them.
        """
        is_reached = not self.gains.keys().isdisjoint(node.inputs)
        found = self._make_gains(node) if is_reached else []
        shares = self._shares.pass_node(node)
        for k, name in enumerate(node.outputs):
            gain = found[k] if k < len(found) else None
            kept = gain if gain is not None and (gain.array.any() or not gain.is_known) else None
            share = shares[k] if k < len(shares) else None
            if name in self._done:
                # Each branch of an If makes the tensor.
                if kept is not None or name in self.gains:
                    raise UnknownStructure("a gain of one branch")
                self._shares.places.pop(name, None)
                continue
            self._done.add(name)
            if kept is not None:
                self.gains[name] = kept
            if share is not None:
                self._shares.places[name] = share

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.plain.shape(name)

    # ---- what a node makes of gains

    def _make_gains(self, node: PlainNode) -> list[Gain | None]:
        """Return the gains of a node's results.

        Raises:
            UnknownStructure: nothing is known of them.
        """
        gains = [self.gains.get(name) for name in node.inputs]
        match node.kind, node.law:
            case None, _:
                raise UnknownStructure("nothing is known of the operator")
            case _, Independent():
                return []
            case Movement() as kind, _ if node.is_plain_movement or node.law is not None:
                return self._move_all(node, kind, gains)
            case Equation() as kind, _:
                return [self._pass_equation(node, kind, gains)]
            case Elementwise(), _:
                rank = len(self._shape(node.outputs[0]))
                wide = [
                    g
                    and g.with_array(g.array.reshape((1,) * (rank - g.array.ndim) + g.array.shape))
                    for g in gains
                ]
                return [self._pass_elementwise(node, wide)]
        raise UnknownStructure("nothing is known of the operator")

    def _pass_elementwise(self, node: PlainNode, gains: Gains) -> Gain | None:
        """Return the gain of the result of a node that acts on every element alone."""
        match node.law:
            case Linear() as law:
                return self._add(node, law, gains)
            case Multilinear(factors=2) if not (gains[0] and gains[1]):
                own, other = (gains[0], 1) if gains[0] else (gains[1], 0)
                return own and self._scale(own, node.inputs[other], 1)
            case Monomial(powers=(1.0, -1.0)) if gains[0] and not gains[1]:
                return self._scale(gains[0], node.inputs[1], -1)
            case Selection(operands=arms) if not gains[0]:
                return self._choose(node, arms, gains)
        raise UnknownStructure("nothing is known of the operator")

    def _scale(self, gain: Gain, other: str, power: float) -> Gain:
        """Return a gain times a power of the tensor `other`."""
        values = self.plain.find_value(other)
        shape = () if values is not None else self._shape(other)
        return scale_gain(gain, values, shape if values is None else values.shape, power)

    def _add(self, node: PlainNode, law: Linear, gains: Gains) -> Gain | None:
        """Return the gain of a sum, in which gains may cancel each other."""
        chosen = range(len(gains)) if law.operands is None else law.operands
        coefficients = law.coefficients or (1.0,) * len(gains)
        terms = [multiply_gain(gains[k], c) for k, c in zip(chosen, coefficients, strict=False)]
        given = [t for t in terms if t is not None]
        if len(chosen) > 1 and len(given) == 1 and given[0].is_known:
            weights = self.plain.graph.tensors
            names = [node.inputs[k] for k in chosen if gains[k] is None]
            self.met_biases += [n for n in names if n in weights]
        return add_gains(given)

    def _choose(self, node: PlainNode, arms: tuple[int, ...], gains: Gains) -> Gain | None:
        """Return the gain of a choice whose other arm is so low that a gain would not show there.

        Such an arm masks scores in front of a softmax.

        Raises:
            UnknownStructure: both arms have gains, or the other arm is not known to be that low.
        """
        with_gain = [k for k in arms if gains[k]]
        if len(with_gain) != 1 or len(arms) != 2:
            raise UnknownStructure("a gain in both arms")
        (other,) = set(arms) - set(with_gain)
        name = node.inputs[other]
        values, kind = self.plain.find_value(name), self.plain.find_element_type(name)
        is_low = values is not None and kind in LOWEST_NUMBER
        if values is None or kind is None or not is_low or kind not in FLOAT_TYPES:
            raise UnknownStructure("a gain at some places")
        if not (values <= LOWEST_NUMBER[kind] / 2).all():
            raise UnknownStructure("a gain at some places")
        return gains[with_gain[0]]

    # ---- movements

    def _move_all(self, node: PlainNode, kind: Movement, gains: Gains) -> list[Gain | None]:
        """Return the gains of all results of a movement."""
        for sources, _ in kind.results:
            if any(gain and i not in sources for i, gain in enumerate(gains)):
                raise UnknownStructure("a place that changes")
        return [self._move(node, kind, k) for k in range(len(kind.results))]

    def _move(self, node: PlainNode, kind: Movement, result: int) -> Gain | None:
        """Return the gain of one result of a movement; in a concatenation other parts have none."""
        sources, steps = kind.results[result]
        names = [node.inputs[i] for i in sources]
        gains = [self.gains.get(n) for n in names]
        if not any(gains):
            return None
        shapes = [self._shape(n) for n in names]
        axis = kind.axis % max(len(shapes[0]), 1)
        gain = gains[0] if len(names) == 1 else concatenate_gains(gains, shapes, axis)
        assert gain is not None
        array = gain.array
        shape = tuple(
            sum(s[axis] for s in shapes) if a == axis else n for a, n in enumerate(shapes[0])
        )
        for step in steps:
            if isinstance(step, Take) and (step.index < 0).any():
                raise UnknownStructure("a padding beside a gain")
            array = move_role(array, step, shape)
            shape = move_shape(shape, step)
        return gain.with_array(array)

    # ---- equations

    def _pass_equation(self, node: PlainNode, kind: Equation, gains: Gains) -> Gain | None:
        """Return the gain of the result of a node that an equation describes."""
        shapes = [self._shape(n) if n else None for n in node.inputs]
        results = [self._shape(o) if o else None for o in node.outputs]
        solution = solve_equation(kind.text, shapes, kind.sizes, results)
        names, sizes, how = tuple(solution.sizes), solution.sizes, solution.how
        if any(gains[len(how.sides) :]):
            raise UnknownStructure("a gain of an operand that the rule does not name")
        sides = zip(gains, how.sides, strict=False)
        laid = [
            g and g.with_array(lay_over_names(g.array, side, names, sizes)) for g, side in sides
        ]
        match node.law:
            case Softmax() if laid[0]:
                places = [names.index(n) for n in how.over]
                is_short = any(sizes[n] == 1 for n in how.over)
                if is_short or any(laid[0].array.shape[a] > 1 for a in places):
                    raise UnknownStructure("a gain of some scores")
                return None
            case Linear(is_mean=True) if laid[0]:
                return average_gain(laid[0], solution)
            case Multilinear(factors=factors) as law if factors == 2 or len(laid) == 2:
                return self._multiply(node, law, solution, laid)
        raise UnknownStructure("nothing is known of the operator")

    def _multiply(
        self, node: PlainNode, law: Multilinear, solution: SolvedEquation, laid: Gains
    ) -> Gain | None:
        """Return the gain of a product of two factors, and of the bias behind it."""
        if laid[0] and laid[1]:
            raise UnknownStructure("a gain of both factors")
        addend = take_gain(laid[2], solution) if len(laid) > 2 and laid[2] else None
        made = None
        if laid[0] or laid[1]:
            own, other = (0, 1) if laid[0] else (1, 0)
            made = multiply_gain(
                self._contract(node, law, solution, laid, own, other), law.coefficient
            )
        has_bias = len(node.inputs) > 2 and node.inputs[2] in self.plain.graph.tensors
        if made and made.is_known and addend is None and has_bias:
            self.met_biases.append(node.inputs[2])
        terms = (made, multiply_gain(addend, law.addend))
        return add_gains([g for g in terms if g is not None])

    def _contract(
        self,
        node: PlainNode,
        law: Multilinear,
        solution: SolvedEquation,
        laid: Gains,
        own: int,
        other: int,
    ) -> Gain:
        """Return the gain of a product, one factor of which has a gain.

        Args:
            node: the product.
            law: its law.
            solution: its equation.
            laid: the gains of its operands over the names of the equation.
            own: the factor with a gain, 0 or 1.
            other: the other one.
        """
        gain, name = laid[own], node.inputs[other]
        assert gain is not None
        how, names, sizes = solution.how, tuple(solution.sizes), solution.sizes
        varies = {names[a] for a in find_varying_axes(gain.array)}
        if varies.isdisjoint(how.gone) and self._shares.is_share(node, law, other, solution):
            return take_gain(gain, solution)
        weight = self.plain.find_value(name)
        if (
            gain.is_known
            and weight is not None
            and _is_alike_everywhere(law, own, varies, solution)
        ):
            values = weight.astype(np.float64)
            return weigh_gain(
                gain, lay_over_names(values, how.sides[other], names, sizes), solution
            )
        row = spread_shape(self._shape(name), how.sides[other], names, sizes)
        varies |= {n for n, size in zip(names, row, strict=True) if size > 1}
        varies |= set(names) - set().union(*how.named)
        axes = zip(how.results[0], solution.shapes[0], strict=True)
        return make_unknown([1 if varies.isdisjoint(term.names) else n for term, n in axes])


def _is_alike_everywhere(
    law: Multilinear, own: int, varies: set[str], solution: SolvedEquation
) -> bool:
    """Tell whether a gain of known values changes a product alike at all places of a map."""
    if law.window is None:
        return True
    places = solution.how.pinned - solution.how.named[1]
    return own == 0 and not law.window.is_padded and varies.isdisjoint(places)
