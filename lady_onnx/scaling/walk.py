"""By what the units of a group may be multiplied, slot by slot, without changing what the model computes.

Beside their order, units have a scale and a sign: a ReLU lets any positive factor pass, tanh a change of sign, and what
comes in larger may go out smaller. Every slot of a group has an unknown factor. One walk over the graph says by what
the elements of every tensor are multiplied, a product of powers of these; where what is added must be alike, where
units are summed up, or an operator lets nothing pass, there is an equation: a linear one for the logarithms, one over
two elements for the signs. The solutions are the factors that leave the model's function as it was.

Every factor that comes into a node is said to be one there, or is in what the node makes: of what no rule says where it
goes, nothing passes. Fused operators let pass what the plain ones do that they stand for.

Sources: Neyshabur et al. 2015 (ReLU); Ganju et al. 2018; arXiv 2205.00199 (scales and signs).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from onnx import NodeProto

from ..dataflow.engine import Analysis
from ..dataflow.equations import lay_over_names, solve_equation, take_result_axes
from ..dataflow.labels import find_varying_axes
from ..dataflow.plainsteps import PlainSteps, is_plain, list_plain_steps
from ..dataflow.tensors import move_role, move_shape
from ..errors import UnknownStructure
from ..graph.model import Graph
from ..graph.nodes import read_attributes
from ..graph.types import FLOAT_TYPES
from ..groups.model import Group, Slot
from ..groups.scaling import Scaling, locate_units
from ..rules import Body, Elementwise, Equation, Kind, Movement, Take
from ..rules.composed import SEQUENCES
from ..rules.recurrent import GATES
from .bends import LINEAR, PRODUCTS, SUMS, Bends
from .factors import FactorRole, Monomials, encode_factors
from .reflections import Reflections
from .solutions import LinearSystem

POSITIVE = (
    "GlobalLpPool",
    "GlobalMaxPool",
    "LpPool",
    "MaxPool",
    "ReduceL1",
    "ReduceL2",
    "ReduceMax",
    "ReduceMin",
)
"""A positive factor passes."""
RELUS = ("LeakyRelu", "Max", "Min", "Relu")
"""As sums, of positive factors alone."""
ODD = ("Asinh", "Atan", "Erf", "Sin", "Sinh", "Softsign", "Tan", "Tanh")
"""A sign passes."""
EVEN = ("Cos", "Cosh")
"""A sign is lost."""
FIRST = ("Cast", "CastLike", "Dropout")
"""What these say of their first operand they say of no other."""
NORMS = ("GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization")
"""The first operand is normalised: the gain and what is added to it have the result's factor."""
LOOPS = ("Attention", "Loop", "Scan", "SequenceMap", *SEQUENCES)
"""Operators with bodies, or of sequences, that no factor passes.

Attention lets some pass. The matching does not always tell them where units of two groups cross in one weight, and a copy
that is multiplied in a way that is not undone would be called altered.
"""
OPERANDS = {"Div": 2, "Mul": 2, "PRelu": 2, "Pow": 2, "Where": 3}
"""How many operands a rule for elements is about, where that is not one, nor all."""
MORE_RESULTS = ("Dropout", "LayerNormalization", "MaxPool")
"""Whatever factors pass, results after the first do not change."""


def find_scalings(graph: Graph, analysis: Analysis, groups: Sequence[Group]) -> dict[str, Scaling]:
    """By each group's id, of those that hold no others, the factors that its units may have."""
    walk = _Walk(list_plain_steps(graph, analysis), [g for g in groups if g.kind != "blocks"])
    walk.run()
    return {g.id: walk.solved(g) for g in walk.groups}


