"""By what the units of a group may be multiplied, slot by slot, without changing what the model computes.

Beside their order, units have a scale and a sign: a ReLU lets any positive factor pass, tanh a change of sign, and what
comes in larger may go out smaller. Every slot of a group has an unknown factor. One walk over the graph says by what
the elements of every tensor are multiplied, a product of powers of these; where what is added must be alike, where
units are summed up, or an operator lets nothing pass, there is an equation: a linear one for the logarithms, one over
two elements for the signs. The solutions are the factors that leave the model's function as it was.

Sources: Neyshabur et al. 2015 (ReLU); Ganju et al. 2018; arXiv 2205.00199 (scales and signs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from .analysis import Analysis
from .equations import lay, plan, solve, solve_results, unlay
from .errors import UnknownStructure
from .graph import Graph, attributes
from .groups import Group, Slot
from .inference import FLOATS
from .labels import axes_of
from .rules import Body, Elementwise, Equation, Kind, Movement, Take
from .rules.composed import SEQUENCES
from .rules.recurrent import GATES
from .solutions import Solutions
from .tensors import moved_shape, step_of

LINEAR = ("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Resize", "Upsample")
"""A factor of the operand, of either sign, is one of the result."""
PRODUCTS = ("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul")
"""Linear in each of two operands; the third is added."""
POSITIVE = ("GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin")
"""A positive factor passes."""
SUMS = ("Add", "Cast", "Dropout", "Identity", "Mean", "Neg", "Sub", "Sum")
"""What is added has one factor."""
RELUS = ("LeakyRelu", "Max", "Min", "Relu")
"""As sums, of positive factors alone."""
ODD = ("Asinh", "Atan", "Erf", "Sin", "Sinh", "Softsign", "Tan", "Tanh")
"""A sign passes."""
EVEN = ("Cos", "Cosh")
"""A sign is lost."""
NORMS = ("GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization")
"""The first operand is normalised: the gain and what is added to it have the result's factor."""
LOOPS = ("Loop", "Scan", "SequenceMap", *SEQUENCES)
"""Operators with bodies, or of sequences, that no factor passes."""
Factor = tuple[tuple[tuple[int, float], ...], frozenset[int]]
"""A product: of unknown factors by number, each to a power, and of unknown signs."""
Role = tuple[str, np.ndarray]
"""A group, and for every element of a tensor its unit and the number of its factor, 0 where that is one.

Of size one along axes that it does not hang on. The number stands above the unit's `UNIT_BITS`.
"""
UNIT_BITS = 32


@dataclass(frozen=True)
class Shift:
    """A bias behind units that become `top` less themselves when their sign changes: it gains what they read of `top`.

    `slot` is where the units are read, in a weight with its outputs along `out`; their columns there change signs.
    """

    slot: Slot
    out: int
    bias: str
    top: float

    def gain(self, weight: np.ndarray, flipped: np.ndarray) -> np.ndarray:
        """What the bias gains, [outputs], of the units that are flipped, bool [units], before their columns change."""
        rows = np.moveaxis(weight, self.slot.axis, 0)[self.slot.index[flipped].ravel()].astype(np.float64)
        out = self.out + (self.out < self.slot.axis)
        return self.top * rows.sum(tuple(a for a in range(rows.ndim) if a != out))


