"""Value numbering: makes terms, and makes each of them once.

Terms that are computed alike are one object, so that equality of terms is identity.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, TypeProto

from ...graph.model import Graph
from ...semantics.declarations import list_declared_lengths
from ...semantics.lengths import Length, are_numbers
from ...vocabulary.names import FORMAL, INPUT
from ...vocabulary.structure import CONSTANT
from .inference import ResultType, ShapeInference, UnknownLengths
from .term import Attributes, Body, Leaf, Scope, Term

MAX_KNOWN_ELEMENTS = 1 << 12
"""The largest number of elements of a constant of integers that is known by its values."""
DIGEST_BYTES = 12
"""The length of a term's digest."""
MIN_COMPUTED_BYTES, COMPUTED_PER_ELEMENT = 1 << 28, 32
"""How many bytes the constants that are computed may have, all together.

They may have the first number, and the second for each element of the file's weights: a few nodes
that double a constant would fill any memory.
"""
SHAPE_ATTRIBUTES = ("factors", "of", "to")
"""Attributes of the normal form's own operators that hold shapes."""


class Terms:
    """Makes terms, each of them once.

    Args:
        graph: the graph that holds the constants.
        version: the version of the default domain that the terms' operators speak.
        is_exact: whether only equalities are used that leave every bit as it is.
        length_names: the name of a length by an input and an axis; equal names are one length.

    Attributes:
        scope: the graph or body whose terms are made now.
        inference: the inference of types and shapes.
        lengths: the unknown lengths.
        kept_channels: by the identity of a map and a number of channels the term of that many first
            channels of the map; None where there is none (`rewrites.blocks.maps`).
        left_bytes: how many bytes constants may have that are still to be computed.
    """

    def __init__(
        self,
        graph: Graph,
        version: int,
        is_exact: bool,
        length_names: Mapping[tuple[str, int], str] | None = None,
    ):
        self.graph, self.version, self.is_exact = graph, version, is_exact
        self.scope = Scope()
        self.inference = ShapeInference(version)
        self.lengths = UnknownLengths()
        self.kept_channels: dict[tuple[int, int], Term | None] = {}
        self._length_names = length_names or {}
        self._named_lengths: dict[str, Length] = {}
        self._weights: dict[str, Term] = {}
        sizes = sum(math.prod(tensor.dims) for tensor in graph.tensors.values())
        self.left_bytes = MIN_COMPUTED_BYTES + COMPUTED_PER_ELEMENT * sizes
        self._unique_count = 0

    # ---- inputs

    def make_input(self, k: int, name: str, kind: TypeProto) -> Term:
        """Make the term of the model's input at a position."""
        serialized = kind.SerializeToString(deterministic=True)
        term = Term(
            INPUT,
            "",
            (("name", name.encode()), ("position", str(k).encode()), ("type", serialized)),
            (),
        )
        term = self._store(("input", name), term, kind.tensor_type.elem_type, None)
        dims = list_declared_lengths(kind)
        if dims is not None:
            shape = list(self.lengths.fill_shape(term, dims) or ())
            for axis, length in enumerate(shape):
                if dims[axis] is None and (name, axis) in self._length_names:
                    shape[axis] = self._named_lengths.setdefault(
                        self._length_names[name, axis], length
                    )
            term.shape = tuple(shape)
        return term

    def make_formal(self, k: int, kind: TypeProto) -> Term:
        """Make the term of a body's input at a position."""
        dtype = kind.tensor_type.elem_type if kind.HasField("tensor_type") else 0
        serialized = kind.SerializeToString(deterministic=True)
        made = Term(FORMAL, "", (("position", str(k).encode()), ("type", serialized)), ())
        return self._store(("formal", k, id(self.scope)), made, dtype, None)

    # ---- constants

    def make_weight(self, name: str) -> Term:
        """Make the term of a constant of the file."""
        if name not in self._weights:
            tensor, array = self.graph.tensors[name], self.graph.stored_array(name)
            is_text = tensor.data_type == TensorProto.STRING
            origin = None
            if not is_text and np.prod(tensor.dims, dtype=np.int64) != 0:
                origin = name, lambda: np.arange(array.size).reshape(array.shape)
            self._weights[name] = self._make_leaf(
                Leaf(array, name, origin), tensor.data_type, is_text
            )
        return self._weights[name]

    def make_constant(
        self, array: np.ndarray, hint: str = "constant", error_bound: np.ndarray | None = None
    ) -> Term:
        """Make the term of a constant that was computed.

        Args:
            array: its values.
            hint: a name for it.
            error_bound: by how much rounding may have moved every element; None if it is exact.
        """
        array = np.asarray(array)
        self.left_bytes -= array.nbytes
        dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return self._make_leaf(Leaf(array, hint, None, error_bound), dtype)

    def move_constant(self, leaf: Leaf, move: Callable[[np.ndarray], np.ndarray]) -> Term:
        """Make the term of a constant whose elements are moved, copied or left out.

        Args:
            leaf: the constant.
            move: the movement; it acts alike on every array of the constant's shape.
        """
        array = move(leaf.array)
        origin = None
        if leaf.origin is not None:
            name, read_places = leaf.origin
            origin = name, lambda: move(read_places())
        error_bound = None
        if leaf.error_bound is not None:
            error_bound = move(np.broadcast_to(leaf.error_bound, leaf.array.shape))
        dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return self._make_leaf(Leaf(array, leaf.hint, origin, error_bound), dtype)

    def make_integers(self, known: np.ndarray, dtype: int = TensorProto.INT64) -> Term | None:
        """Make the term of a constant of integers; None where a length is no plain number."""
        if not are_numbers(known.ravel().tolist()):
            return None
        return self.make_constant(known.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype)))

    def _make_leaf(self, leaf: Leaf, dtype: int, is_text: bool = False) -> Term:
        array = leaf.array
        is_known = not is_text and _is_known_by_values(array)
        key = _make_constant_key(leaf, is_known)
        old = self.scope.find(key)
        if old is not None:
            return old[0]
        term = Term(CONSTANT, "", (), (), leaf=leaf)
        if is_known:
            term.known = array.astype(object) if array.dtype.kind in "iu" else array
        # a constant is one for all bodies, whichever reads it first
        top = self.scope
        while top.outer is not None:
            top = top.outer
        # the order of a constant's elements may be another in a shuffled copy, so that the digest
        # goes by their values, and not by their order
        shown = (
            (array.shape, np.sort(array, axis=None).tobytes())
            if is_known and array.dtype.kind in "biu"
            else array.shape
        )
        return self._store(key, term, dtype, tuple(array.shape), shown, top)

    # ---- results of operators

    def make_term(
        self,
        operator: str,
        operands: Sequence[Term | None],
        attributes: Attributes = (),
        *,
        dtype: int | None = None,
        shape: Sequence[Length | None] | None = None,
        scale: float = 1.0,
        known: np.ndarray | None = None,
    ) -> Term:
        """Make the term of an operator of the default domain that has one result.

        Args:
            operator: the operator.
            operands: its operands; None for one that is left out.
            attributes: its attributes.
            dtype: the result's element type; None to infer it together with the shape.
            shape: the result's shape, with None for an unknown length.
            scale: the number that `Scale` multiplies by.
            known: the result's values, if they are known.
        """
        given = _drop_left_out(operands)
        key = _make_key(operator, "", attributes, given, 1, scale)
        old = self.scope.find(key)
        if old is not None:
            return old[0]
        if dtype is None:
            ((dtype, shape),) = self.inference.infer(operator, "", given, attributes, 1)
        term = Term(operator, "", attributes, tuple(given), dtype=dtype, known=known, scale=scale)
        self._complete(term, key, shape)
        self.scope.table[key] = (term,)
        return term

    def make_node(
        self,
        operator: str,
        domain: str,
        operands: Sequence[Term | None],
        attributes: Attributes,
        results: int,
        bodies: tuple[Body, ...] = (),
        *,
        kind: ResultType | None = None,
        is_unique: bool = False,
    ) -> tuple[Term, ...]:
        """Make the terms of an operator's results.

        Args:
            operator, domain: the operator.
            operands: its operands; None for one that is left out.
            attributes: its attributes, without bodies.
            results: the number of its results.
            bodies: its bodies.
            kind: the type of every result; None to infer it.
            is_unique: whether the operator gives other results where it stands another time.
        """
        given = _drop_left_out(operands)
        key = _make_key(operator, domain, attributes, given, results)
        # two operators with bodies stay two: which bodies are equal is not looked for
        if bodies or is_unique:
            self._unique_count += 1
            key = ("once", self._unique_count)
        old = self.scope.find(key)
        if old is not None:
            return old
        kinds = [kind] * results if kind is not None else None
        if kinds is None:
            kinds = [*self.inference.infer(operator, domain, given, attributes, results)]
        made = []
        for k, (dtype, dims) in enumerate(kinds):
            term = Term(
                operator, domain, attributes, tuple(given), k, results, dtype, bodies=bodies
            )
            self._complete(term, key, dims)
            made.append(term)
        self.scope.table[key] = tuple(made)
        return tuple(made)

    def _complete(self, term: Term, key: object, shape: Sequence[Length | None] | None) -> None:
        """Complete a term with operands: its place, its digest, and its shape from that."""
        term.scope, term.key, term.is_exact = self.scope, key, self.is_exact
        term.digest = _compute_digest(term)
        term.shape = self.lengths.fill_shape(term, shape)

    def _store(
        self,
        key: object,
        term: Term,
        dtype: int,
        shape: tuple[Length, ...] | None,
        shown: object = None,
        scope: Scope | None = None,
    ) -> Term:
        """Complete a term without operands, and store it under its key."""
        term.dtype, term.shape = dtype, shape
        term.scope, term.is_exact = scope or self.scope, self.is_exact
        # inputs of two files are each other's by position
        position = [v for n, v in term.attributes if n == "position"]
        text = repr((term.operator, dtype, position, shown))
        term.digest = hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()
        term.scope.table[key] = (term,)
        return term


