"""TODO."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import onnx.defs
from onnx import AttributeProto


def normalise_domain(domain: str) -> str:
    """A domain by its one name: the default domain has two."""
    return "" if domain == "ai.onnx" else domain


@functools.lru_cache(maxsize=1 << 14)
def find_schema(operator: str, domain: str, version: int) -> onnx.defs.OpSchema | None:
    """The specification of an operator at a version of its domain; None where none is known."""
    try:
        return onnx.defs.get_schema(operator, version, normalise_domain(domain))
    except onnx.defs.SchemaError:
        return None


@functools.lru_cache(maxsize=1 << 14)
def list_defaults(operator: str, domain: str, version: int) -> Mapping[str, AttributeProto]:
    """The attributes that an operator has where a node leaves them out."""
    schema = find_schema(operator, domain, version)
    given = schema.attributes.values() if schema else ()
    return {a.name: a.default_value for a in given if a.default_value.name}
