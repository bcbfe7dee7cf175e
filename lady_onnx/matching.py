"""Where every unit went: the likeliest assignment, given all that its weights say. Knows arrays and groups, no ONNX.

Every weight of the suspect is taken for a noisy copy of the reference's, with a noise of its own: of the matching so
far, what differs says how large it is, weight by weight and along the axes of other groups position by position, so
that what is badly matched yet, or was altered more, counts less. Units are assigned so that all slots together are
likeliest, and the noise is estimated anew, until nothing moves. To begin with, a weight's noise is its own spread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import expit, logit

from .groups import Group, Slot
from .refinement import Refinement
from .rewrite import Family, compose, permuted

LEAST = 0.02
"""The least noise of a weight that is taken for possible, in units of the weight's own deviation."""
PRIOR = 10
"""How many elements of the common noise stand against those at one position."""
WIDEST = 10
"""How much larger or smaller the noise at one position may be."""
HEATS = (8, 6, 4, 3, 2.5, 2, 1.7, 1.5, 1.3, 1.2, 1.1, 1, 1, 1)
"""By what the log-odds are divided, step by step, when all groups are matched at once."""
BALANCES = 20
"""How often the rows and columns of probabilities are balanced."""
ROOM = 0.1
"""Where chance alone finds more than all but this share of the rows again, copies cannot be told from others."""
RARE = 1e-3
"""No group is taken to hold a smaller share of copies, or of others, than this."""
MOST_PAIRS = 1 << 28
"""Of more pairs of units than this the probabilities are not kept at the same time."""
DOUBT = 0.98
"""Below this mean certainty all groups are matched anew, at once."""
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
        margin: float64 [size]: by how much the match is likelier, in nats, than the runner-up; 0 where two are alike.
        certainty: float64 [size]: the probability that the match is right, among all assignments of the group's units.
    """

    group: str
    permutation: np.ndarray
    similarity: np.ndarray
    margin: np.ndarray
    certainty: np.ndarray

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


def _rows(array: np.ndarray, slot: Slot) -> np.ndarray:
    """The elements of every unit in a slot, [units, elements]."""
    for axis, positions in slot.within:
        array = array.take(positions, axis)
    return np.moveaxis(array, slot.axis, 0)[slot.index].reshape(len(slot.index), -1)


class Matcher:
    """Aligns the weights of a suspect with those of a reference, group after group.

    `reference` and `suspect` hold the same names with the same shapes. Axes outside the groups keep their order.
    """

    def __init__(self, groups: Sequence[Group], reference: Arrays, suspect: Arrays, chance: Mapping[str, float] | None = None):
        self.chance = chance
        self.gains: dict[str, float] = {}
        self.family = Family(groups)
        self.groups = groups
        names = {s.initializer for g in groups for s in g.slots}
        self.reference = {n: np.asarray(reference[n]) for n in names}
        self.current = {n: np.asarray(suspect[n]) for n in names}
        self.total: dict[str, np.ndarray] = {}
        self._scales: dict[str, tuple[float, float]] = {}
        self.noise: dict[str, _Noise] = {}
        self.top = {g.id: self._top(g) for g in groups}
        self.touching: dict[str, set[str]] = {}
        self.axes: dict[tuple[str, str], set[int]] = {}
        for g in groups:
            for s in g.slots:
                self.touching.setdefault(s.initializer, set()).add(self.top[g.id])
                self.axes.setdefault((s.initializer, self.top[g.id]), set()).add(s.axis)
        self.aligned: set[str] = set()
        self.telling = False
        """Whether matches come with their figures, which take longer than the matching."""
        self.matches: dict[str, Match] = {}

    def _top(self, group: Group) -> str:
        while group.parents:
            group = self.family.groups[group.parents[0][0]]
        return group.id

    def scale(self, name: str) -> tuple[float, float]:
        """Mean and standard deviation of a weight of the reference."""
        if name not in self._scales:
            self._scales[name] = _scale(self.reference[name])
        return self._scales[name]

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
        if all(self._settled(g.id) for g in tops):
            return [self._total(g) for g in self.groups]
        self._sweep()
        if self._doubtful() and sum(g.size**2 for g in tops) < MOST_PAIRS:
            self._try_soft()
        if not all(self._settled(g.id) for g in tops):
            # an exact copy, if need be of what the reference was altered to, is found however much its units look alike
            likely = Refinement(self.groups, self.reference, self.current).likely()
            if likely is not None:
                self._apply(likely)
                self._sweep()
                if not all(self._settled(g.id) for g in tops):
                    self._apply(Refinement(self.groups, self.reference, self.current).exact() or {})
        if self.chance is None and self._doubtful():
            self._compare_with_chance()
        return [self._total(g) for g in self.groups]

    def _listen(self) -> None:
        """Estimates the noise of every weight from what differs at the matching so far."""
        for name, array in self.reference.items():
            if not same(array, self.current[name]):
                axes = sorted({s.axis for g in self.groups for s in g.slots if s.initializer == name})
                self.noise[name] = _Noise.between(array, self.current[name], self.scale(name)[1], axes)
            else:
                self.noise[name] = _Noise(self.scale(name)[1] * LEAST)

    def weighted(self, arrays: Arrays, name: str, slot: Slot, taken: Mapping[int, np.ndarray] | None = None) -> np.ndarray:
        """The elements of every unit in a slot, [units, elements], in units of their noise.

        `taken` are positions along other axes, in the order to take them in.
        """
        array = arrays[name]
        mean, deviation = self.scale(name)
        noise = self.noise.get(name) or _Noise(deviation)
        values = (_finite(array) - np.float32(mean)) / np.float32(noise.deviation)
        restricted = {**dict(slot.within), **(taken or {})}
        for axis, factor in noise.along.items():
            if axis != slot.axis and axis not in restricted:
                values /= factor.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        for axis, positions in restricted.items():
            values = values.take(positions, axis)
        return np.moveaxis(values, slot.axis, 0)[slot.index].reshape(len(slot.index), -1)

    def _sweep(self) -> None:
        """Matches every group by all its slots, again and again until nothing moves, or nothing gets likelier."""
        before = -np.inf
        for _ in range(SWEEPS):
            self._listen()
            now = self._agreement()
            if now <= before:
                break
            before = now
            if not sum(self._align(g.id, anchored=False) for g in self.family.tops()):
                break
        self._tell()

    def _tell(self) -> None:
        """One more sweep, for its figures."""
        self._listen()
        self.telling = True
        for g in self.family.tops():
            self._align(g.id, anchored=False)
        self.telling = False

    def _doubtful(self) -> bool:
        return np.concatenate([m.certainty for m in self.matches.values()] or [np.ones(1)]).mean() < DOUBT

    def _compare_with_chance(self) -> None:
        """Learns what the same search finds in weights without any order, and judges the matches beside that."""
        rng = np.random.default_rng(0)
        suspect = {n: rng.permutation(a.ravel()).reshape(a.shape) for n, a in sorted(self.current.items())}
        chance = Matcher(self.groups, self.reference, suspect, {})
        chance.run()
        self.chance = chance.gains
        self._tell()

    def figures(self, name: str, x: np.ndarray, y: np.ndarray, scores: np.ndarray, found: np.ndarray) -> Sequence[np.ndarray]:
        """Similarity, margin and certainty of every match of a group, or ones where they are not asked for."""
        if not self.telling:
            return [np.ones(found.size)] * 3
        y = y[found]
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        similarity = np.einsum("ij,ij->i", x, y, dtype=np.float64) / np.maximum(norms, 1e-30)
        self.gains[name], copied = _copied(x, y, (self.chance or {}).get(name, -1.0))
        return similarity, _margin(scores, found), _certainty(scores, found) * copied

    def _try_soft(self) -> None:
        """Matches all groups at once, and keeps what that finds if it is likelier."""
        before = self._agreement(), dict(self.current), dict(self.total), dict(self.matches)
        self._apply(self.soft())
        self._sweep()
        if self._agreement() < before[0]:
            _, self.current, self.total, self.matches = before

    def _agreement(self) -> float:
        """The log-likelihood of the suspect's weights as they lie, each with noise of the size that it has."""
        found = 0.0
        for name, array in self.reference.items():
            square = float(np.square(_finite(array) - _finite(self.current[name]), dtype=np.float64).mean())
            found -= array.size / 2 * np.log(max(square, (LEAST * self.scale(name)[1]) ** 2))
        return found

    def soft(self) -> dict[str, np.ndarray]:
        """Permutations of the groups without others inside, by matching them all at once with probabilities.

        The probabilities of a group are those that the expected weights of its neighbours give it (mean field), doubly
        stochastic (Sinkhorn), from warm to cold; before anything is known, by what no order of other axes changes.
        """
        flat = [g for g in self.family.tops() if not any(self.family.inside(g.id, u) for u in range(g.size))]
        slots: dict[str, list[tuple[Group, Slot]]] = {}
        for g in flat:
            for s in g.slots:
                slots.setdefault(s.initializer, []).append((g, s))
        ours = {n: _finite(self.reference[n]) - np.float32(self.scale(n)[0]) for n in slots}
        theirs = {n: _finite(self.current[n]) - np.float32(self.scale(n)[0]) for n in slots}
        power = {n: self._power(ours[n], theirs[n], self.scale(n)[1]) for n in slots}
        likely = {g.id: _sinkhorn(self._lengths(g, ours, theirs, power)).astype(np.float32) for g in flat}

        def expected(name: str, apart: Slot) -> np.ndarray:
            array = theirs[name].copy()
            for g, s in slots[name]:
                if s is not apart:
                    front = np.moveaxis(array, s.axis, 0)
                    front[s.index] = np.tensordot(likely[g.id], front[s.index], 1)
            return array

        for heat in HEATS:
            for g in flat:
                score = np.zeros((g.size, g.size))
                for s in g.slots:
                    a, b = _rows(ours[s.initializer], s), _rows(expected(s.initializer, s), s)
                    score += (a @ b.T) / power[s.initializer]
                likely[g.id] = _sinkhorn(score / heat).astype(np.float32)
        return {g.id: assign(likely[g.id]) for g in flat}

    @staticmethod
    def _power(ours: np.ndarray, theirs: np.ndarray, spread: float) -> float:
        """The variance of independent noise that was added to a weight: what it has gained."""
        gained = np.square(theirs, dtype=np.float64).mean() - np.square(ours, dtype=np.float64).mean()
        return max(float(gained), (0.2 * spread) ** 2)

    def _lengths(self, group: Group, ours: Arrays, theirs: Arrays, power: Mapping[str, float]) -> np.ndarray:
        """The log-likelihood of units by the lengths of their rows alone, slot by slot."""
        score = np.zeros((group.size, group.size))
        for s in group.slots:
            a, b = (np.square(_rows(x[s.initializer], s), dtype=np.float64) for x in (ours, theirs))
            many, noise = a.shape[1], power[s.initializer]
            gap = a.sum(1)[:, None] - (b.sum(1) - many * noise)[None]
            score -= np.square(gap) / (2 * (4 * noise * a.sum(1).mean() + 2 * many * noise**2))
        return score

    def _apply(self, found: Mapping[str, np.ndarray]) -> None:
        if found:
            self.current.update(permuted(self.current, self.groups, found))
            self.total = compose(self.family, self.total, found)
            self.matches = {g.id: _identity(g) for g in self.groups}

    def _total(self, group: Group) -> Match:
        found = self.matches[group.id]
        inverse = {n: np.argsort(p) for n, p in self.total.items()}
        # the figures belong to the unit of the reference; an inner group is named by where it lies in the suspect
        here = self.matches[self.family.twin(group.id, inverse)]
        return replace(here, group=group.id, permutation=self.total.get(group.id, found.permutation))

    def _members(self, name: str) -> list[Group]:
        return [g for g in self.groups if self.top[g.id] == name]

    def _usable(self, slot: Slot, name: str) -> bool:
        return all(t == name or t in self.aligned for t in self.touching[slot.initializer])

    def _anchored(self, name: str) -> tuple[float, float]:
        """How much evidence of a group and those inside it is aligned: elements a unit, and the share of all."""
        group = self.family.groups[name]
        usable = total = 0.0
        for slot in group.slots:
            size = self.reference[slot.initializer].size / group.size
            total += size
            if self._usable(slot, name) and len(self.axes[slot.initializer, name]) == 1:
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
        return all(same(self.reference[n], self.current[n]) for n in names)

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
        return _joined([self.weighted(arrays, s.initializer, s) for s in slots], count)

    def _flat(self, group: Group, slots: Sequence[Slot], anchored: bool) -> Match:
        if slots:
            a = [_rows(self.reference[s.initializer], s) for s in slots]
            b = [_rows(self.current[s.initializer], s) for s in slots]
            exact = _exact(a, b)
            if exact is not None:
                ones = np.ones(group.size)
                return Match(group.id, exact[0], ones, exact[1], ones)
            x, y = self._evidence(self.reference, slots, group.size), self._evidence(self.current, slots, group.size)
        else:
            x, y = self._orderless(self.reference, group), self._orderless(self.current, group)
        scores = _likelihood(x, y)
        permutation = assign(scores)
        return Match(group.id, permutation, *self.figures(group.id, x, y, scores, permutation))

    def _orderless(self, arrays: Arrays, group: Group) -> np.ndarray:
        """Evidence that no order of the other axes can change: every unit's sorted elements."""
        parts = []
        for slot in group.slots:
            mean, deviation = self.scale(slot.initializer)
            rows = _finite(_rows(arrays[slot.initializer], slot))
            parts.append((np.sort(rows, 1) - np.float32(mean)) / np.float32(deviation))
        return _joined(parts, group.size)

    def _nested(self, group: Group, slots: Sequence[Slot]) -> dict[str, Match]:
        """Matches the units of a group by the best match of what lies inside them, then assigns the units."""
        pairs = _Pairs(self, group, {s.initializer for s in slots})
        score = np.array([[pairs.match(u, v) for v in range(group.size)] for u in range(group.size)])
        direct = [s for s in slots if s.initializer not in pairs.covered]
        if direct:
            score += _likelihood(
                self._evidence(self.reference, direct, group.size), self._evidence(self.current, direct, group.size)
            )
        outer = assign(score)
        found = {}
        means = []
        for u, v in enumerate(outer.tolist()):
            inner = pairs.matches[u, v]
            found.update({m.group: m for m in inner})
            means.append(np.mean([m.similarity.mean() for m in inner]))
        found[group.id] = Match(group.id, outer, np.array(means), _margin(score, outer), _certainty(score, outer))
        return found


