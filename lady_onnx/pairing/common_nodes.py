"""Pairs the nodes of the largest part that two programs share.

Nodes are paired by walks. A walk starts at two nodes, one of each program, and goes from operand to
operand back towards the inputs, as long as nodes agree. Operands have an order; those of a sum
are ordered by what lies before them. Where walks start is the question. They start

* from the inputs on: where the last nodes stand that compute the same of the same inputs,
* from the outputs back: at the outputs, and behind nodes of one operator with as many operands,
* inside: at nodes that compute the same of whatever lies so many steps before them.

Walks that exclude each other are settled by how many elements of weights they pair. If these are
about as many, the values of the weights decide, whatever their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .programs import Operand, Program
from .seeds import (
    Seed,
    list_forward_seeds,
    list_inner_seeds,
    number_signatures,
    refine_classes,
)
from .skeleton import WeightQuantiles

MAX_STEPS_TO_WEIGHT = 8
"""Nodes are told apart by weights that they read at most so many steps before."""
RIVAL_SHARE = 0.5
"""A walk is a rival of the best one if it pairs at least this share of its elements."""
ORDER_DEPTH = 12
"""Operands whose order says nothing are told apart by so many steps before them."""
MAX_SEEDS = 500
"""The largest number of walks that are tried from one list of seeds."""
MIN_INNER_NODES = 3
"""A part in the middle of a network has at least so many nodes with weights.

