"""Plain forms of fused operators: onnxruntime runs both; what is not understood has none."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, NodeProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as capi
from scipy import special

from lady_onnx.rules.plain_forms import MICROSOFT, PLAIN_FORMS, spell_out

from ..helpers.draws import (
    Draw,
    activation,
    average_pooling,
    maybe,
    one_of,
    pooling,
    reals,
    some,
)


@dataclass
class Case:
    """A fused node with what it is given.

    Attributes:
        operands: the operands' values by position; None for one that is left out.
        attributes: the attributes.
        results: the names of the results; "" for one that is not asked for.
        steps: so many steps the plain form may be away where the results are whole numbers.
    """

    operands: Sequence[np.ndarray | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    results: Sequence[str] = ("r0",)
    steps: int = 0


CASES: dict[tuple[str, str], Callable[[Draw], Case]] = {}
"""By domain and operator what draws a case that onnxruntime runs and that has a plain form."""


DEFINITIONS: dict[str, Callable[[Case], np.ndarray]] = {}
"""What operators compute that onnxruntime has none of on a CPU, as their schema defines it."""


def case(
    *operators: str, domain: str = MICROSOFT
) -> Callable[[Callable[[Draw], Case]], Callable[[Draw], Case]]:
    def register(function: Callable[[Draw], Case]) -> Callable[[Draw], Case]:
        CASES.update({(domain, operator): function for operator in operators})
        return function

    return register


def size(draw: Draw, most: int = 4) -> int:
    return draw(st.integers(1, most))


def sizes(draw: Draw, least: int, most: int) -> list[int]:
    return draw(st.lists(st.integers(1, 4), min_size=least, max_size=most))


def node_of(operator: str, domain: str, drawn: Case) -> tuple[NodeProto, dict[str, np.ndarray]]:
    """The node of a case, and its operands' values by name."""
    feeds = {f"x{k}": value for k, value in enumerate(drawn.operands) if value is not None}
    names = [f"x{k}" if f"x{k}" in feeds else "" for k in range(len(drawn.operands))]
    return helper.make_node(
        operator, names, drawn.results, domain=domain, **drawn.attributes
    ), feeds


def spelled(
    node: NodeProto, feeds: dict[str, np.ndarray], ranks: bool = True
) -> list[NodeProto] | None:
    taken = itertools.count()
    known = {name: value.shape for name, value in feeds.items()} if ranks else {}
    rank = {name: len(shape) for name, shape in known.items()}.get
    return spell_out(node, rank, lambda hint: f"{hint}.{next(taken)}")


def run(
    nodes: Sequence[NodeProto], feeds: dict[str, np.ndarray], results: Sequence[str]
) -> list[np.ndarray]:
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in feeds.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in results]
    domains = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=domains, ir_version=9
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def check(operator: str, domain: str, drawn: Case) -> None:
    node, feeds = node_of(operator, domain, drawn)
    plain = spelled(node, feeds)
    assert plain is not None
    assert all(n.domain == "" and n.op_type != "Identity" for n in plain)
    results = [name for name in drawn.results if name]
    judge = DEFINITIONS.get(operator) if domain == MICROSOFT else None
    expected = [judge(drawn)] if judge else run([node], feeds, results)
    # an activation that bounds its results hides how large the sums are that were rounded before it
    is_activated = any(a.name == "activation" for a in node.attribute)
    sums = [
        n.output[0]
        for n in plain
        if is_activated and n.op_type in ("Conv", "Gemm") and n.output[0] not in results
    ]
    found = run(plain, feeds, [*results, *sums])
    inner = max([1.0, *(float(np.abs(a).max(initial=0)) for a in found[len(results) :])])
    for fused, written in zip(expected, found[: len(results)], strict=True):
        assert (fused.dtype, fused.shape) == (written.dtype, written.shape)
        if fused.dtype.kind == "f":
            room = 1e-5 * max(inner, float(np.abs(fused).max(initial=0)))
            np.testing.assert_allclose(written, fused, rtol=1e-5, atol=room)
        else:
            assert np.abs(fused.astype(int) - written.astype(int)).max(initial=0) <= drawn.steps


