"""Stage 1 of the main job: two files as one network, its groups, and the factors they allow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..dataflow.engine import Analysis, analyse_graph
from ..errors import ArchitectureError, LadyError
from ..graph.model import Graph, map_weights
from ..groups.model import Symmetry
from ..groups.scaling import Scaling
from ..pairing.counterparts import pair_by_name_alone, pair_models
from ..pairing.links import Link, Place
from ..scaling.walk import find_scalings
from ..symmetry.finder import extract_groups
from .options import Options

if TYPE_CHECKING:
    from ..matching.unequal.extension import Extended
    from ..pairing.common_part import CommonPart

# What pairs models of other sizes, and parts of models, is loaded where it is needed: most pairs of
# files hold one network, and loading the rest would take longer than they do.


@dataclass(frozen=True)
class Extension:
    """What is known in addition where the models have different numbers of units.

    Attributes:
        symmetry: the groups of the suspect, in its own names.
        models: the weights of both models, with all units of both.
    """

    symmetry: Symmetry
    models: Extended


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

    def is_large(self, units: int, elements: int) -> bool:
        """Tell whether so many units and elements of weights are a part that means something."""
        from ..matching.shared.copies import MIN_COMMON_SHARE

        least = min(self.our_units, self.their_units), min(self.part.ours, self.part.theirs)
        shares = units / max(least[0], 1), elements / max(least[1], 1)
        return min(shares) >= MIN_COMMON_SHARE


@dataclass(frozen=True)
class Pairing:
    """Two files as one network.

    Attributes:
        given: the suspect as it was read.
        link: which weight of the suspect is which of the reference, in the form that both share.
        analysis: the facts that hold in both models.
        symmetry: the groups that hold in both models, in the reference's names.
        extension: what is known in addition where the models have different numbers of units, else
            None.
        common: what is known in addition where the models share a part alone, else None. Then the
            groups are those by which that part is matched, and have the suspect's ids.
    """

    given: Graph
    link: Link
    analysis: Analysis
    symmetry: Symmetry
    extension: Extension | None = None
    common: CommonPairing | None = None

    @property
    def reference(self) -> Graph:
        """The reference, in the form that both models share."""
        return self.link.reference

    @property
    def names(self) -> list[str]:
        """The weights that both models have, in the reference's names."""
        return list(self.link.places)

    @functools.cached_property
    def scalings(self) -> Mapping[str, Scaling]:
        """By group id the factors that its units may have."""
        return find_scalings(self.reference, self.analysis, self.symmetry.groups)

    @functools.cached_property
    def suspect_weights(self) -> dict[str, np.ndarray]:
        """The suspect's weights by the reference's names."""
        return {name: self.link.array(name) for name in self.names}

    @property
    def reference_weights(self) -> dict[str, np.ndarray]:
        """The reference's weights."""
        return {name: self.reference.array(name) for name in self.names}


def pair_networks(reference: Graph, suspect: Graph, options: Options) -> Pairing:
    """Pair two models of one architecture, or of architectures that have something in common.

    These may differ in numbers of units, or share a part alone.

    Args:
        reference: the reference.
        suspect: the suspect.
        options: whether other architectures are allowed.

    Raises:
        ArchitectureError: the two are not the same network, and share too little.
        LadyError: the numbers of units differ, and the options do not allow that.
    """
    try:
        return _pair_whole_networks(reference, suspect, options)
    except ArchitectureError as error:
        found = _pair_common_part(reference, suspect, str(error)) if options.is_usual else None
        if found is None:
            raise
        return found


def _pair_whole_networks(reference: Graph, suspect: Graph, options: Options) -> Pairing:
    """Pair two models node by node.

    Raises:
        ArchitectureError: the two are not the same network.
        LadyError: the numbers of units differ, and the options do not allow that.
    """
    try:
        return _pair_equal(suspect, pair_models(reference, suspect))
    except ArchitectureError as error:
        names = pair_by_name_alone(reference, suspect)
        if names is None:
            raise
        if not options.is_usual:
            raise LadyError(
                f"{suspect.name}: has other numbers of units; "
                "give evidence 'all' and assignment 'optimal'"
            ) from error
        try:
            return _pair_unequal(reference, suspect, names)
        except ArchitectureError:
            # The first error names the node at which the files part, and the second only a number.
            raise error from None


def _pair_equal(given: Graph, link: Link) -> Pairing:
    """Find the groups that hold in both models.

    A weight is constant along an axis, and two numbers are equal, only where they are so in both.

    Raises:
        ArchitectureError: the models differ in a shape or an index on which their structure
            depends.
    """
    # The link answers for both models: what holds in one of them alone must not make a group.
    analysis = analyse_graph(link.reference, link.constant_along, link.number)
    where = f"{link.suspect.name}: another architecture than {link.reference.name}"
    mend = "compare models exported from the same network"
    for name in sorted(analysis.values & link.places.keys()):
        if not np.array_equal(link.reference.array(name), link.array(name)):
            place = link.places[name].name
            raise ArchitectureError(
                f"{where}: the shape or index '{place}' has other values; {mend}"
            )
    symmetry = extract_groups(analysis)
    touched = {s.initializer for g in symmetry.groups for s in g.slots}
    for name in sorted(touched - link.places.keys()):
        raise ArchitectureError(
            f"{where}: nothing stands for the reference's weight '{name}'; {mend}"
        )
    return Pairing(given, link, analysis, symmetry)


