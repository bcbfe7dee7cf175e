"""The installed onnxruntime: loading it, and saying what is wrong where it does not load.

Several distributions (`onnxruntime`, `onnxruntime-gpu`, ...) install one and the same module. Where
two are installed, the files of the later one overwrite those of the earlier, and removing either
one removes files of the other. The module is imported when the first session is opened, so that
commands that run no model do not pay for it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from ..errors import ExecutionError, to_one_line

DISTRIBUTIONS = (
    "onnxruntime-gpu",
    "onnxruntime",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-training",
)
"""Distributions that install the module `onnxruntime`; the earlier one is recommended."""

logger = logging.getLogger(__name__)


def list_distributions() -> dict[str, str]:
    """Return the installed distributions of onnxruntime with their versions, the best one first."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def explain_conflict(installed: Mapping[str, str]) -> str | None:
    """Return one line about several distributions that share their files, or None if there is one.

    Args:
        installed: the versions of the installed distributions by name, the best one first.

    >>> explain_conflict({"onnxruntime-gpu": "1.23"}) is None
    True
    """
    if len(installed) < 2:
        return None
    names = " and ".join(f"{name} {version}" for name, version in installed.items())
    keep = next(iter(installed))
    return (
        f"{names} are installed side by side and overwrite each other's files; keep one: "
        f"pip uninstall -y {' '.join(installed)} && pip install {keep}"
    )


def explain_failure(installed: Mapping[str, str], reason: str) -> str:
    """Return one line about an onnxruntime that cannot be imported.

    Args:
        installed: the versions of the installed distributions by name, the best one first.
        reason: what Python said.
    """
    if not installed:
        return f"onnxruntime cannot be imported ({reason}); pip install {DISTRIBUTIONS[0]}"
    if (conflict := explain_conflict(installed)) is not None:
        return f"onnxruntime cannot be imported ({reason}): {conflict}"
    name = next(iter(installed))
    return (
        f"onnxruntime cannot be imported ({reason}): files of {name} are missing, as after the "
        "removal of another onnxruntime package that shares them; "
        f"pip install --force-reinstall --no-deps {name}"
    )


@functools.cache
def load_onnxruntime() -> Any:
    """Return the module `onnxruntime`, and warn once where two distributions share its files.

    Raises:
        ExecutionError: the module is missing or broken.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ExecutionError(explain_failure(list_distributions(), to_one_line(error))) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        # a removal leaves folders behind, which Python imports as an empty namespace package
        raise ExecutionError(explain_failure(list_distributions(), "the module is empty"))
    if (conflict := explain_conflict(list_distributions())) is not None:
        logger.warning(conflict)
    return onnxruntime
