"""Groups inside the units of another, attention heads above all: units are matched by the best match of what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..groups.model import Group, Slot
from ..groups.permutations import Arrays
from .evidence.exact import match_exactly
from .evidence.probabilities import compute_certainties, find_runners_up
from .matches import Match

if TYPE_CHECKING:
    from .matcher import Matcher


def match_nested(matcher: Matcher, group: Group, slots: Sequence[Slot]) -> dict[str, Match]:
    """Matches the units of a group by the best match of what lies inside them, then assigns the units."""
    pairs = _Pairs(matcher, group, {s.initializer for s in slots})
    score = np.array([[pairs.match(u, v)[1] for v in range(group.size)] for u in range(group.size)])
    direct = [s for s in slots if s.initializer not in pairs.covered]
    if direct:
        ours, theirs = (
            matcher.parts(arrays, direct) for arrays in (matcher.reference, matcher.current)
        )
        score += matcher.compared(group, direct, ours, theirs)[0]
    score = matcher.weighed(group, score)
    outer = matcher.assign(score)
    found = {}
    means = []
    for u, v in enumerate(outer.tolist()):
        inner, _ = pairs.match(u, v, told=True)
        found.update({m.group: m for m in inner})
        means.append(np.mean([m.similarity.mean() for m in inner]))
    found[group.id] = Match(
        group.id,
        outer,
        np.array(means),
        find_runners_up(score, outer)[1],
        compute_certainties(score, outer),
    )
    return found


class _Pairs:
    """Matches what lies inside unit u of the reference with what lies inside unit v of the suspect.

    The groups inside a unit come in kinds, the same for all units (in an attention head the query-key and the
    value dimensions). A weight with two kinds on it is evidence for one as soon as the other is matched.
    """

    def __init__(self, matcher: Matcher, group: Group, usable: set[str]):
        self.matcher = matcher
        self.inner = [
            [matcher.family.groups[n] for n in matcher.family.inside(group.id, u)]
            for u in range(group.size)
        ]
        kinds = range(len(self.inner[0]))
        on: dict[str, set[int]] = {}
        self.slots = []
        for k in kinds:
            told = {id(s) for s in matcher.evidence(self.inner[0][k])}
            own = [
                i
                for i, s in enumerate(self.inner[0][k].slots)
                if s.initializer in usable and id(s) in told
            ]
            self.slots.append(own)
            for i in own:
                on.setdefault(self.inner[0][k].slots[i].initializer, set()).add(k)
        self.covered = set(on)
        self.alone = [
            [i for i in own if len(on[self._name(k, i)]) == 1] for k, own in enumerate(self.slots)
        ]
        self.shared = [
            [i for i in own if len(on[self._name(k, i)]) > 1] for k, own in enumerate(self.slots)
        ]
        self.order = sorted(
            kinds,
            key=lambda k: -sum(matcher.reference[self._name(k, i)].size for i in self.alone[k]),
        )
        self.mine = [
            [self._rows(matcher.reference, u, k, self.alone[k], {}) for k in kinds]
            for u in range(group.size)
        ]
        self.theirs = [
            [self._rows(matcher.current, v, k, self.alone[k], {}) for k in kinds]
            for v in range(group.size)
        ]

    def _name(self, kind: int, slot: int) -> str:
        return self.inner[0][kind].slots[slot].initializer

    def _rows(
        self,
        arrays: Arrays,
        unit: int,
        kind: int,
        which: Sequence[int],
        done: Mapping[int, np.ndarray],
    ) -> list[np.ndarray]:
        """The evidence of one kind in one unit, other kinds in the orders `done`: of every slot [inner units, elements]."""
        group = self.inner[unit][kind]
        parts = []
        for i in which:
            slot = group.slots[i]
            order = {
                s.axis: s.index[permutation].ravel()
                for k, permutation in done.items()
                for s in self.inner[unit][k].slots
                if s.initializer == slot.initializer and s.axis != slot.axis
            }
            parts.append(self.matcher.weighted(arrays, slot.initializer, slot, order))
        return parts

    def match(self, u: int, v: int, told: bool = False) -> tuple[list[Match], float]:
        """What was matched in a pair, if `told` with its figures, and the pair's score: the sum over all that was."""
        done: dict[int, np.ndarray] = {}
        found: dict[int, tuple[Match, float]] = {}
        again = [k for k in self.order if self.shared[k]]
        for k in [*self.order, *again]:
            settled = {j: p for j, p in done.items() if j != k}
            which = [i for i in self.shared[k] if self._kinds_on(self._name(k, i)) <= {k, *settled}]
            x, y = self.mine[u][k], self.theirs[v][k]
            if which:
                plain = {j: np.arange(self.inner[u][j].size) for j in settled}
                x = [*x, *self._rows(self.matcher.reference, u, k, which, plain)]
                y = [*y, *self._rows(self.matcher.current, v, k, which, settled)]
            group, name = self.inner[u][k], self.inner[v][k].id
            exact = match_exactly(x, y) if x else None
            if exact is not None:
                chosen, margin = exact
                match = Match(name, chosen, np.ones(chosen.size), margin, np.ones(chosen.size))
                score = 0.0
            else:
                slots = [group.slots[i] for i in (*self.alone[k], *which)]
                scores, ours, theirs = self.matcher.compared(group, slots, x, y)
                chosen = self.matcher.assign(scores)
                figures = (
                    self.matcher.figures(name, ours, theirs, scores, chosen)
                    if told
                    else np.ones((3, chosen.size))
                )
                match = Match(name, chosen, *figures)
                score = float(scores[np.arange(chosen.size), chosen].sum())
            done[k] = chosen
            found[k] = match, score
        return [m for m, _ in found.values()], sum(score for _, score in found.values())

    def _kinds_on(self, name: str) -> set[int]:
        return {
            k
            for k in range(len(self.slots))
            if any(self._name(k, i) == name for i in self.slots[k])
        }
