"""What a re-synchronisation says of its result: what was done, and whether it is the reference again."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from ..diagnosis.alterations import Alteration
from ..diagnosis.findings import Finding
from ..errors import LadyError
from ..graph.model import Graph
from ..groups.model import Symmetry
from ..matching.matches import Match
from ..numerics import SHORT_TYPE_EPSILON, is_float_array, machine_epsilon
from ..runtime.sessions import Verification, compare_models
from .permuting import write_permutation
from .verdicts import Verdict, judge_suspect, measure_recognised

NOTE = "resynced"
FACTOR = 2.0
"""How well the factors of a unit are known, in steps of the weight's type; of short types they are known to be right."""
FOLDED = 4.0
"""By how many steps of its type two tools may fold a norm into a weight differently."""
TINY = 2.0**-6
"""How much more than half a step may lie between a product and its rounding: it is computed in double precision."""


@dataclass(frozen=True)
class Resync:
    """A suspect with its units back in the reference's order.

    Attributes:
        graph: the suspect's model, re-synchronised.
        symmetry: the groups that hold in both models.
        matches: where the units of each group were found, in the order of `symmetry.groups`.
        psi_estimate: percent of units that are likely to be in their place: the mean certainty of the matches.
        similarity: the mean cosine of matched units, 1.0 for a purely permuted suspect.
        max_weight_difference: the largest difference between a weight of the reference and of the result.
        exact: whether every weight of the result is the reference's, bit for bit.
        restored: whether every weight of the result is the reference's, to rounding.
        outputs_preserved: whether the result, before any repair, computes what the suspect computed; None if not asked.
        verified_by: `run` (onnxruntime), `proof` (only elements of the symmetry were applied), or None.
        verification: what onnxruntime found, None unless it ran.
        alterations: by weight, in the reference's names, what was done to it, first things first.
        integrity: what was done to single units, in the reference's names.
        interchangeable: by group the sets of the reference's units that compute the same, up to a factor that their structure
            lets pass, or nothing: clones and dead ones, of which none is in a wrong place. Not asked for where all is exact.
        repaired: whether what was tampered with has the reference's values now.
        stripped: whether units that the reference has not and the function does not need were taken out: the result has the
            reference's nodes then.
        alike: whether both files say one program as they are written; where not, weights and groups go by the names of the
            reference in its normal form.
        apart: where the programs part; none where they are proven to be one, up to the values of the weights.
        bits: whether equal weights give equal bits, and not just equal real numbers.
        seconds: how long it took.
    """

    graph: Graph
    symmetry: Symmetry
    matches: tuple[Match, ...]
    psi_estimate: float
    similarity: float
    max_weight_difference: float
    exact: bool
    restored: bool
    outputs_preserved: bool | None
    verified_by: str | None
    verification: Verification | None
    alterations: Mapping[str, tuple[Alteration, ...]]
    integrity: tuple[Finding, ...]
    interchangeable: Mapping[str, tuple[tuple[int, ...], ...]]
    repaired: bool
    stripped: bool
    alike: bool
    apart: tuple[str, ...]
    bits: bool
    seconds: float

    @property
    def model(self) -> ModelProto:
        """The re-synchronised model."""
        return self.graph.to_model(NOTE)

    @functools.cached_property
    def judged(self) -> Verdict:
        """What the suspect is to the reference, and why."""
        return judge_suspect(self)

    @property
    def verdict(self) -> str:
        """What the suspect is to the reference: one of `VERDICTS`."""
        return self.judged.verdict

    @property
    def recognised(self) -> float:
        """The share of the units that are likely to be copies, beyond what chance gives."""
        return measure_recognised(self)

    @property
    def permutations(self) -> Mapping[str, np.ndarray]:
        """What was applied to the suspect: unit j of the result is unit `permutation[j]` of the suspect."""
        return {m.group: m.permutation for m in self.matches}

    @property
    def moved(self) -> int:
        """How many units stood elsewhere in the suspect."""
        return sum(m.moved for m in self.matches)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the re-synchronised model, whole or not at all."""
        self.graph.save(Path(path), NOTE)

    def save_permutation(self, path: str | os.PathLike[str]) -> None:
        """Writes the permutation that was applied to the suspect."""
        write_permutation(path, self.symmetry.groups, self.permutations, None)


def verify_result(
    suspect: Graph, result: Graph, verify: str, provider: str, samples: int, seed: int
) -> tuple[Verification | None, bool | None, str | None]:
    """Does the result compute what the suspect did? What onnxruntime found, the answer, and who gave it."""
    if verify in ("auto", "run"):
        try:
            found = compare_models(
                suspect, result, samples=samples, seed=seed, provider_name=provider
            )
            return found, found.equal, "run"
        except LadyError:
            if verify == "run":
                raise
    return None, None if verify == "none" else True, None if verify == "none" else "proof"


def have_equal_outputs(a: Graph, b: Graph, samples: int, seed: int) -> bool:
    """Do two models run, and compute the same?"""
    try:
        return compare_models(a, b, samples=samples, seed=seed, provider_name="cpu").equal
    except LadyError:
        return False


def is_rounding(
    reference: np.ndarray, result: np.ndarray, room: np.ndarray | None, other: np.ndarray | None
) -> bool:
    """Is the result no further from the reference than rounding on the way to the forms of both leaves every element?

    `room` is what the reference's form leaves, `other` the suspect's with its units in place; None where one is exact.
    """
    if not is_float_array(reference) or (room is None and other is None):
        return False
    limit = sum((np.asarray(r, np.float64) for r in (room, other) if r is not None), np.zeros(()))
    return bool((_gap(reference, result) <= limit).all())


def measure_writing_tolerance(reference: np.ndarray) -> np.ndarray | None:
    """By how much a weight may differ that one file holds as it was folded, and another as another tool folded it.

    A layer that a norm was folded into before it was written has the rounding of a product in every weight, and in its
    biases that of a difference of numbers of the usual size. Short types have no such room.
    """
    if (
        not is_float_array(reference)
        or machine_epsilon(reference.dtype) >= SHORT_TYPE_EPSILON
        or not reference.size
    ):
        return None
    size = np.abs(reference).astype(np.float64)
    if reference.ndim == 1:
        size = size + np.median(size)
    return np.where(np.isfinite(size), FOLDED * machine_epsilon(reference.dtype) * size, 0.0)


def is_product(
    expected: np.ndarray,
    placed: np.ndarray,
    beside: np.ndarray,
    room: np.ndarray | None,
    roundings: int = 1,
) -> bool:
    """Is a weight the product of the reference's and the factors, rounded as often as it was multiplied?

    Args:
        expected: the products, float64.
        placed: the suspect's weight, with its units in place.
        beside: the size of what was added to each element besides, zero where nothing was.
        room: what the forms of both leave, None where they are exact.
        roundings: how many groups have factors in the weight; where these are short, they round it one after the other.
    """
    if not is_float_array(placed):
        return False
    unit = machine_epsilon(placed.dtype)
    known = FACTOR if unit < SHORT_TYPE_EPSILON else 0.0
    with np.errstate(invalid="ignore"):
        half = 0.5 * np.spacing(np.abs(placed)).astype(np.float64)
        # what was rounded before may have had fewer digits left
        earlier = (roundings - 1) * np.maximum(0.5 * unit * np.abs(expected), half)
        limit = (1 + TINY) * (half + earlier) + known * unit * np.abs(expected) + 8 * unit * beside
        if unit < SHORT_TYPE_EPSILON:
            # of numbers that are all but zero the steps no longer shrink with their size
            limit = np.maximum(
                limit, (0.5 + known) * float(np.finfo(placed.dtype).smallest_subnormal)
            )
        if room is not None:
            limit = limit + room
    gap = _gap(expected, placed)
    return bool(((gap == 0) | (gap <= limit)).all())


def is_mixture(reference: np.ndarray, result: np.ndarray, grown: float) -> bool:
    """Is the result no further from the reference than rounding leaves a weight that was mixed, with all its parts?

    `grown` is by how much undoing the map may have enlarged that.
    """
    if not is_float_array(reference) or machine_epsilon(reference.dtype) >= SHORT_TYPE_EPSILON:
        return False
    most = max(float(np.abs(a.astype(np.float64)).max(initial=0)) for a in (reference, result))
    return bool(
        (_gap(reference, result) <= 8 * machine_epsilon(reference.dtype) * grown * most).all()
    )


def _gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far elements are from each other; equal infinities are not, and no number is from anything."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.asarray(np.where(x == y, 0.0, np.abs(x - y)))
    return np.nan_to_num(gap, nan=np.inf)


def measure_difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference between two weights of one shape; 1 where text or truth values differ."""
    if not a.size:
        return 0.0
    if a.dtype == object or a.dtype.kind in "SUb":
        return float((a != b).any())
    return float(np.nan_to_num(_gap(a, b)).max())
