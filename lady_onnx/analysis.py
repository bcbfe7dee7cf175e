"""The label engine: walks a graph once and collects what its operators say about the order of elements.

It reads rules (`lady_onnx.rules`) and tensors' shapes; of weights it asks only whether they are constant
along an axis, and the values of shape and index operands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto

from . import rules
from .equations import lay, parse, solve, solve_results, spread, unlay
from .errors import UnknownStructure
from .graph import Graph, attributes, input_choices, label
from .inference import Inference
from .labels import UNREAD, Facts, addresses, along, axes_of, compress, is_address, reshape_role
from .ties import Ties

SIZES = (64, 16, 32, 224, 640, 7, 512, 16000)
"""Sizes to try for the symbolic axes of the graph's inputs."""


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
    values: frozenset[str] = frozenset()
    """Weights that were read for their values: shapes, axes, indices."""
    unknown: dict[str, int] = field(default_factory=dict)
    """Operators without a rule, and how often they occur."""


class Engine:
    """One walk over one graph. `constant_along(weight, axis)` may be asked of more than one file.

    `shapes` are those of the graph's inputs, `loose` those of them with a symbolic axis taken as one.
    """

    def __init__(
        self,
        graph: Graph,
        constant_along: Callable[[str, int], bool],
        shapes: Mapping[str, tuple[int, ...]],
        loose: set[str],
    ):
        self.graph = graph
        self.constant_along = constant_along
        self.facts = Facts()
        self.ties = Ties(self.facts)
        self.inference = Inference(graph, shapes, loose)
        self.out = Analysis(self.facts)
        self.failed = 0
        """How many nodes do not fit the shapes of their operands, or leave a result without one."""
        self.tensors: dict[str, Tensor] = {}
        for name, shape in shapes.items():
            roles = tuple(along(addresses(n), a, len(shape)) for a, n in enumerate(shape) if n > 1)
            self.tensors[name] = Tensor(shape, roles, reason="graph input")

    # ---- the walk

    def run(self, limit: float) -> Analysis | None:
        """The facts; None as soon as `limit` nodes have failed."""
        for node in self._live():
            self.facts.node = label(node)
            if node.op_type == "Constant" and set(node.output) & self.graph.tensors.keys():
                continue
            fits = self.inference.infer(node)
            try:
                self._apply(node)
            except UnknownStructure as why:
                self._unknown(node, str(why))
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as why:
                # a node that is not as its specification says
                fits = False
                self._unknown(node, f"does not fit its rule ({why})")
            self.failed += not fits or any(o and o not in self.tensors for o in node.output)
            if self.failed >= limit:
                return None
        self.out.values = frozenset(self.inference.read)
        self.facts.node = ""
        for name in sorted(self.out.values & self.out.weights.keys()):
            for role in self.out.weights[name]:
                self.facts.pin(role, "read as a shape or an index")
        for value in self.graph.model.graph.output:
            self.facts.node = value.name
            tensor = self._tensor(value.name)
            if tensor is not None:
                for role in self._roles(tensor):
                    self.facts.pin(role, "graph output")
        self.facts.node = ""
        for labelled in self.out.weights.values():
            for i, role in enumerate(labelled):
                missing = role == UNREAD
                if missing.any():
                    role = role.copy()
                    role[missing] = self.facts.fresh((int(missing.sum()),))
                    self.facts.pin(role[missing], "unread")
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

    def _apply(self, node: NodeProto) -> None:
        describe = rules.REGISTRY.get((node.domain if node.domain != "ai.onnx" else "", node.op_type))
        if describe is None:
            raise UnknownStructure("no rule")
        operands = [self._tensor(n) if n else None for n in node.input]
        if any(o is None and n for o, n in zip(operands, node.input, strict=True)):
            raise UnknownStructure("an operand of unknown shape")
        kind = describe(_View(self, node, [o.shape if o else None for o in operands]))
        loose = [n in self.inference.loose for n in node.input]
        if isinstance(kind, rules.Source):
            for name in node.output:
                shape = self.inference.shape(name)
                self.tensors[name] = Tensor(shape) if kind.uniform else self._opaque(shape)
        elif isinstance(kind, rules.Movement):
            self._named(node, len(kind.results))
            for name, (sources, steps) in zip(node.output, kind.results, strict=False):
                moved = [operands[i] for i in sources]
                for step in steps:
                    if isinstance(step, rules.Expand) and not all(loose[1:]):
                        _meet([(o.shape, free) for o, free in zip(moved, loose, strict=False) if o] + [(step.shape, False)])
                tensor = moved[0] if len(moved) == 1 else self._concat([o for o in moved if o], kind.axis)
                assert tensor is not None
                if name:
                    self.tensors[name] = self._move(tensor, steps)
        else:
            self.facts.reason = next((o.reason for o in operands if o and not o.parts), "position")
            given = [o for o in operands if o is not None]
            if isinstance(kind, rules.Elementwise):
                shape = np.broadcast_shapes(*(o.shape for o in given))
                _meet([(o.shape, free) for o, free in zip(operands, loose, strict=True) if o])
                results = [self._elementwise(given, shape)] * len(node.output)
            else:
                self._named(node, kind.text.partition("->")[2].count(",") + 1)
                results = self._equation(operands, loose, kind, [self.inference.known_shape(n) for n in node.output])
            for name, result in zip(node.output, results, strict=False):
                if name:
                    self.tensors[name] = result
                    self.inference.note(name, result.shape)

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
                    self.facts.pin(role, reason)
        for result in node.output:
            try:
                self.tensors[result] = self._opaque(self.inference.shape(result), reason)
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
            placed = any((p < 0).any() or (m.size and m.min() != m.max()) for p, m in zip(pieces, marks, strict=True))
            if placed or np.unique(labels).size < labels.size:
                base = 0
                for i, m in enumerate(marks):
                    marks[i] = m - base
                    base = -int(marks[i].min(initial=-base))
                result.append(compress(np.concatenate(marks, axis), span))
        shared: list[tuple[np.ndarray, int]] = []
        for i, roles in enumerate(each):
            shared += [(r, i) for r in roles if r.shape[axis] == 1]
        self.facts.reason = reason
        result += self.ties.combine(shared, [], set(), set())
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
            self.facts.tie(seen[differ], places[0][differ])
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
        return Tensor(shape, _tidy(self.ties.combine(entries, shape, set(), set()), shape), reason=self.facts.reason)

    def _equation(
        self,
        operands: Sequence[Tensor | None],
        loose: Sequence[bool],
        kind: rules.Equation,
        inferred: Sequence[tuple[int, ...] | None],
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
        rows = [spread(o.shape, side, names, sizes) for o, side in zip(operands, sides, strict=True) if o]
        _meet([(row, free) for row, free in zip(rows, [f for f, o in zip(loose, operands, strict=False) if o], strict=True)])
        if any(row[names.index(x)] == 1 != sizes[x] for row in rows for x in gone):
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
                    self.facts.pin(role, self.facts.reason if self.facts.reason != "graph input" else "position")
                else:
                    places = [n if a in fixed else 1 for a, n in enumerate(role.shape)]
                    self.ties.fix(role, addresses(math.prod(places)).reshape(places))
        gone_axes = {names.index(n) for n in gone | pinned}
        combined = self.ties.combine(entries, space, gone_axes, over)
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
            out.append(Tensor(shape, _tidy(roles, shape), reason=self.facts.reason))
        return out


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
        value = self._engine.inference.value(self._node.input[operand])
        if value is None:
            raise UnknownStructure(f"operand {operand} is computed from the graph's inputs")
        return value

    def shape(self, result: int = 0) -> tuple[int, ...]:
        return self._engine.inference.shape(self._node.output[result])


def _meet(operands: Sequence[tuple[tuple[int, ...], bool]]) -> None:
    """UnknownStructure where a symbolic axis that is taken as one meets a longer one that is not symbolic.

    `operands` are shapes, aligned at their ends, with 0 for an axis that an operand has not, and whether a
    one among them may be symbolic.
    """
    for axis in range(1, 1 + max(len(shape) for shape, _ in operands)):
        sizes = [(shape[-axis], free) for shape, free in operands if len(shape) >= axis]
        if (1, True) in sizes and any(n > 1 and not free for n, free in sizes):
            raise UnknownStructure("a symbolic axis, taken as one, meets a longer one")


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
    best: tuple[float, Analysis | None] = math.inf, None
    for shapes, loose in input_choices(graph, SIZES):
        engine = Engine(graph, constant_along or graph.constant_along, shapes, loose)
        analysis = engine.run(best[0])
        if analysis is not None:
            best = engine.failed, analysis
        if not best[0]:
            break
    assert best[1] is not None
    return best[1]