class _Walk:
    """One pass over what the label engine saw, collecting equations."""

    def __init__(self, plain: PlainSteps, groups: Sequence[Group]):
        self.plain = plain
        self.graph = plain.graph
        self.groups = groups
        self.products = Monomials()
        self.roles: dict[str, list[FactorRole]] = {}
        self.offsets: dict[str, float] = {}
        self.reflections = Reflections(plain, groups, self.roles, self.products, self.offsets)
        self.read: set[int] = set()
        """Unknowns of weights along axes that an operator sums over."""
        self.crossed: set[str] = set()
        self.zeros: set[str] = set()
        """Zeros that were moved or named anew."""
        self.bends = Bends(plain, self.roles, self.zero)
        self.unknowns: list[tuple[str, Slot]] = []
        for group in groups:
            for slot in group.slots:
                self._begin(group, slot)

    def _begin(self, group: Group, slot: Slot) -> None:
        """Gives every position of a unit in a slot an unknown factor."""
        axes = {slot.axis, *(a for a, _ in slot.within)}
        whole = self.graph.shape(slot.initializer)
        shape = [n if a in axes else 1 for a, n in enumerate(whole)]
        first = len(self.unknowns)
        self.unknowns += [
            (group.id, Slot(slot.initializer, slot.axis, c[:, None], slot.within))
            for c in slot.index.T
        ]
        numbers = np.array(
            [
                self.products.number((((k, 1.0),), frozenset({k})))
                for k in range(first, len(self.unknowns))
            ]
        )
        codes = encode_factors(
            np.tile(numbers, len(slot.index)), np.repeat(np.arange(len(slot.index)), len(numbers))
        )
        if self.graph.tensors[slot.initializer].data_type not in FLOAT_TYPES:
            # whole numbers cannot be multiplied by any factor
            self.products.still([(group.id, codes)])
        known = self.roles.setdefault(slot.initializer, [])
        array = np.zeros(shape, np.int64)
        array[np.ix_(*locate_units(slot, shape))] = _along(codes, slot.axis, len(shape))
        for i, (name, other) in enumerate(known):
            if (
                name == group.id
                and other.shape == array.shape
                and not ((other > 0) & (array > 0)).any()
            ):
                known[i] = name, other + array
                return
        known.append((group.id, array))

    def run(self) -> None:
        for node, kind in self.plain.steps:
            if isinstance(kind, Body) and not is_plain(node, *LOOPS):
                # what a function or a branch does its nodes do, under their own names
                continue
            if is_plain(node, "Shape", "Size"):
                # no value has any part in that
                continue
            self._step(node, kind)
        for value in self.graph.model.graph.output:
            self.products.still(self.on(value.name))
            self.bends.shown(value.name)

    def _step(self, node: NodeProto, kind: Kind | None) -> None:
        """Says by what the results of a node are multiplied."""
        moves = (isinstance(kind, Movement) and node.op_type != "Pad") or is_plain(node, "Identity")
        if moves and len(node.input) == 1 and self.zero(node.input[0]):
            self.zeros.update(node.output)
        try:
            made = self._node(node, kind)
            if made and any(node.output[len(made) :]):
                raise UnknownStructure("a result that no rule for factors names")
            self.bends.see(node, kind, made)
        except UnknownStructure:
            self.bends.bent |= {g for name in node.input for g, _ in self.on(name)}
            if not isinstance(kind, Equation | Elementwise) or node.op_type in SUMS:
                self.crossed |= {g for name in node.input for g, _ in self.on(name)}
            self.products.still(r for name in node.input for r in self.on(name))
            self._reads(
                r for name in node.input if name and self.weight(name) for r in self.on(name)
            )
            made = []
        for name, roles in zip(node.output, made or [[] for _ in node.output], strict=False):
            kept = [(g, a) for g, a in roles if a.any()]
            # a tensor that one or another branch makes
            self.roles[name] = (
                self.products.alike([self.roles[name], kept]) if name in self.roles else kept
            )

    def _number(self, name: str) -> float | None:
        """The one number of a weight."""
        array = self.plain.known(name)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def on(self, name: str) -> list[FactorRole]:
        return self.roles.get(name, [])

    def shape(self, name: str) -> tuple[int, ...]:
        tensor = self.plain.tensors.get(name)
        if tensor is None and name not in self.graph.tensors:
            raise UnknownStructure("an unknown shape")
        return self.graph.shape(name) if tensor is None else tensor.shape

    def weight(self, name: str) -> bool:
        """Is a tensor a weight, or one that was moved?"""
        tensor = self.plain.tensors.get(name)
        return name in self.graph.tensors or (tensor is not None and bool(tensor.parts))

    def zero(self, name: str) -> bool:
        """Is a tensor a weight of zeros, which no factor changes?"""
        array = self.plain.known(name)
        return name in self.zeros or (array is not None and not array.any())

    def _node(self, node: NodeProto, kind: Kind | None) -> list[list[FactorRole]]:
        """The factors of a node's results."""
        operator = node.op_type if is_plain(node, node.op_type) else ""
        if not any(self.on(name) for name in node.input):
            return []
        if any(name in self.reflections.reflected for name in node.input):
            self.reflections.behind(operator, node, kind)
        if not operator or kind is None:
            raise UnknownStructure("no rule for factors")
        if operator in GATES:
            return self._recurrent(operator, node)
        if isinstance(kind, Movement):
            return self._moved(node, kind)
        if isinstance(kind, Equation):
            return [self._equation(operator, node, kind), *self._more(node)]
        rank = len(self.shape(node.output[0]))
        entries = [
            [(g, a.reshape((1,) * (rank - a.ndim) + a.shape)) for g, a in self.on(n)]
            for n in node.input
        ]
        return [self._elementwise(operator, node, entries), *self._more(node)]

    def _more(self, node: NodeProto) -> list[list[FactorRole]]:
        """The factors of a node's further results, as far as they are known."""
        return [[] for _ in node.output[1:]] if node.op_type in MORE_RESULTS else []

    def _added(self, names: Sequence[str], sides: Sequence[list[FactorRole]]) -> list[FactorRole]:
        """The factors of a sum; a weight of zeros has any."""
        kept = [
            side
            for name, side in zip(names, sides, strict=True)
            if name and (side or not self.zero(name))
        ]
        return self.products.alike(kept) if kept else []

    def _elementwise(
        self, operator: str, node: NodeProto, entries: list[list[FactorRole]]
    ) -> list[FactorRole]:
        many = (
            len(entries)
            if operator in (*SUMS, *RELUS) and operator not in FIRST
            else OPERANDS.get(operator, 1)
        )
        if operator != "CastLike":
            self.products.still(r for entry in entries[many:] for r in entry)
        names, entries = list(node.input[:many]), entries[:many]
        first = entries[0]
        if first and operator in ("Cast", "CastLike") and not self._is_cast_to_floats(node):
            raise UnknownStructure("whole numbers")
        if operator in SUMS:
            return self._added(names, entries)
        reflected = self.reflections.made(operator, node, first)
        if reflected is not None:
            return reflected
        if operator in RELUS or (operator == "Clip" and self._from_zero(node)):
            self.products.still((r for entry in entries for r in entry), scale=False)
            return self._added(names, entries)
        if operator in ODD:
            self.products.still(first, sign=False)
            return self.products.signs(first)
        if operator in EVEN:
            self.products.still(first, sign=False)
            return []
        match operator:
            case "Mul":
                return self.products.product(r for entry in entries for r in entry)
            case "Div":
                return self.products.product([*first, *self.products.power(entries[1], -1)])
            case "Reciprocal":
                return self.products.power(first, -1)
            case "Sqrt":
                return self.products.power(first, 0.5)
            case "Abs":
                return self.products.sizes(first)
            case "Sign":
                return self.products.signs(first)
            case "Pow":
                power = self._number(names[1])
                if power is not None and not entries[1]:
                    return self.products.power(first, power)
            case "PRelu":
                self.products.still(first, scale=False)
                self.products.still(entries[1])
                return first
            case "Where":
                self.products.still(entries[0])
                return self._added(names[1:], entries[1:])
        raise UnknownStructure("no rule for factors")

    def _is_cast_to_floats(self, node: NodeProto) -> bool:
        """Has the result of a cast fractions?"""
        kind = (
            read_attributes(node).get("to")
            if node.op_type == "Cast"
            else self.plain.kind_of(node.input[1])
        )
        return kind in FLOAT_TYPES

    def _from_zero(self, node: NodeProto) -> bool:
        """Does it cut off what is below zero and nothing else?"""
        given, names = read_attributes(node), [*node.input, "", ""]
        low = self.plain.known(names[1]) if names[1] else np.array(given.get("min", 1.0))
        return low is not None and not low.any() and "max" not in given and not names[2]

    def _moved(self, node: NodeProto, kind: Movement) -> list[list[FactorRole]]:
        if node.op_type == "Pad" and not self._padded_with_zeros(node):
            raise UnknownStructure("a padding that is not zero")
        found = []
        moved = {i for sources, _ in kind.results for i in sources}
        self.products.still(
            r for i, name in enumerate(node.input) if i not in moved for r in self.on(name)
        )
        for sources, steps in kind.results:
            names = [node.input[i] for i in sources]
            shapes = [self.shape(n) for n in names]
            axis = kind.axis % max(len(shapes[0]), 1)
            roles = (
                self._concat([self.on(n) for n in names], shapes, axis)
                if len(names) > 1
                else self.on(names[0])
            )
            shape = tuple(
                sum(s[axis] for s in shapes) if a == axis else n for a, n in enumerate(shapes[0])
            )
            for step in steps if roles else ():
                if (
                    isinstance(step, Take)
                    and (step.index < 0).any()
                    and any(a.shape[step.axis] > 1 for _, a in roles)
                ):
                    raise UnknownStructure("units beside a padding")
                roles = [(g, move_role(a, step, shape)) for g, a in roles]
                shape = move_shape(shape, step)
            found.append(roles)
        return found

    def _padded_with_zeros(self, node: NodeProto) -> bool:
        if len(node.input) < 3 or not node.input[2]:
            return not read_attributes(node).get("value", 0.0)
        return self.zero(node.input[2])

    def _concat(
        self, entries: Sequence[list[FactorRole]], shapes: Sequence[tuple[int, ...]], axis: int
    ) -> list[FactorRole]:
        found: list[FactorRole] = []
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

    def _equation(self, operator: str, node: NodeProto, kind: Equation) -> list[FactorRole]:
        shapes = [self.shape(n) if n else None for n in node.input]
        solution = solve_equation(
            kind.text, shapes, kind.sizes, [self.shape(o) if o else None for o in node.output]
        )
        how, sizes = solution.how, solution.sizes
        names = tuple(sizes)
        gone = [names.index(n) for n in how.gone if sizes[n] > 1]
        entries: list[list[FactorRole]] = []
        self.products.still(r for name in node.input[len(how.sides) :] for r in self.on(name))
        for name, side in zip(node.input, how.sides, strict=False):
            if any(a.size == 1 for _, a in self.on(name)):
                raise UnknownStructure("a single unit")
            entries.append(
                [(g, lay_over_names(a, side, names, sizes)) for g, a in self.on(name)]
                if side
                else []
            )
            if self.weight(name):
                self._reads((g, a) for g, a in entries[-1] if any(a.shape[x] > 1 for x in gone))

        def summed(roles: Iterable[FactorRole]) -> list[FactorRole]:
            """What is left of factors when units are summed up: those of their own must be one."""
            roles = list(roles)
            lost = [any(a.shape[x] > 1 for x in gone) for _, a in roles]
            self.products.still(
                self.products.product(r for r, out in zip(roles, lost, strict=True) if out)
            )
            return self.products.product(r for r, out in zip(roles, lost, strict=True) if not out)

        # units that meet otherwise than in a weighted sum
        weighed = {
            n
            for name, named in zip(node.input, how.named, strict=False)
            if name and self.weight(name)
            for n in named
        }
        cross = {n for n in how.over | how.gone if not (operator in PRODUCTS and n in weighed)}
        places = [names.index(n) for n in cross if sizes[n] > 1]
        self.crossed |= {
            g for entry in entries for g, a in entry if any(a.shape[x] > 1 for x in places)
        }
        first = entries[0]
        if operator in PRODUCTS:
            factors = len(entries) if operator == "Einsum" else 2
            made = summed(r for entry in entries[:factors] for r in entry)
            made = self._sum(made, list(node.input[factors:]), entries[factors:])
        elif operator in LINEAR:
            made = summed(first)
        elif operator in POSITIVE:
            self.products.still(first, scale=False)
            made = summed(first)
        elif operator == "BatchNormalization":
            made = self._batch_norm(node, entries)
        elif operator in NORMS:
            alone = operator == "RMSNormalization"
            self.products.still(first, sign=not alone)
            first = self.products.signs(first) if alone else first
            made = self._sum(
                self.products.product([*first, *entries[1]]), list(node.input[2:]), entries[2:]
            )
        else:
            raise UnknownStructure("no rule for factors")
        result: list[FactorRole] = []
        for g, a in made:
            laid = take_result_axes(a, how.results[0], names, sizes)
            if laid is None:
                self.products.still([(g, a)])
            else:
                result.append((g, laid))
        return result

    def _recurrent(self, operator: str, node: NodeProto) -> list[list[FactorRole]]:
        """A unit's sign passes its candidate's tanh, its state and its peepholes; its gates keep theirs."""
        given, names = read_attributes(node), [*node.input, *[""] * 8]
        usual = [b"Sigmoid"] * (operator != "RNN") + [b"Tanh"] * (1 if operator != "LSTM" else 2)
        chosen = [a.title() for a in given.get("activations", usual)]
        if given.get("layout") or chosen != usual * (len(chosen) // len(usual)):
            raise UnknownStructure("no rule for factors")
        gates = GATES[operator]
        (features,) = self._by_axis(names[0], (2,), None)
        (made, read), (fed, back) = (self._by_axis(n, (1, 2)) for n in names[1:3])
        (bias,), (peepholes,) = (self._by_axis(names[k], (1,)) for k in (3, 7))
        starts = [self._by_axis(n, (2,))[0] for n in names[5:7] if n and not self.zero(n)]
        self._by_axis(names[4], ())
        # what the input's units bring is summed over
        self.products.still(self.products.product([*features, *read]))
        self._reads([*read, *back])
        parts = [self._parts(n, roles, gates) for n, roles in ((names[1], made), (names[2], fed))]
        biases = self._parts(names[3], bias, 2 * gates)
        for part in (*(q for p in parts for q in p[:-1]), *biases[: gates - 1], *biases[gates:-1]):
            self.products.still(part)
        own = [*(p[-1] for p in parts if p), *(biases[k * gates - 1] for k in (1, 2) if biases)]
        sides = [
            *own,
            *self._parts(names[2], back, 1),
            *self._parts(names[7], peepholes, 3),
            *starts,
        ]
        for side in sides:
            self.products.still(side, sign=False)
        result = self.products.alike(sides) if sides else []
        return [[(g, np.expand_dims(a, 0)) for g, a in result], result, result][: len(node.output)]

    def _by_axis(
        self, name: str, axes: Sequence[int], beside: int | None = 0
    ) -> list[list[FactorRole]]:
        """The factors of an operand of a cell along each of some axes, for each place along `beside`; others are one."""
        found: list[list[FactorRole]] = [[] for _ in axes]
        for role in self.on(name):
            own = [
                k for k, a in enumerate(axes) if set(find_varying_axes(role[1])) - {beside} == {a}
            ]
            if own:
                found[own[0]].append(role)
            else:
                self.products.still([role])
        return found

    def _reads(self, roles: Iterable[FactorRole]) -> None:
        """Weights that read units, and do not make them."""
        self.read.update(k for _, a in roles for k in self.products.unknowns(a))

    def _parts(self, name: str, roles: Sequence[FactorRole], count: int) -> list[list[FactorRole]]:
        """The factors of the parts of a cell's weight, given along one axis, as [directions, 1, hidden]."""
        if not name or self.zero(name):
            return []
        found: list[list[FactorRole]] = [[] for _ in range(count)]
        for group, array in roles:
            flat = array.reshape(array.shape[0], 1, -1)
            for part, piece in zip(found, np.split(flat, count, 2), strict=True):
                part.append((group, piece))
        return found

    def _sum(
        self, made: list[FactorRole], names: Sequence[str], entries: Sequence[list[FactorRole]]
    ) -> list[FactorRole]:
        """The factors of a product to which weights are added."""
        added = [
            entry
            for name, entry in zip(names, entries, strict=False)
            if name and (entry or not self.zero(name))
        ]
        return self.products.alike([made, *added]) if added else made

    def _batch_norm(self, node: NodeProto, entries: list[list[FactorRole]]) -> list[FactorRole]:
        x, gain, bias, mean, variance = entries
        self._sum(x, [node.input[3]], [mean])
        epsilon = float(read_attributes(node).get("epsilon", 1e-5))
        # a factor is one of the variance with its epsilon, which only such a node adds
        self.products.still(variance, scale=not self._is_variance(node.input[4], epsilon))
        if variance:
            self.offsets[node.input[4]] = epsilon
        made = self.products.product(
            [*x, *gain, *self.products.power(self.products.sizes(variance), -0.5)]
        )
        return self._sum(made, [node.input[2]], [bias])

    def _is_variance(self, name: str, epsilon: float) -> bool:
        """Is a weight nothing but a variance, to which the same number is added everywhere?"""
        return name in self.graph.tensors and all(
            is_plain(reader, "BatchNormalization")
            and name not in reader.input[:4]
            and float(read_attributes(reader).get("epsilon", 1e-5)) == epsilon
            for reader in self.reflections.readers[name]
        )

    def solved(self, group: Group) -> Scaling:
        """What is left to a group's slots."""
        own = [k for k, (g, _) in enumerate(self.unknowns) if g == group.id]
        mine = set(own)
        logs = LinearSystem(own, [row for row in self.products.logs if mine & row.keys()], 0)
        flips = LinearSystem(
            own, [dict.fromkeys(row, 1) for row in self.products.flips if mine & row], 2
        )
        columns: dict[tuple, list[int]] = {}
        for k in own:
            slot = self.unknowns[k][1]
            within = tuple((a, p.tobytes()) for a, p in slot.within)
            columns.setdefault(
                (slot.initializer, slot.axis, within, logs.text(k), flips.text(k)), []
            ).append(k)
        slots, rows = [], []
        for found in columns.values():
            parts = [self.unknowns[k][1] for k in found]
            slots.append(
                Slot(
                    parts[0].initializer,
                    parts[0].axis,
                    np.concatenate([p.index for p in parts], 1),
                    parts[0].within,
                )
            )
            rows.append(found[0])
        scales = np.array([[logs.values[k].get(f, 0.0) for k in rows] for f in logs.free]).reshape(
            len(logs.free), len(rows)
        )
        signs = np.array([[flips.values[k].get(f, 0.0) for k in rows] for f in flips.free]).reshape(
            len(flips.free), len(rows)
        )
        offsets = np.array([self.offsets.get(s.initializer, 0.0) for s in slots])
        incoming = np.array([k not in self.read for k in rows], bool)
        shifts = tuple(self.reflections.shifts.get(group.id, ()))
        return Scaling(
            group.id,
            tuple(slots),
            scales,
            signs > 0,
            offsets,
            incoming,
            shifts,
            group.id in self.crossed,
            group.id not in self.bends.bent,
            group.id in self.bends.turned,
        )


def _along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])
