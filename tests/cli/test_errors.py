"""What errors say, and their stable codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import lady_onnx as lady
from lady_onnx.cli.main import main

from ..helpers.commands import run
from ..helpers.networks import perceptron


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
    onnx.save(perceptron(seed=1, out=4), other)
    for arguments, code in (
        (["verify", model, model, "--samples", "0"], "usage"),
        (["permute", model, "-o", model], "unwritable"),
        (["resync", model, other], "architecture"),
        (["verify", model, model, "--data", model], "not_onnx"),
        (["verify", model, model, "--metric", "accuracy"], "unusable"),
    ):
        number, said, _ = run(capsys, *arguments, "--json")
        assert (number, json.loads(said)["error"]["code"]) == (2, code), said
    faults: list[tuple[BaseException, str]] = [(OSError(5, "broken"), "io")]
    faults += [(MemoryError(), "memory"), (ZeroDivisionError("odd"), "internal")]
    for error, code in faults:

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(lady, "find_groups", fail)
        number, said, told = run(capsys, "groups", model, "--json")
        assert (number, json.loads(said)["error"]["code"]) == (2, code)
        assert told.count("\n") == 1


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
