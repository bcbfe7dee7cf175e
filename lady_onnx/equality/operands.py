"""Which operand of a sum or a product is which in another file: their order says nothing.

Operands that are computed in other ways are told apart by that. Of branches that are alike but for
their weights, each is that with the same values, in whatever order these are; else the one whose
weights spread most alike, if that tells them apart.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from onnx import NodeProto

from ..numerics import assign_optimally, hash_values, is_float_array, measure_moments
from ..vocabulary.classes import SUMMING_OPERATORS
from ..vocabulary.structure import normalise_domain
from .node_comparison import NodePair, trim_names
from .scopes import Value

MAX_TOLD_WEIGHTS = 8
"""Branches are told apart by so many of their weights at most, the nearest ones."""
MAX_LEFT_DISTANCE = 0.5
"""Another order is taken where branches are at most this many times as far apart as in the own."""


class OperandMatcher:
    """Finds out which operand of one file is which of another.

    Args:
        with_sizes: whether the lengths of axes are the same in both files.
    """

    def __init__(self, with_sizes: bool):
        self._with_sizes = with_sizes
        self._forms: dict[tuple[object, ...], bytes] = {}
        self._contents: dict[tuple[object, ...], bytes] = {}

    def pair_operands(self, pair: NodePair) -> list[tuple[str, str]]:
        """Pair the operands of two nodes that have as many of them.

        Returns:
            The name in the reference and that in the suspect, in the order of the reference's.
        """
        ours, theirs = trim_names(pair.a.input), trim_names(pair.b.input)
        return list(zip(ours, self._order_operands(pair, ours, theirs), strict=True))

    def _order_operands(
        self, pair: NodePair, ours: Sequence[str], theirs: Sequence[str]
    ) -> Sequence[str]:
        """Return the suspect's operands in the order of the reference's."""
        if not _is_summing(pair.a) or len(ours) != len(theirs) or len(ours) < 2:
            return theirs
        if not all((*ours, *theirs)):
            return theirs
        values = [
            [scope.find_value(name) for name in names]
            for scope, names in ((pair.one, ours), (pair.two, theirs))
        ]
        forms = [[self._digest(v, self._forms, self._describe_form) for v in own] for own in values]
        if len(set(forms[0])) == len(ours) or Counter(forms[0]) != Counter(forms[1]):
            return theirs
        found: dict[int, int] = {}
        for form in dict.fromkeys(forms[0]):
            places = [[k for k, f in enumerate(own) if f == form] for own in forms]
            found |= self._match_alike(values, *places)
        return [theirs[found[k]] for k in range(len(ours))]

    def _match_alike(
        self, values: Sequence[Sequence[Value]], ours: list[int], theirs: list[int]
    ) -> dict[int, int]:
        """Match operands of one form: the suspect's place by the reference's."""
        if len(ours) == 1:
            return {ours[0]: theirs[0]}
        contents = [
            {k: self._digest(own[k], self._contents, self._describe_content) for k in places}
            for own, places in zip(values, (ours, theirs), strict=True)
        ]
        found: dict[int, int] = {}
        left = list(theirs)
        for k in ours:
            # one that stands where it stood comes first
            same = [j for j in left if contents[1][j] == contents[0][k]]
            if same:
                found[k] = k if k in same else same[0]
                left.remove(found[k])
        rest = [k for k in ours if k not in found]
        if len(rest) > 1:
            own = _measure_branches([values[0][k] for k in rest])
            other = _measure_branches([values[1][k] for k in left])
            left = [left[k] for k in _choose_order(own, other)]
        return found | dict(zip(rest, left, strict=True))

    def _digest(
        self,
        value: Value,
        known: dict[tuple[object, ...], bytes],
        describe: Callable[[Value, list[bytes]], bytes],
    ) -> bytes:
        """Return the digest of a value, given what describes one by the digests of its operands."""
        # values of both files share a table: their keys begin with the graph
        waiting = [value]
        while waiting:
            now = waiting[-1]
            key = _make_key(now)
            if key in known:
                waiting.pop()
                continue
            operands = list(_list_operands(now))
            lacking = [o for o in operands if _make_key(o) not in known]
            if lacking:
                waiting += lacking
                continue
            waiting.pop()
            said = describe(now, [known[_make_key(o)] for o in operands])
            known[key] = hashlib.blake2b(said, digest_size=16).digest()
        return known[_make_key(value)]

    def _describe_form(self, value: Value, operands: list[bytes]) -> bytes:
        if value.weight:
            graph = value.scope.graph
            tensor = graph.tensors[value.weight]
            size = tuple(tensor.dims) if self._with_sizes else len(tensor.dims)
            return repr((tensor.data_type, size)).encode()
        return _describe_node(value, operands)

    def _describe_content(self, value: Value, operands: list[bytes]) -> bytes:
        if value.weight:
            array = value.scope.graph.array(value.weight)
            same = repr(array.tolist()) if array.dtype.hasobject else hash_values(array)
            return repr((array.dtype, array.shape, same)).encode()
        return _describe_node(value, operands)


def _make_key(value: Value) -> tuple[object, ...]:
    # weights of two files may have one name
    return (id(value.scope.graph), *value.key)


def _list_operands(value: Value) -> Iterator[Value]:
    if value.node is not None:
        yield from (value.scope.find_value(name) for name in value.node.input if name)


def _describe_node(value: Value, operands: list[bytes]) -> bytes:
    node = value.node
    if node is None:
        return repr((value.position, value.missing)).encode()
    # bodies are compared later: here they need not be told apart
    attributes = sorted(
        a.SerializeToString(deterministic=True)
        for a in node.attribute
        if not a.HasField("g") and not a.graphs
    )
    given = [bool(name) for name in node.input]
    said = (node.op_type, normalise_domain(node.domain), value.position, given, attributes)
    return repr((said, sorted(operands) if _is_summing(node) else operands)).encode()


def _is_summing(node: NodeProto) -> bool:
    return node.op_type in SUMMING_OPERATORS and not normalise_domain(node.domain)


def _measure_branches(branches: Sequence[Value]) -> list[np.ndarray]:
    """Measure how the weights of each branch spread that no other one reads, as logarithms."""
    found = [_list_nearest_weights(branch) for branch in branches]
    counts = Counter(name for names in found for name in names)
    graph = branches[0].scope.graph
    spreads = {
        name: float(np.log(max(measure_moments(graph.array(name))[1], np.finfo(float).tiny)))
        for name, count in counts.items()
        if count == 1
    }
    return [np.array([spreads[n] for n in names if n in spreads]) for names in found]


def _list_nearest_weights(branch: Value) -> list[str]:
    """List some weights of floats that a branch reads, the nearest ones first."""
    found: list[str] = []
    waiting, seen = deque([branch]), {_make_key(branch)}
    while waiting and len(found) < MAX_TOLD_WEIGHTS:
        now = waiting.popleft()
        if now.weight and is_float_array(now.scope.graph.array(now.weight)):
            found.append(now.weight)
        for operand in _list_operands(now):
            if _make_key(operand) not in seen:
                seen.add(_make_key(operand))
                waiting.append(operand)
    return found


def _choose_order(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> list[int]:
    """Choose which branch of the suspect is which of the reference; as they stand in doubt."""
    usual = list(range(len(ours)))
    if len({z.size for z in (*ours, *theirs)}) > 1 or not ours[0].size:
        return usual
    apart = np.abs(np.stack(ours)[:, None] - np.stack(theirs)[None]).sum(2)
    if not np.isfinite(apart).all():
        return usual
    best = assign_optimally(apart)
    kept = float(np.trace(apart))
    is_nearer = float(apart[usual, best].sum()) < MAX_LEFT_DISTANCE * kept
    return best.tolist() if is_nearer else usual
