"""What operators do to some of the units that a weight makes, and not to the others.

Operators without weights say nothing about the order of units that each of them maps alike. Yet units that one of them maps
may not change places with units that it does not map. So every tensor has a *path*: a number that is the same for
tensors whose units were computed, and moved, in the same way, each from its own, and every operator that computes puts a
mark on the labels that it meets, made of what it does and of their paths. Only where these labels are not all that were
born together the mark tells units apart, and is kept.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from onnx import NodeProto

from .. import rules
from .equations import plan_equation
from .labels import (
    ADDRESSES,
    Facts,
    LabelRun,
    Role,
    find_run_start,
    find_varying_axes,
    is_address,
    to_dense,
)
from .tensors import Part, Tensor, move_role, move_shape


class ValueNumbering:
    """The paths of the tensors of one walk.

    Args:
        facts: where marks are kept.
        number: the bytes of a constant of one element, None of any other tensor.
        labels: the labels of a part of a weight, as far as it has any.
    """

    def __init__(
        self,
        facts: Facts,
        number: Callable[[str], bytes | None],
        labels: Callable[[Part], list[np.ndarray]],
    ):
        self.facts = facts
        self.number, self.labels = number, labels
        self.paths: dict[str, int] = {}
        self._seen: dict[int, tuple[np.ndarray, bool]] = {}
        """By the identity of an array of labels, the array, and whether it has all that were born with them."""

    def path(self, name: str) -> int:
        """The path of a tensor; one that nothing is known of has its own."""
        if name not in self.paths:
            self.paths[name] = sign("number", value) if (value := self.number(name)) else sign(name)
        return self.paths[name]

    def saw(
        self,
        node: NodeProto,
        kind: rules.Kind,
        operands: Sequence[Tensor | None],
        results: Sequence[Tensor | None],
    ) -> None:
        """What a node does, once it has been said what it says of its labels."""
        match kind:
            case rules.Body() | rules.Source():
                return
            case rules.Movement(moved, axis):
                for name, result, (sources, steps) in zip(
                    node.output, results, moved, strict=False
                ):
                    if name and result is not None:
                        whole = [i for i in sources if operands[i]]
                        self.paths[name] = self._moved(
                            node, name, whole, axis, steps, operands, result
                        )
                return
        if node.op_type == "Identity":
            self.paths[node.output[0]] = self.path(node.input[0])
        elif isinstance(kind, rules.Elementwise) or (
            isinstance(kind, rules.Equation) and self._apart(kind, operands)
        ):
            given = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
            what = sign(
                node.op_type, node.domain, *given, *(self.path(n) if n else 0 for n in node.input)
            )
            self._all(("each", what), operands)
            for k, name in enumerate(node.output):
                self.paths[name] = sign(what, k) if k else what
        else:
            # units meet each other, or a weight: what comes of it is this node's alone
            self._all(("node", node.output[0]), operands)

    def _apart(self, kind: rules.Equation, operands: Sequence[Tensor | None]) -> bool:
        """Does an equation compute every unit from itself alone?"""
        operands = operands[: kind.text.partition("->")[0].count(",") + 1]
        how = plan_equation(kind.text, tuple(None if o is None else len(o.shape) for o in operands))
        bound = how.gone | how.over | how.pinned
        for operand, side in zip(operands, how.sides, strict=False):
            if operand is None:
                continue
            free = {a for a, term in enumerate(side) if bound.isdisjoint(term.names)}
            if operand.parts and any(n > 1 and a not in free for a, n in enumerate(operand.shape)):
                return False
            if not all(_axes(r) <= free for r in self._roles(operand)):
                return False
        return True

    def _all(self, what: tuple, operands: Sequence[Tensor | None]) -> None:
        for k, operand in enumerate(operands):
            self._mark(self._roles(operand), *what, k)

    def _mark(self, roles: Sequence[Role], *said: object) -> None:
        some = [role for role in roles if not self._whole(role)]
        if some:
            what = sign(*said)
            self.facts.touched += [(what, role) for role in some]

    def _roles(self, tensor: Tensor | None) -> list[Role]:
        """The roles of a tensor that hold labels."""
        if tensor is None:
            return []
        if tensor.parts:
            return [r for p in tensor.parts if not p.plain for r in self.labels(p)]
        if tensor.lines is not None:
            rank = len(tensor.shape)
            lines = zip(tensor.lines, tensor.shape, strict=True)
            return [
                LabelRun(s, n, a, rank)
                for a, (s, n) in enumerate(lines)
                if s is not None and s != ADDRESSES
            ]
        return [r for r in tensor.roles if not is_address(r)]

    def _whole(self, role: Role) -> bool:
        """Are these all labels that were born together, each of them as often?"""
        if isinstance(role, LabelRun):
            return self._born(role.start, role.size)
        if id(role) not in self._seen:
            start = find_run_start(role)
            whole = self._born(start, role.size) if start is not None else self._even(role)
            self._seen[id(role)] = role, whole
        return self._seen[id(role)][1]

    def _born(self, start: int, size: int) -> bool:
        births = self.facts.births
        k = bisect.bisect_left(births, start)
        if k == len(births) or births[k] != start:
            return False
        return start + size == (births[k + 1] if k + 1 < len(births) else self.facts.count)

    def _even(self, role: np.ndarray) -> bool:
        labels, many = np.unique(role[role >= 0], return_counts=True)
        births = np.array(self.facts.births)
        birth = np.searchsorted(births, labels, side="right") - 1
        size = np.diff(np.r_[births, self.facts.count])
        found = np.bincount(birth, minlength=births.size)
        if (found != np.where(found > 0, size, 0)).any():
            return False
        first = np.flatnonzero(np.r_[True, birth[1:] != birth[:-1]])
        return bool((many == np.repeat(many[first], np.diff(np.r_[first, labels.size]))).all())

    def _moved(
        self,
        node: NodeProto,
        name: str,
        sources: Sequence[int],
        axis: int,
        steps: Sequence[rules.Step],
        operands: Sequence[Tensor | None],
        result: Tensor,
    ) -> int:
        """The path of what a movement leaves; what it does along the units' own axes is no matter."""
        paths = [self.path(node.input[i]) for i in sources]
        if len(set(paths)) != 1:
            return self._joined(name, paths, [operands[i] for i in sources], axis, bool(steps))
        path, tensor = paths[0], operands[sources[0]]
        assert tensor is not None
        if not steps:
            return path
        if tensor.parts:
            plain = all(
                not isinstance(s, rules.Take) or find_run_start(s.index) is not None for s in steps
            )
            return path if plain else sign(path, *_said(steps))
        roles = self._roles(tensor)
        if any(isinstance(s, rules.Take) and s.index.size == 1 for s in steps):
            # a unit that is alone has no axis any more by which it could be known
            ends = [(r, _through(r, steps, tensor.shape)) for r in map(to_dense, roles)]
            alone = [end for r, end in ends if end.size == 1 < r.size]
            if alone:
                path = sign(path, *_said(steps))
                self._mark(alone, path)
        if all(isinstance(s, rules.Take) for s in steps):
            return self._taken(path, roles, steps)
        said = (
            self._arranged(tensor, steps[0], result)
            if len(steps) == 1
            else (node.op_type, *_said(steps))
        )
        return sign(path, *said) if said else path

    def _joined(
        self,
        name: str,
        paths: Sequence[int],
        tensors: Sequence[Tensor | None],
        axis: int,
        moved: bool,
    ) -> int:
        """The path of tensors of several paths, in one."""
        parts = [(t, self._roles(t)) for t in tensors if t]
        # side by side along another axis each unit is made of itself alone; along their own they are of several kinds
        apart = not moved and all(
            not t.parts and all(axis % len(t.shape) not in _axes(r) for r in rs) for t, rs in parts
        )
        what = sign("beside", *paths) if apart else sign("node", name)
        for k, (path, (_, roles)) in enumerate(zip(paths, parts, strict=True)):
            self._mark(roles, *((what, k) if apart else ("beside", path)))
        return what

    def _taken(self, path: int, roles: Sequence[Role], steps: Sequence[rules.Step]) -> int:
        """The path of elements that are taken out of a tensor along its axes."""
        own = [_axes(r) for r in roles]
        every = set().union(*own)
        for step in steps:
            assert isinstance(step, rules.Take)
            if not roles or any(step.axis not in axes for axes in own):
                there = (
                    sum(a not in every for a in range(step.axis)) if step.axis not in every else -1
                )
                path = sign(path, "take", there, step.index.tobytes())
        return path

    def _arranged(self, tensor: Tensor, step: rules.Step, result: Tensor) -> tuple:
        """What a change of the axes' order or shape does to those that hold no units."""
        every = set().union(*map(_axes, self._roles(tensor)))
        if isinstance(step, rules.Transpose):
            rest = [a for a in step.order if a not in every]
            return () if rest == sorted(rest) else ("transpose", *np.argsort(rest).tolist())
        after = set().union(*map(_axes, self._roles(result)))
        before, now = (
            [n for a, n in enumerate(t.shape) if n > 1 and a not in axes]
            for t, axes in ((tensor, every), (result, after))
        )
        return () if before == now else ("shape", *now)


def _through(role: np.ndarray, steps: Sequence[rules.Step], shape: tuple[int, ...]) -> np.ndarray:
    """A role over a tensor of a shape, over what the steps make of it."""
    for step in steps:
        role, shape = move_role(role, step, shape), move_shape(shape, step)
    return role


def _axes(role: Role) -> set[int]:
    return {role.axis} if isinstance(role, LabelRun) else set(find_varying_axes(role))


def _said(steps: Sequence[rules.Step]) -> Iterator[object]:
    for step in steps:
        yield type(step).__name__
        if isinstance(step, rules.Take):
            yield from (step.axis, step.index.tobytes())
        else:
            yield step.order if isinstance(step, rules.Transpose) else step.shape


def sign(*said: object) -> int:
    """A number that says all this, and hardly anything else."""
    digest = hashlib.blake2b(digest_size=8)
    for part in said:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return int.from_bytes(digest.digest(), "little") >> 1