@dataclass(frozen=True)
class Scaling:
    """The factors that a group's units may have.

    Attributes:
        group: the group's id.
        slots: the places at which they are given: the group's own slots, and where a unit has several positions in one,
            that need not have one factor, these apart.
        scales: float64 [independent factors, slots]: logarithms of positive factors, one a slot; their sums too.
        signs: bool [independent flips, slots]: where a sign may change; any number of these one after the other.
        offsets: float64 [slots]: what is added to a slot's values before they are multiplied, the epsilon of a variance.
        incoming: bool [slots]: whether the unit is made there, and not what is read: no operator sums over the slot's axis.
        shifts: what biases behind a unit gain when its sign changes, where that reflects its activation.
        crossed: whether units meet each other otherwise than in a weighted sum, in a softmax, a norm, or an operator that
            nothing is known of: one more of them changes what the others are.
    """

    group: str
    slots: tuple[Slot, ...]
    scales: np.ndarray
    signs: np.ndarray
    offsets: np.ndarray
    incoming: np.ndarray
    shifts: tuple[Shift, ...] = ()
    crossed: bool = False

    @property
    def names(self) -> set[str]:
        """The weights that factors change."""
        return {s.initializer for s in self.slots} | {s.bias for s in self.shifts}

    @property
    def free(self) -> bool:
        """Is anything but one allowed?"""
        return bool(self.scales.size or self.signs.size)

    def apply(self, arrays: dict[str, np.ndarray], factors: np.ndarray) -> None:
        """Multiplies every unit, in place, by a factor for each slot: `factors`, float64 [slots, units]."""
        for shift in self.shifts:
            places = [s.initializer == shift.slot.initializer and s.axis == shift.slot.axis for s in self.slots]
            flipped = (factors[places.index(True)] < 0) if any(places) else np.zeros(0, bool)
            if flipped.any():
                bias = arrays[shift.bias]
                gain = shift.gain(arrays[shift.slot.initializer], flipped)
                arrays[shift.bias] = (bias.astype(np.float64) + gain.reshape(bias.shape)).astype(bias.dtype)
        for slot, offset, row in zip(self.slots, self.offsets, factors, strict=True):
            if (row == 1).all():
                continue
            array = arrays[slot.initializer]
            where = np.ix_(*_region(slot, array.shape))
            by = np.repeat(row, slot.index.shape[1]).reshape([-1 if a == slot.axis else 1 for a in range(array.ndim)])
            array[where] = ((array[where].astype(np.float64) + offset) * by - offset).astype(array.dtype)

    def drawn(self, generator: np.random.Generator, spread: float = 1.0) -> np.ndarray:
        """Random factors that leave the function as it is, [slots, units]: normal logarithms, and any signs."""
        units = len(self.slots[0].index) if self.slots else 0
        logs = self.scales.T @ generator.normal(0, spread, (len(self.scales), units))
        flips = self.signs.T.astype(np.int64) @ generator.integers(0, 2, (len(self.signs), units))
        return np.exp(logs) * (1 - 2 * (flips % 2))


def scalings(graph: Graph, analysis: Analysis, groups: Sequence[Group]) -> dict[str, Scaling]:
    """By each group's id, of those that hold no others, the factors that its units may have."""
    walk = _Walk(graph, analysis, [g for g in groups if g.kind != "blocks"])
    walk.run()
    return {g.id: walk.solved(g) for g in walk.groups}


