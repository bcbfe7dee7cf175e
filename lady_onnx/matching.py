"""Where every unit went: similarity of weights and optimal assignment. Knows arrays and groups, no ONNX.

Similarity is the cosine of the paper (equation 8), over all slots whose other axes are aligned already.
Every slot is centred and divided by its standard deviation in the reference first, so that a bias or a
running variance counts as much as its own spread says and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from .groups import Group, Slot
from .rewrite import Family, compose, permuted

SWEEPS = 20
"""At most so many sweeps over all groups; two or three are the rule."""
Arrays = Mapping[str, np.ndarray]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Match:
    """Where the units of one group went.

    Attributes:
        group: the group's id.
        permutation: int64 [size]: unit j of the reference is unit `permutation[j]` of the suspect.
        similarity: float64 [size]: cosine of unit j of the reference and its match; 1 for equal units.
        margin: float64 [size]: the similarity minus that of the runner-up; 0 where two units are alike.
    """

    group: str
    permutation: np.ndarray
    similarity: np.ndarray
    margin: np.ndarray

    @property
    def moved(self) -> int:
        """How many units stood elsewhere."""
        return int((self.permutation != np.arange(self.permutation.size)).sum())


def assign(scores: np.ndarray) -> np.ndarray:
    """The assignment of rows to columns with the largest sum: for each row its column.

    Where every row's best is a different column, that is the optimum, and no solver runs.
    """
    best = scores.argmax(1)
    if np.unique(best).size == best.size:
        return best
    return linear_sum_assignment(scores, maximize=True)[1]


def _rows(array: np.ndarray, slot: Slot, others: Sequence[tuple[int, np.ndarray]] = ()) -> np.ndarray:
    """The elements of every unit in a slot, [units, positions, rest]."""
    for axis, positions in (*slot.within, *others):
        array = array.take(positions, axis)
    moved = np.moveaxis(array, slot.axis, 0)[slot.index]
    return moved.reshape(*slot.index.shape, -1)


class Matcher:
    """Aligns the weights of a suspect with those of a reference, group after group.

    `reference` and `suspect` hold the same names with the same shapes. `fixed` lists weights all of whose
    axes outside the groups keep their order (all of them, for an analysed graph).
    """

    def __init__(self, groups: Sequence[Group], reference: Arrays, suspect: Arrays):
        self.family = Family(groups)
        self.groups = groups
        names = {s.initializer for g in groups for s in g.slots}
        self.reference = {n: np.asarray(reference[n]) for n in names}
        self.current = {n: np.asarray(suspect[n]) for n in names}
        self.total: dict[str, np.ndarray] = {}
        self.scale = {n: _scale(a) for n, a in self.reference.items()}
        self.top = {g.id: self._top(g) for g in groups}
        self.touching: dict[str, set[str]] = {}
        for g in groups:
            for s in g.slots:
                self.touching.setdefault(s.initializer, set()).add(self.top[g.id])
        self.aligned: set[str] = set()
        self.matches: dict[str, Match] = {}

    def _top(self, group: Group) -> str:
        while group.parents:
            group = self.family.groups[group.parents[0][0]]
        return group.id

    def run(self, progress: Progress | None = None) -> list[Match]:
        """Anchored groups first, then their neighbours, then sweeps over all until nothing changes."""
        tops = self.family.tops()
        waiting = [g.id for g in tops]
        while waiting:
            name = max(waiting, key=self._anchored)
            waiting.remove(name)
            self._align(name, anchored=True)
            self.aligned.add(name)
            if progress:
                progress(len(tops) - len(waiting), len(tops))
        for _ in range(SWEEPS):
            self.matches = {}
            if not any([self._align(g.id, anchored=False) for g in tops]):
                break
        return [self._total(g) for g in self.groups]

    def _total(self, group: Group) -> Match:
        found = self.matches[group.id]
        inverse = {n: np.argsort(p) for n, p in self.total.items()}
        # the figures belong to the unit of the reference; an inner group is named by where it lies in the suspect
        here = self.matches[self.family.twin(group.id, inverse)]
        return Match(group.id, self.total.get(group.id, found.permutation), here.similarity, here.margin)

    def _members(self, name: str) -> list[Group]:
        return [g for g in self.groups if self.top[g.id] == name]

    def _usable(self, slot: Slot, name: str) -> bool:
        return all(t == name or t in self.aligned for t in self.touching[slot.initializer])

    def _anchored(self, name: str) -> tuple[float, float]:
        """How much evidence of a group and those inside it is aligned: elements a unit, and the share of all."""
        group = self.family.groups[name]
        usable = total = 0
        for slot in group.slots:
            own = sum(self.top[g.id] == name and s.initializer == slot.initializer for g in self._members(name)[:1] for s in g.slots)
            size = self.reference[slot.initializer].size / group.size
            total += size
            if self._usable(slot, name) and own < 2:
                usable += size
        return usable, usable / total if total else 0.0

    def _align(self, name: str, anchored: bool) -> bool:
        """Matches a group with all that lies inside it, and applies what it finds; True if anything moved."""
        if anchored or not self._settled(name):
            found = self._match(name, anchored)
        else:
            found = {g.id: _identity(g) for g in self._members(name)}
        self.matches.update(found)
        moves = {n: m.permutation for n, m in found.items() if m.moved}
        if not moves:
            return False
        self.current.update(permuted(self.current, self.groups, moves))
        self.total = compose(self.family, self.total, moves)
        return True

    def _settled(self, name: str) -> bool:
        """Is every slot of a group, and of those inside it, bit-equal already?"""
        names = {s.initializer for g in self._members(name) for s in g.slots}
        return all(_same(self.reference[n], self.current[n]) for n in names)

    # ---- one group and what lies inside it

    def _match(self, name: str, anchored: bool) -> dict[str, Match]:
        group = self.family.groups[name]
        slots = [s for s in group.slots if not anchored or self._usable(s, name)]
        single = [s for s in slots if sum(t.initializer == s.initializer for t in group.slots) == 1]
        if anchored:
            # a weight with the group on two axes is evidence only once the group is aligned
            slots = single
        if not self.family.inside(name, 0):
            return {name: self._flat(group, slots, anchored)}
        return self._nested(group, slots)

    def _evidence(self, arrays: Arrays, slots: Sequence[Slot], count: int) -> np.ndarray:
        parts = []
        for slot in slots:
            mean, deviation = self.scale[slot.initializer]
            rows = _rows(arrays[slot.initializer], slot).reshape(count, -1).astype(np.float32)
            parts.append((rows - np.float32(mean)) / np.float32(deviation))
        return np.concatenate(parts, 1) if parts else np.zeros((count, 0), np.float32)

    def _flat(self, group: Group, slots: Sequence[Slot], anchored: bool) -> Match:
        if slots:
            a = [_rows(self.reference[s.initializer], s).reshape(group.size, -1) for s in slots]
            b = [_rows(self.current[s.initializer], s).reshape(group.size, -1) for s in slots]
            exact = _exact(a, b)
            if exact is not None:
                ones = np.ones(group.size)
                return Match(group.id, exact[0], ones, exact[1])
            x, y = self._evidence(self.reference, slots, group.size), self._evidence(self.current, slots, group.size)
        else:
            x, y = self._orderless(self.reference, group), self._orderless(self.current, group)
        scores = _cosine(x, y)
        permutation = assign(scores)
        return Match(group.id, permutation, *_confidence(scores, permutation))

    def _orderless(self, arrays: Arrays, group: Group) -> np.ndarray:
        """Evidence that no order of the other axes can change: every unit's sorted elements."""
        parts = []
        for slot in group.slots:
            mean, deviation = self.scale[slot.initializer]
            rows = _rows(arrays[slot.initializer], slot).reshape(group.size, -1).astype(np.float32)
            parts.append((np.sort(rows, 1) - np.float32(mean)) / np.float32(deviation))
        return np.concatenate(parts, 1)

    def _nested(self, group: Group, slots: Sequence[Slot]) -> dict[str, Match]:
        """Matches the units of a group by the best match of what lies inside them, then assigns the units.

        For every pair of units, each pair of inner groups is matched; the units' scores are the sums.
        """
        inner = [[self.family.groups[n] for n in self.family.inside(group.id, u)] for u in range(group.size)]
        kinds = len(inner[0])
        size = group.size
        score = np.zeros((size, size))
        pairs: dict[tuple[int, int, int], tuple[np.ndarray, np.ndarray]] = {}
        covered: set[tuple[str, int]] = set()
        for kind in range(kinds):
            usable = [s for s in inner[0][kind].slots if any(t.initializer == s.initializer for t in slots)]
            covered |= {(s.initializer, s.axis) for s in usable}
            count = inner[0][kind].size
            which = [inner[0][kind].slots.index(s) for s in usable]
            x = np.stack([self._evidence(self.reference, [inner[u][kind].slots[w] for w in which], count) for u in range(size)])
            y = np.stack([self._evidence(self.current, [inner[u][kind].slots[w] for w in which], count) for u in range(size)])
            n = size * count
            gram = x.reshape(n, -1) @ y.reshape(n, -1).T if x.shape[2] else np.zeros((n, n), np.float32)
            lengths = np.sqrt(np.einsum("ukf,ukf->uk", x, x)), np.sqrt(np.einsum("ukf,ukf->uk", y, y))
            block = gram.reshape(size, count, size, count)
            for u in range(size):
                for v in range(size):
                    dot = block[u, :, v]
                    cosine = dot / np.maximum(np.outer(lengths[0][u], lengths[1][v]), 1e-30)
                    chosen = assign(cosine)
                    pairs[u, v, kind] = (chosen, cosine)
                    score[u, v] += float(dot[np.arange(count), chosen].sum())
        direct = [s for s in slots if (s.initializer, s.axis) not in covered]
        if direct:
            x, y = self._evidence(self.reference, direct, size), self._evidence(self.current, direct, size)
            score += x @ y.T
        outer = assign(score)
        found = {}
        norm = np.abs(score).max() or 1.0
        best, margin = _confidence(score / norm, outer)
        means = []
        for u in range(size):
            v = int(outer[u])
            for kind in range(kinds):
                chosen, cosine = pairs[u, v, kind]
                # the inner group is named by where its unit lies in the suspect
                target = inner[v][kind].id
                found[target] = Match(target, chosen, *_confidence(cosine, chosen))
            means.append(np.mean([found[inner[v][k].id].similarity.mean() for k in range(kinds)]))
        found[group.id] = Match(group.id, outer, np.array(means), margin)
        del best
        return found


