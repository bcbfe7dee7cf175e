"""The command `watermark`: what it writes, prints and returns, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import lady_onnx as lady
from lady_onnx.watermark.secrets import keys

from ..helpers.commands import run
from ..helpers.networks import perceptron


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A model, a key and its passphrase, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keys, "SCRYPT_COST", 1 << 8)
    onnx.save(perceptron((40, 160, 400, 120), seed=3), "m.onnx")
    Path("passphrase").write_text("correct horse\n")
    code, _, _ = run(capsys, "watermark", "key", "k.key", "--passphrase-file", "passphrase")
    assert code == 0
    return tmp_path


KEY = ("--key", "k.key", "--passphrase-file", "passphrase")
EMBED = ("watermark", "embed", "m.onnx", "-o", "marked.onnx", "--mark", "mark.json", *KEY)
EXTRACT = ("watermark", "extract")


def test_a_mark_from_beginning_to_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *EMBED, "--payload", "ACME Inc", "--json")
    told = json.loads(out)
    assert (code, told["output"], told["mark_file"]) == (0, "marked.onnx", "mark.json")
    assert (told["scheme"], told["bits"], told["payload_bytes"]) == ("spread", 192, 8)
    lady.permute("marked.onnx", 1).save("suspect.onnx")
    code, out, _ = run(capsys, *EXTRACT, "suspect.onnx", *KEY, "--mark", "mark.json")
    assert code == 1
    assert out.startswith("suspect.onnx: no mark: under this key and mark file no payload was read")
    assert "not put back: with the unmarked model or a reference" in out
    given = ("suspect.onnx", *KEY, "--mark", "mark.json", "--reference", "marked.onnx")
    code, out, _ = run(capsys, *EXTRACT, *given)
    assert code == 0
    assert out.startswith("suspect.onnx: mark read: 'ACME Inc', p = ")
    assert "put back (permuted): 0 of 192 bits are wrong" in out
    code, out, _ = run(capsys, *EXTRACT, *given, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["found"]
    assert bytes.fromhex(told["payload"]) == b"ACME Inc"
    assert told["put_back"]["wrong"] == 0
    assert told["verdict"] == "permuted"


def test_no_secret_is_ever_printed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = keys.read_key(Path("k.key"), "correct horse").secret
    calls = [
        (*EMBED, "--payload", "ACME", "-v"),
        (*EMBED, "--payload", "ACME", "--json"),
        (*EXTRACT, "marked.onnx", *KEY, "--mark", "mark.json", "-v", "--json"),
        (*EXTRACT, "none.onnx", *KEY, "--mark", "mark.json"),
    ]
    for call in calls:
        _, out, err = run(capsys, *call)
        for text in (out, err):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
            assert "correct horse" not in text


def test_several_marks_are_tried_and_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, *EMBED, "--payload", "ACME")
    other = ("watermark", "embed", "m.onnx", "-o", "o.onnx", "--mark", "other.json", *KEY)
    run(capsys, *other, "--payload", "Other")
    marks = ("--mark", "other.json", "--mark", "mark.json")
    code, out, _ = run(capsys, *EXTRACT, "marked.onnx", *KEY, *marks, "--json")
    told = json.loads(out)
    assert (code, told["text"], told["tried"], told["mark_file"]) == (0, "ACME", 2, "mark.json")


def test_a_mark_file_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No mark is read without its file."""
    assert run(capsys, *EMBED, "--payload", "ACME")[0] == 0
    code, _, err = run(capsys, *EMBED, "--payload", "Other")
    assert code == 2
    assert "mark.json: exists, and no mark is read without its file" in err


def test_the_unmarked_model_shows_whose_the_mark_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, *EMBED, "--payload", "ACME")
    extract = (*EXTRACT, "marked.onnx", *KEY, "--mark", "mark.json", "--unmarked")
    code, out, _ = run(capsys, *extract, "m.onnx")
    assert (code, "the mark was written into the unmarked model" in out) == (0, True)
    code, out, _ = run(capsys, *extract, "marked.onnx")
    assert code == 1
    assert "no mark: the payload 'ACME' was read, but the unmarked model refutes it" in out
    code, out, _ = run(capsys, *extract, "marked.onnx", "--json")
    told = json.loads(out)
    assert (code, told["found"], told["of_unmarked"]) == (1, False, False)


def test_a_weak_mark_is_read_beside_the_unmarked_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, *EMBED, "--payload", "ACME", "--strength", "0.45")
    assert code == 0
    assert "keep the unmarked model: so weak a mark is read beside it alone" in out
    lady.permute("marked.onnx", 1).save("suspect.onnx")
    given = ("suspect.onnx", *KEY, "--mark", "mark.json", "--reference", "marked.onnx")
    code, out, err = run(capsys, *EXTRACT, *given)
    assert (code, out) == (2, "")
    assert err.startswith("lady-onnx: mark.json: the mark is so weak that it is read beside")
    code, out, _ = run(capsys, *EXTRACT, *given, "--unmarked", "m.onnx")
    assert code == 0
    assert out.startswith("suspect.onnx: mark read: 'ACME', p = ")
    assert "the mark was written into the unmarked model" in out


def test_a_commitment_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, *EMBED, "--commit", "ACME Inc")
    code, out, _ = run(capsys, *EXTRACT, "marked.onnx", *KEY, "--mark", "mark.json")
    assert code == 0
    assert "the payload is the hash of the commitment: 'ACME Inc', '20" in out


