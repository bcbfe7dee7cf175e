"""The main job, in four stages: Pairing -> Alignment -> Diagnosis -> Resync.

Each stage is a function that takes what the one before found, and says what it found itself.
"""

from __future__ import annotations

import time

import numpy as np

from ..editing.permuting import Model
from ..graph.loading import load_graph
from ..matching.alignment import Progress
from .alignment import align_units
from .diagnosing import Diagnosis, diagnose
from .options import Options
from .pairing import Pairing, pair_networks
from .result import Resync
from .verification import verify_result


# a suspect's weights may be as large as they like
@np.errstate(over="ignore", invalid="ignore")
def resync(
    reference: Model,
    suspect: Model,
    *,
    verify: str = "auto",
    provider: str = "auto",
    samples: int = 4,
    seed: int = 0,
    repair: bool = False,
    strip: bool = False,
    evidence: str = "all",
    assignment: str = "optimal",
    progress: Progress | None = None,
) -> Resync:
    """Find where every unit of the reference lies in the suspect, and puts it back.

    Args:
        reference, suspect: paths or models of one architecture.
        verify: `run` compares the outputs with onnxruntime. `proof` relies on the analysis alone.
            `auto` runs where onnxruntime can. `none` leaves `outputs_preserved` open.
        provider: `auto`, `cpu` or `cuda`.
        samples: how many random inputs to run.
        seed: the seed of these inputs.
        repair: gives what was tampered with the reference's values.
        strip: takes out units that the reference does not have, if the function needs none of them.
        evidence: `all` slots of a unit, or `incoming` weights alone, as in the paper: no noise is
            estimated, no alteration explained, no factor undone.
        assignment: `optimal`, or `argmax`, for every unit the likeliest. With `incoming` evidence
            that is the paper's Algorithm 1.
        progress: called with how many of how many groups are matched.

    Returns:
        The suspect with its units back, and what was found on the way.

    Raises:
        LadyError: a model cannot be read or holds NaN, or an option is not known.
        ArchitectureError: the two are not the same network.
    """
    options = Options(verify, provider, samples, seed, repair, strip, evidence, assignment)
    options.check()
    start = time.perf_counter()
    ours, theirs = load_graph(reference), load_graph(suspect)
    ours.check_numbers()
    theirs.check_numbers()
    pairing = pair_networks(ours, theirs, options)
    alignment = align_units(pairing, options, progress)
    diagnosis = diagnose(pairing, alignment, options)
    return _conclude(pairing, diagnosis, options, start)


def _conclude(pairing: Pairing, diagnosis: Diagnosis, options: Options, start: float) -> Resync:
    """Verify the result, and puts all that was found together."""
    preservation = verify_result(pairing.given, diagnosis.aligned, options)
    return Resync(
        graph=diagnosis.result,
        symmetry=diagnosis.symmetry,
        matches=diagnosis.matches,
        psi_estimate=float(100 * diagnosis.certainty.mean()),
        similarity=float(diagnosis.similarity.mean()),
        max_weight_difference=max(diagnosis.differences.values(), default=0.0),
        exact=not diagnosis.differences,
        restored=diagnosis.restored,
        outputs_preserved=preservation.is_preserved,
        verified_by=preservation.verified_by,
        verification=preservation.verification,
        alterations=diagnosis.alterations,
        integrity=diagnosis.findings,
        interchangeable=diagnosis.interchangeable,
        repaired=diagnosis.repaired,
        stripped=diagnosis.stripped,
        alike=diagnosis.alike,
        apart=diagnosis.apart,
        bits=diagnosis.bits,
        seconds=time.perf_counter() - start,
    )
