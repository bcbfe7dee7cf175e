"""Policies: what passes, and files that say something else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lady_onnx.errors import LadyError
from lady_onnx.registry.policy import Policy, read_policy


def explain(policy: Policy, verdict: str, recognised: float) -> str | None:
    found: Any = SimpleNamespace(verdict=verdict, recognised=recognised)
    return policy.explain(cast(Any, found))


def test_a_policy_asks_for_the_verdict_and_for_the_share_of_units() -> None:
    policy = Policy(accept=["altered"], min_recognised=0.9)
    assert explain(policy, "altered", 0.95) is None
    assert "asks for 90 %" in (explain(policy, "altered", 0.85) or "")
    assert "does not accept" in (explain(policy, "tampered", 1.0) or "")
    # without one only what computes the same passes
    assert explain(Policy(), "permuted", 1.0) is None
    assert explain(Policy(), "altered", 1.0) is not None


@pytest.mark.parametrize(
    "text", ["accept = 1", 'accept = ["odd"]', "min_recognised = 2", "odd = 1", "accept = ["]
)
def test_files_that_say_something_else_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(LadyError, match=str(path)):
        read_policy(path)


def test_a_file_says_what_passes(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('accept = ["altered"]\nmin_recognised = 0.5\n')
    assert explain(read_policy(path), "altered", 0.6) is None
    assert explain(read_policy(path), "altered", 0.4) is not None