def _identity(group: Group) -> Match:
    return Match(group.id, np.arange(group.size), np.ones(group.size), np.ones(group.size))


def _scale(array: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of a weight, the deviation never zero."""
    values = array.astype(np.float32, copy=False)
    deviation = float(values.std(dtype=np.float64))
    return float(values.mean(dtype=np.float64)), deviation if deviation > 0 else 1.0


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit?"""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    flat_a, flat_b = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
    return bool(np.array_equal(flat_a, flat_b))


def _digests(parts: Sequence[np.ndarray]) -> list[bytes]:
    rows = [np.ascontiguousarray(p) for p in parts]
    return [b"".join(r[i].tobytes() for r in rows) for i in range(rows[0].shape[0])]


def _exact(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The permutation and margins if the rows are the same rows, bit for bit, in another order; else None."""
    if any(x.dtype != y.dtype for x, y in zip(a, b, strict=True)):
        return None
    # a hash of the first rows settles most cases before all rows are read
    theirs: dict[bytes, list[int]] = {}
    for j, key in enumerate(_digests(b)):
        theirs.setdefault(key, []).append(j)
    ours = _digests(a)
    permutation = np.empty(len(ours), np.int64)
    margin = np.ones(len(ours))
    for i, key in enumerate(ours):
        places = theirs.get(key)
        if not places:
            return None
        # among equal rows, the one that did not move
        place = i if i in places else places[0]
        margin[i] = 0.0 if len(places) > 1 else 1.0
        places.remove(place)
        permutation[i] = place
    return permutation, margin


def _cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cosine of every row of `x` with every row of `y`; 0 for a row of zeros."""
    if not x.shape[1]:
        return np.eye(len(x), dtype=np.float32)
    norms = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    return (x @ y.T) / np.maximum(np.outer(*norms), 1e-30)


def _confidence(scores: np.ndarray, permutation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The similarity of every match, and by how much it beats the row's next best."""
    rows = np.arange(len(permutation))
    chosen = scores[rows, permutation].astype(np.float64)
    rest = scores.astype(np.float64)
    rest[rows, permutation] = -np.inf
    return chosen, chosen - rest.max(1)


def match(groups: Sequence[Group], reference: Arrays, suspect: Arrays, progress: Progress | None = None) -> list[Match]:
    """For every group where the units of the reference lie in the suspect.

    Args:
        groups: the groups, inner ones first.
        reference, suspect: the weights by the same names.
        progress: called with how many of how many groups are done.
    """
    return Matcher(groups, reference, suspect).run(progress)


def similarity(group: Group, reference: Arrays, suspect: Arrays) -> np.ndarray:
    """The cosine of every unit of the reference with every unit of the suspect, [size, size].

    Of the slot with the most elements, the paper's own setting, and of no other.
    """
    slot = max(group.slots, key=lambda s: reference[s.initializer].size)
    a, b = (_rows(np.asarray(x[slot.initializer]), slot).reshape(group.size, -1).astype(np.float32) for x in (reference, suspect))
    return _cosine(a, b)
