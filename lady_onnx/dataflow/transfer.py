"""Transfer functions: what a rule does to the abstract tensors that a node reads.

`apply_rule` is the one entry. Equations and movements have modules of their own; sources,
elementwise operators and steps are here. Operators with bodies are not: they need the walk, and
are in `bodies`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import rules
from ..errors import UnknownStructureError
from .equation_transfer import Shape, apply_equation, check_symbolic_axes
from .label_runs import unify_elementwise_runs
from .labels.roles import find_varying_axes
from .labels.tensors import Tensor, make_opaque, prefix_axes, tidy_roles
from .labels.unification import unify_roles
from .labels.weights import Labelling
from .movement import concatenate_tensors, move_tensor


def apply_rule(
    labelling: Labelling,
    kind: rules.Kind,
    operands: Sequence[Tensor | None],
    loose: Sequence[bool],
    inferred: Sequence[Shape | None],
) -> list[Tensor]:
    """Apply a rule to its operands, and return the results.

    Args:
        labelling: gets the statements, and gives weights their labels.
        kind: what the rule says of the node; no `Body`.
        operands: the operands, None for one that is not given.
        loose: whether an axis of one may be longer in each of them.
        inferred: the results' shapes, as far as they are known.

    Raises:
        UnknownStructureError: the operands do not fit the rule.
        TypeError: the rule says nothing that is known.
    """
    match kind:
        case rules.Source(uniform):
            return _apply_source(uniform, inferred)
        case rules.Elementwise():
            return [apply_elementwise(labelling, operands, loose)] * len(inferred)
        case rules.Movement():
            return _apply_movement(labelling, kind, operands, loose)
        case rules.Equation():
            return apply_equation(labelling, kind, operands, loose, inferred)
        case rules.Steps():
            return _apply_steps(labelling, kind, operands, loose)
    raise TypeError(f"{kind!r} is no kind of a rule")


def _apply_source(uniform: bool, inferred: Sequence[Shape | None]) -> list[Tensor]:
    """Make results that depend on the order of no operand.

    Their elements are all alike if `uniform`, else each keeps its place.
    """
    shapes = [shape for shape in inferred if shape is not None]
    if len(shapes) < len(inferred):
        raise UnknownStructureError("a shape that cannot be computed")
    return [Tensor(shape) if uniform else make_opaque(shape) for shape in shapes]


def apply_elementwise(
    labelling: Labelling, operands: Sequence[Tensor | None], loose: Sequence[bool]
) -> Tensor:
    """Combine operands element by element, by numpy's broadcasting.

    Args:
        labelling: gets the statements, and gives weights their labels.
        operands: the operands, None for one that is not given.
        loose: whether an axis of one may be longer in each of them.

    Raises:
        UnknownStructureError: a symbolic axis, taken as one, meets a longer one.
    """
    given = [o for o in operands if o]
    free = [f for f, o in zip(loose, operands, strict=True) if o]
    check_symbolic_axes([(o.shape, f) for o, f in zip(given, free, strict=True)])
    shape = np.broadcast_shapes(*(o.shape for o in given))
    # an operand without roles or weights is the same at every place, and says nothing of order
    spanning = [o for o in given if o.parts or o.has_roles]
    if len(spanning) == 1 and spanning[0].shape == shape:
        return spanning[0]
    if any(o.has_roles for o in spanning):
        simple = unify_elementwise_runs(labelling, spanning, shape)
        if simple is not None:
            return simple
    return _broadcast_roles(labelling, given, shape)


def _broadcast_roles(labelling: Labelling, operands: Sequence[Tensor], shape: Shape) -> Tensor:
    """Broadcast operands whose roles are arrays; weights alone stay weights."""
    wide = [prefix_axes(o, len(shape)) for o in operands]
    if not any(o.has_roles for o in wide):
        return Tensor(shape, parts=tuple(p for o in wide for p in o.parts))
    entries = [(r, i) for i, o in enumerate(wide) for r in o.roles]
    # a weight takes the axes of the roles that it meets, those of earlier weights among them
    for i, o in enumerate(wide):
        if o.parts:
            sets = [set(find_varying_axes(r)) for r, _ in entries]
            entries += [(r, i) for r in labelling.label_parts(o.parts, sets, shape)]
    roles = unify_roles(labelling.facts, entries, shape, set(), set())
    return Tensor(shape, tidy_roles(roles, shape), reason=labelling.facts.reason)


def _apply_movement(
    labelling: Labelling,
    kind: rules.Movement,
    operands: Sequence[Tensor | None],
    loose: Sequence[bool],
) -> list[Tensor]:
    """Make results whose elements are those of operands, moved."""
    found = []
    for sources, steps in kind.results:
        moved = [o for i in sources if (o := operands[i])]
        for step in steps:
            # the operands behind the first give the shape to expand to
            if isinstance(step, rules.Expand) and not all(loose[1:]):
                shapes = [(o.shape, free) for o, free in zip(moved, loose, strict=False)]
                check_symbolic_axes([*shapes, (step.shape, False)])
        source = moved[0] if len(moved) == 1 else concatenate_tensors(labelling, moved, kind.axis)
        found.append(move_tensor(labelling, source, steps))
    return found


def _apply_steps(
    labelling: Labelling,
    kind: rules.Steps,
    operands: Sequence[Tensor | None],
    loose: Sequence[bool],
) -> list[Tensor]:
    """Apply several rules, one after the other, and return the results that the node has."""
    made = {str(i): given for i, given in enumerate(zip(operands, loose, strict=True))}
    named = {w for _, _, wanted in kind.steps for w in wanted}
    # a single element has no order that could be lost
    if any(o and math.prod(o.shape) > 1 and str(i) not in named for i, o in enumerate(operands)):
        raise UnknownStructureError("an operand that the rule does not name")
    for name, shape in kind.states.items():
        made[name] = labelling.make_state(shape), False
    for name, rule, wanted in kind.steps:
        chosen = [made[w] for w in wanted]
        free = [f for _, f in chosen]
        result = apply_rule(labelling, rule, [o for o, _ in chosen], free, [None])[0]
        made[name] = result, any(free)
    return [o for name in kind.results if (o := made[name][0])]
