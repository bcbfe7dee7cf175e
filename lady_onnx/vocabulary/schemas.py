"""Specifications of operators, as onnx has them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import onnx.defs
from onnx import AttributeProto
from onnx.defs import OpSchema

from .structure import MICROSOFT, normalise_domain


@functools.lru_cache(maxsize=1 << 14)
def find_schema(operator: str, domain: str, version: int) -> OpSchema | None:
    """Find the specification of an operator at a version of its domain; None if there is none."""
    try:
        return onnx.defs.get_schema(operator, version, normalise_domain(domain))
    except onnx.defs.SchemaError:
        return None


@functools.cache
def list_newest_versions() -> Mapping[str, int]:
    """List by domain the newest version whose operators are known."""
    # onnxruntime never changed that of its own domain
    own, learned = onnx.defs.onnx_opset_version(), onnx.defs.onnx_ml_opset_version()
    return {"": own, "ai.onnx.ml": learned, MICROSOFT: 1}


@functools.lru_cache(maxsize=1 << 14)
def list_defaults(operator: str, domain: str, version: int) -> Mapping[str, AttributeProto]:
    """List the attributes that an operator has where a node leaves them out."""
    schema = find_schema(operator, domain, version)
    given = schema.attributes.values() if schema else ()
    return {a.name: a.default_value for a in given if a.default_value.name}


@dataclass(frozen=True)
class Signature:
    """What a node of an operator may have.

    Attributes:
        attributes: the names of its attributes.
        operand_counts, result_counts: the smallest and the largest number of each.
        are_optional: by operand whether it may be left out; the last one may stand for many.
    """

    attributes: frozenset[str]
    operand_counts: tuple[int, int]
    result_counts: tuple[int, int]
    are_optional: tuple[bool, ...]


@functools.lru_cache(maxsize=1 << 14)
def find_signature(operator: str, domain: str, version: int) -> Signature | None:
    """Find what a node of an operator may have; None where the operator has no specification."""
    schema = find_schema(operator, domain, version)
    if schema is None or schema.deprecated:
        return None
    return Signature(
        frozenset(schema.attributes),
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        tuple(i.option == OpSchema.FormalParameterOption.Optional for i in schema.inputs),
    )
