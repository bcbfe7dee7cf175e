"""The label engine: walks a graph once and collects what its operators say about the order of elements.

It reads rules (`lady_onnx.rules`) and tensors' shapes; of weights it asks only whether they are constant
along an axis, and the values of shape and index operands.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import NodeProto

from .. import rules
from ..errors import UnknownStructure
from ..graph.model import Graph
from ..graph.nodes import (
    describe_node,
    find_live_nodes,
    list_captured_names,
    read_attributes,
)
from ..graph.shapes import choose_input_shapes
from . import lines
from .bodies import Bodies
from .equations import (
    lay_over_names,
    solve_equation,
    spread_shape,
    take_result_axes,
)
from .inference import Inference
from .labels import (
    UNREAD_LABEL,
    Facts,
    LabelRun,
    Role,
    count_occurrences,
    drop_constant_axes,
    find_components,
    find_varying_axes,
    is_address,
    lay_along,
    make_addresses,
    to_dense,
)
from .sequences import Result
from .tensors import (
    Index,
    Part,
    Tensor,
    make_opaque,
    move_role,
    move_shape,
    prefix_axes,
    tidy_roles,
)
from .ties import Unification
from .touches import ValueNumbering

SIZES = (64, 16, 32, 224, 640, 7, 512, 16000)
"""Sizes to try for the symbolic axes of the graph's inputs."""
LONGEST = 1 << 24
"""Axes of more elements are not followed, nor what a node says that makes one."""