@pytest.mark.parametrize(("domain", "operator"), PLAIN_FORMS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(st.data())
def test_the_plain_form_computes_what_the_operator_does(
    domain: str, operator: str, data: st.DataObject
) -> None:
    check(operator, domain, CASES[domain, operator](data.draw))


@pytest.mark.parametrize(("domain", "operator"), PLAIN_FORMS)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_is_not_declared_has_no_plain_form(
    domain: str, operator: str, data: st.DataObject
) -> None:
    node, feeds = node_of(operator, domain, CASES[domain, operator](data.draw))
    assert spelled(node, feeds)
    for change in ("attribute", "twice", "kind", "operand", "missing", "overload", "result"):
        changed = NodeProto()
        changed.CopyFrom(node)
        if change == "attribute":
            changed.attribute.append(helper.make_attribute("unheard_of", 1))
        elif change == "twice" and node.attribute:
            changed.attribute.append(node.attribute[0])
        elif change == "kind" and node.attribute:
            name = node.attribute[0].name
            changed.attribute[0].CopyFrom(helper.make_attribute(name, [b"x"]))
        elif change == "operand" and not PLAIN_FORMS[domain, operator].has_rest:
            changed.input.extend(
                [""] * (len(PLAIN_FORMS[domain, operator].operands) - len(node.input)) + ["x0"]
            )
        elif change == "missing":
            changed.input[0] = ""
        elif change == "overload":
            changed.overload = "another"
        elif change == "result":
            changed.output.extend([*[""] * 7, "one_more"])
        assert changed == node or spelled(changed, feeds) is None, change
    for name in (
        SCHEMAS[domain, operator].attributes.keys()
        - PLAIN_FORMS[domain, operator].attributes.keys()
    ):
        changed = NodeProto()
        changed.CopyFrom(node)
        changed.attribute.append(helper.make_attribute(name, 0))
        assert spelled(changed, feeds) is None, name


SCHEMAS = {(s.domain, s.name): s for s in capi.get_all_operator_schema()}


@pytest.mark.parametrize(("domain", "operator"), PLAIN_FORMS)
def test_declarations_speak_of_what_the_schema_has(domain: str, operator: str) -> None:
    schema, declared = SCHEMAS[domain, operator], PLAIN_FORMS[domain, operator]
    operands = [i.name for i in schema.inputs]
    assert [name.rstrip("?") for name in declared.operands] == operands[: len(declared.operands)]
    for name, is_optional in zip(declared.operands, schema.inputs, strict=False):
        assert name.endswith("?") == (
            is_optional.option == capi.schemadef.OpSchema.FormalParameterOption.Optional
        )
    for name, attribute in declared.attributes.items():
        default = AttributeProto.FromString(schema.attributes[name]._default_value)
        assert attribute.kind == int(schema.attributes[name].type)
        if default.type == AttributeProto.FLOAT:
            assert np.float32(attribute.default) == default.f
        elif default.type:
            assert attribute.default == attribute.read_value(default)


def test_other_operators_have_no_plain_form() -> None:
    for domain, operator in (("", "Relu"), ("another", "FusedConv"), (MICROSOFT, "Unheard")):
        node = helper.make_node(operator, ["x0"], ["r0"], domain=domain)
        assert spelled(node, {"x0": np.zeros(1, np.float32)}) is None


# ---- cases, one function a family


@case("FusedConv")
def fused_conv(draw: Draw) -> Case:
    attributes, operands = convolution(draw)
    result = run(
        [helper.make_node("Conv", ["x", "w"], ["r"], **attributes)],
        dict(zip("xw", operands[:2], strict=True)),
        ["r"],
    )
    addend = maybe(draw, lambda: reals(draw, *result[0].shape))
    return Case([*operands, addend], attributes | activation(draw))


def convolution(draw: Draw) -> tuple[dict[str, Any], list[Any]]:
    """The attributes of a convolution, and its operands."""
    axes = draw(st.integers(1, 3))
    group, inner, outer = size(draw, 3), size(draw, 3), size(draw, 3)
    kernel = [size(draw, 3) for _ in range(axes)]
    attributes = some(
        draw,
        strides=[[1] * axes, [2] * axes],
        dilations=[[2] * axes, [1] * axes],
        kernel_shape=[kernel],
    )
    attributes |= draw(
        st.sampled_from(
            [{}, {"pads": [1] * axes + [0] * axes}, {"pads": [1] * 2 * axes}, {"auto_pad": "VALID"}]
        )
    )
    if "dilations" not in attributes and "pads" not in attributes:
        attributes |= some(draw, auto_pad=["SAME_UPPER", "SAME_LOWER"])
    image = [draw(st.integers(6, 7)) for _ in range(axes)]
    weight = reals(draw, group * outer, inner, *kernel)
    operands = [
        reals(draw, 2, group * inner, *image),
        weight,
        maybe(draw, lambda: reals(draw, group * outer)),
    ]
    return attributes | ({"group": group} if group > 1 or draw(st.booleans()) else {}), operands


@pytest.mark.parametrize(
    "attributes",
    [
        {"activation": ""},
        {"activation": "Erf"},
        {"activation": "Clip", "activation_params": [1.0]},
        {"activation": "LeakyRelu"},
        {"activation": "LeakyRelu", "activation_params": [0.1, 0.2]},
        {"activation": "Relu", "activation_params": [0.1]},
        {"activation_params": [0.1]},
    ],
)
def test_other_activations_of_convolutions_have_no_plain_form(attributes: dict[str, Any]) -> None:
    node = helper.make_node("FusedConv", ["x", "w"], ["r"], domain=MICROSOFT, **attributes)
    assert spelled(node, {}) is None


@case("FusedGemm")
def fused_gemm(draw: Draw) -> Case:
    m, k, n = size(draw), size(draw), size(draw)
    attributes = some(draw, alpha=[0.5, -1.0], beta=[0.5, -1.0], transA=[0, 1], transB=[0, 1])
    kinds: list[dict[str, Any]] = [
        {"activation": k} for k in ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
    ]
    kinds += [
        {"activation": k, "activation_alpha": 0.3} for k in ("Elu", "LeakyRelu", "ThresholdedRelu")
    ]
    kinds += [{"activation": "HardSigmoid", "activation_alpha": 0.3, "activation_beta": 0.4}]
    kinds += [{"activation": "Selu", "activation_alpha": 0.3, "activation_gamma": 0.4}]
    a = reals(draw, *((k, m) if attributes.get("transA") else (m, k)))
    b = reals(draw, *((n, k) if attributes.get("transB") else (k, n)))
    c = maybe(
        draw, lambda: reals(draw, *draw(st.sampled_from([(n,), (1, n), (m, 1), (m, n), (1,), ()])))
    )
    return Case([a, b, c], attributes | draw(st.sampled_from(kinds)))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"activation": "Clip"},
        {"activation": "LeakyRelu"},
        {"activation": "Relu", "activation_alpha": 0.1},
        {"activation": "HardSigmoid", "activation_alpha": 0.1},
        {"activation": "LeakyRelu", "activation_alpha": 0.1, "activation_gamma": 0.1},
    ],
)
def test_other_activations_of_gemm_have_no_plain_form(attributes: dict[str, Any]) -> None:
    assert (
        spelled(
            helper.make_node("FusedGemm", ["a", "b"], ["r"], domain=MICROSOFT, **attributes), {}
        )
        is None
    )


