"""From the facts of the label engine to groups: candidates by colour, accepted when they are symmetric."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..dataflow.engine import Analysis
from ..dataflow.labels.roles import find_varying_axes, sort_distinct, to_dense
from ..groups.model import Group, Pin, Slot, Symmetry
from ..numerics import mix_bits
from .blocks import Blocks
from .classes import CongruenceClosure
from .fold import Fold, Unfoldable, fold_runs, unfold_runs


def _counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values, sorted, and how often each occurs; fast where they are sorted and distinct already."""
    flat = values.ravel()
    if (flat[1:] > flat[:-1]).all():
        return flat, np.ones(flat.size, np.int64)
    return np.unique(flat, return_counts=True)


def _ranges(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """The integers of all ranges `start` to `stop`, one range after the other."""
    size = stop - start
    return np.repeat(start - np.cumsum(size) + size, size) + np.arange(size.sum())


class Finder:
    """Candidate groups by colour refinement, accepted when they map every fact onto itself."""

    def __init__(self, fold: Fold):
        self.fold = fold
        self.analysis = analysis = fold.analysis
        self.classes = CongruenceClosure(analysis.facts)
        self.of = self.classes.of
        self.count = int(self.of.max(initial=-1)) + 1
        self.shift = self.classes.shift
        self.labels = analysis.facts.label_count
        self.class_of = self.of[self.shift : self.shift + self.labels]
        self.roles = [(w, to_dense(r)) for w, roles in analysis.weights.items() for r in roles]
        members = [_counted(r) for _, r in self.roles]
        none = np.empty(0, np.int64)
        self.member_label = np.concatenate([label for label, _ in members] or [none])
        self.member_times = np.concatenate([times for _, times in members] or [none]).astype(
            np.uint64
        )
        self.member_role = np.repeat(np.arange(len(members)), [label.size for label, _ in members])
        self.pairs = [(c, p) for c, p in self.classes.maps if c.size]
        self._count()
        self._pin()
        self._colour()
        self._index()

    def _count(self) -> None:
        """What a fold left of the classes: how many each stands for, and how many labels each label in its class."""
        length, second = self.fold.length, self.fold.second
        partner = np.arange(self.count)
        folded = np.flatnonzero(length > 1)
        partner[self.class_of[folded]] = self.class_of[folded + 1 - 2 * second[folded]]
        spans = np.ones(self.count, np.int64)
        spans[self.class_of[folded]] = length[folded]
        behind = np.zeros(self.count, bool)
        behind[self.class_of[folded]] = second[folded]
        bare = np.ones(self.count, bool)
        bare[self.of[: self.shift + self.labels]] = False
        grown = bool(folded.size and bare.any())
        while grown:
            # a class without labels, above others, stands for as many as they do
            grown = False
            for child, parent in self.pairs:
                at = np.minimum(np.searchsorted(child, partner[child]), child.size - 1)
                new = (
                    bare[parent]
                    & (spans[parent] == 1)
                    & (child[at] == partner[child])
                    & (parent[at] != parent)
                )
                if new.any():
                    grown = True
                    c, t = child[new], parent[new]
                    partner[t], spans[t], behind[t] = parent[at[new]], spans[c], behind[c]
        self.apart = partner != np.arange(self.count)
        self.spans = np.where(self.apart, spans, 1)
        self.behind = self.apart & behind
        self.times = np.where(self.behind, self.spans - 1, 1).astype(np.uint64)
        self.label_times = np.where(second & ~self.apart[self.class_of], length - 1, 1).astype(
            np.uint64
        )

    def _pin(self) -> None:
        """Pinned classes and the number of the fact that pins them; a pinned child pins its parents."""
        self.why = np.full(self.count, -1)
        self.why[self.of[: self.shift]] = len(self.analysis.facts.pins)
        for number, (pinned, _, _) in reversed(list(enumerate(self.analysis.facts.pins))):
            self.why[self.class_of[to_dense(pinned)]] = number
        read = self.why >= 0
        for contracted in map(to_dense, self.analysis.facts.read):
            read[self.class_of[contracted[contracted >= 0]]] = True
        for _, parent in self.pairs:
            read[parent] = True
        self.unread = len(self.analysis.facts.pins) + 1
        found = self.class_of[self.member_label]
        self.why[found[~read[found]]] = self.unread
        tied = self.of[np.array(sorted(self.classes.pinned), np.int64)]
        self.why[tied[self.why[tied] < 0]] = len(self.analysis.facts.pins)
        self._spread()

    def _spread(self) -> None:
        while True:
            before = (self.why >= 0).sum()
            for child, parent in self.pairs:
                fixed = (self.why[child] >= 0) & (self.why[parent] < 0)
                self.why[parent[fixed]] = self.why[child[fixed]]
            if (self.why >= 0).sum() == before:
                return

    def _colour(self) -> None:
        colour = np.zeros(self.count, np.uint64)
        births = np.searchsorted(self.analysis.facts.births, np.arange(self.labels), side="right")
        self.births = births
        self.kinds = births.astype(np.uint64)
        for what, touched in self.analysis.facts.marked:
            self.kinds[to_dense(touched)] += mix_bits(what)
        np.add.at(colour, self.class_of, mix_bits(self.kinds) * self.label_times)
        seen = (
            mix_bits(mix_bits(self.member_role + (1 << 32)) ^ self.member_times)
            * self.label_times[self.member_label]
        )
        np.add.at(colour, self.class_of[self.member_label], seen)
        fixed = self.why >= 0
        colour[fixed] = mix_bits(np.flatnonzero(fixed) + (1 << 40))
        known = sort_distinct(colour).size
        while True:
            new = mix_bits(colour)
            for number, (child, parent) in enumerate(self.pairs):
                salt = mix_bits(number + (1 << 48))
                np.add.at(new, child, mix_bits(colour[parent] ^ salt))
                times = np.where(self.apart[parent], np.uint64(1), self.times[child])
                np.add.at(new, parent, mix_bits(mix_bits(colour[child]) ^ salt) * times)
            new[fixed] = colour[fixed]
            colour = new
            count = sort_distinct(colour).size
            if count == known:
                break
            known = count
        self.colour = colour
        key = colour.copy()
        for number, (child, parent) in enumerate(self.pairs):
            np.add.at(key, child, mix_bits(parent + ((number + 1) << 32)))
        self.key = key

    def _index(self) -> None:
        facts = self.analysis.facts
        pairs = [*((to_dense(a), to_dense(b)) for a, b in facts.equal), *facts.parents]
        self.fact_a = np.concatenate([a for a, _ in pairs]) if pairs else np.empty(0, np.int64)
        self.fact_b = np.concatenate([b for _, b in pairs]) if pairs else np.empty(0, np.int64)
        self.fact_event = np.repeat(np.arange(len(pairs)), [a.size for a, _ in pairs])
        node = [np.where(x < 0, -1 - x, x + self.shift) for x in (self.fact_a, self.fact_b)]
        # one and the same parent, or one that looks like it
        self.mark = self._marks(*(mix_bits(x + (1 << 32)) for x in (self.fact_a, self.fact_b)))
        order = np.argsort(self.class_of, kind="stable")
        # of classes of one label nothing is to be told apart
        several = (np.bincount(self.class_of, minlength=self.count) > 1)[self.class_of]
        crowded = np.flatnonzero(several)
        if crowded.size:
            marks = self._marks(*(mix_bits(self.colour[self.of[x]]) for x in node))
            told = np.lexsort([x[crowded] for x in (marks, self.kinds, self.births, self.class_of)])
            order[several[order]] = crowded[told]
        self.sorted_labels = order
        self.start = np.searchsorted(self.class_of[order], np.arange(self.count + 1))
        some = self.start[:-1] < self.start[1:]
        self.first = np.where(
            some, np.minimum.reduceat(np.r_[order, self.labels], self.start[:-1]), self.labels
        )
        many = max(len(self.roles), 1)
        found = sort_distinct(self.class_of[self.member_label] * many + self.member_role)
        self.role_keys, self.role_numbers = found // many, found % many
        edges = [
            np.stack([p, c, np.full(c.size, number)]) for number, (c, p) in enumerate(self.pairs)
        ]
        self.edges = np.concatenate([*edges, np.empty((3, 0), np.int64)], axis=1)
        self.above = self.edges[:, np.argsort(self.edges[1], kind="stable")]
        self.edges = self.edges[:, np.argsort(self.edges[0], kind="stable")]
        # where the edges of each class begin, by what lies above and by what lies below
        self.up, self.down = (
            np.searchsorted(e, np.arange(self.count + 1)) for e in (self.above[1], self.edges[0])
        )
        self.owners: list[np.ndarray] = []
        self.blocks = Blocks(self.count)
        self.rank = {w: r.ndim for w, r in self.roles}
        self.shared: dict[tuple, np.ndarray] = {}
        self.folded: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        """By how many units each unit of a group stands for, which one stands for each of them, and how far behind it."""
        self.unit_of = np.full(self.labels, -1)
        self.rank_of = np.zeros(self.labels, np.int64)
        said = np.concatenate([self.fact_a, self.fact_b])
        self.fact_order = np.argsort(said, kind="stable")
        self.fact_label = said[self.fact_order]

    def _marks(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """What is said of every label: by which fact, on which side, and of what.

        Of another label the same is known; of addresses, children and parents what `first` and `second` say, by fact.
        """
        marks = mix_bits(self.kinds)
        tied = (
            (self.fact_event < len(self.analysis.facts.equal))
            & (self.fact_a >= 0)
            & (self.fact_b >= 0)
        )
        for _ in range(3):
            new = mix_bits(marks)
            for one, other, what, side in (
                (self.fact_a, self.fact_b, second, 0),
                (self.fact_b, self.fact_a, first, 1),
            ):
                # of an address, which is negative, `tied` takes none
                label = np.maximum(other, 0)
                said = mix_bits(
                    mix_bits(self.fact_event * 2 + side) ^ np.where(tied, marks[label], what)
                )
                np.add.at(new, one[one >= 0], said[one >= 0])
            marks = new
        return marks

    # ---- candidates

    def find(self) -> Symmetry:
        free = np.flatnonzero((self.why < 0) & (np.bincount(self.of, minlength=self.count) > 0))
        number = np.unique(self.key[free], return_inverse=True)[1].ravel() if free.size else free
        order = np.lexsort((self.first[free], number))
        cuts = (
            np.flatnonzero(np.r_[True, np.diff(number[order]) != 0, True])
            if free.size
            else np.zeros(1, np.int64)
        )
        found: list[tuple[np.ndarray, list[Slot]]] = []
        candidates = [free[order[a:b]] for a, b in itertools.pairwise(cuts.tolist()) if b - a > 1]
        depth = self._depth()
        # what is true inside one unit of a block is true inside all: blocks come first
        for units in sorted(candidates, key=lambda units: depth[units[0]]):
            slots = self.blocks.again(units)
            if slots is None:
                slots = self._accept(units)
            if slots is None:
                self._even(units)
                self.why[units] = self.unread + 1
                self._spread()
            elif slots:
                self._inside(units)
                found.append((units, slots))
        found = self._ordered([(u, s) for u, s in found if (self.why.take(u) < 0).all()])
        return Symmetry(
            self._named([self._unfolded(*f) for f in found]),
            self._pins(),
            tuple(sorted(self.analysis.unknown)),
        )

    def _depth(self) -> np.ndarray:
        """How many classes lie above each, one above the other."""
        depth = np.zeros(self.count, np.int64)
        for _ in range(self.count):
            before = depth.copy()
            np.maximum.at(depth, self.edges[1], depth[self.edges[0]] + 1)
            if (depth == before).all():
                break
        return depth

    def _even(self, units: np.ndarray) -> None:
        """Unfoldable where units may differ only in what was folded of them."""
        below = found = sort_distinct(units)
        while found.size:
            found = np.setdiff1d(
                self.edges[1, _ranges(self.down[found], self.down[found + 1])], below
            )
            below = np.union1d(below, found)
        number = np.unique(self.colour[below], return_inverse=True)[1]
        least = np.full(below.size, np.iinfo(np.int64).max)
        most = np.zeros(below.size, np.int64)
        np.minimum.at(least, number, self.spans[below])
        np.maximum.at(most, number, self.spans[below])
        if (least[number] != most[number]).any():
            raise Unfoldable

    def _inside(self, units: np.ndarray) -> None:
        """Unfoldable where a group lies inside units of which others stand for it: they hold groups of their own."""
        above = self.above[0, _ranges(self.up[units], self.up[units + 1])]
        if self.apart[above].any():
            raise Unfoldable

    def _unfolded(self, units: np.ndarray, slots: list[Slot]) -> tuple[np.ndarray, list[Slot]]:
        """A group over all its units."""
        times = self.times.take(units).astype(np.int64)
        if (key := times.tobytes()) not in self.folded:
            # most groups are folded like others
            self.folded[key] = (
                np.repeat(np.arange(units.size), times),
                _ranges(np.zeros_like(times), times),
            )
        which, distance = self.folded[key]
        return units.take(which), [self.fold.slot(s, which, distance, self.shared) for s in slots]

    def _ordered(
        self, found: list[tuple[np.ndarray, list[Slot]]]
    ) -> list[tuple[np.ndarray, list[Slot]]]:
        """Groups and slots in an order that the weights' names and places decide, not the order of the nodes.

        Groups that stand in one place of several units have one colour, and come in the same order in every unit.
        """

        def keys(slots: Sequence[Slot]) -> tuple[tuple, tuple, list[Slot]]:
            placed = sorted(
                (-self.rank[s.initializer], s.initializer, s.axis, min(s.index.ravel().tolist()), k)
                for k, s in enumerate(slots)
            )
            own = [slots[k] for *_, k in placed]
            within = tuple((a, p.tolist()) for slot in own for a, p in slot.within)
            return tuple(p[:3] for p in placed), (tuple(p[3] for p in placed), within), own

        first: dict[int, tuple] = {}
        keyed: list[tuple[tuple, int, tuple, np.ndarray, list[Slot]]] = []
        for units, slots in found:
            places, where, own = keys(slots)
            colour = int(self.colour[units[0]])
            first[colour] = min(first.get(colour, where), where)
            keyed.append((places, colour, where, units, own))
        keyed.sort(key=lambda k: (k[0], first[k[1]], k[2]))
        return [(units, own) for _, _, _, units, own in keyed]

    def _below(self, units: np.ndarray) -> list[np.ndarray] | None:
        """The classes of every unit and those below it, [units, classes], and None if units do not have as many.

        A class may lie below two units, by different relations: what connects two of the groups around a channel
        shuffle, or a product of two units. There is one table for each way to lie below; a permutation of the
        units moves the classes of each, one table after the other.
        """
        if (self.down.take(units) == self.down.take(units + 1)).all():
            return [units[:, None]]
        members: list[list[np.ndarray]] = []
        work: list[tuple[np.ndarray, np.ndarray]] = []

        def add(child: np.ndarray, unit: np.ndarray) -> None:
            for k in itertools.count():
                if k == len(members):
                    members.append([])
                    if k == len(self.owners):
                        self.owners.append(np.full(self.count, -1))
                seen = self.owners[k].take(child)
                if ((seen < 0) | (seen == unit)).all():
                    new, at = np.unique(child[seen < 0], return_index=True)
                    self.owners[k][new] = unit[seen < 0][at]
                    members[k].append(new)
                    work.append((new, self.owners[k][new]))
                    return

        try:
            add(units, np.arange(units.size))
            while work:
                front, owner = work.pop()
                lo, hi = self.down.take(front), self.down.take(front + 1)
                _, child, relation = self.edges.take(_ranges(lo, hi), 1)
                unit = np.repeat(owner, hi - lo)
                for number in np.unique(relation):
                    add(child[relation == number], unit[relation == number])
            tables = []
            for k, found in enumerate(members):
                classes = np.concatenate(found)
                others = [self.owners[j][classes] for j in range(len(members)) if j != k]
                order = np.lexsort((self.first[classes], *others, self.owners[k][classes]))
                if (
                    np.bincount(self.owners[k][classes], minlength=units.size) * units.size
                    != classes.size
                ).any():
                    return None
                tables.append(classes[order].reshape(units.size, -1))
                if any(
                    (o[order].reshape(units.size, -1) != o[order].reshape(units.size, -1)[0]).any()
                    for o in others
                ):
                    return None
            return tables
        finally:
            for k, found in enumerate(members):
                for classes in found:
                    self.owners[k][classes] = -1

    def _accept(self, units: np.ndarray) -> list[Slot] | None:
        """The slots of a candidate; empty if it occurs in no weight, None if it is no symmetric group."""
        tables = self._below(units)
        if tables is None:
            return None
        raws = []
        for table in tables:
            sizes = self.start[table + 1] - self.start[table]
            if (sizes != sizes[0]).any():
                return None
            flat = table.ravel()
            labels = self.sorted_labels.take(
                _ranges(self.start.take(flat), self.start.take(flat + 1))
            )
            raws.append(labels.reshape(units.size, -1))
        unique: dict[tuple, Slot] = {}
        alike = True
        for table, raw in zip(tables, raws, strict=True):
            self.unit_of[raw] = np.arange(units.size)[:, None]
            self.rank_of[raw] = np.arange(raw.shape[1])
            lo, hi = (
                np.searchsorted(self.role_keys, table[0], side=side) for side in ("left", "right")
            )
            found = [
                self._slot(number, units.size)
                for number in np.unique(self.role_numbers[_ranges(lo, hi)]).tolist()
            ]
            self.unit_of[raw] = -1
            for slot, even in found:
                if slot is None:
                    return None
                alike &= even
                within = tuple((a, positions.tobytes()) for a, positions in slot.within)
                unique.setdefault(
                    (slot.initializer, slot.axis, within, np.sort(slot.index, 1).tobytes()), slot
                )
        slots = list(unique.values())
        raw = raws[0]
        if len(raws) == 1:
            colours, kinds = self.colour.take(tables[0]), self.kinds.take(raw)
            if (colours != colours[0]).any() or (kinds != kinds[0]).any():
                return None
        if alike and len(raws) == 1 and tables[0].shape[1] == 1:
            # classes of labels of which different things are said, the same in every unit: nothing else maps them
            marks = self.mark.take(raw)
            alike = (marks == marks[0]).all() and np.unique(marks[0]).size == raw.shape[1]
        else:
            alike = False
        if slots and not alike and not self._verify(raws, slots):
            return None
        if slots:
            self.blocks.accepted(units, tables, slots)
        return slots

    def _slot(self, number: int, size: int) -> tuple[Slot | None, bool]:
        """Where the units of a candidate lie in one role of a weight; None if not alike.

        True beside it if reordering its units there is known to do what reordering their labels does.
        """
        weight, role = self.roles[number]
        axes = find_varying_axes(role)
        owner = self.unit_of.take(role)
        if len(axes) == 1 and owner.size >= size:
            # mostly each unit has one element, and all lie along one axis
            flat = owner.ravel()
            there = np.flatnonzero(flat >= 0)
            order = np.argsort(flat.take(there))
            if there.size == size and (flat.take(there.take(order)) == np.arange(size)).all():
                rank = self.rank_of.take(role.ravel().take(there))
                return Slot(weight, axes[0], there.take(order)[:, None]), bool(
                    (rank == rank[0]).all()
                )
        places = np.nonzero(owner >= 0)
        unit, rank = owner[places], self.rank_of[role[places]]
        order = np.argsort(unit, kind="stable")
        counts = np.bincount(unit, minlength=size)
        if (counts != counts[0]).any():
            return None, False
        ranks = rank[order].reshape(size, -1)
        moving, within = [], []
        for a in axes:
            rows = places[a][order].reshape(size, -1)
            if (rows == rows[0]).all():
                there = np.unique(rows[0])
                if there.size < role.shape[a]:
                    within.append((a, there))
            else:
                moving.append((a, rows))
        if len(moving) != 1:
            return None, False
        axis, rows = moving[0]
        if (rows == rows[:, :1]).all():
            return Slot(weight, axis, rows[:, :1].copy(), tuple(within)), bool(
                (ranks == ranks[0]).all()
            )
        # the place of an element inside its unit: by the rank of its label, then along the axis
        inside = np.lexsort((rows, ranks))
        rows = np.take_along_axis(rows, inside, 1)
        if len(axes) == 1:
            ranks = np.take_along_axis(ranks, inside, 1)
            return Slot(weight, axis, rows, tuple(within)), bool((ranks == ranks[0]).all())
        index = [list(dict.fromkeys(row)) for row in rows.tolist()]
        if len({len(i) for i in index}) > 1:
            return None, False
        return Slot(weight, axis, np.array(index), tuple(within)), False

    def _verify(self, raws: Sequence[np.ndarray], slots: Sequence[Slot]) -> bool:
        """Do a transposition and a cycle of the units, which generate all permutations, map every fact onto itself?"""
        size = raws[0].shape[0]
        touched = {s.initializer for s in slots}
        roles = [(w, to_dense(r)) for w in sorted(touched) for r in self.analysis.weights[w]]
        moved = sort_distinct(np.concatenate([raw.ravel() for raw in raws]))
        lo, hi = (np.searchsorted(self.fact_label, moved, side=side) for side in ("left", "right"))
        mask = (
            sort_distinct(self.fact_order.take(_ranges(lo, hi)) % self.fact_a.size)
            if self.fact_a.size
            else np.empty(0, np.int64)
        )
        a, b, event = (x.take(mask) for x in (self.fact_a, self.fact_b, self.fact_event))
        known = self._said(event, a, b)
        swap = np.arange(size)
        swap[:2] = 1, 0
        for permutation in (swap, np.roll(np.arange(size), 1)):
            sigma = np.arange(self.labels)
            for raw in raws:
                step = np.arange(self.labels)
                step[raw] = raw[permutation]
                sigma = step.take(sigma)
            if (self.kinds.take(sigma.take(moved)) != self.kinds.take(moved)).any():
                return False
            moved_a, moved_b = (np.where(x < 0, x, sigma[x]) for x in (a, b))
            if not np.array_equal(known, self._said(event, moved_a, moved_b)):
                return False
            for weight, role in roles:
                own = [s for s in slots if s.initializer == weight and role.shape[s.axis] > 1]
                shape = list(role.shape)
                for s in own:
                    for axis, _ in s.within:
                        shape[axis] = self._shape(weight)[axis]
                frame = np.broadcast_to(role, shape).copy()
                for s in own:
                    s.permute(frame, permutation)
                if (frame != np.broadcast_to(sigma[role], shape)).any():
                    return False
        return True

    def _said(self, event: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The distinct facts, in one order."""
        low = min(int(b.min(initial=0)), 0)
        span = self.labels - low
        if (
            len(self.analysis.facts.equal) + len(self.analysis.facts.parents)
        ) * span * span < 1 << 62:
            return sort_distinct((event * span + (a - low)) * span + (b - low))
        return np.unique(np.stack([event, a, b]), axis=1)

    def _shape(self, weight: str) -> tuple[int, ...]:
        """The broadcast shape of all roles of a weight."""
        return np.broadcast_shapes(*(to_dense(r).shape for r in self.analysis.weights[weight]))

    # ---- names and pins

    def _named(self, found: list[tuple[np.ndarray, list[Slot]]]) -> tuple[Group, ...]:
        which, place = np.full(self.count, -1), np.full(self.count, -1)
        for i, (units, _) in enumerate(found):
            # a class that stands for many has none inside it
            which[units[::-1]], place[units[::-1]] = i, np.arange(units.size)[::-1]
        above: list[list[tuple[int, int]]] = []
        for units, _ in found:
            # in the order of the relations, which is the same for all groups that stand in one place of several units
            parents = self.above[0, self.up[units[0]] : self.up[units[0] + 1]]
            above.append(
                list(
                    dict.fromkeys((int(which[p]), int(place[p])) for p in parents if which[p] >= 0)
                )
            )
        holds = {i for parents in above for i, _ in parents}
        depth = [0] * len(found)
        for _ in range(len(found)):
            deeper = [max((depth[i] + 1 for i, _ in parents), default=0) for parents in above]
            if deeper == depth:
                break
            depth = deeper
        names: dict[int, str] = {}
        taken: set[str] = set()
        order = sorted(range(len(found)), key=lambda i: depth[i])
        for i in order:
            slot = found[i][1][0]
            base = f"{slot.initializer}:{slot.axis}"
            if above[i]:
                parent, unit = above[i][0]
                base = f"{names[parent]}[{unit}]/{base}"
            name, k = base, 1
            while name in taken:
                k += 1
                name = f"{base}#{k}"
            taken.add(name)
            names[i] = name
        groups = []
        for i in sorted(range(len(found)), key=lambda i: -depth[i]):
            units, slots = found[i]
            kind = "blocks" if i in holds else "inner" if above[i] else "channels"
            holders = tuple((names[p], unit) for p, unit in above[i])
            groups.append(Group(names[i], kind, units.size, holders, tuple(slots)))
        return tuple(groups)

    def _pins(self) -> tuple[Pin, ...]:
        facts = self.analysis.facts.pins
        pins: dict[tuple[str, int, str], Pin] = {}
        why, many = self.why[self.class_of[self.member_label]], len(facts) + 3
        for code in sort_distinct((self.member_role * many + why)[why >= 0]).tolist():
            (weight, role), number = self.roles[code // many], code % many
            if number < len(facts):
                _, reason, node = facts[number]
            else:
                reason, node = (
                    ("position", "unread", "not a symmetric group")[number - len(facts)],
                    "",
                )
            for axis in find_varying_axes(role)[-1:]:
                pins.setdefault((weight, axis, reason), Pin(weight, axis, reason, node))
        return tuple(pins.values())


def extract_groups(analysis: Analysis) -> Symmetry:
    """The groups and pins that the facts of a graph amount to."""
    try:
        return Finder(fold_runs(analysis)).find()
    except Unfoldable:
        return Finder(unfold_runs(analysis)).find()
