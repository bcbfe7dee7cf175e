"""A graph that grows one legal node at a time together with the groups that it must have.

The expected groups come from a model of its own: units in a union-find, and for every unit the
weights that it occurs in. Two free units with the same weights are interchangeable.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
SIZE = 4
"""Height and width of all feature maps."""
ACTIVATIONS = ("Relu", "Sigmoid", "Tanh", "HardSwish", "Elu", "Softplus", "Abs", "Neg", "Identity")


@dataclass
class Grown:
    """A graph under construction: tensors [1, C, SIZE, SIZE] by name, and each channel's unit."""

    rng: np.random.Generator
    opset: int = OPSET
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    maps: dict[str, list[int]] = field(default_factory=dict)
    above: list[int] = field(default_factory=list)
    slots: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    pinned: set[int] = field(default_factory=set)
    inner: list[int] = field(default_factory=list)
    """Sizes of the groups that lie inside units or hold groups, added in closed form."""
    constants: int = 0
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    functions: list[onnx.FunctionProto] = field(default_factory=list)
    """What splices need beside `x` and the heads."""

    # ---- the model of the expected groups

    def units(self, count: int) -> list[int]:
        first = len(self.above)
        self.above += range(first, first + count)
        return list(range(first, first + count))

    def find(self, unit: int) -> int:
        while self.above[unit] != unit:
            unit = self.above[unit]
        return unit

    def tie(self, a: list[int], b: list[int]) -> None:
        for x, y in zip(a, b, strict=True):
            self.above[self.find(x)] = self.find(y)

    def expected(self) -> list[int]:
        """The sizes of all groups of two units or more, sorted."""
        merged: dict[int, Counter[str]] = defaultdict(Counter)
        for unit, slots in self.slots.items():
            merged[self.find(unit)].update(slots)
        pinned = {self.find(u) for u in self.pinned}
        alike = Counter(
            frozenset(slots.items()) for unit, slots in merged.items() if unit not in pinned
        )
        return sorted([n for n in [*alike.values(), *self.inner] if n > 1])

    # ---- nodes

    def weight(
        self,
        shape: tuple[int, ...],
        *axes: tuple[int, list[int]],
        spread: float = 1.0,
        base: float = 0.0,
    ) -> str:
        """A random weight; `axes` says which units lie along which axes."""
        name = f"w{len(self.weights)}"
        values = (base + spread * self.rng.standard_normal(shape)).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        for axis, units in axes:
            assert shape[axis] == len(units)
            for unit in units:
                self.slots[unit][f"{name}:{axis}"] += 1
        return name

    def constant(self, values: list[int]) -> str:
        self.constants += 1
        name = f"c{self.constants}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def node(self, op: str, inputs: list[str], outputs: int = 1, **attributes: object) -> list[str]:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def conv(self, x: str, count: int, kernel: int = 1, bias: bool = True) -> str:
        source, out = self.maps[x], self.units(count)
        shape = (count, len(source), kernel, kernel)
        inputs = [
            x,
            self.weight(shape, (0, out), (1, source), spread=(len(source) * kernel**2) ** -0.5),
        ]
        if bias:
            inputs.append(self.weight((count,), (0, out)))
        y = self.node("Conv", inputs, pads=[kernel // 2] * 4)[0]
        self.maps[y] = out
        return y

    def depthwise(self, x: str) -> str:
        units = self.maps[x]
        inputs = [x, self.weight((len(units), 1, 3, 3), (0, units), spread=0.4)]
        y = self.node("Conv", inputs, group=len(units), pads=[1] * 4)[0]
        self.maps[y] = units
        return y

    def grouped(self, x: str, groups: int, out: int) -> str:
        """Two convolutions around a grouped one, so that its groups and their insides are free."""
        inside = 3
        first = self.conv(x, groups * inside)
        # its groups have an order, and in each its inputs and outputs have orders of their own
        self.drop(self.maps[first])
        w = self.weight((groups * out, inside, 1, 1), spread=0.6)
        y = self.node("Conv", [first, w], group=groups)[0]
        units = self.units(groups * out)
        self.maps[y] = units
        last = self.conv(y, 4)
        self.drop(units)
        self.inner += [groups, *[inside] * groups, *[out] * groups]
        return last

    def drop(self, units: list[int]) -> None:
        """Takes units out of the model; their groups are added in closed form."""
        self.pinned.update(units)

    def norm(self, x: str) -> str:
        units = self.maps[x]
        four = [self.weight((len(units),), (0, units), spread=0.2, base=1.0) for _ in range(4)]
        self.weights[-1].CopyFrom(
            numpy_helper.from_array(
                np.abs(numpy_helper.to_array(self.weights[-1])) + 0.1, self.weights[-1].name
            )
        )
        y = self.node("BatchNormalization", [x, *four])[0]
        self.maps[y] = units
        return y

    def unary(self, op: str, x: str) -> str:
        y = self.node(op, [x])[0]
        self.maps[y] = self.maps[x]
        return y

    def scaled(self, op: str, x: str) -> str:
        units = self.maps[x]
        y = self.node(op, [x, self.weight((1, len(units), 1, 1), (1, units))])[0]
        self.maps[y] = units
        return y

    def combine(self, op: str, a: str, b: str) -> str:
        self.tie(self.maps[a], self.maps[b])
        y = self.node(op, [a, b])[0]
        self.maps[y] = self.maps[a]
        return y

    def concat(self, a: str, b: str) -> str:
        y = self.node("Concat", [a, b], axis=1)[0]
        self.maps[y] = self.maps[a] + self.maps[b]
        return y

    def split(self, x: str, at: int) -> tuple[str, str]:
        units = self.maps[x]
        a, b = self.node("Split", [x, self.constant([at, len(units) - at])], 2, axis=1)
        self.maps[a], self.maps[b] = units[:at], units[at:]
        return a, b

    def part(self, x: str, at: int, ways: tuple[str, str]) -> str:
        """Something is done to the first units, and something else to the others.

        Only those that share it are alike.
        """
        parts = []
        for piece, way in zip(self.split(x, at), ways, strict=True):
            units = self.maps[piece]
            # what a unit is taken from counts as one that it has to itself
            alone = f"{piece} {way}" if way == "mean" else f"{x} {way}"
            for unit in units:
                self.slots[unit][alone] += way != "Identity"
            match way:
                case "flip":
                    ends = [self.constant(v) for v in ([-1], [-SIZE - 1], [3], [-1])]
                    y = self.node("Slice", [piece, *ends])[0]
                case "shift":
                    ends = (
                        [self.constant([v]) for v in span] for span in ((1, SIZE, 2), (0, 1, 2))
                    )
                    y = self.node(
                        "Concat", [self.node("Slice", [piece, *e])[0] for e in ends], axis=2
                    )[0]
                case "Transpose":
                    y = self.node(way, [piece], perm=[0, 1, 3, 2])[0]
                case "column":
                    y = self.node(
                        "Mul", [piece, self.node("Gather", ["x", self.constant([1])], axis=1)[0]]
                    )[0]
                case "mean":
                    # newer operator sets have the axes as an operand
                    given = {"axes": [1]} if self.opset < 18 else {}
                    names = [piece] if given else [piece, self.constant([1])]
                    y = self.node("Sub", [piece, self.node("ReduceMean", names, **given)[0]])[0]
                case "MaxPool":
                    y = self.node(way, [piece], kernel_shape=[3, 3], pads=[1] * 4)[0]
                case _:
                    y = self.node(way, [piece])[0]
            self.maps[y] = units
            parts.append(y)
        return self.concat(*parts)

    def gate(self, x: str) -> str:
        """Squeeze and excite: the gate ties to the channels that it scales."""
        units = self.maps[x]
        pooled = self.node("GlobalAveragePool", [x])[0]
        self.maps[pooled] = units
        opened = self.conv(self.unary("Relu", self.conv(pooled, 3)), len(units))
        return self.combine("Mul", x, self.unary("Sigmoid", opened))

    def pool(self, op: str, x: str) -> str:
        y = self.node(op, [x], kernel_shape=[3, 3], pads=[1] * 4)[0]
        self.maps[y] = self.maps[x]
        return y

    def softmax(self, x: str) -> str:
        y = self.node("Softmax", [x], axis=1)[0]
        self.maps[y] = self.maps[x]
        return y

    def there_and_back(self, x: str) -> str:
        """Through the channels-last layout, with a LayerNorm over the channels there."""
        units = self.maps[x]
        last = self.node("Transpose", [x], perm=[0, 2, 3, 1])[0]
        flat = self.node("Reshape", [last, self.constant([1, SIZE * SIZE, len(units)])])[0]
        scale = self.weight((len(units),), (0, units), base=1.0, spread=0.2)
        shift = self.weight((len(units),), (0, units))
        normed = self.node("LayerNormalization", [flat, scale, shift], axis=-1)[0]
        back = self.node("Reshape", [normed, self.constant([1, SIZE, SIZE, len(units)])])[0]
        y = self.node("Transpose", [back], perm=[0, 3, 1, 2])[0]
        self.maps[y] = units
        return y

    def attention(self, x: str, heads: int, width: int) -> str:
        """Self-attention over positions with a residual.

        Heads have an order, and in each the query-key dimensions and the values have theirs.
        """
        units = self.maps[x]
        c = len(units)
        flat = self.node("Reshape", [x, self.constant([c, SIZE * SIZE])])[0]
        tokens = self.node("Transpose", [flat], perm=[1, 0])[0]
        parts = []
        for _ in range(3):
            p = self.node(
                "MatMul", [tokens, self.weight((c, heads * width), (0, units), spread=c**-0.5)]
            )[0]
            p = self.node("Reshape", [p, self.constant([SIZE * SIZE, heads, width])])[0]
            parts.append(p)
        q = self.node("Transpose", [parts[0]], perm=[1, 0, 2])[0]
        k = self.node("Transpose", [parts[1]], perm=[1, 2, 0])[0]
        v = self.node("Transpose", [parts[2]], perm=[1, 0, 2])[0]
        scores = self.node("Softmax", [self.node("MatMul", [q, k])[0]], axis=-1)[0]
        mixed = self.node("Transpose", [self.node("MatMul", [scores, v])[0]], perm=[1, 0, 2])[0]
        joined = self.node("Reshape", [mixed, self.constant([SIZE * SIZE, heads * width])])[0]
        out = self.node(
            "MatMul",
            [joined, self.weight((heads * width, c), (1, units), spread=(heads * width) ** -0.5)],
        )[0]
        back = self.node(
            "Reshape",
            [self.node("Transpose", [out], perm=[1, 0])[0], self.constant([1, c, SIZE, SIZE])],
        )[0]
        self.maps[back] = units
        self.inner += [heads, *[width] * (2 * heads)]
        return self.combine("Add", x, back)

    def shuffled_pixels(self, x: str) -> str:
        """DepthToSpace: four channels that lie together become one, and keep their places in it."""
        c = 3
        wide = self.conv(x, 4 * c)
        y = self.node("DepthToSpace", [wide], blocksize=2, mode="CRD")[0]
        # [1, c, 2 SIZE, 2 SIZE]; the four sub-pixels of a channel move with it
        self.drop(self.maps[wide])
        out = self.units(c)
        self.maps[y] = out
        last = self.conv(y, 5, kernel=1)
        self.drop(out)
        self.inner.append(c)
        small = self.node("AveragePool", [last], kernel_shape=[2, 2], strides=[2, 2])[0]
        self.maps[small] = self.maps[last]
        return small

    def head(self, x: str, flat: bool) -> str:
        """A classifier: pooled, or flattened with every channel a run of positions."""
        units = self.maps[x]
        if flat:
            source = self.node("Flatten", [x])[0]
            rows = [u for u in units for _ in range(SIZE * SIZE)]
        else:
            source = self.node("Flatten", [self.node("GlobalAveragePool", [x])[0]])[0]
            rows = units
        return self.node(
            "Gemm", [source, self.weight((len(rows), 3), (0, rows)), self.weight((3,))]
        )[0]

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
        results = [
            helper.make_tensor_value_info(o, TensorProto.FLOAT, None)
            for o in [*outputs, *self.outputs]
        ]
        graph = helper.make_graph(self.nodes, "grown", [image, *self.inputs], results, self.weights)
        domains = sorted(
            {f.domain for f in self.functions} | {n.domain for n in self.nodes if n.domain}
        )
        opsets = [
            helper.make_opsetid("", self.opset),
            *(helper.make_opsetid(d, 1) for d in domains),
        ]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=11 if self.opset > OPSET else 8
        )
        model.functions.extend(self.functions)
        return model