class _Pairs:
    """Matches what lies inside unit u of the reference with what lies inside unit v of the suspect.

    The groups inside a unit come in kinds, the same for all units (in an attention head the query-key and the
    value dimensions). A weight with two kinds on it is evidence for one as soon as the other is matched.
    """

    def __init__(self, matcher: Matcher, group: Group, usable: set[str]):
        self.matcher = matcher
        self.inner = [[matcher.family.groups[n] for n in matcher.family.inside(group.id, u)] for u in range(group.size)]
        kinds = range(len(self.inner[0]))
        on: dict[str, set[int]] = {}
        self.slots = []
        for k in kinds:
            own = [i for i, s in enumerate(self.inner[0][k].slots) if s.initializer in usable]
            self.slots.append(own)
            for i in own:
                on.setdefault(self.inner[0][k].slots[i].initializer, set()).add(k)
        self.covered = set(on)
        self.alone = [[i for i in own if len(on[self._name(k, i)]) == 1] for k, own in enumerate(self.slots)]
        self.shared = [[i for i in own if len(on[self._name(k, i)]) > 1] for k, own in enumerate(self.slots)]
        self.order = sorted(kinds, key=lambda k: -sum(matcher.reference[self._name(k, i)].size for i in self.alone[k]))
        self.mine = [[self._rows(matcher.reference, u, k, self.alone[k], {}) for k in kinds] for u in range(group.size)]
        self.theirs = [[self._rows(matcher.current, v, k, self.alone[k], {}) for k in kinds] for v in range(group.size)]
        self.matches: dict[tuple[int, int], list[Match]] = {}

    def _name(self, kind: int, slot: int) -> str:
        return self.inner[0][kind].slots[slot].initializer

    def _rows(self, arrays: Arrays, unit: int, kind: int, which: Sequence[int], done: Mapping[int, np.ndarray]) -> np.ndarray:
        """The evidence of one kind in one unit, other kinds in the orders `done`, [inner units, features]."""
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
        return _joined(parts, group.size) if parts else np.zeros((group.size, 0), np.float32)

    def match(self, u: int, v: int) -> float:
        """The score of a pair, the sum of the dot products of what was matched in it."""
        done: dict[int, np.ndarray] = {}
        found: dict[int, tuple[Match, float]] = {}
        again = [k for k in self.order if self.shared[k]]
        for k in [*self.order, *again]:
            settled = {j: p for j, p in done.items() if j != k}
            which = [i for i in self.shared[k] if self._kinds_on(self._name(k, i)) <= {k, *settled}]
            x, y = self.mine[u][k], self.theirs[v][k]
            if which:
                plain = {j: np.arange(self.inner[u][j].size) for j in settled}
                x = np.concatenate([x, self._rows(self.matcher.reference, u, k, which, plain)], 1)
                y = np.concatenate([y, self._rows(self.matcher.current, v, k, which, settled)], 1)
            name = self.inner[v][k].id
            exact = _exact([x], [y])
            if exact is not None:
                chosen, margin = exact
                match = Match(name, chosen, np.ones(chosen.size), margin, np.ones(chosen.size))
                score = 0.0
            else:
                scores = _likelihood(x, y)
                chosen = assign(scores)
                match = Match(name, chosen, *self.matcher.figures(name, x, y, scores, chosen))
                score = float(scores[np.arange(chosen.size), chosen].sum())
            done[k] = chosen
            found[k] = match, score
        self.matches[u, v] = [m for m, _ in found.values()]
        return sum(score for _, score in found.values())

    def _kinds_on(self, name: str) -> set[int]:
        return {k for k in range(len(self.slots)) if any(self._name(k, i) == name for i in self.slots[k])}


