"""The installed onnxruntime: missing, broken, or there twice."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import lady_onnx as lady
from lady_onnx.graph.loading import load_graph
from lady_onnx.runtime import installation, sessions

from ..helpers.near_models import weighed


def _install(folder: Path, **versions: str) -> None:
    """Distributions of these names and versions, as they lie in a folder of installed packages."""
    for name, version in versions.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        package = name.replace("_", "-")
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )


@pytest.fixture
def unloaded() -> Iterator[None]:
    """onnxruntime is looked for anew, in the test and after it."""
    installation.load_onnxruntime.cache_clear()
    yield
    installation.load_onnxruntime.cache_clear()


def test_a_second_onnxruntime_is_noticed_when_a_session_is_opened(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    unloaded: None,
) -> None:
    _install(tmp_path, onnxruntime="9.8.7", onnxruntime_gpu="9.8.6")
    monkeypatch.syspath_prepend(str(tmp_path))
    graph = load_graph(weighed(False))
    sessions.open_session(graph)
    sessions.open_session(graph)
    (record,) = caplog.records
    assert record.getMessage() == (
        "onnxruntime-gpu 9.8.6 and onnxruntime 9.8.7 are installed side by side and overwrite each "
        "other's files; keep one: pip uninstall -y onnxruntime-gpu onnxruntime && "
        "pip install onnxruntime-gpu"
    )


def test_a_single_onnxruntime_is_nothing_to_talk_about(
    caplog: pytest.LogCaptureFixture, unloaded: None
) -> None:
    sessions.open_session(load_graph(weighed(False)))
    assert not caplog.records


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_removal_that_left_a_broken_module_is_explained(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unloaded: None
) -> None:
    monkeypatch.setattr(installation, "list_distributions", lambda: {"onnxruntime-gpu": "9.8.7"})
    monkeypatch.setitem(
        sys.modules, "onnxruntime", None if how == "gone" else types.ModuleType("onnxruntime")
    )
    with pytest.raises(lady.LadyError, match="onnxruntime cannot be imported") as caught:
        lady.verify(weighed(False), weighed(True))
    assert caught.value.code == "runtime"
    assert str(caught.value).endswith(
        "files of onnxruntime-gpu are missing, as after the removal of another onnxruntime package "
        "that shares them; pip install --force-reinstall --no-deps onnxruntime-gpu"
    )


def test_a_missing_onnxruntime_is_named(monkeypatch: pytest.MonkeyPatch, unloaded: None) -> None:
    monkeypatch.setattr(installation, "list_distributions", dict)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(lady.LadyError, match=r"; pip install onnxruntime-gpu$"):
        lady.verify(weighed(False), weighed(True))
