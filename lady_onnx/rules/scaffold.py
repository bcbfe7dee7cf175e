"""Writes the beginning of a rule and of its test case from an operator's schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from ..errors import UnknownNameError, suggest_name

RULE = '''"""{summary}

Spec: {spec}
"""

from __future__ import annotations

from lady_onnx.rules import Equation, Kind, Node, register


@register("{operator}"{domain})
def describe_{function}(node: Node) -> Kind:
    """Say in one line what it does to the order of elements."""
    # operands: {operands}
    # attributes: {attributes}
    # results: {results}
    return Equation("{equation}")
'''
CASES = {
    "": """# For `cases()` in tests/helpers/operator_cases.py: operator, further operands,
# attributes, opset, kind of the map, sizes of the groups.
yield "{operator}", [{operands}], {{{given}}}, {version}, None, []
""",
    "com.microsoft": """# For `CASES` in tests/helpers/fused.py: operator, kind of the map, further
# operands, attributes, results, sizes of the groups.
("{operator}", MAP, [{operands}], {{{given}}}, 1, []),
""",
}
"""By domain the text of a test case; of others a package has its own tests."""


def find_schema(operator: str, domain: str) -> Any | None:
    """Return the newest schema of an operator, onnx's or onnxruntime's; None if there is none."""
    every = [s for s in list_schemas() if (s.name, s.domain) == (operator, domain)]
    return max(every, key=lambda s: s.since_version, default=None)


def list_schemas() -> list[Any]:
    """Return the schemas of all operators that onnx and the installed onnxruntime know."""
    found: list[Any] = list(onnx.defs.get_all_schemas_with_history())
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError:
        return found
    return found + list(state.get_all_operator_schema())


def write_scaffold(operator: str, domain: str = "") -> tuple[str, str, str]:
    """Return the name and the text of a module with a rule, and the text of its test case.

    Both run as they are and claim nothing: every axis keeps its order.

    Args:
        operator: the operator's name.
        domain: its domain, "" for the default one.

    Raises:
        UnknownNameError: no schema of that name is known.
    """
    schema = find_schema(operator, domain)
    if schema is None:
        names = {s.name for s in list_schemas() if s.domain == domain}
        where = f" of domain '{domain}'" if domain else ""
        raise UnknownNameError(
            f"no schema of operator '{operator}'{where}; {suggest_name(operator, names)}"
            "give its name as the specification has it"
        )
    operands = [i.name for i in schema.inputs]
    sides = ["[a..]", *([""] * (len(operands) - 1))]
    attributes = sorted(schema.attributes)
    rule = RULE.format(
        summary=f"What {operator} does to order.",
        spec=_find_spec(operator, domain),
        operator=operator,
        domain=f', domain="{domain}"' if domain else "",
        function=_to_snake_case(operator),
        operands=", ".join(operands),
        attributes=", ".join(attributes) or "none",
        results=", ".join(o.name for o in schema.outputs),
        equation=f"{', '.join(sides)} -> [a..]",
    )
    required = [a for a in attributes if schema.attributes[a].required]
    case = CASES.get(domain, "").format(
        operator=operator,
        operands=", ".join("w(C)" for _ in operands[1:]),
        given=", ".join(f'"{a}": ...' for a in required),
        version=schema.since_version,
    )
    return _to_snake_case(operator), rule, case


def _find_spec(operator: str, domain: str) -> str:
    """Return the address of an operator's specification."""
    if domain == "com.microsoft":
        return "https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md"
    return f"https://onnx.ai/onnx/operators/onnx__{operator}.html"


def _to_snake_case(name: str) -> str:
    """Write a name in lower case with underscores.

    >>> _to_snake_case("MatMulNBits")
    'mat_mul_n_bits'
    """
    parts: Sequence[str] = [f"_{c.lower()}" if c.isupper() else c for c in name]
    return "".join(parts).lstrip("_")
