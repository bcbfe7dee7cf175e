"""Every operator that the installed onnxruntime knows has a rule, a plain form or a reason."""

from __future__ import annotations

from onnxruntime.capi import onnxruntime_pybind11_state as capi

from lady_onnx import rules
from lady_onnx.rules.plain_forms import PLAIN_FORMS


def list_schemas() -> set[tuple[str, str]]:
    """The domains and names of all operators, ONNX's own and the additions of onnxruntime."""
    # The list of kernels is not asked: it leaves out those of providers that are not built in.
    schemas = {(s.domain, s.name) for s in capi.get_all_operator_schema()}
    return {(rules.normalise_domain(domain), name) for domain, name in schemas}


def test_every_operator_is_declared() -> None:
    declared = rules.REGISTRY.keys() | PLAIN_FORMS.keys()
    schemas = list_schemas()
    assert ("", "SimplifiedLayerNormalization") in schemas
    assert ("com.microsoft", "GroupQueryAttention") in schemas
    assert not sorted(schemas - declared)


def test_a_reason_is_a_sentence_and_no_excuse() -> None:
    """A reader who meets a pin learns what stands in the way, not that something is missing."""
    for (_, operator), rule in rules.REGISTRY.items():
        said = rule.order.__doc__ or ""
        if said.startswith("pinned: "):
            reason = said.removeprefix("pinned: ")
            words = {"todo", "unsupported", "unknown", "not implemented"}
            assert not [w for w in words if w in reason.lower()], operator
            assert len(reason) > 3, operator
