"""Terms as an ONNX graph: the normal form as a model that can be analysed, compared and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
)

from ..semantics.lengths import Length, Polynomial, are_numbers
from .algebra.numbering import Terms
from .algebra.term import Body, Leaf, Term

IR_VERSION = 10


class Emission:
    """Writes terms into a model."""

    def __init__(self, terms: Terms, labels: Mapping[int, str], taken: Sequence[str]):
        self.terms = terms
        self.labels = labels
        self.names: dict[int, str] = {}
        self.taken = set(taken)
        self.leaves: dict[str, Leaf] = {}
        self.initializers: list[TensorProto] = []
        self.nodes: dict[int, list[NodeProto]] = {}
        self._extents: dict[tuple[int, str], str] = {}
        self._node_names: set[str] = set()
        self.places: list[tuple[bytes, str]] = []
        """In the order of the form, how every term is computed, and the node that it comes from."""

    def model(
        self, inputs: Sequence[ValueInfoProto], outputs: Sequence[tuple[ValueInfoProto, Term]]
    ) -> ModelProto:
        """The model with these inputs and outputs."""
        main = self.terms.scope
        self._emit([t for _, t in outputs])
        nodes = self.nodes.setdefault(id(main), [])
        for value, term in outputs:
            nodes.append(onnx.helper.make_node("Identity", [self.names[id(term)]], [value.name]))
        graph = onnx.helper.make_graph(
            nodes, "normal form", list(inputs), [v for v, _ in outputs], self.initializers
        )
        opsets = [onnx.helper.make_opsetid("", self.terms.version)]
        used = {n.domain for ns in self.nodes.values() for n in ns} - {""}
        opsets += [onnx.helper.make_opsetid(d, self.terms.graph.opset(d)) for d in sorted(used)]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    # ---- names

    def _fresh(self, hint: str) -> str:
        name, k = hint, 2
        while name in self.taken:
            name, k = f"{hint}.{k}", k + 1
        self.taken.add(name)
        return name

    def _label(self, term: Term) -> str:
        label = self.labels.get(id(term), "")
        if not label:
            return ""
        name, k = label, 2
        while name in self._node_names:
            name, k = f"{label}.{k}", k + 1
        self._node_names.add(name)
        return name

    # ---- terms

    def _needs(self, term: Term) -> list[Term]:
        """The terms that one is written with."""
        needed = [o for o in term.operands if o is not None]
        needed += [o for body in term.bodies for o in body.outputs]
        lengths: Sequence[Length] = ()
        if term.operator == "Extents" and term.known is not None:
            lengths = term.known.ravel().tolist()
        elif (
            term.operator in ("Reshape", "Expand", "Move")
            and len(term.operands) == 1
            and term.shape is not None
        ):
            lengths = (*term.shape, *term.layout[0])
        for name in sorted(
            {u for n in lengths if isinstance(n, Polynomial) for m, _ in n.terms for u in m}
        ):
            needed.append(self.terms.axes[name][0])
        return needed

    def _emit(self, ends: Sequence[Term]) -> None:
        waiting: list[tuple[Term, bool]] = [(t, False) for t in reversed(ends)]
        while waiting:
            term, ready = waiting.pop()
            if id(term) in self.names:
                continue
            if ready:
                self._write(term)
                continue
            waiting.append((term, True))
            waiting += [(t, False) for t in reversed(self._needs(term)) if id(t) not in self.names]

    def _write(self, term: Term) -> None:
        if term.leaf is not None:
            self.names[id(term)] = self._constant(term.leaf, term.dtype)
            return
        if term.operator == "Input":
            self.names[id(term)] = dict(term.attributes)["name"].decode()
            return
        if term.operator == "Formal":
            self.names[id(term)] = self._fresh("input")
            return
        assert term.scope is not None
        nodes = self.nodes.setdefault(id(term.scope), [])
        if term.operator == "Extents":
            assert term.known is not None
            self.names[id(term)] = self._lengths(nodes, term.known, term.dtype)
            return
        names = [self.names[id(o)] if o is not None else "" for o in term.operands]
        made = [self._fresh("value") for _ in range(term.results)]
        sisters = term.scope.table.get(term.key)
        for k, name in enumerate(made):
            if sisters is not None and k < len(sisters):
                self.names[id(sisters[k])] = name
        self.names[id(term)] = made[term.position]
        self._nodes(term, names, made, nodes)

    def _node(
        self,
        nodes: list[NodeProto],
        operator: str,
        names: Sequence[str],
        made: Sequence[str],
        name: str = "",
        **given: Any,
    ) -> None:
        nodes.append(onnx.helper.make_node(operator, list(names), list(made), name=name, **given))

    def _nodes(self, term: Term, names: list[str], made: list[str], nodes: list[NodeProto]) -> None:
        operator, label = term.operator, self._label(term)
        self.places.append((term.digest, f"{operator} '{label or made[0]}'"))
        if operator == "Scale":
            like = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(term.dtype))
            room = np.array(4 * np.finfo(like).eps * abs(term.scale))
            factor = self._constant(
                Leaf(np.array(term.scale, like), "factor", None, room), term.dtype
            )
            self._node(nodes, "Mul", [*names, factor], made, label)
        elif operator in ("Sum", "Product"):
            plain, flow = "Add" if operator == "Sum" else "Mul", names[0]
            for k, name in enumerate(names[1:]):
                last = k == len(names) - 2
                result = made[0] if last else self._fresh("value")
                self._node(nodes, plain, [flow, name], [result], label if last else "")
                flow = result
        elif operator == "Linear":
            inner = self._fresh("value")
            self._node(nodes, "MatMul", names[:2], [inner], label)
            self._node(nodes, "Add", [inner, names[2]], made)
        elif operator == "Part":
            axis, start, stop, step = (term.attribute(n) for n in ("axis", "start", "stop", "step"))
            assert isinstance(stop, int)
            if stop < 0:
                stop = -(2**31)
            numbers = [self._whole([v]) for v in (start, stop, axis, step)]
            self._node(nodes, "Slice", [*names, *numbers], made, label)
        elif operator in ("Reshape", "Expand") and len(names) == 1:
            assert term.shape is not None
            before = term.operands[0].shape if term.operands[0] is not None else None
            self._node(
                nodes,
                operator,
                [*names, self._target(operator, before, term.shape, nodes)],
                made,
                label,
            )
        elif operator == "Move":
            self._move(term, names[0], made[0], label, nodes)
        elif operator.startswith("Reduce") and "axes" in dict(term.attributes):
            axes = term.attribute("axes")
            self._node(nodes, operator, [*names, self._whole(axes)], made, label, keepdims=1)
        else:
            node = NodeProto(
                op_type=operator, domain=term.domain, input=names, output=made, name=label
            )
            for _, serialized in term.attributes:
                node.attribute.append(AttributeProto.FromString(serialized))
            for body in term.bodies:
                node.attribute.append(onnx.helper.make_attribute(body.attribute, self._body(body)))
            nodes.append(node)

    def _body(self, body: Body) -> GraphProto:
        inputs = []
        for term in body.inputs:
            if id(term) not in self.names:
                self._write(term)
            kind = TypeProto.FromString(dict(term.attributes)["type"])
            inputs.append(ValueInfoProto(name=self.names[id(term)], type=kind))
        nodes = self.nodes.setdefault(id(body.scope), [])
        outputs = []
        for term, declared in zip(body.outputs, body.declared, strict=True):
            name = self._fresh("output")
            nodes.append(onnx.helper.make_node("Identity", [self.names[id(term)]], [name]))
            outputs.append(ValueInfoProto(name=name, type=declared))
        return onnx.helper.make_graph(nodes, "body", inputs, outputs)

    # ---- constants

    def _constant(self, leaf: Leaf, dtype: int) -> str:
        name = self._fresh(leaf.hint)
        array = np.ascontiguousarray(leaf.array) if leaf.array.ndim else leaf.array
        if dtype == TensorProto.STRING:
            tensor = onnx.helper.make_tensor(
                name, dtype, array.shape, [_text(v) for v in array.ravel()]
            )
        else:
            tensor = onnx.numpy_helper.from_array(array, name)
        self.initializers.append(tensor)
        self.leaves[name] = leaf
        return name

    def _whole(self, values: object) -> str:
        array = np.array(values, np.int64)
        key = (0, repr(array.tolist()) + str(array.shape))
        if key not in self._extents:
            self._extents[key] = self._constant(Leaf(array, "constant"), TensorProto.INT64)
        return self._extents[key]

    # ---- lengths

    def _move(self, term: Term, flow: str, made: str, label: str, nodes: list[NodeProto]) -> None:
        """A movement: reshaped into its factors, transposed, and reshaped."""
        core, (factors, order) = term.operands[0], term.layout
        assert core is not None
        assert term.shape is not None
        turned = tuple(factors[k] for k in order)
        if factors != core.shape:
            flow, before = self._fresh("value"), flow
            self._node(
                nodes,
                "Reshape",
                [before, self._target("Reshape", core.shape, factors, nodes)],
                [flow],
            )
        result = made if turned == term.shape else self._fresh("value")
        self._node(nodes, "Transpose", [flow], [result], label, perm=list(order))
        if turned != term.shape:
            self._node(
                nodes,
                "Reshape",
                [result, self._target("Reshape", turned, term.shape, nodes)],
                [made],
            )

    def _target(
        self,
        operator: str,
        inner: Sequence[Length] | None,
        shape: Sequence[Length],
        nodes: list[NodeProto],
    ) -> str:
        """The shape that a term is brought to, as an operand."""
        to: list[Length | None] = list(shape)
        if operator == "Reshape" and 0 not in to:
            before = inner or ()
            open_ = [k for k, n in enumerate(to) if isinstance(n, Polynomial)]
            if len(open_) == 1:
                to[open_[0]] = -1
            else:
                for k in open_:
                    if k < len(before) and before[k] == to[k]:
                        to[k] = 0
                left = [k for k, n in enumerate(to) if isinstance(n, Polynomial)]
                if len(left) == 1:
                    to[left[0]] = -1
        values = [n for n in to if n is not None]
        if are_numbers(values):
            return self._whole([int(n) for n in values])  # type: ignore[arg-type]
        array = np.empty(len(values), object)
        array[:] = values
        return self._lengths(nodes, array, TensorProto.INT64)

    def _lengths(self, nodes: list[NodeProto], array: np.ndarray, dtype: int) -> str:
        flat = [self._length(nodes, n) for n in array.ravel().tolist()]
        whole = flat[0]
        if len(flat) > 1:
            whole = self._fresh("lengths")
            self._node(nodes, "Concat", flat, [whole], axis=0)
        if array.ndim != 1:
            shaped = self._fresh("lengths")
            self._node(nodes, "Reshape", [whole, self._whole(list(array.shape))], [shaped])
            whole = shaped
        if dtype != TensorProto.INT64:
            cast = self._fresh("lengths")
            self._node(nodes, "Cast", [whole], [cast], to=dtype)
            whole = cast
        return whole

    def _length(self, nodes: list[NodeProto], extent: Length) -> str:
        """One length, as a tensor of one element."""
        if not isinstance(extent, Polynomial):
            return self._whole([extent])
        key = id(nodes), repr(extent)
        if key in self._extents:
            return self._extents[key]
        parts = []
        for monomial, count in extent.terms:
            factors = [self._axis(nodes, name) for name in monomial]
            factors += [self._whole([count])] if count != 1 or not factors else []
            parts.append(self._chain(nodes, "Mul", factors))
        self._extents[key] = self._chain(nodes, "Add", parts)
        return self._extents[key]

    def _axis(self, nodes: list[NodeProto], name: str) -> str:
        key = id(nodes), f"axis {name}"
        if key not in self._extents:
            term, axis = self.terms.axes[name]
            made = self._fresh("length")
            self._node(nodes, "Shape", [self.names[id(term)]], [made], start=axis, end=axis + 1)
            self._extents[key] = made
        return self._extents[key]

    def _chain(self, nodes: list[NodeProto], operator: str, names: Sequence[str]) -> str:
        flow = names[0]
        for name in names[1:]:
            made = self._fresh("length")
            self._node(nodes, operator, [flow, name], [made])
            flow = made
        return flow


def _text(value: object) -> Any:
    return value if isinstance(value, bytes) else str(value).encode()
