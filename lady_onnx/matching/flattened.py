"""Matches the inner units of all units of a group at once, such as the dimensions of all heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..groups.model import Group, Slot
from .matches import Match
from .strategies import Comparison
from .sure import match_surely


def match_flattened(
    comparison: Comparison,
    group: Group,
    inner: Sequence[Sequence[Group]],
    slots: Sequence[Sequence[Sequence[Slot]]],
) -> dict[str, Match] | None:
    """Match all inner units of a group at once, and the units by where their own went.

    Args:
        comparison: the models, and how they are compared.
        group: the group that holds others.
        inner: by unit and kind the groups inside, which hold no others.
        slots: by unit and kind the slots of these groups, which cross no other kind.

    Returns:
        The matches of all groups by their ids; None if they are not sure, or an inner group has no
        slots, or is confined along other axes.
    """
    if not all(slots[0]) or any(s.within for own in slots for parts in own for s in parts):
        return None
    outer: np.ndarray | None = None
    found: dict[str, Match] = {}
    margins, similarities = np.zeros(group.size), []
    for kind, first in enumerate(inner[0]):
        sides = zip(*(own[kind] for own in slots), strict=True)
        flat = [replace(s[0], index=np.concatenate([t.index for t in s])) for s in sides]
        match = match_surely(comparison, group.id, flat, group.size * first.size)
        if match is None:
            return None
        unit, place = np.divmod(match.permutation.reshape(group.size, first.size), first.size)
        outer = unit[:, 0] if outer is None else outer
        if (unit != outer[:, None]).any():
            return None
        figures = [
            z.reshape(group.size, -1) for z in (match.similarity, match.margin, match.certainty)
        ]
        for u, v in enumerate(outer.tolist()):
            name = inner[v][kind].id
            found[name] = Match(name, place[u], *(z[u] for z in figures))
        similarities.append(figures[0].mean(1))
        margins += figures[1].sum(1)
    assert outer is not None
    ones = np.ones(group.size)
    found[group.id] = Match(group.id, outer, np.mean(similarities, 0), margins, ones)
    return found
