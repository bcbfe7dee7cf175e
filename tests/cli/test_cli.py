"""The commands: what they do, print and return."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper

import lady_onnx as lady

from ..helpers.commands import noised, run
from ..helpers.networks import perceptron


def test_groups(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "groups", model, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["symmetry_bits"] == pytest.approx(np.log2(720 * 120))
    assert [(g["kind"], g["size"], g["parents"]) for g in found["groups"]] == [
        ("channels", 6, []),
        ("channels", 5, []),
    ]
    first = found["groups"][0]["slots"]
    assert [(s["initializer"], s["axis"]) for s in first] == [("w0", 1), ("w1", 0), ("b0", 0)]
    assert first[0]["index"] == [[0], [1], [2], [3], [4], [5]]
    assert {(p["initializer"], p["axis"], p["reason"]) for p in found["pinned"]} == {
        ("w0", 0, "graph input"),
        ("w2", 1, "graph output"),
        ("b2", 0, "graph output"),
    }
    assert found["unknown_operators"] == []
    assert "symmetry bits" in run(capsys, "groups", model)[1]


def test_groups_explained(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "groups", model, "--explain", "w1:0", "--json")
    (found,) = json.loads(out)["axes"]
    assert (code, found["groups"]) == (0, ["w0:1"])
    assert {(t["initializer"], t["axis"], tuple(t["chain"])) for t in found["ties"]} == {
        ("w0", 1, ("Gemm 'gemm1'",)),
        ("b0", 0, ("Gemm 'gemm1'", "Gemm 'gemm0'")),
    }
    code, out, _ = run(capsys, "groups", model, "--explain", "w2")
    assert out.splitlines()[-3:] == [
        "w2 axis 1: pinned",
        "  pinned: graph output",
        "    through h2",
    ]
    code, _, err = run(capsys, "groups", model, "--explain", "w2:7")
    assert (code, "has 2 axes" in err) == (2, True)
    code, _, err = run(capsys, "groups", model, "--explain", "nothing")
    assert (code, "no weight 'nothing'" in err) == (2, True)


def test_groups_drawn(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "groups", model, "--dot")
    assert code == 0
    assert out.startswith("digraph")
    # the two groups stand in three places each, in two colours
    colours = [c.split('"')[0] for c in out.split('bgcolor="')[1:]]
    assert sorted(colours.count(c) for c in set(colours)) == [3, 3]


def test_permute_and_its_inverse(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, back, record = tmp_path / "there.onnx", tmp_path / "back.onnx", tmp_path / "p.json"
    assert (
        run(capsys, "permute", model, "-o", there, "--seed", 3, "--save-permutation", record)[0]
        == 0
    )
    saved = json.loads(record.read_text())
    assert saved["format"] == "lady-onnx-permutation/1"
    assert saved["seed"] == 3
    p = saved["groups"][0]["permutation"]
    a, b = (numpy_helper.to_array(onnx.load(f).graph.initializer[0]) for f in (model, there))
    # position j of the result holds unit permutation[j] of the input
    assert np.array_equal(b, a[:, p])
    assert run(capsys, "permute", there, "-o", back, "--permutation", record, "--inverse")[0] == 0
    again = tmp_path / "again.onnx"
    assert run(capsys, "permute", model, "-o", again, "--permutation", record)[0] == 0
    assert again.read_bytes() == there.read_bytes()
    assert run(capsys, "check", model, back)[0] == 0


def test_permute_one_group(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.onnx"
    assert run(capsys, "permute", model, "-o", out, "--group", "w1:1")[0] == 0
    a, b = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load(f).graph.initializer}
        for f in (model, out)
    )
    assert {n for n in a if not np.array_equal(a[n], b[n])} == {"w1", "b1", "w2"}


def test_resync(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suspect, report, record = tmp_path / "suspect.onnx", tmp_path / "r.json", tmp_path / "p.json"
    lady.permute(model, 1).save(suspect)
    code, out, err = run(
        capsys, "resync", model, suspect, "--json", "--report", report, "--save-permutation", record
    )
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert set(found) >= {
        "psi_estimate",
        "groups",
        "max_weight_difference",
        "outputs_preserved",
        "integrity",
        "seconds",
        "output",
    }
    assert set(found["groups"][0]) == {
        "id",
        "size",
        "moved",
        "similarity",
        "margin",
        "exact",
        "unmatched",
    }
    assert found["psi_estimate"] == 100
    assert found["outputs_preserved"] is True
    assert json.loads(report.read_text())["output"] == str(tmp_path / "suspect.resynced.onnx")
    assert run(capsys, "check", model, tmp_path / "suspect.resynced.onnx")[1].startswith(
        "identical"
    )
    code, _, err = run(capsys, "resync", model, suspect)
    assert code == 2
    assert "--force" in err
    assert run(capsys, "resync", model, suspect, "--force", "--verify", "none", "--json")[0] == 0
    again = tmp_path / "again.onnx"
    assert run(capsys, "permute", suspect, "-o", again, "--permutation", record)[0] == 0
    assert run(capsys, "check", model, again)[1].startswith("identical")


@pytest.mark.parametrize("how", ["run", "proof", "none"])
def test_verify_modes(
    how: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suspect = tmp_path / "suspect.onnx"
    lady.permute(model, 1).save(suspect)
    found = json.loads(run(capsys, "resync", model, suspect, "--json", "--verify", how)[1])
    assert found["outputs_preserved"] is (None if how == "none" else True)
    assert found["verified_by"] == (None if how == "none" else how)


def test_verify(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(perceptron(seed=1), other)
    code, out, _ = run(capsys, "verify", model, other, "--json")
    found = json.loads(out)
    assert code == 1
    assert not found["equal"]
    assert found["max_abs"] > 0
    assert found["outputs"][0]["name"] == "h2"
    data = tmp_path / "data.npz"
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    np.savez(data, x=x, labels=np.zeros(50, int))
    found = json.loads(
        run(capsys, "verify", model, model, "--data", data, "--metric", "accuracy", "--json")[1]
    )
    assert found["equal"]
    assert found["metrics"][0] == found["metrics"][1]


@pytest.mark.parametrize(
    ("change", "verdict", "code"),
    [
        (lambda m: m, "identical", 0),
        (lambda m: lady.permute(m, 5).model, "permuted", 0),
        (lambda m: noised(lady.permute(m, 5).model), "altered", 1),
        (lambda m: perceptron(seed=9), "unrelated", 1),
        (lambda m: perceptron((4, 7, 5)), "unrelated", 1),
    ],
    ids=["identical", "permuted", "altered", "other weights", "other architecture"],
)
def test_check(
    change: Callable[[onnx.ModelProto], onnx.ModelProto],
    verdict: str,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    a, b = tmp_path / "a.onnx", tmp_path / "b.onnx"
    original = perceptron((4, 40, 50))
    onnx.save(original, a)
    changed = change(original)
    onnx.save(changed, b)
    found, out, _ = run(capsys, "check", a, b, "--json")
    assert (found, json.loads(out)["verdict"]) == (code, verdict)


def test_other_names_of_one_network(model: Path, tmp_path: Path) -> None:
    graph = gs.import_onnx(lady.permute(model, 2).model)
    for tensor in graph.tensors().values():
        tensor.name = f"other_{tensor.name}"
    proto = gs.export_onnx(graph)
    result = lady.resync(model, proto)
    assert result.max_weight_difference == 0
    assert {t.name for t in result.model.graph.initializer} == {
        f"other_{a}{k}" for a in "wb" for k in range(3)
    }


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "demo", tmp_path / "demo", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["units_restored"] == found["units"] == 144
    assert [m["accuracy"] > 0.95 for m in found["models"]] == [True] * 3
    assert found["models"][1]["correlation"] < 0.2 < 0.99 < found["models"][2]["correlation"]
    assert Path(found["picture"]).read_text().startswith("<svg")
    assert {p.name for p in (tmp_path / "demo").iterdir()} == {
        "reference.onnx",
        "suspect.onnx",
        "resynced.onnx",
        "similarity.svg",
    }


def test_as_a_module_with_a_quiet_terminal(model: Path, tmp_path: Path) -> None:
    suspect = tmp_path / "suspect.onnx"
    lady.permute(model, 1).save(suspect)
    command = [sys.executable, "-m", "lady_onnx", "resync", str(model), str(suspect), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["outputs_preserved"]


@pytest.mark.skipif(os.name != "posix", reason="the shell closes the stream")
@pytest.mark.parametrize("more", ["", " --json"])
def test_a_closed_output_changes_no_exit_code(model: Path, more: str) -> None:
    """As in a job that has no standard output."""
    call = f"{sys.executable} -m lady_onnx check {model} {model}{more} >&-"
    done = subprocess.run(call, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_model_without_groups_can_be_resynced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(perceptron((4,)), tmp_path / "a.onnx")
    onnx.save(perceptron((4,)), tmp_path / "b.onnx")
    code, out, _ = run(capsys, "resync", tmp_path / "a.onnx", tmp_path / "b.onnx", "--json")
    assert code == 0
    assert json.loads(out)["groups"] == []


def test_zeros_of_another_sign_are_no_identity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, zero in (("a", 0.0), ("b", -0.0)):
        proto = perceptron()
        weights = numpy_helper.to_array(proto.graph.initializer[0]).copy()
        weights[0, 0] = zero
        proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w0"))
        onnx.save(proto, tmp_path / f"{name}.onnx")
    code, out, _ = run(capsys, "check", tmp_path / "a.onnx", tmp_path / "b.onnx")
    what = "in the signs of zeros"
    assert (code, out) == (1, f"altered: weights differ {what} once the units are back\n")


def test_infinite_weights_and_strings(tmp_path: Path) -> None:
    """A mask may hold infinities, and a graph may carry texts; both are compared as they are."""
    proto = perceptron()
    bias = numpy_helper.to_array(proto.graph.initializer[1]).copy()
    bias[:2] = -np.inf, np.inf
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(bias, "b0"))
    proto.graph.initializer.append(
        helper.make_tensor("text", TensorProto.STRING, [2], [b"one", b"two"])
    )
    proto.graph.node.append(helper.make_node("Equal", ["text", "text"], ["alike"]))
    proto.graph.output.append(helper.make_tensor_value_info("alike", TensorProto.BOOL, [2]))
    proto.opset_import[0].version = 19
    result = lady.resync(proto, lady.permute(proto, 1).model, verify="none")
    assert result.exact
    noisy = lady.permute(proto, 1).model
    for tensor in noisy.graph.initializer[2:6]:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array((values * 1.01).astype(np.float32), tensor.name))
    assert lady.check(proto, noisy).verdict == "altered"
    assert np.array_equal(
        lady.resync(proto, noisy, verify="none").permutations["w0:1"], result.permutations["w0:1"]
    )


def test_outputs_that_are_maps_or_text_are_compared() -> None:
    """Converters from scikit-learn write a label's name, and a map from names to probabilities."""

    def model(weight: float) -> onnx.ModelProto:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["scores"]),
            helper.make_node(
                "ZipMap", ["scores"], ["map"], domain="ai.onnx.ml", classlabels_strings=["a", "b"]
            ),
            helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
            helper.make_node(
                "LabelEncoder",
                ["best"],
                ["name"],
                domain="ai.onnx.ml",
                keys_int64s=[0, 1],
                values_strings=["a", "b"],
            ),
        ]
        keys = helper.make_map_type_proto(
            TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        )
        outputs = [
            helper.make_tensor_value_info("name", TensorProto.STRING, None),
            helper.make_value_info("map", helper.make_sequence_type_proto(keys)),
        ]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 2])]
        array = np.array([[1, 0], [0, weight]], np.float32)
        graph = helper.make_graph(
            nodes, "named", inputs, outputs, [numpy_helper.from_array(array, "w")]
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    assert lady.verify(model(1.0), model(1.0)).equal
    assert [o.equal for o in lady.verify(model(1.0), model(-1.0)).outputs] == [False, False]


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("noise", "--level", "0.5"),
        ("prune", "--sparsity", "0.25"),
        ("quantize", "--bits", "4"),
        ("rescale", "--spread", "0.3"),
        ("scale", "--factor", "1.5"),
    ],
)
def test_attacks_take_their_strength_in_their_own_unit(
    kind: str,
    option: str,
    value: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = []
    for name in (option, "--strength"):
        out = tmp_path / f"{name}.onnx"
        code, said, _ = run(capsys, "attack", kind, model, "-o", out, name, value, "--json")
        found.append((code, out.read_bytes(), {**json.loads(said), "output": None}))
    assert found[0] == found[1]
    assert found[0][2]["strength"] == float(value)
    # the options of every command may stand before the kind as well
    ask = ["attack", "--json", kind, model, "-o", tmp_path / "c.onnx", option, value]
    assert json.loads(run(capsys, *ask)[1])["kind"] == kind


def test_attacks_take_no_options_of_others(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["attack", "noise", model, "-o", tmp_path / "a.onnx", "--level", 1, "--data", "x.npz"]
    assert run(capsys, *ask)[0] == 2
    ask = ["attack", "finetune", model, "-o", tmp_path / "a.onnx", "--epochs", 1]
    assert "give --data X.npz" in run(capsys, *ask)[2]
    assert run(capsys, *ask, "--weight", "w0")[0] == 2
    assert (
        run(capsys, "attack", "scale", model, "-o", tmp_path / "a.onnx", "--factor", "-2")[0] == 0
    )
