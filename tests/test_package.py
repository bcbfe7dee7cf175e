"""What holds for the package as a whole: its public names, and the table of operators."""

from __future__ import annotations

from pathlib import Path

import lady_onnx as lady
from lady_onnx import rules

PACKAGE = Path(lady.__file__).parent


def test_the_table_of_operators_is_the_registry() -> None:
    """`python -m lady_onnx.rules > lady_onnx/rules/OPERATORS.md` writes it anew."""
    shown = (PACKAGE / "rules" / "OPERATORS.md").read_text()
    assert shown.endswith(rules.make_table() + "\n")
    assert "|  |" not in shown


def test_public_names() -> None:
    assert sorted(lady.__all__) == sorted(set(lady.__all__))
    for name in lady.__all__:
        assert getattr(lady, name).__doc__, name
