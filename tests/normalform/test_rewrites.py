"""Honest rewrites of whole models.

What a tool only wrote anew is accepted, plain, permuted and rescaled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import lady_onnx as lady
from lady_onnx.cli.main import main

from ..helpers import disguises, real
from ..helpers.closed_forms import DYNAMO, export_case
from ..helpers.factor_networks import convolutions, dense

Rewrite = Callable[[ModelProto, np.random.Generator], ModelProto]


def many_identities(model: ModelProto, rng: np.random.Generator) -> ModelProto:
    """One in every third place."""
    for _ in range(len(model.graph.node) // 3 + 1):
        model = disguises.insert_identity(model, rng)
    return model


def graphsurgeon(model: ModelProto, rng: np.random.Generator) -> ModelProto:
    graph = onnx_graphsurgeon.import_onnx(model)
    return onnx_graphsurgeon.export_onnx(graph.cleanup().toposort())


def padded_pools(model: ModelProto, rng: np.random.Generator) -> ModelProto:
    """A default that is written out."""
    for node in model.graph.node:
        if node.op_type == "MaxPool" and not any(a.name == "auto_pad" for a in node.attribute):
            node.attribute.append(helper.make_attribute("auto_pad", "NOTSET"))
    return model


def shared_roi(model: ModelProto, rng: np.random.Generator) -> ModelProto:
    """All empty operands of resizes are one, and the nodes stand in another order."""
    empty = next(n.input[1] for n in model.graph.node if n.op_type == "Resize" and n.input[1])
    for node in model.graph.node:
        if node.op_type == "Resize":
            node.input[1] = empty
    return disguises.reorder(model, rng)


def states(model: ModelProto, is_rescaled: bool) -> dict[str, ModelProto]:
    found = {"identical": model, "permuted": lady.permute(model, 1).graph.to_model("")}
    if is_rescaled:
        found["rescaled"] = lady.permute(
            lady.attack(model, "rescale", 0.5, seed=1).model, 2
        ).graph.to_model("")
    return found


def judge(model: ModelProto, rewrite: Rewrite, is_rescaled: bool) -> None:
    for verdict, state in states(model, is_rescaled).items():
        suspect = rewrite(
            ModelProto.FromString(state.SerializeToString()), np.random.default_rng(0)
        )
        found = lady.check(model, suspect)
        assert found.verdict == verdict, found.reason


@pytest.mark.parametrize(
    ("name", "rewrite"),
    [
        pytest.param(
            name,
            rewrite,
            # half a minute
            marks=pytest.mark.long if (name, rewrite) == ("ppocr-cls", many_identities) else (),
        )
        for rewrite in (
            disguises.insert_identity,
            many_identities,
            graphsurgeon,
            disguises.reorder,
            disguises.optimise,
        )
        for name in ("magika", "ppocr-cls")
    ],
)
def test_models_that_others_trained(name: str, rewrite: Rewrite) -> None:
    judge(onnx.load(real.path(name)), rewrite, False)


def test_an_empty_operand_that_one_file_shares() -> None:
    judge(onnx.load(real.path("ppocr-det")), shared_roi, False)


@pytest.mark.parametrize(
    "rewrite", [disguises.insert_identity, many_identities, disguises.optimise, disguises.convert]
)
def test_rescaled_language_models(rewrite: Rewrite) -> None:
    judge(export_case("bert", DYNAMO), rewrite, True)


def pooled() -> ModelProto:
    """Convolutions with a pool between them."""
    rng = np.random.default_rng(0)
    shapes = {"a": (8, 3, 3, 3), "ab": (8,), "b": (6, 8, 3, 3), "c": (6, 4)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n)
        for n, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["h"]),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("MaxPool", ["i"], ["j"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["j", "b"], ["k"]),
        helper.make_node("Relu", ["k"], ["l"]),
        helper.make_node("GlobalAveragePool", ["l"], ["m"]),
        helper.make_node("Flatten", ["m"], ["n"]),
        helper.make_node("MatMul", ["n", "c"], ["out"]),
    ]
    return closed(nodes, [2, 3, 12, 12], weights)


def closed(
    nodes: Sequence[NodeProto], x: Sequence[int], weights: Sequence[TensorProto]
) -> ModelProto:
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x)),
        helper.make_tensor_value_info("out", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


BUILT: dict[str, Callable[[], ModelProto]] = {
    "pools": pooled,
    "convolutions": lambda: convolutions("Relu", np.random.default_rng(0)),
    "dense": lambda: dense("Relu", np.random.default_rng(0)),
}


@pytest.mark.parametrize("rewrite", [padded_pools, many_identities, disguises.optimise])
@pytest.mark.parametrize("name", BUILT)
def test_rescaled_networks(name: str, rewrite: Rewrite) -> None:
    """onnxruntime's optimiser fuses their activations."""
    judge(BUILT[name](), rewrite, True)


@pytest.mark.parametrize("rewrite", [disguises.insert_identity, many_identities])
def test_quantised_networks(rewrite: Rewrite) -> None:
    rng = np.random.default_rng(0)
    weights, nodes, flow = [], [], "x"
    scale, zero = np.float32(0.02), np.int8(0)
    weights += [
        numpy_helper.from_array(np.asarray(a), n) for n, a in {"scale": scale, "zero": zero}.items()
    ]
    for k, shape in enumerate(((8, 16), (16, 12), (12, 4))):
        weights.append(
            numpy_helper.from_array(rng.integers(-127, 128, shape).astype(np.int8), f"w{k}")
        )
        nodes += [
            helper.make_node("QuantizeLinear", [flow, "scale", "zero"], [f"q{k}"]),
            helper.make_node("DequantizeLinear", [f"q{k}", "scale", "zero"], [f"d{k}"]),
            helper.make_node("DequantizeLinear", [f"w{k}", "scale", "zero"], [f"v{k}"]),
            helper.make_node("MatMul", [f"d{k}", f"v{k}"], [f"m{k}"]),
            helper.make_node("Relu", [f"m{k}"], [flow := f"r{k}"]),
        ]
    nodes.append(helper.make_node("Identity", [flow], ["out"]))
    judge(closed(nodes, [2, 8], weights), rewrite, False)


def test_another_model_of_the_same_shape_is_no_copy(
    tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    onnx.save(dense("Relu", np.random.default_rng(0)), one)
    onnx.save(dense("Relu", np.random.default_rng(1)), two)
    assert main(["resync", str(one), str(two)]) == 1
    assert "not a copy" in capsys.readouterr().out


@pytest.mark.parametrize("size", [1e20, 1e30])
def test_noise_that_leaves_nothing_is_no_copy(size: float) -> None:
    reference = pooled()
    found = lady.resync(reference, lady.attack(reference, "noise", size, seed=1).model)
    assert found.verdict == "unrelated"
    assert 0 <= found.psi_estimate < 50
