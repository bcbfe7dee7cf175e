"""Claims of model cards are confirmed, contradicted, or left open."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import lady_onnx as lady
from lady_onnx.cli.main import main

from ..helpers.networks import perceptron

SIZES = (20, 48, 64, 32, 7)


def add(folder: Path, model: onnx.ModelProto | None, head: str = "") -> None:
    """Makes a repository."""
    folder.mkdir(parents=True)
    if model is not None:
        onnx.save(model, folder / "model.onnx")
    (folder / "README.md").write_text(f"---\n{head}\n---\n# A model\n" if head else "# A model\n")


def test_claims(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = perceptron(SIZES, seed=1)
    tuned = lady.permute(lady.attack(base, "noise", 0.2, seed=1).model, 1).model
    add(tmp_path / "ours" / "base", base)
    add(tmp_path / "a" / "tuned", tuned, "base_model: ours/base\nbase_model_relation: finetune")
    add(tmp_path / "a" / "liar", perceptron(SIZES, seed=2), "base_model:\n- ours/base")
    add(tmp_path / "a" / "lost", tuned, "base_model: ours/gone")
    add(tmp_path / "a" / "empty", None, "base_model: ours/base")
    add(tmp_path / "a" / "odd", tuned, "base_model: [")
    assert main(["registry", "claims", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    answers = {c["repository"]: (c["answer"], c["verdict"]) for c in found["claims"]}
    assert answers == {
        "a/liar": ("contradicted", "unrelated"),
        "a/lost": ("open", None),
        "a/empty": ("open", None),
        "a/tuned": ("confirmed", "altered"),
    }
    assert found["silent"] == ["ours/base"]
    assert list(found["unread"]) == ["a/odd"]
    relations = {c["repository"]: c["relation"] for c in found["claims"]}
    assert relations["a/tuned"] == "finetune"
    # single repositories are named as those in a folder are
    folders = [str(tmp_path / "a" / "tuned"), str(tmp_path / "ours" / "base")]
    assert main(["registry", "claims", *folders]) == 0
    assert capsys.readouterr().out.startswith("1 claim: 1 confirmed, 0 contradicted, 0 open")


@pytest.mark.parametrize("head", ["5", "true", ".nan", "2026-01-01", "{a: b}", "[[a]]", "[a, 5]"])
def test_a_card_that_names_no_base_hides_nothing_of_the_others(
    head: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = perceptron(SIZES, seed=1)
    add(tmp_path / "ours" / "base", base, "base_model: ours/base")
    add(tmp_path / "a" / "liar", perceptron(SIZES, seed=2), "base_model: ours/base")
    add(tmp_path / "a" / "odd", base, f"base_model: {head}")
    assert main(["registry", "claims", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["unread"].keys() == {"a/odd"}
    assert [c["answer"] for c in found["claims"]] == ["contradicted", "open"]
    assert "its own base" in found["claims"][1]["reason"]


def test_a_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = perceptron(SIZES, seed=1)
    for name, versions in {
        "ours--base": {"old": perceptron(SIZES, seed=5), "new": base},
        "a--copy": {"only": lady.permute(base, 1).model},
    }.items():
        folder = tmp_path / f"models--{name}"
        for version, model in versions.items():
            # snapshots are links to blobs
            add(folder / "snapshots" / version, None, "base_model: ours/base" * (name[0] == "a"))
            blob = folder / "blobs" / version
            blob.parent.mkdir(exist_ok=True)
            onnx.save(model, blob)
            (folder / "snapshots" / version / "model.onnx").symlink_to(blob)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(list(versions)[-1])
    (tmp_path / "version.txt").write_text("1")
    assert main(["registry", "claims", str(tmp_path), "--json"]) == 0
    (claim,) = json.loads(capsys.readouterr().out)["claims"]
    assert (claim["repository"], claim["verdict"]) == ("a/copy", "permuted")


def test_no_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "claims", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["registry", "claims", str(tmp_path)]) == 2
    assert "no folder with a README.md" in capsys.readouterr().err
