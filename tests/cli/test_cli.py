"""The command line's contract: exit codes, JSON fields, one clear line for bad input."""

from __future__ import annotations

import errno
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
from lady_onnx.cli.main import main

from ..helpers.networks import dense_net, perceptron


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(perceptron(), path)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# ---- the contract


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
        (lambda m: _noised(lady.permute(m, 5).model), "altered", 1),
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


def _noised(model: onnx.ModelProto) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    for t in model.graph.initializer:
        a = numpy_helper.to_array(t)
        t.CopyFrom(
            numpy_helper.from_array(
                (a + 0.05 * rng.standard_normal(a.shape)).astype(np.float32), t.name
            )
        )
    return model


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


# ---- bad input


def _outside(folder: Path) -> list[object]:
    """External data that lies outside the model's folder."""
    (folder / "in").mkdir()
    inside = folder / "in" / "m.onnx"
    onnx.save(
        perceptron((4, 60, 50)),
        inside,
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    proto = onnx.load(inside, load_external_data=False)
    os.replace(folder / "in" / "m.data", folder / "m.data")
    for t in proto.graph.initializer:
        next(e for e in t.external_data if e.key == "location").value = "../m.data"
    inside.write_bytes(proto.SerializeToString())
    return ["groups", inside]


def _missing_data(folder: Path) -> list[object]:
    onnx.save(
        perceptron((4, 60, 50)),
        folder / "m.onnx",
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    (folder / "m.data").unlink()
    return ["groups", folder / "m.onnx"]


def _text(folder: Path) -> list[object]:
    (folder / "m.onnx").write_text("this is no model, but a text that someone gave another name")
    return ["groups", folder / "m.onnx"]


def _truncated(folder: Path) -> list[object]:
    raw = perceptron((4, 60, 50)).SerializeToString()
    (folder / "m.onnx").write_bytes(raw[: len(raw) // 2])
    return ["groups", folder / "m.onnx"]


def _two_architectures(folder: Path) -> list[object]:
    onnx.save(perceptron(), folder / "a.onnx")
    onnx.save(perceptron(out=4), folder / "b.onnx")
    return ["resync", folder / "a.onnx", folder / "b.onnx"]


def _nan(folder: Path) -> list[object]:
    proto = perceptron()
    onnx.save(proto, folder / "a.onnx")
    a = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    a[0, 0] = np.nan
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(a, "w0"))
    onnx.save(proto, folder / "b.onnx")
    return ["resync", folder / "a.onnx", folder / "b.onnx"]


def _no_groups(folder: Path) -> list[object]:
    onnx.save(perceptron((4,)), folder / "m.onnx")
    return ["permute", folder / "m.onnx", "-o", folder / "out.onnx"]


def _onto_input(folder: Path) -> list[object]:
    onnx.save(perceptron(), folder / "m.onnx")
    return ["permute", folder / "m.onnx", "-o", folder / "." / "m.onnx"]


def _parent_is_a_file(folder: Path) -> list[object]:
    onnx.save(perceptron(), folder / "m.onnx")
    (folder / "file").write_text("")
    return ["permute", folder / "m.onnx", "-o", folder / "file" / "out.onnx"]


def _permutation(text: str) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        onnx.save(perceptron(), folder / "m.onnx")
        (folder / "p.json").write_text(text)
        return [
            "permute",
            folder / "m.onnx",
            "-o",
            folder / "out.onnx",
            "--permutation",
            folder / "p.json",
        ]

    return make


def _places(places: object) -> str:
    return json.dumps(
        {"format": "lady-onnx-permutation/1", "groups": [{"id": "w0:1", "permutation": places}]}
    )


def _onto_data(suspect: bool, option: str) -> Callable[[Path], list[object]]:
    """An output that falls onto the external data of an input."""

    def make(folder: Path) -> list[object]:
        for name, location in (
            ("a", "a.bin" if suspect else "out.onnx.data"),
            ("b", "out.onnx.data" if suspect else "b.bin"),
        ):
            onnx.save(
                perceptron((4, 60, 50)),
                folder / f"{name}.onnx",
                save_as_external_data=True,
                location=location,
                size_threshold=0,
            )
        out = folder / ("out.onnx" if option == "-o" else "free.onnx")
        more = [] if option == "-o" else [option, folder / "out.onnx.data"]
        return ["resync", folder / "a.onnx", folder / "b.onnx", "-o", out, *more]

    return make


def _altered(change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        proto = perceptron()
        change(proto)
        (folder / "m.onnx").write_bytes(proto.SerializeToString())
        return ["groups", folder / "m.onnx"]

    return make


def _odd_offset(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "m.onnx"), ("offset", "xx")):
        tensor.external_data.add(key=key, value=value)


def _data(**arrays: np.ndarray) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        onnx.save(perceptron(), folder / "m.onnx")
        np.savez(folder / "d.npz", x=np.zeros((2, 4), np.float32), **arrays)
        metric = ["--metric", "mse" if arrays and arrays["labels"].ndim > 1 else "accuracy"]
        return ["verify", folder / "m.onnx", folder / "m.onnx", "--data", folder / "d.npz", *metric]

    return make


BAD: list[tuple[Callable[[Path], list[object]], str]] = [
    (lambda f: ["groups", f / "none.onnx"], "none.onnx: No such file"),
    (_text, "m.onnx: not an ONNX file"),
    (_truncated, "m.onnx: not an ONNX file, or cut short"),
    (_missing_data, "external data of weight 'w0': 'm.data': No such file"),
    (_outside, "'../m.data' lies outside the model's folder"),
    (
        _two_architectures,
        "at node Linear 'gemm2', what it computes has no counterpart in the reference",
    ),
    (_nan, "b.onnx: weight 'w0' holds NaN"),
    (_no_groups, "no group of interchangeable units"),
    (_onto_input, "would overwrite an input"),
    (_parent_is_a_file, "is not a folder"),
    (_permutation(_places([0, 0, 1, 2, 3, 4])), "group 'w0:1': not a permutation of 0 to 5"),
    (_permutation(_places([0.0, 1.5, 2, 3, 4, 5])), "group 'w0:1': not a permutation"),
    (_permutation(_places([10**30, 1, 2, 3, 4, 5])), "group 'w0:1': not a permutation"),
    (_permutation(_places("012345")), "group 'w0:1': not a permutation"),
    (_permutation(_places([[0, 1, 2], 3])), "p.json: not a permutation file"),
    (_permutation("[" * 100_000), "p.json: not a permutation file"),
    (_onto_data(False, "-o"), "out.onnx: would overwrite an input"),
    (_onto_data(True, "-o"), "out.onnx: would overwrite an input"),
    (_onto_data(True, "--report"), "out.onnx.data: would overwrite an input"),
    (_onto_data(False, "--save-permutation"), "out.onnx.data: would overwrite an input"),
    (
        _altered(lambda m: setattr(m.graph.initializer[0], "data_type", 99)),
        "weight 'w0' cannot be read",
    ),
    (
        _altered(lambda m: m.graph.initializer[0].dims.__setitem__(0, -4)),
        "weight 'w0' cannot be read",
    ),
    (_altered(_odd_offset), "external data of weight 'w0': 'm.onnx': invalid literal"),
    (_data(), "--metric accuracy: needs 'labels'"),
    (_data(labels=np.zeros(7, int)), "'labels' has shape [7], accuracy of this output needs [2]"),
    (_data(labels=np.zeros((7, 3))), "'labels' has shape [7, 3], mse of this output needs [2, 3]"),
    (lambda f: ["groups", f / "nu\0l.onnx"], "embedded null byte"),
    (lambda f: ["groups", f], "Is a directory"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_input(
    make: Callable[[Path], list[object]],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = make(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails(
    broken: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out.onnx"
    out.write_text("what stood there")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, broken, fail)
    code, _, err = run(capsys, "permute", model, "-o", out)
    assert code == 2
    assert "out.onnx: cannot write: No space left on device" in err
    assert err.count("\n") == 1
    assert out.read_text() == "what stood there"
    assert {p.name for p in tmp_path.iterdir()} == {"model.onnx", "out.onnx"}


def test_a_model_without_groups_can_be_resynced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(perceptron((4,)), tmp_path / "a.onnx")
    onnx.save(perceptron((4,)), tmp_path / "b.onnx")
    code, out, _ = run(capsys, "resync", tmp_path / "a.onnx", tmp_path / "b.onnx", "--json")
    assert code == 0
    assert json.loads(out)["groups"] == []


def test_a_wrong_call_is_told_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["verify", "a", "b", "--samples", "0"],
        ["permute", "a", "-o", "b", "--seed", "-1"],
        ["permute", "a"],
        ["no-such-command"],
        [],
    ):
        assert main(arguments) == 2
        assert "Traceback" not in capsys.readouterr().err


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


def test_arguments_that_say_two_things(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tmp_path / "m.onnx")
    onnx.save(dense_net(0), model)
    record = str(tmp_path / "p.json")
    assert (
        main(["permute", model, "-o", str(tmp_path / "a.onnx"), "--save-permutation", record]) == 0
    )
    foreign = json.loads(Path(record).read_text())
    foreign["groups"][0]["slots"][0]["initializer"] = "elsewhere"
    twice = json.loads(Path(record).read_text())
    twice["groups"].append(twice["groups"][0])
    for name, content in (("foreign", foreign), ("twice", twice)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    out = ["-o", str(tmp_path / "b.onnx")]
    capsys.readouterr()
    for arguments in (
        ["groups", model, "--dot", "--json"],
        ["groups", model, "--dot", "--explain", "a"],
        ["permute", model, *out, "--permutation", record, "--seed", "1"],
        ["permute", model, *out, "--permutation", record, "--group", "a:1"],
        ["permute", model, *out, "--permutation", str(tmp_path / "foreign.json")],
        ["permute", model, *out, "--permutation", str(tmp_path / "twice.json")],
    ):
        assert main(arguments) == 2, arguments
        said = capsys.readouterr()
        if "--json" in arguments:
            assert json.loads(said.out)["error"]["code"] == "usage"
        else:
            assert not said.out
        assert said.err.count("\n") == 1
        assert not (tmp_path / "b.onnx").exists()


def test_arguments_from_python_that_are_none() -> None:
    model = dense_net(0)
    for call in (
        lambda: lady.resync(model, model, verify="bogus"),
        lambda: lady.resync(model, model, provider="bogus"),
        lambda: lady.resync(model, model, samples=0),
        lambda: lady.resync(model, model, seed=-1),
        lambda: lady.verify(model, model, samples=0),
        lambda: lady.permute(model, seed=-1),
        lambda: lady.permute(model, seed=1.5),
        lambda: lady.permute(model, inverse=True),
        lambda: lady.permute(model, groups=["a:1"], permutations={}),
        lambda: lady.attack(model, "noise", 1.0, seed=-1),
    ):
        with pytest.raises(lady.LadyError):
            call()


# ---- what people see


def test_the_verdict_comes_first_and_then_the_worst(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suspect, out = tmp_path / "suspect.onnx", tmp_path / "out.onnx"
    onnx.save(_noised(lady.permute(model, 1).model), suspect)
    lines = run(capsys, "resync", model, suspect, "-o", out)[1].splitlines()
    assert lines[0].startswith("altered: ")
    assert lines[1].startswith(f"{out}: ")
    assert lines[2].split() == ["group", "size", "moved", "similarity", "margin"]
    quiet = run(capsys, "resync", model, suspect, "-o", out, "-q")[1].splitlines()
    assert [line.partition(",")[0] for line in quiet] == [
        line.partition(",")[0] for line in lines[:2]
    ]
    code, said, err = run(capsys, "check", model, suspect, "-v")
    assert (code, said.splitlines()[0]) == (1, lines[0])
    assert "w0:1" in said
    assert err.startswith("lady-onnx: matching: ")
    assert run(capsys, "check", model, suspect)[1:] == (f"{lines[0]}\n", "")


def test_no_more_than_ten_groups_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(perceptron((4, *range(3, 20))), tmp_path / "m.onnx")
    code, out, _ = run(capsys, "groups", tmp_path / "m.onnx")
    assert code == 0
    assert out.startswith("17 groups of interchangeable units, 187 units, ")
    assert (out.count("channels"), "and 7 more" in out) == (10, True)
    assert run(capsys, "groups", tmp_path / "m.onnx", "-v")[1].count("channels") == 17
    assert run(capsys, "groups", tmp_path / "m.onnx", "--quiet")[1].count("\n") == 1


def test_colours_where_the_terminal_has_them(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\033" not in run(capsys, "check", model, model)[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(capsys, "check", model, model)[1] == (
        "\033[32midentical\033[0m: every weight is equal\n"
    )
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in run(capsys, "check", model, model)[1]


def test_phases_and_an_estimate_on_a_terminal(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    code, out, err = run(capsys, "check", model, model)
    assert (code, out) == (0, "identical: every weight is equal\n")
    assert "matching" in err
    assert "left" in err
    assert run(capsys, "check", model, model, "-q")[2] == ""


def test_the_demo_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "demo", tmp_path / "demo")
    lines = out.splitlines()
    assert (code, lines[0]) == (0, "144 of 144 units are back in their places")
    assert "was shuffled and noised: 143 of its 144 units were moved" in lines[1]
    for line, name in zip(lines[2:5], ("reference", "suspect", "resynced"), strict=True):
        assert line.startswith(f"{name}:")
        assert "% of the held-out digits right" in line
        assert line.endswith(str(tmp_path / "demo" / f"{name}.onnx"))
    picture = (tmp_path / "demo" / "similarity.svg").read_text()
    assert "layer down.0.weight: 64 units" in picture
    assert "cosine similarity" in picture
    first, second = picture.split("units put back in place")
    diagonal = [f"M{508 + 6 * k - 4} {60 + 6 * k}h6" for k in range(64)]
    assert all(place in second for place in diagonal)
    # the same dark dots are there, and elsewhere
    darkest = [part.split('fill-opacity="1.00" d="')[1].split('"')[0] for part in (first, second)]
    assert darkest[0].count("M") == darkest[1].count("M") == 64


# ---- errors


def _renamed(name: str, content: bytes = b"PK\x03\x04 something else") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _folder(*names: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "held").mkdir()
        for name in names:
            (folder / "held" / name).write_text("")
        return folder / "held"

    return make


OTHER_FORMATS: list[tuple[Callable[[Path], object], str]] = [
    (_renamed("net.pt"), "a PyTorch file; load it in PyTorch and write it with torch.onnx.export"),
    (_renamed("net.pth"), "torch.onnx.export"),
    (_renamed("net.safetensors"), "weights without a graph; export the model"),
    (_renamed("net.h5"), "a Keras file; python -m tf2onnx.convert --keras"),
    (_renamed("net.keras"), "net.keras --output model.onnx"),
    (_renamed("net.tflite"), "a TensorFlow Lite model; python -m tf2onnx.convert --tflite"),
    (_renamed("net.gguf"), "a llama.cpp model; export the original model"),
    (_folder("a.onnx", "b.txt"), "give a file in it: a.onnx"),
    (_folder("saved_model.pb"), "held --output model.onnx"),
    (_folder("config.json", "model.safetensors"), "optimum-cli export onnx --model"),
    (_folder(), "it holds no .onnx file"),
    (
        lambda f: "https://example.org/net.onnx",
        "https://example.org/net.onnx: an address; download",
    ),
]


@pytest.mark.parametrize(("make", "message"), OTHER_FORMATS, ids=[m for _, m in OTHER_FORMATS])
def test_the_way_from_other_formats_to_onnx_is_named(
    make: Callable[[Path], object],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(capsys, "groups", make(tmp_path), "--json")
    found = json.loads(out)["error"]
    assert (code, found["code"]) == (2, "not_onnx")
    assert message in found["message"]
    assert err == f"lady-onnx: {found['message']}\n"


def test_a_model_of_another_suffix_is_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.pt").write_bytes(perceptron().SerializeToString())
    assert run(capsys, "groups", tmp_path / "net.pt")[0] == 0


def test_close_names_are_suggested(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["-o", tmp_path / "out.onnx"]
    for arguments, code, suggestion in (
        (["groups", tmp_path / "modell.onnx"], "not_found", f"'{model}'"),
        (["groups", model, "--explain", "w_1"], "unknown_name", "'w1'"),
        (["permute", model, *out, "--group", "w0:"], "unknown_name", "'w0:1'"),
        (["attack", "noise", model, *out, "--level", 1, "--weight", "w_2"], "unknown_name", "'w2'"),
        (["check", model, model, "--accept", "permited"], "usage", "'permuted'"),
        (["resnyc", model, model], "usage", "'resync'"),
    ):
        number, said, err = run(capsys, *arguments, "--json")
        error = json.loads(said)["error"]
        assert (number, error["code"]) == (2, code)
        assert f"did you mean {suggestion}?" in error["message"]
        assert err.count("\n") == 1


def test_errors_have_stable_codes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(perceptron(out=4), other)
    for arguments, code in (
        (["verify", model, model, "--samples", "0"], "usage"),
        (["permute", model, "-o", model], "unwritable"),
        (["resync", model, other], "architecture"),
        (["verify", model, model, "--data", model], "not_onnx"),
        (["verify", model, model, "--metric", "accuracy"], "unusable"),
    ):
        number, said, _ = run(capsys, *arguments, "--json")
        assert (number, json.loads(said)["error"]["code"]) == (2, code), said
    for error, code in ((OSError(5, "broken"), "io"), (MemoryError(), "memory")):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(lady, "find_groups", fail)
        number, said, _ = run(capsys, "groups", model, "--json")
        assert (number, json.loads(said)["error"]["code"]) == (2, code)


def test_the_table_of_codes_is_complete() -> None:
    from lady_onnx import errors

    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    for found in classes:
        assert f"| `{found.code}` | `{found.__name__}` |" in str(errors.__doc__)


def test_usage_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (
            ["verify", "a", "b", "--samples", "0"],
            "verify: argument --samples: '0' is not a positive",
        ),
        (["permute", "a"], "permute: the following arguments are required: -o/--output; see lady"),
        (["attack", "melt", "a"], "invalid choice: 'melt'"),
        (
            ["attack", "noise", "a", "-o", "b"],
            "one of the arguments --level --strength is required",
        ),
        (["attack", "noise", "a", "-o", "b", "--bits", "3"], "arguments --level --strength"),
        (["no-such-command"], "no command 'no-such-command'; the commands are groups, "),
        ([], "the following arguments are required: COMMAND; see lady-onnx --help"),
    ):
        assert main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert message in said.err
        assert said.err.count("\n") == 1


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


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """`lady-onnx groups M --json | head -c 10` ends like others whose output nobody reads."""
    write = "import sys; from lady_onnx.cli.main import main; sys.exit(main(sys.argv[1:]))"
    digits = Path(lady.__file__).parent / "data" / "digits.onnx"
    command = [sys.executable, "-c", write, "groups", str(digits), "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141
