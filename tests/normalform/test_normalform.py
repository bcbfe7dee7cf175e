"""The normal form: it computes what the graph does, and what is written in many ways has one."""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.equality.comparison import pair_graphs
from lady_onnx.errors import LadyError
from lady_onnx.graph.loading import load_graph
from lady_onnx.normalform.form import NEWEST, OLDEST, build_normal_form

from ..helpers.normal_forms import is_same, run
from ..helpers.splices import spliced
from ..helpers.strategies import graphs

F = np.float32
Nodes = Sequence[onnx.NodeProto]
STATEFUL = ("bernoulli", "dropout", "random", "training_mode")
"""Node tests whose results are drawn, or whose inputs onnxruntime overwrites."""


def form(model: onnx.ModelProto, exact: bool = False) -> onnx.ModelProto:
    graph = load_graph(model)
    return build_normal_form(graph, max(OLDEST, min(graph.opset(), NEWEST)), exact).graph.to_model(
        ""
    )


# ---- onnx's own node tests


@functools.cache
def node_tests() -> dict[str, Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            c.name: c for c in collect_testcases(None) if not any(s in c.name for s in STATEFUL)
        }


def compared(names: Sequence[str]) -> tuple[int, list[str]]:
    """How many node tests have a normal form that runs alike, and which do not.

    They run plainly and with weights for inputs.
    """
    alike, parted = 0, []
    for name in names:
        model, arrays = node_tests()[name].model, node_tests()[name].data_sets[0][0]
        feed = dict(zip([i.name for i in model.graph.input], arrays, strict=False))
        if any(not isinstance(a, np.ndarray) for a in arrays):
            continue
        try:
            wanted = run(model, feed)
        except Exception:  # noqa: BLE001  (what onnxruntime has no kernel for)
            continue
        held = onnx.ModelProto.FromString(model.SerializeToString())
        for value in list(held.graph.input)[1:]:
            held.graph.initializer.append(
                numpy_helper.from_array(np.asarray(feed[value.name]), value.name)
            )
            held.graph.input.remove(value)
        for variant in (model, held):
            for exact in (True, False):
                try:
                    made = form(variant, exact)
                except LadyError:
                    continue
                same = all(map(is_same, wanted, run(made, feed)))
                alike += same
                parted += (
                    []
                    if same
                    else [f"{name}, {'weights' if variant is held else 'inputs'}, exact {exact}"]
                )
    return alike, parted


@pytest.mark.parametrize("part", range(4))
def test_node_tests_run_alike(part: int) -> None:
    alike, parted = compared(sorted(node_tests())[part * 3 :: 12])
    assert not parted
    assert alike > 300


@pytest.mark.long
def test_all_node_tests_run_alike() -> None:
    alike, parted = compared(sorted(node_tests()))
    assert not parted
    assert alike > 4000


# ---- random graphs


def holds(model: onnx.ModelProto) -> None:
    for exact in (True, False):
        made = form(model, exact)
        assert lady.verify(model, made, samples=2, tolerance=1e-4).equal
        # what is in normal form already stays as it is
        again = form(made, exact)
        assert not pair_graphs(load_graph(made), load_graph(again)).differences


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_random_graphs_run_alike(grown: tuple[onnx.ModelProto, list[int]]) -> None:
    holds(grown[0])


@settings(max_examples=40, deadline=None)
@given(spliced())
def test_random_graphs_of_every_rule_run_alike(
    grown: tuple[onnx.ModelProto, list[int], set[int]],
) -> None:
    model = grown[0]
    try:
        made = form(model)
    except LadyError:
        return
    assert lady.verify(model, made, samples=2).equal


# ---- one form for many ways to write


def model(
    nodes: Nodes, shape: Sequence[int | str], opset: int = 17, **constants: Any
) -> onnx.ModelProto:
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape)),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(operator: str, inputs: str, output: str = "y", **given_: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **given_)


