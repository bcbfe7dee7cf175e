"""Models are added on a cluster of Ray, here one of several processes on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from lady_onnx.cli.main import main
from lady_onnx.registry.store import Registry

from ..helpers.networks import perceptron

pytest.importorskip("ray", exc_type=ImportError)
pytestmark = pytest.mark.long


def test_a_cluster_adds_what_one_process_adds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for seed in range(6):
        onnx.save(perceptron((20, 48, 7), seed=seed), models / f"{seed}.onnx")
    (models / "odd.onnx").write_bytes(b"no model")
    entries = []
    for name, args in {"one": [], "many": ["--ray", "local"]}.items():
        db = tmp_path / name
        assert main(["registry", "add", str(models), "--db", str(db), "--json", *args]) == 2
        found = json.loads(capsys.readouterr().out)
        assert (found["added"], found["known"], found["size"]) == (6, 0, 6)
        assert "odd.onnx" in found["errors"][0]
        own = sorted(Registry(db).list_entries(), key=lambda e: e.path)
        entries.append([(e.path, e.sha256, e.fingerprint.vector.tolist()) for e in own])
    assert entries[0] == entries[1]
    assert main(["registry", "add", str(models), "--db", str(db), "--json", *args]) == 2
    assert json.loads(capsys.readouterr().out)["known"] == 6


def test_a_cluster_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(perceptron((20, 48, 7), seed=1), tmp_path / "m.onnx")
    args = ["registry", "add", str(tmp_path), "--db", str(tmp_path / "db"), "--ray"]
    assert main([*args, "127.0.0.1:1"]) == 2
    error = capsys.readouterr().err
    assert "no cluster there" in error
    assert error.count("\n") == 1
