"""What people see: the verdict first, tables, colours and phases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import lady_onnx as lady

from ..helpers.commands import noised, run
from ..helpers.networks import perceptron


def test_the_verdict_comes_first_and_then_the_worst(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suspect, out = tmp_path / "suspect.onnx", tmp_path / "out.onnx"
    onnx.save(noised(lady.permute(model, 1).model), suspect)
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


@pytest.mark.parametrize("name", ["none.onnx", "model.onnx"])
@pytest.mark.parametrize("has_json", [True, False])
def test_whoever_closes_a_pipe_gets_no_answer(name: str, has_json: bool, model: Path) -> None:
    command = [sys.executable, "-m", "lady_onnx", "groups", str(model.parent / name)]
    process = subprocess.Popen(
        [*command, *["--json"] * has_json], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    assert b"Traceback" not in said
    # an error alone, which goes to the other stream, meets no closed pipe
    is_told = name == "model.onnx" or has_json
    assert process.wait() == (141 if is_told else 2)


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
