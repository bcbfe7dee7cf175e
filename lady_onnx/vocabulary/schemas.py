"""Specifications of operators, as onnx has them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import onnx.defs
from onnx import AttributeProto

from .structure import normalise_domain


@functools.lru_cache(maxsize=1 << 14)
def find_schema(operator: str, domain: str, version: int) -> onnx.defs.OpSchema | None:
    """Find the specification of an operator at a version of its domain; None if there is none."""
    try:
        return onnx.defs.get_schema(operator, version, normalise_domain(domain))
    except onnx.defs.SchemaError:
        return None


@functools.lru_cache(maxsize=1 << 14)
def list_defaults(operator: str, domain: str, version: int) -> Mapping[str, AttributeProto]:
    """List the attributes that an operator has where a node leaves them out."""
    schema = find_schema(operator, domain, version)
    given = schema.attributes.values() if schema else ()
    return {a.name: a.default_value for a in given if a.default_value.name}