def _joined(parts: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Rows side by side, and a one: in homogeneous coordinates a lone bias has an angle, and not just a sign."""
    return np.concatenate([*parts, np.ones((count, 1), np.float32)], 1)


def _identity(group: Group) -> Match:
    return Match(group.id, np.arange(group.size), *np.ones((3, group.size)))


def _scale(array: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of a weight, the deviation never zero."""
    values = _finite(array)
    deviation = float(values.std(dtype=np.float64))
    return float(values.mean(dtype=np.float64)), deviation if deviation > 0 else 1.0


def _finite(array: np.ndarray) -> np.ndarray:
    """As float32, infinities as the largest finite value beside them."""
    values = array.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        limit = np.abs(values[finite]).max(initial=1.0)
        np.clip(values, -limit, limit, out=values)
    return values


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit?"""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.hasobject:
        return bool((a == b).all())
    flat_a, flat_b = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
    return bool(np.array_equal(flat_a, flat_b))


def _digests(parts: Sequence[np.ndarray]) -> list[bytes]:
    """A digest of every unit's bytes."""
    digests = [hashlib.blake2b(digest_size=16) for _ in range(parts[0].shape[0])]
    for part in parts:
        for digest, row in zip(digests, np.ascontiguousarray(part).view(np.uint8), strict=True):
            digest.update(row)
    return [d.digest() for d in digests]


def _exact(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The permutation and margins if the rows are the same rows, bit for bit, in another order; else None."""
    if any(x.dtype != y.dtype for x, y in zip(a, b, strict=True)):
        return None
    first = next((i for i, x in enumerate(a) if x.shape[1]), 0)
    if a[first].size and not same(*(np.sort(x[first][:, 0]) for x in (a, b))):
        return None
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


def _sinkhorn(score: np.ndarray) -> np.ndarray:
    """The doubly stochastic matrix of these log-odds."""
    table = np.exp(score - score.max(1, keepdims=True))
    for _ in range(BALANCES):
        table /= table.sum(0, keepdims=True) + 1e-30
        table /= table.sum(1, keepdims=True) + 1e-30
    return table


@dataclass(frozen=True)
class _Noise:
    """The deviation of what was added to a weight, and by how much it is larger or smaller at positions along an axis."""

    deviation: float
    along: Mapping[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def between(cls, reference: np.ndarray, suspect: np.ndarray, spread: float, axes: Sequence[int]) -> _Noise:
        """What differs between two weights of one shape, of which the reference has the deviation `spread`."""
        square = np.square(_finite(reference) - _finite(suspect), dtype=np.float32)
        whole = max(float(square.mean(dtype=np.float64)), (LEAST * spread) ** 2)
        along = {}
        for axis in axes:
            others = tuple(a for a in range(square.ndim) if a != axis)
            many = square.size / square.shape[axis]
            factor = (square.mean(others, dtype=np.float64) / whole * many + PRIOR) / (many + PRIOR)
            along[axis] = np.sqrt(factor).astype(np.float32).clip(1 / WIDEST, WIDEST)
        return cls(whole**0.5, along)


def _cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cosine of every row of `x` with every row of `y`; 0 for a row of zeros."""
    if not x.shape[1]:
        return np.eye(len(x), dtype=np.float32)
    norms = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    return (x @ y.T) / np.maximum(np.outer(*norms), 1e-30)


def _likelihood(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The log-likelihood of every row of `y` as a copy of every row of `x` with noise of deviation one, up to a constant."""
    norms = [np.einsum("ij,ij->i", z, z, dtype=np.float64) / 2 for z in (x, y)]
    return (x @ y.T).astype(np.float64) - norms[0][:, None] - norms[1][None]


def _copied(x: np.ndarray, y: np.ndarray, chance: float) -> tuple[float, np.ndarray]:
    """How much of the rows `x` is found again in `y`, and for each the probability that it is a copy and no other's.

    Of a copy all of the row is found again; of the best among unrelated ones hardly more than of the second best, or,
    where that is known, than of the best in weights without order: `chance`.
    """
    dot = x @ y.T - np.float32(1)
    power = np.maximum(np.einsum("ij,ij->i", x, x, dtype=np.float64) - 1, 1e-30)
    gain = np.diagonal(dot) / power
    np.fill_diagonal(dot, -np.inf)
    second = np.maximum(dot.max(1) / power, chance)
    odds = np.clip(((gain - np.minimum(second, 1)) ** 2 - (gain - 1) ** 2) * power / 2, -700, 700)
    # over all units the gain says how many are copies, before any one of them is asked
    mean, other = (float((g * power).sum() / power.sum()) for g in (gain, second))
    share = np.clip((mean - other) / max(1 - other, ROOM), RARE, 1 - RARE)
    return mean, expit(odds + logit(share))


def _margin(scores: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    rows = np.arange(len(permutation))
    rest = scores.copy()
    rest[rows, permutation] = -np.inf
    return scores[rows, permutation] - rest.max(1)


def _certainty(scores: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Of every match the probability among all assignments, as balanced rows and columns give it."""
    return _sinkhorn(scores)[np.arange(len(permutation)), permutation]


def match(
    groups: Sequence[Group], reference: Arrays, suspect: Arrays, progress: Progress | None = None
) -> tuple[list[Match], dict[str, np.ndarray]]:
    """For every group where the units of the reference lie in the suspect, and the weights with them back in place.

    Args:
        groups: the groups, inner ones first.
        reference, suspect: the weights by the same names.
        progress: called with how many of how many groups are done.
    """
    matcher = Matcher(groups, reference, suspect)
    matches = matcher.run(progress)
    moved = {s.initializer for m in matches if m.moved for s in matcher.family.groups[m.group].slots}
    return matches, {name: matcher.current[name] for name in moved}


def similarity(group: Group, reference: Arrays, suspect: Arrays) -> np.ndarray:
    """The cosine of every unit of the reference with every unit of the suspect, [size, size].

    Of the slot with the most elements, the paper's own setting, and of no other.
    """
    slot = max(group.slots, key=lambda s: reference[s.initializer].size)
    a, b = (_rows(np.asarray(x[slot.initializer]), slot).astype(np.float32) for x in (reference, suspect))
    return _cosine(a, b)