def _is_known_by_values(array: np.ndarray) -> bool:
    """Tell whether constants are one term where they hold the same values.

    Integers and single numbers are, such as shapes and epsilons. Two weights of floats stay two,
    as they may hold different values in a copy.
    """
    return (array.dtype.kind in "biu" or array.size == 1) and array.size <= MAX_KNOWN_ELEMENTS


def _drop_left_out(operands: Sequence[Term | None]) -> list[Term | None]:
    """Drop the operands at the end that are left out."""
    given = list(operands)
    while given and given[-1] is None:
        given.pop()
    return given


def _make_key(
    operator: str,
    domain: str,
    attributes: Attributes,
    operands: Sequence[Term | None],
    results: int,
    scale: float = 1.0,
) -> object:
    """Return what two nodes share whose results are the same terms."""
    # operands by identity: terms that are computed alike are one object, which the tables keep
    # alive. The version is left out: all terms speak the same one
    return operator, domain, attributes, tuple(map(id, operands)), results, scale


def _make_constant_key(leaf: Leaf, is_known: bool) -> object:
    array = leaf.array
    if is_known:
        # by the bytes: 0.0 and -0.0 are two numbers, and a NaN is one
        return "constant", (str(array.dtype), array.shape, array.tobytes())
    # the array is kept by its leaf, so that its identity stays its own
    return "constant", id(array) if leaf.origin is None else (leaf.hint, id(array))


def _compute_digest(term: Term) -> bytes:
    """Hash how a term is computed, without the values of weights."""
    parts = hashlib.blake2b(digest_size=DIGEST_BYTES)
    attributes = [
        (n, _hide_unknown_lengths(v)) if n in SHAPE_ATTRIBUTES else (n, v)
        for n, v in term.attributes
    ]
    parts.update(repr((term.operator, term.domain, attributes, term.position)).encode())
    for operand in term.operands:
        parts.update(operand.digest if operand else b"-")
    for body in term.bodies:
        parts.update(b"|".join(o.digest for o in body.outputs))
        parts.update(b"|".join(d.SerializeToString(deterministic=True) for d in body.declared))
    return parts.digest()


def _hide_unknown_lengths(text: bytes) -> bytes:
    """Hide the names of the unknown lengths of a shape in an attribute.

    Lengths are named by the order in which they are found, which is another in another file.

    >>> _hide_unknown_lengths(b"(1*0, 1*3*4, 768)")
    b'(?, ?, 768)'
    """
    return re.sub(rb"\d+(\*\d+)+", b"?", text)
