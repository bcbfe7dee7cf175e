"""Colour refinement: classes that may be interchangeable have one colour.

A class starts with a colour made of the births of its labels, the operations that touch them, and
the roles in which they occur. Each round mixes in the colours of parents and children, until no
round tells more classes apart. Colours are 64-bit hashes: two that are equal by chance make a
candidate too large, and it is then refused (`acceptance`), never accepted wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..dataflow.labels.roles import sort_distinct, to_dense
from ..numerics import mix_bits
from .classes import ClassedFacts
from .congruence import Relation

ROLE_SALT, PIN_SALT, RELATION_SALT, PARENT_SHIFT = 1 << 32, 1 << 40, 1 << 48, 32
"""Keep the hashes of roles, pinned classes, relations and parents apart.

Numbers of roles, classes and relations are far below 2**32.
"""


@dataclass(frozen=True)
class Colouring:
    """The colours of classes and labels.

    Attributes:
        births: int64 [labels], the number of each label's birth.
        kinds: uint64 [labels], a hash of the birth and of the operations that touch the label. It
            is taken for the touches themselves: two that are equal by chance count as alike for
            good.
        colours: uint64 [classes], equal for classes that may be interchangeable.
        keys: uint64 [classes], a hash of the colour and of the very parents: equal for classes
            that may form one group.
    """

    births: np.ndarray
    kinds: np.ndarray
    colours: np.ndarray
    keys: np.ndarray


def colour_classes(classed: ClassedFacts, causes: np.ndarray) -> Colouring:
    """Refine the colours of classes until they are stable.

    Args:
        classed: the classes.
        causes: int64 [classes], what pins each; a pinned class has a colour of its own.
    """
    facts, relations = classed.facts, classed.congruence.relations
    births = np.searchsorted(facts.births, np.arange(facts.label_count), side="right")
    kinds = births.astype(np.uint64)
    for what, touched in facts.touched:
        # an index that is added to counts a label once, and no label stands twice in a touch here
        kinds[to_dense(touched)] += mix_bits(what)
    colours = _start_colours(classed, kinds)
    fixed = causes >= 0
    colours[fixed] = mix_bits(np.flatnonzero(fixed) + PIN_SALT)
    known = sort_distinct(colours).size
    while True:
        refined = _refine_colours(classed, colours)
        refined[fixed] = colours[fixed]
        colours = refined
        count = sort_distinct(colours).size
        if count == known:
            break
        known = count
    return Colouring(births, kinds, colours, _add_parents(colours, relations))


def _start_colours(classed: ClassedFacts, kinds: np.ndarray) -> np.ndarray:
    """Colour classes by their labels alone: by their kinds, and by how often roles hold them."""
    occurrences, of_label = classed.occurrences, classed.multiplicities.of_label
    class_of = classed.congruence.class_of_label
    colours = np.zeros(classed.congruence.class_count, np.uint64)
    # sums of hashes: the order of labels is no matter, and one that stands for others counts as
    # often; they wrap around
    np.add.at(colours, class_of, mix_bits(kinds) * of_label)
    seen = (
        mix_bits(mix_bits(occurrences.role + ROLE_SALT) ^ occurrences.times)
        * of_label[occurrences.label]
    )
    np.add.at(colours, class_of[occurrences.label], seen)
    return colours


def _refine_colours(classed: ClassedFacts, colours: np.ndarray) -> np.ndarray:
    """Refine colours by one round: each class takes in those of its parents and its children."""
    multiplicities = classed.multiplicities
    refined = mix_bits(colours)
    for number, (child, parent) in enumerate(classed.congruence.relations):
        salt = mix_bits(number + RELATION_SALT)
        np.add.at(refined, child, mix_bits(colours[parent] ^ salt))
        # where the parent is folded as well, its children are those of one unit, each for itself
        times = np.where(
            multiplicities.is_paired[parent], np.uint64(1), multiplicities.of_class[child]
        )
        np.add.at(refined, parent, mix_bits(mix_bits(colours[child]) ^ salt) * times)
    return refined


def _add_parents(colours: np.ndarray, relations: list[Relation]) -> np.ndarray:
    """Mix into every colour which parents the class has, and not only what these look like."""
    keys = colours.copy()
    for number, (child, parent) in enumerate(relations):
        np.add.at(keys, child, mix_bits(parent + ((number + 1) << PARENT_SHIFT)))
    return keys
