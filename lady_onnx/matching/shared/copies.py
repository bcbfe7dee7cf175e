"""Which groups and weights of a part that two models share are copies, and how much that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...groups.model import Group
from ...groups.permutations import Arrays, Nesting
from ...numerics import MIN_DIVISOR, as_finite
from ..matches import Match
from ..unequal.surplus import MIN_COPY_SIMILARITY
from .restriction import list_members

MIN_COMMON_SHARE = 0.1
"""The smallest share of the smaller model's units, and of its weights, that counts as a part.

It may be one layer: many models that have nothing to do with each other share an embedding that
somebody published, which is many weights and few units, or learn first layers that look alike,
which are few weights.
"""
MIN_COMMON_LAYERS = 2
"""A part has copies of at least so many weights of more than one axis: one layer is no part."""
MIN_TOLD_UNITS = 8
"""The fewest units of a part. One of each group is left out: it may be right by chance.
"""
MIN_COPIED_SHARE = 0.4
"""A group is copied if at least this share of its units are likely copies, beyond chance.

All groups inside its units count with it.
"""


@dataclass(frozen=True)
class Common:
    """The part that two models share.

    Attributes:
        weights, units: the shares of the reference's weights, by their elements, and of its units
            that the suspect has copies of; 0 to 1.
        suspect_weights, suspect_units: the shares of the suspect's that are these copies.
        equal: whether these weights are equal bit for bit once the units are back.
        parts_at: where the graphs part, in words: a node, a weight or an output, as the suspect
            calls it.
    """

    weights: float
    units: float
    suspect_weights: float
    suspect_units: float
    equal: bool
    parts_at: str

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return {
            "weights": self.weights,
            "units": self.units,
            "suspect_weights": self.suspect_weights,
            "suspect_units": self.suspect_units,
            "equal": self.equal,
            "parts_at": self.parts_at,
        }


def find_copied_groups(
    groups: Sequence[Group],
    matches: Sequence[Match],
    partners: Mapping[str, int],
    alike: Mapping[str, Sequence[Sequence[int]]],
) -> frozenset[str]:
    """Find the groups whose units are copies, with all that lies inside their units.

    Args:
        groups: the groups, inner ones first.
        matches: where their units were found.
        partners: by group id the number of units that may have a copy.
        alike: by group id the sets of units that nothing tells apart; they do not count.

    Returns:
        Their ids.
    """
    family, by_group = Nesting(groups), {m.group: m for m in matches}
    found: set[str] = set()
    for top in family.tops():
        members = list_members(family, top.id)
        likely = count = 0.0
        for name in members:
            left_out = [unit for units in alike.get(name, ()) for unit in units]
            certain = np.delete(by_group[name].certainty, left_out)
            # One unit of every group is right by chance.
            most = partners[name] - len(left_out) - 1
            if most > 0:
                likely += max(float(certain.sum()) - 1, 0.0)
                count += most
        if count and likely >= MIN_COPIED_SHARE * count:
            found.update(members)
    return frozenset(found)


def find_copied_weights(
    groups: Sequence[Group], copied: frozenset[str], reference: Arrays, placed: Arrays
) -> list[str]:
    """Find the weights that are copies: all their groups are, and their values are alike.

    Args:
        groups: the groups.
        copied: the ids of the groups whose units are copies.
        reference: the reference's weights.
        placed: the suspect's weights with all units in the reference's order.
    """
    other = {s.initializer for g in groups if g.id not in copied for s in g.slots}
    return [
        name for name in reference if name not in other and _is_copy(reference[name], placed[name])
    ]


def _is_copy(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Tell whether two weights point the same way."""
    x, y = (as_finite(a).ravel().astype(np.float64) for a in (ours, theirs))
    sizes = float(np.linalg.norm(x) * np.linalg.norm(y))
    if sizes < MIN_DIVISOR:
        # zeros are a copy of zeros alone
        return bool((x == y).all())
    return float(x @ y) / sizes >= MIN_COPY_SIMILARITY
