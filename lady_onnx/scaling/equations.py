"""Transfer function of operators that an equation describes: contractions, reductions, norms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..dataflow.labels.equations import (
    SolvedEquation,
    lay_over_names,
    solve_equation,
    take_result_axes,
)
from ..errors import UnknownStructureError
from ..rules import Equation
from ..rules.laws import (
    Linear,
    Multilinear,
    Norm,
    PositivelyHomogeneous,
    StatisticsNorm,
)
from .monomials import FactorRole
from .reflections import Reflections
from .state import FactorState, PlainNode


@dataclass(frozen=True)
class _LaidFactors:
    """A node's factors over the names of its equation.

    Attributes:
        solution: the equation at the shapes of the node's tensors.
        names: the names of the equation in their order; they are the axes of all arrays.
        gone: the axes of contracted names that are longer than one.
        entries: the factors on every operand that the equation names, laid over all names.
    """

    solution: SolvedEquation
    names: tuple[str, ...]
    gone: list[int]
    entries: list[list[FactorRole]]

    def is_lost(self, role: FactorRole) -> bool:
        """Tell whether units lie along an axis that is summed over."""
        return any(role[1].shape[x] > 1 for x in self.gone)


def pass_equation(
    state: FactorState, reflections: Reflections, node: PlainNode, kind: Equation
) -> list[FactorRole]:
    """Return the factors of the first result of a node that an equation describes.

    Args:
        state: the walk.
        reflections: what is known of reflected tensors.
        node: the node.
        kind: its equation.

    Raises:
        UnknownStructureError: the operator's law lets no factor pass, or a unit has a single
            element.
    """
    laid = _lay_factors(state, node, kind)
    _note_crossed(state, node, laid)
    shown = {name for term in laid.solution.how.results[0] for name in term.names}
    lost = [k for k, name in enumerate(laid.names) if name not in shown]
    made = _merge_along(state, _apply_law(state, reflections, node, laid), lost)
    result: list[FactorRole] = []
    for group, array in made:
        over = take_result_axes(
            array, laid.solution.how.results[0], laid.names, laid.solution.sizes
        )
        if over is None:
            # These units lie along an axis that the result does not have.
            state.monomials.fix([(group, array)])
        else:
            result.append((group, over))
    return result


def _lay_factors(state: FactorState, node: PlainNode, kind: Equation) -> _LaidFactors:
    """Lay the factors on the operands over the names of the equation.

    Raises:
        UnknownStructureError: a unit has a single element, so that its axis is not known.
    """
    shapes = [state.find_shape(n) if n else None for n in node.inputs]
    results = [state.find_shape(o) if o else None for o in node.outputs]
    solution = solve_equation(kind.text, shapes, kind.sizes, results)
    how, sizes = solution.how, solution.sizes
    names = tuple(sizes)
    laid = _LaidFactors(solution, names, [names.index(n) for n in how.gone if sizes[n] > 1], [])
    # Operands behind the last side of the equation are pinned, so their factors are one.
    state.monomials.fix(r for n in node.inputs[len(how.sides) :] for r in state.list_factors(n))
    for name, side in zip(node.inputs, how.sides, strict=False):
        if any(a.size == 1 for _, a in state.list_factors(name)):
            raise UnknownStructureError("a single unit")
        roles = state.list_factors(name) if side else []
        laid.entries.append([(g, lay_over_names(a, side, names, sizes)) for g, a in roles])
        if state.is_weight(name):
            state.note_reading(r for r in laid.entries[-1] if laid.is_lost(r))
    return laid


def _note_crossed(state: FactorState, node: PlainNode, laid: _LaidFactors) -> None:
    """Note the groups whose units meet in anything but a sum that is weighted by a weight."""
    how, sizes = laid.solution.how, laid.solution.sizes
    # Names along which a weight lies: a sum over them gives each unit a weight of its own.
    weighed = {
        n
        for name, named in zip(node.inputs, how.named, strict=False)
        if name and state.is_weight(name)
        for n in named
    }
    is_product = isinstance(node.law, Multilinear)
    cross = {n for n in how.over | how.gone if not (is_product and n in weighed)}
    places = [laid.names.index(n) for n in cross if sizes[n] > 1]
    state.crossed |= {
        g for entry in laid.entries for g, a in entry if any(a.shape[x] > 1 for x in places)
    }


def _apply_law(
    state: FactorState, reflections: Reflections, node: PlainNode, laid: _LaidFactors
) -> list[FactorRole]:
    """Return the factors of the result over the names of the equation.

    Raises:
        UnknownStructureError: the operator's law lets no factor pass.
    """
    monomials, entries, first = state.monomials, laid.entries, laid.entries[0]
    match node.law:
        case Multilinear(factors=factors):
            count = len(entries) if factors is None else factors
            made = _sum_up(state, laid, (r for entry in entries[:count] for r in entry))
            return _add_weights(state, made, node.inputs[count:], entries[count:])
        case Linear(typed_by=typed_by, is_mixed_where_pinned=is_mixed):
            others = [entry for k, entry in enumerate(entries) if k not in (0, typed_by)]
            monomials.fix(r for entry in others for r in entry)
            if is_mixed:
                pinned = [laid.names.index(n) for n in laid.solution.how.pinned]
                first = _merge_along(state, first, pinned)
            return _sum_up(state, laid, first)
        case PositivelyHomogeneous():
            monomials.fix(r for entry in entries[1:] for r in entry)
            monomials.fix(first, scale=False)
            return _sum_up(state, laid, first)
        case StatisticsNorm(epsilon=epsilon):
            return _normalise_by_statistics(state, reflections, node, entries, epsilon)
        case Norm(keeps_sign=keeps_sign):
            # Dividing by the size takes back only a factor that all units share, and here each has
            # its own. So no factor passes but a sign.
            monomials.fix(first, sign=not keeps_sign)
            kept = monomials.keep_signs(first) if keeps_sign else first
            made = monomials.multiply([*kept, *(r for gain in entries[1:2] for r in gain)])
            return _add_weights(state, made, node.inputs[2:], entries[2:])
    raise UnknownStructureError("no rule for factors")


def _sum_up(
    state: FactorState, laid: _LaidFactors, roles: Iterable[FactorRole]
) -> list[FactorRole]:
    """Return the factors of a sum; the product of those of units that are summed over is one.

    Each term of a sum is a unit times its weight, so the factors of the two must cancel. A unit
    that is summed over its own elements must have one factor for all of them.
    """
    return _merge_along(state, state.monomials.multiply(roles), laid.gone)


def _merge_along(
    state: FactorState, roles: Iterable[FactorRole], axes: Sequence[int]
) -> list[FactorRole]:
    """Return the factors of units whose elements along axes are summed.

    They must be equal along these axes. Where different units lie there, they are one.
    """
    made: list[FactorRole] = []
    for role in roles:
        is_along = any(role[1].shape[x] > 1 for x in axes)
        kept = state.monomials.merge(role, axes) if is_along else role
        if kept is None:
            state.monomials.fix([role])
        else:
            made.append(kept)
    return made


def _add_weights(
    state: FactorState,
    made: list[FactorRole],
    names: list[str],
    entries: list[list[FactorRole]],
) -> list[FactorRole]:
    """Return the factors of a product to which weights are added; zeros have any factor.

    Args:
        state: the walk.
        made: the factors of the product.
        names: the weights that are added, "" for one that is left out.
        entries: the factors on them.
    """
    added = [
        entry
        for name, entry in zip(names, entries, strict=False)
        if name and (entry or not state.is_zero(name))
    ]
    return state.monomials.equate([made, *added]) if added else made


def _normalise_by_statistics(
    state: FactorState,
    reflections: Reflections,
    node: PlainNode,
    entries: list[list[FactorRole]],
    epsilon: float,
) -> list[FactorRole]:
    """Return the factors behind a batch norm, which divides by the factor of the deviation."""
    monomials = state.monomials
    x, gain, bias, mean, variance = entries
    _add_weights(state, x, [node.inputs[3]], [mean])
    # A factor multiplies the sum of variance and epsilon, and the epsilon is added here alone. So
    # the factor is free only where every reader of the weight adds the same epsilon.
    is_variance = _is_variance(state, reflections, node, epsilon)
    monomials.fix(variance, scale=not is_variance)
    if variance:
        state.offsets[node.inputs[4]] = epsilon
    deviation = monomials.raise_to(monomials.keep_sizes(variance), -0.5)
    made = monomials.multiply([*x, *gain, *deviation])
    return _add_weights(state, made, [node.inputs[2]], [bias])


def _is_variance(
    state: FactorState, reflections: Reflections, node: PlainNode, epsilon: float
) -> bool:
    """Tell whether a weight is read as a variance alone, and always with the same epsilon."""
    name = node.inputs[4]
    return name in state.plain.graph.tensors and all(
        reader.law == StatisticsNorm(epsilon) and name not in reader.inputs[:4]
        for reader in reflections.list_readers(name)
    )