def product(draw: Draw, batched: bool) -> Case:
    m, k, n = size(draw), size(draw), size(draw)
    attributes = some(draw, alpha=[0.5, -1.0, 1.0], transA=[0, 1], transB=[0, 1])
    batches = sizes(draw, 1, 2) if batched else sizes(draw, 0, 2)
    if batched:
        attributes |= some(draw, transBatchA=[0, 1], transBatchB=[0, 1])
    operands = []
    for side, (rows, columns) in {"A": (m, k), "B": (k, n)}.items():
        own = [draw(st.sampled_from([1, b])) for b in batches]
        if not batched:
            own = own[draw(st.integers(0, len(own))) :]
        if attributes.get("trans" + side):
            rows, columns = columns, rows
        shape = (
            [rows, *own, columns] if attributes.get("transBatch" + side) else [*own, rows, columns]
        )
        operands.append(reals(draw, *shape))
    if not batched and draw(st.booleans()):
        operands[0] = reals(draw, k)
    elif not batched and not attributes.get("transA") and draw(st.booleans()):
        operands[1] = reals(draw, k)
    return Case(operands, attributes)


@case("FusedMatMul")
def fused_matmul(draw: Draw) -> Case:
    return product(draw, draw(st.booleans()))


@case("TransposeMatMul")
def transpose_matmul(draw: Draw) -> Case:
    return product(draw, False)


@pytest.mark.parametrize(
    "attributes", [{"transA": 1}, {"transB": 1}, {"transBatchA": 1}, {"transBatchB": 1}]
)
def test_a_product_of_factors_of_unknown_rank_has_no_plain_form(attributes: dict[str, int]) -> None:
    node = helper.make_node("FusedMatMul", ["x0", "x1"], ["r"], domain=MICROSOFT, **attributes)
    feeds = {name: np.zeros((2, 2, 2), np.float32) for name in ("x0", "x1")}
    assert spelled(node, feeds)
    assert spelled(node, feeds, ranks=False) is None


def test_onnxruntime_does_not_transpose_in_front_of_a_vector() -> None:
    node = helper.make_node("FusedMatMul", ["x0", "x1"], ["r"], domain=MICROSOFT, transA=1)
    feeds = {
        "x0": np.arange(9, dtype=np.float32).reshape(3, 3),
        "x1": np.arange(3, dtype=np.float32),
    }
    assert spelled(node, feeds) is None
    assert run([node], feeds, ["r"])[0].tolist() != (feeds["x0"].T @ feeds["x1"]).tolist()


@case("Gelu")
def gelu(draw: Draw) -> Case:
    return Case([reals(draw, *sizes(draw, 0, 3))])


@case("QuickGelu")
def quick_gelu(draw: Draw) -> Case:
    return Case([reals(draw, *sizes(draw, 1, 3))], some(draw, alpha=[1.0, 1.702, -0.5]))


@case("FastGelu")
def fast_gelu(draw: Draw) -> Case:
    shape = sizes(draw, 1, 3)
    return Case([reals(draw, *shape), maybe(draw, lambda: reals(draw, shape[-1]))])


