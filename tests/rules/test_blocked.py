"""Maps in blocks of channels: the normal form computes what onnxruntime does.

What its optimiser wrote is one program with what it read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.normalform.algebra.term import NoNormalFormError
from lady_onnx.normalform.form import build_normal_form
from lady_onnx.rules.rewrites.blocks.reading import BLOCKED_DOMAIN
from lady_onnx.runtime.sessions import measure_block_channels

from ..helpers.draws import Draw, activation, average_pooling, maybe, one_of, pooling, reals, some
from ..helpers.normal_forms import is_same, run

SIZE = measure_block_channels()
pytestmark = pytest.mark.skipif(
    SIZE is None, reason="onnxruntime lays out no maps in blocks on this processor"
)
Arrays = dict[str, np.ndarray]


def model(nodes: Sequence[NodeProto], x: Sequence[int], weights: Arrays) -> onnx.ModelProto:
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x)),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()]
    graph = helper.make_graph(list(nodes), "blocks", ends[:1], ends[1:], tensors)
    opsets = [
        helper.make_opsetid("", 20),
        *(helper.make_opsetid(d, 1) for d in (BLOCKED_DOMAIN, "com.microsoft")),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def node(
    operator: str, inputs: Sequence[str], output: str, domain: str = BLOCKED_DOMAIN, **given_: Any
) -> NodeProto:
    return helper.make_node(operator, list(inputs), [output], domain=domain, **given_)


def behind(
    channels: int, operator: str, inputs: Sequence[str] = ("b",), **given_: Any
) -> list[NodeProto]:
    """An operator on a map in blocks that a plain one is laid out as."""
    last = node("ReorderOutput", ["r"], "y", channels=channels)
    return [node("ReorderInput", ["x"], "b"), node(operator, inputs, "r", **given_), last]


def form(made: onnx.ModelProto) -> onnx.ModelProto:
    return build_normal_form(load_graph(made), 21).graph.to_model("")


# ---- operator by operator


def reorder(draw: Draw) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    channels, is_last, was_last = (
        4 * draw(st.integers(1, 9)),
        draw(st.booleans()),
        draw(st.booleans()),
    )
    shape = (2, 5, 3, channels) if was_last else (2, channels, 5, 3)
    first = node(
        "ReorderInput",
        ["x"],
        "b",
        **({"channels_last": 1} if was_last else some(draw, channels_last=[0])),
    )
    count = channels - draw(st.integers(0, 3))
    return model(
        [first, node("ReorderOutput", ["b"], "y", channels=count, channels_last=int(is_last))],
        shape,
        {},
    ), shape


def convolution(draw: Draw) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """The operand is a map as declared, or in blocks; groups are of blocks, or of one channel."""
    assert SIZE is not None
    kind, group, outer = (
        one_of(draw, "plain", "blocks", "groups", "depthwise"),
        1,
        draw(st.integers(1, 2)),
    )
    channels = (
        draw(st.integers(1, SIZE - 1)) if kind == "plain" else 4 * draw(st.integers(1, SIZE // 2))
    )
    whole = -(-channels // SIZE) * SIZE
    if kind == "groups":
        group = whole // SIZE
    elif kind == "depthwise":
        group, outer = whole, 0
    inner = channels if kind == "plain" else whole // group
    weights: Arrays = {
        "w": reals(
            draw, SIZE * outer * group or group, inner, *(one_of(draw, 1, 2, 3) for _ in range(2))
        )
    }
    attributes = {"group": group} | some(
        draw, strides=[[1, 2]], dilations=[[2, 1]], kernel_shape=[list(weights["w"].shape[2:])]
    )
    attributes |= draw(st.sampled_from([{}, {"pads": [1, 0, 1, 1]}, {"auto_pad": "VALID"}]))
    bias = maybe(draw, lambda: reals(draw, weights["w"].shape[0]))
    weights |= {} if bias is None else {"v": bias}
    names = ["x" if kind == "plain" else "b", "w", *([] if bias is None else ["v"])]
    count = weights["w"].shape[0] - draw(st.integers(0, 3))
    nodes = behind(count, "Conv", names, **attributes, **activation(draw))
    return model(nodes[1:] if kind == "plain" else nodes, (2, channels, 7, 6), weights), (
        2,
        channels,
        7,
        6,
    )


def pool(draw: Draw) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    operator = one_of(draw, "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
    channels = 4 * draw(st.integers(1, 9))
    given_ = (
        {}
        if operator.startswith("Global")
        else pooling(draw)
        if operator == "MaxPool"
        else average_pooling(draw)
    )
    return model(behind(channels, operator, **given_), (2, channels, 7, 6), {}), (2, channels, 7, 6)


def upsample(draw: Draw) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    scales = [1, 1, draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    modes = some(draw, mode=["nearest"], coordinate_transformation_mode=["asymmetric"])
    return model(behind(8, "Upsample", scales=scales, **modes), (1, 8, 5, 3), {}), (1, 8, 5, 3)


@pytest.mark.parametrize("case", [reorder, convolution, pool, upsample])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_form_computes_what_onnxruntime_does(case: Any, data: st.DataObject) -> None:
    made, shape = case(data.draw)
    feed = {"x": reals(data.draw, *shape)}
    # an activation shows what rounding left of a sum that cancels
    assert is_same(run(made, feed)[0], run(form(made), feed)[0], room=1e-4)


@pytest.mark.parametrize(
    ("why", "nodes"),
    [
        (
            "number of channels",
            [node("ReorderInput", ["x"], "b"), node("ReorderOutput", ["b"], "y")],
        ),
        ("between others", behind(8, "Upsample", scales=[1, 1, 2, 2], mode="linear")),
        (
            "between others",
            behind(8, "Upsample", scales=[1, 1, 2, 2], coordinate_transformation_mode="half_pixel"),
        ),
        ("more channels", behind(8, "Upsample", scales=[1, 2, 1, 1])),
        ("more channels", behind(8, "Upsample", scales=[2, 2])),
        (
            "the padding",
            behind(
                8,
                "AveragePool",
                kernel_shape=[3, 3],
                strides=[2, 2],
                ceil_mode=1,
                count_include_pad=1,
            ),
        ),
        (
            "do not fill blocks",
            [node("Conv", ["x", "odd"], "b"), node("ReorderOutput", ["b"], "y", channels=8)],
        ),
        ("an output is a map in blocks", [node("ReorderInput", ["x"], "y")]),
        ("does not lie in blocks", [node("ReorderOutput", ["x"], "y", channels=8)]),
        (
            "reads a map in blocks",
            [node("ReorderInput", ["x"], "b"), node("Softmax", ["b"], "y", "", axis=1)],
        ),
        (
            "reads a map in blocks",
            [node("ReorderInput", ["x"], "b"), node("Add", ["b", "x"], "y", "")],
        ),
        (
            "not along their channels",
            [node("ReorderInput", ["x"], "b"), node("Concat", ["b", "b"], "y", "", axis=2)],
        ),
        ("is not known", behind(8, "Transpose")),
    ],
)
def test_nothing_else_is_known_of_blocks(why: str, nodes: Sequence[NodeProto]) -> None:
    made = model(nodes, (1, 8, 5, 3), {"odd": np.zeros((3, 8, 1, 1), np.float32)})
    with pytest.raises(NoNormalFormError, match=why):
        form(made)


@pytest.mark.parametrize("between", ["Relu", "Reciprocal", "Log"])
def test_what_fills_the_last_block_may_become_infinite(between: str) -> None:
    """Of such a number zeros in the next weight make no number."""
    assert SIZE is not None
    weight = np.zeros((SIZE, SIZE, 1, 1), np.float32)
    # as it lies: [block, block, row, column, channel read, channel made]
    weight.reshape(SIZE, SIZE)[:4] = 1
    last = node("ReorderOutput", ["r"], "y", channels=4)
    nodes = [
        node("ReorderInput", ["x"], "b"),
        node(between, ["b"], "c", ""),
        node("Conv", ["c", "w"], "r"),
        last,
    ]
    made = model(nodes, (1, 4, 2, 2), {"w": weight})
    feed = {"x": np.full((1, 4, 2, 2), 2, np.float32)}
    plain = [node(between, ["x"], "c", ""), node("Conv", ["c", "w"], "y", "")]
    other = model(plain, (1, 4, 2, 2), {"w": np.ones((4, 4, 1, 1), np.float32)})
    is_number = bool(np.isfinite(run(made, feed)[0]).all())
    assert is_number == (between == "Relu")
    assert lady.check(other, made).accepted == is_number


@pytest.mark.parametrize(
    ("between", "filling", "weight", "is_number"),
    [
        ("Relu", 0.0, 0.0, True),
        ("Sigmoid", 5.0, 0.0, True),
        ("Exp", 5.0, 0.0, True),
        ("Relu", np.nan, 0.0, False),
        ("Relu", np.inf, 0.0, False),
        ("Relu", 0.0, np.inf, False),
        ("Exp", 1000.0, 0.0, False),
        ("Sqrt", -1.0, 0.0, False),
        ("Sqrt", 1.0, 0.0, True),
    ],
)
def test_what_fills_a_block_has_to_hold_numbers(
    between: str, filling: float, weight: float, is_number: bool
) -> None:
    """The next weight is zero there, and zero times infinity is no number."""
    check_filling([node(between, ["h"], "r", "")], filling, weight, is_number)


@pytest.mark.parametrize(
    ("nodes", "filling", "is_number"),
    [
        ([node("Mul", ["h", "h"], "q", ""), node("Tanh", ["q"], "r", "")], 1.0, True),
        ([node("Mul", ["h", "h"], "q", ""), node("Sub", ["q", "q"], "r", "")], 1e30, False),
        # a map that is zero there does not undo an infinite one
        (
            [
                node("Conv", ["x", "a"], "p"),
                node("Exp", ["h"], "q", ""),
                node("Mul", ["p", "q"], "r", ""),
            ],
            1000.0,
            False,
        ),
        # nor does it undo two factors that overflow before it comes
        (
            [
                node("Conv", ["x", "a"], "p"),
                node("Mul", ["h", "h"], "q", ""),
                node("Mul", ["p", "q"], "r", ""),
            ],
            1e30,
            False,
        ),
        # a pool adds up before it divides
        ([node("AveragePool", ["h"], "r", kernel_shape=[2, 2])], 2e38, False),
        ([node("AveragePool", ["h"], "r", kernel_shape=[2, 2])], 2.0, True),
        ([node("HardSigmoid", ["h"], "r", "", alpha=0.5, beta=0.25)], 2.0, True),
        ([node("HardSigmoid", ["h"], "r", "", alpha=np.inf, beta=0.0)], 0.0, False),
        # a depthwise convolution reads what fills the last block itself
        ([node("Exp", ["h"], "q", ""), node("Conv", ["q", "d"], "r", group=1)], 1000.0, False),
        ([node("Exp", ["h"], "q", ""), node("Conv", ["q", "d"], "r", group=1)], 1.0, True),
    ],
    ids=lambda v: "-".join(n.op_type for n in v) if isinstance(v, list) else str(v),
)
def test_what_lies_between_has_to_hold_numbers(
    nodes: Sequence[NodeProto], filling: float, is_number: bool
) -> None:
    check_filling(nodes, filling, 0.0, is_number)


def test_a_map_that_is_read_many_times_over_is_measured_once() -> None:
    # thirty doublings would be a thousand million paths
    doubled = [node("Add", [f"h{k}", f"h{k}"], f"h{k + 1}", "") for k in range(30)]
    ends = [node("Relu", ["h"], "h0", ""), node("Tanh", ["h30"], "r", "")]
    reference, suspect = make_filled([ends[0], *doubled, ends[1]], 0.0, 0.0)
    assert lady.check(reference, suspect).recognised == 1


def check_filling(
    between: Sequence[NodeProto], filling: float, weight: float, is_number: bool
) -> None:
    """Check that a suspect is accepted if it gives numbers."""
    reference, suspect = make_filled(between, filling, weight)
    feed = {"x": np.ones((1, 3, 2, 2), np.float32)}
    given = run(suspect, feed)[0]
    assert bool(np.isfinite(given).all()) == is_number
    if is_number:
        assert np.allclose(given, run(reference, feed)[0], rtol=1e-4)
    assert lady.check(reference, suspect).accepted == is_number


def make_filled(
    between: Sequence[NodeProto], filling: float, weight: float
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Make two convolutions, plainly and in blocks that are filled up with the given numbers."""
    assert SIZE is not None
    size, rng = SIZE, np.random.default_rng(0)
    own = size + 4
    first = np.zeros((2 * size, 3, 1, 1), np.float32)
    first[:own] = rng.uniform(0.1, 1, (own, 3, 1, 1))
    first[own:] = weight
    bias = np.full(2 * size, filling, np.float32)
    bias[:own] = rng.uniform(0.1, 1, own)
    second = np.zeros((size, 2 * size, 1, 1), np.float32)
    second[:, :own] = rng.standard_normal((size, own, 1, 1))
    # as they lie: [block, block, channel read, channel made], and [block, channel read, made]
    laid = second.reshape(1, size, 2, size).transpose(0, 2, 3, 1).reshape(second.shape)
    begun = first.reshape(2, size, 3).transpose(0, 2, 1).reshape(first.shape)
    nodes = [
        node("Conv", ["x", "a", "b"], "h"),
        *between,
        node("Conv", ["r", "c"], "z"),
        node("ReorderOutput", ["z"], "y", channels=size),
    ]
    depthwise = np.zeros((2 * size, 1, 2, 2), np.float32)
    depthwise[:own] = rng.uniform(0.1, 1, (own, 1, 2, 2))
    rows = depthwise.reshape(2, size, 2, 2).transpose(0, 2, 3, 1).reshape(depthwise.shape)
    weights = {"a": begun, "b": bias, "c": laid, "d": rows}
    plain = [NodeProto() for _ in nodes[:-1]]
    for laid_out, as_it_was in zip(nodes, plain, strict=False):
        as_it_was.CopyFrom(laid_out)
        as_it_was.domain = ""
        for side, count in ((laid_out, 2 * size), (as_it_was, own)):
            for attribute in side.attribute:
                if attribute.name == "group":
                    attribute.i = count
    plain[-1].output[0] = "y"
    made = model(nodes, (1, 3, 2, 2), weights)
    cut = {"a": first[:own], "b": bias[:own], "c": second[:, :own], "d": depthwise[:own]}
    return model(plain, (1, 3, 2, 2), {**weights, **cut}), made