RNG = np.random.default_rng(0)
W, B = RNG.standard_normal((6, 5)).astype(F), RNG.standard_normal(5).astype(F)
K, C = RNG.standard_normal((4, 3, 3, 3)).astype(F), RNG.standard_normal(4).astype(F)
G, M, V = (RNG.random(4).astype(F) + F(0.5) for _ in range(3))
S = G / np.sqrt(V + F(1e-5))


def spelled_norm(last: str) -> list[onnx.NodeProto]:
    nodes = [
        node("ReduceMean", "x", "m", axes=[-1]),
        node("Sub", "x m", "d"),
        node("Pow", "d two", "s"),
    ]
    nodes += [
        node("ReduceMean", "s", "v", axes=[-1]),
        node("Add", "v eps", "w"),
        node("Sqrt", "w", "r"),
    ]
    ends = (
        [node("Div", "d r", "n")]
        if last == "Div"
        else [node("Reciprocal", "r", "q"), node("Mul", "q d", "n")]
    )
    return [*nodes, *ends, node("Mul", "n g", "o"), node("Add", "o b")]


NUMBERS = {"two": F(2), "eps": F(1e-5), "g": W[:, 0], "b": W[:, 1]}
GELU = [
    node("Div", "x root", "d"),
    node("Erf", "d", "e"),
    node("Add", "e one", "p"),
    node("Mul", "x p", "m"),
    node("Mul", "m half"),
]
PAIRS: dict[str, tuple[onnx.ModelProto, onnx.ModelProto]] = {
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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["transpose", "merge", "split"]), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_chains_of_movements_run_alike_and_end_alike(steps: list[str], random: Any) -> None:
    """However a shape is split, turned and merged, the form says what becomes of every element."""
    shape, nodes, constants, flow = [2, 12, 5], [], {}, "x"
    for k, step in enumerate(steps):
        if step == "transpose":
            order = list(range(len(shape)))
            random.shuffle(order)
            nodes.append(node("Transpose", flow, f"h{k}", perm=order))
            shape = [shape[a] for a in order]
        else:
            if step == "merge" and len(shape) > 1:
                at = random.randrange(len(shape) - 1)
                shape = [*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]]
            elif step == "split":
                at = random.randrange(len(shape))
                by = random.choice([d for d in range(1, shape[at] + 1) if shape[at] % d == 0])
                shape = [*shape[:at], by, shape[at] // by, *shape[at + 1 :]]
            constants[f"s{k}"] = np.array(shape)
            nodes.append(node("Reshape", f"{flow} s{k}", f"h{k}"))
        flow = f"h{k}"
    nodes.append(node("Identity", flow))
    chain = model(nodes, [2, 12, 5], **constants)
    made = form(chain)
    feed = {"x": np.arange(120, dtype=F).reshape(2, 12, 5)}
    wanted, found = run(chain, feed)[0], run(made, feed)[0]
    assert wanted.shape == found.shape
    assert (wanted == found).all()
    turned, laid = (
        sum(n.op_type == what for n in made.graph.node) for what in ("Transpose", "Reshape")
    )
    # two orders of factors that split each other are two
    assert turned <= steps.count("transpose")
    assert laid <= turned + 1


class Written:
    """A program of maps [2, 4, 6], written plainly, or with steps turned.

    A turned step has turned what it reads, and back what it gives.
    """

    def __init__(self, turn: Any):
        self.turn = turn
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Any] = {}

    def add(
        self, operator: str, inputs: Sequence[str], output: str, rank: int = 3, **given_: Any
    ) -> str:
        """A step, between two movements where `turn` says so; its numbers are turned with it."""
        order = self.turn(output, rank)
        if order is None:
            self.nodes.append(helper.make_node(operator, inputs, [output], **given_))
            return output
        sides = []
        for name in inputs:
            if name in self.constants:
                array = self.constants[name]
                self.constants[f"{name}/t"] = (
                    np.ascontiguousarray(np.transpose(array, order))
                    if array.ndim == rank
                    else array
                )
                sides.append(f"{name}/t")
                continue
            sides.append(f"{output}/{len(sides)}")
            self.nodes.append(node("Transpose", name, sides[-1], perm=order))
        if "axis" in given_:
            given_["axis"] = order.index(given_["axis"])
        if "axes" in given_:
            given_["axes"] = [order.index(a) for a in given_["axes"]]
        self.nodes.append(helper.make_node(operator, sides, [f"{output}/r"], **given_))
        self.nodes.append(node("Transpose", f"{output}/r", output, perm=np.argsort(order).tolist()))
        return output


