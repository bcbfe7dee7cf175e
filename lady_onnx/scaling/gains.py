"""By how much the tensors of a graph change when some of its biases do: a proof that the outputs do not change at all.

What is added to a bias is followed through the graph. As long as it hangs on no input its values are known; behind a
product with something that does, it is known along which axes it may vary. It is gone where a softmax is over an axis
along which it does not vary, and where it meets another that takes it back. A mean with weights that sum to one passes it as it
is. Of every other operator nothing is known, and nothing passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto, TensorProto

from ..dataflow.equations import (
    SolvedEquation,
    lay_over_names,
    solve_equation,
    spread_shape,
    take_result_axes,
)
from ..dataflow.labels import find_varying_axes, lay_along
from ..dataflow.plainsteps import PlainSteps, is_plain
from ..dataflow.tensors import move_role, move_shape
from ..errors import UnknownStructure
from ..graph.nodes import read_attributes
from ..graph.types import FLOAT_TYPES
from ..rules import Body, Equation, Kind, Movement, Take
from ..rules.composed import SEQUENCES
from .bends import PRODUCTS

NEAR = 4e-6
"""What a bias takes back it takes back to the rounding of what went in."""
MAX_TAKEN_BACK = 30
"""It takes back no more than so many times itself."""
BODIES = ("Loop", "Scan", "SequenceMap", *SEQUENCES)
"""Operators with bodies, or of sequences, that nothing passes."""
PASSING = ("Cast", "CastLike", "Dropout", "Identity")
"""Operators whose result is their first operand, but for rounding."""
SOFTMAXES = ("LogSoftmax", "Softmax")
LOWEST: dict[int, float] = {
    TensorProto.BFLOAT16: float(np.finfo(np.float32).min),
    TensorProto.DOUBLE: float(np.finfo(np.float64).min),
    TensorProto.FLOAT: float(np.finfo(np.float32).min),
    TensorProto.FLOAT16: float(np.finfo(np.float16).min),
}
"""The lowest numbers of element types, and of one that has the range of another."""


@dataclass(frozen=True)
class Gain:
    """What is added to a tensor.

    Attributes:
        array: float64, of size one along the axes along which it does not vary: the values, or a number for every element
            that may have a value of its own.
        known: whether these are the values.
        size: how large the values that were summed up to it are; with it the rounding grows.
        most: how large a value it may take back.
    """

    array: np.ndarray
    known: bool = True
    size: float = 0.0
    most: float = np.inf

    def moved(self, array: np.ndarray) -> Gain:
        """The same at other places."""
        return replace(self, array=array)


def make_unknown(shape: Sequence[int]) -> Gain:
    """A gain of unknown values, that varies along all axes of `shape` that are longer than one."""
    return Gain(np.arange(np.prod(shape), dtype=np.float64).reshape(shape), known=False)


class Gains:
    """One walk over the steps of a graph. UnknownStructure where nothing is known of what a node does to a gain.

    Attributes:
        met: the weights to which a gain of known values was added.
    """

    def __init__(self, plain: PlainSteps, biases: Mapping[str, Gain]):
        self.plain = plain
        self.gains = {name: gain for name, gain in biases.items() if gain.array.any()}
        self.met: list[str] = []
        self.shares: dict[str, np.ndarray] = {}
        """By tensor, for those whose elements sum to one along an axis: the places along that axis."""
        self.done: set[str] = set()

    def vanish(self) -> bool:
        """Does no output of the graph change?"""
        try:
            for node, kind in self.plain.steps:
                if not isinstance(kind, Body) or is_plain(node, *BODIES):
                    self._step(node, kind)
        except UnknownStructure:
            return False
        return self.gains.keys().isdisjoint(o.name for o in self.plain.graph.model.graph.output)

    def _step(self, node: NodeProto, kind: Kind | None) -> None:
        if self.gains.keys().isdisjoint(node.input):
            found: list[Gain | None] = []
        elif kind is None or not is_plain(node, node.op_type):
            raise UnknownStructure("nothing is known of the operator")
        else:
            found = self._made(node, kind)
        shares = self._shares(node, kind)
        for k, name in enumerate(node.output):
            gain = found[k] if k < len(found) else None
            kept = gain if gain is not None and (gain.array.any() or not gain.known) else None
            share = shares[k] if k < len(shares) else None
            if name in self.done:
                # one branch or another makes it
                if kept is not None or name in self.gains:
                    raise UnknownStructure("a gain of one branch")
                self.shares.pop(name, None)
                continue
            self.done.add(name)
            if kept is not None:
                self.gains[name] = kept
            if share is not None:
                self.shares[name] = share

    def _shape(self, name: str) -> tuple[int, ...]:
        tensor = self.plain.tensors.get(name)
        if tensor is None and name not in self.plain.graph.tensors:
            raise UnknownStructure("an unknown shape")
        return self.plain.graph.shape(name) if tensor is None else tensor.shape

    # ---- what a node makes of a gain

    def _made(self, node: NodeProto, kind: Kind) -> list[Gain | None]:
        """The gains of a node's results, None for none."""
        gains = [self.gains.get(name) for name in node.input]
        if is_plain(node, "Shape", "Size"):
            return []
        if isinstance(kind, Movement):
            if any(
                gain and i not in sources
                for i, gain in enumerate(gains)
                for sources, _ in kind.results
            ):
                raise UnknownStructure("a place that changes")
            return [self._moved(node, kind, k) for k in range(len(kind.results))]
        if isinstance(kind, Equation):
            return [self._equation(node, kind, gains)]
        rank = len(self._shape(node.output[0]))
        wide = [
            g and g.moved(g.array.reshape((1,) * (rank - g.array.ndim) + g.array.shape))
            for g in gains
        ]
        return [self._elementwise(node, wide)]

    def _elementwise(self, node: NodeProto, gains: Sequence[Gain | None]) -> Gain | None:
        match node.op_type:
            case "Cast" | "CastLike" | "Dropout" | "Identity":
                return self._passed(node, gains)
            case "Neg":
                return _times(gains[0], -1)
            case "Add" | "Sum":
                return self._sum(node, gains)
            case "Sub":
                return self._sum(node, [gains[0], _times(gains[1], -1)])
            case "Mul" | "Div" if gains[0] and not gains[1]:
                return self._scaled(gains[0], node.input[1], node.op_type == "Div")
            case "Mul" if gains[1] and not gains[0]:
                return self._scaled(gains[1], node.input[0], False)
            case "Where" if not gains[0]:
                return self._chosen(node, gains)
        raise UnknownStructure("nothing is known of the operator")

    def _passed(self, node: NodeProto, gains: Sequence[Gain | None]) -> Gain | None:
        """What passes a copy; of fractions nothing is left in whole numbers."""
        if (
            gains[0]
            and node.op_type == "Cast"
            and read_attributes(node).get("to") not in FLOAT_TYPES
        ):
            raise UnknownStructure("whole numbers")
        if (
            gains[0]
            and node.op_type == "CastLike"
            and self.plain.kind_of(node.input[1]) not in FLOAT_TYPES
        ):
            raise UnknownStructure("whole numbers")
        return gains[0]

    def _scaled(self, gain: Gain, other: str, below: bool) -> Gain:
        """A gain times, or over, another tensor."""
        values = self.plain.known(other)
        if values is None or not gain.known:
            shape = () if values is not None and values.size == 1 else self._shape(other)
            return make_unknown(np.broadcast_shapes(gain.array.shape, shape))
        with np.errstate(all="ignore"):
            factor = 1 / values.astype(np.float64) if below else values.astype(np.float64)
            return _finite(
                gain.array * factor, most=gain.most * float(np.abs(factor).max(initial=0))
            )

    def _sum(self, node: NodeProto, gains: Sequence[Gain | None]) -> Gain | None:
        """A sum, in which one gain may take back another."""
        given = [g for g in gains if g is not None]
        if len(given) == 1 and given[0].known:
            self.met += [
                n
                for n, g in zip(node.input, gains, strict=True)
                if g is None and n in self.plain.graph.tensors
            ]
        return _added(given)

    def _chosen(self, node: NodeProto, gains: Sequence[Gain | None]) -> Gain | None:
        """A gain where the other arm is so low that nothing added to it shows: a mask in front of a softmax."""
        if bool(gains[1]) == bool(gains[2]):
            raise UnknownStructure("a gain in both arms")
        own, other = (1, 2) if gains[1] else (2, 1)
        values, kind = self.plain.known(node.input[other]), self.plain.kind_of(node.input[other])
        if values is None or kind not in FLOAT_TYPES or not (values <= LOWEST[kind] / 2).all():
            raise UnknownStructure("a gain at some places")
        return gains[own]

    # ---- movements

    def _moved(self, node: NodeProto, kind: Movement, result: int) -> Gain | None:
        """A gain at other places; in a concatenation others have none."""
        sources, steps = kind.results[result]
        names = [node.input[i] for i in sources]
        gains = [self.gains.get(n) for n in names]
        if not any(gains):
            return None
        shapes = [self._shape(n) for n in names]
        axis = kind.axis % max(len(shapes[0]), 1)
        gain = gains[0] if len(names) == 1 else _joined(gains, shapes, axis)
        assert gain is not None
        array = gain.array
        shape = tuple(
            sum(s[axis] for s in shapes) if a == axis else n for a, n in enumerate(shapes[0])
        )
        for step in steps:
            if isinstance(step, Take) and (step.index < 0).any():
                raise UnknownStructure("a padding beside a gain")
            array = move_role(array, step, shape)
            shape = move_shape(shape, step)
        return gain.moved(array)

    # ---- equations

    def _equation(
        self, node: NodeProto, kind: Equation, gains: Sequence[Gain | None]
    ) -> Gain | None:
        results = [self._shape(o) if o else None for o in node.output]
        solution = solve_equation(
            kind.text, [self._shape(n) if n else None for n in node.input], kind.sizes, results
        )
        how, names, sizes = solution.how, tuple(solution.sizes), solution.sizes
        if any(gains[len(how.sides) :]):
            raise UnknownStructure("a gain of an operand that the rule does not name")
        sides = zip(gains, how.sides, strict=False)
        laid = [g and g.moved(lay_over_names(g.array, side, names, sizes)) for g, side in sides]
        operator = node.op_type
        if operator in SOFTMAXES and laid[0]:
            places = [names.index(n) for n in how.over]
            if any(sizes[n] == 1 for n in how.over) or any(
                laid[0].array.shape[a] > 1 for a in places
            ):
                raise UnknownStructure("a gain of some scores")
            return None
        if operator in ("GlobalAveragePool", "ReduceMean") and laid[0]:
            return _mean(laid[0], solution)
        if operator not in PRODUCTS or (operator == "Einsum" and len(laid) != 2):
            raise UnknownStructure("nothing is known of the operator")
        if laid[0] and laid[1]:
            raise UnknownStructure("a gain of both factors")
        given = read_attributes(node) if operator == "Gemm" else {}
        addend = _over(laid[2], solution) if len(laid) > 2 and laid[2] else None
        made = None
        if laid[0] or laid[1]:
            made = _times(self._product(node, solution, laid), given.get("alpha", 1.0))
        return self._sum_of(node, made, _times(addend, given.get("beta", 1.0)))

    def _sum_of(self, node: NodeProto, made: Gain | None, addend: Gain | None) -> Gain | None:
        """What is left of a product's gain and that of the bias behind it."""
        if (
            made
            and made.known
            and addend is None
            and len(node.input) > 2
            and node.input[2] in self.plain.graph.tensors
        ):
            self.met.append(node.input[2])
        return _added([g for g in (made, addend) if g is not None])

    def _product(
        self, node: NodeProto, solution: SolvedEquation, laid: Sequence[Gain | None]
    ) -> Gain:
        """The gain of a product of which one factor has one."""
        own, other = (0, 1) if laid[0] else (1, 0)
        gain, name = laid[own], node.input[other]
        assert gain is not None
        how, names, sizes = solution.how, tuple(solution.sizes), solution.sizes
        varies = {names[a] for a in find_varying_axes(gain.array)}
        if varies.isdisjoint(how.gone) and self._is_share(node, other, solution):
            return _over(gain, solution)
        weight = self.plain.known(name)
        if (
            gain.known
            and weight is not None
            and _is_the_same_everywhere(node, own, varies, solution)
        ):
            return _weighed(
                gain,
                lay_over_names(weight.astype(np.float64), how.sides[other], names, sizes),
                solution,
            )
        row = spread_shape(self._shape(name), how.sides[other], names, sizes)
        varies |= {n for n, size in zip(names, row, strict=True) if size > 1}
        varies |= set(names) - set().union(*how.named)
        axes = zip(how.results[0], solution.shapes[0], strict=True)
        return make_unknown([1 if varies.isdisjoint(term.names) else n for term, n in axes])

    # ---- what sums to one

    def _is_share(self, node: NodeProto, operand: int, solution: SolvedEquation) -> bool:
        """Do the elements of an operand sum to one along all that a product sums over?"""
        share = self.shares.get(node.input[operand])
        if share is None or not is_plain(node, "Einsum", "Gemm", "MatMul"):
            return False
        names, sizes = tuple(solution.sizes), solution.sizes
        laid = lay_over_names(share, solution.how.sides[operand], names, sizes)
        return {names[a] for a in find_varying_axes(laid)} == {
            n for n in solution.how.gone if sizes[n] > 1
        }

    def _shares(self, node: NodeProto, kind: Kind | None) -> list[np.ndarray | None]:
        """For every result that sums to one along an axis, the places along it."""
        if kind is None or not is_plain(node, node.op_type):
            return []
        if node.op_type == "Softmax":
            assert isinstance(kind, Equation)
            shape = self._shape(node.output[0])
            terms = kind.text.partition("->")[0].split()
            over = [a for a, term in enumerate(terms) if term.startswith("{")]
            # of one place nothing tells whether it is one in general
            if len(over) != 1 or shape[over[0]] == 1:
                return []
            return [lay_along(np.arange(shape[over[0]]), over[0], len(shape))]
        share = self.shares.get(node.input[0]) if node.input else None
        if share is None:
            return []
        if node.op_type in PASSING:
            is_rounded = (
                node.op_type == "Cast" and read_attributes(node).get("to") not in FLOAT_TYPES
            )
            return [None if is_rounded else share]
        if not isinstance(kind, Movement) or len(kind.results) != 1 or len(kind.results[0][0]) != 1:
            return []
        shape, places = self._shape(node.input[0]), share
        for step in kind.results[0][1]:
            places, shape = move_role(places, step, shape), move_shape(shape, step)
        is_whole = len(find_varying_axes(places)) == 1 and np.array_equal(
            np.sort(places, axis=None), np.arange(share.size)
        )
        return [places if is_whole else None]


