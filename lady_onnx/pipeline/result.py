"""The result of the main job: what was done, and whether the suspect is the reference again."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto

from ..diagnosis.findings import Finding
from ..editing.permutation_files import write_permutation
from ..graph.model import Graph
from ..groups.model import StateOrder, Symmetry
from ..matching.matches import Match
from ..reporting import MAX_SHOWN_ENTRIES, Report
from .verdicts import Verdict, judge_suspect, measure_recognised
from .wording import (
    describe_findings,
    describe_interchangeable,
    describe_matches,
    describe_states,
    list_match_fields,
)

if TYPE_CHECKING:
    from ..diagnosis.alterations import Alteration
    from ..matching.shared.copies import Common
    from ..normalform.form import Form
    from ..runtime.comparing.verification import Verification

RESYNCED_NOTE = "resynced"
"""What the metadata of a re-synchronised model say was done to it."""


@dataclass(frozen=True)
class Diagnosis:
    """The changes of a suspect besides the order of its units, and the repaired result.

    Attributes:
        findings: what was done to single units and weights, and to whole groups.
        aligned: the suspect with its units in place, and nothing repaired.
        result: the same, repaired and stripped as the caller asked.
        symmetry: the groups of the result.
        matches: where the units of these groups were found.
        certainty: of every unit that has a copy the probability that it was found, float64 [units].
        certainties: by group of the reference the same of each of its units, float64 [size].
        similarity: of every unit of the reference the cosine with its copy, float64 [units].
        differences: by weight that is not the reference's the largest difference.
        restored: whether every weight is the reference's, to rounding.
        alterations: by weight what was done to it.
        interchangeable: by group the sets of the reference's units that nothing tells apart.
        repaired: whether the result was repaired, so that it differs from `aligned`.
        stripped: whether inserted units were taken out of the result.
        apart: the places where the programs of both files differ.
        alike: whether both files hold one program as they are written.
        bits: whether equal weights give equal bits.
        weights: the suspect's weights as in `aligned`, by the names of the reference and in its
            shapes, in the form that both models share.
        common: the part that both share, where they share a part alone.
    """

    findings: tuple[Finding, ...]
    aligned: Graph
    result: Graph
    weights: Mapping[str, np.ndarray]
    symmetry: Symmetry
    matches: tuple[Match, ...]
    certainty: np.ndarray
    similarity: np.ndarray
    differences: Mapping[str, float]
    restored: bool
    alterations: Mapping[str, tuple[Alteration, ...]]
    interchangeable: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    repaired: bool = False
    stripped: bool = False
    apart: tuple[str, ...] = ()
    alike: bool = False
    bits: bool = False
    common: Common | None = None
    certainties: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Resync(Report):
    """A suspect with its units back in the reference's order.

    Attributes:
        graph: the suspect's model, re-synchronised.
        symmetry: the groups that hold in both models.
        matches: where the units of each group were found, in the order of `symmetry.groups`.
        psi_estimate: percent of the units that are likely to be in their place: the mean certainty
            of the matches.
        similarity: the mean cosine of matched units, 1.0 for a purely permuted suspect.
        max_weight_difference: the largest difference between a weight of the reference and that of
            the result.
        exact: whether every weight of the result is the reference's, bit for bit.
        restored: whether every weight of the result is the reference's, to rounding.
        outputs_preserved: whether the result, before any repair, computes what the suspect
            computed; None if nobody asked.
        verified_by: `run` (onnxruntime), `proof` (only elements of the symmetry were applied), or
            None.
        verification: what onnxruntime found, None unless it ran.
        verification_note: why a proof stands in for a run, None where it does not.
        alterations: by weight, in the reference's names, what was done to it, in order.
        integrity: what was done to single units, in the reference's names.
        interchangeable: by group the sets of the reference's units that compute the same, up to a
            factor that their structure allows, or that compute nothing: clones and dead units. None
            of them is in a wrong place. Empty where all is exact, because nobody asks then.
        repaired: whether what was tampered with has the reference's values now.
        stripped: whether units that the reference lacks and the function does not need were taken
            out. Then the result has the reference's nodes.
        alike: whether both files hold one program as they are written. If not, weights and groups
            have the names of the reference in its normal form.
        apart: the places where the programs differ; empty where they are proven to be one, up to
            the values of the weights.
        bits: whether equal weights give equal bits, and not just equal real numbers.
        common: the part that both models share, where it is a part alone, else None. Then groups
            are those of the suspect, under its own names, and the weights that are said to be the
            reference's, or not, are those of the part.
        weights: the suspect's weights with their units in place and unrepaired, by the names and in
            the shapes of the reference's own file. Elements are NaN that stand in no weight of the
            suspect alone, and those of units that were not found.
        form: the reference in normal form, where groups have the names of that; None where they
            have those of its file.
        seconds: the time that it took.
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
    verification_note: str | None
    alterations: Mapping[str, tuple[Alteration, ...]]
    integrity: tuple[Finding, ...]
    interchangeable: Mapping[str, tuple[tuple[int, ...], ...]]
    repaired: bool
    stripped: bool
    alike: bool
    apart: tuple[str, ...]
    bits: bool
    common: Common | None
    weights: Mapping[str, np.ndarray]
    form: Form | None
    seconds: float

    @property
    def model(self) -> ModelProto:
        """The re-synchronised model."""
        return self.graph.to_model(RESYNCED_NOTE)

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
        """The share of the units that are likely to be copies, beyond what chance gives, 0 to 1.

        Where a part alone is shared, it is the share of all of the reference's units.
        """
        return measure_recognised(self) if self.common is None else self.common.units

    @property
    def permutations(self) -> Mapping[str, np.ndarray]:
        """What was applied to the suspect, by group, int64 [size].

        Unit j of the result is unit `permutation[j]` of the suspect.
        """
        return {m.group: m.permutation for m in self.matches}

    @property
    def moved(self) -> int:
        """The number of units that stood elsewhere in the suspect."""
        return sum(m.moved for m in self.matches)

    @property
    def moved_states(self) -> tuple[StateOrder, ...]:
        """The outputs that are fed back as inputs, and had another order in the suspect."""
        return self.symmetry.list_moved_states(self.permutations)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the re-synchronised model, whole or not at all."""
        self.graph.save(Path(path), RESYNCED_NOTE)

    def save_permutation(self, path: str | os.PathLike[str]) -> None:
        """Write the permutation that was applied to the suspect."""
        write_permutation(path, self.symmetry.groups, self.permutations, None)

    def headline(self) -> str:
        """Say the verdict and why in one line."""
        return f"{self.verdict}: {self.judged.reason}"

    def details(self, limit: int | None = MAX_SHOWN_ENTRIES) -> list[str]:
        """List the groups that were matched worst, and what was done besides moving units."""
        lines = describe_matches(self.matches, self.symmetry, limit)
        if self.alterations:
            # exact copies have none
            from ..diagnosis.alterations import describe_alterations

            lines.append(f"besides: {describe_alterations(self.alterations)}")
        lines += describe_findings(self.integrity, self.repaired, limit)
        lines += describe_states(self.moved_states)
        return lines + describe_interchangeable(self.interchangeable)

    def to_verdict_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object that a check shares."""
        return {
            "verdict": self.verdict,
            "reason": self.judged.reason,
            "equality": self.judged.equality,
            "recognised": self.recognised,
            "differences": self.apart,
            "states": [s.output for s in self.moved_states],
            "common": self.common,
            "psi_estimate": self.psi_estimate,
            "alterations": {
                name: [{"kind": a.kind, **a.parameters} for a in done]
                for name, done in self.alterations.items()
            },
        }

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        return {
            **self.to_verdict_fields(),
            "similarity": self.similarity,
            "groups": list_match_fields(self.matches, self.symmetry, self.integrity),
            "max_weight_difference": self.max_weight_difference,
            "outputs_preserved": self.outputs_preserved,
            "verified_by": self.verified_by,
            "verification": self.verification,
            "verification_note": self.verification_note,
            "integrity": self.integrity,
            "interchangeable": self.interchangeable,
            "repaired": self.repaired,
            "stripped": self.stripped,
            "seconds": self.seconds,
        }