def program(steps: Sequence[tuple[str, int, int]], turn: Any) -> onnx.ModelProto:
    """Some steps, each of which reads what any before it gave.

    `turn` gives an order of axes for a step, or none.
    """
    rng = np.random.default_rng(0)
    made, flow = Written(turn), ["x"]
    for k, (what, first, second) in enumerate(steps):
        a, b = flow[first % len(flow)], flow[second % len(flow)]
        made.constants[f"c{k}"] = rng.standard_normal(
            [(1, 4, 1), (2, 4, 6), (1, 1, 6), ()][second % 4]
        ).astype(F)
        output = f"h{k}"
        match what:
            case "unary":
                made.add(("Relu", "Tanh", "Sin")[second % 3], [a], output)
            case "add" | "mul":
                made.add(what.capitalize(), [a, b], output)
            case "add constant" | "mul constant":
                made.add(what.split()[0].capitalize(), [a, f"c{k}"], output)
            case "softmax":
                made.add("Softmax", [a], output, axis=second % 3)
            case "mean":
                made.add("ReduceMean", [a], f"{output}/m", axes=[second % 3])
                made.add("Sub", [a, f"{output}/m"], output)
            case "concat":
                made.add("Concat", [a, b], f"{output}/c", axis=1)
                made.constants[f"s{k}"], made.constants[f"e{k}"] = np.array([2]), np.array([6])
                made.constants[f"a{k}"] = np.array([1])
                made.nodes.append(node("Slice", f"{output}/c s{k} e{k} a{k}", output))
            case "linear":
                made.constants[f"w{k}"] = rng.standard_normal((6, 6)).astype(F)
                made.nodes.append(node("MatMul", f"{a} w{k}", output))
        flow.append(output)
    made.nodes.append(node("Identity", flow[-1]))
    return model(made.nodes, [2, 4, 6], **made.constants)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "unary",
                "add",
                "mul",
                "add constant",
                "mul constant",
                "softmax",
                "mean",
                "concat",
                "linear",
            ]
        ),
        st.integers(0, 9),
        st.integers(0, 11),
    ),
    min_size=1,
    max_size=7,
)


@example([("add constant", 0, 0), ("concat", 0, 1), ("add", 0, 2)], random.Random(0))
@settings(max_examples=80, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_movements_stand_behind_what_is_done_to_every_element(
    steps: list[tuple[str, int, int]], rng: Any
) -> None:
    def turn(output: str, rank: int) -> list[int] | None:
        order = rng.sample(range(rank), rank)
        return order if rng.random() < 0.5 else None

    plain, turned = program(steps, lambda output, rank: None), program(steps, turn)
    holds(plain)
    holds(turned)
    assert lady.check(plain, turned).verdict == "identical"


def test_defaults_of_functions_are_bound() -> None:
    """What a call leaves out has the function's default, also behind a rewrite of all else."""
    inner = helper.make_node("LeakyRelu", ["p"], ["q"])
    inner.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    whole = model([helper.make_node("leaky", ["x"], ["y"], domain="own")], [2, 6])
    opsets = [helper.make_opsetid("", 17)]
    default = [helper.make_attribute("slope", 0.3)]
    whole.functions.append(
        helper.make_function("own", "leaky", ["p"], ["q"], [inner], opsets, [], default)
    )
    whole.opset_import.append(helper.make_opsetid("own", 1))
    whole.ir_version = 9
    plain = model([node("LeakyRelu", "x", alpha=0.3)], [2, 6])
    assert lady.check(whole, plain).verdict == "identical"
    assert not lady.check(whole, model([node("LeakyRelu", "x", alpha=0.01)], [2, 6])).accepted