One layer alone has the shapes of many another one.
"""
USUAL_GAP = 0.02
"""The distance of the values of two weights that halves what their pair counts."""


@dataclass
class CommonNodes:
    """The nodes of two programs that are paired.

    Attributes:
        theirs: the suspect's node for a node of the reference.
        ours: the reference's node for a node of the suspect.
        parted: nodes that were met in the same place, and do not agree.
    """

    theirs: dict[int, int] = field(default_factory=dict)
    ours: dict[int, int] = field(default_factory=dict)
    parted: dict[Seed, None] = field(default_factory=dict)

    def add_pairs(self, pairs: Mapping[int, int]) -> None:
        """Pair nodes."""
        self.theirs.update(pairs)
        self.ours.update((b, a) for a, b in pairs.items())


def pair_common_nodes(one: Program, two: Program) -> CommonNodes:
    """Pair the nodes of the largest part that two programs share."""
    walker = _Walker(one, two)
    outputs = [
        (a.node, b.node)
        for a, b in zip(one.ends, two.ends, strict=False)
        if a.node is not None and b.node is not None and a.position == b.position
    ]
    forward = list_forward_seeds(one, two, walker.rank_seeds)
    behind = walker.accept_walks(anchored=[*forward, *outputs])
    free = (
        [a for a in range(len(one.nodes)) if a not in walker.found.theirs],
        [b for b in range(len(two.nodes)) if b not in walker.found.ours],
    )
    inner = list_inner_seeds(one, two, free, walker.rank_seeds)
    # what lies behind another head is as far from the outputs in both
    behind = walker.accept_walks(anchored=behind, inner=inner)
    while behind:
        behind = walker.accept_walks(inner=behind)
    return walker.found


class _Walker:
    """Walks from seeds, and keeps what is paired."""

    def __init__(self, one: Program, two: Program):
        self._one, self._two = one, two
        self._our_values = WeightQuantiles(one.graph)
        self._their_values = WeightQuantiles(two.graph)
        levels = [number_signatures((one, two))]
        for _ in range(ORDER_DEPTH):
            levels.append(refine_classes((one, two), levels[-1]))
        self._levels = levels[::-1]
        """The classes of the nodes by so many steps before them, the most steps first."""
        self._tried: set[Seed] = set()
        self.found = CommonNodes()

    def accept_walks(self, anchored: Iterable[Seed] = (), inner: Iterable[Seed] = ()) -> list[Seed]:
        """Walk from seeds, those first that pair most weights.

        Args:
            anchored: where walks start that have the inputs or the outputs in common.
            inner: where others start, which have to pair `MIN_INNER_NODES` at least.

        Returns:
            Where to go on behind nodes of one operator with as many operands. Seeds
            that were tried before are left out, here as there.
        """
        least = dict.fromkeys(inner, MIN_INNER_NODES) | dict.fromkeys(anchored, 1)
        waiting = [seed for seed in least if seed not in self._tried][:MAX_SEEDS]
        self._tried.update(waiting)
        behind: dict[Seed, None] = {}
        walks: dict[Seed, dict[int, int]] = {}
        while True:
            for seed in waiting:
                walk, further = self._walk(seed)
                behind.update(dict.fromkeys(further))
                if self._count_weighted(walk) >= least[seed]:
                    walks[seed] = walk
            if not walks:
                return [seed for seed in behind if seed not in self._tried]
            best = self._choose_walk(walks)
            self.found.add_pairs(best)
            # what has nodes in common with the walk is walked anew, without them
            theirs = set(best.values())
            waiting = [
                seed
                for seed, walk in walks.items()
                if not best.keys().isdisjoint(walk) or not theirs.isdisjoint(walk.values())
            ]
            for seed in waiting:
                del walks[seed]

    def _choose_walk(self, walks: Mapping[Seed, Mapping[int, int]]) -> Mapping[int, int]:
        """Return the walk that pairs most; of those like it, that whose weights are most alike."""
        sizes = {seed: self._count_elements(walk) for seed, walk in walks.items()}
        best = walks[max(sizes, key=lambda seed: sizes[seed])]
        back = {b: a for a, b in best.items()}
        least = RIVAL_SHARE * max(sizes.values())
        rivals = [
            walk
            for seed, walk in walks.items()
            if sizes[seed] >= least
            and any(best.get(a, b) != b or back.get(b, a) != a for a, b in walk.items())
        ]
        return max([best, *rivals], key=self._measure_likeness) if rivals else best

    def rank_seeds(self, seeds: Sequence[Seed]) -> list[Seed]:
        """Sort pairs of nodes by how much the values of the weights before them are alike."""
        return sorted(seeds, key=self._measure_seed_gap)

    def _measure_seed_gap(self, seed: Seed) -> float:
        """Measure how far the values of the nearest weights before two nodes are apart."""
        a, b = seed
        for _ in range(MAX_STEPS_TO_WEIGHT):
            # the nodes of a class are alike for some steps, which may be fewer than are asked for
            if self._one.signatures[a] != self._two.signatures[b]:
                break
            names = zip(self._one.list_weights(a), self._two.list_weights(b), strict=True)
            gaps = [
                self._our_values.measure_weight_gap(name, self._their_values, other)
                for name, other in names
                if self._one.count_elements(name) > 1
            ]
            if gaps:
                return max(gaps)
            before = self._pair_operands(a, b)
            if not before:
                break
            # the last operand is the newest: a residual stream comes first, or from further back
            a, b = max(before)
        return math.inf

    def _walk(self, seed: Seed) -> tuple[dict[int, int], list[Seed]]:
        """Pair nodes from a seed on, back towards the inputs, as far as they agree.

        Returns:
            The suspect's node for every node of the reference that is new, and where to go on
            behind nodes of one operator with as many operands.
        """
        one, two, found = self._one, self._two, self.found
        pairs: dict[int, int] = {}
        back: dict[int, int] = {}
        behind: list[Seed] = []
        waiting = [seed]
        while waiting:
            a, b = waiting.pop()
            if a in pairs or b in back or a in found.theirs or b in found.ours:
                continue
            if one.signatures[a] is None or one.signatures[a] != two.signatures[b]:
                found.parted[a, b] = None
                if _is_same_operator(one, a, two, b):
                    behind += self._pair_operands(a, b)
                continue
            pairs[a], back[b] = b, a
            waiting += self._pair_operands(a, b)
        return pairs, behind

    def _pair_operands(self, a: int, b: int) -> list[Seed]:
        """Pair the nodes that compute the operands of two nodes."""
        ours, theirs = self._one.operands[a], self._two.operands[b]
        if self._one.is_commutative(a) and self._is_crossed(ours, theirs):
            theirs = theirs[::-1]
        return [
            (x.node, y.node)
            for x, y in zip(ours, theirs, strict=True)
            if x.node is not None and y.node is not None and x.position == y.position
        ]

    def _is_crossed(self, ours: Sequence[Operand], theirs: Sequence[Operand]) -> bool:
        """Tell whether two operands stand in the other order, by what lies before them."""
        if len(ours) != 2 or len(theirs) != 2:
            return False
        if ours[0].node is None or ours[1].node is None:
            return (ours[0].node is None) != (theirs[0].node is None)
        for one, two in self._levels:
            x = [one[o.node] if o.node is not None else -1 for o in ours]
            y = [two[o.node] if o.node is not None else -1 for o in theirs]
            straight, crossed = (
                sum(p == q for p, q in zip(x, order, strict=True)) for order in (y, y[::-1])
            )
            if straight != crossed:
                return crossed > straight
        return False

    def _count_weighted(self, pairs: Mapping[int, int]) -> int:
        """Count the nodes with weights that a walk pairs."""
        one = self._one
        return sum(any(map(one.count_elements, one.list_weights(a))) for a in pairs)

    def _count_elements(self, pairs: Mapping[int, int]) -> int:
        """Count the elements of the weights that a walk pairs."""
        names = {name for a in pairs for name in self._one.list_weights(a)}
        return sum(map(self._one.count_elements, names))

    def _measure_likeness(self, pairs: Mapping[int, int]) -> float:
        """Count the elements that a walk pairs; a pair counts less the more its values differ."""
        names = {
            pair
            for a, b in pairs.items()
            for pair in zip(self._one.list_weights(a), self._two.list_weights(b), strict=True)
        }
        total = 0.0
        for name, other in names:
            size = self._one.count_elements(name)
            if size:
                gap = self._our_values.measure_weight_gap(name, self._their_values, other)
                total += size / (1 + gap / USUAL_GAP)
        return total


def _is_same_operator(one: Program, a: int, two: Program, b: int) -> bool:
    """Tell whether two nodes have one operator, and as many operands."""
    x, y = one.nodes[a], two.nodes[b]
    is_same = (x.op_type, x.domain) == (y.op_type, y.domain)
    return is_same and len(one.operands[a]) == len(two.operands[b])
