"""Rules of other packages and files, registered beside those that come with lady-onnx.

A package names a module in the entry points of the group `lady_onnx.rules`. The module is imported
once an operator is met that has no rule, and registers its operators. A file is run when a caller
asks for it, and never otherwise.
"""

from __future__ import annotations

import functools
import logging
import os
import runpy
import traceback
from importlib import metadata
from pathlib import Path

from ..errors import LadyError, to_one_line

GROUP = "lady_onnx.rules"
"""The group of entry points that name modules with rules."""

logger = logging.getLogger(__name__)


@functools.cache
def load_entry_points() -> None:
    """Import the modules with rules that installed packages name, the first time it is called.

    To look through all that is installed takes as long as to analyse a small model.

    A module that fails is left out, with a warning: its operators stay unknown, and pin what they
    touch.
    """
    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()
        # a foreign module may raise anything, or try to end the process
        except (Exception, SystemExit) as error:  # noqa: BLE001
            where = f"{entry.dist.name}: " if entry.dist else ""
            what = f"its rules are not loaded ({to_one_line(error)})"
            logger.warning("%s%s; update or remove the package", where, what)


def load_rules_file(path: str | os.PathLike[str]) -> None:
    """Run a Python file that registers rules.

    Args:
        path: the file. It is trusted: it can do all that the caller can.

    Raises:
        LadyError: the file is missing, or does not run to its end.
    """
    file = Path(path)
    if not file.is_file():
        raise LadyError(f"{file}: no such file; give a Python file that registers rules")
    # a rule of an installed package is there first, and is not written over
    load_entry_points()
    try:
        runpy.run_path(str(file))
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if f.filename == str(file)]
        where = f"{file}, line {lines[-1]}" if lines else str(file)
        raise LadyError(f"{where}: {to_one_line(error)}; mend the rules") from error
