"""The check: what a suspect is to a reference, without a file of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..equality.comparison import are_written_alike, pair_graphs
from ..errors import ArchitectureError, check_threads, make_nan_error
from ..graph.loading import Model, load_pair
from ..graph.model import Graph
from ..matching.exact.comparison import compare_all
from ..reporting import MAX_SHOWN_ENTRIES, Progress, Report
from ..runtime.limits import Limits
from ..runtime.sessions import check_libraries
from ..threads import limit_threads
from .verdicts import BITS, EQUAL_WEIGHTS, VERDICTS, Verdict

if TYPE_CHECKING:
    from .result import Resync


@dataclass(frozen=True, repr=False)
class Check(Report, Verdict):
    """The verdict on a suspect.

    Attributes:
        verdict: one of `VERDICTS`.
        reason: one sentence that says why.
        equality: of an accepted suspect, `bits` where it computes the same bits up to the order of
            sums, and `rounding` where it computes the same real numbers; None of any other.
        resync: the re-synchronisation behind the verdict; None for models of different
            architectures, and for files that are equal as they are.
    """

    resync: Resync | None = None

    @property
    def recognised(self) -> float:
        """The share of units that are likely to be copies: 0 for models of other architectures."""
        return self.resync.recognised if self.resync else float(self.accepted)

    def headline(self) -> str:
        """Say the verdict and why in one line."""
        return f"{self.verdict}: {self.reason}"

    def details(self, limit: int | None = MAX_SHOWN_ENTRIES) -> list[str]:
        """List the groups that were matched worst, and what was done to single units."""
        return self.resync.details(limit) if self.resync else []

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the JSON object."""
        found = self.resync
        is_equal = found is None and self.accepted
        missing: dict[str, Any] = {
            "equality": self.equality,
            "recognised": self.recognised,
            "states": [],
            "common": None,
            "psi_estimate": 100.0 if is_equal else None,
            "alterations": {},
        }
        if is_equal:
            missing["differences"] = []
        return {
            # The fields of the check itself stand last, and so go over those of its resync.
            **(found.to_verdict_fields() if found else missing),
            "verdict": self.verdict,
            "reason": self.reason,
            "moved": found.moved if found else 0 if is_equal else None,
            "max_weight_difference": (
                found.max_weight_difference if found else 0.0 if is_equal else None
            ),
            "integrity": found.integrity if found else [],
        }


def check(
    reference: Model,
    suspect: Model,
    *,
    custom_ops: Sequence[str] = (),
    states: Sequence[str] = (),
    threads: int | None = None,
    timeout: float | None = None,
    memory: float | None = None,
    progress: Progress | None = None,
) -> Check:
    """Judge what a suspect is to a reference.

    Args:
        reference: a path or a model.
        suspect: a path or a model.
        custom_ops: paths of libraries with kernels of operators that onnxruntime does not have.
        states: `OUTPUT=INPUT` each: outputs that are fed back as inputs, beside those that their
            names tell; `none` among them where names are not to be believed.
        threads: how many weights are worked on at a time; one a processor by default.
        timeout, memory: the seconds and GB that a run of both models may take, each None for any.
        progress: called with the number of groups that are matched, and that of all.

    Returns:
        The verdict, one of `VERDICTS`, with its reason and the re-synchronisation behind it. Models
        of different architectures are `unrelated`.

    Raises:
        LadyError: a model cannot be read or holds NaN.
    """
    check_threads(threads)
    with limit_threads(threads):
        return _check(reference, suspect, custom_ops, states, Limits(timeout, memory), progress)


def _check(
    reference: Model,
    suspect: Model,
    custom_ops: Sequence[str],
    states: Sequence[str],
    limits: Limits,
    progress: Progress | None,
) -> Check:
    """Do what `check` says, in the threads that it may use."""
    limits.check()
    check_libraries(custom_ops)
    ours, theirs = load_pair(reference, suspect, states)
    if _are_equal(ours, theirs):
        _check_unchanged(ours, theirs)
        return Check("identical", EQUAL_WEIGHTS, BITS)
    # it takes a second to load, and most checks of a registry are of files that are equal
    from .resynchronization import resync

    try:
        # A verdict rests on the programs and the weights, so that outputs need not be compared.
        found = resync(
            ours,
            theirs,
            verify="none",
            custom_ops=custom_ops,
            timeout=limits.timeout,
            memory=limits.memory,
            progress=progress,
        )
    except ArchitectureError as error:
        _check_unchanged(ours, theirs)
        return Check("unrelated", str(error))
    judged = found.judged
    return Check(judged.verdict, judged.reason, judged.equality, found)


def _check_unchanged(*files: Graph) -> None:
    """Check that no file changed while it was read."""
    for graph in files:
        graph.data.check_unchanged()


def _are_equal(reference: Graph, suspect: Graph) -> bool:
    """Tell whether two files hold one program as they are written, and the same weights.

    Args:
        reference, suspect: the files.

    Raises:
        LadyError: a weight holds NaN.
    """
    if are_written_alike(reference, suspect):
        same = list(reference.tensors)
        are_equal, odd = compare_all(same, lambda n: (reference.array(n), suspect.array(n), {}))
        if are_equal and odd is None:
            return True
    found = pair_graphs(reference, suspect)
    names = found.one_to_one
    if found.differences or found.doubted or names is None:
        return False
    are_equal, odd = compare_all(
        list(names), lambda name: (reference.array(name), suspect.array(names[name]), {})
    )
    if odd is not None:
        raise make_nan_error(reference.name, odd)
    return are_equal


__all__ = ["VERDICTS", "Check", "check"]
