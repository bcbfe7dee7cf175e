"""The label engine: walks a graph once and collects what its operators say about the order of elements.

It reads rules (`lady_onnx.rules`) and tensors' shapes; of weights it asks only whether they are constant
along an axis, and the values of shape and index operands.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import NodeProto, TypeProto
from onnx.reference import ReferenceEvaluator

from . import rules
from .equations import lay, parse, solve, solve_results, unlay
from .errors import UnknownStructure
from .graph import Graph, attributes, input_shapes, label
from .labels import (
    UNREAD,
    Facts,
    addresses,
    along,
    axes_of,
    components,
    compress,
    is_address,
    partition,
    refines,
    reshape_role,
)

VALUE_LIMIT = 1 << 22
"""Operands of more elements than this are never read for their values."""
SIZES = (64, 16, 32, 224, 640, 7, 512, 16000)
"""Sizes to try for the symbolic axes of the graph's inputs."""


Leaves = dict[tuple[int, ...], list[np.ndarray]]
"""For every set of axes of an equation the roles over it: the finest one, and addresses."""


@dataclass(frozen=True)
class Part:
    """A weight inside a tensor: for each of its axes the index that an element has there, as a role."""

    weight: str
    index: tuple[np.ndarray | None, ...]
    """None along an axis on which the weight is constant."""


@dataclass(frozen=True)
class Tensor:
    """What is known of one tensor: its shape, its roles, or the weights that it still is."""

    shape: tuple[int, ...]
    roles: tuple[np.ndarray, ...] = ()
    parts: tuple[Part, ...] = ()
    reason: str = "position"
    """Why its addresses keep their order."""


@dataclass
class Analysis:
    """The facts of one graph, and where its labels sit in the weights."""

    facts: Facts
    weights: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """The roles of every weight that a live node reads, over the weight's own axes."""
    values: set[str] = field(default_factory=set)
    """Weights that were read for their values: shapes, axes, indices."""
    unknown: dict[str, int] = field(default_factory=dict)
    """Operators without a rule, and how often they occur."""
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The shapes of the graph's inputs that the analysis chose."""


