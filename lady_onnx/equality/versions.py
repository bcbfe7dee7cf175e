"""TODO."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import onnx.defs

from ..semantics.schemas import find_schema, normalise_domain

EQUIVALENT_VERSIONS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Add", "Div", "Mul", "Sub"), (7, 13, 14)),
    **dict.fromkeys(("Abs", "Ceil", "Floor"), (6, 13)),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), (7, 14, 22)),
    **dict.fromkeys(("ArgMax", "ArgMin"), (1, 11, 12, 13)),
    **dict.fromkeys(("Elu", "HardSigmoid", "InstanceNormalization", "Selu"), (6, 22)),
    "AveragePool": (7, 10, 11),
    "Cast": (6, 9, 13, 19, 21, 23, 24, 25),
    "Clip": (11, 12, 13),
    "Concat": (4, 11, 13),
    "ConvTranspose": (1, 11, 22),
    "DepthToSpace": (1, 11, 13),
    "DequantizeLinear": (10, 13, 19, 21, 23, 24, 25),
    "Equal": (7, 11, 13, 19),
    "Gather": (1, 11, 13),
    "GatherElements": (11, 13),
    "GatherND": (11, 12, 13),
    "Gemm": (7, 9, 11, 13),
    "LRN": (1, 13),
    "Loop": (11, 13, 16, 19, 21, 23, 24, 25),
    "MaxPool": (8, 10, 11, 12),
    "NegativeLogLikelihoodLoss": (12, 13, 22),
    "OneHot": (9, 11),
    "Pad": (11, 13, 18, 19, 21, 23, 24, 25),
    "QuantizeLinear": (10, 13, 19, 21, 23, 24),
    "Reshape": (5, 13, 14, 19, 21, 23, 24, 25),
    "Resize": (11, 13, 18, 19),
    "ScatterElements": (11, 13, 16, 18),
    "ScatterND": (11, 13, 16, 18),
    "Shape": (1, 13, 15, 19, 21, 23, 24, 25),
    "Slice": (10, 11, 13),
    "SoftmaxCrossEntropyLoss": (12, 13),
    "TopK": (10, 11, 24),
}
"""By operator of the default domain, versions whose texts differ and whose meaning does not.

The newer text names more element types, allows negative axes, is worded better, or adds an attribute whose default is
the old meaning. What an older version forbids cannot stand in a file that speaks it.
"""


@functools.cache
def _list_schemas(operator: str, domain: str) -> tuple[onnx.defs.OpSchema, ...]:
    every = onnx.defs.get_all_schemas_with_history()
    known = [s for s in every if s.name == operator and s.domain == domain]
    return tuple(sorted(known, key=lambda s: s.since_version))


def _summarise_schema(schema: onnx.defs.OpSchema) -> tuple[object, ...]:
    attributes = schema.attributes.values()
    return (
        " ".join((schema.doc or "").split()),
        [(i.name, str(i.option), i.is_homogeneous) for i in schema.inputs],
        [(o.name, str(o.option)) for o in schema.outputs],
        sorted(
            (a.name, str(a.type), a.required, a.default_value.SerializeToString())
            for a in attributes
        ),
    )


@functools.cache
def _find_oldest_by_version(operator: str, domain: str) -> Mapping[int, int]:
    """By the version in which a text appeared the oldest version that means the same."""
    history = _list_schemas(operator, domain)
    same = EQUIVALENT_VERSIONS.get(operator, ()) if domain == "" else ()
    oldest: dict[int, int] = {}
    for before, schema in zip((None, *history), history, strict=False):
        version = schema.since_version
        oldest[version] = version
        if before is not None and not schema.deprecated:
            kept = {before.since_version, version} <= set(same) or _summarise_schema(
                before
            ) == _summarise_schema(schema)
            if kept:
                oldest[version] = oldest[before.since_version]
    return oldest


def find_oldest_meaning(operator: str, domain: str, version: int) -> int:
    """The oldest version of the domain in which the operator means the same.

    It is `version` itself for an operator without a known specification.
    """
    schema = find_schema(operator, domain, version)
    if schema is None:
        return version
    return _find_oldest_by_version(operator, normalise_domain(domain))[schema.since_version]