def _pair_unequal(reference: Graph, suspect: Graph, names: Mapping[str, str]) -> Pairing:
    """Pair models with different numbers of units.

    Args:
        reference: the reference.
        suspect: the suspect.
        names: the names of the suspect's weights by those of the reference's.

    Raises:
        ArchitectureError: numbers of units do not explain all differences.
    """
    from ..matching.unequal.extension import extend_models

    link = Link(reference, suspect, {a: Place(b) for a, b in names.items()}, True)
    mirrored = Link(suspect, reference, {b: Place(a) for a, b in names.items()}, True)
    analysis = analyse_graph(reference, link.constant_along, link.number)
    symmetry = extract_groups(analysis)
    own = extract_groups(analyse_graph(suspect, mirrored.constant_along, mirrored.number))
    models = extend_models(
        map_weights(reference), map_weights(suspect), names, symmetry.groups, own.groups
    )
    return Pairing(suspect, link, analysis, symmetry, Extension(own, models))


def _pair_common_part(reference: Graph, suspect: Graph, refusal: str) -> Pairing | None:
    """Pair the part that two models share.

    The groups are those of each whole model, so that what is done to the suspect leaves its whole
    function as it was. They are matched by their slots in weights that both have: the suspect's
    groups, and those that only the reference has.

    Args:
        reference: the reference.
        suspect: the suspect.
        refusal: why the two are not one network.

    Returns:
        The pairing; None where too little is common.
    """
    from ..matching.shared.restriction import join_groups, restrict_groups
    from ..pairing.common_part import LARGE_SHARE, find_common_part

    part = find_common_part(reference, suspect)
    if part is None or part.share < LARGE_SHARE:
        found = _pair_part_of_other_sizes(reference, suspect, refusal)
        least = part.elements if part is not None else 0
        if found is not None and sum(found.reference.array(n).size for n in found.names) > least:
            return found
    if part is None:
        return None
    link = part.link
    back = {place.name: name for name, place in link.places.items()}
    analysis, ours, theirs = _analyse_sides(link)
    groups = join_groups(
        restrict_groups(theirs.groups, back),
        restrict_groups(ours.groups, {name: name for name in back.values()}),
    )
    common = CommonPairing(part, ours, theirs, refusal)
    if not common.is_large(sum(g.size for g in groups), part.elements):
        return None
    return Pairing(suspect, link, analysis, Symmetry(tuple(groups), (), ()), common=common)


def _pair_part_of_other_sizes(reference: Graph, suspect: Graph, refusal: str) -> Pairing | None:
    """Pair a part whose layers have other numbers of units; None where these explain too little."""
    from ..matching.shared.sizes import select_explained_weights
    from ..matching.unequal.extension import extend_models
    from ..pairing.common_part import find_part_of_other_sizes

    part = find_part_of_other_sizes(reference, suspect)
    if part is None:
        return None
    link = replace(part.link, alike=True)
    analysis, ours, theirs = _analyse_sides(link)
    weights = map_weights(link.reference), map_weights(link.suspect)
    names, *groups = select_explained_weights(
        *weights,
        {name: place.name for name, place in link.places.items()},
        ours.groups,
        theirs.groups,
    )
    common = CommonPairing(part, ours, theirs, refusal)
    if not common.is_large(sum(g.size for g in groups[0]), part.elements):
        return None
    try:
        models = extend_models(*weights, names, *groups)
    except ArchitectureError:
        return None
    link = replace(link, places={a: Place(b) for a, b in names.items()})
    symmetry = Symmetry(models.groups, (), ())
    return Pairing(suspect, link, analysis, symmetry, Extension(theirs, models), common)


def _analyse_sides(link: Link) -> tuple[Analysis, Symmetry, Symmetry]:
    """Return the facts of a reference, and the groups of both whole models, in their own names.

    What is constant in one file alone is no constant of the part. A number that both have must be
    the same to say that values are equal; a number that one file alone has is compared with none.
    """
    back = {place.name: Place(name) for name, place in link.places.items()}
    mirrored = Link(link.suspect, link.reference, back, link.alike)
    ours, theirs = (
        analyse_graph(side.reference, side.constant_along, _choose_number(side))
        for side in (link, mirrored)
    )
    return ours, extract_groups(ours), extract_groups(theirs)


def _choose_number(link: Link) -> Callable[[str], bytes | None]:
    """Return what gives the bytes of a constant: those of both files for one that both have."""

    def number(name: str) -> bytes | None:
        return link.number(name) if name in link.places else link.reference.number(name)

    return number