class Engine:
    """One walk over one graph. `constant_along(weight, axis)` may be asked of more than one file."""

    def __init__(self, graph: Graph, constant_along: Callable[[str, int], bool], size: int):
        self.graph = graph
        self.constant_along = constant_along
        self.facts = Facts()
        self.out = Analysis(self.facts, input_shapes=input_shapes(graph, size))
        self.tensors: dict[str, Tensor] = {}
        self.types: dict[str, TypeProto] = {}
        self.producers = {o: n for n in graph.nodes for o in n.output if o}
        self._values: dict[str, np.ndarray | None] = {}
        self.node = ""
        self.reason = "position"

    # ---- the walk

    def run(self) -> Analysis:
        for name, shape in self.out.input_shapes.items():
            value = next(i for i in self.graph.model.graph.input if i.name == name)
            kind = value.type.tensor_type.elem_type
            self.types[name] = onnx.helper.make_tensor_type_proto(kind, shape)
            roles = tuple(along(addresses(n), a, len(shape)) for a, n in enumerate(shape) if n > 1)
            self.tensors[name] = Tensor(shape, roles, reason="graph input")
        for node in self._live():
            self.node = label(node)
            if node.op_type == "Constant" and node.output[0] in self.graph.tensors:
                continue
            self._infer(node)
            try:
                self._apply(node)
            except UnknownStructure as why:
                self._unknown(node, str(why))
            except (KeyError, IndexError, ValueError) as why:
                # a node that is not as its specification says
                self._unknown(node, f"does not fit its rule ({why})")
        for name in sorted(self.out.values & self.out.weights.keys()):
            for role in self.out.weights[name]:
                self.facts.pin(role, "read as a shape or an index", "")
        self.node = "graph output"
        for value in self.graph.model.graph.output:
            tensor = self._tensor(value.name)
            if tensor is not None:
                for role in self._roles(tensor):
                    self.facts.pin(role, "graph output", value.name)
        self.node = "unread"
        for labelled in self.out.weights.values():
            for i, role in enumerate(labelled):
                missing = role == UNREAD
                if missing.any():
                    role = role.copy()
                    role[missing] = self.facts.fresh((int(missing.sum()),))
                    self.facts.pin(role[missing], "unread", "")
                    labelled[i] = role
        return self.out

    def _live(self) -> list[NodeProto]:
        wanted = {o.name for o in self.graph.model.graph.output}
        live = []
        for node in reversed(self.graph.nodes):
            if wanted & set(node.output):
                live.append(node)
                wanted.update(node.input)
                wanted.update(captured(node))
        return live[::-1]

    def _tensor(self, name: str) -> Tensor | None:
        """The tensor of that name; None where its shape is not known."""
        if name not in self.tensors and name in self.graph.tensors:
            shape = self.graph.shape(name)
            index = tuple(
                None if n < 2 or self.constant_along(name, a) else along(np.arange(n), a, len(shape))
                for a, n in enumerate(shape)
            )
            self.tensors[name] = Tensor(shape, parts=(Part(name, index),))
        return self.tensors.get(name)

    def _infer(self, node: NodeProto) -> None:
        """Types and shapes of the node's results, by ONNX's own inference."""
        inputs: dict[str, TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for name in node.input:
            if not name:
                continue
            if name not in self.types and name in self.graph.tensors:
                kind = self.graph.tensors[name].data_type
                self.types[name] = onnx.helper.make_tensor_type_proto(kind, self.graph.shape(name))
            if name not in self.types:
                return
            inputs[name] = self.types[name]
        operand = node.op_type in ("Resize", "Upsample", "Range")
        for name, given in inputs.items():
            tensor = given.tensor_type
            small = len(tensor.shape.dim) < 2 and tensor.elem_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
            if (small or (operand and len(tensor.shape.dim) < 2)) and node.op_type not in ("Gather", "Cast"):
                value = self._value(name)
                if value is not None:
                    data[name] = onnx.numpy_helper.from_array(value, name)
        try:
            schema = onnx.defs.get_schema(node.op_type, self.graph.opset(node.domain), node.domain)
            opsets = list(self.graph.model.opset_import)
            types = onnx.shape_inference.infer_node_outputs(
                schema, node, inputs, data, opset_imports=opsets, ir_version=self.graph.model.ir_version
            )
        except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return
        self.types.update(types)

    def _shape(self, name: str) -> tuple[int, ...]:
        kind = self.types.get(name)
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            raise UnknownStructure("a shape that cannot be computed")
        dims = kind.tensor_type.shape.dim
        if not all(d.HasField("dim_value") for d in dims):
            raise UnknownStructure("a shape that cannot be computed")
        return tuple(d.dim_value for d in dims)

    def _note_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Completes the inferred type of a tensor with the shape that its rule gave."""
        kind = self.types.get(name)
        if kind is not None and kind.HasField("tensor_type") and self._known_shape(name) is None:
            self.types[name] = onnx.helper.make_tensor_type_proto(kind.tensor_type.elem_type, shape)

    def _known_shape(self, name: str) -> tuple[int, ...] | None:
        try:
            return self._shape(name)
        except UnknownStructure:
            return None

    def _value(self, name: str) -> np.ndarray | None:
        """The values of a tensor that hangs on constants and shapes alone, else None."""
        if name not in self._values:
            self._values[name] = None
            self._values[name] = self._compute(name)
        return self._values[name]

    def _compute(self, name: str) -> np.ndarray | None:
        if name in self.graph.tensors:
            if np.prod(self.graph.shape(name), dtype=np.int64) > VALUE_LIMIT:
                return None
            self.out.values.add(name)
            return self.graph.array(name)
        node = self.producers.get(name)
        if node is None or node.op_type in ("If", "Loop", "Scan") or node.domain:
            return None
        if node.op_type in ("Shape", "Size"):
            source = self._tensor(node.input[0])
            if source is None:
                return None
            if node.op_type == "Size":
                return np.array(np.prod(source.shape, dtype=np.int64))
            given = attributes(node)
            return np.array(source.shape[slice(given.get("start", 0), given.get("end"))], np.int64)
        values: dict[str, np.ndarray] = {}
        for operand in node.input:
            if operand:
                tensor = self._tensor(operand)
                if tensor is not None and np.prod(tensor.shape, dtype=np.int64) > VALUE_LIMIT:
                    return None
                value = self._value(operand)
                if value is None:
                    return None
                values[operand] = value
        opsets = {o.domain: o.version for o in self.graph.model.opset_import}
        try:
            result = ReferenceEvaluator(node, opsets=opsets).run(None, values)
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError):
            return None
        return np.asarray(list(result)[list(node.output).index(name)])

    def _apply(self, node: NodeProto) -> None:
        describe = rules.REGISTRY.get((node.domain if node.domain != "ai.onnx" else "", node.op_type))
        if describe is None:
            raise UnknownStructure("no rule")
        operands = [self._tensor(n) if n else None for n in node.input]
        if any(o is None and n for o, n in zip(operands, node.input, strict=True)):
            raise UnknownStructure("an operand of unknown shape")
        view = _View(self, node, [o.shape if o else None for o in operands])
        kind = describe(view)
        if isinstance(kind, rules.Source):
            for name in node.output:
                shape = self._shape(name)
                self.tensors[name] = Tensor(shape) if kind.uniform else self._opaque(shape)
        elif isinstance(kind, rules.Movement):
            self._named(node, len(kind.results))
            for name, (sources, steps) in zip(node.output, kind.results, strict=False):
                moved = [operands[i] for i in sources]
                tensor = moved[0] if len(moved) == 1 else self._concat([o for o in moved if o], kind.axis)
                assert tensor is not None
                if name:
                    self.tensors[name] = self._move(tensor, steps)
        else:
            self.reason = next((o.reason for o in operands if o and not o.parts), "position")
            given = [o for o in operands if o is not None]
            if isinstance(kind, rules.Elementwise):
                shape = np.broadcast_shapes(*(o.shape for o in given))
                results = [self._elementwise(given, shape)] * len(node.output)
            else:
                self._named(node, kind.text.partition("->")[2].count(",") + 1)
                results = self._equation(operands, kind, [self._known_shape(n) for n in node.output])
            for name, result in zip(node.output, results, strict=False):
                if name:
                    self.tensors[name] = result
                    self._note_shape(name, result.shape)

    @staticmethod
    def _named(node: NodeProto, results: int) -> None:
        """A result that the rule does not name could say anything about the order of the operands."""
        if any(node.output[results:]):
            raise UnknownStructure("a result that the rule does not name")

    def _opaque(self, shape: tuple[int, ...], reason: str = "position") -> Tensor:
        return Tensor(shape, tuple(along(addresses(n), a, len(shape)) for a, n in enumerate(shape) if n > 1), reason=reason)

    def _unknown(self, node: NodeProto, why: str) -> None:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if why == "no rule":
            self.out.unknown[name] = self.out.unknown.get(name, 0) + 1
        reason = f"operator {name}: {why}"
        for operand in itertools.chain(node.input, captured(node)):
            tensor = self._tensor(operand) if operand else None
            if tensor is not None:
                for role in self._roles(tensor):
                    self.facts.pin(role, reason, self.node)
        for result in node.output:
            try:
                self.tensors[result] = self._opaque(self._shape(result), reason)
            except UnknownStructure:
                self.tensors.pop(result, None)

    # ---- movements

    def _move(self, tensor: Tensor, steps: Sequence[rules.Step]) -> Tensor:
        if any(isinstance(s, rules.Take) and (s.index < 0).any() for s in steps) and tensor.parts:
            tensor = self._laid(tensor)
        roles, parts, shape = list(tensor.roles), tensor.parts, tensor.shape
        for step in steps:
            if isinstance(step, rules.Take) and (step.index < 0).any():
                if not any(r.shape[step.axis] > 1 for r in roles):
                    roles.append(along(addresses(shape[step.axis]), step.axis, len(shape)))
                roles = [self._padded(r, step) for r in roles]
            else:
                roles = [_step(r, step, shape) for r in roles]
            parts = tuple(Part(p.weight, tuple(None if i is None else _step(i, step, shape) for i in p.index)) for p in parts)
            shape = _moved_shape(shape, step)
        return Tensor(shape, _tidy(roles, shape), parts, tensor.reason)

    def _padded(self, role: np.ndarray, step: rules.Take) -> np.ndarray:
        if role.shape[step.axis] == 1:
            return role
        taken = role.take(step.index, step.axis)
        hole = np.broadcast_to(along(step.index < 0, step.axis, role.ndim), taken.shape)
        taken[hole] = self.facts.fresh((int(hole.sum()),)) if not is_address(role) else role.min() - 1
        return taken

    def _concat(self, operands: list[Tensor], axis: int) -> Tensor:
        rank = len(operands[0].shape)
        axis %= rank
        size = sum(o.shape[axis] for o in operands)
        shape = tuple(size if i == axis else n for i, n in enumerate(operands[0].shape))
        operands = [o for o in operands if o.shape[axis]]
        each = [self._roles(o) for o in operands]
        reason = next((o.reason for o in operands if not o.parts), "position")
        # along the axis the labels stand one after the other; elsewhere the operands share one order
        spans = {tuple(sorted({*axes_of(r), axis})) for roles in each for r in roles if r.shape[axis] > 1}
        spans |= {(axis,)} if size > 1 and not spans else set()
        result: list[np.ndarray] = []
        for span in sorted(spans, key=len, reverse=True):
            if any(set(span) < set(axes_of(r)) and not is_address(r) for r in result):
                continue
            pieces, marks = [], []
            for operand, roles in zip(operands, each, strict=True):
                dims = [n if i in span else 1 for i, n in enumerate(operand.shape)]
                # a role that does not run along the axis is the business of the shared order below
                own = [r for r in roles if set(axes_of(r)) <= set(span) and (r.shape[axis] > 1 or operand.shape[axis] == 1)]
                named = sorted((r for r in own if not is_address(r)), key=lambda r: -r.size)
                fixed = sorted((r for r in own if is_address(r) and r.shape[axis] > 1), key=lambda r: -r.size)
                if named and named[0].shape[axis] > 1:
                    pieces.append(np.broadcast_to(named[0], dims))
                    marks.append(np.broadcast_to(fixed[0] if fixed else -1, dims))
                elif fixed:
                    pieces.append(np.broadcast_to(fixed[0], dims))
                    marks.append(np.broadcast_to(fixed[0], dims))
                else:
                    line = [n if i == axis else 1 for i, n in enumerate(dims)]
                    free = self.facts.fresh(line)
                    if operand.shape[axis] == 1 and (operand.roles or operand.parts):
                        free = addresses(1).reshape(line)
                    pieces.append(np.broadcast_to(free, dims))
                    marks.append(np.broadcast_to(-1, dims))
            joined = compress(np.concatenate(pieces, axis), span)
            result.append(joined)
            # the same label in two operands stands for two tensors' units that move together, not for copies
            labels = np.concatenate([np.unique(p[p >= 0]) for p in pieces])
            if any(m.size and m.min() != m.max() for m in marks) or np.unique(labels).size < labels.size:
                base = 0
                for i, m in enumerate(marks):
                    marks[i] = m - base
                    base = -int(marks[i].min(initial=-base))
                result.append(compress(np.concatenate(marks, axis), span))
        shared: list[tuple[np.ndarray, int]] = []
        for i, roles in enumerate(each):
            shared += [(r, i) for r in roles if r.shape[axis] == 1]
        self.reason = reason
        result += self._combine(shared, [], set(), set())
        return Tensor(shape, _tidy(result, shape), reason=reason)

    # ---- weights

    def _roles(self, tensor: Tensor) -> tuple[np.ndarray, ...]:
        return self._laid(tensor).roles

    def _laid(self, tensor: Tensor) -> Tensor:
        """A tensor with labels: one role along each axis for what is still a weight."""
        if not tensor.parts:
            return tensor
        sets = [{a} for a in range(len(tensor.shape))]
        return Tensor(tensor.shape, _tidy(self._label(tensor.parts, sets, tensor.shape), tensor.shape), reason=tensor.reason)

    def _label(self, parts: Sequence[Part], sets: Sequence[set[int]], sizes: Sequence[int]) -> list[np.ndarray]:
        """Labels for weights, independent over each of `sets` of axes; a weight met before keeps what it has."""
        roles: list[np.ndarray] = []
        for part in parts:
            known = self.out.weights.get(part.weight)
            if known is not None:
                roles += [r for r in (self._known(part, k) for k in range(len(known))) if r is not None]
                continue
            self.out.weights[part.weight] = []
            span = {a for i in part.index if i is not None for a in axes_of(i)}
            wanted = {frozenset(s & span) for s in sets} - {frozenset()}
            wanted |= {frozenset({a}) for a in span - set().union(*wanted)}
            for axes in sorted((w for w in wanted if not any(w < o for o in wanted)), key=sorted):
                role = self.facts.fresh([n if a in axes else 1 for a, n in enumerate(sizes)])
                roles.append(role)
                self._register(part, role)
        return roles

    def _known(self, part: Part, which: int) -> np.ndarray | None:
        role = self.out.weights[part.weight][which]
        axes = axes_of(role)
        index = [part.index[a] for a in axes]
        if any(i is None for i in index):
            return None
        where: list[Any] = [0] * role.ndim
        for a, i in zip(axes, index, strict=True):
            where[a] = i
        found = role[tuple(where)]
        if (found == UNREAD).any():
            role = role.copy()
            places = tuple(np.broadcast_arrays(*where))
            missing = np.unique(np.stack([p[found == UNREAD] for p in places]), axis=1)
            role[tuple(missing)] = self.facts.fresh((missing.shape[1],))
            self.out.weights[part.weight][which] = role
            found = role[tuple(where)]
        return found

    def _register(self, part: Part, role: np.ndarray) -> None:
        """Writes labels over a tensor back to the axes of the weight in it."""
        shape = self.graph.shape(part.weight)
        axes = set(axes_of(role))
        used = [a for a, i in enumerate(part.index) if i is not None and axes & set(axes_of(i))]
        places = np.broadcast_arrays(role, *(part.index[a] for a in used))  # type: ignore[arg-type]
        frame = np.full([n if a in used else 1 for a, n in enumerate(shape)], UNREAD)
        where: list[Any] = [0] * len(shape)
        for a, place in zip(used, places[1:], strict=True):
            where[a] = place
        frame[tuple(where)] = places[0]
        seen = frame[tuple(where)]
        differ = seen != places[0]
        if differ.any():
            self.facts.tie(seen[differ], places[0][differ], "repeated", self.node)
        self.out.weights[part.weight].append(compress(frame, used))

    # ---- equations

    def _elementwise(self, operands: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        rank = len(shape)
        spanning = [o for o in operands if o.parts or o.roles]
        if len(spanning) == 1 and spanning[0].shape == shape:
            return spanning[0]
        wide = [_prefixed(o, rank) for o in operands]
        if not any(o.roles for o in wide):
            return Tensor(shape, parts=tuple(p for o in wide for p in o.parts))
        entries = [(r, i) for i, o in enumerate(wide) for r in o.roles]
        for i, o in enumerate(wide):
            if o.parts:
                sets = [set(axes_of(r)) for r, _ in entries]
                entries += [(r, i) for r in self._label(o.parts, sets, shape)]
        return Tensor(shape, _tidy(self._combine(entries, shape, set(), set()), shape), reason=self.reason)

    def _equation(
        self, operands: Sequence[Tensor | None], kind: rules.Equation, inferred: Sequence[tuple[int, ...] | None]
    ) -> list[Tensor]:
        operands = operands[: kind.text.partition("->")[0].count(",") + 1]
        sides, results = parse(kind.text, [len(o.shape) if o else None for o in operands])
        sizes = solve(sides, [o.shape if o else None for o in operands], kind.sizes)
        shapes = solve_results(results, inferred, sizes)
        names = list(sizes)
        flags: dict[str, str] = {}
        for term in itertools.chain(*sides):
            flags.update({n: f for n, f in zip(term.names, term.flags, strict=True) if f})
        kept = {n for term in itertools.chain(*results) for n in term.names}
        pinned = {n for n, f in flags.items() if f == "["}
        over = {names.index(n) for n, f in flags.items() if f == "{"}
        named = [{n for term in side for n in term.names} for side in sides]
        gone = {n for n in set().union(*named) if n not in kept and n not in pinned}
        contracting = [s for s in named if s & gone]
        batch = {n for n in kept if len(contracting) > 1 and all(n in s for s in contracting)}
        space = [sizes[n] for n in names]
        for operand, side in zip(operands, sides, strict=True):
            for term, n in zip(side, operand.shape if operand else (), strict=False):
                if n == 1 and any(x in gone and sizes[x] > 1 for x in term.names):
                    raise UnknownStructure("a contracted axis of two sizes")

        entries: list[tuple[np.ndarray, int]] = []
        for i, (operand, side) in enumerate(zip(operands, sides, strict=True)):
            if operand is not None:
                entries += [(lay(r, side, names, sizes), i) for r in operand.roles]
        waiting = [i for i, o in enumerate(operands) if o is not None and o.parts]
        # a weight that is contracted says what its axes are; the others follow what they meet
        for i in sorted(waiting, key=lambda i: not (named[i] & gone)):
            operand, side = operands[i], sides[i]
            assert operand is not None
            parts = [
                Part(p.weight, tuple(None if x is None else lay(x, side, names, sizes) for x in p.index)) for p in operand.parts
            ]
            span = {names[a] for p in parts for x in p.index if x is not None for a in axes_of(x)}
            own = span - batch - pinned
            if named[i] & gone and own and len(contracting) > 1:
                sets = [{names.index(n), *(names.index(b) for b in batch & span)} for n in own]
            else:
                sets = [set(axes_of(r)) for r, _ in entries]
            entries += [(r, i) for r in self._label(parts, sets, space)]

        fixed = {names.index(n) for n in pinned}
        for role, _ in entries:
            axes = set(axes_of(role))
            if axes & fixed and not is_address(role):
                if axes <= fixed:
                    self.facts.pin(role, self.reason if self.reason != "graph input" else "position", self.node)
                else:
                    for a in axes & fixed:
                        self.facts.pin(self._remainder(role, (a,)), "position", self.node)
        gone_axes = {names.index(n) for n in gone | pinned}
        combined = self._combine(entries, space, gone_axes, over)
        out = []
        for terms, shape in zip(results, shapes, strict=False):
            roles = []
            for role in combined:
                laid = unlay(role, terms, names, sizes)
                if laid is not None:
                    roles.append(laid)
            for a, term in enumerate(terms):
                if "[" in term.flags and shape[a] > 1:
                    roles.append(along(addresses(shape[a]), a, len(shape)))
            out.append(Tensor(shape, _tidy(roles, shape), reason=self.reason))
        return out

    def _combine(
        self, entries: Sequence[tuple[np.ndarray, int]], space: Sequence[int], gone: set[int], over: set[int]
    ) -> list[np.ndarray]:
        """Ties the roles that meet in one operator; returns the roles of its result.

        `entries` are roles over the axes of an equation, with the operand that each comes from;
        `gone` are the axes that the result has not, `over` those that a normalisation reduces.
        """
        groups: dict[tuple[int, ...], list[tuple[np.ndarray, int]]] = {}
        for role, operand in entries:
            if role.size > 1:
                axes = axes_of(role)
                groups.setdefault(axes, []).append((role, operand))
                if gone & set(axes):
                    self.facts.read.append(role)
        if all(is_address(r) for g in groups.values() for r, _ in g):
            kept = [r for axes, g in groups.items() if not set(axes) & gone for r, _ in g]
            partial = [a for axes in groups for a in axes if set(axes) & gone and a not in gone]
            rank = len(space)
            return kept + [along(addresses(space[a]), a, rank) for a in sorted(set(partial))]
        leaves: Leaves = {}
        origins: dict[tuple[int, ...], set[int]] = {}
        for axes, group in groups.items():
            leaves[axes] = self._join([r for r, _ in group])
            origins[axes] = {o for _, o in group}
        for axes in list(leaves):
            for dropped in (gone, over):
                rest = tuple(a for a in axes if a not in dropped)
                if rest and rest != axes:
                    for role in [r for r in leaves[axes] if not is_address(r)]:
                        coarse = self._remainder(role, rest)
                        old = leaves.get(rest, [])
                        leaves[rest] = self._join([*old, coarse])
                        origins.setdefault(rest, set()).add(-1)
                    if dropped is gone and all(is_address(r) for r in leaves[axes]):
                        for a in rest:
                            mark = along(addresses(leaves[axes][0].shape[a]), a, leaves[axes][0].ndim)
                            leaves[(a,)] = self._join([*leaves.get((a,), []), mark])
                            origins.setdefault((a,), set()).add(-1)
        spans = sorted(leaves, key=len)
        for i, small in enumerate(spans):
            for large in spans[i + 1 :]:
                common = set(small) & set(large)
                if not common or (origins[small] == origins[large] and len(origins[small]) == 1):
                    continue
                if common == set(small):
                    self._nest(leaves, large, small)
                else:
                    self._overlap(leaves, large, small, tuple(sorted(common)))
        out: list[np.ndarray] = []
        for axes in sorted(leaves, key=len, reverse=True):
            if not set(axes) & gone and not any(set(axes) < set(axes_of(r)) and not is_address(r) for r in out):
                out += leaves[axes]
        return out

    def _join(self, roles: list[np.ndarray]) -> list[np.ndarray]:
        """Ties roles over the same axes; returns the finest one, and the addresses that it does not settle."""
        distinct: list[np.ndarray] = []
        for role in roles:
            if not any(role is d or np.array_equal(role, d) for d in distinct):
                distinct.append(role)
        named = [r for r in distinct if not is_address(r)]
        fixed = [r for r in distinct if is_address(r)]
        if not named:
            return fixed
        parts = [partition(r) for r in named]
        leaf = next((i for i, p in enumerate(parts) if all(refines(p, q) for q in parts)), None)
        if leaf is None:
            role = self.facts.fresh(named[0].shape)
            for other in distinct:
                self.facts.relate(role, other, self.reason, self.node)
            return [role]
        role, part = named[leaf], parts[leaf]
        for other, coarse in zip(named, parts, strict=True):
            if other is not role:
                if refines(coarse, part):
                    self.facts.tie(role, other, self.reason, self.node)
                else:
                    self.facts.relate(role, other, self.reason, self.node)
        left = []
        for mark in fixed:
            places = partition(mark)
            if refines(places, part):
                self.facts.pin(role, self.reason, self.node)
            elif refines(part, places):
                self.facts.relate(role, mark, self.reason, self.node)
            else:
                left.append(mark)
        if len(left) > 1:
            self.facts.pin(role, "two orders of positions", self.node)
        return [role, *left[:1]]

    def _remainder(self, role: np.ndarray, rest: tuple[int, ...]) -> np.ndarray:
        """A coarser role over the axes `rest`, the parent of `role`."""
        shape = [n if a in rest else 1 for a, n in enumerate(role.shape)]
        coarse = self.facts.fresh(shape)
        if self.facts.can_relate(role, coarse, self.reason, self.node):
            return coarse
        # one label stands at several places of the rest: those places share one parent
        child = partition(role)
        place = np.broadcast_to(coarse - coarse.min(), role.shape).ravel()
        size = coarse.size
        group = components(place, child + size, size + int(child.max()) + 1)[:size]
        shared = coarse.ravel()[np.unique(group, return_index=True)[1][group]].reshape(shape)
        self.facts.relate(role, shared, self.reason, self.node)
        return shared

    def _nest(self, leaves: Leaves, large: tuple[int, ...], small: tuple[int, ...]) -> None:
        """Roles over more axes have those over fewer as parents."""
        for parent in leaves[small]:
            children = leaves[large]
            for i, child in enumerate(children):
                if is_address(child) and is_address(parent):
                    continue
                if not self.facts.can_relate(child, parent, self.reason, self.node):
                    finer = self.facts.fresh(child.shape)
                    self.facts.relate(finer, child, self.reason, self.node)
                    self.facts.relate(finer, parent, self.reason, self.node)
                    children[i] = finer

    def _overlap(self, leaves: Leaves, large: tuple[int, ...], small: tuple[int, ...], common: tuple[int, ...]) -> None:
        """Roles that share some axes and neither all: both get a parent over the shared ones."""
        both = leaves[large] + leaves[small]
        named = [r for r in both if not is_address(r)]
        if not named:
            return
        for role in named:
            coarse = self._remainder(role, common)
            for other in both:
                if other is not role and is_address(other):
                    self.facts.pin(coarse, self.reason, self.node)
                elif other is not role:
                    self.facts.tie(self._remainder(other, common), coarse, self.reason, self.node)
            break


class _View:
    """The node as its rule sees it."""

    def __init__(self, engine: Engine, node: NodeProto, shapes: Sequence[tuple[int, ...] | None]):
        self._engine, self._node = engine, node
        self.operator = node.op_type
        self.opset = engine.graph.opset(node.domain)
        self.attributes = attributes(node)
        self.shapes = shapes
        self.results = len(node.output)

    def value(self, operand: int) -> np.ndarray:
        value = self._engine._value(self._node.input[operand])
        if value is None:
            raise UnknownStructure(f"operand {operand} is computed from the graph's inputs")
        return value

    def shape(self, result: int = 0) -> tuple[int, ...]:
        return self._engine._shape(self._node.output[result])


def captured(node: NodeProto) -> list[str]:
    """The names that the subgraphs of a node read, their own included."""
    names: list[str] = []
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for inner in graph.node:
                names += [*inner.input, *captured(inner)]
            names += [o.name for o in graph.output]
    return names


def _prefixed(tensor: Tensor, rank: int) -> Tensor:
    missing = rank - len(tensor.shape)
    if not missing:
        return tensor

    def wide(x: np.ndarray) -> np.ndarray:
        return x.reshape((1,) * missing + x.shape)

    parts = tuple(Part(p.weight, tuple(None if i is None else wide(i) for i in p.index)) for p in tensor.parts)
    return Tensor((1,) * missing + tensor.shape, tuple(wide(r) for r in tensor.roles), parts, tensor.reason)


def _step(role: np.ndarray, step: rules.Step, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(step, rules.Take):
        return role if role.shape[step.axis] == 1 else compress(role.take(step.index, step.axis), range(role.ndim))
    if isinstance(step, rules.Reshape):
        return reshape_role(role, shape, step.shape)
    if isinstance(step, rules.Transpose):
        return role.transpose(step.order)
    return role.reshape((1,) * (len(step.shape) - role.ndim) + role.shape)


def _moved_shape(shape: tuple[int, ...], step: rules.Step) -> tuple[int, ...]:
    if isinstance(step, rules.Take):
        return tuple(len(step.index) if a == step.axis else n for a, n in enumerate(shape))
    if isinstance(step, rules.Transpose):
        return tuple(shape[a] for a in step.order)
    return step.shape


def _tidy(roles: Sequence[np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Roles without the trivial ones; addresses numbered from the front where no labels share their axes."""
    named = [r for r in roles if r.size > 1 and not is_address(r)]
    fixed = [r for r in roles if r.size > 1 and is_address(r)]
    busy = {a for r in named for a in axes_of(r)}
    grown = True
    while grown:
        reach = {a for r in fixed if busy & set(axes_of(r)) for a in axes_of(r)}
        grown = not reach <= busy
        busy |= reach
    plain = sorted({a for r in fixed for a in axes_of(r)} - busy)
    out = [*named, *(along(addresses(shape[a]), a, len(shape)) for a in plain)]
    spans: dict[tuple[int, ...], list[np.ndarray]] = {}
    for r in fixed:
        if busy & set(axes_of(r)):
            spans.setdefault(axes_of(r), []).append(r)
    for group in spans.values():
        if len(group) == 1:
            out.append(group[0])
        else:
            stacked = np.stack([g.ravel() for g in group], 1)
            number = np.unique(stacked, axis=0, return_inverse=True)[1]
            out.append((-1 - number).reshape(group[0].shape))
    return tuple(out)


def analyse(graph: Graph, constant_along: Callable[[str, int], bool] | None = None) -> Analysis:
    """The facts of `graph`, at the first size of its symbolic axes at which all its shapes can be computed.

    `constant_along` answers for the weights; it defaults to the graph's own.
    """
    best: tuple[int, Analysis] | None = None
    symbolic = input_shapes(graph, 2) != input_shapes(graph, 3)
    for size in SIZES if symbolic else SIZES[:1]:
        engine = Engine(graph, constant_along or graph.constant_along, size)
        analysis = engine.run()
        failed = sum(1 for n in engine._live() for o in n.output if o and o not in engine.tensors and o not in graph.tensors)
        if best is None or failed < best[0]:
            best = failed, analysis
        if not failed:
            break
    assert best is not None
    return best[1]