# ---- networks as onnxruntime writes them


def optimised(made: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(folder / "all.onnx")
    ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "all.onnx")


class Network:
    """Convolutions of any number of channels, and what lies between them.

    The last map of each shape may be added.
    """

    def __init__(self, draw: Draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 99)))
        self.nodes: list[NodeProto] = []
        self.weights: Arrays = {"three": np.float32(3), "low": np.float32(0), "six": np.float32(6)}
        self.flow, self.channels, self.side = "x", draw(st.sampled_from([1, 3, 8, 12])), 12
        self.maps: list[tuple[str, int, int]] = []
        self.input = (1, self.channels, 12, 12)
        for _ in range(draw(st.integers(1, 6))):
            getattr(
                self,
                draw(
                    st.sampled_from(
                        ["convolve"] * 4 + ["combine", "join", "squeeze", "enlarge", "shrink"]
                    )
                ),
            )()
        self.nodes.append(node("Identity", [self.flow], "y", ""))

    def add(self, operator: str, *inputs: str, **given_: Any) -> str:
        name = f"h{len(self.nodes)}"
        self.nodes.append(node(operator, inputs, name, "", **given_))
        return name

    def keep(self, name: str) -> None:
        self.flow = name
        self.maps.append((name, self.channels, self.side))

    def weigh(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        fan = int(np.prod(shape[1:], dtype=int)) or 1
        self.weights[name] = (self.rng.standard_normal(shape) / fan**0.5).astype(np.float32)
        return name

    def convolve(self) -> None:
        units = self.draw(st.sampled_from([3, 8, 12, 16, 20, 24, 32, 40]))
        group = self.draw(st.sampled_from([1, 1, self.channels]))
        units = self.channels if group > 1 else units
        kernel = self.draw(st.sampled_from([1, 3]))
        weight = self.weigh(units, self.channels // group, kernel, kernel)
        inputs = [self.flow, weight, *([self.weigh(units)] if self.draw(st.booleans()) else [])]
        y = self.add(
            "Conv", *inputs, group=group, pads=[kernel // 2] * 4, kernel_shape=[kernel, kernel]
        )
        self.channels = units
        match self.draw(st.sampled_from(["none", "relu", "silu", "hard", "clip"])):
            case "relu":
                y = self.add("Relu", y)
            case "silu":
                y = self.add("Mul", y, self.add("Sigmoid", y))
            case "hard":
                y = self.add(
                    "Div",
                    self.add("Mul", y, self.add("Clip", self.add("Add", y, "three"), "low", "six")),
                    "six",
                )
            case "clip":
                y = self.add("Clip", y, "low", "six")
        self.keep(y)

    def combine(self) -> None:
        others = [
            n for n, c, s in self.maps if (c, s) == (self.channels, self.side) and n != self.flow
        ]
        if others:
            self.keep(self.add("Add", self.flow, self.draw(st.sampled_from(others))))

    def join(self) -> None:
        others = [(n, c) for n, c, s in self.maps if s == self.side]
        if others:
            name, more = self.draw(st.sampled_from(others))
            joined = self.add("Concat", self.flow, name, axis=1)
            self.channels += more
            self.keep(joined)

    def squeeze(self) -> None:
        few = self.add(
            "Conv", self.add("GlobalAveragePool", self.flow), self.weigh(8, self.channels, 1, 1)
        )
        gate = self.add(
            "Sigmoid", self.add("Conv", self.add("Relu", few), self.weigh(self.channels, 8, 1, 1))
        )
        self.keep(self.add("Mul", self.flow, gate))

    def enlarge(self) -> None:
        if self.side < 20:
            self.weights["twice"] = np.array([1, 1, 2, 2], np.float32)
            modes = {
                "mode": "nearest",
                "nearest_mode": "floor",
                "coordinate_transformation_mode": "asymmetric",
            }
            self.side *= 2
            self.keep(self.add("Resize", self.flow, "", "twice", **modes))

    def shrink(self) -> None:
        if self.side % 2 == 0:
            self.side //= 2
            operator = self.draw(st.sampled_from(["MaxPool", "AveragePool"]))
            self.keep(self.add(operator, self.flow, kernel_shape=[2, 2], strides=[2, 2]))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_the_optimiser_writes_is_the_same_program(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    net = Network(data.draw)
    made = model(net.nodes, net.input, net.weights)
    folder = tmp_path_factory.mktemp("blocks")
    found = lady.check(made, optimised(made, folder))
    assert found.verdict == "identical", found.reason
    if lady.find_groups(made).groups:
        assert lady.check(made, optimised(lady.permute(made, 1).model, folder)).accepted


@pytest.mark.parametrize("channels", [16, 20])
def test_a_norm_that_no_layer_takes_up_is_the_same_program(channels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(channels)
    draw = rng.standard_normal
    arrays = {
        **{"a": draw((channels, 3, 3, 3)), "b": draw((channels, channels, 3, 3))},
        **{n: rng.random(channels) + 0.5 for n in ("scale", "variance")},
        **{n: draw(channels) for n in ("offset", "mean")},
    }
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("BatchNormalization", ["r", "scale", "offset", "mean", "variance"], ["n"]),
        helper.make_node("Conv", ["n", "b"], ["y"]),
    ]
    made = model(nodes, [1, 3, 12, 12], {n: a.astype(np.float32) for n, a in arrays.items()})
    found = lady.check(made, optimised(made, tmp_path))
    assert found.verdict == "identical", found.reason