@dataclass
class Analysis:
    """The facts of one graph, and where its labels sit in the weights."""

    facts: Facts
    weights: dict[str, list[Role]] = field(default_factory=dict)
    """The roles of every weight that a live node reads, over the weight's own axes."""
    values: frozenset[str] = frozenset()
    """Weights that were read for their values: shapes, axes, indices."""
    unknown: dict[str, int] = field(default_factory=dict)
    """Operators without a rule, and how often they occur."""
    steps: list[tuple[NodeProto, rules.Kind | None]] = field(default_factory=list)
    """The nodes in the order of the walk, those of bodies among them, with what their rules say; None where they pin."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """What is known of every tensor."""

    def dense(self) -> Analysis:
        """The same with arrays in place of lines."""
        facts = replace(
            self.facts,
            equal=[(to_dense(a), to_dense(b)) for a, b in self.facts.equal],
            pins=[(to_dense(p), reason, node) for p, reason, node in self.facts.pins],
            read=[to_dense(r) for r in self.facts.read],
            touched=[
                (what, to_dense(r))
                for said in self.facts.touched
                for what, r in count_occurrences(*said)
            ],
        )
        return replace(
            self,
            facts=facts,
            weights={w: [to_dense(r) for r in roles] for w, roles in self.weights.items()},
        )


class Engine:
    """One walk over one graph. `constant_along(weight, axis)` and `number(weight)` may be asked of more than one file.

    `shapes` are those of the graph's inputs, `loose` those of them with a symbolic axis taken as one.
    """

    def __init__(
        self,
        graph: Graph,
        constant_along: Callable[[str, int], bool],
        number: Callable[[str], bytes | None],
        shapes: Mapping[str, tuple[int, ...]],
        loose: set[str],
    ):
        self.graph = graph
        self.constant_along = constant_along
        self.facts = Facts()
        self.ties = Unification(self.facts)
        self.touches = ValueNumbering(self.facts, number, self._labels)
        self.inference = Inference(graph, shapes, loose)
        self.out = Analysis(self.facts)
        self.failed = 0
        """How many nodes do not fit the shapes of their operands, or leave a result without one."""
        self.tensors = self.out.tensors
        self.items: dict[str, list[str]] = {}
        self.states: dict[str, tuple[int, ...]] = {}
        self.bodies = Bodies(self)
        self._read: set[str] = set()
        for name, shape in shapes.items():
            roles = tuple(
                lay_along(make_addresses(n), a, len(shape)) for a, n in enumerate(shape) if n > 1
            )
            self.tensors[name] = Tensor(shape, roles, reason="graph input")

    # ---- the walk

    def run(self, limit: float) -> Analysis | None:
        """The facts; None as soon as `limit` nodes have failed."""
        for node in find_live_nodes(
            self.graph.nodes, [o.name for o in self.graph.model.graph.output]
        ):
            self.step(node)
            if self.failed >= limit:
                return None
        self.out.values = frozenset(self.inference.read)
        self.facts.node = ""
        for name in sorted(self.out.values & self.out.weights.keys()):
            for role in self.out.weights[name]:
                self.facts.pin(to_dense(role), "read as a shape or an index")
        for value in self.graph.model.graph.output:
            self.facts.node = value.name
            self._pin(value.name, "graph output")
        self.facts.node = ""
        for state in self.states:
            self.out.weights.pop(state, None)
        for labelled in self.out.weights.values():
            for i, role in enumerate(labelled):
                if isinstance(role, LabelRun):
                    continue
                missing = role == UNREAD_LABEL
                if missing.any():
                    role = role.copy()
                    role[missing] = self.facts.fresh((int(missing.sum()),))
                    self.facts.pin(role[missing], "unread")
                    labelled[i] = role
        return self.out

    def step(self, node: NodeProto) -> None:
        """Everything that one node says; a node that cannot be described pins what it touches."""
        if node.op_type == "Constant" and set(node.output) & self.graph.tensors.keys():
            return
        self.facts.node = describe_node(node)
        fits = self.bodies.has_body(node) or self.inference.infer(node)
        try:
            self._apply(node)
        except UnknownStructure as why:
            self._unknown(node, str(why))
            self.saw(node, None)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as why:
            # a node that is not as its specification says
            fits = False
            self._unknown(node, f"does not fit its rule ({why})")
            self.saw(node, None)
        self.failed += not fits or any(
            o and o not in self.tensors and o not in self.items for o in node.output
        )

    def saw(self, node: NodeProto, kind: rules.Kind | None) -> None:
        """Keeps a node and what its rule says, None where it pins, for those who read the walk."""
        self.out.steps.append((node, kind))

    def is_read(self, node: NodeProto, name: str) -> bool:
        """Does anything read this result of a node? Inside a body it is taken for granted."""
        if not self._read:
            self._read = {o.name for o in self.graph.model.graph.output}
            self._read.update(*([*n.input, *list_captured_names(n)] for n in self.graph.nodes))
        return name in self._read or self.bodies.holds(node)

    def _rule(self, node: NodeProto) -> rules.Describe | None:
        rule = rules.find_rule(node.domain, node.op_type)
        is_declared = rule is not None and (rule.holds_bodies or rule.makes_sequences)
        if self.bodies.has_body(node) and not is_declared:
            return lambda _: rules.Body()
        return rule.order if rule else None

    def tensor(self, name: str) -> Tensor | None:
        """The tensor of that name; None where its shape is not known."""
        if name not in self.tensors and name in self.graph.tensors:
            shape = self.graph.shape(name)
            self.tensors[name] = Tensor(
                shape, parts=(Part(name, functools.partial(self._index, name, shape), True),)
            )
        return self.tensors.get(name)

    def _index(self, name: str, shape: tuple[int, ...]) -> Index:
        return tuple(
            None
            if n < 2 or self.constant_along(name, a)
            else lay_along(np.arange(n), a, len(shape))
            for a, n in enumerate(shape)
        )

    def _apply(self, node: NodeProto) -> None:
        describe = self._rule(node)
        if describe is None:
            raise UnknownStructure("no rule")
        names, made = list(node.input), list(node.output)
        operands = [self.tensor(n) if n else None for n in names]
        if any(
            o is None and n and n not in self.items for o, n in zip(operands, names, strict=True)
        ):
            raise UnknownStructure("an operand of unknown shape")
        if any(_is_too_long(self.inference.known_shape(n)) for n in made if n):
            raise UnknownStructure("an axis of more elements than are followed")
        kind = describe(_View(self, node, [o.shape if o else None for o in operands]))
        loose = [n in self.inference.loose for n in names]
        results: Sequence[Result | None]
        if isinstance(kind, rules.Body):
            results = self.bodies.run(node)
        elif not self.items.keys().isdisjoint(names):
            raise UnknownStructure("a sequence of tensors")
        else:
            self.facts.reason = next((o.reason for o in operands if o and not o.parts), "position")
            results = self.results(
                kind, operands, loose, [self.inference.known_shape(n) for n in made]
            )
        if any(made[len(results) :]):
            # it could say anything about the order of the operands
            raise UnknownStructure("a result that the rule does not name")
        self.saw(node, kind)
        if not isinstance(kind, rules.Body):
            self.touches.saw(
                node, kind, operands, [r if isinstance(r, Tensor) else None for r in results]
            )
        for name, result in zip(made, results, strict=False):
            if not name or result is None:
                continue
            if isinstance(result, Tensor):
                self.tensors[name] = result
                self.inference.note(name, result.shape, node)
            else:
                self.items[name] = result

    def _labels(self, part: Part) -> list[np.ndarray]:
        """The labels of a part of a weight, as far as it has any."""
        known = [to_dense(r) for r in self.out.weights.get(part.weight, ())]
        return [
            self._at(part, r)[0]
            for r in known
            if not any(part.index[a] is None for a in find_varying_axes(r))
        ]

    def results(
        self,
        kind: rules.Kind,
        operands: Sequence[Tensor | None],
        loose: Sequence[bool],
        inferred: Sequence[tuple[int, ...] | None],
    ) -> list[Tensor]:
        """The results of a rule on its operands; `inferred` are the results' shapes where they are known."""
        given = [(o, free) for o, free in zip(operands, loose, strict=True) if o]
        match kind:
            case rules.Source(uniform):
                if any(shape is None for shape in inferred):
                    raise UnknownStructure("a shape that cannot be computed")
                return [
                    Tensor(shape) if uniform else make_opaque(shape)
                    for shape in inferred
                    if shape is not None
                ]
            case rules.Elementwise():
                _meet([(o.shape, free) for o, free in given])
                shape = np.broadcast_shapes(*(o.shape for o, _ in given))
                return [self._elementwise([o for o, _ in given], shape)] * len(inferred)
            case rules.Movement(results, axis):
                found = []
                for sources, steps in results:
                    moved = [o for i in sources if (o := operands[i])]
                    for step in steps:
                        if isinstance(step, rules.Expand) and not all(loose[1:]):
                            _meet(
                                [(o.shape, free) for o, free in zip(moved, loose, strict=False)]
                                + [(step.shape, False)]
                            )
                    found.append(
                        self._move(
                            moved[0] if len(moved) == 1 else self._concat(moved, axis), steps
                        )
                    )
                return found
            case rules.Equation():
                return self._equation(operands, loose, kind, inferred)
            case rules.Steps(steps, names, states):
                made = {
                    str(i): (o, free)
                    for i, (o, free) in enumerate(zip(operands, loose, strict=True))
                }
                named = {w for _, _, wanted in steps for w in wanted}
                if any(
                    o and math.prod(o.shape) > 1 and str(i) not in named
                    for i, o in enumerate(operands)
                ):
                    raise UnknownStructure("an operand that the rule does not name")
                made |= {name: (self.state(shape), False) for name, shape in states.items()}
                for name, rule, wanted in steps:
                    chosen = [made[w] for w in wanted]
                    result = self.results(
                        rule, [o for o, _ in chosen], [free for _, free in chosen], [None]
                    )[0]
                    made[name] = result, any(free for _, free in chosen)
                return [o for name in names if (o := made[name][0])]
        raise AssertionError(kind)

    def state(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor that is read before it is made: labelled by what it meets, as a weight is, but no weight."""
        name = f"\0{len(self.states)}"
        self.states[name] = shape
        index = tuple(
            lay_along(np.arange(n), a, len(shape)) if n > 1 else None for a, n in enumerate(shape)
        )
        return Tensor(shape, parts=(Part(name, index, True),))

    def _unknown(self, node: NodeProto, why: str) -> None:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if why == "no rule":
            self.out.unknown[name] = self.out.unknown.get(name, 0) + 1
        reason = f"operator {name}: {why}"
        for operand in itertools.chain(node.input, self.bodies.captured(node)):
            self._pin(operand, reason)
        for result in node.output:
            try:
                is_too_long = _is_too_long(self.inference.known_shape(result))
                shape = None if is_too_long else self.inference.shape(result)
            except UnknownStructure:
                shape = None
            if shape is None:
                self.tensors.pop(result, None)
            else:
                self.tensors[result] = make_opaque(shape, reason)

    def _pin(self, name: str, reason: str) -> None:
        """Pins a tensor, or all tensors of a sequence, as far as they are known."""
        for item in self.items.get(name, [name]):
            tensor = self.tensor(item) if item else None
            if tensor is not None:
                for role in self._roles(tensor):
                    self.facts.pin(role, reason)

    # ---- movements

    def _move(self, tensor: Tensor, steps: Sequence[rules.Step]) -> Tensor:
        plain = None if tensor.parts else lines.apply_movement(tensor, steps)
        if plain is not None:
            return plain
        if any(isinstance(s, rules.Take) and (s.index < 0).any() for s in steps) and tensor.parts:
            tensor = self.laid(tensor)
        roles, parts, shape = list(tensor.roles), tensor.parts, tensor.shape
        for step in steps:
            if isinstance(step, rules.Take) and (step.index < 0).any():
                if not any(r.shape[step.axis] > 1 for r in roles):
                    roles.append(lay_along(make_addresses(shape[step.axis]), step.axis, len(shape)))
                roles = [self._padded(r, step) for r in roles]
            else:
                roles = [move_role(r, step, shape) for r in roles]
            turned = isinstance(step, rules.Transpose)
            parts = tuple(
                Part(
                    p.weight,
                    tuple(None if i is None else move_role(i, step, shape) for i in p.index),
                    p.plain and turned,
                )
                for p in parts
            )
            shape = move_shape(shape, step)
        return Tensor(shape, tidy_roles(roles, shape), parts, tensor.reason)

    def _padded(self, role: np.ndarray, step: rules.Take) -> np.ndarray:
        if role.shape[step.axis] == 1:
            return role
        taken = role.take(step.index, step.axis)
        hole = np.broadcast_to(lay_along(step.index < 0, step.axis, role.ndim), taken.shape)
        taken[hole] = (
            self.facts.fresh((int(hole.sum()),)) if not is_address(role) else role.min() - 1
        )
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
        spans = {
            tuple(sorted({*find_varying_axes(r), axis}))
            for roles in each
            for r in roles
            if r.shape[axis] > 1
        }
        spans |= {(axis,)} if size > 1 and not spans else set()
        result: list[np.ndarray] = []
        for span in sorted(spans, key=len, reverse=True):
            if any(set(span) < set(find_varying_axes(r)) and not is_address(r) for r in result):
                continue
            pieces, marks = [], []
            for operand, roles in zip(operands, each, strict=True):
                dims = [n if i in span else 1 for i, n in enumerate(operand.shape)]
                # a role that does not run along the axis is the business of the shared order below
                own = [
                    r
                    for r in roles
                    if set(find_varying_axes(r)) <= set(span)
                    and (r.shape[axis] > 1 or operand.shape[axis] == 1)
                ]
                named = sorted((r for r in own if not is_address(r)), key=lambda r: -r.size)
                fixed = sorted(
                    (r for r in own if is_address(r) and r.shape[axis] > 1), key=lambda r: -r.size
                )
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
                        free = make_addresses(1).reshape(line)
                    pieces.append(np.broadcast_to(free, dims))
                    marks.append(np.broadcast_to(-1, dims))
            joined = drop_constant_axes(np.concatenate(pieces, axis), span)
            result.append(joined)
            # the same label in two operands stands for two tensors' units that move together, not for copies
            labels = np.concatenate([np.unique(p[p >= 0]) for p in pieces])
            placed = any(
                (p < 0).any() or (m.size and m.min() != m.max())
                for p, m in zip(pieces, marks, strict=True)
            )
            if placed or np.unique(labels).size < labels.size:
                base = 0
                for i, m in enumerate(marks):
                    marks[i] = m - base
                    base = -int(marks[i].min(initial=-base))
                result.append(drop_constant_axes(np.concatenate(marks, axis), span))
        shared: list[tuple[np.ndarray, int]] = []
        for i, roles in enumerate(each):
            shared += [(r, i) for r in roles if r.shape[axis] == 1]
        self.facts.reason = reason
        result += self.ties.combine(shared, [], set(), set())
        return Tensor(shape, tidy_roles(result, shape), reason=reason)

    # ---- weights

    def _roles(self, tensor: Tensor) -> tuple[np.ndarray, ...]:
        return self.laid(tensor).roles

    def laid(self, tensor: Tensor) -> Tensor:
        """A tensor with labels: one role along each axis for what is still a weight."""
        if not tensor.parts:
            return tensor
        sets = [{a} for a in range(len(tensor.shape))]
        return Tensor(
            tensor.shape,
            tidy_roles(self._label(tensor.parts, sets, tensor.shape), tensor.shape),
            reason=tensor.reason,
        )

    def _shape(self, weight: str) -> tuple[int, ...]:
        return self.states[weight] if weight in self.states else self.graph.shape(weight)

    def _label(
        self, parts: Sequence[Part], sets: Sequence[set[int]], sizes: Sequence[int]
    ) -> list[np.ndarray]:
        """Labels for weights, independent over each of `sets` of axes; a weight met before keeps what it has."""
        roles: list[np.ndarray] = []
        for part in parts:
            known = self._met(part.weight)
            if known is not None and not self._unread(part, known):
                roles += [
                    r for r in (self._known(part, k) for k in range(len(known))) if r is not None
                ]
                continue
            span = {a for i in part.index if i is not None for a in find_varying_axes(i)}
            wanted = {frozenset(s & span) for s in sets} - {frozenset()}
            wanted |= {frozenset({a}) for a in span - set().union(*wanted)}
            born = []
            for axes in sorted((w for w in wanted if not any(w < o for o in wanted)), key=sorted):
                role = self.facts.fresh([n if a in axes else 1 for a, n in enumerate(sizes)])
                born.append(role if part.plain else self._shared(part, role))
            frames = [
                self._plain_frame(part, role) if part.plain else self._frame(part, role)
                for role in born
            ]
            joined = frames if known is None else _joined(known, frames)
            if joined is None:
                born = [
                    r
                    for r in (self._known(part, k) for k in range(len(known or [])))
                    if r is not None
                ]
            else:
                self.out.weights[part.weight] = list(joined)
            roles += born
        return roles

    def _met(self, weight: str) -> list[np.ndarray] | None:
        """The roles of a weight that something has met before."""
        known = self.out.weights.get(weight)
        if known is None:
            return None
        roles = [to_dense(r) for r in known]
        self.out.weights[weight] = list(roles)
        return roles

    def _unread(self, part: Part, known: Sequence[np.ndarray]) -> bool:
        """Has nothing met this part of a weight yet?"""
        return bool(known) and all(
            (self._at(part, role)[0] == UNREAD_LABEL).all() for role in known
        )

    def _at(self, part: Part, role: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        """A role over a weight where a part of it stands, and the index that leads there."""
        where: list[Any] = [0] * role.ndim
        for a in find_varying_axes(role):
            where[a] = 0 if part.index[a] is None else part.index[a]
        return np.asarray(role[tuple(where)]), where

    def _elements(self, part: Part, role: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
        """The axes of the weight that a role over a tensor runs along, the role, and the indices, broadcast."""
        axes = set(find_varying_axes(role))
        used = [
            (a, i)
            for a, i in enumerate(part.index)
            if i is not None and axes & set(find_varying_axes(i))
        ]
        return [a for a, _ in used], list(np.broadcast_arrays(role, *(i for _, i in used)))

    def _shared(self, part: Part, role: np.ndarray) -> np.ndarray:
        """A role with one label for all places where the same element of the weight stands."""
        used, (places, *where) = self._elements(part, role)
        if len(where) == 1 and (np.diff(where[0].ravel()) > 0).all():
            return role
        shape = self._shape(part.weight)
        element = np.ravel_multi_index([w.ravel() for w in where], [shape[a] for a in used])
        pairs = np.unique(np.stack([element, places.ravel()]), axis=1)
        if (np.diff(pairs[0]) != 0).all():
            return role
        lowest = int(role.min())
        size = role.size
        group = find_components(pairs[1] - lowest, pairs[0] + size, size + math.prod(shape))[:size]
        return (np.unique(group, return_index=True)[1][group] + lowest)[role - lowest]

    def _known(self, part: Part, which: int) -> np.ndarray | None:
        role = to_dense(self.out.weights[part.weight][which])
        if any(part.index[a] is None for a in find_varying_axes(role)):
            return None
        found, where = self._at(part, role)
        if (found == UNREAD_LABEL).any():
            role = role.copy()
            places = tuple(np.broadcast_arrays(*where))
            missing = np.unique(np.stack([p[found == UNREAD_LABEL] for p in places]), axis=1)
            role[tuple(missing)] = self.facts.fresh((missing.shape[1],))
            self.out.weights[part.weight][which] = role
            found = role[tuple(where)]
        return found

    def _plain_frame(self, part: Part, role: np.ndarray) -> np.ndarray:
        """As `_frame`, of a whole weight."""
        kept = find_varying_axes(role)
        along_axis = [None if i is None else find_varying_axes(i)[0] for i in part.index]
        order = [kept.index(t) for t in along_axis if t in kept]
        dims = [1 if t not in kept else role.shape[t] for t in along_axis]
        return role.reshape([role.shape[t] for t in kept]).transpose(order).reshape(dims)

    def _frame(self, part: Part, role: np.ndarray) -> np.ndarray:
        """Labels over a tensor, written back to the axes of the weight in it."""
        shape = self._shape(part.weight)
        used, (places, *index) = self._elements(part, role)
        frame = np.full([n if a in used else 1 for a, n in enumerate(shape)], UNREAD_LABEL)
        where: list[Any] = [0] * len(shape)
        for a, place in zip(used, index, strict=True):
            where[a] = place
        frame[tuple(where)] = places
        return drop_constant_axes(frame, used)

    # ---- equations

    def _elementwise(self, operands: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        rank = len(shape)
        spanning = [o for o in operands if o.parts or o.labelled]
        if len(spanning) == 1 and spanning[0].shape == shape:
            return spanning[0]
        if any(o.labelled for o in spanning):
            simple = lines.combine_elementwise(self.out, spanning, shape)
            if simple is not None:
                return simple
        wide = [prefix_axes(o, rank) for o in operands]
        if not any(o.labelled for o in wide):
            return Tensor(shape, parts=tuple(p for o in wide for p in o.parts))
        entries = [(r, i) for i, o in enumerate(wide) for r in o.roles]
        for i, o in enumerate(wide):
            if o.parts:
                sets = [set(find_varying_axes(r)) for r, _ in entries]
                entries += [(r, i) for r in self._label(o.parts, sets, shape)]
        return Tensor(
            shape,
            tidy_roles(self.ties.combine(entries, shape, set(), set()), shape),
            reason=self.facts.reason,
        )

    def _equation(
        self,
        operands: Sequence[Tensor | None],
        loose: Sequence[bool],
        kind: rules.Equation,
        inferred: Sequence[tuple[int, ...] | None],
    ) -> list[Tensor]:
        solution = solve_equation(
            kind.text, [o.shape if o else None for o in operands], kind.sizes, inferred
        )
        operands = operands[: len(solution.operands)]
        if not any(loose):
            simple = lines.apply_equation(self.out, operands, solution)
            if simple is not None:
                return simple
        how, sizes, shapes = solution.how, solution.sizes, solution.shapes
        sides, named, gone, pinned = how.sides, how.named, how.gone, how.pinned
        names = tuple(sizes)
        over = {names.index(n) for n in how.over}
        space = [sizes[n] for n in names]
        rows = [
            spread_shape(o.shape, side, names, sizes)
            for o, side in zip(operands, sides, strict=True)
            if o
        ]
        _meet(
            [
                (row, free)
                for row, free in zip(
                    rows, [f for f, o in zip(loose, operands, strict=False) if o], strict=True
                )
            ]
        )
        if any(row[names.index(x)] == 1 != sizes[x] for row in rows for x in gone):
            raise UnknownStructure("a contracted axis of two sizes")

        entries: list[tuple[np.ndarray, int]] = []
        for i, (operand, side) in enumerate(zip(operands, sides, strict=True)):
            if operand is not None:
                entries += [(lay_over_names(r, side, names, sizes), i) for r in operand.roles]
        waiting = [i for i, o in enumerate(operands) if o is not None and o.parts]
        # a weight that is contracted says what its axes are; the others follow what they meet
        for i in sorted(waiting, key=lambda i: not (named[i] & gone)):
            operand, side = operands[i], sides[i]
            assert operand is not None
            parts = []
            for part in operand.parts:
                index = tuple(
                    None if x is None else lay_over_names(x, side, names, sizes) for x in part.index
                )
                plain = part.plain and all(
                    x is None or len(find_varying_axes(x)) == 1 for x in index
                )
                parts.append(Part(part.weight, index, plain))
            span = {
                names[a]
                for p in parts
                for x in p.index
                if x is not None
                for a in find_varying_axes(x)
            }
            own = span - how.batch - pinned
            if named[i] & gone and own and len(how.contracting) > 1:
                # along two axes that it makes, or reads, it has an order of the one at every place of the other
                ends = [e for e in (own & how.gone, own - how.gone) if e]
                sets = [{names.index(n) for n in e | (how.batch & span)} for e in ends]
            else:
                sets = [set(find_varying_axes(r)) for r, _ in entries]
            entries += [(r, i) for r in self._label(parts, sets, space)]

        fixed = {names.index(n) for n in pinned}
        for role, _ in entries:
            axes = set(find_varying_axes(role))
            if axes & fixed and not is_address(role):
                if axes <= fixed:
                    self.facts.pin(
                        role,
                        self.facts.reason if self.facts.reason != "graph input" else "position",
                    )
                else:
                    places = [n if a in fixed else 1 for a, n in enumerate(role.shape)]
                    self.ties.fix(role, make_addresses(math.prod(places)).reshape(places))
        gone_axes = {names.index(n) for n in gone | pinned}
        combined = self.ties.combine(entries, space, gone_axes, over)
        out = []
        for terms, shape in zip(how.results, shapes, strict=False):
            roles = []
            for role in combined:
                laid = take_result_axes(role, terms, names, sizes)
                if laid is not None:
                    roles.append(laid)
            for a, term in enumerate(terms):
                if ("[" in term.flags or not pinned.isdisjoint(term.names)) and shape[a] > 1:
                    roles.append(lay_along(make_addresses(shape[a]), a, len(shape)))
            out.append(Tensor(shape, tidy_roles(roles, shape), reason=self.facts.reason))
        return out


def _is_too_long(shape: tuple[int, ...] | None) -> bool:
    return max(shape or (), default=0) > LONGEST


def _joined(known: Sequence[np.ndarray], more: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """The roles of a weight with those of another part of it, where the two parts have roles of the same kinds."""
    if sorted(r.shape for r in known) != sorted(r.shape for r in more):
        return None
    result = list(known)
    for role in more:
        fits = [
            i
            for i, r in enumerate(result)
            if r.shape == role.shape and (r[role != UNREAD_LABEL] == UNREAD_LABEL).all()
        ]
        if not fits:
            return None
        result[fits[0]] = np.where(role == UNREAD_LABEL, result[fits[0]], role)
    return result


class _View:
    """The node as its rule sees it."""

    def __init__(self, engine: Engine, node: NodeProto, shapes: Sequence[tuple[int, ...] | None]):
        self._engine, self._node = engine, node
        self.operator = node.op_type
        self.opset = engine.graph.opset(node.domain)
        self.attributes = read_attributes(node)
        self.shapes = shapes
        self.results = len(node.output)

    def value(self, operand: int) -> np.ndarray:
        value = self._engine.inference.value(self._node.input[operand])
        if value is None:
            raise UnknownStructure(f"operand {operand} is computed from the graph's inputs")
        return value

    def needed(self, result: int) -> bool:
        name = self._node.output[result] if result < self.results else ""
        return bool(name) and self._engine.is_read(self._node, name)

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


def analyse_graph(
    graph: Graph,
    constant_along: Callable[[str, int], bool] | None = None,
    number: Callable[[str], bytes | None] | None = None,
) -> Analysis:
    """The facts of `graph`, at the first size of its symbolic axes at which all its shapes can be computed.

    `constant_along` and `number` answer for the weights; they default to the graph's own.
    """
    best: tuple[float, Analysis | None] = math.inf, None
    for shapes, loose in choose_input_shapes(graph, SIZES):
        engine = Engine(
            graph, constant_along or graph.constant_along, number or graph.number, shapes, loose
        )
        analysis = engine.run(best[0])
        if analysis is not None:
            best = engine.failed, analysis
        if not best[0]:
            break
    assert best[1] is not None
    return best[1]