@case("BiasGelu")
def bias_gelu(draw: Draw) -> Case:
    shape = sizes(draw, 1, 3)
    return Case([reals(draw, *shape), reals(draw, shape[-1])])


def defined(
    operator: str,
) -> Callable[[Callable[[Case], np.ndarray]], Callable[[Case], np.ndarray]]:
    def register(function: Callable[[Case], np.ndarray]) -> Callable[[Case], np.ndarray]:
        DEFINITIONS[operator] = function
        return function

    return register


def present(drawn: Case) -> list[np.ndarray]:
    return [value for value in drawn.operands if value is not None]


def erf_gelu(x: np.ndarray) -> np.ndarray:
    return (x * (1 + special.erf(x / np.sqrt(2))) / 2).astype(np.float32)


def tanh_gelu(x: np.ndarray) -> np.ndarray:
    return (x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2).astype(np.float32)


@case("GemmFastGelu")
def gemm_fast_gelu(draw: Draw) -> Case:
    rows, k, n = sizes(draw, 1, 3), size(draw), size(draw)
    return Case(
        [reals(draw, *rows, k), reals(draw, k, n), *draw(st.sampled_from([[], [reals(draw, n)]]))]
    )


@defined("GemmFastGelu")
def defined_gemm_fast_gelu(drawn: Case) -> np.ndarray:
    x, w, *bias = present(drawn)
    return tanh_gelu(x @ w + sum(bias))


@case("BiasAdd")
def bias_add(draw: Draw) -> Case:
    shape = sizes(draw, 3, 3)
    return Case([reals(draw, *shape), reals(draw, shape[-1]), reals(draw, *shape)])


@case("BiasSplitGelu")
def bias_split_gelu(draw: Draw) -> Case:
    *shape, half = sizes(draw, 3, 3)
    return Case([reals(draw, *shape, 2 * half), reals(draw, 2 * half)])


@defined("BiasSplitGelu")
def defined_bias_split_gelu(drawn: Case) -> np.ndarray:
    first, second = np.split(sum(present(drawn)), 2, axis=-1)
    return first * erf_gelu(second)


@case("BiasDropout", "BitmaskBiasDropout")
def bias_dropout(draw: Draw) -> Case:
    shape = sizes(draw, 1, 3)
    bias = reals(draw, *draw(st.sampled_from([shape, shape[-1:]])))
    residual = maybe(draw, lambda: reals(draw, *shape))
    ratio = maybe(draw, lambda: np.array(0.5, np.float32))
    return Case([reals(draw, *shape), bias, residual, ratio], some(draw, seed=[0, 7]))


@defined("BiasAdd")
@defined("BiasDropout")
@defined("BitmaskBiasDropout")
def defined_sum(drawn: Case) -> np.ndarray:
    return sum(present(Case(drawn.operands[:3])))


@pytest.mark.parametrize("operator", ["BiasDropout", "BitmaskBiasDropout"])
def test_a_dropout_that_may_train_has_no_plain_form(operator: str) -> None:
    feeds = {"x0": np.zeros((2, 3), np.float32), "x1": np.zeros(3, np.float32)}
    assert spelled(helper.make_node(operator, ["x0", "x1"], ["r0"], domain=MICROSOFT), feeds)
    training = helper.make_node(
        operator, ["x0", "x1", "", "ratio", "is_training"], ["r0"], domain=MICROSOFT
    )
    assert spelled(training, feeds) is None
    masked = helper.make_node(operator, ["x0", "x1"], ["r0", "mask"], domain=MICROSOFT)
    assert spelled(masked, feeds) is None


@case("BiasSoftmax")
def bias_softmax(draw: Draw) -> Case:
    """The bias is as the data, with ones where it is broadcast.

    That is in front of an axis, or from that on to the axis.
    """
    shape = sizes(draw, 2, 4)
    axis = draw(st.integers(1, len(shape) - 1))
    place = draw(st.integers(0, axis))
    is_inner = draw(st.booleans())
    ones = range(place, axis) if is_inner else range(place)
    bias = [1 if k in ones else n for k, n in enumerate(shape)]
    bias = bias[0 if is_inner else draw(st.integers(0, place)) :]
    given_axis = {"axis": draw(st.sampled_from([axis, axis - len(shape)]))}
    attributes = {"is_inner_broadcast": int(is_inner)} | (
        {} if axis == 1 and draw(st.booleans()) else given_axis
    )
    return Case([reals(draw, *shape), reals(draw, *bias)], attributes)


@defined("BiasSoftmax")
def defined_bias_softmax(drawn: Case) -> np.ndarray:
    total = sum(present(drawn))
    axis = drawn.attributes.get("axis", 1) % total.ndim
    return special.softmax(total, axis=tuple(range(axis, total.ndim)))


