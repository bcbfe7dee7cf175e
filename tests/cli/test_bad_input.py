"""Bad input is told in one line that names the file, and nothing is written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import lady_onnx as lady
from lady_onnx.cli.main import main

from ..helpers.commands import run
from ..helpers.networks import dense_net, perceptron


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
    onnx.save(perceptron(seed=1, out=4), folder / "b.onnx")
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


def _no_library(command: str) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        onnx.save(perceptron(), folder / "m.onnx")
        given = [folder / "m.onnx"] * 2 + ["--custom-ops", folder / "none.so"]
        return [command, *given, *(["-o", folder / "o.onnx"] if command == "resync" else [])]

    return make


def _no_data(folder: Path) -> list[object]:
    onnx.save(perceptron(), folder / "m.onnx")
    return ["verify", folder / "m.onnx", folder / "m.onnx", "--data", folder / "none.npz"]


def _onto_folder(folder: Path) -> list[object]:
    onnx.save(perceptron(), folder / "m.onnx")
    return ["permute", folder / "m.onnx", "-o", "."]


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
    (_onto_folder, ".: is a folder; give the name of a file"),
    *((_no_library(c), "none.so: no such file") for c in ("check", "resync", "verify")),
    (_no_data, "none.npz: no such file"),
    (_parent_is_a_file, "is not a folder"),
    (_permutation(_places([0, 0, 1, 2, 3, 4])), "group 'w0:1': not a permutation of 0 to 5"),
    (_permutation(_places([0.0, 1.5, 2, 3, 4, 5])), "group 'w0:1': not a permutation"),
    (_permutation(_places([10**30, 1, 2, 3, 4, 5])), "group 'w0:1': not a permutation"),
    (_permutation(_places("012345")), "group 'w0:1': not a permutation"),
    (_permutation(_places([[0, 1, 2], 3])), "p.json: not a permutation file"),
    (_permutation(_places([[k] for k in range(6)])), "group 'w0:1': not a permutation"),
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
    (_altered(_odd_offset), "external data of weight 'w0': 'm.onnx': 'xx' is no number"),
    (_data(), "--metric accuracy: needs 'labels'"),
    (_data(labels=np.zeros(7, int)), "'labels' has shape [7], accuracy of this output needs [2]"),
    (_data(labels=np.zeros((7, 3))), "'labels' has shape [7, 3], mse of this output needs [2, 3]"),
    (lambda f: ["groups", f / "nu\0l.onnx"], "embedded null byte"),
    (lambda f: ["groups", f], "Is a directory"),
]


@pytest.mark.parametrize(
    ("make", "message"), BAD, ids=[f"{k}: {m}" for k, (_, m) in enumerate(BAD)]
)
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
