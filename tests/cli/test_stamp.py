"""The commands `stamp` and `trace`: what they write, print and return, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import lady_onnx as lady
from lady_onnx.watermark.secrets import keys

from ..helpers.commands import run
from ..helpers.networks import perceptron

KEY = ("--key", "k.key", "--passphrase-file", "passphrase")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A model, a key, its passphrase and three customers, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keys, "SCRYPT_COST", 1 << 8)
    onnx.save(perceptron((12, 120, 150, 90), seed=1, out=4), "m.onnx")
    Path("passphrase").write_text("correct horse\n")
    Path("customers.csv").write_text(
        "customer,since\nACME Corp.,2024\n../Beta,2025\n\nGamma,2026\n"
    )
    assert run(capsys, "watermark", "key", "k.key", *KEY[2:])[0] == 0
    return tmp_path


def test_a_stamp_from_beginning_to_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "stamp", "write", "m.onnx", "-o", "s.onnx", "--payload", "ACME", *KEY
    )
    assert code == 0
    assert out.startswith("s.onnx: stamped: ")
    code, out, _ = run(capsys, "stamp", "read", "s.onnx", "--original", "m.onnx", *KEY, "--json")
    told = json.loads(out)
    assert (code, told["found"], told["text"], told["lost"]) == (0, True, "ACME", 0)
    assert bytes.fromhex(told["payload"]) == b"ACME"
    code, out, _ = run(capsys, "stamp", "read", "m.onnx", "--original", "m.onnx", *KEY)
    assert (code, out.startswith("m.onnx: no stamp: ")) == (1, True)


def test_many_are_stamped_and_one_is_traced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write = ("stamp", "write", "m.onnx", "-o", "out", "--payload-file", "customers.csv", *KEY)
    code, out, _ = run(capsys, *write, "--json")
    files = json.loads(out)["files"]
    assert code == 0
    assert [f["text"] for f in files] == ["ACME Corp.", "../Beta", "Gamma"]
    assert sorted(p.name for p in Path("out").iterdir()) == [
        "00001-ACME-Corp.onnx",
        "00002-Beta.onnx",
        "00003-Gamma.onnx",
    ]
    lady.attack("out/00002-Beta.onnx", "noise", 0.1).save("leak.onnx")
    trace = ("trace", "leak.onnx", "--original", "m.onnx", *KEY)
    for customers in ((), ("--customers", "customers.csv")):
        code, out, _ = run(capsys, *trace, *customers)
        assert code == 0
        assert out.startswith("leak.onnx: made of the copy of '../Beta', p = ")
    lady.permute("out/00002-Beta.onnx", 1).save("leak.onnx")
    code, out, _ = run(capsys, *trace, "--customers", "customers.csv", "--json")
    assert code == 1
    assert json.loads(out)["named"] == []
    code, _, err = run(capsys, *write)
    assert code == 2
    assert "00001-ACME-Corp.onnx: exists; give a new folder" in err


def test_capacity(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "stamp", "capacity", "m.onnx", *KEY, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["bits"] == 8 * told["payload_bytes"] > 0
    assert told["bits"] == pytest.approx(told["symmetry_bits"] * told["code_rate"])
    onnx.save(perceptron(), "small.onnx")
    assert run(capsys, "stamp", "capacity", "small.onnx", *KEY)[0] == 1


WRITE = ("stamp", "write", "m.onnx", "-o", "s.onnx", *KEY)


@pytest.mark.parametrize(
    ("call", "customers", "why"),
    [
        (WRITE, None, "--payload"),
        ((*WRITE, "--payload", ""), None, "the payload has 0 bytes"),
        ((*WRITE, "--payload", "x" * 65), None, "the payload has 65 bytes"),
        ((*WRITE, "--payload", "x" * 60), None, "has no room for 60 bytes"),
        (("stamp", "write", "m.onnx", "-o", "m.onnx", *KEY, "--payload", "a"), None, "overwrite"),
        (("stamp", "write", "m.onnx", "-o", "k.key", *KEY, "--payload", "a"), None, "overwrite"),
        ((*WRITE, "--payload-file", "none.csv"), None, "none.csv: no such file"),
        ((*WRITE, "--payload-file", "c.csv"), "", "c.csv: names no customer"),
        ((*WRITE, "--payload-file", "c.csv"), "customer\n", "c.csv: names no customer"),
        ((*WRITE, "--payload-file", "c.csv"), "a\nb\na\n", "c.csv: names 'a' twice"),
        ((*WRITE, "--payload-file", "c.csv"), "a\n" + "x" * 60, "has no room for 60 bytes"),
        ((*WRITE, "--payload-file", "m.onnx"), None, "cannot be read as CSV"),
        (
            ("stamp", "write", "m.onnx", "-o", "k.key", *KEY, "--payload-file", "c.csv"),
            "a",
            "k.key: is a file; with --payload-file, -o names a folder",
        ),
        (
            ("trace", "m.onnx", "--original", "m.onnx", *KEY, "--customers", "c.csv"),
            "x" * 65,
            "has over 64 bytes; shorten it",
        ),
        (("trace", "m.onnx", "--original", "none.onnx", *KEY), None, "none.onnx"),
        (("stamp",), None, "JOB"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    call: tuple[str, ...],
    customers: str | None,
    why: str,
) -> None:
    if customers is not None:
        Path("c.csv").write_text(customers)
    before = {p: p.read_bytes() for p in folder.iterdir()}
    code, out, err = run(capsys, *call)
    assert (code, out) == (2, "")
    assert why in err
    assert err.count("\n") == 1
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
