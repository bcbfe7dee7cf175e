"""Two models that share a part: what it holds, which of its units are copies, how large it is.

The groups are those of each whole model, so that what is done to the suspect leaves its whole
function as it was. They are matched by their slots in weights that both have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dataflow.engine import Analysis, analyse_graph
from ..graph.model import Graph
from ..groups.model import Symmetry
from ..groups.permutations import Arrays, Nesting
from ..groups.restriction import join_groups, list_members, restrict_groups
from ..matching.matches import Match
from ..matching.unequal.surplus import MIN_COPY_SIMILARITY
from ..numerics import MIN_DIVISOR, as_finite
from ..pairing.common_part import CommonPart, find_common_part
from ..pairing.counterparts import Link
from ..pairing.skeleton import Place
from ..symmetry.finder import extract_groups

MIN_COMMON_SHARE = 0.1
"""Of less than this share of the units of either model nothing is said: it may be one layer.

Many models that have nothing to do with each other share an embedding that somebody published, or
learn first layers that look alike.
"""
MIN_COPIED_SHARE = 0.4
"""A group is common where no smaller share of its units are likely copies, beyond chance.

All groups inside its units count with it.
"""


@dataclass(frozen=True)
class CommonPairing:
    """What is known in addition where two models share a part alone.

    Attributes:
        part: the weights of the part.
        ours, theirs: the groups of the whole reference and of the whole suspect, in their own
            names.
        refusal: why the two are not one network.
    """

    part: CommonPart
    ours: Symmetry
    theirs: Symmetry
    refusal: str

    @property
    def our_units(self) -> int:
        """The number of the reference's units."""
        return sum(g.size for g in self.ours.groups)

    @property
    def their_units(self) -> int:
        """The number of the suspect's units."""
        return sum(g.size for g in self.theirs.groups)

    def is_large(self, units: float) -> bool:
        """Tell whether so many units are a part of either model that means something."""
        least = min(self.our_units, self.their_units)
        return units >= MIN_COMMON_SHARE * max(least, 1)


@dataclass(frozen=True)
class Common:
    """The part that two models share.

    Attributes:
        weights, units: the shares of the reference's weights, by their elements, and of its units
            that the suspect has copies of; 0 to 1.
        suspect_weights, suspect_units: the shares of the suspect's that are these copies.
        equal: whether these weights are equal bit for bit once the units are back.
        parts_at: the node where the graphs part, as the suspect calls it.
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


def pair_common_part(
    reference: Graph, suspect: Graph, refusal: str
) -> tuple[CommonPairing, Analysis, Symmetry] | None:
    """Find the part that two models share, and the groups by which it is matched.

    Args:
        reference: the reference.
        suspect: the suspect.
        refusal: why the two are not one network.

    Returns:
        The part, the facts of the reference, and the groups by which the part is matched: the
        suspect's, in the reference's names, and those that only the reference has. None where too
        little is common.
    """
    part = find_common_part(reference, suspect)
    if part is None:
        return None
    link = part.link
    back = {place.name: name for name, place in link.places.items()}
    mirrored = Link(link.suspect, link.reference, {b: Place(a) for b, a in back.items()}, False)
    # What is constant in one file alone is no constant of the part. A number that both have must
    # be the same to say that values are equal; any other number is its own file's business.
    analyses = [
        analyse_graph(side.reference, side.constant_along, _choose_number(side))
        for side in (link, mirrored)
    ]
    ours, theirs = (extract_groups(analysis) for analysis in analyses)
    groups = join_groups(
        restrict_groups(theirs.groups, back),
        restrict_groups(ours.groups, {name: name for name in back.values()}),
    )
    common = CommonPairing(part, ours, theirs, refusal)
    if not common.is_large(sum(g.size for g in groups)):
        return None
    return common, analyses[0], Symmetry(tuple(groups), (), ())


def _choose_number(link: Link) -> Any:
    """Return what gives the bytes of a constant: those of both files for one that both have."""

    def number(name: str) -> bytes | None:
        return link.number(name) if name in link.places else link.reference.number(name)

    return number


def find_copied_groups(
    symmetry: Symmetry, matches: Sequence[Match], alike: Mapping[str, Sequence[Sequence[int]]]
) -> frozenset[str]:
    """Find the groups whose units are copies, with all that lies inside their units.

    Args:
        symmetry: the groups.
        matches: where their units were found.
        alike: by group id the sets of units that nothing tells apart; they do not count.

    Returns:
        Their ids.
    """
    family, by_group = Nesting(symmetry.groups), {m.group: m for m in matches}
    found: set[str] = set()
    for top in family.tops():
        members = list_members(family, top.id)
        likely = count = 0.0
        for name in members:
            left_out = [unit for units in alike.get(name, ()) for unit in units]
            certain = np.delete(by_group[name].certainty, left_out)
            # One unit of every group is right by chance.
            if certain.size > 1:
                likely += max(float(certain.sum()) - 1, 0.0)
                count += certain.size - 1
        if count and likely >= MIN_COPIED_SHARE * count:
            found.update(members)
    return frozenset(found)


def find_copied_weights(
    symmetry: Symmetry, copied: frozenset[str], reference: Arrays, placed: Arrays
) -> list[str]:
    """Find the weights that are copies: all their groups are, and their values are alike.

    Args:
        symmetry: the groups.
        copied: the ids of the groups whose units are copies.
        reference: the reference's weights.
        placed: the suspect's weights with all units in the reference's order.
    """
    other = {s.initializer for g in symmetry.groups if g.id not in copied for s in g.slots}
    return [
        name for name in reference if name not in other and _is_copy(reference[name], placed[name])
    ]


def _is_copy(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Tell whether two weights point the same way."""
    x, y = (as_finite(a).ravel().astype(np.float64) for a in (ours, theirs))
    sizes = float(np.linalg.norm(x) * np.linalg.norm(y))
    if sizes < MIN_DIVISOR:
        # a bias of zeros is a copy of one, and of none that was trained
        return bool((x == y).all())
    return float(x @ y) / sizes >= MIN_COPY_SIMILARITY
