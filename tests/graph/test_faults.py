"""What goes wrong while a model is written or read: nothing is half, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import lady_onnx as lady
from lady_onnx.errors import LadyError, OutputError
from lady_onnx.graph import files
from lady_onnx.graph.loading import load_graph

FORK = multiprocessing.get_context("fork")
EVENTS = ("replace", "fsync", "chmod", "unlink")
"""Calls of the system in front of and behind which a process may be killed."""


def save_model(path: Path, value: float, is_external: bool = True, count: int = 5000) -> Path:
    """Save a model all of whose weights, those in the file and those beside it, hold one number."""
    names = ("a", "b")
    weights = [
        numpy_helper.from_array(np.full((70, count // 70), value, np.float32), n) for n in names
    ]
    width = count // 70
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Mul", ["h", "s"], ["g"]),
        helper.make_node("Gemm", ["g", "b"], ["y"], transB=1),
    ]
    weights.append(numpy_helper.from_array(np.full(width, value, np.float32), "s"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 70])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 70])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(
        model,
        path,
        save_as_external_data=is_external,
        location=path.name + ".data",
        size_threshold=5000,
    )
    return path


def read_value(path: Path) -> float:
    """The one number in all weights of a file."""
    model = onnx.load(path)
    values = np.unique(
        np.concatenate([numpy_helper.to_array(t).ravel() for t in model.graph.initializer])
    )
    assert values.size == 1, f"{path} holds weights of two models"
    return float(values[0])


def run_in_child(task: Callable[[], None]) -> int:
    """Run a task in a process of its own; returns its exit code, negative for a signal."""
    child = FORK.Process(target=task)
    child.start()
    child.join(60)
    assert not child.is_alive()
    assert child.exitcode is not None
    return child.exitcode


def list_files(folder: Path) -> set[str]:
    return {f.name for f in folder.iterdir()}


@pytest.mark.parametrize("is_external", [True, False])
@pytest.mark.parametrize("is_behind", [False, True])
def test_a_kill_at_any_call_leaves_the_old_or_the_new_model(
    is_external: bool, is_behind: bool, tmp_path: Path
) -> None:
    new = load_graph(save_model(tmp_path / "new.onnx", 2, is_external))
    folder = tmp_path / "out"
    folder.mkdir()
    for number in range(50):
        out = save_model(folder / "out.onnx", 1, is_external)

        def task(number: int = number, out: Path = out) -> None:
            left = [number]

            def wrap(original: Callable) -> Callable:
                def call(*args, **kwargs):
                    left[0] -= 1
                    if left[0] < 0 and not is_behind:
                        os.kill(os.getpid(), signal.SIGKILL)
                    found = original(*args, **kwargs)
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return found

                return call

            for name in EVENTS:
                setattr(files.os, name, wrap(getattr(os, name)))
            new.save(out, "note")

        code = run_in_child(task)
        assert read_value(out) in ((2,) if code == 0 else (1, 2))
        # the next run finds nothing in its way, and leaves nothing behind
        new.save(out, "note")
        assert read_value(out) == 2
        assert not [f for f in list_files(folder) if f.endswith(files.TEMPORARY)]
        if code == 0:
            break
    assert code == 0
    assert number > 2
    new.save(out, "note")
    assert len(list_files(folder)) == 1 + is_external


@pytest.mark.parametrize("is_external", [True, False])
def test_a_full_disk(is_external: bool, tmp_path: Path) -> None:
    new = load_graph(save_model(tmp_path / "new.onnx", 2, is_external, 70_000))
    folder = tmp_path / "out"
    folder.mkdir()
    out = save_model(folder / "out.onnx", 1, is_external)
    before = list_files(folder)

    def task() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            new.save(out, "note")
        except OutputError as error:
            os._exit(7 if str(out.name) in str(error) and "space" in str(error) else 8)

    assert run_in_child(task) == 7
    assert list_files(folder) == before
    assert read_value(out) == 1


def test_two_processes_with_one_output(tmp_path: Path) -> None:
    """One of them is the last, with its own data."""
    graphs = [load_graph(save_model(tmp_path / f"{k}.onnx", k, count=70_000)) for k in (1, 2)]
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "out.onnx"

    has_data, is_over = FORK.Event(), FORK.Event()

    def save_slowly() -> None:
        rename = os.replace

        def rename_slowly(*args) -> None:
            rename(*args)
            has_data.set()
            # time for the other one to come between the data and the model
            is_over.wait(1)

        files.os.replace = rename_slowly
        graphs[0].save(out, "note")

    def save_meanwhile() -> None:
        assert has_data.wait(30)
        graphs[1].save(out, "note")
        is_over.set()

    children = [FORK.Process(target=task) for task in (save_slowly, save_meanwhile)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert read_value(out) == 2
    assert len(list_files(folder)) == 2


def change(file: Path, how: str) -> None:
    if how == "written":
        with file.open("r+b") as opened:
            opened.write(b"1234")
        os.utime(file, ns=(time.time_ns(), time.time_ns() + 1))
    elif how == "longer":
        with file.open("ab") as opened:
            opened.write(b"1234")
    elif how == "replaced":
        other = file.with_name("other")
        other.write_bytes(file.read_bytes())
        other.replace(file)
    else:
        file.unlink()


@pytest.mark.parametrize("how", ["written", "longer", "replaced", "gone"])
def test_data_that_change_while_they_are_read(how: str, tmp_path: Path) -> None:
    one, two = (load_graph(save_model(tmp_path / f"{k}.onnx", k)) for k in (1, 2))
    change(tmp_path / "2.onnx.data", how)
    message = r"2\.onnx\.data: changed while it was read; run again"
    for call in (lady.check, lady.resync):
        with pytest.raises(LadyError, match=message):
            call(one, two)
    before = list_files(tmp_path)
    with pytest.raises(LadyError, match=message):
        two.save(tmp_path / "out.onnx", "note")
    assert list_files(tmp_path) == before
    one.save(tmp_path / "out.onnx", "note")
    assert read_value(tmp_path / "out.onnx") == 1


def test_a_file_may_be_saved_over_itself(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", 1, is_external=False)
    graph = load_graph(path)
    graph.save(path, "note")
    graph.save(path, "note")
    assert lady.check(graph, path).verdict == "identical"
    assert read_value(path) == 1


@pytest.mark.parametrize("content", [b"", b"no model " * 1000, b"\x08\x08" * 1000])
def test_a_file_that_is_no_model_is_replaced(content: bytes, tmp_path: Path) -> None:
    model = load_graph(save_model(tmp_path / "m.onnx", 2.0))
    path = tmp_path / "out.onnx"
    path.write_bytes(content)
    model.save(path, "")
    assert (load_graph(path).array("a") == 2).all()
    assert {p.name for p in tmp_path.glob("out.onnx*")} == {"out.onnx", "out.onnx.data"}


def test_a_large_file_is_replaced_without_a_copy_of_it_in_memory(tmp_path: Path) -> None:
    model = load_graph(save_model(tmp_path / "m.onnx", 2.0))
    save_model(tmp_path / "large.onnx", 1.0, is_external=False, count=70 * 400_000)
    tracemalloc.start()
    try:
        model.save(tmp_path / "large.onnx", "")
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_kills_at_random_points_of_a_large_save(tmp_path: Path) -> None:
    """Two models of 2 GB are saved in turn, and the process is killed at any moment of that."""
    models = {
        v: load_graph(save_model(tmp_path / f"{v}.onnx", v, True, 250_000_000)) for v in (1, 2)
    }
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "out.onnx"

    def read_large_value() -> float:
        graph = load_graph(out)
        ends = {float(f(graph.array(n))) for n in graph.tensors for f in (np.min, np.max)}
        assert len(ends) == 1, "weights of two models"
        return ends.pop()

    def save_and_exit(value: int) -> None:
        models[value].save(out, "note")

    start = time.perf_counter()
    assert run_in_child(lambda: save_and_exit(1)) == 0
    whole = time.perf_counter() - start
    rng = np.random.default_rng(0)
    present, outcomes = 1.0, []
    for _ in range(50):
        other = 3 - int(present)
        child = FORK.Process(target=save_and_exit, args=(other,))
        child.start()
        # a save that replaces another takes longer than the first
        child.join(rng.uniform(0, 2.5 * whole))
        child.kill()
        child.join()
        before, present = present, read_large_value()
        assert present in (before, other)
        outcomes.append(present != before)
    # some were killed in front of the end and some behind it, else the moments were no good
    assert set(outcomes) == {False, True}, (whole, outcomes)
    models[2].save(out, "note")
    assert read_large_value() == 2
    assert len(list_files(folder)) == 2
