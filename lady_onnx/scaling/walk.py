"""By what the units of a group may be multiplied, slot by slot, without changing the function.

Besides their order, units have a scale and a sign. A ReLU lets any positive factor pass, and tanh a
change of sign; the weights that read a unit take its factor back. Every slot of a group has an
unknown factor. One walk over the graph finds the factor of every tensor's elements: a product of
powers of these unknowns. Three places give an equation: terms of a sum must have equal factors, the
factors of units that are summed over must cancel, and where an operator lets no factor pass, the
factor is one. Each equation is two: a linear one over the logarithms, and one modulo two over the
signs. The solutions are the factors that leave the model's function as it was.

A node either passes a factor on to its results, or the factor is noted to be one. So a factor whose
way no law tells never passes. Fused operators are walked as the plain ones that they stand for.

Sources: Neyshabur et al. 2015 (ReLU); Ganju et al. 2018; arXiv 2205.00199 (scales and signs).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dataflow.engine import Analysis
from ..dataflow.plainsteps import list_plain_steps
from ..errors import MALFORMED_NODE_ERRORS, UnknownStructureError
from ..graph.model import Graph
from ..groups.model import Group
from ..groups.scaling import Scaling
from ..rules import Body, Elementwise, Equation, Movement
from ..rules.laws import Independent, Linear, Recurrence
from .elementwise import pass_elementwise
from .equations import pass_equation
from .mixing import Mixing
from .monomials import FactorRole
from .movements import pass_movement
from .recurrence import pass_recurrence
from .reflections import Reflections
from .solving import solve_groups
from .state import FactorState, PlainNode, read_node


def find_scalings(graph: Graph, analysis: Analysis, groups: Sequence[Group]) -> dict[str, Scaling]:
    """Find the factors that units may have without changing what a model computes.

    Args:
        graph: the model.
        analysis: the analysis of the graph.
        groups: its groups.

    Returns:
        By group id the factors of its units, for every group that holds no other groups.
    """
    flat = [g for g in groups if g.kind != "blocks"]
    state = FactorState.begin(list_plain_steps(graph, analysis), flat)
    reflections, mixing = Reflections(state), Mixing(state)
    for proto, kind in state.plain.steps:
        node = read_node(state.plain, proto, kind)
        is_run_through = isinstance(kind, Body) and not kind.is_repeated
        if is_run_through:
            # The nodes inside are steps themselves, and say what the function or branch does.
            continue
        if not isinstance(node.law, Independent):
            _pass_node(state, reflections, mixing, node)
    for value in graph.model.graph.output:
        state.monomials.fix(state.list_factors(value.name))
        mixing.note_output(value.name)
    return solve_groups(state, reflections, mixing, flat)


def _pass_node(
    state: FactorState, reflections: Reflections, mixing: Mixing, node: PlainNode
) -> None:
    """Find the factors of a node's results."""
    _pass_zeros(state, node)
    try:
        made = _apply_rule(state, reflections, node)
        if made and any(node.outputs[len(made) :]):
            raise UnknownStructureError("a result that no rule for factors names")
        mixing.note_node(node, made)
    except (UnknownStructureError, *MALFORMED_NODE_ERRORS):
        _stop_factors(state, mixing, node)
        made = []
    for name, roles in zip(node.outputs, made or [[] for _ in node.outputs], strict=False):
        # Factors that are one everywhere are left out.
        kept = [(g, a) for g, a in roles if a.any()]
        # Each branch of an If makes the tensor.
        is_made_twice = name in state.roles
        state.roles[name] = (
            state.monomials.equate([state.roles[name], kept]) if is_made_twice else kept
        )


def _pass_zeros(state: FactorState, node: PlainNode) -> None:
    """Note the results that are copies of a weight of zeros."""
    is_copy = isinstance(node.law, Linear) and node.law.is_copy
    is_moved = len(node.inputs) == 1 and (node.is_plain_movement or is_copy)
    if is_moved and state.is_zero(node.inputs[0]):
        state.zeros.update(node.outputs)


def _stop_factors(state: FactorState, mixing: Mixing, node: PlainNode) -> None:
    """Note that all factors on the operands of a node are one."""
    groups = {g for name in node.inputs for g, _ in state.list_factors(name)}
    mixing.nonlinear |= groups
    is_sum = isinstance(node.law, Linear) and isinstance(node.kind, Elementwise)
    # What acts on each element alone lets no units meet, unless it adds units to others. The units
    # that an equation lets meet are noted where it is read.
    if not isinstance(node.kind, Equation | Elementwise) or is_sum:
        state.crossed |= groups
    state.monomials.fix(r for name in node.inputs for r in state.list_factors(name))
    weights = [name for name in node.inputs if name and state.is_weight(name)]
    state.note_reading(r for name in weights for r in state.list_factors(name))


def _apply_rule(
    state: FactorState, reflections: Reflections, node: PlainNode
) -> list[list[FactorRole]]:
    """Return the factors of each result of a node, by its law.

    Raises:
        UnknownStructureError: no factor passes.
    """
    if not any(state.list_factors(name) for name in node.inputs):
        return []
    if any(name in reflections.reflected for name in node.inputs):
        reflections.pass_behind(node)
    rest: list[list[FactorRole]] = [[] for _ in node.outputs[1:]] if node.results_stay else []
    match node.kind, node.law:
        case None, _:
            raise UnknownStructureError("no rule for factors")
        case _, Recurrence(gates=gates):
            return pass_recurrence(state, node, gates)
        case Movement() as kind, _:
            return pass_movement(state, node, kind)
        case Equation() as kind, _:
            return [pass_equation(state, reflections, node, kind), *rest]
        case Elementwise(), _:
            return [pass_elementwise(state, reflections, node), *rest]
    raise UnknownStructureError("no rule for factors")