class _Walk:
    """One pass over what the label engine saw, collecting equations."""

    def __init__(self, graph: Graph, analysis: Analysis, groups: Sequence[Group]):
        self.graph = graph
        self.analysis = analysis
        self.groups = groups
        self.factors: list[Factor] = [((), frozenset())]
        """All products that occur; the first is one."""
        self._numbers = {self.factors[0]: 0}
        self.logs: list[dict[int, float]] = []
        self.flips: list[frozenset[int]] = []
        self.offsets: dict[str, float] = {}
        self.reflected: dict[str, tuple[str, float]] = {}
        """By tensor the group whose units become so much less themselves there when their sign changes."""
        self.shifts: dict[str, list[Shift]] = {}
        self.readers: dict[str, list[NodeProto]] = {}
        for node, _ in analysis.steps:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.makers = {name: node for node, _ in analysis.steps for name in node.output}
        self.read: set[int] = set()
        """Unknowns of weights along axes that an operator sums over."""
        self.crossed: set[str] = set()
        self.unknowns: list[tuple[str, Slot]] = []
        self.roles: dict[str, list[Role]] = {}
        for group in groups:
            for slot in group.slots:
                self._begin(group, slot)

    def _begin(self, group: Group, slot: Slot) -> None:
        """Gives every position of a unit in a slot an unknown factor."""
        axes = {slot.axis, *(a for a, _ in slot.within)}
        whole = self.graph.shape(slot.initializer)
        shape = [n if a in axes else 1 for a, n in enumerate(whole)]
        first = len(self.unknowns)
        self.unknowns += [(group.id, Slot(slot.initializer, slot.axis, c[:, None], slot.within)) for c in slot.index.T]
        numbers = np.array([self._number((((k, 1.0),), frozenset({k}))) for k in range(first, len(self.unknowns))])
        codes = _coded(np.tile(numbers, len(slot.index)), np.repeat(np.arange(len(slot.index)), len(numbers)))
        known = self.roles.setdefault(slot.initializer, [])
        array = np.zeros(shape, np.int64)
        array[np.ix_(*_region(slot, shape))] = _along(codes, slot.axis, len(shape))
        for i, (name, other) in enumerate(known):
            if name == group.id and other.shape == array.shape and not ((other > 0) & (array > 0)).any():
                known[i] = name, other + array
                return
        known.append((group.id, array))

    def _number(self, factor: Factor) -> int:
        if factor not in self._numbers:
            self._numbers[factor] = len(self.factors)
            self.factors.append(factor)
        return self._numbers[factor]

    # ---- the walk

    def run(self) -> None:
        for node, kind in self.analysis.steps:
            if isinstance(kind, Body) and (node.domain not in ("", "ai.onnx") or node.op_type not in LOOPS):
                # what a function or a branch does its nodes do, under their own names
                continue
            try:
                made = self._node(node, kind)
            except UnknownStructure:
                if not isinstance(kind, Equation | Elementwise) or node.op_type in SUMS:
                    self.crossed |= {g for name in node.input for g, _ in self.on(name)}
                self._still(r for name in node.input for r in self.on(name))
                self._reads(r for name in node.input if name and self.weight(name) for r in self.on(name))
                made = []
            for name, roles in zip(node.output, made or [[] for _ in node.output], strict=False):
                kept = [(g, a) for g, a in roles if a.any()]
                # a tensor that one or another branch makes
                self.roles[name] = self._alike([self.roles[name], kept]) if name in self.roles else kept
        for value in self.graph.model.graph.output:
            self._still(self.on(value.name))

    def on(self, name: str) -> list[Role]:
        return self.roles.get(name, [])

    def shape(self, name: str) -> tuple[int, ...]:
        tensor = self.analysis.tensors.get(name)
        if tensor is None and name not in self.graph.tensors:
            raise UnknownStructure("an unknown shape")
        return self.graph.shape(name) if tensor is None else tensor.shape

    def weight(self, name: str) -> bool:
        """Is a tensor a weight, or one that was moved?"""
        tensor = self.analysis.tensors.get(name)
        return name in self.graph.tensors or (tensor is not None and bool(tensor.parts))

    def zero(self, name: str) -> bool:
        """Is a tensor a weight of zeros, which no factor changes?"""
        return name in self.graph.tensors and not self.graph.array(name).any()

    def _node(self, node: NodeProto, kind: Kind | None) -> list[list[Role]]:
        """The factors of a node's results."""
        operator = node.op_type if node.domain in ("", "ai.onnx") else ""
        if not any(self.on(name) for name in node.input):
            return []
        if any(name in self.reflected for name in node.input):
            self._behind(operator, node, kind)
        if not operator or kind is None:
            raise UnknownStructure("no rule for factors")
        if operator in GATES:
            return self._recurrent(operator, node)
        if isinstance(kind, Movement):
            return self._moved(node, kind)
        if isinstance(kind, Equation):
            return [self._equation(operator, node, kind)]
        rank = len(self.shape(node.output[0]))
        entries = [[(g, a.reshape((1,) * (rank - a.ndim) + a.shape)) for g, a in self.on(n)] for n in node.input]
        return [self._elementwise(operator, node, entries)]

    # ---- equations of factors

    def _still(self, roles: Iterable[Role], scale: bool = True, sign: bool = True) -> None:
        """Factors that must be one, or positive."""
        for _, array in roles:
            for number in np.unique(array >> UNIT_BITS).tolist():
                log, flips = self.factors[number]
                if scale and log:
                    self.logs.append(dict(log))
                if sign and flips:
                    self.flips.append(flips)

    def _mapped(self, array: np.ndarray, change: Callable[[Factor], Factor]) -> np.ndarray:
        """An array with every factor changed."""
        found, where = np.unique(array >> UNIT_BITS, return_inverse=True)
        new = np.array([self._number(change(self.factors[n])) for n in found.tolist()])[where].reshape(array.shape)
        return _coded(new, array)

    def _pairs(self, a: np.ndarray, b: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray, np.ndarray]:
        """The numbers that meet element by element, which pair stands where, and the units; they must be the same."""
        a, b = np.broadcast_arrays(a, b)
        if ((a > 0) & (b > 0) & (_unit(a) != _unit(b))).any():
            raise UnknownStructure("different units meet")
        pairs, where = np.unique(np.stack([a.ravel(), b.ravel()]) >> UNIT_BITS, axis=1, return_inverse=True)
        return [(i, j) for i, j in pairs.T.tolist()], where.reshape(a.shape), np.maximum(_unit(a), _unit(b))

    def _joined(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The products of two arrays of factors, element by element."""
        pairs, where, units = self._pairs(a, b)
        return _coded(np.array([self._number(_times(self.factors[i], self.factors[j])) for i, j in pairs])[where], units)

    def _alike(self, sides: Sequence[Sequence[Role]]) -> list[Role]:
        """What is added: the factors of all `sides` must be the same; they are those of the sum."""
        groups = dict.fromkeys(g for side in sides for g, _ in side)
        found: list[Role] = []
        for group in groups:
            own = [[a for g, a in side if g == group] for side in sides]
            first = next(o for o in own if o)
            one = len({axes_of(a) for o in own for a in o}) == 1
            if not one or any(len(o) != 1 for o in own):
                self._still((group, a) for o in own for a in o)
                continue
            for other in own:
                for i, j in self._pairs(first[0], other[0])[0]:
                    if i != j:
                        log, flips = _times(self.factors[i], self.factors[j], -1)
                        self.logs.append(dict(log))
                        self.flips.append(flips)
            found.append((group, np.broadcast_arrays(*(o[0] for o in own))[0]))
        return found

    def _product(self, roles: Iterable[Role]) -> list[Role]:
        """What is multiplied: factors of one group along the same axes are; others stand beside each other."""
        found: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}
        for group, array in roles:
            key = group, axes_of(array)
            found[key] = self._joined(found[key], array) if key in found else array
        return [(group, array) for (group, _), array in found.items()]

    def _to(self, roles: Iterable[Role], power: float) -> list[Role]:
        """Factors to a power; of any but a whole one they must be positive."""
        roles = list(roles)
        whole = float(power).is_integer()
        if not whole:
            self._still(roles, scale=False)

        def change(factor: Factor) -> Factor:
            log, flips = factor
            return tuple((k, c * power) for k, c in log), flips if whole and power % 2 else frozenset()

        return [(g, self._mapped(a, change)) for g, a in roles]

    def _signs(self, roles: Iterable[Role]) -> list[Role]:
        return [(g, self._mapped(a, lambda f: ((), f[1]))) for g, a in roles]

    def _sizes(self, roles: Iterable[Role]) -> list[Role]:
        return [(g, self._mapped(a, lambda f: (f[0], frozenset()))) for g, a in roles]

    # ---- operators

    def _added(self, names: Sequence[str], sides: Sequence[list[Role]]) -> list[Role]:
        """The factors of a sum; a weight of zeros has any."""
        kept = [side for name, side in zip(names, sides, strict=True) if name and (side or not self.zero(name))]
        return self._alike(kept) if kept else []

    def _elementwise(self, operator: str, node: NodeProto, entries: list[list[Role]]) -> list[Role]:
        names = list(node.input)
        first = entries[0]
        if operator == "Cast" and attributes(node).get("to") not in FLOATS:
            raise UnknownStructure("whole numbers")
        if operator == "Dropout" or operator in SUMS:
            return self._added(names[:1] if operator == "Dropout" else names, entries[: 1 if operator == "Dropout" else None])
        reflected = self._reflect(operator, node, first)
        if reflected is not None:
            return reflected
        if operator in RELUS or (operator == "Clip" and self._from_zero(node)):
            self._still((r for entry in entries for r in entry), scale=False)
            return self._added(names[: 1 if operator == "Clip" else None], entries[: 1 if operator == "Clip" else None])
        if operator in ODD:
            self._still(first, sign=False)
            return self._signs(first)
        if operator in EVEN:
            self._still(first, sign=False)
            return []
        match operator:
            case "Mul":
                return self._product(r for entry in entries for r in entry)
            case "Div":
                return self._product([*first, *self._to(entries[1], -1)])
            case "Reciprocal":
                return self._to(first, -1)
            case "Sqrt":
                return self._to(first, 0.5)
            case "Abs":
                return self._sizes(first)
            case "Sign":
                return self._signs(first)
            case "Pow":
                power = self.graph.array(names[1]) if names[1] in self.graph.tensors else np.empty(0)
                if power.size == 1:
                    return self._to(first, float(power.reshape(-1)[0]))
            case "PRelu":
                self._still(first, scale=False)
                self._still(entries[1])
                return first
            case "Where":
                self._still(entries[0])
                return self._added(names[1:], entries[1:])
        raise UnknownStructure("no rule for factors")

    # ---- reflections: an activation that is `top` less itself where the sign of its input changes

    def _top(self, operator: str, node: NodeProto) -> float | None:
        """What an activation and its mirror image add up to, None where it has none."""
        given, names = attributes(node), [*node.input, "", ""]
        if operator == "Sigmoid" or (operator == "HardSigmoid" and given.get("beta", 0.5) == 0.5):
            return 1.0
        if operator == "Clip":
            ends = [
                float(self.graph.array(n).reshape(-1)[0]) if n in self.graph.tensors else given.get(key)
                for n, key in zip(names[1:3], ("min", "max"), strict=True)
            ]
            if ends[0] == 0 and ends[1] is not None:
                return float(ends[1])
        return None

    def _reflect(self, operator: str, node: NodeProto, first: list[Role]) -> list[Role] | None:
        """The signs behind an activation that may be reflected; None where it may not."""
        top = self._top(operator, node)
        if top is None or len(first) != 1 or len(axes_of(first[0][1])) != 1:
            return None
        if operator == "Clip":
            bias = self._bias_before(node.input[0])
            if bias is None or len(self.readers[node.input[0]]) > 1 or self.offsets.get(bias, -top / 2) != -top / 2:
                return None
            # what comes in must become `top` less itself
            self.offsets[bias] = -top / 2
        self._still(first, sign=False)
        self.reflected[node.output[0]] = first[0][0], top
        return self._signs(first)

    def _bias_before(self, name: str) -> str | None:
        """The weight that is added last to a tensor, and nowhere else."""
        maker = self.makers.get(name)
        places = {"Conv": 2, "Gemm": 2, "BatchNormalization": 2}
        if maker is None or maker.op_type not in (*places, "Add"):
            return None
        found = [n for n in (maker.input if maker.op_type == "Add" else maker.input[places[maker.op_type] :][:1]) if self.on(n)]
        found = [n for n in found if n in self.graph.tensors]
        return found[0] if len(found) == 1 and len(self.readers[found[0]]) == 1 else None

    def _behind(self, operator: str, node: NodeProto, kind: Kind | None) -> None:
        """What reads a reflected tensor gains a bias, or passes it on; else its signs are still."""
        group, top = self.reflected.get(node.input[0], ("", 0.0))
        alone = sum(bool(self.on(name)) for name in node.input) == 1
        moves = isinstance(kind, Movement) and operator != "Pad"
        if group and alone and (moves or operator in ("GlobalAveragePool", "ReduceMean")):
            self.reflected.update(dict.fromkeys(node.output, (group, top)))
            return
        shift = self._shift(operator, node, group, top) if group and node.input[0] not in node.input[1:] else None
        if shift is not None:
            self.shifts.setdefault(group, []).append(shift)
            return
        for name in node.input:
            if name in self.reflected:
                self._still(self.on(name), scale=False)

    def _shift(self, operator: str, node: NodeProto, group: str, top: float) -> Shift | None:
        """How a product that sums over reflected units makes up for it, None where it cannot."""
        if operator not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2 or node.input[1] not in self.graph.tensors:
            return None
        given, weight, bias = attributes(node), node.input[1], None
        if operator == "MatMul" and len(self.readers.get(node.output[0], [])) == 1:
            reader = self.readers[node.output[0]][0]
            others = [n for n in reader.input if n in self.graph.tensors] if reader.op_type == "Add" else []
            bias = others[0] if others else None
        elif len(node.input) > 2:
            bias = node.input[2]
        padded = any(given.get("pads", ())) or given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
        plain = not padded and given.get("group", 1) == 1 and given.get("alpha", 1.0) == given.get("beta", 1.0) == 1
        if bias is None or not plain or not all(len(self.readers[n]) == 1 for n in (weight, bias)):
            return None
        if (
            given.get("transA")
            or self.graph.array(weight).ndim < 2
            or (operator == "MatMul" and self.graph.array(weight).ndim > 2)
        ):
            return None
        axis = 1 if operator == "Conv" or given.get("transB") else 0
        if int(np.prod(self.graph.shape(bias))) != self.graph.shape(weight)[1 - axis] or bias not in self.graph.tensors:
            return None
        (own,) = [g for g in self.groups if g.id == group]
        slots = [s for s in own.slots if (s.initializer, s.axis) == (weight, axis) and not s.within]
        return Shift(slots[0], 1 - axis, bias, top) if len(slots) == 1 else None

    def _from_zero(self, node: NodeProto) -> bool:
        """Does it cut off what is below zero and nothing else?"""
        given, names = attributes(node), [*node.input, "", ""]
        low = self.graph.array(names[1]) if names[1] in self.graph.tensors else np.array(given.get("min", 1.0))
        return not low.any() and "max" not in given and not names[2]

    def _moved(self, node: NodeProto, kind: Movement) -> list[list[Role]]:
        if node.op_type == "Pad" and not self._padded_with_zeros(node):
            raise UnknownStructure("a padding that is not zero")
        found = []
        for sources, steps in kind.results:
            names = [node.input[i] for i in sources]
            shapes = [self.shape(n) for n in names]
            axis = kind.axis % max(len(shapes[0]), 1)
            roles = self._concat([self.on(n) for n in names], shapes, axis) if len(names) > 1 else self.on(names[0])
            shape = tuple(sum(s[axis] for s in shapes) if a == axis else n for a, n in enumerate(shapes[0]))
            for step in steps if roles else ():
                if isinstance(step, Take) and (step.index < 0).any() and any(a.shape[step.axis] > 1 for _, a in roles):
                    raise UnknownStructure("units beside a padding")
                roles = [(g, step_of(a, step, shape)) for g, a in roles]
                shape = moved_shape(shape, step)
            found.append(roles)
        return found

    def _padded_with_zeros(self, node: NodeProto) -> bool:
        if len(node.input) < 3 or not node.input[2]:
            return not attributes(node).get("value", 0.0)
        return self.zero(node.input[2])

    def _concat(self, entries: Sequence[list[Role]], shapes: Sequence[tuple[int, ...]], axis: int) -> list[Role]:
        found: list[Role] = []
        for group in dict.fromkeys(g for entry in entries for g, _ in entry):
            own = [[a for g, a in entry if g == group] for entry in entries]
            if any(len(o) > 1 for o in own):
                raise UnknownStructure("units along several axes")
            axes = {axis, *(a for o in own for x in o for a, n in enumerate(x.shape) if n > 1)}
            pieces = []
            for o, shape in zip(own, shapes, strict=True):
                dims = [n if a in axes else 1 for a, n in enumerate(shape)]
                pieces.append(np.broadcast_to(o[0], dims) if o else np.zeros(dims, np.int64))
            found.append((group, np.concatenate(pieces, axis)))
        return found

    def _equation(self, operator: str, node: NodeProto, kind: Equation) -> list[Role]:
        shapes = [self.shape(n) if n else None for n in node.input][: kind.text.partition("->")[0].count(",") + 1]
        how = plan(kind.text, tuple(None if s is None else len(s) for s in shapes))
        sizes = solve(how.sides, shapes, kind.sizes)
        solve_results(how.results, [self.shape(o) if o else None for o in node.output], sizes)
        names = tuple(sizes)
        gone = [names.index(n) for n in how.gone if sizes[n] > 1]
        entries: list[list[Role]] = []
        for name, side in zip(node.input, how.sides, strict=False):
            if any(a.size == 1 for _, a in self.on(name)):
                raise UnknownStructure("a single unit")
            entries.append([(g, lay(a, side, names, sizes)) for g, a in self.on(name)] if side else [])
            if self.weight(name):
                self._reads((g, a) for g, a in entries[-1] if any(a.shape[x] > 1 for x in gone))

        def summed(roles: Iterable[Role]) -> list[Role]:
            """What is left of factors when units are summed up: those of their own must be one."""
            roles = list(roles)
            lost = [any(a.shape[x] > 1 for x in gone) for _, a in roles]
            self._still(self._product(r for r, out in zip(roles, lost, strict=True) if out))
            return self._product(r for r, out in zip(roles, lost, strict=True) if not out)

        # units that meet otherwise than in a weighted sum
        weighed = {n for name, named in zip(node.input, how.named, strict=False) if name and self.weight(name) for n in named}
        cross = {n for n in how.over | how.gone if not (operator in PRODUCTS and n in weighed)}
        places = [names.index(n) for n in cross if sizes[n] > 1]
        self.crossed |= {g for entry in entries for g, a in entry if any(a.shape[x] > 1 for x in places)}
        first = entries[0]
        if operator in PRODUCTS:
            factors = len(entries) if operator == "Einsum" else 2
            made = summed(r for entry in entries[:factors] for r in entry)
            made = self._sum(made, list(node.input[factors:]), entries[factors:])
        elif operator in LINEAR:
            made = summed(first)
        elif operator in POSITIVE:
            self._still(first, scale=False)
            made = summed(first)
        elif operator == "BatchNormalization":
            made = self._batch_norm(node, entries)
        elif operator in NORMS:
            self._still(first)
            made = self._sum(entries[1], list(node.input[2:]), entries[2:])
        else:
            raise UnknownStructure("no rule for factors")
        result: list[Role] = []
        for g, a in made:
            laid = unlay(a, how.results[0], names, sizes)
            if laid is None:
                self._still([(g, a)])
            else:
                result.append((g, laid))
        return result

    def _recurrent(self, operator: str, node: NodeProto) -> list[list[Role]]:
        """A unit's sign passes its candidate's tanh, its state and its peepholes; its gates keep theirs."""
        given, names = attributes(node), [*node.input, *[""] * 8]
        usual = [b"Sigmoid"] * (operator != "RNN") + [b"Tanh"] * (1 if operator != "LSTM" else 2)
        chosen = [a.title() for a in given.get("activations", usual)]
        if given.get("layout") or chosen != usual * (len(chosen) // len(usual)):
            raise UnknownStructure("no rule for factors")
        gates = GATES[operator]
        # what the input's units bring is summed over
        self._still(self._product([*self._along(names[0], 2), *self._along(names[1], 2)]))
        parts = [self._parts(names[k], 1, gates) for k in (1, 2)]
        bias, peepholes = self._parts(names[3], 1, 2 * gates), self._parts(names[7], 1, 3)
        for part in (*(q for p in parts for q in p[:-1]), *bias[: gates - 1], *bias[gates:-1]):
            self._still(part)
        for name in names[1:3]:
            self._reads(self._along(name, 2))
        starts = [self.on(n) for n in names[5:7] if n and not self.zero(n)]
        own = [*(p[-1] for p in parts if p), *(bias[k * gates - 1] for k in (1, 2) if bias)]
        sides = [*own, *self._parts(names[2], 2, 1), *peepholes, *starts]
        for side in sides:
            self._still(side, sign=False)
        made = self._alike(sides) if sides else []
        return [[(g, np.expand_dims(a, 0)) for g, a in made], made, made][: len(node.output)]

    def _reads(self, roles: Iterable[Role]) -> None:
        """Weights that read units, and do not make them."""
        self.read.update(k for _, a in roles for n in np.unique(a >> UNIT_BITS).tolist() for k, _ in self.factors[n][0])

    def _along(self, name: str, axis: int) -> list[Role]:
        """The factors of a tensor along one of its axes."""
        return [(g, a) for g, a in self.on(name) if a.shape[axis] > 1]

    def _parts(self, name: str, axis: int, count: int) -> list[list[Role]]:
        """The factors of the parts of a recurrent weight along an axis, [directions, 1, hidden]."""
        if not name or self.zero(name):
            return []
        found = []
        for k in range(count):
            pieces = [(g, np.split(a, count, axis)[k]) for g, a in self._along(name, axis)]
            found.append([(g, a.reshape(a.shape[0], 1, -1)) for g, a in pieces])
        return found

    def _sum(self, made: list[Role], names: Sequence[str], entries: Sequence[list[Role]]) -> list[Role]:
        """The factors of a product to which weights are added."""
        added = [entry for name, entry in zip(names, entries, strict=False) if name and (entry or not self.zero(name))]
        return self._alike([made, *added]) if added else made

    def _batch_norm(self, node: NodeProto, entries: list[list[Role]]) -> list[Role]:
        x, gain, bias, mean, variance = entries
        self._sum(x, [node.input[3]], [mean])
        self._still(variance, scale=False)
        if variance:
            self.offsets[node.input[4]] = float(attributes(node).get("epsilon", 1e-5))
        made = self._product([*x, *gain, *self._to(self._sizes(variance), -0.5)])
        return self._sum(made, [node.input[2]], [bias])

    # ---- solutions

    def solved(self, group: Group) -> Scaling:
        """What is left to a group's slots."""
        own = [k for k, (g, _) in enumerate(self.unknowns) if g == group.id]
        mine = set(own)
        logs = Solutions(own, [row for row in self.logs if mine & row.keys()], 0)
        flips = Solutions(own, [dict.fromkeys(row, 1) for row in self.flips if mine & row], 2)
        columns: dict[tuple, list[int]] = {}
        for k in own:
            slot = self.unknowns[k][1]
            within = tuple((a, p.tobytes()) for a, p in slot.within)
            columns.setdefault((slot.initializer, slot.axis, within, logs.text(k), flips.text(k)), []).append(k)
        slots, rows = [], []
        for found in columns.values():
            parts = [self.unknowns[k][1] for k in found]
            slots.append(
                Slot(parts[0].initializer, parts[0].axis, np.concatenate([p.index for p in parts], 1), parts[0].within)
            )
            rows.append(found[0])
        scales = np.array([[logs.values[k].get(f, 0.0) for k in rows] for f in logs.free]).reshape(len(logs.free), len(rows))
        signs = np.array([[flips.values[k].get(f, 0.0) for k in rows] for f in flips.free]).reshape(len(flips.free), len(rows))
        offsets = np.array([self.offsets.get(s.initializer, 0.0) for s in slots])
        incoming = np.array([k not in self.read for k in rows], bool)
        shifts = tuple(self.shifts.get(group.id, ()))
        return Scaling(group.id, tuple(slots), scales, signs > 0, offsets, incoming, shifts, group.id in self.crossed)


def _unit(array: np.ndarray) -> np.ndarray:
    return array & ((1 << UNIT_BITS) - 1)


def _coded(numbers: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Numbers of factors with their units; 0 where the factor is one."""
    return np.where(numbers == 0, 0, (numbers << UNIT_BITS) | _unit(units))


def _times(a: Factor, b: Factor, power: float = 1) -> Factor:
    log = dict(a[0])
    for k, c in b[0]:
        log[k] = log.get(k, 0.0) + power * c
    return tuple(sorted((k, c) for k, c in log.items() if abs(c) > 1e-9)), a[1] ^ b[1]


def _along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])


def _region(slot: Slot, shape: Sequence[int]) -> list[np.ndarray]:
    """Where the units of a slot lie in an array that hangs on some axes of its weight."""
    axes = {**dict(slot.within), slot.axis: slot.index.ravel()}
    return [np.zeros(1, np.int64) if n == 1 else axes.get(a, np.arange(n)) for a, n in enumerate(shape)]
