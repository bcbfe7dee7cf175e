"""What holds for the package as a whole: its public names, and which way imports point."""

from __future__ import annotations

import ast
from pathlib import Path

import lady_onnx as lady
from lady_onnx import rules

PACKAGE = Path(lady.__file__).parent

LAYERS = [
    {"cli", "__main__"},
    {"__init__"},
    {"demo"},
    {"check"},
    {"resync", "attacks"},
    {"sizes"},
    {"outcome", "verdicts", "biases"},
    {"maps"},
    {"undoing"},
    {"integrity", "interchangeable"},
    {"unscaling", "incoming", "skeleton", "counterparts", "unequal"},
    {"pairing"},
    {"matching", "nested", "permutation", "runtime", "picture", "explain", "linking", "scalewalk"},
    {"judging"},
    {"telling"},
    {"axes", "reach"},
    {"refinement", "alterations", "meanfield", "scaling", "gains"},
    {"evidence", "copies", "solutions", "reflections", "bends"},
    {"rewrite", "finder", "assignment"},
    {"fold", "blocks"},
    {"groups", "classes", "plainsteps"},
    {"analysis"},
    {"bodies"},
    {"sequences"},
    {"tensors", "inference", "equations", "ties", "lines", "touches", "factors"},
    {"rules", "labels"},
    {"graph"},
    {"errors", "wire", "plainforms"},
]
"""Outer to inner: a module imports from inner layers, or from its own."""


def test_the_table_of_operators_is_the_registry() -> None:
    """`python -m lady_onnx.rules > lady_onnx/rules/OPERATORS.md` writes it anew."""
    shown = (PACKAGE / "rules" / "OPERATORS.md").read_text()
    assert shown.endswith(rules.table() + "\n")
    assert "|  |" not in shown


def test_public_names() -> None:
    assert sorted(lady.__all__) == sorted(set(lady.__all__))
    for name in lady.__all__:
        assert getattr(lady, name).__doc__, name


def _imports(path: Path, level: int = 1) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == level:
            names = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
            found |= set(names)
    return found


def test_imports_point_one_way() -> None:
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    for path in PACKAGE.glob("*.py"):
        for other in _imports(path):
            assert level[other] >= level[path.stem], f"{path.name} imports {other}"
    assert {p.stem for p in PACKAGE.glob("*.py")} | {"rules", "pairing"} == set(level)
    for path in (PACKAGE / "pairing").glob("*.py"):
        for other in _imports(path, 2):
            assert level[other] > level["pairing"], f"pairing/{path.name} imports {other}"


def test_only_runtime_runs_models_and_matching_knows_no_onnx() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert ("import onnxruntime" in text) == (path.stem == "runtime"), path
    for stem in ("matching", "nested", "evidence", "copies"):
        assert "import onnx" not in (PACKAGE / f"{stem}.py").read_text()
