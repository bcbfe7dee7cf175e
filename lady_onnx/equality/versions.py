"""What an operator means: the versions of its specification that say the same.

A file says which version of the operator set it is written in. Most new versions of an operator add
element types and change nothing else. Two versions mean the same where the specification's text,
operands and attributes are the same, or where `EQUIVALENT_VERSIONS` says so.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import onnx.defs

from ..vocabulary.classes import EQUIVALENT_VERSIONS
from ..vocabulary.schemas import find_schema
from ..vocabulary.structure import normalise_domain


def find_oldest_meaning(operator: str, domain: str, version: int) -> int:
    """Find the oldest version of the domain in which an operator means the same.

    It is `version` itself for an operator without a known specification.

    >>> find_oldest_meaning("Relu", "", 21), find_oldest_meaning("Softmax", "", 12)
    (6, 11)
    """
    schema = find_schema(operator, domain, version)
    if schema is None:
        return version
    return _find_oldest_by_version(operator, normalise_domain(domain))[schema.since_version]


@functools.cache
def _find_oldest_by_version(operator: str, domain: str) -> Mapping[int, int]:
    """Find for every version that brought a new text the oldest one that means the same."""
    history = _list_schemas(operator, domain)
    equivalent = set(EQUIVALENT_VERSIONS.get(operator, ()) if domain == "" else ())
    oldest: dict[int, int] = {}
    for before, schema in zip((None, *history), history, strict=False):
        version = schema.since_version
        oldest[version] = version
        # a version that deprecates the operator means nothing, and so not the same
        if before is None or schema.deprecated:
            continue
        is_same_text = _summarise_schema(before) == _summarise_schema(schema)
        if {before.since_version, version} <= equivalent or is_same_text:
            oldest[version] = oldest[before.since_version]
    return oldest


@functools.cache
def _list_schemas(operator: str, domain: str) -> tuple[onnx.defs.OpSchema, ...]:
    """List the specifications of an operator, the oldest first."""
    known = _list_all_schemas().get((operator, domain), ())
    return tuple(sorted(known, key=lambda s: s.since_version))


@functools.cache
def _list_all_schemas() -> Mapping[tuple[str, str], list[onnx.defs.OpSchema]]:
    """List all specifications by operator and domain."""
    found: dict[tuple[str, str], list[onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        found.setdefault((schema.name, schema.domain), []).append(schema)
    return found


def _summarise_schema(schema: onnx.defs.OpSchema) -> tuple[object, ...]:
    """Collect what a specification says of what the operator computes.

    Types are left out: a version that adds some computes the same of the others.
    """
    attributes = schema.attributes.values()
    return (
        # versions differ in where lines break
        " ".join((schema.doc or "").split()),
        [(i.name, str(i.option), i.is_homogeneous) for i in schema.inputs],
        [(o.name, str(o.option)) for o in schema.outputs],
        sorted(
            (a.name, str(a.type), a.required, a.default_value.SerializeToString())
            for a in attributes
        ),
    )
