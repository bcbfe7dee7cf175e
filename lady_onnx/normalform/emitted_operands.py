"""Operands that are written beside the terms: constants, and lengths computed from shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from ..semantics.factorisation import as_integers
from ..semantics.lengths import Length, Polynomial, are_numbers
from ..vocabulary.names import ADD, CAST, CONCAT, MUL, RESHAPE, SHAPE
from .algebra.term import Leaf, Term


def add_node(
    nodes: list[NodeProto],
    operator: str,
    operands: Sequence[str],
    results: Sequence[str],
    name: str = "",
    **attributes: Any,
) -> None:
    """Add a node of the default domain to a list of nodes."""
    nodes.append(
        onnx.helper.make_node(operator, list(operands), list(results), name=name, **attributes)
    )


class FreshNames:
    """Gives names that are not taken.

    Args:
        taken: the names that are taken already.

    >>> names = FreshNames(["x"])
    >>> names.make("x"), names.make("x"), names.make("y")
    ('x.2', 'x.3', 'y')
    """

    def __init__(self, taken: Iterable[str]):
        self._taken = set(taken)

    def make(self, hint: str) -> str:
        """Make a name that is like a hint, and take it."""
        name, k = hint, 2
        while name in self._taken:
            name, k = f"{hint}.{k}", k + 1
        self._taken.add(name)
        return name


class ConstantWriter:
    """Writes constants as initializers.

    Args:
        fresh_names: gives names.

    Attributes:
        initializers: the constants that are written.
        leaves: the same constants as leaves, by name.
    """

    def __init__(self, fresh_names: FreshNames):
        self._fresh_names = fresh_names
        self.initializers: list[TensorProto] = []
        self.leaves: dict[str, Leaf] = {}
        self._integers: dict[str, str] = {}
        """The names of constants of integers that no term stands for, by what they hold."""

    def write(self, leaf: Leaf, dtype: int) -> str:
        """Write a constant, and return its name."""
        name = self._fresh_names.make(leaf.hint)
        # `ascontiguousarray` would give a number without axes one
        array = np.ascontiguousarray(leaf.array) if leaf.array.ndim else leaf.array
        if dtype == TensorProto.STRING:
            tensor = onnx.helper.make_tensor(
                name, dtype, array.shape, [_encode_text(v) for v in array.ravel()]
            )
        else:
            tensor = onnx.numpy_helper.from_array(array, name)
        self.initializers.append(tensor)
        self.leaves[name] = leaf
        return name

    def write_integers(self, values: object) -> str:
        """Write integers, once for all that need the same, and return the name."""
        array = np.array(values, np.int64)
        key = repr(array.tolist()) + str(array.shape)
        if key not in self._integers:
            self._integers[key] = self.write(Leaf(array, "constant"), TensorProto.INT64)
        return self._integers[key]


class LengthWriter:
    """Writes lengths as nodes that compute them from the shapes that they were found in.

    Args:
        constants: writes constants.
        fresh_names: gives names.
        axes: the term and the axis of every unknown length, by its name.
        value_names: the names of the terms that are written, by identity; read when it is needed.
    """

    def __init__(
        self,
        constants: ConstantWriter,
        fresh_names: FreshNames,
        axes: Mapping[str, tuple[Term, int]],
        value_names: Mapping[int, str],
    ):
        self._constants = constants
        self._fresh_names = fresh_names
        self._axes = axes
        self._value_names = value_names
        # a body cannot be read from another one, so that each list has nodes of its own; the lists
        # are kept by the writer of the form, and their identities with them
        self._written: dict[tuple[int, str], str] = {}
        """The names of lengths by the identity of the list of nodes that computes them."""

    def write_lengths(self, nodes: list[NodeProto], array: np.ndarray, dtype: int) -> str:
        """Write a tensor of lengths, and return its name.

        Args:
            nodes: the nodes of the graph or body that it is written in.
            array: the lengths, an object array.
            dtype: the element type of the tensor.
        """
        flat = [self._write_length(nodes, n) for n in array.ravel().tolist()]
        written = flat[0]
        if len(flat) > 1:
            written = self._fresh_names.make("lengths")
            add_node(nodes, CONCAT, flat, [written], axis=0)
        if array.ndim != 1:
            shaped = self._fresh_names.make("lengths")
            shape = self._constants.write_integers(list(array.shape))
            add_node(nodes, RESHAPE, [written, shape], [shaped])
            written = shaped
        if dtype != TensorProto.INT64:
            cast = self._fresh_names.make("lengths")
            add_node(nodes, CAST, [written], [cast], to=dtype)
            written = cast
        return written

    def write_target(
        self,
        nodes: list[NodeProto],
        operator: str,
        before: Sequence[Length] | None,
        shape: Sequence[Length],
    ) -> str:
        """Write the shape that a term is reshaped or expanded to, and return its name.

        Args:
            nodes: the nodes of the graph or body that it is written in.
            operator: `Reshape` or `Expand`.
            before: the shape of the term.
            shape: the shape of the result.
        """
        target: list[Length] = list(shape)
        # a length of zero would be read as the one of the same axis before
        if operator == RESHAPE and 0 not in target:
            target = _shorten_target(before or (), target)
        if are_numbers(target):
            return self._constants.write_integers(as_integers(target))
        array = np.empty(len(target), object)
        array[:] = target
        return self.write_lengths(nodes, array, TensorProto.INT64)

    def _write_length(self, nodes: list[NodeProto], length: Length) -> str:
        """Write one length as a tensor of one element."""
        if not isinstance(length, Polynomial):
            return self._constants.write_integers([length])
        key = id(nodes), repr(length)
        if key not in self._written:
            parts = []
            for monomial, count in length.terms:
                factors = [self._write_axis(nodes, name) for name in monomial]
                if count != 1 or not factors:
                    factors.append(self._constants.write_integers([count]))
                parts.append(self._write_chain(nodes, MUL, factors))
            self._written[key] = self._write_chain(nodes, ADD, parts)
        return self._written[key]

    def _write_axis(self, nodes: list[NodeProto], name: str) -> str:
        """Write the length of the axis that an unknown length was found at."""
        key = id(nodes), f"axis {name}"
        if key not in self._written:
            term, axis = self._axes[name]
            made = self._fresh_names.make("length")
            source = self._value_names[id(term)]
            add_node(nodes, SHAPE, [source], [made], start=axis, end=axis + 1)
            self._written[key] = made
        return self._written[key]

    def _write_chain(self, nodes: list[NodeProto], operator: str, operands: Sequence[str]) -> str:
        """Combine operands one after the other."""
        flow = operands[0]
        for operand in operands[1:]:
            made = self._fresh_names.make("length")
            add_node(nodes, operator, [flow, operand], [made])
            flow = made
        return flow


def _shorten_target(before: Sequence[Length], target: Sequence[Length]) -> list[Length]:
    """Write unknown lengths of a reshape as 0, for the same axis as before, or as one -1."""
    # numbers are shorter to write, and can be folded, where lengths take nodes to compute
    short = list(target)
    unknown = [k for k, n in enumerate(short) if isinstance(n, Polynomial)]
    if len(unknown) == 1:
        short[unknown[0]] = -1
        return short
    for k in unknown:
        if k < len(before) and before[k] == short[k]:
            short[k] = 0
    left = [k for k, n in enumerate(short) if isinstance(n, Polynomial)]
    if len(left) == 1:
        short[left[0]] = -1
    return short


def _encode_text(value: object) -> Any:
    return value if isinstance(value, bytes) else str(value).encode()
