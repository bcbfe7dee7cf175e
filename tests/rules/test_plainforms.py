"""Plain forms of fused operators: onnxruntime runs both; what is not understood has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, NodeProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as capi

from lady_onnx.rules.plain_forms import PLAIN_FORMS
from lady_onnx.vocabulary.structure import MICROSOFT

from ..helpers.plain_cases.base import CASES, DEFINITIONS, check, node_of, run, spelled


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


def test_another_precision_of_a_norm_has_no_plain_form() -> None:
    node = helper.make_node("SimplifiedLayerNormalization", ["x0", "x1"], ["r0"], stash_type=10)
    assert spelled(node, {"x0": np.zeros((2, 3), np.float32)}) is None


@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
@pytest.mark.parametrize("results", [["r0", "mean"], ["r0", "", "inverse"]])
def test_statistics_of_a_norm_have_no_plain_form(operator: str, results: list[str]) -> None:
    node = helper.make_node(operator, ["x0", "x1", "x2"], results, domain=MICROSOFT)
    assert spelled(node, {"x0": np.zeros((2, 3), np.float32)}) is None


def test_segments_without_a_table_have_no_plain_form() -> None:
    names = ["ids", "segments", "words", "places", "", "gamma", "beta"]
    node = helper.make_node("EmbedLayerNormalization", names, ["r0", "r1"], domain=MICROSOFT)
    assert spelled(node, {}) is None


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
