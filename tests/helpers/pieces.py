"""Graphs whose channels are cut into pieces, with the groups that they must have."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
from onnx import numpy_helper

from .grown import SIZE, Grown


class Pieces(Grown):
    """Channels cut into pieces and put together again, once and more.

    Something else is done to each piece.
    """

    def piece(self, x: str, start: int, stop: int, pick: np.random.Generator) -> str:
        if pick.random() < 0.5:
            return self.node("Slice", [x, *(self.constant([v]) for v in (start, stop, 1))])[0]
        order = (
            pick.permutation(np.arange(start, stop))
            if pick.random() < 0.5
            else np.arange(start, stop)
        )
        return self.node("Gather", [x, self.constant(order.tolist())], axis=1)[0]

    def number(self, value: float) -> str:
        self.constants += 1
        self.weights.append(
            numpy_helper.from_array(np.array(value, np.float32), f"c{self.constants}")
        )
        return f"c{self.constants}"

    def done(self, x: str, count: int, way: str, pick: np.random.Generator) -> str:
        axis = int(pick.integers(1, 4))
        match way:
            case "Relu" | "Tanh" | "Neg" | "Identity":
                return self.node(way, [x])[0]
            case "MaxPool" | "AveragePool":
                return self.node(way, [x], kernel_shape=[3, 3], pads=[1] * 4)[0]
            case "Softmax":
                return self.node(way, [x], axis=axis)[0]
            case "ReduceMean" | "ReduceMax" | "ReduceL2":
                return self.node(
                    "Sub",
                    [x, self.node(way, [x], axes=sorted({axis, int(pick.integers(1, 4))}))[0]],
                )[0]
            case "flip":
                ends = (self.constant([v]) for v in (-1, -SIZE - 1, max(axis, 2), -1))
                return self.node("Slice", [x, *ends])[0]
            case "Transpose":
                return self.node(way, [x], perm=[0, 1, 3, 2])[0]
            case "shift":
                ends = ([self.constant([v]) for v in span] for span in ((1, SIZE, 2), (0, 1, 2)))
                return self.node("Concat", [self.node("Slice", [x, *e])[0] for e in ends], axis=2)[
                    0
                ]
            case "pad":
                cut = self.node("Slice", [x, *(self.constant([v]) for v in (1, SIZE, 3))])[0]
                return self.node(
                    "Pad",
                    [cut, self.constant([0, 0, 0, 1, 0, 0, 0, 0] if axis == 1 else [0] * 7 + [1])],
                )[0]
            case "MatMul":
                return self.node(way, [x, self.weight((SIZE, SIZE))])[0]
            case "Mul":
                return self.node(way, [x, self.number(float(pick.choice([0.5, 2.0])))])[0]
            case "column":
                return self.node(
                    "Mul",
                    [
                        x,
                        self.node("Gather", ["x", self.constant([int(pick.integers(3))])], axis=1)[
                            0
                        ],
                    ],
                )[0]
            case "InstanceNormalization":
                scales = [
                    self.weight((count,), base=1.0, spread=0.0),
                    self.weight((count,), spread=0.0),
                ]
                return self.node(way, [x, *scales])[0]
            case "LRN":
                return self.node(way, [x], size=3, alpha=0.5, beta=0.75)[0]
            case "depthwise":
                return self.node(
                    "Conv", [x, self.weight((count, 1, 3, 3))], pads=[1] * 4, group=count
                )[0]
        raise AssertionError(way)


DONE = (
    "Relu",
    "Tanh",
    "Neg",
    "Identity",
    "MaxPool",
    "AveragePool",
    "Softmax",
    "ReduceMean",
    "ReduceMax",
    "ReduceL2",
) + (
    *(
        "flip",
        "Transpose",
        "shift",
        "pad",
        "MatMul",
        "Mul",
        "column",
        "InstanceNormalization",
        "LRN",
        "depthwise",
    ),
)


CENTRING = ("ReduceMean", "InstanceNormalization")
"""What leaves maps whose mean is zero."""


def pieces(seed: int) -> onnx.ModelProto:
    """A random graph of pieces; nothing is said of its groups."""
    pick = np.random.default_rng(seed)
    g = Pieces(pick)
    count = int(pick.integers(6, 11))
    x = g.node("Conv", ["x", g.weight((count, 3, 3, 3)), g.weight((count,))], pads=[1] * 4)[0]
    is_centred = False
    for _ in range(int(pick.integers(1, 4))):
        cuts = [
            0,
            *sorted(
                pick.choice(np.arange(1, count), int(pick.integers(1, 3)), replace=False).tolist()
            ),
            count,
        ]
        parts = []
        for start, stop in itertools.pairwise(cuts):
            part = g.piece(x, start, stop, pick)
            for way in pick.choice(DONE, int(pick.integers(0, 3))):
                part = g.done(part, stop - start, way, pick)
            parts.append((part, stop - start))
        if pick.random() < 0.3:
            parts.append(parts[int(pick.integers(len(parts)))])
        pick.shuffle(parts)
        x, count = g.node("Concat", [p for p, _ in parts], axis=1)[0], sum(int(n) for _, n in parts)
        is_centred = False
        if pick.random() < 0.4:
            way = str(pick.choice(DONE))
            x, is_centred = g.done(x, count, way, pick), way in CENTRING
        if pick.random() < 0.3:
            x, count = g.node("Conv", [x, g.weight((7, count, 1, 1))])[0], 7
    # the mean of deviations is zero: pooled, they would leave nothing but rounding to compare
    flat = pick.random() < 0.5 or is_centred
    row = g.node("Flatten", [x if flat else g.node("GlobalAveragePool", [x])[0]])[0]
    return g.model(g.node("MatMul", [row, g.weight((count * SIZE**2 if flat else count, 3))]))
