"""Colour refinement over two skeletons: which of their nodes nothing tells apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ..errors import ArchitectureError
from ..graph.nodes import describe_node
from .weighted_nodes import Neighbour, Skeleton

MAX_REFINEMENT_ROUNDS = 200
"""The largest number of steps along the network that nodes are told apart by."""


def classify_nodes(one: Skeleton, two: Skeleton) -> tuple[list[int], list[int]]:
    """Give the nodes of two skeletons numbers, the same to those that nothing tells apart.

    Nodes are told apart by their kinds, and then, round by round, by the numbers of the nodes
    before and after them.

    Returns:
        The numbers of the nodes of each skeleton.

    Raises:
        ArchitectureError: if one skeleton has more nodes of a number than the other.
    """
    numbers: dict[object, int] = {}
    sides = (one, two)
    current = [[numbers.setdefault(n.kind, len(numbers)) for n in s.nodes] for s in sides]
    for _ in range(MAX_REFINEMENT_ROUNDS):
        _check_counts(sides, current)
        # one table for both sides, so that equal rows get one number
        signatures: dict[object, int] = {}
        refined = []
        for side, now in zip(sides, current, strict=True):
            rows = (
                (
                    now[k],
                    _describe_neighbours(side.before[k], now),
                    _describe_neighbours(side.after[k], now),
                )
                for k in range(len(now))
            )
            refined.append([signatures.setdefault(row, len(signatures)) for row in rows])
        # a round only ever splits classes, so that as many as before are the same as before; both
        # sides have the same classes, as their counts are equal
        if len(signatures) == len(set(current[0])):
            break
        current = refined
    _check_counts(sides, current)
    return current[0], current[1]


def _describe_neighbours(
    neighbours: Iterable[Neighbour], numbers: Sequence[int]
) -> tuple[tuple[str, int], ...]:
    """Count neighbours by their numbers; inputs and outputs stand for themselves."""
    texts = (str(numbers[o]) if isinstance(o, int) else str(o) for o in neighbours)
    return tuple(sorted(Counter(texts).items()))


def _check_counts(sides: Sequence[Skeleton], classes: Sequence[Sequence[int]]) -> None:
    """Check that both sides have as many nodes of every number.

    Raises:
        ArchitectureError: if they do not; the message names the first node without a counterpart.
    """
    counts = [Counter(c) for c in classes]
    if counts[0] == counts[1]:
        return
    unpaired = defaultdict(list)
    for side, (skeleton, numbers) in enumerate(zip(sides, classes, strict=True)):
        for node, number in zip(skeleton.nodes, numbers, strict=True):
            if counts[0][number] != counts[1][number]:
                unpaired[side].append(node)
    one, two = sides
    if unpaired[1]:
        node = unpaired[1][0]
        shapes = " and ".join(str(list(s)) for s in node.kind.shapes)
        what = (
            f"node {describe_node(node.node)}, with weights of shape {shapes}, has no counterpart"
        )
    else:
        what = f"the reference's node {describe_node(unpaired[0][0].node)} has no counterpart"
    raise ArchitectureError(
        f"{two.graph.name}: another architecture than {one.graph.name}: {what}; "
        "compare models exported from the same network"
    )