def _times(gain: Gain | None, factor: float) -> Gain | None:
    return (
        gain and replace(gain, array=gain.array * factor, size=gain.size * abs(factor))
        if factor != 1
        else gain
    )


def _finite(array: np.ndarray, size: float | None = None, most: float = np.inf) -> Gain:
    """A gain of known values."""
    if not np.isfinite(array).all():
        raise UnknownStructure("a gain that is not finite")
    return Gain(
        array, size=float(np.abs(array).max(initial=0)) if size is None else size, most=most
    )


def _weighed(gain: Gain, weight: np.ndarray, solution: SolvedEquation) -> Gain:
    """A gain that a weight sums up, both over the names of an equation; the gain is the same everywhere in a map."""
    names, sizes, how = tuple(solution.sizes), solution.sizes, solution.how
    kept = {n for term in how.results[0] for n in term.names}
    gone = tuple(a for a, n in enumerate(names) if n not in kept)
    terms = gain.array * weight
    # along a name that neither has in full the same is added as often as it is long
    often = np.prod(
        [sizes[names[a]] for a in gone if terms.shape[a] == 1 and names[a] in how.gone] or [1]
    )
    made = often * terms.sum(gone, keepdims=True)
    return _over(_finite(made, float(np.abs(terms).max(initial=0))), solution)


