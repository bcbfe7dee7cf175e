"""Where walks over two programs start: pairs of nodes that may be each other's.

They are nodes that compute the same of the same inputs, or of whatever lies so many steps before
them, whatever the weights. Only the last ones count: a walk from there finds what lies before.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence

from .programs import Program

Seed = tuple[int, int]
"""The numbers of two nodes, of the reference and of the suspect, from which a walk starts."""
Rank = Callable[[Sequence[Seed]], list[Seed]]
"""Sorts pairs of nodes that nothing in the structure tells apart, the likeliest ones first."""

MAX_DEPTH = 200
"""The largest number of steps along the network that nodes are told apart by."""
MAX_SEEDS_OF_CLASS = 16
"""Of nodes that nothing tells apart at most so many pairs are tried."""


def list_forward_seeds(one: Program, two: Program, rank: Rank) -> list[Seed]:
    """List the last nodes that compute the same of the same inputs, whatever the weights."""
    numbers: dict[Hashable, int] = {}
    classes = []
    for program in (one, two):
        own: list[int] = []
        for node, signature in enumerate(program.signatures):
            # a node that agrees with no other is alone in its class
            key: Hashable = (id(program), node) if signature is None else signature
            row = (
                key,
                program.describe_operands(node, own),
            )
            own.append(numbers.setdefault(row, len(numbers)))
        classes.append(own)
    free = range(len(one.nodes)), range(len(two.nodes))
    return _list_seeds_of_classes((one, two), classes, free, rank)


def list_inner_seeds(
    one: Program, two: Program, free: tuple[Sequence[int], Sequence[int]], rank: Rank
) -> list[Seed]:
    """List the last nodes that compute the same of what lies as many steps before as possible.

    Args:
        one, two: the programs.
        free: the nodes of each that may be paired.
        rank: sorts pairs of nodes that nothing tells apart.

    Returns:
        The pairs; those that are alike in more steps first.
    """
    by_depth = [
        _list_seeds_of_classes((one, two), classes, free, rank)
        for classes in _refine_backward(one, two, free)
    ]
    return list(dict.fromkeys(seed for seeds in reversed(by_depth) for seed in seeds))


def _refine_backward(
    one: Program, two: Program, free: tuple[Sequence[int], Sequence[int]]
) -> Iterator[list[list[int]]]:
    """Tell nodes apart by what lies before them, one step further every time.

    Yields:
        The classes of the nodes of each program; at depths that are powers of two, and the last one
        at which any node of one program is like a node of the other.
    """
    programs = (one, two)
    current = number_signatures(programs)
    for depth in range(1, MAX_DEPTH + 1):
        refined = refine_classes(programs, current)
        count = len({*refined[0], *refined[1]})
        shared = {refined[0][a] for a in free[0]} & {refined[1][b] for b in free[1]}
        if not shared or count == len({*current[0], *current[1]}):
            yield current
            return
        current = refined
        if depth & (depth - 1) == 0:
            yield current
    yield current


def number_signatures(programs: tuple[Program, Program]) -> list[list[int]]:
    """Number the nodes of two programs by what they must have in common to agree."""
    numbers: dict[Hashable, int] = {}
    return [
        [
            # a node that agrees with no other is alone in its class
            numbers.setdefault((id(p), k) if s is None else s, len(numbers))
            for k, s in enumerate(p.signatures)
        ]
        for p in programs
    ]


def refine_classes(
    programs: tuple[Program, Program], classes: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Tell the nodes of two programs apart by the classes of the nodes that they read, too."""
    table: dict[Hashable, int] = {}
    return [
        [
            table.setdefault((now[k], p.describe_operands(k, now)), len(table))
            for k in range(len(now))
        ]
        for p, now in zip(programs, classes, strict=True)
    ]


def _list_seeds_of_classes(
    programs: tuple[Program, Program],
    classes: Sequence[Sequence[int]],
    free: tuple[Sequence[int], Sequence[int]],
    rank: Rank,
) -> list[Seed]:
    """List pairs of nodes of one class of which one is not read by a node of a common class.

    A walk from what reads both would find the pair.

    Args:
        programs: the programs.
        classes: the class of every node of each.
        free: the nodes of each that may be paired.
        rank: sorts pairs of nodes that nothing tells apart.
    """
    members: tuple[dict[int, list[int]], ...] = (defaultdict(list), defaultdict(list))
    for own, numbers, nodes in zip(members, classes, free, strict=True):
        # the last nodes first
        for node in reversed(nodes):
            own[numbers[node]].append(node)
    shared = members[0].keys() & members[1].keys()
    read = [
        {
            operand.node
            for number in shared
            for node in own[number]
            for operand in program.operands[node]
        }
        for own, program in zip(members, programs, strict=True)
    ]
    seeds: list[Seed] = []
    for number in sorted(shared):
        ours, theirs = (own[number] for own in members)
        tops = [a for a in ours if a not in read[0]], [b for b in theirs if b not in read[1]]
        pairs = dict.fromkeys(itertools.product(tops[0], theirs))
        pairs.update(dict.fromkeys(itertools.product(ours, tops[1])))
        found = list(pairs)
        seeds += (rank(found) if len(found) > MAX_SEEDS_OF_CLASS else found)[:MAX_SEEDS_OF_CLASS]
    return seeds
