"""Which of the two operands of a sum or a product is which in another file.

The order of two says nothing. Where they are alike but for their weights, each is the one with the
same values in its weights, in whatever order these are; else both are taken as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from onnx import NodeProto

from ..numerics import hash_values
from ..vocabulary.classes import SUMMING_OPERATORS
from ..vocabulary.structure import normalise_domain
from .node_comparison import NodePair, trim_names
from .scopes import Value

SHALLOW_DEPTH = 3
"""Operands are told apart by so many nodes before them, and by all where these are alike."""

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""The type of numbers that are read from so many bytes."""


class OperandMatcher:
    """Finds out which operand of one file is which of another.

    Args:
        with_sizes: whether the lengths of axes are the same in both files.
    """

    def __init__(self, with_sizes: bool):
        self._with_sizes = with_sizes
        self._shallow: dict[tuple[object, ...], int] = {}
        self._numbers: dict[tuple[object, ...], int] = {}
        """By what is said of a value a number, so that no description grows with its operands'."""
        self._forms: dict[tuple[object, ...], bytes] = {}
        self._sums: dict[tuple[object, ...], bytes] = {}
        self._contents: dict[tuple[object, ...], bytes] = {}
        self._nodes: dict[int, tuple[NodeProto, bytes]] = {}
        """What nodes say themselves, by their identities."""

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
        # the sum of three and more depends on their order: large ones may round small ones away
        if not _is_summing(pair.a) or not len(ours) == len(theirs) == 2:
            return theirs
        if not all((*ours, *theirs)):
            return theirs
        values = [
            [scope.find_value(name) for name in names]
            for scope, names in ((pair.one, ours), (pair.two, theirs))
        ]
        if len({self._number_shallowly(v, SHALLOW_DEPTH) for own in values for v in own}) > 1:
            return theirs
        forms = [[self._digest(v, self._forms, self._describe_form) for v in own] for own in values]
        if len({form for own in forms for form in own}) > 1:
            return theirs
        # the sums of weights say of most operands that they are not swapped
        said: list[list[bytes]] = []
        for known, describe in (
            (self._sums, self._describe_sum),
            (self._contents, self._describe_content),
        ):
            said = [[self._digest(v, known, describe) for v in own] for own in values]
            if said[0] != said[1][::-1]:
                return theirs
        return theirs if said[0] == said[1] else list(theirs)[::-1]

    def _number_shallowly(self, value: Value, depth: int) -> int:
        """Number a value by the operators that lead to it, so many nodes back.

        It is much faster than a digest of all that leads to it. Nearly all operands differ here.
        """
        key = (*_make_key(value), depth)
        if key not in self._shallow:
            said: tuple[object, ...]
            if value.weight:
                tensor = value.scope.graph.tensors[value.weight]
                size = tuple(tensor.dims) if self._with_sizes else len(tensor.dims)
                said = "weight", tensor.data_type, size
            elif value.node is None:
                said = "input", value.position, value.missing
            else:
                node = value.node
                operands = _list_operands(value) if depth else ()
                inner = [self._number_shallowly(o, depth - 1) for o in operands]
                ordered = sorted(inner) if _is_summing(node) else inner
                said = node.op_type, normalise_domain(node.domain), value.position, *ordered
            self._shallow[key] = self._numbers.setdefault(said, len(self._numbers))
        return self._shallow[key]

    def _digest(
        self,
        value: Value,
        known: dict[tuple[object, ...], bytes],
        describe: Callable[[Value, list[bytes]], bytes],
    ) -> bytes:
        """Return the digest of a value, given what describes one by the digests of its operands."""
        # most files have their operands in the same order, and need no digests
        import hashlib

        # values of both files share a table: their keys begin with the graph
        waiting: list[tuple[Value, list[tuple[object, ...]] | None]] = [(value, None)]
        begun = set()
        while waiting:
            now, operands = waiting.pop()
            key = _make_key(now)
            if operands is not None:
                # what has begun and is not known yet is made of itself, as no file may say
                said = describe(now, [known.get(k, b"") for k in operands])
                known[key] = hashlib.blake2b(said, digest_size=16).digest()
            elif key not in known and key not in begun:
                begun.add(key)
                given = [(_make_key(o), o) for o in _list_operands(now)]
                waiting.append((now, [k for k, _ in given]))
                # an operand may be read a thousand times over
                waiting += [(o, None) for o in dict(given).values()]
        return known[_make_key(value)]

    def _describe_form(self, value: Value, operands: list[bytes]) -> bytes:
        if value.weight:
            graph = value.scope.graph
            tensor = graph.tensors[value.weight]
            size = tuple(tensor.dims) if self._with_sizes else len(tensor.dims)
            return repr((tensor.data_type, size)).encode()
        return self._describe_node(value, operands)

    def _describe_sum(self, value: Value, operands: list[bytes]) -> bytes:
        if value.weight:
            array = value.scope.graph.array(value.weight)
            # the sum of bits as numbers, which is exact and the same in any order
            is_plain = array.dtype.itemsize in UNSIGNED and not array.dtype.hasobject
            whole = array.view(UNSIGNED[array.dtype.itemsize]).sum() if is_plain else 0
            return repr((array.dtype, array.shape, int(whole))).encode()
        return self._describe_node(value, operands)

    def _describe_content(self, value: Value, operands: list[bytes]) -> bytes:
        if value.weight:
            array = value.scope.graph.array(value.weight)
            same = repr(array.tolist()) if array.dtype.hasobject else hash_values(array)
            return repr((array.dtype, array.shape, same)).encode()
        return self._describe_node(value, operands)

    def _describe_node(self, value: Value, operands: list[bytes]) -> bytes:
        node = value.node
        if node is None:
            return repr((value.position, value.missing)).encode()
        if id(node) not in self._nodes:
            # bodies are compared later: here they need not be told apart
            attributes = sorted(
                a.SerializeToString(deterministic=True)
                for a in node.attribute
                if not a.HasField("g") and not a.graphs
            )
            given = [bool(name) for name in node.input]
            said = (node.op_type, normalise_domain(node.domain), given, attributes)
            # the node is kept, so that no other one gets its identity
            self._nodes[id(node)] = node, repr(said).encode()
        ordered = sorted(operands) if _is_summing(node) else operands
        return repr((self._nodes[id(node)][1], value.position, ordered)).encode()


def _make_key(value: Value) -> tuple[object, ...]:
    # weights of two files may have one name
    return (id(value.scope.graph), *value.key)


def _list_operands(value: Value) -> Iterator[Value]:
    if value.node is not None:
        yield from (value.scope.find_value(name) for name in value.node.input if name)


def _is_summing(node: NodeProto) -> bool:
    return node.op_type in SUMMING_OPERATORS and not normalise_domain(node.domain)