def _is_the_same_everywhere(
    node: NodeProto, own: int, varies: set[str], solution: SolvedEquation
) -> bool:
    """Does a gain of known values change a product alike at all places of a map?"""
    if not is_plain(node, "Conv"):
        return not is_plain(node, "ConvTranspose")
    given, places = read_attributes(node), solution.how.pinned - solution.how.named[1]
    is_padded = any(given.get("pads", ())) or given.get("auto_pad", b"NOTSET") not in (
        b"NOTSET",
        b"VALID",
    )
    return own == 0 and not is_padded and varies.isdisjoint(places)


def _added(gains: Sequence[Gain]) -> Gain | None:
    """The sum of gains; none where they take each other back, to rounding."""
    if len(gains) < 2:
        return gains[0] if gains else None
    if not all(g.known for g in gains):
        return make_unknown(np.broadcast_shapes(*(g.array.shape for g in gains)))
    total = np.sum(np.broadcast_arrays(*(g.array for g in gains)), 0)
    size = max(g.size for g in gains)
    if any(size > g.most for g in gains):
        raise UnknownStructure(
            "a step that is too large would hide in its rounding what else was done"
        )
    return None if np.abs(total).max(initial=0) <= NEAR * size else Gain(total, size=size)


def _joined(gains: Sequence[Gain | None], shapes: Sequence[tuple[int, ...]], axis: int) -> Gain:
    """The gain of tensors that stand one after the other."""
    given = [g for g in gains if g is not None]
    if not all(g.known for g in given):
        return make_unknown(
            [sum(s[axis] for s in shapes) if a == axis else n for a, n in enumerate(shapes[0])]
        )
    axes = {axis, *(a for g in given for a in find_varying_axes(g.array))}
    pieces = []
    for gain, shape in zip(gains, shapes, strict=True):
        dims = [n if a in axes else 1 for a, n in enumerate(shape)]
        pieces.append(np.zeros(dims) if gain is None else np.broadcast_to(gain.array, dims))
    return Gain(
        np.concatenate(pieces, axis),
        size=max(g.size for g in given),
        most=min(g.most for g in given),
    )


def _mean(gain: Gain, solution: SolvedEquation) -> Gain:
    """The mean of a gain over what an equation sums up."""
    names = tuple(solution.sizes)
    over = {
        *solution.how.gone,
        *(n for n in names if not any(n in t.names for t in solution.how.results[0])),
    }
    places = tuple(names.index(n) for n in over)
    if gain.known:
        return _over(gain.moved(gain.array.mean(places, keepdims=True)), solution)
    dims = [1 if a in places else n for a, n in enumerate(gain.array.shape)]
    return _over(make_unknown(dims), solution)


def _over(gain: Gain, solution: SolvedEquation) -> Gain:
    """A gain over the names of an equation, over the axes of its result."""
    laid = take_result_axes(
        gain.array, solution.how.results[0], tuple(solution.sizes), solution.sizes
    )
    if laid is None:
        raise UnknownStructure("a gain along an axis that the result has not")
    return gain.moved(laid)
