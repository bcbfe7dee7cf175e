"""Random graphs of many steps, together with the groups that they must have."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import strategies as st

from .grown import ACTIVATIONS, OPSET, Grown

STEPS = (
    "conv",
    "depthwise",
    "norm",
    "unary",
    "scaled",
    "residual",
    "concat",
    "split",
    "gate",
    "pool",
    "softmax",
) + (*("layernorm", "attention", "grouped", "pixels", "product", "part"),)
WAYS = ("Identity", "Relu", "Neg", "MaxPool", "flip", "shift", "Transpose", "column", "mean")
WIDTHS = st.sampled_from((2, 3, 4, 5, 7))


def grow(draw: st.DrawFn, g: Grown, current: str, step: str, times: int = 1) -> str:
    """One more step after the tensor `current`, so many times as wide as usual."""
    widths = WIDTHS.map(lambda n: n * times)
    few = st.sampled_from((2 * times, 3 * times))
    match step:
        case "conv":
            return g.conv(current, draw(widths), draw(st.sampled_from((1, 3))), draw(st.booleans()))
        case "depthwise":
            return g.depthwise(current)
        case "norm":
            return g.norm(current)
        case "unary":
            return g.unary(draw(st.sampled_from(ACTIVATIONS)), current)
        case "scaled":
            return g.scaled(draw(st.sampled_from(("Mul", "Add", "PRelu"))), current)
        case "residual":
            inner = g.unary("Relu", g.conv(current, draw(widths), 3))
            return g.combine("Add", current, g.conv(inner, len(g.maps[current])))
        case "product":
            wide = [g.conv(current, 5 * times) for _ in range(2)]
            return g.combine("Mul", wide[0], g.unary("Sigmoid", wide[1]))
        case "concat":
            return g.concat(current, g.unary("Relu", g.conv(current, draw(widths))))
        case "split":
            wide = g.conv(current, 7 * times)
            a, b = g.split(wide, draw(st.sampled_from((2, 3, 5))) * times)
            return g.concat(g.conv(g.unary("Relu", a), 3 * times), b)
        case "gate":
            return g.gate(current)
        case "pool":
            return g.pool(draw(st.sampled_from(("MaxPool", "AveragePool"))), current)
        case "softmax":
            return g.softmax(current)
        case "layernorm":
            return g.there_and_back(current)
        case "attention":
            return g.attention(current, draw(st.sampled_from((2, 3))), draw(few))
        case "grouped":
            return g.grouped(current, draw(st.sampled_from((2, 3))), draw(few))
        case "part":
            wide = g.conv(current, 7 * times)
            way = st.sampled_from(WAYS)
            size = draw(st.sampled_from((2, 3, 5))) * times
            return g.part(wide, size, (draw(way), draw(way)))
        case "pixels":
            return g.shuffled_pixels(current)
    raise AssertionError(step)


def begin(draw: st.DrawFn, opset: int = OPSET, times: int = 1) -> tuple[Grown, str]:
    """A graph of one convolution, and its tensor."""
    g = Grown(np.random.default_rng(draw(st.integers(0, 2**16))), opset)
    g.maps["x"] = g.units(3)
    g.pinned.update(g.maps["x"])
    return g, g.conv("x", times * draw(WIDTHS), 3)


def end(draw: st.DrawFn, g: Grown, ends: list[str]) -> tuple[onnx.ModelProto, list[int]]:
    """The graph with a head on each of `ends`, and the sizes of its groups."""
    outputs = [g.head(t, draw(st.booleans())) for t in dict.fromkeys(ends)]
    return g.model(outputs), g.expected()


@st.composite
def graphs(draw: st.DrawFn, most: int = 8, times: int = 1) -> tuple[onnx.ModelProto, list[int]]:
    """A random graph, so many times as wide as usual, and the sizes of its groups."""
    g, current = begin(draw, times=times)
    unused: list[str] = []
    for _ in range(draw(st.integers(0, most))):
        current = grow(draw, g, current, draw(st.sampled_from(STEPS)), times)
        if draw(st.integers(0, 5)) == 0:
            unused.append(current)
    return end(draw, g, [*unused, current])
