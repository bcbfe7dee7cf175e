"""Carries gains through operators that an equation describes: products, means and softmax."""

from __future__ import annotations

import numpy as np

from ..dataflow.labels.equations import SolvedEquation, lay_over_names, solve_equation, spread_shape
from ..dataflow.labels.roles import find_varying_axes
from ..errors import UnknownStructureError
from ..rules import Equation
from ..rules.laws import Linear, Multilinear, Softmax
from ..scaling.state import PlainNode
from .gains import (
    Gain,
    add_gains,
    average_gain,
    make_unknown,
    multiply_gain,
    take_gain,
    weigh_gain,
)
from .state import Gains, GainState


def find_equation_gain(
    state: GainState, node: PlainNode, kind: Equation, gains: Gains
) -> Gain | None:
    """Return the gain of the result of a node that an equation describes; None where it is gone.

    Args:
        state: the walk.
        node: the node.
        kind: its equation.
        gains: the gains of its operands, over their own axes.

    Raises:
        UnknownStructureError: nothing is known of it.
    """
    shapes = [state.plain.find_shape(n) if n else None for n in node.inputs]
    results = [state.plain.find_shape(o) if o else None for o in node.outputs]
    solution = solve_equation(kind.text, shapes, kind.sizes, results)
    names, sizes, how = tuple(solution.sizes), solution.sizes, solution.how
    if any(gains[len(how.sides) :]):
        raise UnknownStructureError("a gain of an operand that the rule does not name")
    sides = zip(gains, how.sides, strict=False)
    laid = [g and g.with_array(lay_over_names(g.array, side, names, sizes)) for g, side in sides]
    match node.law:
        case Softmax() if laid[0]:
            places = [names.index(n) for n in how.over]
            # Along an axis of length one every gain looks constant; in a longer run it may vary.
            is_short = any(sizes[n] == 1 for n in how.over)
            if is_short or any(laid[0].array.shape[a] > 1 for a in places):
                raise UnknownStructureError("a gain of some scores")
            return None
        case Linear(is_mean=True) if laid[0]:
            return average_gain(laid[0], solution)
        case Multilinear(factors=factors) as law if factors == 2 or len(laid) == 2:
            return _multiply_factors(state, node, law, solution, laid)
    raise UnknownStructureError("nothing is known of the operator")


def _multiply_factors(
    state: GainState, node: PlainNode, law: Multilinear, solution: SolvedEquation, laid: Gains
) -> Gain | None:
    """Return the gain of a product of two factors, and of the bias behind it."""
    if laid[0] and laid[1]:
        raise UnknownStructureError("a gain of both factors")
    addend = take_gain(laid[2], solution) if len(laid) > 2 and laid[2] else None
    made = None
    if laid[0] or laid[1]:
        own, other = (0, 1) if laid[0] else (1, 0)
        made = multiply_gain(
            _contract_gain(state, node, law, solution, laid, own, other), law.coefficient
        )
    # The bias of the product itself may be the one that cancels the gain.
    has_bias = len(node.inputs) > 2 and node.inputs[2] in state.plain.graph.tensors
    if made and made.is_known and addend is None and has_bias:
        state.met_biases.append(node.inputs[2])
    terms = (made, multiply_gain(addend, law.addend))
    return add_gains([g for g in terms if g is not None])


def _contract_gain(
    state: GainState,
    node: PlainNode,
    law: Multilinear,
    solution: SolvedEquation,
    laid: Gains,
    own: int,
    other: int,
) -> Gain:
    """Return the gain of a product, one factor of which has a gain.

    Args:
        state: the walk.
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
    # sum_j p_j (v_j + g) = sum_j p_j v_j + g where g is the same for all j, and the p_j sum to one.
    if varies.isdisjoint(how.gone) and state.shares.is_share(node, law, other, solution):
        return take_gain(gain, solution)
    weight = state.plain.find_value(name)
    if gain.is_known and weight is not None and _is_alike_everywhere(law, own, varies, solution):
        values = weight.astype(np.float64)
        return weigh_gain(gain, lay_over_names(values, how.sides[other], names, sizes), solution)
    # The other factor depends on inputs, so no value is known. The result varies along all names
    # along which either factor does, and along those that the result alone has.
    row = spread_shape(state.plain.find_shape(name), how.sides[other], names, sizes)
    varies |= {n for n, size in zip(names, row, strict=True) if size > 1}
    varies |= set(names) - set().union(*how.named)
    axes = zip(how.results[0], solution.shapes[0], strict=True)
    return make_unknown([1 if varies.isdisjoint(term.names) else n for term, n in axes])


def _is_alike_everywhere(
    law: Multilinear, own: int, varies: set[str], solution: SolvedEquation
) -> bool:
    """Tell whether a gain of known values changes a product alike at all places of a map.

    Args:
        law: the law of the product.
        own: the factor with the gain, 0 or 1.
        varies: the names along which the gain varies.
        solution: the equation of the product.
    """
    if law.window is None:
        return True
    # At the edge of a padded map a window holds zeros, which have no gain. The names that are
    # pinned in the map and not in the kernel are the places of the map.
    places = solution.how.pinned - solution.how.named[1]
    return own == 0 and not law.window.is_padded and varies.isdisjoint(places)