@case("SimplifiedLayerNormalization", domain="")
def simplified_layer_normalization(draw: Draw) -> Case:
    shape = sizes(draw, 1, 3)
    axis = draw(st.integers(0, len(shape) - 1))
    attributes = some(draw, epsilon=[1e-3, 0.5], stash_type=[1])
    if axis < len(shape) - 1 or draw(st.booleans()):
        attributes["axis"] = draw(st.sampled_from([axis, axis - len(shape)]))
    results = draw(st.sampled_from([["r0"], ["r0", "r1"]]))
    return Case([reals(draw, *shape), reals(draw, *shape[axis:])], attributes, results)


def test_another_precision_of_a_norm_has_no_plain_form() -> None:
    node = helper.make_node("SimplifiedLayerNormalization", ["x0", "x1"], ["r0"], stash_type=10)
    assert spelled(node, {"x0": np.zeros((2, 3), np.float32)}) is None


def rows(draw: Draw, *shape: int) -> np.ndarray:
    """Rows of numbers that lie apart: otherwise their norm magnifies how the operators round."""
    return 2 * np.arange(shape[-1], dtype=np.float32) + reals(draw, *shape) / 10


def skipping(draw: Draw) -> tuple[list[int], list[np.ndarray]]:
    """A shape, and two maps of which the second may have no batch of its own."""
    shape = sizes(draw, 2, 3)
    others = [shape, shape[-2:], [1, *shape[-2:]]] if len(shape) == 3 else [shape]
    return shape, [rows(draw, *shape), reals(draw, *draw(st.sampled_from(others))) / 10]


@case("SkipLayerNormalization")
def skip_layer_normalization(draw: Draw) -> Case:
    shape, maps = skipping(draw)
    others = [maybe(draw, lambda: reals(draw, shape[-1]) / 10) for _ in range(2)]
    operands = [*maps, reals(draw, shape[-1]), *others]
    results = draw(st.sampled_from([["r0"], ["r0", "", "", "r1"]]))
    return Case(operands, some(draw, epsilon=[1e-3, 0.5]), results)


