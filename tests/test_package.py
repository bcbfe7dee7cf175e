"""What holds for the whole package: its public names, what importing it loads, the operators."""

from __future__ import annotations

import ast
import configparser
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lady_onnx as lady
from lady_onnx import rules

PACKAGE = Path(lady.__file__).parent
HEAVY = ("numpy", "onnx", "onnxruntime", "scipy", "tqdm", "torch")
"""What is too slow to be loaded before it is needed."""


def test_the_table_of_operators_is_the_registry() -> None:
    """`python -m lady_onnx.rules > lady_onnx/rules/OPERATORS.md` writes it anew."""
    shown = (PACKAGE / "rules" / "OPERATORS.md").read_text()
    assert shown.endswith(rules.make_table() + "\n")
    assert "|  |" not in shown


def test_public_names() -> None:
    assert sorted(lady.__all__) == sorted(set(lady.__all__))
    for name in lady.__all__:
        assert getattr(lady, name).__doc__, name


def test_public_names_are_listed_before_they_are_loaded() -> None:
    assert set(lady.__all__) <= set(dir(lady))
    assert "load_graph" not in dir(lady)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lady.nothing  # type: ignore[attr-defined]


def test_type_checkers_see_the_names_that_are_there() -> None:
    """The imports for type checkers and the table that is used at run time say the same."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert set(seen) == set(lady.__all__)
    for name, home in seen.items():
        assert getattr(lady, name) is getattr(importlib.import_module(f"lady_onnx.{home}"), name)


@pytest.mark.parametrize(
    "arguments", [["-c", "import lady_onnx"], ["-m", "lady_onnx", "--version"]], ids=" ".join
)
def test_what_is_slow_is_loaded_when_it_is_needed(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)


def test_the_help_names_all_commands_without_loading_them() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "lady_onnx", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in ("groups", "permute", "attack", "resync", "check", "verify", "demo"):
        assert f"\n    {name} " in done.stdout
        assert f"lady_onnx.cli.{name}\n" not in done.stderr


def test_every_package_is_installed() -> None:
    """A package that `setup.cfg` does not list is missing from wheels; editable ones hide it."""
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {p.parent.relative_to(PACKAGE.parent) for p in PACKAGE.rglob("__init__.py")}
    assert listed == {".".join(f.parts) for f in folders} | {"lady_onnx.converters"}