def test_outputs_and_metric_bound_the_strength(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, *EMBED, "--payload", "ACME", "--max-change", "0.5", "--json")
    Path("mark.json").unlink()
    told = json.loads(out)
    assert code == 0
    assert told["impact"]["change"] <= 0.5
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((8, 40)).astype(np.float32)
    np.savez("d.npz", x=inputs, labels=np.zeros(8, np.int64))
    call = (*EMBED, "--payload", "ACME", "--data", "d.npz", "--max-loss", "1")
    code, out, err = run(capsys, *call)
    assert err == ""
    assert code == 0
    assert "accuracy: " in out


def test_a_mark_is_trained_in(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((256, 40)).astype(np.float32)
    np.savez("d.npz", x=inputs, labels=(inputs[:, 0] > 0).astype(np.int64))
    call = (*EMBED, "--payload", "ACME", "--data", "d.npz", "--train", "4")
    code, _, err = run(capsys, *call)
    assert code == 2
    assert "scheme 'spread' is written without training" in err
    code, out, _ = run(capsys, *call, "--scheme", "tartaglione")
    assert code == 0
    assert "accuracy: " in out
    assert run(capsys, *EXTRACT, "marked.onnx", *KEY, "--mark", "mark.json")[0] == 0


def test_capacity(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "watermark", "capacity", "m.onnx", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["payload_bytes"] > 8
    onnx.save(perceptron(), "small.onnx")
    code, out, _ = run(capsys, "watermark", "capacity", "small.onnx")
    assert (code, out) == (1, "small.onnx: room for 0 bits, a payload of up to 0 bytes\n")


def test_a_passphrase_comes_from_the_environment(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADY_ONNX_PASSPHRASE", "correct horse")
    call = tuple(a for a in EMBED if a not in ("--passphrase-file", "passphrase"))
    assert run(capsys, *call, "--payload", "ACME")[0] == 0
    Path("mark.json").unlink()
    monkeypatch.setenv("LADY_ONNX_PASSPHRASE", "another one")
    code, _, err = run(capsys, *call, "--payload", "ACME")
    assert code == 2
    assert err.startswith("lady-onnx: k.key: the passphrase is wrong, or the file is damaged; ")


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ((*EMBED, "--payload", ""), "the payload has 0 bytes; give 1 to 64"),
        ((*EMBED, "--payload", "x" * 65), "the payload has 65 bytes"),
        ((*EMBED, "--payload-hex", "0g"), "'0g' is not hexadecimal"),
        ((*EMBED,), "--payload"),
        (
            (*EMBED, "--payload", "a", "--strength", "1", "--max-change", "1"),
            "--strength cannot be combined",
        ),
        ((*EMBED, "--payload", "a", "--max-loss", "0"), "--max-loss needs samples"),
        (
            (*EMBED, "--payload", "a", "--no-run", "--max-change", "1"),
            "--no-run cannot be combined",
        ),
        ((*EMBED, "--payload", "a", "--metric", "f1"), "invalid choice: 'f1'"),
        ((*EMBED[:6], "passphrase", *KEY, "--payload", "a"), "would overwrite an input"),
        ((*EMBED, "--payload", "a", "--metric", "mse"), "--metric needs samples"),
        ((*EMBED, "--payload", "a", "--train", "1"), "--train needs samples and labels"),
        ((*EMBED, "--payload", "a", "--strength", "0"), "'0' is not a number above zero"),
        ((*EMBED[:3], "-o", "m.onnx", *EMBED[5:], "--payload", "a"), "would overwrite an input"),
        ((*EMBED[:5], "--mark", "k.key", *KEY, "--payload", "a"), "would overwrite an input"),
        ((*EMBED[:5], "--mark", "marked.onnx", *KEY, "--payload", "a"), "another result"),
        ((*EXTRACT, "m.onnx", *KEY, "--mark", "none.json"), "none.json: no such file"),
        ((*EXTRACT, "m.onnx", *KEY, "--mark", "k.key"), "k.key: is not a mark file"),
        ((*EXTRACT, "m.onnx", "--key", "none", "--mark", "k"), "none: no such file"),
        (
            (
                *EXTRACT,
                "m.onnx",
                "--key",
                "m.onnx",
                "--passphrase-file",
                "passphrase",
                "--mark",
                "k",
            ),
            "m.onnx: is not a key file",
        ),
        (
            (*EXTRACT, "m.onnx", "--key", "k.key", "--passphrase-file", "none", "--mark", "k"),
            "none: no such file; its first line is the passphrase",
        ),
        (("watermark", "key", "k.key", "--passphrase-file", "passphrase"), "exists, and a key"),
        (("watermark", "other"), "other"),
        (("watermark",), "JOB"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], call: tuple[str, ...], why: str
) -> None:
    before = {p: p.read_bytes() for p in folder.iterdir()}
    code, out, err = run(capsys, *call)
    assert (code, out) == (2, "")
    assert why in err
    assert err.count("\n") == 1
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_without_a_terminal_the_passphrase_is_not_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LADY_ONNX_PASSPHRASE", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    code, _, err = run(capsys, *EXTRACT, "m.onnx", "--key", "k.key", "--mark", "k")
    assert code == 2
    assert "give --passphrase-file, or LADY_ONNX_PASSPHRASE" in err
