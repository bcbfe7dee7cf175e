"""What a re-synchronisation says of its result: what was done, and whether it is the reference again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from .alterations import Alteration, floating, step
from .errors import LadyError
from .evidence import Match, finite
from .graph import Graph
from .groups import Symmetry
from .integrity import Finding
from .permutation import write_permutation
from .runtime import Verification, compare

NOTE = "resynced"
SHORT = 1e-5
"""Types whose numbers are further apart than this are short."""
ENDLESS = 1e37
"""In single precision and more, numbers beyond this stand for infinities."""


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
        alike: whether both files are written node by node alike; where not, weights and groups go by the names of the
            reference in the form that onnxruntime's optimiser gives it.
        apart: of files that are written differently, operators without weights that one has more often than the other.
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
    seconds: float

    @property
    def model(self) -> ModelProto:
        """The re-synchronised model."""
        return self.graph.to_model(NOTE)

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


def preserved(
    suspect: Graph, result: Graph, verify: str, provider: str, samples: int, seed: int
) -> tuple[Verification | None, bool | None, str | None]:
    """Does the result compute what the suspect did? What onnxruntime found, the answer, and who gave it."""
    if verify in ("auto", "run"):
        try:
            found = compare(suspect, result, samples=samples, seed=seed, provider_name=provider)
            return found, found.equal, "run"
        except LadyError:
            if verify == "run":
                raise
    return None, None if verify == "none" else True, None if verify == "none" else "proof"


def alike(a: Graph, b: Graph, samples: int, seed: int) -> bool:
    """Do two models run, and compute the same?"""
    try:
        return compare(a, b, samples=samples, seed=seed, provider_name="cpu").equal
    except LadyError:
        return False


def rounded(reference: np.ndarray, result: np.ndarray, suspect: np.ndarray, grown: float = 1.0) -> bool:
    """Is the result no further from the reference than rounding leaves a weight, or one like the suspect's?

    `suspect` is what the result was made of, element by element. `grown` is by how much undoing a map may have enlarged its
    rounding; of short types nothing more is allowed for.
    """
    if not floating(reference):
        return not difference(reference, result)
    told = ~_endless(reference, result)
    x, y, z = (finite(a[told]).astype(np.float64) for a in (reference, result, suspect))
    most = max(float(np.abs(a).max(initial=0)) for a in (x, y))
    unit = step(reference.dtype)
    if unit < SHORT:
        # what was mixed has the rounding of all its parts
        own = np.abs(z) if grown == 1 else grown * max(most, float(np.abs(z).max(initial=0)))
        return bool((np.abs(x - y) <= 8 * unit * np.maximum(most, own)).all())
    # a step of a short type is no small change: each element by itself
    return bool((np.abs(x - y) <= unit * (4 * np.maximum(np.abs(x), np.abs(y)) + most / 16)).all())


def _endless(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where both are beyond all measure on one side: infinities, and the numbers that masks have for them."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    limit = ENDLESS if floating(a) and step(a.dtype) < SHORT else np.inf
    return (np.minimum(np.abs(x), np.abs(y)) >= limit) & (np.sign(x) == np.sign(y))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference between two weights of one shape; 1 where text or truth values differ."""
    if not a.size:
        return 0.0
    if a.dtype == object or a.dtype.kind in "SUb":
        return float((a != b).any())
    with np.errstate(invalid="ignore"):
        gap = np.asarray(np.abs(a.astype(np.float64) - b.astype(np.float64)))
        gap[_endless(a, b)] = 0.0
    return float(np.nan_to_num(gap, nan=0.0).max())
