"""The table of all operators and what is declared of them, as text in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .plain_forms import PLAIN_FORMS
from .plugins import load_entry_points
from .registry import REGISTRY

PLAIN_FORM_PREFIX = "Walked as the plain operators that it stands for: "
"""The beginning of the entry of an operator with a plain form."""


def make_table() -> str:
    """Return a Markdown table of every operator, with the docstrings of its declarations."""
    load_entry_points()
    said = {key: _read_summary(rule.order) for key, rule in REGISTRY.items()}
    for key, form in PLAIN_FORMS.items():
        said[key] = PLAIN_FORM_PREFIX + _read_summary(form.write)
    lines = ["| operator | declaration |", "| --- | --- |"]
    for (domain, operator), what in sorted(said.items()):
        escaped = what.replace("|", chr(92) + "|")
        lines.append(f"| {domain + '.' if domain else ''}{operator} | {escaped} |")
    return "\n".join(lines)


def _read_summary(function: Callable[..., Any]) -> str:
    """Return the docstring of a function as one line without its last full stop."""
    return " ".join((function.__doc__ or "").split()).rstrip(".")
