"""The main job, in four stages: Pairing -> Alignment -> Diagnosis -> Resync.

Each stage is one function. It takes what the stages before it found, and returns what it finds as a
frozen dataclass.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import LadyError, check_threads
from ..graph.loading import Model, load_pair
from ..graph.model import Graph, WeightMapping
from ..groups.model import Slot
from ..numerics import is_float_array
from ..reporting import Progress
from ..runtime.limits import Limits
from ..threads import limit_products, limit_threads
from .exact_copies import diagnose_exact_copy
from .options import Options
from .pairing import Pairing, pair_networks
from .result import Diagnosis, Resync
from .verification import verify_result

MIN_FOUND_CERTAINTY = 0.5
"""A unit is found if it is more likely in its place than elsewhere."""


# The weights of a suspect may be so large that computing with them overflows.
@np.errstate(over="ignore", invalid="ignore")
def resync(  # noqa: PLR0913 - people call it, each argument by its name
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
    custom_ops: Sequence[str] = (),
    states: Sequence[str] = (),
    threads: int | None = None,
    timeout: float | None = None,
    memory: float | None = None,
    progress: Progress | None = None,
) -> Resync:
    """Find where every unit of the reference lies in the suspect, and put it back.

    Args:
        reference: a path or a model.
        suspect: a path or a model of the same architecture, or one that shares a part with it.
        verify: `run` compares the outputs with onnxruntime, `proof` relies on the analysis, `auto`
            runs what onnxruntime can, up to 2 GB, `none` leaves `outputs_preserved` open.
        provider: `auto`, `cpu` or `cuda`.
        samples: the number of random inputs that are run.
        seed: the seed of these inputs.
        repair: whether what was tampered with gets the reference's values.
        strip: whether units that only the suspect has, and does not need, are taken out.
        evidence: `all` slots of a unit, or `incoming` weights alone, as in the paper: no noise is
            estimated, no alteration explained, no factor undone.
        assignment: `optimal`, or `argmax`, which takes the likeliest for every unit. With
            `incoming` evidence that is the paper's Algorithm 1.
        custom_ops: paths of libraries with kernels of operators that onnxruntime does not have.
        states: `OUTPUT=INPUT` each: outputs that are fed back as inputs, beside those that their
            names tell; `none` among them where names are not to be believed.
        threads: how many weights are worked on at a time; one a processor by default.
        timeout, memory: the seconds and GB that a run of both models may take, each None for any.
        progress: called with the number of groups that are matched, and that of all.

    Returns:
        The suspect with its units back, and what was found on the way.

    Raises:
        LadyError: a model cannot be read or holds NaN, or an option is not known.
        ArchitectureError: the two are not the same network, and share no part that means something.
    """
    asked = verify, provider, samples, seed, repair, strip, evidence, assignment
    options = Options(*asked, tuple(custom_ops), Limits(timeout, memory))
    options.check()
    check_threads(threads)
    with limit_threads(threads), limit_products():
        return _run_stages(reference, suspect, states, options, progress)


def _run_stages(
    reference: Model,
    suspect: Model,
    states: Sequence[str],
    options: Options,
    progress: Progress | None,
) -> Resync:
    """Do what `resync` says, one stage after the other."""
    start = time.perf_counter()
    ours, theirs = load_pair(reference, suspect, states)
    pairing = pair_networks(ours, theirs, options)
    diagnosis = diagnose_exact_copy(pairing, options)
    if diagnosis is None:
        _check_weights(pairing, ours, theirs)
        diagnosis = _align_and_diagnose(pairing, options, progress)
    return _conclude(pairing, diagnosis, options, start, (ours, theirs))


def _check_weights(pairing: Pairing, reference: Graph, suspect: Graph) -> None:
    """Check that all weights by which units are matched are numbers: likelihoods are of these.

    Raises:
        LadyError: one holds NaN, or text.
    """
    reference.check_numbers()
    suspect.check_numbers()
    touched = {s.initializer for g in pairing.symmetry.groups for s in g.slots}
    for name in touched & set(pairing.names):
        if pairing.reference.array(name).dtype.hasobject:
            what = "holds text, by which units are matched in exact copies alone"
            raise LadyError(f"{pairing.given.name}: weight '{name}' {what}; compare it by hand")


def _align_and_diagnose(pairing: Pairing, options: Options, progress: Progress | None) -> Diagnosis:
    """Find where units lie, and what was done, in both models or in the part they share."""
    # what these load takes as long as all the rest, and exact copies need none of it
    from .alignment import align_units
    from .common_diagnosis import align_common_part, diagnose_common_part
    from .diagnosing import diagnose

    if pairing.common is not None:
        alignment = align_common_part(pairing, progress)
        return diagnose_common_part(pairing, pairing.common, alignment)
    return diagnose(pairing, align_units(pairing, options, progress), options)


def _conclude(
    pairing: Pairing,
    diagnosis: Diagnosis,
    options: Options,
    start: float,
    files: tuple[Graph, Graph],
) -> Resync:
    """Verify the result, and put all that was found together.

    Raises:
        LadyError: a file changed while it was read.
    """
    preservation = verify_result(pairing.given, diagnosis.aligned, options)
    for graph in files:
        graph.data.check_unchanged()
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
        verification_note=preservation.note,
        alterations=diagnosis.alterations,
        integrity=diagnosis.findings,
        interchangeable=diagnosis.interchangeable,
        repaired=diagnosis.repaired,
        stripped=diagnosis.stripped,
        alike=diagnosis.alike,
        apart=diagnosis.apart,
        bits=diagnosis.bits,
        common=diagnosis.common,
        weights=_lay_out_weights(pairing, diagnosis),
        form=None if pairing.link.forms is None else pairing.link.forms[0],
        seconds=time.perf_counter() - start,
    )


def _lay_out_weights(pairing: Pairing, diagnosis: Diagnosis) -> Mapping[str, np.ndarray]:
    """Return the suspect's weights, units in place, as the reference's own file has them."""
    weights = diagnosis.weights
    if pairing.common is None:
        weights = _blank_lost_units(pairing, diagnosis)
    if pairing.link.forms is None:
        return weights
    from ..pairing.layouts import lay_out_weights

    return lay_out_weights(pairing.link.forms[0], weights)


def _blank_lost_units(pairing: Pairing, diagnosis: Diagnosis) -> Mapping[str, np.ndarray]:
    """Return the suspect's weights with NaN for the units that were not found.

    What stands in their places is the likest of many to the reference, and so like what only the
    reference should have, such as its mark.
    """
    groups = {g.id: g for g in pairing.symmetry.groups}
    lost: dict[str, list[tuple[Slot, np.ndarray]]] = {}
    for name, certainty in diagnosis.certainties.items():
        units = np.flatnonzero(certainty < MIN_FOUND_CERTAINTY)
        for slot in groups[name].slots if units.size else ():
            lost.setdefault(slot.initializer, []).append((slot, units))

    def read(name: str) -> np.ndarray:
        array = diagnosis.weights[name]
        if name not in lost or not is_float_array(array):
            return array
        array = np.array(array)
        for slot, units in lost[name]:
            array[np.ix_(*slot.places_of(array.shape, units))] = np.nan
        return array

    return WeightMapping(list(diagnosis.weights), read)
