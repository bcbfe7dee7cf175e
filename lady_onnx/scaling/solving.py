"""From the equations of a finished walk to the factors that the units of a group may have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..groups.model import Group, Slot
from ..groups.scaling import Scaling
from .linear_system import LinearSystem
from .mixing import Mixing
from .reflections import Reflections
from .state import FactorState


def solve_groups(
    state: FactorState, reflections: Reflections, mixing: Mixing, groups: Sequence[Group]
) -> dict[str, Scaling]:
    """Return the factors that the units of groups may have, slot by slot, by the groups' ids.

    Args:
        state: the factors and equations of a walk over the whole graph.
        reflections: the reflected tensors that it met.
        mixing: the groups whose units it saw mixed.
        groups: groups that hold no others.
    """
    own: dict[str, list[int]] = {g.id: [] for g in groups}
    for k, (group, _) in enumerate(state.unknowns):
        own[group].append(k)
    logs = _split_equations(state, state.monomials.logs)
    flips = _split_equations(state, [dict.fromkeys(row, 1) for row in state.monomials.flips])
    found = {}
    for g in groups:
        systems = (
            LinearSystem(own[g.id], logs.get(g.id, []), 0),
            LinearSystem(own[g.id], flips.get(g.id, []), 2),
        )
        found[g.id] = _solve_group(state, reflections, mixing, g, own[g.id], *systems)
    return found


def _split_equations(
    state: FactorState, equations: Sequence[dict[int, float]]
) -> dict[str, list[dict[int, float]]]:
    """Split equations by the group that their unknowns belong to.

    Factors of different groups are never multiplied or compared, so that all unknowns of an
    equation are of one group.
    """
    found: dict[str, list[dict[int, float]]] = {}
    for row in equations:
        if row:
            found.setdefault(state.unknowns[next(iter(row))][0], []).append(row)
    return found


def _solve_group(
    state: FactorState,
    reflections: Reflections,
    mixing: Mixing,
    group: Group,
    own: list[int],
    logs: LinearSystem,
    flips: LinearSystem,
) -> Scaling:
    """Return the factors that the units of a group may have.

    Args:
        state, reflections, mixing: those of `solve_groups`.
        group: the group.
        own: the numbers of its unknowns.
        logs, flips: the solved equations of the logarithms and of the signs.
    """
    slots, rows = _merge_equal(state, own, logs, flips)
    return Scaling(
        group=group.id,
        slots=tuple(slots),
        scales=_tabulate(logs, rows),
        signs=_tabulate(flips, rows) > 0,
        offsets=np.array([state.offsets.get(s.initializer, 0.0) for s in slots]),
        incoming=np.array([k not in state.reading for k in rows], bool),
        shifts=tuple(reflections.shifts.get(group.id, ())),
        crossed=group.id in state.crossed,
        linear=group.id not in mixing.nonlinear,
        turned=group.id in mixing.squared,
    )


def _merge_equal(
    state: FactorState, own: list[int], logs: LinearSystem, flips: LinearSystem
) -> tuple[list[Slot], list[int]]:
    """Merge slots whose unknowns are equal in every solution, and return an unknown of each.

    Positions of a unit that have equal factors become one slot again.
    """
    columns: dict[tuple, list[int]] = {}
    for k in own:
        slot = state.unknowns[k][1]
        within = tuple((a, p.tobytes()) for a, p in slot.within)
        key = slot.initializer, slot.axis, within, logs.make_key(k), flips.make_key(k)
        columns.setdefault(key, []).append(k)
    slots = []
    for found in columns.values():
        parts = [state.unknowns[k][1] for k in found]
        index = np.concatenate([p.index for p in parts], 1)
        slots.append(Slot(parts[0].initializer, parts[0].axis, index, parts[0].within))
    return slots, [found[0] for found in columns.values()]


def _tabulate(system: LinearSystem, rows: list[int]) -> np.ndarray:
    """Tabulate the coefficients of free unknowns in some unknowns, float64 [free, unknowns]."""
    table = [[system.values[k].get(f, 0.0) for k in rows] for f in system.free]
    return np.array(table).reshape(len(system.free), len(rows))
