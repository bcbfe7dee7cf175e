"""The registry: models are added, found again whatever was done to them, and taken out."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lady_onnx as lady
from lady_onnx.cli.main import main
from lady_onnx.cli.registry import registry
from lady_onnx.graph.loading import load_graph
from lady_onnx.registry import store
from lady_onnx.registry.direction import tell_direction
from lady_onnx.registry.families import find_families
from lady_onnx.registry.identification import identify, read_entry
from lady_onnx.registry.store import Entry, Registry

from ..helpers.networks import perceptron, weights, with_weights

SIZES = (20, 48, 64, 32, 7)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five strangers, in one folder."""
    folder = tmp_path_factory.mktemp("models")
    for seed in range(5):
        onnx.save(perceptron(SIZES, seed=seed), folder / f"m{seed}.onnx")
    return folder


@pytest.fixture(scope="module")
def db(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("db")
    assert main(["registry", "add", str(models), "--db", str(folder)]) == 0
    return folder


def read(path: str | Path) -> Entry:
    """What a registry keeps of a model."""
    entry = read_entry(str(path))
    assert entry is not None
    return entry


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["registry", *map(str, args), "--json"])
    return code, json.loads(capsys.readouterr().out)


ALTERATIONS = {
    "permuted": lambda g: g,
    "rescaled": lambda g: lady.attack(g, "rescale", 0.5, seed=1).graph,
    "altered": lambda g: lady.attack(g, "noise", 0.3, seed=1).graph,
}


