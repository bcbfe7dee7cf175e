"""Models with sequences of tensors, and the sizes of their groups."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .builders import Case, build, node, value, w


def pieces() -> Case:
    """Of 6 columns the 2 in the middle are taken out, and 3 others are put there.

    The 2 that nothing reads are no group.
    """
    nodes = [
        node("MatMul", "x,a", "h"),
        node("MatMul", "x,c", "k"),
        node("SplitToSequence", "h,two", "s", axis=1),
        node("SequenceErase", "s,one", "t"),
        node("SequenceInsert", "t,k,one", "u"),
        node("Identity", "u", "same"),
        node("ConcatFromSequence", "same", "joined", axis=1),
        node("SequenceLength", "u", "length"),
        node("Cast", "length", "many", to=onnx.TensorProto.FLOAT),
        node("Mul", "joined,many", "scaled"),
        node("MatMul", "scaled,b", "out"),
    ]
    weights = {"a": w(3, 6), "b": w(7, 2), "c": w(3, 3), "two": np.array(2), "one": np.array(1)}
    return build(nodes, weights, {"x": [4, 3]}), [3, 4]


def rows() -> Case:
    """Rows are taken apart and stacked again: their columns share one order."""
    nodes = [
        node("MatMul", "x,a", "h"),
        node("SplitToSequence", "h", "s", axis=0, keepdims=0),
        node("SequenceAt", "s,last", "row"),
        helper.make_node("SequenceEmpty", [], ["none"]),
        node("SequenceInsert", "none,row", "t"),
        node("SequenceAt", "s,zero", "first"),
        node("SequenceInsert", "t,first", "u"),
        node("ConcatFromSequence", "u", "joined", axis=-2, new_axis=1),
        node("MatMul", "joined,b", "out"),
    ]
    return build(
        nodes,
        {"a": w(3, 5), "b": w(5, 2), "last": np.array(-1), "zero": np.array(0)},
        {"x": [4, 3]},
    ), [5]


def mapped() -> Case:
    """A layer of 6, its weights in the body, is run on every row alone.

    A bias comes from outside.
    """
    inner = [numpy_helper.from_array(w(4, 6), "p"), numpy_helper.from_array(w(6, 5), "q")]
    body = helper.make_graph(
        [
            node("MatMul", "v,p", "i"),
            node("Relu", "i", "r"),
            node("MatMul", "r,q", "t"),
            node("Add", "t,bias", "o"),
        ],
        "body",
        [value("v"), value("bias")],
        [value("o")],
        inner,
    )
    nodes = [
        node("MatMul", "x,a", "h"),
        node("SplitToSequence", "h,one", "s", axis=0),
        node("SequenceMap", "s,c", "m", body=body),
        node("ConcatFromSequence", "m", "y", axis=0),
        node("MatMul", "y,b", "out"),
    ]
    return build(
        nodes, {"a": w(3, 4), "b": w(5, 2), "c": w(5), "one": np.array(1)}, {"x": [4, 3]}
    ), [4, 5, 6]


def picked() -> Case:
    """Which of two tensors is read depends on the input: they share one order."""
    nodes = [
        node("MatMul", "x,a", "h"),
        node("MatMul", "x,c", "k"),
        node("SequenceConstruct", "h,k", "s"),
        node("ReduceMax", "x", "most", keepdims=0),
        node("Greater", "most,zero", "above"),
        node("Cast", "above", "place", to=onnx.TensorProto.INT64),
        node("SequenceAt", "s,place", "y"),
        node("Transpose", "y", "t"),
        node("MatMul", "b,t", "r"),
        node("Flatten", "r", "f", axis=0),
        node("MatMul", "f,d", "out"),
    ]
    weights = {
        "a": w(3, 5),
        "b": w(2, 5),
        "c": w(3, 5),
        "d": w(8, 2),
        "zero": np.array(0, np.float32),
    }
    return build(nodes, weights, {"x": [4, 3]}), [2, 5]


def weights() -> Case:
    """Two of the three pieces of a weight make a layer of 2 each."""
    nodes = [
        node("SplitToSequence", "a,two", "s", axis=1),
        node("SequenceAt", "s,zero", "first"),
        node("SequenceAt", "s,two", "third"),
        node("MatMul", "x,first", "h"),
        node("MatMul", "x,third", "k"),
        node("MatMul", "h,b", "i"),
        node("MatMul", "k,c", "j"),
        node("Add", "i,j", "out"),
    ]
    weights = {"a": w(3, 6), "b": w(2, 2), "c": w(2, 2), "two": np.array(2), "zero": np.array(0)}
    return build(nodes, weights, {"x": [4, 3]}), [2, 2]


CASES = [pieces, rows, mapped, picked, weights]