@case("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(draw: Draw) -> Case:
    shape, maps = skipping(draw)
    operands = [*maps, reals(draw, shape[-1]), maybe(draw, lambda: reals(draw, shape[-1]) / 10)]
    results = draw(st.sampled_from([["r0"], ["r0", "", "", "r1"]]))
    return Case(operands, some(draw, epsilon=[1e-3, 0.5]), results)


@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
@pytest.mark.parametrize("results", [["r0", "mean"], ["r0", "", "inverse"]])
def test_statistics_of_a_norm_have_no_plain_form(operator: str, results: list[str]) -> None:
    node = helper.make_node(operator, ["x0", "x1", "x2"], results, domain=MICROSOFT)
    assert spelled(node, {"x0": np.zeros((2, 3), np.float32)}) is None


@case("EmbedLayerNormalization")
def embed_layer_normalization(draw: Draw) -> Case:
    batch, length, width = size(draw), size(draw), size(draw)

    def numbers(rows: int, least: int, most: int) -> np.ndarray:
        generator = np.random.default_rng(draw(st.integers(0, 99)))
        return generator.integers(least, most, (rows, length)).astype(np.int32)

    segments = (
        [numbers(batch, 0, 2), reals(draw, 2, width) / 10] if draw(st.booleans()) else [None, None]
    )
    tables = [rows(draw, 5, width), reals(draw, 6, width) / 10]
    operands = [numbers(batch, 0, 5), segments[0], *tables, segments[1]]
    operands += [reals(draw, width), reals(draw, width), maybe(draw, lambda: numbers(batch, -1, 3))]
    operands += [maybe(draw, lambda: numbers(draw(st.sampled_from([1, batch])), 0, 6))]
    results = draw(st.sampled_from([["r0", "r1"], ["r0", "r1", "r2"], ["r0", "", "r2"]]))
    return Case(operands, some(draw, epsilon=[1e-3], mask_index_type=[0, 1]), results)


def test_segments_without_a_table_have_no_plain_form() -> None:
    names = ["ids", "segments", "words", "places", "", "gamma", "beta"]
    node = helper.make_node("EmbedLayerNormalization", names, ["r0", "r1"], domain=MICROSOFT)
    assert spelled(node, {}) is None


def masks(
    draw: Draw, batch: int, queries: int, keys: int
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """A mask, and what it adds.

    Where that is large every query sees a key, for rounding is large where it sees none.
    """
    generator = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    shape = draw(st.sampled_from([(batch, keys), (batch, queries, keys)]))
    mask = generator.integers(-1, 3, shape).astype(np.int32)
    attributes = some(
        draw, mask_filter_value=[-1.0, -50.0], scale=[0.0, 0.7, -0.3], unidirectional=[0]
    )
    if "mask_filter_value" not in attributes:
        mask[..., generator.integers(0, keys)] = 1
    return (mask if draw(st.booleans()) else None), attributes


def score_bias(draw: Draw, batch: int, heads: int, queries: int, keys: int) -> np.ndarray | None:
    return maybe(
        draw,
        lambda: reals(
            draw,
            draw(st.sampled_from([1, batch])),
            draw(st.sampled_from([1, heads])),
            queries,
            keys,
        ),
    )


@case("Attention")
def attention(draw: Draw) -> Case:
    batch, length, inner, heads = size(draw, 3), size(draw), size(draw), size(draw, 3)
    width = heads * size(draw, 3)
    mask, attributes = masks(draw, batch, length, length)
    widths = [width, width, width]
    if draw(st.booleans()):
        widths[2] = heads * size(draw, 3)
        attributes["qkv_hidden_sizes"] = widths
    operands = [
        reals(draw, batch, length, inner),
        reals(draw, inner, sum(widths)) / 2,
        reals(draw, sum(widths)),
    ]
    bias = score_bias(draw, batch, heads, length, length)
    return Case([*operands, mask, None, bias], attributes | {"num_heads": heads})


@case("MultiHeadAttention")
def multi_head_attention(draw: Draw) -> Case:
    batch, queries, keys, heads = size(draw, 3), size(draw), size(draw), size(draw, 3)
    width, values = heads * size(draw, 3), heads * size(draw, 3)
    mask, attributes = masks(draw, batch, queries, keys)
    operands = [
        reals(draw, batch, queries, width),
        reals(draw, batch, keys, width),
        reals(draw, batch, keys, values),
    ]
    operands += [
        maybe(draw, lambda: reals(draw, 2 * width + values)),
        mask,
        score_bias(draw, batch, heads, queries, keys),
    ]
    return Case(operands, attributes | {"num_heads": heads})


def test_attention_without_a_bias_is_that_with_zeros() -> None:
    generator = np.random.default_rng(0)
    feeds = {
        f"x{k}": generator.standard_normal(s).astype(np.float32)
        for k, s in enumerate([(2, 3, 4), (4, 18)])
    }
    without = helper.make_node("Attention", ["x0", "x1"], ["r0"], domain=MICROSOFT, num_heads=2)
    plain = spelled(without, feeds)
    assert plain
    feeds["x2"] = np.zeros(18, np.float32)
    zeros = helper.make_node("Attention", ["x0", "x1", "x2"], ["r0"], domain=MICROSOFT, num_heads=2)
    np.testing.assert_allclose(
        run(plain, feeds, ["r0"])[0], run([zeros], feeds, ["r0"])[0], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("operator", "ranks", "attributes"),
    [
        ("Attention", (3, 2, 1, 1), {}),
        ("Attention", (3, 2, 1, 4), {}),
        ("Attention", (3, 2, 1, 0, 5), {}),
        ("Attention", (3, 2, 1), {"unidirectional": 1}),
        ("Attention", (3, 2, 1), {"qkv_hidden_sizes": [4, 4]}),
        ("Attention", (3, 2, 1), {"do_rotary": 0}),
        ("MultiHeadAttention", (3,), {}),
        ("MultiHeadAttention", (5,), {}),
        ("MultiHeadAttention", (3, 5), {}),
        ("MultiHeadAttention", (3, 4, 4), {}),
        ("MultiHeadAttention", (3, 3, 3, 1, 1), {}),
        ("MultiHeadAttention", (3, 3, 3), {"unidirectional": 1}),
        ("MultiHeadAttention", (3, 3, 3, 0, 0, 0, 4, 4), {}),
    ],
)
def test_other_attention_has_no_plain_form(
    operator: str, ranks: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    feeds = {f"x{k}": np.zeros([2] * rank, np.float32) for k, rank in enumerate(ranks) if rank}
    names = [f"x{k}" if rank else "" for k, rank in enumerate(ranks)]
    node = helper.make_node(operator, names, ["r0"], domain=MICROSOFT, num_heads=2, **attributes)
    assert spelled(node, feeds) is None


@case("NhwcFusedConv")
def nhwc_fused_conv(draw: Draw) -> Case:
    attributes, (x, weight, bias) = convolution(draw)
    x = np.moveaxis(x, 1, -1)
    without = Case([x, weight, bias], attributes)
    addend = maybe(draw, lambda: reals(draw, *defined_nhwc_fused_conv(without).shape))
    return Case([x, weight, bias, addend], attributes | activation(draw))


@defined("NhwcFusedConv")
def defined_nhwc_fused_conv(drawn: Case) -> np.ndarray:
    x, weight, *others = drawn.operands
    assert x is not None
    maps = [None if v is None else np.moveaxis(v, -1, 1) for v in (x, *others[1:])]
    node, feeds = node_of(
        "FusedConv", MICROSOFT, Case([maps[0], weight, *others[:1], *maps[1:]], drawn.attributes)
    )
    return np.moveaxis(run([node], feeds, ["r0"])[0], 1, -1)


@case("NhwcMaxPool")
def nhwc_max_pool(draw: Draw) -> Case:
    attributes, axes = pooling(draw), 2
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from([np.int8, np.uint8]))
    shape = (2, *(draw(st.integers(6, 7)) for _ in range(axes)), size(draw))
    return Case([generator.integers(0, 100, shape).astype(kind)], attributes)


KINDS = (np.uint8, np.int8)
"""The types of bytes."""


def whole(draw: Draw, kind: Any, *shape: int) -> np.ndarray:
    generator = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    information = np.iinfo(kind)
    return generator.integers(information.min, information.max + 1, shape).astype(kind)


def pair(
    draw: Draw, kind: Any, shape: Sequence[int] = (), size_of_result: float = 0.1
) -> list[np.ndarray]:
    """A scale and a zero point."""
    scale = size_of_result * draw(st.integers(1, 60)) / 16
    zero = np.asarray(whole(draw, kind, *shape) // 4, kind)
    scales = scale * (1 + np.arange(zero.size).reshape(shape) / 3)
    return [np.asarray(scales, np.float32), zero]


def no_scale_or_a_vector(draw: Draw) -> tuple[int, ...]:
    """The shape of a scale for a whole tensor."""
    return one_of(draw, (), (1,))


@case("QLinearAdd", "QLinearMul")
def qlinear_pair(draw: Draw) -> Case:
    kind, shape = one_of(draw, *KINDS), sizes(draw, 1, 3)
    b = [one_of(draw, 1, n) for n in shape][draw(st.integers(0, len(shape) - 1)) :]
    operands = [
        whole(draw, kind, *shape),
        *pair(draw, kind),
        whole(draw, kind, *b),
        *pair(draw, kind),
    ]
    return Case([*operands, *pair(draw, kind, size_of_result=0.5)], steps=1)


@case("QLinearLeakyRelu", "QLinearSigmoid")
def qlinear_single(draw: Draw) -> Case:
    kind = one_of(draw, *KINDS)
    operands = [whole(draw, kind, *sizes(draw, 1, 3)), *pair(draw, kind), *pair(draw, kind)]
    operands[2] = one_of(draw, operands[2], None)
    return Case(operands, steps=1)


@case("QLinearLeakyRelu")
def qlinear_leaky_relu(draw: Draw) -> Case:
    drawn = qlinear_single(draw)
    drawn.attributes |= some(draw, alpha=[0.3, 0.0])
    return drawn


@case("QLinearAveragePool")
def qlinear_average_pool(draw: Draw) -> Case:
    kind = one_of(draw, *KINDS)
    axes = draw(st.integers(1, 3))
    attributes = average_pooling(draw, axes) | some(draw, channels_last=[0, 1])
    image, channels = [draw(st.integers(6, 7)) for _ in range(axes)], size(draw)
    shape = [2, *image, channels] if attributes.get("channels_last") else [2, channels, *image]
    return Case(
        [whole(draw, kind, *shape), *pair(draw, kind), *pair(draw, kind)], attributes, steps=1
    )


@case("QLinearGlobalAveragePool")
def qlinear_global_average_pool(draw: Draw) -> Case:
    kind = one_of(draw, *KINDS)
    shape = sizes(draw, 3, 5)
    return Case(
        [whole(draw, kind, *shape), *pair(draw, kind), *pair(draw, kind)],
        some(draw, channels_last=[0, 1]),
        steps=1,
    )


@case("QLinearConcat")
def qlinear_concat(draw: Draw) -> Case:
    kind, shape = one_of(draw, *KINDS), sizes(draw, 1, 3)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    operands = pair(draw, kind)
    for _ in range(size(draw, 3)):
        shape[axis] = size(draw)
        operands += [whole(draw, kind, *shape), *pair(draw, kind)]
    return Case(operands, {"axis": axis}, steps=1)


@case("QGemm")
def qgemm(draw: Draw) -> Case:
    left, right = one_of(draw, (np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    m, k, n = size(draw), size(draw), size(draw)
    attributes = some(draw, alpha=[0.5, -1.0], transA=[0, 1], transB=[0, 1])
    a = whole(draw, left, *((k, m) if attributes.get("transA") else (m, k)))
    b = whole(draw, right, *((n, k) if attributes.get("transB") else (k, n)))
    scales = (
        pair(draw, left, no_scale_or_a_vector(draw)),
        pair(draw, right, one_of(draw, (), (1,), (n,))),
    )
    shapes = [(n,), (1, n), (m, n)]
    addend = maybe(draw, lambda: np.asarray(reals(draw, *one_of(draw, *shapes)) * 100, np.int32))
    result = pair(draw, left, size_of_result=3.0) if draw(st.booleans()) else []
    return Case([a, *scales[0], b, *scales[1], addend, *result], attributes, steps=1)


@case("MatMulIntegerToFloat")
def matmul_integer_to_float(draw: Draw) -> Case:
    left, right = one_of(draw, (np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    rows, k, n = sizes(draw, 1, 3), size(draw), size(draw)
    batches = one_of(draw, [], rows[:-1])
    weight = whole(draw, right, *batches, k, n)
    columns = () if batches else (n,)
    scales = (
        pair(draw, left, no_scale_or_a_vector(draw)),
        pair(draw, right, one_of(draw, (), (1,), columns)),
    )
    zeros = [maybe(draw, lambda: scales[0][1]), maybe(draw, lambda: scales[1][1])]
    bias = maybe(draw, lambda: reals(draw, n))
    return Case([whole(draw, left, *rows, k), weight, scales[0][0], scales[1][0], *zeros, bias])


@case("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(draw: Draw) -> Case:
    kind = one_of(draw, *KINDS)
    rows, k, n = sizes(draw, 1, 3), size(draw), size(draw)
    scale, zero = pair(draw, kind, one_of(draw, (), (1,), (n,)))
    operands = [reals(draw, *rows, k), whole(draw, kind, k, n), scale, one_of(draw, zero, None)]
    return Case([*operands, maybe(draw, lambda: reals(draw, n))])


def with_axis(draw: Draw, kind: Any) -> tuple[list[int], list[np.ndarray | None], dict[str, int]]:
    """A shape, a scale and a zero point that may be along an axis, and which that is."""
    shape = sizes(draw, 1, 3)
    if draw(st.booleans()):
        return shape, pair(draw, kind), some(draw, axis=[0])
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return shape, pair(draw, kind, (shape[axis],)), {"axis": axis}


@case("DequantizeLinear")
def dequantize_linear(draw: Draw) -> Case:
    kind = one_of(draw, np.int8, np.uint8)
    shape, (scale, zero), attributes = with_axis(draw, kind)
    return Case([whole(draw, kind, *shape), scale, one_of(draw, zero, None)], attributes)


@case("QuantizeLinear")
def quantize_linear(draw: Draw) -> Case:
    kind = one_of(draw, np.int8, np.uint8)
    shape, (scale, zero), attributes = with_axis(draw, kind)
    return Case([3 * reals(draw, *shape), scale, one_of(draw, zero, None)], attributes)


def test_onnxruntime_wraps_where_a_softmax_should_be_cut_off() -> None:
    """So nothing can be said of QLinearSoftmax without knowing the scale."""
    feeds = {"x0": np.array([[9, 9]], np.uint8), "x1": np.float32(1), "x2": np.uint8(0)}
    feeds = {name: np.asarray(value) for name, value in feeds.items()} | {
        "x3": np.array(2**-9, np.float32)
    }
    node = helper.make_node(
        "QLinearSoftmax", ["x0", "x1", "x2", "x3", "x2"], ["r0"], domain=MICROSOFT, opset=13
    )
    assert run([node], feeds, ["r0"])[0].tolist() == [[0, 0]]
    assert spelled(node, feeds) is None


@pytest.mark.parametrize(
    ("operator", "ranks", "attributes"),
    [
        ("DequantizeLinear", (2, 1, 1), {}),
        ("DequantizeLinear", (2, 1, 0), {"axis": 1}),
        ("DequantizeLinear", (2, 2, 2), {"axis": 1}),
        ("QuantizeLinear", (2, 1, 1), {}),
        ("QuantizeLinear", (2, 1, 0), {"axis": 1}),
        ("QuantizeLinear", (2, 2, 2), {"axis": 1}),
        ("QLinearAdd", (2, 0, 0, 2, 0, 0, 0), {}),
        ("QLinearSigmoid", (2, 0, 0, 0, 1), {}),
        ("QLinearConcat", (0, 0, 2, 0), {"axis": 0}),
        ("QLinearConcat", (0, 0), {"axis": 0}),
        ("QGemm", (2, 0, 0, 2, 0, 0, 1, 0), {}),
        ("QGemm", (2, 0, 0, 2, 0, 0, None, None, 0), {}),
        ("MatMulIntegerToFloat", (2, 3, 0, 3, 0, 3), {}),
    ],
)
def test_other_scales_have_no_plain_form(
    operator: str, ranks: tuple[int | None, ...], attributes: dict[str, int]
) -> None:
    feeds = {f"x{k}": np.zeros([2] * rank) for k, rank in enumerate(ranks) if rank is not None}
    names = [f"x{k}" if f"x{k}" in feeds else "" for k in range(len(ranks))]
    node = helper.make_node(operator, names, ["r0"], domain=MICROSOFT, **attributes)
    assert spelled(node, feeds) is None


@pytest.mark.parametrize("operator", sorted(DEFINITIONS))
@settings(max_examples=1, deadline=None, phases=[Phase.generate])
@given(st.data())
def test_onnxruntime_cannot_judge_where_a_definition_does(
    operator: str, data: st.DataObject
) -> None:
    drawn = CASES[MICROSOFT, operator](data.draw)
    node, feeds = node_of(operator, MICROSOFT, drawn)
    with pytest.raises(capi.NotImplemented):
        run([node], feeds, drawn.results)