@pytest.mark.parametrize("verdict", ALTERATIONS)
def test_a_copy_is_found_among_strangers(
    verdict: str, models: Path, db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered = ALTERATIONS[verdict](load_graph(models / "m3.onnx"))
    lady.permute(altered, 1).save(tmp_path / "suspect.onnx")
    code, found = call(capsys, "identify", tmp_path / "suspect.onnx", "--db", db)
    assert code == 0
    assert found["size"] == 5
    (best,) = found["relatives"]
    assert Path(best["path"]).name == "m3.onnx"
    assert best["verdict"] == verdict
    assert best["recognised"] == 1
    assert best["p_value"] == 0.2


def test_a_stranger_has_no_relative(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(perceptron(SIZES, seed=77), tmp_path / "stranger.onnx")
    code, found = call(capsys, "identify", tmp_path / "stranger.onnx", "--db", db, "--checks", 2)
    assert code == 1
    assert not found["relatives"]
    assert len(found["strangers"]) == 2
    # each counts itself, and those that are as similar
    assert sorted(s["p_value"] for s in found["strangers"]) == pytest.approx([2 / 6, 3 / 6])
    assert {s["verdict"] for s in found["strangers"]} == {"unrelated"}
    main(["registry", "identify", str(tmp_path / "stranger.onnx"), "--db", str(db), "--checks=1"])
    assert "no relative is known among 5 models; the nearest one was" in capsys.readouterr().out


def test_a_model_is_not_its_own_relative(
    models: Path, db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = call(capsys, "identify", models / "m0.onnx", "--db", db, "--checks", 1)
    assert code == 1
    assert found["size"] == 4


def test_who_was_made_of_whom(models: Path, db: Path, tmp_path: Path) -> None:
    graph = load_graph(models / "m1.onnx")
    suspects = {
        "pruned": lady.attack(graph, "prune", 0.5).graph,
        "few bits": lady.attack(graph, "quantize", 4).graph,
    }
    for name, suspect in suspects.items():
        path = tmp_path / f"{name}.onnx"
        lady.permute(suspect, 1).save(path)
        found = identify(str(path), Registry(db))
        best = found.relatives[0]
        assert best.direction == "suspect"
        assert " of " in (best.direction_reason or "")
        line = f"  {path} was made of {best.path}: {best.direction_reason}"
        assert line in found.details()
        other = Registry(tmp_path / name, is_new=True)
        other.add([read(path)])
        best = identify(str(models / "m1.onnx"), other).relatives[0]
        assert best.direction == "model"
    # noise loses nothing that shows
    path = tmp_path / "noise.onnx"
    lady.permute(lady.attack(graph, "noise", 0.1, seed=1).graph, 1).save(path)
    assert identify(str(path), Registry(db)).relatives[0].direction is None


def test_half_precision_is_made_of_the_other(models: Path, db: Path, tmp_path: Path) -> None:
    model = onnx.load(models / "m1.onnx")
    half = {n: a.astype(np.float16).astype(np.float32) for n, a in weights(model).items()}
    onnx.save(with_weights(model, half), tmp_path / "half.onnx")
    best = identify(str(tmp_path / "half.onnx"), Registry(db)).relatives[0]
    assert best.verdict == "altered"
    assert best.direction == "suspect"


def test_adding_again_changes_nothing(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("m0.onnx", "m1.onnx"):
        (folder / name).write_bytes((models / name).read_bytes())
    db = tmp_path / "db"
    assert call(capsys, "add", folder, "--db", db)[1]["added"] == 2
    before = {e.path: e.added for e in Registry(db).list_entries()}
    found = call(capsys, "add", folder, "--db", db)[1]
    assert (found["added"], found["known"], found["size"]) == (0, 2, 2)
    assert {e.path: e.added for e in Registry(db).list_entries()} == before
    # another file at the same path takes its place
    (folder / "m1.onnx").write_bytes((models / "m2.onnx").read_bytes())
    with pytest.raises(lady.LadyError, match="is another file than was added"):
        identify(str(models / "m1.onnx"), Registry(db))
    found = call(capsys, "add", folder, "--db", db)[1]
    counts = [found[n] for n in ("added", "renewed", "known", "size")]
    assert counts == [0, 1, 1, 2]
    listed = call(capsys, "list", "--db", db)[1]["models"]
    entries = sorted(Registry(db).list_entries(), key=lambda e: e.path)
    assert [m["path"] for m in listed] == [str(folder / f"m{k}.onnx") for k in (0, 1)]
    assert [m["exact"] for m in listed] == [e.fingerprint.exact for e in entries]
    assert main(["registry", "list", "--db", str(db)]) == 0
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first == f"{db}: 2 models"
    assert [line.split()[0] for line in lines] == [m["path"] for m in listed]
    assert [line.split()[-1] for line in lines] == [m["exact"][:12] for m in listed]
    code, found = call(capsys, "remove", folder / "m1.onnx", "--db", db)
    assert code == 0
    assert found["size"] == 1
    assert main(["registry", "remove", str(folder / "m1.onnx"), "--db", str(db)]) == 2


def test_a_changed_file_is_told(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    lady.permute(models / "m0.onnx", 1).save(path)
    db = Registry(tmp_path / "db", is_new=True)
    db.add([read(path)])
    lady.permute(models / "m0.onnx", 2).save(path)
    with pytest.raises(lady.LadyError, match="another file than was added; add it again"):
        identify(str(models / "m0.onnx"), db)
    found = call(capsys, "add", path, "--db", tmp_path / "db")[1]
    assert (found["added"], found["renewed"], found["size"]) == (0, 1, 1)
    assert identify(str(models / "m0.onnx"), db).relatives


def test_a_file_that_is_gone_is_told(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    lady.attack(models / "m0.onnx", "noise", 0.01, seed=1).save(path)
    db = Registry(tmp_path / "db", is_new=True)
    db.add([read(path)])
    path.unlink()
    found = identify(str(models / "m0.onnx"), db)
    assert not found.relatives
    # what lies beside it is another model
    assert found.unread[str(path)].startswith(f"{path}: is gone; put it back")
    # whether it is a relative is not known
    args = ["--db", str(tmp_path / "db")]
    assert main(["registry", "identify", str(models / "m0.onnx"), *args]) == 2
    assert capsys.readouterr().out.startswith("no answer: no relative is known among 1 model, but")
    onnx.save(perceptron(SIZES, seed=5), tmp_path / "other.onnx")
    db.add([read(tmp_path / "other.onnx")])
    assert main(["registry", "scan", *args]) == 2
    line = "2 models: 0 families of several models, 1 without relatives, 1 not compared"
    assert line in capsys.readouterr().out


def test_an_odd_file_is_left_out_and_told(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "a.onnx").write_bytes((models / "m0.onnx").read_bytes())
    (folder / "b.onnx").write_bytes(b"no model")
    code, found = call(capsys, "add", folder, "--db", tmp_path / "db")
    assert code == 2
    assert found["added"] == 1
    assert "b.onnx" in found["errors"][0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["identify", "{m}", "--db", "{t}/none"], "no such registry"),
        (["add", "{t}/empty", "--db", "{t}/db"], "no file in it ends with .onnx"),
        (["watch", "{t}/none", "--db", "{t}/db", "--once"], "no such folder"),
        (["identify", "{t}/none.onnx", "--db", "{d}"], "No such file"),
        (["scan", "--db", "{d}", "--dot", "{t}/none/f.dot"], "does not exist"),
        (["identify", "{m}", "--db", "{t}/empty"], "cannot be opened as a registry"),
    ],
)
def test_bad_calls(
    args: list[str],
    message: str,
    models: Path,
    db: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    given = [a.format(m=models / "m0.onnx", t=tmp_path, d=db) for a in args]
    assert main(["registry", *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_families(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for k in (0, 1):
        original = load_graph(models / f"m{k}.onnx")
        original.save(folder / f"a{k}.onnx", "copy")
        lady.permute(original, 1).save(folder / f"b{k}.onnx")
        pruned = lady.attack(original, "prune", 0.5).graph
        lady.permute(pruned, 2).save(folder / f"c{k}.onnx")
    original = load_graph(models / "m2.onnx")
    original.save(folder / "alone.onnx", "copy")
    call(capsys, "add", folder, "--db", tmp_path / "db")
    code, found = call(capsys, "scan", "--db", tmp_path / "db", "--dot", tmp_path / "f.dot")
    names = [sorted(Path(p).stem for p in family) for family in found["families"]]
    assert code == 0
    assert names == [["a0", "b0", "c0"], ["a1", "b1", "c1"], ["alone"]]
    assert sorted(e["verdict"] for e in found["edges"]) == ["altered"] * 2 + ["permuted"] * 2
    for edge in found["edges"]:
        if edge["verdict"] == "altered":
            assert Path(edge[edge["child"]]).stem.startswith("c")
    families = find_families(Registry(tmp_path / "db"), checks=1)
    assert families.headline() == "7 models: 2 families of several models, 1 without relatives"
    drawing = (tmp_path / "f.dot").read_text()
    assert drawing.startswith("digraph")
    assert drawing.count("->") == 4


def test_a_drawing_overwrites_no_model_and_no_registry(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, own = tmp_path / "m.onnx", tmp_path / "db"
    model.write_bytes((models / "m0.onnx").read_bytes())
    call(capsys, "add", model, "--db", own)
    (tmp_path / "link").symlink_to(model)
    inside = next(p for p in own.rglob("*") if p.is_file())
    for place in (model, tmp_path / "link", inside, own / "new.dot"):
        before = place.read_bytes() if place.exists() else None
        assert main(["registry", "scan", "--db", str(own), "--dot", str(place)]) == 2
        assert "would overwrite a model, or the registry" in capsys.readouterr().err
        assert (place.read_bytes() if place.exists() else None) == before


def test_watching_a_folder(
    models: Path, db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "db"
    main(["registry", "add", str(models), "--db", str(own)])
    folder = tmp_path / "uploads"
    folder.mkdir()
    lady.permute(models / "m0.onnx", 1).save(folder / "copy.onnx")
    (folder / "odd.onnx").write_bytes(b"no model")
    capsys.readouterr()
    args = ["registry", "watch", str(folder), "--db", str(own), "--once", "--json"]
    assert main(args) == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["relatives"][0]["verdict"] == "permuted"
    assert "odd.onnx" in lines[1]["error"]
    assert len(Registry(own)) == 6
    # what is known is not told again
    assert main(args) == 2
    assert [json.loads(x)["suspect"] for x in capsys.readouterr().out.splitlines()] == [
        str(folder / "odd.onnx")
    ]


def _add_at(folder: str, entry: Entry, start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    registry = Registry(folder, is_new=True)
    for k in range(6):
        registry.add([replace(entry, path=f"m{k}")])


def test_writers_that_meet_add_a_model_once(models: Path, tmp_path: Path) -> None:
    entry = read(models / "m0.onnx")
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        # all have loaded what they need, and begin at one moment
        pool.map(len, [[1]] * 6, chunksize=1)
        for k in range(3):
            db = tmp_path / str(k)
            pool.starmap(_add_at, [(str(db), entry, time.time() + 0.7)] * 3, chunksize=1)
            assert sorted(e.path for e in Registry(db).list_entries()) == [
                f"m{k}" for k in range(6)
            ]


KILLED = """
import sys
from lady_onnx.graph.loading import load_graph
from lady_onnx.registry.identification import read_entry
from lady_onnx.registry.store import Entry, Registry
from dataclasses import replace
entry = read_entry(sys.argv[2])
registry = Registry(sys.argv[1], is_new=True)
print("ready", flush=True)
for k in range(10000):
    registry.add([replace(entry, path=f"{k // 4}-{j}") for j in range(5)])
    print(k, flush=True)
"""


@pytest.mark.long
def test_a_writer_that_is_killed_leaves_whole_changes(models: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    db = tmp_path / "db"
    for _ in range(3):
        command = [sys.executable, "-c", KILLED, str(db), str(models / "m0.onnx")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            last = -1
            process.stdout.readline()
            for _ in range(int(rng.integers(1, 9))):
                last = int(process.stdout.readline())
            process.kill()
        paths = [e.path for e in Registry(db).list_entries()]
        assert len(paths) == len(set(paths))
        assert {f"{k // 4}-{j}" for k in range(last + 1) for j in range(5)} <= set(paths)


def test_fingerprints_of_another_format_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "FORMAT", "lady-onnx-fingerprint/0")
        patch.setattr(store, "VECTORS", store.VECTORS[:1])
        Registry(tmp_path / "db", is_new=True)
    for is_new in (False, True):
        with pytest.raises(lady.LadyError, match="another format"):
            Registry(tmp_path / "db", is_new=is_new)


def test_the_extra_is_named_where_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    assert main(["registry", "scan", "--db", str(tmp_path)]) == 2
    assert "lady-onnx[registry]" in capsys.readouterr().err


def test_copies_of_a_family_are_compared_with_one_of_them(models: Path, tmp_path: Path) -> None:
    db = Registry(tmp_path / "db", is_new=True)
    paths = []
    for seed in (1, 2, 3):
        path = tmp_path / f"{seed}.onnx"
        lady.permute(models / "m0.onnx", seed).save(path)
        paths.append(str(path))
    db.add([read(p) for p in paths])
    found = find_families(db)
    assert found.families == (tuple(paths),)
    assert found.compared == 2
    # a file that was exchanged since is nobody's copy
    onnx.save(perceptron(SIZES, seed=5), paths[1])
    found = find_families(db)
    assert found.families == ((paths[0], paths[2]), (paths[1],))
    assert "another file than was added" in found.unread[paths[1]]


def test_a_model_with_nan_is_not_added_and_blames_nobody(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(models / "m0.onnx")
    broken = weights(model)["b0"].copy()
    broken[0] = np.nan
    onnx.save(with_weights(model, {**weights(model), "b0": broken}), tmp_path / "nan.onnx")
    args = ["registry", "add", "--db", str(tmp_path / "db"), str(tmp_path / "nan.onnx")]
    assert main([*args, str(tmp_path / "none.onnx")]) == 2
    error = capsys.readouterr().err
    assert "NaN" in error
    assert "nothing was added; 1 more model cannot be read either" in error
    assert error.count("\n") == 1
    # a registry without models would say of everything that it is unrelated
    assert not (tmp_path / "db").exists()
    args += [str(models / "m0.onnx")]
    code, found = call(capsys, *args[1:])
    assert (code, found["added"]) == (2, 1)
    assert "NaN" in found["errors"][0]


def test_pipes_circles_and_empty_paths(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, path = ["--db", str(tmp_path / "db")], tmp_path / "m.onnx"
    path.write_bytes((models / "m0.onnx").read_bytes())
    assert main(["registry", "add", str(path), *own]) == 0
    path.unlink()
    os.mkfifo(path)
    (tmp_path / "loop.onnx").symlink_to(tmp_path / "loop.onnx")
    suspect = str(models / "m0.onnx")
    for args, message in [
        (["identify", suspect, *own], "is no regular file"),
        (["add", str(path), *own], "is no regular file"),
        (["add", str(tmp_path / "loop.onnx"), *own], "a link that leads to itself"),
        (["remove", str(tmp_path / "loop.onnx"), *own], "a link that leads to itself"),
        (["scan", *own, "--dot", str(tmp_path / "loop.onnx")], "choose another name"),
        (["add", "", *own], "an empty path"),
        (["add", suspect, "--db", ""], "an empty path"),
    ]:
        capsys.readouterr()
        assert main(["registry", *args]) == 2, args
        printed = capsys.readouterr()
        assert message in printed.out + printed.err, args
        assert "fault" not in printed.err


def test_names_control_no_terminal(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a\x1b[31mb.onnx"
    path.write_bytes((models / "m0.onnx").read_bytes())
    (tmp_path / "c\x1b[31md.onnx").write_text("no model")
    own = ["--db", str(tmp_path / "db")]
    assert main(["registry", "add", str(tmp_path), *own]) == 2
    assert main(["registry", "identify", str(models / "m0.onnx"), *own]) == 0
    assert main(["registry", "scan", *own]) == 0
    assert main(["check", str(path), str(tmp_path / "c\x1b[31md.onnx")]) == 2
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert "c\\x1b[31md.onnx" in printed.out


def test_a_folder_with_other_files_is_no_registry(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["registry", "add", str(models / "m0.onnx"), "--db", str(tmp_path)]) == 2
    assert "holds other files and no registry" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_suspect_without_a_vector_says_so(
    models: Path, db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [1, 4])], [value("y", 1, [1, 4])])
    onnx.save(onnx.helper.make_model(graph, ir_version=8), tmp_path / "relu.onnx")
    own = ["--db", str(tmp_path / "db")]
    assert main(["registry", "add", str(tmp_path / "relu.onnx"), *own]) == 0
    assert "1 without a vector: only exact copies of them are found" in capsys.readouterr().out
    assert main(["registry", "identify", str(tmp_path / "relu.onnx"), "--db", str(db)]) == 1
    assert "it has no vector, so that only exact copies are found" in capsys.readouterr().out


def test_one_file_with_two_names_is_one_model(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link.onnx").symlink_to(models / "m0.onnx")
    args = ["add", models / "m0.onnx", tmp_path / "link.onnx", "--db", tmp_path / "db"]
    assert call(capsys, *args)[1]["added"] == 1
    args = ["remove", models / "m0.onnx", tmp_path / "link.onnx", "--db", tmp_path / "db"]
    assert call(capsys, *args)[1]["removed"] == 1


def test_names_that_are_no_text(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = bytes(tmp_path) + b"/bad\xff.onnx"
    with open(odd, "wb") as file:
        file.write((models / "m0.onnx").read_bytes())
    (tmp_path / "good 'one'.onnx").write_bytes((models / "m1.onnx").read_bytes())
    code, found = call(capsys, "add", tmp_path, "--db", tmp_path / "db")
    assert (code, found["added"]) == (2, 1)
    assert "not UTF-8" in found["errors"][0]


def test_rows_of_files_that_are_gone_hide_nobody(models: Path, tmp_path: Path) -> None:
    db = Registry(tmp_path / "db", is_new=True)
    graph = load_graph(models / "m0.onnx")
    for k in range(7):
        path = tmp_path / f"{k}.onnx"
        lady.permute(lady.attack(graph, "noise", 0.3 - 0.04 * k, seed=k).graph, k).save(path)
        db.add([read(path)])
        if k:
            path.unlink()
    found = identify(str(models / "m0.onnx"), db, checks=1)
    assert [Path(r.path).name for r in found.relatives] == ["0.onnx"]
    # a copy that is known and gone is no stranger
    path = tmp_path / "copy.onnx"
    lady.permute(graph, 1).save(path)
    db.add([read(path)])
    path.unlink()
    (tmp_path / "0.onnx").unlink()
    with pytest.raises(
        lady.LadyError, match=r"has the hash of a model that is known, but .*: is gone"
    ):
        identify(str(models / "m0.onnx"), db, checks=1)


def test_training_on_from_a_lossy_base_is_no_origin(models: Path, tmp_path: Path) -> None:
    graph = load_graph(models / "m1.onnx")
    model = onnx.load(models / "m1.onnx")
    cast = {n: a.astype(np.float16).astype(np.float32) for n, a in weights(model).items()}
    bases = {
        "pruned": lady.attack(graph, "prune", 0.5).model,
        "cast": with_weights(model, cast),
        "few bits": lady.attack(graph, "quantize", 4).model,
    }
    for name, base in bases.items():
        onnx.save(base, tmp_path / f"{name}.onnx")
        db = Registry(tmp_path / name, is_new=True)
        db.add([read(tmp_path / f"{name}.onnx")])
        for level in (0.0001, 0.01, 0.1):
            path = tmp_path / "tuned.onnx"
            lady.permute(lady.attack(base, "noise", level, seed=1).model, 1).save(path)
            best = identify(str(path), db).relatives[0]
            assert best.direction is None, (name, level, best.direction_reason)


def test_what_was_done_to_one_weight_tells_nothing_where_another_differs_otherwise(
    models: Path, tmp_path: Path
) -> None:
    model = onnx.load(models / "m1.onnx")
    plain = weights(model)
    pruned = weights(lady.attack(model, "prune", 0.5).model)
    noisy = weights(lady.attack(model, "noise", 0.1, seed=1).model)
    cast = {n: a.astype(np.float16).astype(np.float32) for n, a in plain.items()}
    rng = np.random.default_rng(0)
    # training that began with a cast base, and moved each weight by far less than a cast does
    moved = {
        n: (a * (1 + 2e-5 * rng.standard_normal(a.shape))).astype(np.float32)
        for n, a in cast.items()
    }
    pairs = {
        "each lost something": ({**plain, "w0": pruned["w0"]}, {**plain, "w1": pruned["w1"]}),
        "another weight is noisy": (plain, {**plain, "w0": pruned["w0"], "w1": noisy["w1"]}),
        "a cast base": (cast, moved),
        "nothing": (plain, {**plain, "w0": noisy["w0"]}),
    }
    for what, (ours, theirs) in pairs.items():
        reference = load_graph(with_weights(model, ours))
        found = lady.check(reference, with_weights(model, theirs))
        assert found.verdict in ("altered", "tampered"), what
        assert tell_direction(found, reference).child is None, what
    found = lady.check(model, with_weights(model, {**plain, "w0": pruned["w0"]}))
    assert tell_direction(found, load_graph(model)).child == "suspect"


def test_models_that_met_strangers_are_compared_no_more(db: Path) -> None:
    found = find_families(Registry(db))
    assert len(found.families) == 5
    # each pair would be ten
    assert found.compared < 10


def test_watching_reads_a_file_once(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added is what was identified, whatever is put in its place meanwhile."""
    own, folder = tmp_path / "db", tmp_path / "uploads"
    folder.mkdir()
    (folder / "u.onnx").write_bytes((models / "m0.onnx").read_bytes())
    first = read(folder / "u.onnx")
    whole = registry.identify

    def exchange(*args: Any, **options: Any) -> Any:
        found = whole(*args, **options)
        (folder / "u.onnx").write_bytes((models / "m1.onnx").read_bytes())
        return found

    monkeypatch.setattr(registry, "identify", exchange)
    assert main(["registry", "watch", str(folder), "--db", str(own), "--once"]) == 0
    (entry,) = Registry(own).list_entries()
    assert entry.sha256 == first.sha256


def test_watching_tells_what_takes_the_place_of_a_known_file(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    db = tmp_path / "db"
    main(["registry", "add", str(models / "m0.onnx"), "--db", str(db)])
    onnx.save(perceptron(SIZES, seed=7), folder / "u.onnx")
    os.mkfifo(folder / "pipe.onnx")
    args = ["registry", "watch", str(folder), "--db", str(db), "--once", "--json", "--checks=1"]
    verdicts = []
    for exchanged in (None, lady.permute(models / "m0.onnx", 1).model):
        if exchanged is not None:
            onnx.save(exchanged, folder / "u.onnx")
        capsys.readouterr()
        assert main(args) == 0
        (line,) = capsys.readouterr().out.splitlines()
        verdicts.append([r["verdict"] for r in json.loads(line)["relatives"]])
    assert verdicts == [[], ["permuted"]]


def test_an_index_finds_what_a_scan_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one of the two columns has none yet: the building may have been ended there."""
    monkeypatch.setattr(store, "MIN_INDEXED_ROWS", 500)
    monkeypatch.setattr(store, "PARTITION_ROWS", 250)
    rng = np.random.default_rng(0)
    own = lady.fingerprint(perceptron(SIZES, seed=1))

    def draw() -> np.ndarray:
        return rng.integers(-127, 128, own.vector.size).astype(np.int8)

    db = Registry(tmp_path / "db", is_new=True)
    prints = [replace(own, vector=draw(), pruned_vector=draw()) for _ in range(600)]
    assert not db.build_index()
    db.add([Entry(f"/m{k:03}", "", 0, p) for k, p in enumerate(prints)])
    queries = [
        *(replace(p, vector=p.vector, pruned_vector=draw()) for p in prints[:3]),
        *(replace(p, vector=p.pruned_vector, pruned_vector=draw()) for p in prints[3:6]),
        *(replace(p, vector=draw(), pruned_vector=p.vector) for p in prints[6:9]),
    ]
    whole = [db.find_nearest(q, 3) for q in queries]
    assert [near[0].entry.path for near in whole] == [f"/m{k:03}" for k in range(9)]
    columns = store.VECTORS
    monkeypatch.setattr(store, "VECTORS", columns[:1])
    assert db.build_index()
    monkeypatch.setattr(store, "VECTORS", columns)
    assert db.build_index()
    assert db._list_indexed() == set(columns)
    assert [db.find_nearest(q, 3)[0] for q in queries] == [near[0] for near in whole]
