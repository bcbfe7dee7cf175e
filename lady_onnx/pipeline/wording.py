"""What results say to people, line by line, and the parts of their JSON objects.

It decides nothing: verdicts and findings come as they are, and the worst of them is put first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..diagnosis.findings import REPLACEABLE, Finding
from ..groups.model import StateOrder, Symmetry
from ..matching.matches import Match
from ..reporting import count_things, format_table

MEANING_OF_FINDING = {
    "rescaled": "units were multiplied in a way that leaves the function as it was; undone",
    "mixed": "units of a group were mixed in a way that leaves the function as it was; undone",
    "scaled": "units were multiplied in a way that changes the function",
    "replaced": "weights were given other values",
    "inert": "weights have other values where the function does not depend on them; undone",
    "shifted": "biases were changed, and others that take it back; undone",
    "obfuscated": "units were inserted that the function does not need",
    "inserted": "units were inserted that the function needs",
    "removed": "units were removed",
    "partly trained": "some weights moved as training moves them, and the rest of the tensor "
    "stayed",
}
"""What each kind of finding says, in the order in which they are listed."""


def describe_matches(matches: Sequence[Match], symmetry: Symmetry, limit: int | None) -> list[str]:
    """List the groups that lie in no other, the least certain matches first.

    Args:
        matches: where the units of each group went.
        symmetry: the groups.
        limit: the number of groups at most, exact ones left out; None for all.
    """
    outer = [m for m in matches if not symmetry.group(m.group).parents]
    # Exact matches have infinite margins, and there is nothing to say of them one by one.
    shown = [m for m in outer if limit is None or not np.isinf(m.margin).all()]
    rows = [
        (
            m.group,
            m.permutation.size,
            m.moved,
            f"{m.similarity.mean():.4f}",
            f"{m.margin.min(initial=math.inf):.4f}",
        )
        for m in sorted(shown, key=lambda m: float(m.certainty.mean()) if m.certainty.size else 1.0)
    ]
    lines = format_table(("group", "size", "moved", "similarity", "margin"), rows, limit)
    if len(shown) < len(outer):
        lines.append(f"{count_things(len(outer) - len(shown), 'group')} matched exactly")
    inner = [m for m in matches if symmetry.group(m.group).parents]
    if inner:
        moved = count_things(sum(m.moved for m in inner), "unit")
        lines.append(f"and {count_things(len(inner), 'group')} inside their units, {moved} moved")
    return lines


def describe_findings(
    findings: Sequence[Finding], is_repaired: bool, limit: int | None
) -> list[str]:
    """List what was done to single units, kind by kind, the largest changes first.

    Args:
        findings: what was found.
        is_repaired: whether what was tampered with has the reference's values now.
        limit: the number of findings of a kind at most; None for all.
    """
    lines = []
    for kind, meaning in MEANING_OF_FINDING.items():
        found = sorted((f for f in findings if f.kind == kind), key=lambda f: -f.size)
        if not found:
            continue
        repaired = " (repaired)" if is_repaired and kind in REPLACEABLE else ""
        lines.append(f"{kind}: {meaning}{repaired}")
        rows = [
            (
                "" if f.group is None else f.group,
                "" if f.unit is None else f.unit,
                f.slot,
                "" if f.factor is None else f"{f.factor:.4g}",
            )
            for f in found
        ]
        lines += format_table(("group", "unit", "weight", "factor"), rows, limit)
    return lines


def describe_interchangeable(sets: Mapping[str, Sequence[Sequence[int]]]) -> list[str]:
    """Count the units of the reference whose order cannot be told, and does not matter."""
    every = [units for by_group in sets.values() for units in by_group]
    if not every:
        return []
    units = count_things(sum(map(len, every)), "unit")
    what = "compute the same, or nothing: their order does not matter"
    return [f"{units}, in {count_things(len(every), 'set')}, {what}"]


def list_match_fields(
    matches: Sequence[Match], symmetry: Symmetry, findings: Sequence[Finding]
) -> list[dict[str, Any]]:
    """Return what the JSON object of a re-synchronisation says of every group."""
    sizes = {g.id: g.size for g in symmetry.groups}
    return [
        {
            "id": m.group,
            "size": sizes[m.group],
            "moved": m.moved,
            "similarity": float(m.similarity.mean()),
            "margin": float(m.margin.min(initial=math.inf)),
            "exact": int(np.isinf(m.margin).sum()),
            "unmatched": [f.unit for f in findings if f.kind == "removed" and f.group == m.group],
        }
        for m in matches
    ]


def describe_states(states: Sequence[StateOrder]) -> list[str]:
    """Say that states have another order in the suspect; nothing where there are none."""
    if not states:
        return []
    what = count_things(len(states), "state has", "states have")
    return [f"{what} another order in the suspect: give each model its own states"]
