"""The transfer function of equations: what an operator that combines named axes does to labels.

The roles of all operands are laid out over the names of the equation and unified. Weights that have
no labels yet get theirs here. A name in square brackets pins what runs along it, a contracted name
disappears, and each result takes the roles along the names that it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import rules
from ..errors import UnknownStructureError
from .label_runs import unify_equation_runs
from .labels.equations import (
    Plan,
    SolvedEquation,
    Term,
    lay_over_names,
    solve_equation,
    spread_shape,
    take_result_axes,
)
from .labels.facts import Facts
from .labels.roles import find_varying_axes, is_address, lay_along, make_addresses
from .labels.tensors import Part, Tensor, tidy_roles
from .labels.unification import fix_to_addresses, unify_roles
from .labels.weights import Labelling

Shape = tuple[int, ...]
Entry = tuple[np.ndarray, int]
"""A role over the names of an equation, and the operand that it comes from."""


def apply_equation(
    labelling: Labelling,
    kind: rules.Equation,
    operands: Sequence[Tensor | None],
    loose: Sequence[bool],
    inferred: Sequence[Shape | None],
) -> list[Tensor]:
    """Apply an equation to its operands, and return the results.

    Args:
        labelling: gets the statements, and gives weights their labels.
        kind: the equation.
        operands: the operands, None for one that is not given.
        loose: whether an axis of one may be longer in each of them.
        inferred: the results' shapes as far as they are known.

    Raises:
        UnknownStructureError: the operands do not fit the equation.
    """
    solved = solve_equation(
        kind.text, [o.shape if o else None for o in operands], kind.sizes, inferred
    )
    operands = operands[: len(solved.operands)]
    if not any(loose):
        simple = unify_equation_runs(labelling, operands, solved)
        if simple is not None:
            return simple
    how, sizes = solved.how, solved.sizes
    names = tuple(sizes)
    _check_sizes(operands, loose, solved)
    entries: list[Entry] = []
    for i, (operand, side) in enumerate(zip(operands, how.sides, strict=True)):
        if operand is not None:
            entries += [(lay_over_names(r, side, names, sizes), i) for r in operand.roles]
    _label_operands(labelling, entries, operands, solved)
    _pin_entries(labelling.facts, entries, {names.index(n) for n in how.pinned})
    gone = {names.index(n) for n in how.gone | how.pinned}
    over = {names.index(n) for n in how.over}
    combined = unify_roles(labelling.facts, entries, list(sizes.values()), gone, over)
    return [
        _make_result(combined, terms, shape, solved, labelling.facts.reason)
        for terms, shape in zip(how.results, solved.shapes, strict=False)
    ]


def _check_sizes(
    operands: Sequence[Tensor | None], loose: Sequence[bool], solved: SolvedEquation
) -> None:
    """Check that operands differ in size along a name only where one broadcasts.

    Raises:
        UnknownStructureError: they do not.
    """
    sizes = solved.sizes
    names = tuple(sizes)
    rows = [
        spread_shape(o.shape, side, names, sizes)
        for o, side in zip(operands, solved.how.sides, strict=True)
        if o
    ]
    free = [f for f, o in zip(loose, operands, strict=False) if o]
    check_symbolic_axes(list(zip(rows, free, strict=True)))
    # along a name that is kept, one element broadcasts; a sum has to meet all elements of both
    if any(row[names.index(x)] == 1 != sizes[x] for row in rows for x in solved.how.gone):
        raise UnknownStructureError("a contracted axis of two sizes")


def _label_operands(
    labelling: Labelling,
    entries: list[Entry],
    operands: Sequence[Tensor | None],
    solved: SolvedEquation,
) -> None:
    """Give the weights among the operands their labels, and add these to the entries."""
    how, sizes = solved.how, solved.sizes
    names = tuple(sizes)
    waiting = [i for i, o in enumerate(operands) if o is not None and o.parts]
    # a weight that is contracted decides what its axes are; the others follow what they meet
    for i in sorted(waiting, key=lambda i: not (how.named[i] & how.gone)):
        operand = operands[i]
        assert operand is not None
        parts = [_lay_part(part, how.sides[i], names, sizes) for part in operand.parts]
        sets = _list_own_orders(parts, i, names, how)
        if sets is None:
            sets = [set(find_varying_axes(r)) for r, _ in entries]
        entries += [(r, i) for r in labelling.label_parts(parts, sets, list(sizes.values()))]


def _lay_part(
    part: Part, side: tuple[Term, ...], names: tuple[str, ...], sizes: dict[str, int]
) -> Part:
    """Lay a weight inside an operand over the names of the equation."""
    index = tuple(None if x is None else lay_over_names(x, side, names, sizes) for x in part.index)
    # a product of names splits an axis of the weight, which then lies along several
    is_whole = part.is_whole and all(x is None or len(find_varying_axes(x)) == 1 for x in index)
    return Part(part.weight, index, is_whole)


def _list_own_orders(
    parts: Sequence[Part], operand: int, names: tuple[str, ...], how: Plan
) -> list[set[int]] | None:
    """List the sets of axes along which a contracted weight has orders of its own, else None.

    Along the axes that it makes, and along those that it reads, the order is one of its own at
    every place of the batch.
    """
    span = {names[a] for p in parts for x in p.index if x is not None for a in find_varying_axes(x)}
    own = span - how.batch - how.pinned
    if not (how.named[operand] & how.gone and own and len(how.contracting) > 1):
        return None
    ends = [e for e in (own & how.gone, own - how.gone) if e]
    return [{names.index(n) for n in e | (how.batch & span)} for e in ends]


def _pin_entries(facts: Facts, entries: Sequence[Entry], pinned: set[int]) -> None:
    """Pin the labels along pinned axes, or make them keep to their places on these."""
    for role, _ in entries:
        axes = set(find_varying_axes(role))
        if not axes & pinned or is_address(role):
            continue
        if axes <= pinned:
            facts.pin_labels(role, facts.bracket_reason)
        else:
            places = [n if a in pinned else 1 for a, n in enumerate(role.shape)]
            fix_to_addresses(facts, role, make_addresses(math.prod(places)).reshape(places))


def _make_result(
    combined: Sequence[np.ndarray],
    terms: tuple[Term, ...],
    shape: Shape,
    solved: SolvedEquation,
    reason: str,
) -> Tensor:
    """Make one result, of the roles that the equation leaves and addresses along pinned axes."""
    roles = []
    names = tuple(solved.sizes)
    for role in combined:
        laid = take_result_axes(role, terms, names, solved.sizes)
        if laid is not None:
            roles.append(laid)
    for a, term in enumerate(terms):
        pinned = "[" in term.flags or not solved.how.pinned.isdisjoint(term.names)
        if pinned and shape[a] > 1:
            roles.append(lay_along(make_addresses(shape[a]), a, len(shape)))
    return Tensor(shape, tidy_roles(roles, shape), reason=reason)


def check_symbolic_axes(operands: Sequence[tuple[Shape, bool]]) -> None:
    """Refuse a symbolic axis, taken as one, that meets a longer axis.

    Args:
        operands: shapes, aligned at their ends, with 0 for an axis that an operand does not have;
            and for each whether an axis of one in it may be symbolic.

    Raises:
        UnknownStructureError: there is such an axis, and the longer one is not symbolic.
    """
    # whether it is one or longer decides whether it broadcasts, and that is not known
    for axis in range(1, 1 + max(len(shape) for shape, _ in operands)):
        sizes = [(shape[-axis], free) for shape, free in operands if len(shape) >= axis]
        if (1, True) in sizes and any(n > 1 and not free for n, free in sizes):
            raise UnknownStructureError("a symbolic axis, taken as one, meets a longer one")
