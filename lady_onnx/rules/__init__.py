"""What every operator does: one declaration each, one operator family a file.

A declaration says what an operator does to the order of elements (`kinds`), to scale and sign
(`laws`), to shapes where ONNX's inference knows nothing, and, for a fused operator, which plain
operators it stands for (`plain`). All readers ask the registry; none holds a list of operators.

Rules of other packages are registered in the same way, see `register`.

Example:
    >>> from lady_onnx.rules import Elementwise, laws, register
    >>> @register("ScaledGelu", domain="my.domain")
    ... def scaled_gelu(node):
    ...     '''Every element alone.'''
    ...     return Elementwise()
"""

from __future__ import annotations

import importlib
import pkgutil

from . import laws
from .kinds import (
    Body,
    Describe,
    Elementwise,
    Equation,
    Expand,
    Kind,
    Movement,
    Node,
    Reshape,
    Source,
    Step,
    Steps,
    Take,
    Transpose,
    read_axis,
    require_rank,
    require_shape,
)
from .plain.writer import Writer, register_plain_form
from .plugins import load_entry_points, load_rules_file
from .registry import (
    REGISTRY,
    Rule,
    find_rule,
    normalise_domain,
    register,
    register_equation,
    register_pinned,
)
from .table import make_table

__all__ = [
    "REGISTRY",
    "Body",
    "Describe",
    "Elementwise",
    "Equation",
    "Expand",
    "Kind",
    "Movement",
    "Node",
    "Reshape",
    "Rule",
    "Source",
    "Step",
    "Steps",
    "Take",
    "Transpose",
    "Writer",
    "find_rule",
    "laws",
    "load_rules_file",
    "make_table",
    "normalise_domain",
    "read_axis",
    "register",
    "register_equation",
    "register_pinned",
    "register_plain_form",
    "require_rank",
    "require_shape",
]

FAMILIES = ("operators", "plain", "microsoft")
"""The packages of declarations that come with lady-onnx, one module an operator family."""

for _family in FAMILIES:
    _package = importlib.import_module(f"{__name__}.{_family}")
    for _module in pkgutil.iter_modules(_package.__path__):
        importlib.import_module(f"{_package.__name__}.{_module.name}")
load_entry_points()
