"""lady-onnx: find where every neuron of a shuffled ONNX model went, and put it back.

    import lady_onnx as lady

    symmetry = lady.find_groups("model.onnx")
    result = lady.resync("reference.onnx", "suspect.onnx")

Models are paths or `onnx.ModelProto`. The method is that of De Sousa Trias et al., "Find the Lady:
Permutation and Re-synchronization of Deep Neural Networks", AAAI 2024, and goes past it.

Importing this package loads nothing else: a public name loads its module when it is first used
(PEP 562). `_HOMES` says where each of them lives. The imports below are for type checkers and
editors; a test holds the two equal.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoints.architecture import Architecture as Architecture
    from .diagnosis.alterations import Alteration as Alteration
    from .diagnosis.divergence import divergence as divergence
    from .diagnosis.findings import Finding as Finding
    from .editing.attacks import Attacked as Attacked
    from .editing.attacks import attack as attack
    from .editing.permuting import Permuted as Permuted
    from .editing.permuting import find_groups as find_groups
    from .editing.permuting import permute as permute
    from .errors import ArchitectureError as ArchitectureError
    from .errors import LadyError as LadyError
    from .groups.model import Group as Group
    from .groups.model import Pin as Pin
    from .groups.model import Slot as Slot
    from .groups.model import Symmetry as Symmetry
    from .matching.matches import Match as Match
    from .matching.shared.copies import Common as Common
    from .pipeline.checking import Check as Check
    from .pipeline.checking import check as check
    from .pipeline.inspection import explain as explain
    from .pipeline.inspection import link as link
    from .pipeline.inspection import verify as verify
    from .pipeline.result import Resync as Resync
    from .pipeline.resynchronization import resync as resync
    from .registry.canonical import canonicalize as canonicalize
    from .registry.fingerprints import Fingerprint as Fingerprint
    from .registry.fingerprints import fingerprint as fingerprint
    from .runtime.comparing.verification import OutputDifference as OutputDifference
    from .runtime.comparing.verification import Run as Run
    from .runtime.comparing.verification import Verification as Verification
    from .symmetry.explanation import Explanation as Explanation
    from .symmetry.explanation import Tie as Tie
    from .watermark.embedding import Marked as Marked
    from .watermark.embedding import embed_gently as embed_gently
    from .watermark.embedding import embed_mark as embed_mark
    from .watermark.extraction import Extraction as Extraction
    from .watermark.extraction import extract_mark as extract_mark
    from .watermark.records import Commitment as Commitment
    from .watermark.records import Mark as Mark
    from .watermark.records import read_mark as read_mark
    from .watermark.secrets.keys import Key as Key
    from .watermark.secrets.keys import create_key as create_key
    from .watermark.secrets.keys import read_key as read_key
    from .watermark.secrets.keys import write_key as write_key
    from .watermark.stamping import Original as Original
    from .watermark.stamping import StampCapacity as StampCapacity
    from .watermark.stamping import Stamped as Stamped
    from .watermark.stamping import count_stamp_capacity as count_stamp_capacity
    from .watermark.stamping import open_original as open_original
    from .watermark.stamping import write_stamp as write_stamp
    from .watermark.tracing import StampReading as StampReading
    from .watermark.tracing import Trace as Trace
    from .watermark.tracing import read_stamp as read_stamp
    from .watermark.tracing import trace_copies as trace_copies

_HOMES = {
    "Alteration": "diagnosis.alterations",
    "Architecture": "checkpoints.architecture",
    "ArchitectureError": "errors",
    "Attacked": "editing.attacks",
    "Check": "pipeline.checking",
    "Commitment": "watermark.records",
    "Common": "matching.shared.copies",
    "Explanation": "symmetry.explanation",
    "Extraction": "watermark.extraction",
    "Finding": "diagnosis.findings",
    "Fingerprint": "registry.fingerprints",
    "Group": "groups.model",
    "Key": "watermark.secrets.keys",
    "LadyError": "errors",
    "Mark": "watermark.records",
    "Marked": "watermark.embedding",
    "Match": "matching.matches",
    "Original": "watermark.stamping",
    "OutputDifference": "runtime.comparing.verification",
    "Permuted": "editing.permuting",
    "Pin": "groups.model",
    "Resync": "pipeline.result",
    "Run": "runtime.comparing.verification",
    "Slot": "groups.model",
    "StampCapacity": "watermark.stamping",
    "StampReading": "watermark.tracing",
    "Stamped": "watermark.stamping",
    "Symmetry": "groups.model",
    "Tie": "symmetry.explanation",
    "Trace": "watermark.tracing",
    "Verification": "runtime.comparing.verification",
    "attack": "editing.attacks",
    "canonicalize": "registry.canonical",
    "check": "pipeline.checking",
    "count_stamp_capacity": "watermark.stamping",
    "create_key": "watermark.secrets.keys",
    "divergence": "diagnosis.divergence",
    "embed_gently": "watermark.embedding",
    "embed_mark": "watermark.embedding",
    "explain": "pipeline.inspection",
    "extract_mark": "watermark.extraction",
    "find_groups": "editing.permuting",
    "fingerprint": "registry.fingerprints",
    "link": "pipeline.inspection",
    "open_original": "watermark.stamping",
    "permute": "editing.permuting",
    "read_key": "watermark.secrets.keys",
    "read_mark": "watermark.records",
    "read_stamp": "watermark.tracing",
    "resync": "pipeline.resynchronization",
    "trace_copies": "watermark.tracing",
    "verify": "pipeline.inspection",
    "write_key": "watermark.secrets.keys",
    "write_stamp": "watermark.stamping",
}
"""By public name, the module that defines it."""

__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    # Once it stands in the module, this function is not asked again.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, also those that are not loaded yet."""
    return sorted({*globals(), *__all__})
