"""Whether a result computes what the suspect did, by a run or by proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dataflow.engine import SYMBOLIC_SIZES
from ..dataflow.state_loop import solve_state_lengths
from ..errors import LadyError
from ..graph.external import count_bytes
from ..graph.model import Graph
from ..runtime.limits import run_limited
from .options import Options

if TYPE_CHECKING:
    from ..runtime.comparing.comparison import SessionPair
    from ..runtime.comparing.verification import Verification

MAX_RUN_BYTES = 2_000_000_000
"""With `auto`, models with more weights are not run: that takes longer than all the rest."""


@dataclass(frozen=True)
class Preservation:
    """Whether the outputs are preserved, and how that is known.

    Attributes:
        is_preserved: the answer, None where nobody asked.
        verified_by: `run` (onnxruntime), `proof` (the analysis allows nothing else), or None.
        verification: the comparison of outputs, None unless onnxruntime ran.
        note: why a proof stands in for a run, None where it does not.
    """

    is_preserved: bool | None
    verified_by: str | None
    verification: Verification | None = None
    note: str | None = None


def open_pair(
    a: Graph, b: Graph, provider: str = "auto", custom_ops: Sequence[str] = ()
) -> SessionPair:
    """Open sessions of two models that take the same inputs; see `SessionPair`."""
    from ..runtime.comparing.comparison import SessionPair

    return SessionPair(a, b, provider, custom_ops, solve_state_lengths(a, SYMBOLIC_SIZES))


def verify_result(suspect: Graph, result: Graph, options: Options) -> Preservation:
    """Say whether a result computes what the suspect did, and how that is known.

    Args:
        suspect: the suspect as it was read.
        result: the suspect with its units in place, and nothing repaired.
        options: how it is shown, and on which inputs.

    Raises:
        LadyError: the models were asked to run, and cannot.
    """
    note = None
    size = sum(map(count_bytes, suspect.tensors.values()))
    if options.verify == "auto" and size > MAX_RUN_BYTES:
        note = f"its weights take over {MAX_RUN_BYTES / 1e9:.0f} GB, so it was not run"
    elif options.verify in ("auto", "run"):
        try:
            found = _run_both(suspect, result, options.provider, options)
            return Preservation(found.equal, "run", found)
        except LadyError as error:
            # With `auto` a model that onnxruntime does not run is left to the proof.
            if options.verify == "run":
                raise
            note = str(error)
    if options.verify == "none":
        return Preservation(None, None)
    # The result differs from the suspect by what cancels alone: permutations, factors, maps.
    return Preservation(True, "proof", note=note)


def _run_both(a: Graph, b: Graph, provider: str, options: Options) -> Verification:
    """Run two models within the limits that the caller gave, and compare their outputs."""
    # many results are not run, and need none of it
    from ..runtime.comparing.comparison import compare_models

    def work() -> Verification:
        pair = open_pair(a, b, provider, options.custom_ops)
        return compare_models(pair, samples=options.samples, seed=options.seed)

    return run_limited(work, options.limits, a.name)


def have_equal_outputs(a: Graph, b: Graph, options: Options) -> bool:
    """Tell whether two models run on the CPU, and compute the same on random inputs."""
    try:
        return _run_both(a, b, "cpu", options).equal
    except LadyError:
        return False
