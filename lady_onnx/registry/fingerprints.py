"""What tells a model, whatever the order of its units and the way its file is written.

Two hashes tell exact copies, and short vectors tell altered ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import AttributeProto, NodeProto, TypeProto

from ..dataflow.engine import analyse_graph
from ..graph.loading import Model, load_graph
from ..graph.model import Graph, map_weights
from ..graph.weights import read_constant
from ..groups.model import Group
from ..groups.permutations import list_moved_slots
from ..groups.scaling import Scaling
from ..normalform.algebra.term import NoNormalFormError
from ..normalform.form import NEWEST, build_normal_form
from ..reporting import Report, list_fields
from ..scaling.walk import find_scalings
from ..semantics.declarations import read_length_name, read_size
from ..symmetry.finder import extract_groups
from .canonical import find_canonical_order
from .signs import SignedArrays
from .vectors import PrunedArrays, compare_vectors, compute_vector

FORMAT = "lady-onnx-fingerprint/4"
"""Fingerprints of another format cannot be compared with these."""
MAX_KNOWN_ELEMENTS = 1 << 12
"""Larger weights of whole numbers are no shapes or indices."""


@dataclass(frozen=True, repr=False)
class Fingerprint(Report):
    """What a model is, whatever the order of its units.

    Attributes:
        structure: SHA-256 of the program, as hexadecimal digits: of all that is computed, and of
            the shapes of weights, without their values. Optimisers that fold norms, and other
            honest rewrites, leave it.
        exact: SHA-256 of the program and of all weights, in canonical order. Copies whose units are
            in other orders have the same one, also where their files are written in other ways that
            leave every bit of the weights.
        is_normal: whether both are of the program's normal form. Else some node has none, and files
            that are written in other ways have other hashes.
        undecided: the id of a group whose units nothing tells apart, so that copies may have other
            exact hashes; None where there is none.
        vector: int8 [512]. Altered copies have one that points almost the same way; see
            `compare_fingerprints`. Zeros where the weights tell nothing.
        pruned_vector: int8 [512], the vector that the model would have if it were pruned. What
            pruning leaves depends on factors, so that rescaled copies have others.
    """

    structure: str
    exact: str
    is_normal: bool
    undecided: str | None
    vector: np.ndarray = field(compare=False)
    pruned_vector: np.ndarray = field(compare=False)

    def headline(self) -> str:
        """Show both hashes in one line."""
        return f"structure {self.structure}, exact {self.exact}"

    def details(self, limit: int | None = None) -> list[str]:
        """Say which copies may have other hashes."""
        lines = []
        if not self.is_normal:
            lines.append("some node has no normal form: other ways to write it have other hashes")
        if self.undecided is not None:
            what = f"nothing tells the units of group {self.undecided} apart"
            lines.append(f"{what}: shuffled copies may have other exact hashes")
        return lines

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        fields = list_fields(self)
        fields["normal"] = fields.pop("is_normal")
        return {"format": FORMAT, **fields}


def fingerprint(model: Model) -> Fingerprint:
    """Compute what tells a model, whatever the order of its units.

    Args:
        model: a path or a model.

    Raises:
        LadyError: the model cannot be read.
    """
    graph = load_graph(model)
    loose, is_normal = _find_form(graph, is_exact=False)
    form, _ = _find_form(graph, is_exact=True)
    program = _Program(loose)
    structure = hashlib.sha256(program.text)
    for name in program.weights:
        structure.update(f"{list(loose.shape(name))};".encode())
        array = loose.array(name)
        if array.dtype.kind in "biu" and array.size <= MAX_KNOWN_ELEMENTS:
            # shapes and indices say what is computed; units may have another order in them
            structure.update(_view_bytes(np.sort(array, axis=None)))
    units, scalings = read_units(loose)
    vector, pruned = (
        compute_vector(units, SignedArrays(arrays, scalings), program.weights)
        for arrays in (map_weights(loose), PrunedArrays(map_weights(loose)))
    )
    groups = extract_groups(analyse_graph(form)).groups
    program = _Program(form, has_names=True)
    exact = hashlib.sha256(program.text)
    order = find_canonical_order(groups, map_weights(form), program.weights)
    moved = list_moved_slots(groups, order.permutations)
    for name in program.weights:
        array = form.array(name)
        exact.update(f"{array.dtype} {list(array.shape)};".encode())
        if name in moved:
            array = np.array(array)
            for slot, permutation in moved[name]:
                slot.permute(array, permutation)
        exact.update(_view_bytes(array))
    hashes = structure.hexdigest(), exact.hexdigest()
    return Fingerprint(*hashes, is_normal, order.undecided, vector, pruned)


def compare_fingerprints(a: Fingerprint, b: Fingerprint) -> float:
    """Return how alike the vectors of two models are, where either may have been pruned."""
    pairs = (a.vector, b.vector), (a.vector, b.pruned_vector), (a.pruned_vector, b.vector)
    return max(compare_vectors(*pair) for pair in pairs)


def read_units(graph: Graph) -> tuple[tuple[Group, ...], Mapping[str, Scaling]]:
    """Read the groups of a model, and by group the factors that its units may have."""
    analysis = analyse_graph(graph)
    groups = extract_groups(analysis).groups
    return groups, find_scalings(graph, analysis, groups)


def _find_form(graph: Graph, is_exact: bool) -> tuple[Graph, bool]:
    """Return the normal form of a graph, else the graph itself; and whether it is the form."""
    try:
        return build_normal_form(graph, NEWEST, is_exact).graph, True
    except NoNormalFormError:
        return graph, False


def _view_bytes(array: np.ndarray) -> bytes | memoryview:
    """Return the bytes of an array, without a copy where it has a type of a fixed width."""
    if array.dtype.kind == "O":
        return repr(array.tolist()).encode()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _describe_type(kind: TypeProto, lengths: dict[str, int]) -> tuple[object, ...]:
    """Return what is declared of a value; names of lengths are numbered by their first mention."""
    which = kind.WhichOneof("value") or ""
    if which in ("sequence_type", "optional_type"):
        return which, _describe_type(getattr(kind, which).elem_type, lengths)
    if which == "map_type":
        return which, kind.map_type.key_type, _describe_type(kind.map_type.value_type, lengths)
    if which not in ("tensor_type", "sparse_tensor_type"):
        return (which,)
    tensor = getattr(kind, which)
    sizes = [
        f"#{lengths.setdefault(name, len(lengths))}" if (name := read_length_name(dim)) else size
        for dim in tensor.shape.dim
        for size in [read_size(dim)]
    ]
    return which, tensor.elem_type, sizes if tensor.HasField("shape") else None


class _Program:
    """What a graph computes, without the names of its values.

    Args:
        graph: the graph.
        has_names: whether the names of inputs and outputs count, and all that is declared of them,
            besides their places.

    Attributes:
        text: the nodes in their order, with values numbered by their first mention.
        weights: the names of the weights by their first mention, others in the order of the file.
    """

    def __init__(self, graph: Graph, has_names: bool = False):
        self._parts: list[bytes] = []
        self._numbers: dict[str, int] = {}
        self._count = 0
        model = graph.model
        used = {node.domain for node in graph.nodes}
        versions = sorted((o.domain, o.version) for o in model.opset_import if o.domain in used)
        inputs, outputs = graph.required_inputs, model.graph.output
        if has_names:
            lengths: dict[str, int] = {}
            self._write_text([(v.name, _describe_type(v.type, lengths)) for v in inputs])
            # the lengths of outputs follow from the nodes
            self._write_text([v.name for v in outputs])
        types = [v.type.tensor_type.elem_type for v in inputs]
        self._write_text((versions, types, [self._number(v.name) for v in inputs]))
        self._write_nodes(graph.nodes)
        self._write_text([self._number(o.name) for o in outputs])
        for function in model.functions:
            self._write_bytes(function.SerializeToString(deterministic=True))
        mentioned = [n for n in self._numbers if n in graph.tensors]
        self.weights = [*mentioned, *(n for n in graph.tensors if n not in self._numbers)]
        self.text = b"".join(self._parts)

    def _number(self, name: str) -> int:
        if not name:
            return -1
        if name not in self._numbers:
            self._define(name)
        return self._numbers[name]

    def _define(self, name: str) -> None:
        """Give a name the next number, also where another body has the name."""
        self._numbers[name] = self._count
        self._count += 1

    def _write_bytes(self, said: bytes) -> None:
        # with their length, so that no two programs have one text
        self._parts.append(f"{len(said)} ".encode() + said)

    def _write_text(self, said: object) -> None:
        self._write_bytes(repr(said).encode())

    def _write_nodes(self, nodes: Sequence[NodeProto]) -> None:
        for node in nodes:
            self._write_text((node.domain, node.op_type, [self._number(n) for n in node.input]))
            # what a constant holds is a weight
            if read_constant(node) is None:
                for attribute in sorted(node.attribute, key=lambda a: a.name):
                    self._write_attribute(attribute)
            self._write_text([self._number(n) for n in node.output])

    def _write_attribute(self, attribute: AttributeProto) -> None:
        bodies = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        if not bodies:
            plain = AttributeProto()
            plain.CopyFrom(attribute)
            plain.doc_string = ""
            self._write_bytes(plain.SerializeToString(deterministic=True))
            return
        self._write_text(attribute.name)
        for body in bodies:
            # names of the body hide those around it, while it lasts; what it mentions of the
            # graph around it keeps its number
            own = [v.name for v in body.input] + [t.name for t in body.initializer]
            own += [name for node in body.node for name in node.output if name]
            hidden = {name: self._numbers.pop(name, None) for name in own}
            for name in own:
                self._define(name)
            self._write_nodes(body.node)
            self._write_text([self._number(o.name) for o in body.output])
            for name, number in hidden.items():
                del self._numbers[name]
                if number is not None:
                    self._numbers[name] = number
