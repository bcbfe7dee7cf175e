"""What two models share where layers have other numbers of units in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ...groups.model import Group
from ...groups.permutations import Arrays, Nesting
from .restriction import list_members, restrict_groups


def select_explained_weights(
    reference: Arrays,
    suspect: Arrays,
    names: Mapping[str, str],
    ours: Sequence[Group],
    theirs: Sequence[Group],
) -> tuple[dict[str, str], list[Group], list[Group]]:
    """Select the weights whose shapes differ by nothing but numbers of units.

    Args:
        reference, suspect: the weights of each model, by its own names.
        names: the suspect's weights by the reference's names.
        ours, theirs: the groups of each model, in its own names, inner ones first.

    Returns:
        The suspect's weights by the reference's names, and the groups of both models that lie in
        them, each in its own names. Every group has a counterpart in the same places.
    """
    kept = dict(names)
    while True:
        back = {b: a for a, b in kept.items()}
        sides = [
            restrict_groups(ours, {a: a for a in kept}),
            restrict_groups(theirs, {b: b for b in back}),
        ]
        tables = [{a: a for a in kept}, back]
        sides, touched = _keep_twins(sides, tables)
        # an axis of other lengths is explained by a group along it
        free = {(s.initializer, s.axis) for g in sides[0] if not g.parents for s in g.slots}
        fits = {
            name: other
            for name, other in kept.items()
            if name not in touched
            and len(reference[name].shape) == len(suspect[other].shape)
            and all(
                n == m or (name, axis) in free
                for axis, (n, m) in enumerate(
                    zip(reference[name].shape, suspect[other].shape, strict=True)
                )
            )
        }
        if len(fits) == len(kept):
            return kept, sides[0], sides[1]
        kept = fits


def _keep_twins(
    sides: Sequence[Sequence[Group]], tables: Sequence[Mapping[str, str]]
) -> tuple[list[list[Group]], set[str]]:
    """Keep the top groups, with all inside them, that lie in the same places in both models.

    Args:
        sides: the groups of each model.
        tables: the reference's names of the weights of each model.

    Returns:
        The groups that stay, and the weights, by the reference's names, where any other lies.
    """
    families = [Nesting(groups) for groups in sides]
    keys = [
        {
            top.id: (
                tuple(sorted((table[s.initializer], s.axis) for s in top.slots)),
                top.kind,
            )
            for top in family.tops()
        }
        for family, table in zip(families, tables, strict=True)
    ]
    counts = [Counter(k.values()) for k in keys]
    kept, touched = [], set()
    for family, own, table in zip(families, keys, tables, strict=True):
        alone = {
            name
            for top, key in own.items()
            if counts[0][key] != counts[1][key]
            for name in list_members(family, top)
        }
        touched |= {table[s.initializer] for name in alone for s in family.groups[name].slots}
        kept.append([g for g in family.order if g.id not in alone])
    return kept, touched
