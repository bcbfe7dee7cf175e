"""Matches two models that were brought to one size: which units are missing, and which are extra.

What is matched with zeros has no partner. Whether the function needs an extra unit is the business
of `idle`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from ...groups.model import Group, Slot
from ...groups.permutations import Permutations
from ...numerics import is_float_array
from ...reporting import Progress
from ..alignment import AlignmentState
from ..matcher import Matcher
from ..matches import Match
from ..strategies import Prior
from .extension import Extended
from .idle import remove_idle_units

MIN_COPY_SIMILARITY = 0.3
"""Below this similarity a unit is no other's copy.

The cosine of a copy falls below it under noise of three times the deviation of the unit's row.
"""


@dataclass(frozen=True)
class Unequal:
    """What became of the units of two models.

    Attributes:
        matches: By group, in the order of the reference, where each of all units lies; similarity
            and certainty of units of one model alone are 0.
        missing: `(group, unit)` of the reference without a partner.
        extra: `(group, unit)` of the suspect without a partner.
        idle: Those of `extra` that the function does not need: obfuscation.
        arrays: The suspect's weights with all units in the reference's places, extra ones behind
            them.
        plain: The same without the `idle` units; what reads them is added to what reads the units
            that compute the same.
    """

    matches: list[Match]
    missing: list[tuple[str, int]]
    extra: list[tuple[str, int]]
    idle: list[tuple[str, int]]
    arrays: dict[str, np.ndarray]
    plain: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Partners:
    """Which units have partners: matches by group id, and `(group, unit)` of those without."""

    matches: Mapping[str, Match]
    missing: list[tuple[str, int]]
    extra: list[tuple[str, int]]


def match_extended(
    both: Extended,
    incoming: Mapping[str, Sequence[Slot]],
    silent: Set[str],
    progress: Progress | None = None,
) -> Unequal:
    """Find which unit of the suspect is which of the reference's, and what the others do.

    Args:
        both: the models, brought to one size.
        incoming: by group id, the slots whose rows make the group's units; what its other slots
            hold reads them.
        silent: the ids of groups whose units compute zero if zeros make them.
        progress: called with how many of how many groups are matched.
    """
    matcher = Matcher(both.groups, both.reference, both.suspect, prior=_make_prior(both))
    found = matcher.run(progress)
    partners = _find_partners(both, matcher.alignment, found)
    current = matcher.alignment.current
    arrays = {**both.suspect, **{n: np.array(a) for n, a in current.items()}}
    # Outgoing weights that cancel are sums of large numbers: double precision keeps what is left.
    wide = {n: a.astype(np.float64) if is_float_array(a) else a for n, a in arrays.items()}
    idle = remove_idle_units(both, partners.matches, partners.extra, incoming, wide, silent)
    plain = {n: a.astype(arrays[n].dtype) for n, a in wide.items()}
    matches = [partners.matches[g.id] for g in both.groups]
    return Unequal(matches, partners.missing, partners.extra, idle, arrays, plain)


def _make_prior(both: Extended) -> Prior:
    """Return the prior that pairs with a unit of zeros are all alike.

    So which of the units that are left over is paired with which zeros has no influence on the
    others.
    """

    def blank_scores(group: Group, scores: np.ndarray, permutations: Permutations) -> np.ndarray:
        # Which unit of the suspect, as it came, stands at each place by now.
        places = permutations.get(group.id, np.arange(group.size))
        scores[both.mine[group.id] :] = 0
        scores[:, places >= both.theirs[group.id]] = 0
        return scores

    return blank_scores


def _find_partners(both: Extended, alignment: AlignmentState, found: Sequence[Match]) -> _Partners:
    """Find the units that have partners, outer groups first.

    What lies inside a unit without a partner is not reported by itself.
    """
    by_group = {m.group: m for m in found}
    inverse = {n: np.argsort(p) for n, p in alignment.permutations.items()}
    missing: list[tuple[str, int]] = []
    extra: list[tuple[str, int]] = []
    # By group, bool [size]: the suspect's units that are partners.
    taken: dict[str, np.ndarray] = {}
    # In reverse, so that groups come before those inside their units.
    for group in reversed(both.groups):
        match, count = by_group[group.id], both.mine[group.id]
        # Inner groups go by where they lie in the suspect. They have one size in both models; top
        # groups were lengthened, and what stands behind a model's own units is zeros.
        inside = all(taken[p][u] for p, u in group.parents)
        size = group.size if group.parents else both.theirs[group.id]
        present = inside & (match.permutation < size) & (match.similarity >= MIN_COPY_SIMILARITY)
        if not group.parents:
            present[count:] = False
        taken[group.id] = np.zeros(group.size, bool)
        taken[group.id][match.permutation[present]] = True
        similarity, certainty = (
            np.where(present, a, 0.0) for a in (match.similarity, match.certainty)
        )
        by_group[group.id] = replace(match, similarity=similarity, certainty=certainty)
        if inside:
            name = alignment.layout.family.twin(group.id, inverse)
            missing += [
                (name, int(u)) for u in np.flatnonzero(~present) if group.parents or u < count
            ]
            extra += [(group.id, int(u)) for u in np.flatnonzero(~taken[group.id][:size])]
    order = {g.id: k for k, g in enumerate(both.groups)}
    for units in (missing, extra):
        units.sort(key=lambda unit: (order[unit[0]], unit[1]))
    return _Partners(by_group, missing, extra)


def write_matched(
    both: Extended, found: Unequal
) -> tuple[list[Group], list[Match], dict[str, np.ndarray]]:
    """Return the suspect in its own shapes: units in the reference's order, extra ones behind them.

    Args:
        both: the models, brought to one size.
        found: what became of their units.

    Returns:
        The suspect's groups, by the ids of `both`, with the matches of their units, and the
        suspect's weights by the reference's names.
    """
    places = {key: where.copy() for key, where in both.places.items()}
    groups, matches = [], []
    for group, match in zip(both.groups, found.matches, strict=True):
        twin = both.twins.get(group.id)
        if twin is None:
            continue
        groups.append(replace(twin, id=group.id, parents=group.parents))
        if group.parents:
            # These are in their order already, inside units that are put into theirs.
            matches.append(match)
            continue
        # Places of the common order at which a unit of the suspect lies, and not zeros.
        real = np.flatnonzero(match.permutation < both.theirs[group.id])
        figures = (
            a[real] for a in (match.permutation, match.similarity, match.margin, match.certainty)
        )
        matches.append(Match(group.id, *figures))
        there = {(s.initializer, s.axis): s for s in twin.slots}
        for slot in group.slots:
            twins_slot = there[both.names[slot.initializer], slot.axis]
            places[slot.initializer, slot.axis][twins_slot.index.ravel()] = slot.index[real].ravel()
    arrays = {
        n: a[np.ix_(*(places[n, axis] for axis in range(a.ndim)))] for n, a in found.arrays.items()
    }
    return groups, matches, arrays
