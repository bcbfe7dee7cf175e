"""Large arrays in files: the same arrays, and the same files, however they were laid."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

import lady_onnx as lady
from lady_onnx import storage
from lady_onnx.cli.main import main
from lady_onnx.graph.files import lay_data
from lady_onnx.graph.loading import load_graph
from lady_onnx.groups import permutations
from lady_onnx.storage import LaidFile, copy_array, store_blocks

from .helpers import real


def is_mapped(array: np.ndarray) -> bool:
    """Tell whether an array lies in a file."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return isinstance(owner.obj if isinstance(owner, memoryview) else owner, mmap.mmap)


def refuse(*args: object) -> None:
    raise OSError("no room")


@pytest.mark.parametrize("dtype", [np.float32, np.int64, ml_dtypes.bfloat16, object])
@pytest.mark.parametrize("has_room", [True, False])
def test_an_array_in_a_file_is_the_same_array(
    dtype: type, has_room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MAPPED_BYTES", 8)
    if not has_room:
        monkeypatch.setattr(storage.tempfile, "TemporaryFile", refuse)
    array = np.arange(24).reshape(4, 3, 2).astype(dtype)
    order = np.array([2, 0, 3, 1])
    monkeypatch.setattr(permutations, "BLOCK_ELEMENTS", 7)
    for orders in ({0: order}, {1: order[order < 3]}, {0: order, 2: np.array([1, 0])}):
        moved = permutations.reorder_axes(array, orders)
        expected = array
        for axis, places in orders.items():
            expected = expected.take(places, axis)
        assert moved.dtype == array.dtype
        assert (moved == expected).all()
        assert is_mapped(moved) == (has_room and dtype is not object)
        # a change stays in memory, and touches no other array
        moved[0] = moved[1]
    assert (array == np.arange(24).reshape(4, 3, 2).astype(dtype)).all()


@pytest.mark.parametrize("has_room", [True, False])
@pytest.mark.parametrize("shape", [(), (0, 3), (5, 3, 2)])
def test_a_copy_is_the_same_array(
    shape: tuple[int, ...], has_room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MAPPED_BYTES", 8)
    if not has_room:
        monkeypatch.setattr(storage.tempfile, "TemporaryFile", refuse)
    raw = np.random.default_rng(0).bytes(8 * int(np.prod(shape)) + 1)
    array = np.frombuffer(raw, "f8", offset=1).reshape(shape)
    copy = copy_array(array)
    assert copy.flags.aligned
    assert not copy.flags.writeable
    assert copy.shape == shape
    assert copy.tobytes() == raw[1:]


@pytest.fixture
def laid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LaidFile:
    """A file for two arrays, each of which has its place."""
    monkeypatch.setattr(storage, "MAPPED_BYTES", 8)
    return LaidFile(lambda: (tmp_path / "laid").open("w+b"))


A, B = np.arange(6, dtype=np.int32), np.arange(4.0)
START = 4096 + 8
"""Where the second begins, which need not be where a page does."""
SIZE = START + B.nbytes


def place(a: np.ndarray, b: np.ndarray) -> dict[str, tuple[int, np.ndarray]]:
    return {"a": (0, a), "b": (START, b)}


def test_arrays_are_laid_where_the_file_is_to_have_them(laid: LaidFile, tmp_path: Path) -> None:
    laid.lay_out(place(A, B), SIZE)
    assert laid.lay(B[:2], lambda: [B[:2]]) is None
    b = laid.lay(B, lambda: [B[2:], B[:2]])
    assert b is not None
    assert b.tolist() == [2, 3, 0, 1]
    # the place is taken: what takes it once more lies elsewhere
    assert laid.lay(B, lambda: [B]) is None
    b[0] = 7
    file, names = laid.take(place(A, b), SIZE)
    assert list(names) == ["b"]
    laid.close()
    raw = (tmp_path / "laid").read_bytes()
    assert len(raw) == SIZE
    assert np.frombuffer(raw[-B.nbytes :]).tolist() == [2, 3, 0, 1]
    file.close()


@pytest.mark.parametrize("what", ["another array", "another place", "another size", "none"])
def test_a_file_of_no_use_is_removed(laid: LaidFile, tmp_path: Path, what: str) -> None:
    laid.lay_out(place(A, B), SIZE)
    b = None if what == "none" else laid.lay(B, lambda: [B])
    places = place(A, B if b is None or what == "another array" else b)
    if what == "another place":
        places["b"] = 0, places["b"][1]
    assert laid.take(places, SIZE + (what == "another size")) == (None, ())
    laid.close()
    assert not (tmp_path / "laid").exists()


def test_a_full_disk_takes_nothing(
    laid: LaidFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid.lay_out(place(A, B), SIZE)
    assert laid.lay(A, lambda: [A]) is not None
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        assert laid.lay(B, lambda: [B]) is None
    assert not (tmp_path / "laid").exists()
    assert laid.take(place(A, B), SIZE) == (None, ())


def test_an_array_without_a_place_is_the_same_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MAPPED_BYTES", 8)
    with storage.lay_arrays(refuse):
        found = store_blocks(lambda: [A], A.shape, A.dtype, A)
    assert (found == A).all()


def save_outside(path: Path, model: onnx.ModelProto) -> str:
    """Save a model with its weights beside it."""
    onnx.save(
        model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024
    )
    return str(path)


@pytest.mark.parametrize("kind", ["noise", "prune", "rescale", "quantize", "none", "repaired"])
def test_what_is_laid_early_is_what_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(storage, "MAPPED_BYTES", 512)
    reference = save_outside(tmp_path / "a.onnx", onnx.load(real.path("magika")))
    moved = lady.permute(reference, 1)
    graph = moved.graph
    if kind == "repaired":
        name = max(graph.tensors, key=lambda n: graph.array(n).size)
        array = graph.array(name).copy()
        array[0] *= -3
        graph.replace(name, array)
    elif kind != "none":
        strength = {"noise": 0.1, "prune": 0.3, "rescale": 1.0, "quantize": 8}[kind]
        graph = lady.attack(graph, kind, strength, seed=1).graph
    suspect = tmp_path / "b.onnx"
    graph.save(suspect, "")
    later = lady.resync(reference, str(suspect), verify="none", repair=kind == "repaired")
    later.save(tmp_path / "later.onnx")
    arguments = ["--verify", "none", *(["--repair"] if kind == "repaired" else [])]
    out = tmp_path / "early.onnx"
    taken = []
    original = LaidFile.take

    def take(self: LaidFile, *args: Any) -> Any:
        taken.append(original(self, *args))
        return taken[-1]

    monkeypatch.setattr(LaidFile, "take", take)
    main(["resync", reference, str(suspect), "-o", str(out), *arguments])
    (found,) = taken
    # what was multiplied or repaired is another array than what was moved
    assert bool(found[1]) == (kind in ("noise", "prune", "quantize"))
    early, late = (load_graph(str(tmp_path / f"{n}.onnx")) for n in ("early", "later"))
    assert {n: early.array(n).tobytes() for n in early.tensors} == {
        n: late.array(n).tobytes() for n in late.tensors
    }
    data = [tmp_path / f"{n}.onnx.data" for n in ("early", "later")]
    assert data[0].read_bytes() == data[1].read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_external_data_out_of_alignment(tmp_path: Path) -> None:
    path = save_outside(tmp_path / "a.onnx", onnx.load(real.path("magika")))
    model, data = onnx.load(path, load_external_data=False), tmp_path / "a.onnx.data"
    data.write_bytes(b"x" + data.read_bytes())
    moved = 0
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = str(int(entry.value) + 1)
                moved += 1
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    graph, whole = load_graph(tmp_path / "b.onnx"), load_graph(real.path("magika"))
    assert moved
    for name in graph.tensors:
        array = graph.array(name)
        assert array.flags.aligned
        assert array.tobytes() == whole.array(name).tobytes()
        assert not array.flags.writeable or name not in {t.name for t in model.graph.initializer}


def test_what_is_refused_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MAPPED_BYTES", 512)
    reference = save_outside(tmp_path / "a.onnx", onnx.load(real.path("magika")))
    suspect = tmp_path / "b.onnx"
    lady.attack(lady.permute(reference, 1).graph, "noise", 0.1, seed=1).graph.save(suspect, "")
    before = {p.name for p in tmp_path.iterdir()}

    def fail() -> None:
        with lay_data(tmp_path / "out.onnx"):
            lady.resync(reference, str(suspect), verify="none")
            assert len(list(tmp_path.glob(".out.onnx.data.*"))) == 1
            raise RuntimeError("what went wrong")

    with pytest.raises(RuntimeError):
        fail()
    assert {p.name for p in tmp_path.iterdir()} == before
