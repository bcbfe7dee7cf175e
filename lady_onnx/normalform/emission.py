"""Writes terms as an ONNX graph: a form is a model that can be analysed, compared and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto

from ..semantics.lengths import Length, Polynomial
from ..vocabulary.names import (
    ADD,
    EXPAND,
    EXTENTS,
    FORMAL,
    INPUT,
    LINEAR,
    MAT_MUL,
    MOVE,
    MUL,
    PART,
    PRODUCT,
    RESHAPE,
    SCALE,
    SLICE,
    SUM,
    TRANSPOSE,
)
from ..vocabulary.structure import IDENTITY
from .algebra.numbering import Terms
from .algebra.term import Body, Leaf, Term
from .emitted_operands import ConstantWriter, FreshNames, LengthWriter, add_node

FORM_IR_VERSION = 10
"""The IR version of forms."""
FIRST_END = -(2**31)
"""Where a slice that goes back ends to hold the first element as well: -1 is the last element."""
SCALE_ERROR_STEPS = 4
"""By how many steps of rounding a factor may be off, as it stands for several numbers."""


class FormWriter:
    """Writes terms into a model.

    Args:
        terms: the terms.
        labels: a name for the node of a term, by the identity of the term.
        taken: names that no value may get.

    Attributes:
        names: the names of the values that are written, by the identity of their terms.
        places: in the order of writing, how every value is computed, and which node computes it.
    """

    def __init__(self, terms: Terms, labels: Mapping[int, str], taken: Sequence[str]):
        self._terms = terms
        self._labels = labels
        self.names: dict[int, str] = {}
        self.places: list[tuple[bytes, str]] = []
        self._fresh_names = FreshNames(taken)
        self._node_names = FreshNames(())
        self._constants = ConstantWriter(self._fresh_names)
        self._lengths = LengthWriter(
            self._constants, self._fresh_names, terms.lengths.axes, self.names
        )
        self._nodes: dict[int, list[NodeProto]] = {}
        """The nodes of every scope, by the scope's identity."""

    @property
    def leaves(self) -> Mapping[str, Leaf]:
        """The constants that are written, by name."""
        return self._constants.leaves

    def write_model(
        self, inputs: Sequence[ValueInfoProto], outputs: Sequence[tuple[ValueInfoProto, Term]]
    ) -> ModelProto:
        """Write the model that has these inputs, and computes these outputs."""
        self._write_with_needs([t for _, t in outputs])
        nodes = self._nodes.setdefault(id(self._terms.scope), [])
        # an output may be an input or a constant, or the same value as another output
        for value, term in outputs:
            nodes.append(onnx.helper.make_node(IDENTITY, [self.names[id(term)]], [value.name]))
        # all constants stand in the outermost graph, where every body can read them
        graph = onnx.helper.make_graph(
            nodes,
            "normal form",
            list(inputs),
            [v for v, _ in outputs],
            self._constants.initializers,
        )
        opsets = [onnx.helper.make_opsetid("", self._terms.version)]
        used = {n.domain for ns in self._nodes.values() for n in ns} - {""}
        opsets += [onnx.helper.make_opsetid(d, self._terms.graph.opset(d)) for d in sorted(used)]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=FORM_IR_VERSION)

    def _write_with_needs(self, ends: Sequence[Term]) -> None:
        """Write terms, and before each of them what it is written with."""
        # a stack in place of recursion: networks are deeper than Python's
        waiting: list[tuple[Term, bool]] = [(t, False) for t in reversed(ends)]
        while waiting:
            term, is_ready = waiting.pop()
            if id(term) in self.names:
                continue
            if is_ready:
                self._write(term)
                continue
            waiting.append((term, True))
            needed = self._list_needed(term)
            waiting += [(t, False) for t in reversed(needed) if id(t) not in self.names]

    def _list_needed(self, term: Term) -> list[Term]:
        """List the terms that a term is written with."""
        needed = [o for o in term.operands if o is not None]
        needed += [o for body in term.bodies for o in body.outputs]
        lengths: Sequence[Length] = ()
        if term.operator == EXTENTS and term.known is not None:
            lengths = term.known.ravel().tolist()
        elif (
            term.operator in (RESHAPE, EXPAND, MOVE)
            and len(term.operands) == 1
            and term.shape is not None
        ):
            lengths = (*term.shape, *term.layout[0])
        # an unknown length is read off the shape of the term that it was found at
        unknown = {u for n in lengths if isinstance(n, Polynomial) for m, _ in n.terms for u in m}
        return needed + [self._terms.lengths.axes[name][0] for name in sorted(unknown)]

    def _write(self, term: Term) -> None:
        """Write a term whose needs are written."""
        if term.leaf is not None:
            self.names[id(term)] = self._constants.write(term.leaf, term.dtype)
        elif term.operator == INPUT:
            self.names[id(term)] = dict(term.attributes)["name"].decode()
        elif term.operator == FORMAL:
            self.names[id(term)] = self._fresh_names.make("input")
        else:
            assert term.scope is not None
            nodes = self._nodes.setdefault(id(term.scope), [])
            if term.operator == EXTENTS:
                assert term.known is not None
                self.names[id(term)] = self._lengths.write_lengths(nodes, term.known, term.dtype)
            else:
                self._write_operator(term, nodes)

    def _write_operator(self, term: Term, nodes: list[NodeProto]) -> None:
        """Write the nodes of an operator, and name all its results."""
        operands = [self.names[id(o)] if o is not None else "" for o in term.operands]
        results = [self._fresh_names.make("value") for _ in range(term.results)]
        assert term.scope is not None
        # all results of an operator are written with the first of them that is needed
        sisters = term.scope.table.get(term.key)
        for k, name in enumerate(results):
            if sisters is not None and k < len(sisters):
                self.names[id(sisters[k])] = name
        self.names[id(term)] = results[term.position]
        label = self._labels.get(id(term), "")
        label = self._node_names.make(label) if label else ""
        self.places.append((term.digest, f"{term.operator} '{label or results[0]}'"))
        self._write_nodes(term, operands, results, label, nodes)

    def _write_nodes(
        self,
        term: Term,
        operands: list[str],
        results: list[str],
        label: str,
        nodes: list[NodeProto],
    ) -> None:
        """Write an operator of the normal form as nodes of plain operators."""
        operator = term.operator
        if operator == SCALE:
            add_node(nodes, MUL, [*operands, self._write_factor(term)], results, label)
        elif operator in (SUM, PRODUCT):
            self._write_combination(term, operands, results[0], label, nodes)
        elif operator == LINEAR:
            inner = self._fresh_names.make("value")
            add_node(nodes, MAT_MUL, operands[:2], [inner], label)
            add_node(nodes, ADD, [inner, operands[2]], results)
        elif operator == PART:
            add_node(nodes, SLICE, [*operands, *self._write_cut(term)], results, label)
        elif operator in (RESHAPE, EXPAND) and len(operands) == 1:
            assert term.shape is not None
            before = term.operands[0].shape if term.operands[0] is not None else None
            target = self._lengths.write_target(nodes, operator, before, term.shape)
            add_node(nodes, operator, [*operands, target], results, label)
        elif operator == MOVE:
            self._write_movement(term, operands[0], results[0], label, nodes)
        elif operator.startswith("Reduce") and "axes" in dict(term.attributes):
            axes = self._constants.write_integers(term.read_attribute("axes"))
            add_node(nodes, operator, [*operands, axes], results, label, keepdims=1)
        else:
            self._write_plainly(term, operands, results, label, nodes)

    def _write_factor(self, term: Term) -> str:
        """Write the number that a `Scale` multiplies by."""
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(term.dtype))
        error_bound = np.array(SCALE_ERROR_STEPS * np.finfo(dtype).eps * abs(term.scale))
        leaf = Leaf(np.array(term.scale, dtype), "factor", None, error_bound)
        return self._constants.write(leaf, term.dtype)

    def _write_combination(
        self, term: Term, operands: Sequence[str], result: str, label: str, nodes: list[NodeProto]
    ) -> None:
        """Write a sum or product of any number of terms, two by two."""
        operator, flow = ADD if term.operator == SUM else MUL, operands[0]
        for k, operand in enumerate(operands[1:]):
            is_last = k == len(operands) - 2
            made = result if is_last else self._fresh_names.make("value")
            add_node(nodes, operator, [flow, operand], [made], label if is_last else "")
            flow = made

    def _write_cut(self, term: Term) -> list[str]:
        """Write where a `Part` starts and stops, its axis, and its step."""
        axis, start, stop, step = (
            term.read_attribute(n) for n in ("axis", "start", "stop", "step")
        )
        assert isinstance(stop, int)
        if stop < 0:
            stop = FIRST_END
        return [self._constants.write_integers([v]) for v in (start, stop, axis, step)]

    def _write_movement(
        self, term: Term, flow: str, result: str, label: str, nodes: list[NodeProto]
    ) -> None:
        """Write a movement: reshaped into its factors, transposed, and reshaped."""
        core, (factors, order) = term.operands[0], term.layout
        assert core is not None
        assert term.shape is not None
        turned = tuple(factors[k] for k in order)
        if factors != core.shape:
            flow, before = self._fresh_names.make("value"), flow
            target = self._lengths.write_target(nodes, RESHAPE, core.shape, factors)
            add_node(nodes, RESHAPE, [before, target], [flow])
        made = result if turned == term.shape else self._fresh_names.make("value")
        add_node(nodes, TRANSPOSE, [flow], [made], label, perm=list(order))
        if turned != term.shape:
            target = self._lengths.write_target(nodes, RESHAPE, turned, term.shape)
            add_node(nodes, RESHAPE, [made, target], [result])

    def _write_plainly(
        self,
        term: Term,
        operands: list[str],
        results: list[str],
        label: str,
        nodes: list[NodeProto],
    ) -> None:
        """Write an operator as a node of itself."""
        node = NodeProto(
            op_type=term.operator, domain=term.domain, input=operands, output=results, name=label
        )
        for _, serialized in term.attributes:
            node.attribute.append(AttributeProto.FromString(serialized))
        for body in term.bodies:
            made = onnx.helper.make_attribute(body.attribute, self._write_body(body))
            node.attribute.append(made)
        nodes.append(node)

    def _write_body(self, body: Body) -> GraphProto:
        inputs = []
        for term in body.inputs:
            if id(term) not in self.names:
                self._write(term)
            kind = TypeProto.FromString(dict(term.attributes)["type"])
            inputs.append(ValueInfoProto(name=self.names[id(term)], type=kind))
        nodes = self._nodes.setdefault(id(body.scope), [])
        outputs = []
        for term, declared in zip(body.outputs, body.declared, strict=True):
            name = self._fresh_names.make("output")
            nodes.append(onnx.helper.make_node(IDENTITY, [self.names[id(term)]], [name]))
            outputs.append(ValueInfoProto(name=name, type=declared))
        return onnx.helper.make_graph(nodes, "body", inputs, outputs)
