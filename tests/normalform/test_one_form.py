"""What is written in two ways has one form, and what is nearly the same has another."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import lady_onnx as lady

from ..helpers.written_forms import NUMBERS, F, K, S, W, model, node, spelled_norm
from ..helpers.written_pairs import PAIRS


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_written_in_two_ways_has_one_form(name: str) -> None:
    for reference, suspect in (PAIRS[name], PAIRS[name][::-1]):
        assert lady.verify(reference, suspect).equal
        found = lady.check(reference, suspect)
        assert found.verdict == "identical", found.reason


FAR = np.finfo(F).max


def no_order() -> onnx.NodeProto:
    """A transposition whose order is given, and names no axis."""
    made = node("Transpose", "x")
    made.attribute.append(onnx.AttributeProto(name="perm", type=onnx.AttributeProto.INTS))
    return made


NEAR: dict[str, tuple[onnx.ModelProto, onnx.ModelProto]] = {
    "a variance of which large numbers leave nothing": (
        model(
            [
                node("Add", "x c", "z"),
                node("ReduceMean", "z", "m", axes=[1]),
                node("Sub", "z m", "d"),
                node("Mul", "d d", "s"),
                node("ReduceMean", "s", axes=[1]),
            ],
            [2, 6],
            c=F(3e5),
        ),
        model(
            [
                node("Add", "x c", "z"),
                node("ReduceMean", "z", "m", axes=[1]),
                node("Mul", "z z", "s"),
                node("ReduceMean", "s", "r", axes=[1]),
                node("Mul", "m m", "q"),
                node("Sub", "r q"),
            ],
            [2, 6],
            c=F(3e5),
        ),
    ),
    "a padding below zero": (
        model([node("MaxPool", "x", kernel_shape=[1], strides=[3])], [2, 3, 6], 22),
        model(
            [node("MaxPool", "x", kernel_shape=[1], strides=[3], auto_pad="SAME_UPPER")],
            [2, 3, 6],
            22,
        ),
    ),
    "a relu behind a clip from above zero": (
        model([node("Clip", "x a", "h"), node("Relu", "h")], [2, 6], a=F(2)),
        model([node("Relu", "x")], [2, 6]),
    ),
    "a clip to less than anything": (
        model(
            [
                node("Relu", "x", "h"),
                helper.make_node("Clip", ["h", "", "a"], ["g"]),
                node("Relu", "g"),
            ],
            [2, 6],
            a=F(-np.inf),
        ),
        model([node("Relu", "x")], [2, 6]),
    ),
    "a clip to no number": (
        model(
            [node("Clip", "x", "h", min=0.0, max=6.0), node("Clip", "h", min=float("nan"))],
            [2, 6],
            10,
        ),
        model([node("Clip", "x", min=0.0, max=6.0)], [2, 6], 10),
    ),
    "a clip whose ends are crossed": (
        model(
            [node("Clip", "x a b", "h"), node("Clip", "h c d")],
            [2, 6],
            **{"a": F(1), "b": F(-1), "c": F(-0.5), "d": F(2)},
        ),
        model([node("Clip", "x a b")], [2, 6], a=F(1), b=F(-0.5)),
    ),
    "a pool that is rounded up": (
        model([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2])], [2, 3, 8, 8]),
        model(
            [node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], [2, 3, 8, 8]
        ),
    ),
    "an order of no axes": (model([node("Identity", "x")], [2, 6]), model([no_order()], [2, 6])),
    "an end that a long sequence reaches": (
        model([node("Identity", "x")], ["N", 2]),
        model(
            [node("Slice", "x s e a")],
            ["N", 2],
            s=np.array([0]),
            e=np.array([10**9]),
            a=np.array([0]),
        ),
    ),
    "what large numbers leave of small ones": (
        model([node("Identity", "x")], [2, 6]),
        model([node("Add", "x c", "h"), node("Sub", "h c")], [2, 6], c=F(1e11)),
    ),
    "a slope of more axes than it has": (
        model([node("PRelu", "x s")], ["N", 6], s=W[:, 0]),
        model([node("PRelu", "x s")], ["N", 6], s=W[None, None, :, 0]),
    ),
    "a way back from before the first": (
        model(
            [node("Slice", "x s e a t")],
            [2, 6],
            s=np.array([-1]),
            e=np.array([-99]),
            a=np.array([1]),
            t=np.array([-1]),
        ),
        model(
            [node("Slice", "x s e a t")],
            [2, 6],
            s=np.array([-9]),
            e=np.array([-99]),
            a=np.array([1]),
            t=np.array([-1]),
        ),
    ),
    "the largest number for infinity": (
        model([node("Exp", "x", "h"), node("Log", "h")], [2, 6]),
        model(
            [node("Exp", "x", "h"), node("Clip", "h low high", "c"), node("Log", "c")],
            [2, 6],
            low=F(-3.4e38),
            high=FAR,
        ),
    ),
    "a step over channels that are multiplied": (
        model([node("Mul", "x s")], [2, 4, 8, 8], s=S[:, None, None]),
        model(
            [node("Conv", "x s", group=4, strides=[1, 2])], [2, 4, 8, 8], s=S[:, None, None, None]
        ),
    ),
    "both kinds of padding": (
        model([node("Conv", "x k", auto_pad="VALID")], [2, 3, 8, 8], k=K),
        model([node("Conv", "x k", auto_pad="VALID", pads=[1, 1, 1, 1])], [2, 3, 8, 8], k=K),
    ),
    "a bias of more rows than a product": (
        model([node("MatMul", "x w", "h"), node("Add", "h c")], [1, 6], w=W, c=W[:5]),
        model([node("Gemm", "x w c")], [1, 6], w=W, c=W[:5]),
    ),
    "a length times more than whole numbers hold": (
        model(
            [
                node("Shape", "x", "s"),
                node("Cast", "s", "f", to=1),
                node("ReduceSum", "f", keepdims=0),
            ],
            ["N", 6],
        ),
        model(
            [
                *(
                    node("Shape", "x", "s"),
                    node("Mul", "s big", "p"),
                    node("Mul", "p big", "q"),
                    node("Div", "q big", "r"),
                ),
                *(
                    node("Div", "r big", "t"),
                    node("Cast", "t", "f", to=1),
                    node("ReduceSum", "f", keepdims=0),
                ),
            ],
            ["N", 6],
            big=np.array(2**32),
        ),
    ),
    "axes of no name": (
        model([node("Squeeze", "x a")], [2, 1, 6], a=np.array([1])),
        model([helper.make_node("Squeeze", ["x", ""], ["y"])], [2, 1, 6]),
    ),
    "an axis twice": (
        model(
            [node("Slice", "x s e a")], [2, 6], s=np.array([1]), e=np.array([3]), a=np.array([1])
        ),
        model(
            [node("Slice", "x s e a")],
            [2, 6],
            s=np.array([0, 1]),
            e=np.array([6, 3]),
            a=np.array([1, -1]),
        ),
    ),
    "an axis that is not there": (
        model(
            [node("Slice", "x s e a")], [2, 6], s=np.array([1]), e=np.array([3]), a=np.array([1])
        ),
        model(
            [node("Slice", "x s e a")], [2, 6], s=np.array([1]), e=np.array([3]), a=np.array([3])
        ),
    ),
    "an axis of a sum that is not there": (
        model([node("CumSum", "x a")], [2, 6], a=np.array(1)),
        model([node("CumSum", "x a")], [2, 6], a=np.array(3)),
    ),
    "steps of fewer places": (
        model([node("MaxPool", "x", kernel_shape=[2, 2])], [2, 3, 8, 8]),
        model([node("MaxPool", "x", kernel_shape=[2, 2], strides=[1])], [2, 3, 8, 8]),
    ),
    "another epsilon": (
        PAIRS["layer norm"][0],
        model(spelled_norm("Div"), [2, 6], **{**NUMBERS, "eps": F(1.001e-5)}),
    ),
    "tanh for erf": (PAIRS["gelu"][1], model([node("Gelu", "x", approximate="tanh")], [2, 6], 20)),
    "a shape that fits one batch": (
        PAIRS["reshapes"][0],
        model([node("Reshape", "x s")], ["N", 3, 4], s=np.array([2, 12])),
    ),
    "another order": (
        PAIRS["movements"][1],
        model(
            [
                node("Reshape", "x s", "a"),
                node("Transpose", "a", "b", perm=[0, 3, 2, 1]),
                node("Reshape", "b t"),
            ],
            [2, 12, 5],
            s=np.array([2, 3, 4, 5]),
            t=np.array([2, 5, 12]),
        ),
    ),
    "rounding up": (
        model([node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])], [2, 3, 7, 7]),
        model(
            [node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], [2, 3, 7, 7]
        ),
    ),
    "padding that is not zero": (
        PAIRS["padding"][0],
        model(
            [node("Pad", "x p v", "h"), node("Conv", "h k")],
            [2, 3, 8, 8],
            k=K,
            p=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
            v=F(1e-3),
        ),
    ),
    "factors that vanish on the way": (
        model([node("Relu", "x")], [2, 6]),
        model(
            [node("Mul", "x a", "h"), node("Mul", "h b", "i"), node("Relu", "i")],
            [2, 6],
            a=F(1e-38),
            b=F(1e38),
        ),
    ),
    "neither yes nor no": (
        model([node("ReduceMax", "x", axes=[1], keepdims=1)], [2, 6]),
        model([node("ReduceMax", "x", axes=[1], keepdims=-1)], [2, 6]),
    ),
    "a padding of no name": (
        model([node("AveragePool", "x", kernel_shape=[2, 2], auto_pad="SAME_LOWER")], [2, 3, 7, 7]),
        model([node("AveragePool", "x", kernel_shape=[2, 2], auto_pad="")], [2, 3, 7, 7]),
    ),
    "a bound": (
        PAIRS["older operators"][1],
        model([node("Clip", "x", min=0.0, max=6.5)], [2, 6], 10),
    ),
    "the other branch": (
        model([node("Sin", "x")], [2, 6]),
        PAIRS["a branch that is always taken"][1],
    ),
}


@pytest.mark.parametrize("name", NEAR)
def test_what_is_nearly_the_same_is_not(name: str) -> None:
    for reference, suspect in (NEAR[name], NEAR[name][::-1]):
        assert not lady.check(reference, suspect).accepted
