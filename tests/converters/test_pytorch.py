"""Training a model of which nothing but the file is left."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from lady_onnx.converters.operators import OPERATORS
from lady_onnx.converters.pytorch import Network, finetune
from onnx import helper

import lady_onnx as lady
from lady_onnx.cli.main import main
from lady_onnx.graph.loading import load_graph
from lady_onnx.runtime.sampling import draw_telling_samples
from lady_onnx.runtime.sessions import open_session, run_sample

from ..helpers.architectures import randomise
from ..helpers.builders import build
from ..helpers.exports import FORMS, forms, unfolded
from ..helpers.splices import Splice, pool


def computed(model: onnx.ModelProto, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What PyTorch and onnxruntime compute."""
    graph = load_graph(model)
    (name,) = [v.name for v in graph.model.graph.input if v.name not in graph.tensors]
    with torch.no_grad():
        ours = Network(graph, []).eval()({name: torch.from_numpy(x)})[0].numpy()
    return ours, run_sample(open_session(graph), graph, {name: x})[0]


@pytest.mark.parametrize("form", FORMS[:3])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit"])
def test_pytorch_computes_what_onnxruntime_does(name: str, form: str) -> None:
    ours, theirs = computed(
        forms(name)[form], np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32)
    )
    assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def classes(seed: int = 0) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return a small network with batch norm apart, and samples of two classes new to it."""
    torch.manual_seed(seed)
    layers = (
        torch.nn.Conv2d(1, 6, 3),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
    )
    net = randomise(torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(6, 2)))
    model = unfolded(net, torch.randn(2, 1, 8, 8))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 200)
    x = rng.standard_normal((200, 1, 8, 8)).astype(np.float32) + 2 * labels[
        :, None, None, None
    ].astype(np.float32)
    return model, {load_graph(model).model.graph.input[0].name: x, "labels": labels}


def accuracy(model: onnx.ModelProto, data: dict[str, np.ndarray], batch: int = 2) -> float:
    graph = load_graph(model)
    (name,) = (n for n in data if n != "labels")
    right = [
        run_sample(open_session(graph), graph, {name: data[name][k : k + batch]})[0].argmax(1)
        for k in range(0, 200, batch)
    ]
    return float((np.concatenate(right) == data["labels"]).mean())


def test_training_learns_and_leaves_every_unit_in_its_place() -> None:
    model, data = classes()
    tuned = finetune(model, data, 3, rate=0.05)
    fixed = onnx.ModelProto.FromString(model.SerializeToString())
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert accuracy(finetune(fixed, data, 3, rate=0.05).model, data, 1) > 0.95
    assert accuracy(tuned.model, data) > 0.95 > accuracy(model, data)
    assert finetune(model, data, 3, rate=0.05).model == tuned.model
    assert finetune(model, data, 0).weights == ()
    # the statistics of batch norm are learned with the rest
    assert {"1.running_mean", "1.running_var"} < set(tuned.weights)
    shuffled = lady.permute(finetune(model, data, 0.2).graph, 1)
    found = lady.check(model, shuffled.graph)
    assert found.verdict == "altered"
    assert found.resync is not None
    assert all(
        (m.permutation == np.argsort(shuffled.permutations[m.group])).all()
        for m in found.resync.matches
    )


def test_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = classes()
    onnx.save(model, tmp_path / "a.onnx")
    np.savez(tmp_path / "x.npz", **data)
    ask = [
        "attack",
        "finetune",
        str(tmp_path / "a.onnx"),
        "-o",
        str(tmp_path / "b.onnx"),
        "--strength",
        "0.5",
    ]
    assert main(ask) == 2
    assert "give --data X.npz" in capsys.readouterr().err
    assert main([*ask, "--data", str(tmp_path / "x.npz")]) == 0
    by_strength = (tmp_path / "b.onnx").read_bytes()
    assert main([*ask[:-2], "--epochs", "0.5", "--data", str(tmp_path / "x.npz")]) == 0
    assert (tmp_path / "b.onnx").read_bytes() == by_strength
    assert "finetune of strength 0.5 on 6 weights" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]) == 1
    assert capsys.readouterr().out.startswith("altered")
    (tmp_path / "b.onnx").unlink()
    np.savez(tmp_path / "y.npz", labels=data["labels"])
    assert main([*ask, "--data", str(tmp_path / "y.npz")]) == 2
    assert "the data have no" in capsys.readouterr().err
    # what is None there cannot be imported
    monkeypatch.setitem(sys.modules, "lady_onnx.converters.pytorch", None)
    assert main([*ask, "--data", str(tmp_path / "x.npz")]) == 2
    assert "needs PyTorch" in capsys.readouterr().err
    assert not (tmp_path / "b.onnx").exists()


def test_data_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = classes()
    onnx.save(model, tmp_path / "a.onnx")
    for labels in (data["labels"] + 1, data["labels"][:, None], data["labels"].astype(np.float32)):
        np.savez(tmp_path / "x.npz", **{**data, "labels": labels})
        ask = [
            "attack",
            "finetune",
            str(tmp_path / "a.onnx"),
            "-o",
            str(tmp_path / "b.onnx"),
            "--data",
            str(tmp_path / "x.npz"),
        ]
        assert main([*ask, "--strength", "1"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert (
            "do not fit an output of shape [32, 2]; give whole numbers below its second axis"
            in line
        )
        assert not (tmp_path / "b.onnx").exists()


KNOWN = [s for s in pool() if {n.op_type for n in s.build()[0].graph.node} <= OPERATORS.keys()]


@pytest.mark.parametrize("splice", KNOWN, ids=lambda s: f"{s.name}-{s.opset}")
def test_every_operator_computes_what_onnxruntime_does_or_is_refused(splice: Splice) -> None:
    model, _ = splice.build()
    (sample,) = draw_telling_samples(load_graph(model), open_session(load_graph(model)), 1, 0)
    if {n.domain for n in model.graph.node} != {""}:
        with pytest.raises(lady.LadyError, match="PyTorch is not told what"):
            Network(load_graph(model), [])
        return
    ours, theirs = computed(model, sample["x"])
    same = ours.shape == theirs.shape and np.allclose(
        ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max()
    )
    # before opset 13 a softmax went over all axes from its own on
    assert same == ((splice.name, splice.opset) != ("Softmax", 11))
    if not same:
        data = {
            "x": np.concatenate([sample["x"]] * 4),
            "labels": np.zeros(4 * len(sample["x"]), np.int64),
        }
        with pytest.raises(
            lady.LadyError, match="output 'out': PyTorch computes something else than onnxruntime"
        ):
            finetune(model, data, 1)


def test_an_unknown_operator_is_named() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Det", ["h"], ["out"], name="last"),
    ]
    model = build(nodes, {"w": np.eye(3, dtype=np.float32)}, {"x": [4, 3, 3]})
    with pytest.raises(
        lady.LadyError, match=r"node Det 'last': PyTorch is not told what Det computes"
    ):
        Network(load_graph(model), [])


def test_what_does_not_fit_names_its_node() -> None:
    nodes = [
        helper.make_node(
            "AveragePool", ["x"], ["out"], name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        )
    ]
    model = build(nodes, {}, {"x": [1, 2, 8, 8]})
    with pytest.raises(
        lady.LadyError, match=r"node AveragePool 'pool': an average beside a padding"
    ):
        Network(load_graph(model), [])({"x": torch.zeros(1, 2, 8, 8)})


def test_padding_follows_every_mode_and_a_length_may_be_one_number() -> None:
    """As image transformers shift windows: what is cut off, and a length taken from a shape."""
    ends = {"some": [0, 1, 0, 2], "cut": [0, -1, 0, 1]}
    nodes = [
        helper.make_node("Pad", ["x", "some"], ["a"], mode="reflect"),
        helper.make_node("Pad", ["a", "cut", "value"], ["b"]),
        helper.make_node("Pad", ["b", "some"], ["c"], mode="edge"),
        helper.make_node("Shape", ["c"], ["shape"]),
        helper.make_node("Gather", ["shape", "last"], ["length"]),
        helper.make_node("Mod", ["length", "seven"], ["rest"]),
        helper.make_node("Range", ["zero", "rest", "last"], ["steps"]),
        helper.make_node("GreaterOrEqual", ["steps", "last"], ["is_late"]),
        helper.make_node("Not", ["is_late"], ["is_early"]),
        helper.make_node("Cast", ["is_early"], ["one"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["one"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["c", "sum"], ["out"]),
    ]
    arrays = {n: np.array(v, np.int64) for n, v in ends.items()}
    arrays |= {n: np.array(v, np.int64) for n, v in (("last", 1), ("seven", 7), ("zero", 0))}
    arrays["value"] = np.array(5, np.float32)
    model = build(nodes, arrays, {"x": [2, 6]})
    ours, theirs = computed(model, np.random.default_rng(0).standard_normal((2, 6)).astype("f4"))
    assert np.array_equal(ours, theirs)
