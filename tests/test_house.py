"""The house's figures stay within their limits, and its imports point one way."""

from __future__ import annotations

import pytest

from . import house

ARRAYS_ALONE = ("groups", "matching", "diagnosis")
"""Packages that never reach onnx, not even through others."""


@pytest.mark.parametrize("what", house.LIMITS)
def test_figures(what: str) -> None:
    number, where = house.measure()[what]
    assert number <= house.LIMITS[what], where


@pytest.mark.parametrize("package", ARRAYS_ALONE)
def test_packages_of_arrays_never_reach_onnx(package: str) -> None:
    assert house.list_reached(f"lady_onnx.{package}").isdisjoint({"onnx", "onnxruntime", "google"})


def test_only_runtime_runs_models() -> None:
    """The scaffold of rules reads onnxruntime's schemas, and runs nothing."""
    users = [n for n in house.read_modules() if "onnxruntime" in house.list_direct(n)]
    users.remove("lady_onnx.rules.scaffold")
    assert users
    assert all(name.startswith("lady_onnx.runtime") for name in users)


def test_onnx_lies_below() -> None:
    assert "onnx" in house.list_reached("lady_onnx.graph")
