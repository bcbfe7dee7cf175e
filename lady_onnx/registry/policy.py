"""What a registry lets pass: a few lines of TOML that people can review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LadyError, MissingFileError, suggest_name, to_one_line
from ..pipeline.verdicts import ACCEPTED, VERDICTS
from ..reporting import format_share

if TYPE_CHECKING:
    from ..pipeline.checking import Check


@dataclass(frozen=True)
class Policy:
    """What passes.

    Attributes:
        accept: the verdicts that pass; a file that is identical passes with `permuted`.
        min_recognised: the least share of the reference's units that must be in a suspect, 0 to 1.
    """

    accept: Sequence[str] = ACCEPTED
    min_recognised: float = 0.0

    def __post_init__(self) -> None:
        if not self.accept:
            raise LadyError("no verdict is accepted; name at least one")
        for name in self.accept:
            if name not in VERDICTS:
                known = f"{suggest_name(name, VERDICTS)}the verdicts are {', '.join(VERDICTS)}"
                raise LadyError(f"no verdict '{name}'; {known}")
        share = self.min_recognised
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise LadyError(f"min_recognised is a number from 0 to 1, not {share!r}")

    def accepts(self, verdict: str) -> bool:
        """Tell whether suspects with a verdict may pass."""
        return verdict in self.accept or verdict == "identical"

    def passes(self, found: Check) -> bool:
        """Tell whether a suspect passes."""
        return self.explain(found) is None

    def explain(self, found: Check) -> str | None:
        """Say why a suspect does not pass; None where it does."""
        if not self.accepts(found.verdict):
            return f"the policy does not accept '{found.verdict}'"
        if found.recognised < self.min_recognised:
            share = f"{format_share(found.recognised)} of the units are recognised"
            return f"{share}, and the policy asks for {100 * self.min_recognised:g} %"
        return None


def read_policy(path: Path) -> Policy:
    """Read a policy.

    Args:
        path: a file of TOML with `accept`, a list of verdicts, and `min_recognised`, a share; both
            may lack.

    Raises:
        MissingFileError: there is no such file.
        LadyError: it cannot be read, or says something else.
    """
    try:
        import tomllib  # most policies are given by options

        said: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file; give a policy in TOML") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LadyError(f"{path}: cannot be read as TOML ({to_one_line(error)})") from None
    known = ("accept", "min_recognised")
    odd = next((name for name in said if name not in known), None)
    if odd is not None:
        # a rule that nobody keeps would be worse than none
        what = f"{suggest_name(odd, known)}a policy has {' and '.join(known)}"
        raise LadyError(f"{path}: says '{odd}', which is unknown; {what}")
    accept = said.get("accept", list(ACCEPTED))
    if not isinstance(accept, list) or not all(isinstance(name, str) for name in accept):
        raise LadyError(f"{path}: accept is a list of verdicts, not {accept!r}")
    try:
        return Policy(tuple(accept), said.get("min_recognised", 0.0))
    except LadyError as error:
        raise LadyError(f"{path}: {error}") from None
