"""Pairs of programs that are one, written in two ways."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from .written_forms import GELU, NUMBERS, B, C, F, G, K, M, S, V, W, model, node, spelled_norm

CELL = np.concatenate([np.tile(W.T, (3, 1)), np.tile(W[:5], (3, 1))], 1)[None]
"""The weights of a cell of five units and three gates: of six inputs, and of the units."""
PAIRS: dict[str, tuple[onnx.ModelProto, onnx.ModelProto]] = {
    "padding that is counted, where there is none": (
        model(
            [node("AveragePool", "x", kernel_shape=[2, 2], count_include_pad=1)], [2, 3, 7, 7], 17
        ),
        model([node("AveragePool", "x", kernel_shape=[2, 2])], [2, 3, 7, 7], 19),
    ),
    "product and bias": (
        model([node("Gemm", "x w b", transB=1)], ["N", 6], w=np.ascontiguousarray(W.T), b=B),
        model([node("MatMul", "x w", "h"), node("Add", "b h")], ["N", 6], w=W, b=B),
    ),
    "layer between reshapes": (
        model(
            [node("MatMul", "x w", "h"), node("Add", "h b", "i"), node("Relu", "i")],
            ["N", 7, 6],
            w=W,
            b=B,
        ),
        model(
            [
                node("Reshape", "x f", "h"),
                node("Gemm", "h w b", "i"),
                node("Relu", "i", "j"),
                node("Reshape", "j t"),
            ],
            *(["N", 7, 6],),
            w=W,
            b=B,
            f=np.array([-1, 6]),
            t=np.array([-1, 7, 5]),
        ),
    ),
    "group norm": (
        model([node("GroupNormalization", "x g c", num_groups=2)], ["N", 4, 8, 8], 21, g=G, c=C),
        model(
            [
                node("Reshape", "x flat", "h"),
                node("ReduceMean", "h last", "m"),
                node("Sub", "h m", "d"),
                node("Mul", "h h", "s"),
                node("ReduceMean", "s last", "r"),
                node("Mul", "m m", "q"),
                node("Sub", "r q", "v"),
                node("Add", "v e", "t"),
                node("Sqrt", "t", "u"),
                node("Div", "d u", "i"),
                node("Shape", "x", "n"),
                node("Reshape", "i n", "j"),
                node("Reshape", "j rows", "k"),
                node("Mul", "k g", "l"),
                node("Add", "l c", "o"),
                node("Reshape", "o n"),
            ],
            ["N", 4, 8, 8],
            21,
            g=G[:, None],
            c=C[:, None],
            e=F(1e-5),
            rows=np.array([0, 4, -1]),
            last=np.array([2]),
            flat=np.array([0, 2, -1]),
        ),
    ),
    "a pool whose windows cover the map, rounded up": (
        model([node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2])], [2, 3, 7, 7], 19),
        model(
            [node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)],
            [2, 3, 7, 7],
            11,
        ),
    ),
    "a clip behind a clip": (
        model(
            [node("Clip", "x a b", "h"), node("Clip", "h c d")],
            [2, 6],
            **{"a": F(-1), "b": F(0.5), "c": F(-0.5), "d": F(2)},
        ),
        model([node("Clip", "x c b")], [2, 6], c=F(-0.5), b=F(0.5)),
    ),
    "a clip that lies behind another one": (
        model(
            [node("Clip", "x a b", "h"), node("Clip", "h c d")],
            [2, 6],
            **{"a": F(-1), "b": F(0.5), "c": F(0.75), "d": F(2)},
        ),
        model([node("Clip", "x c c")], [2, 6], c=F(0.75)),
    ),
    "a clip from above behind a relu": (
        model(
            [node("Relu", "x", "h"), helper.make_node("Clip", ["h", "", "b"], ["y"])],
            [2, 6],
            b=F(0.5),
        ),
        model([node("Clip", "x a b")], [2, 6], a=F(0), b=F(0.5)),
    ),
    "a relu behind a clip": (
        model([node("Clip", "x a b", "h"), node("Relu", "h")], [2, 6], a=F(-1), b=F(0.5)),
        model([node("Clip", "x a b")], [2, 6], a=F(0), b=F(0.5)),
    ),
    "a relu behind a clip from above zero": (
        model([node("Clip", "x a", "h"), node("Relu", "h")], [2, 6], a=F(0.5)),
        model([node("Clip", "x a")], [2, 6], a=F(0.5)),
    ),
    "a relu behind a clip from below": (
        model([node("Clip", "x a", "h"), node("Relu", "h")], [2, 6], a=F(-1)),
        model([node("Relu", "x")], [2, 6]),
    ),
    "a mask that nobody reads": (
        model(
            [
                helper.make_node("Dropout", ["x", "r"], ["h", "mask"]),
                node("Relu", "h"),
            ],
            [2, 6],
            r=F(0.5),
        ),
        model([node("Relu", "x")], [2, 6]),
    ),
    "norms of windows": (
        model([node("LpPool", "x", kernel_shape=[2, 2], p=3)], [2, 3, 7, 7], 11),
        model([node("LpPool", "x", kernel_shape=[2, 2], p=3)], [2, 3, 7, 7], 18),
    ),
    "batch norm": (
        model(
            [node("Conv", "x k", "h"), node("BatchNormalization", "h g c m v")],
            [2, 3, 8, 8],
            k=K,
            g=G,
            c=C,
            m=M,
            v=V,
        ),
        model([node("Conv", "x k c")], [2, 3, 8, 8], k=K * S[:, None, None, None], c=C - M * S),
    ),
    "batch norm as a convolution": (
        model([node("BatchNormalization", "x g c m v")], [2, 4, 8, 8], g=G, c=C, m=M, v=V),
        model(
            [node("Conv", "x s b", group=4, kernel_shape=[1, 1])],
            [2, 4, 8, 8],
            s=S[:, None, None, None],
            b=C - M * S,
        ),
    ),
    "a padding around factors": (
        model(
            [node("Conv", "x s", group=4, pads=[1, 1, 1, 1])],
            [2, 4, 8, 8],
            s=S[:, None, None, None],
        ),
        model(
            [node("Pad", "x p", "h"), node("Conv", "h s", group=4)],
            [2, 4, 8, 8],
            p=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
            s=S[:, None, None, None],
        ),
    ),
    "a step over factors": (
        model(
            [node("Conv", "x s", group=4, strides=[1, 2])], [2, 4, 8, 8], s=S[:, None, None, None]
        ),
        model(
            [node("Conv", "x s", group=4, strides=[1, 2], auto_pad="VALID", dilations=[1, 1])],
            [2, 4, 8, 8],
            s=S[:, None, None, None],
        ),
    ),
    "a factor as a convolution that is transposed": (
        model([node("Mul", "x s")], [2, 4, 8, 8], s=S[:, None, None]),
        model([node("ConvTranspose", "x s", group=4)], [2, 4, 8, 8], s=S[:, None, None, None]),
    ),
    "a softmax along an axis that is moved": (
        model(
            [
                node("Transpose", "x", "t", perm=[0, 2, 1]),
                node("Reshape", "t flat", "f"),
                node("Softmax", "f", "s", axis=1),
                node("Reshape", "s back", "b"),
                node("Transpose", "b", perm=[0, 2, 1]),
            ],
            [2, 3, 4],
            flat=np.array([8, 3]),
            back=np.array([2, 4, 3]),
        ),
        model([node("Softmax", "x", axis=1)], [2, 3, 4]),
    ),
    "a factor as a convolution": (
        model([node("Mul", "x s")], [2, 4, 8, 8], s=S[:, None, None]),
        model([node("Conv", "x s", group=4)], [2, 4, 8, 8], s=S[:, None, None, None]),
    ),
    "the last place of an axis that is moved": (
        model(
            [
                node("Squeeze", "x one", "h"),
                node("Transpose", "h", "t", perm=[1, 0, 2]),
                node("Gather", "t last", "g", axis=1),
                node("MatMul", "g w"),
            ],
            [4, 1, 2, 6],
            one=np.array([1]),
            last=np.array(-1),
            w=W,
        ),
        model(
            [
                node("Squeeze", "x one", "h"),
                node("Gather", "h last", "g"),
                node("MatMul", "g w"),
            ],
            [4, 1, 2, 6],
            one=np.array([1]),
            last=np.array(-1),
            w=W,
        ),
    ),
    "results of a cell that nobody reads": (
        model(
            [
                helper.make_node(
                    "GRU", ["x", "w", "r"], ["y", "last"], hidden_size=5, linear_before_reset=1
                )
            ],
            [3, 2, 6],
            w=CELL[..., :6],
            r=CELL[..., 6:],
        ),
        model(
            [node("GRU", "x w r", hidden_size=5, linear_before_reset=1, layout=0)],
            [3, 2, 6],
            w=CELL[..., :6],
            r=CELL[..., 6:],
        ),
    ),
    "layer norm": (
        model([node("LayerNormalization", "x g b")], [2, 6], g=NUMBERS["g"], b=NUMBERS["b"]),
        model(spelled_norm("Div"), [2, 6], **NUMBERS),
    ),
    "layer norm by the inverse": (
        model(spelled_norm("Div"), [2, 6], **NUMBERS),
        model(spelled_norm("Mul"), [2, 6], **NUMBERS),
    ),
    "gelu": (
        model([node("Gelu", "x")], [2, 6], 20),
        model(GELU, [2, 6], root=F(2**0.5), one=F(1), half=F(0.5)),
    ),
    "reshapes": (
        model([node("Flatten", "x", axis=1)], ["N", 3, 4]),
        model([node("Reshape", "x s")], ["N", 3, 4], s=np.array([0, -1])),
    ),
    "a computed shape": (
        model([node("Reshape", "x s")], ["N", 3, 4], s=np.array([-1, 4])),
        model(
            [
                node("Shape", "x", "s"),
                node("Gather", "s zero", "n"),
                node("Mul", "n three", "m"),
                node("Unsqueeze", "m axis", "u"),
                node("Concat", "u four", "t", axis=0),
                node("Reshape", "x t"),
            ],
            ["N", 3, 4],
            zero=np.array(0),
            three=np.array(3),
            axis=np.array([0]),
            four=np.array([4]),
        ),
    ),
    "movements": (
        model([node("Transpose", "x", perm=[0, 2, 1])], [2, 12, 5]),
        model(
            [
                node("Reshape", "x s", "a"),
                node("Transpose", "a", "b", perm=[0, 3, 1, 2]),
                node("Reshape", "b t"),
            ],
            [2, 12, 5],
            s=np.array([2, 3, 4, 5]),
            t=np.array([2, 5, 12]),
        ),
    ),
    "parts": (
        model(
            [node("Slice", "x s e a")], [2, 6], s=np.array([3]), e=np.array([6]), a=np.array([1])
        ),
        model([helper.make_node("Split", ["x"], ["u", "y"], axis=1)], [2, 6]),
    ),
    "an end that no tensor reaches": (
        model([node("Identity", "x")], ["N", 512, 256]),
        model(
            [node("Slice", "x s e a")],
            ["N", 512, 256],
            s=np.array([0]),
            e=np.array([10**9]),
            a=np.array([0]),
        ),
    ),
    "means": (
        model([node("GlobalAveragePool", "x")], [2, 3, 4, 4]),
        model([node("ReduceMean", "x", axes=[-1, -2])], [2, 3, 4, 4]),
    ),
    "padding": (
        model([node("Conv", "x k", pads=[1, 1, 1, 1])], [2, 3, 8, 8], k=K),
        model(
            [node("Pad", "x p", "h"), node("Conv", "h k")],
            [2, 3, 8, 8],
            k=K,
            p=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        ),
    ),
    "factors": (
        model([node("Mul", "x f", "h"), node("MatMul", "h w")], [2, 6], w=W, f=F(0.25)),
        model([node("MatMul", "x w", "h"), node("Div", "h f")], [2, 6], w=W, f=F(4)),
    ),
    "older operators": (
        model([node("Clip", "x", min=0.0, max=6.0)], [2, 6], 10),
        model([node("Relu", "x", "h"), node("Clip", "h low high")], [2, 6], low=F(0), high=F(6)),
    ),
    "another association": (
        model(
            [
                node("Sin", "x", "s"),
                node("Cos", "x", "c"),
                node("Mul", "s x", "m"),
                node("Mul", "m c"),
            ],
            [2, 6],
        ),
        model(
            [
                node("Sin", "x", "s"),
                node("Cos", "x", "c"),
                node("Mul", "x c", "m"),
                node("Mul", "s m"),
            ],
            [2, 6],
        ),
    ),
    "an alias": (
        model(
            [
                node("Sin", "x", "s"),
                node("Mul", "s x", "m"),
                node("Cos", "m", "c"),
                node("Mul", "m c"),
            ],
            *([2, 6],),
        ),
        model(
            [
                *(node("Sin", "x", "s"), node("Mul", "s x", "m"), node("Identity", "m", "i")),
                *(node("Identity", "m", "j"), node("Cos", "i", "c"), node("Mul", "c j")),
            ],
            [2, 6],
        ),
    ),
    "a branch that is always taken": (
        model([node("Relu", "x")], [2, 6]),
        model(
            [
                helper.make_node(
                    "If",
                    ["c"],
                    ["y"],
                    then_branch=helper.make_graph(
                        [node("Relu", "x", "t")], "t", [], [onnx.ValueInfoProto(name="t")]
                    ),
                    else_branch=helper.make_graph(
                        [node("Sin", "x", "e")], "e", [], [onnx.ValueInfoProto(name="e")]
                    ),
                )
            ],
            [2, 6],
            c=np.array(True),
        ),
    ),
}
