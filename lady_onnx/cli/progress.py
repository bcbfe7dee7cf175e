"""What is being done, on standard error: phases, an estimate of the time, and the log."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from .arguments import QUIET, VERBOSE

Progress = Callable[[int, int], None]
"""Takes how many steps of a phase are done, and how many there are."""

LEVEL_OF_VERBOSITY = {QUIET: logging.ERROR, VERBOSE: logging.INFO}
"""The least severe messages that are shown; warnings by default."""

BAR_FORMAT = "{desc}: {n_fmt} of {total_fmt} groups, {elapsed} gone, about {remaining} left"
UNCOUNTED_FORMAT = "{desc} ..."

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def show_log(verbosity: int) -> Iterator[None]:
    """Show the messages of the package's log on standard error while a command runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("lady-onnx: %(message)s"))
    root = logging.getLogger("lady_onnx")
    before = root.level, root.propagate
    root.addHandler(handler)
    root.setLevel(LEVEL_OF_VERBOSITY.get(verbosity, logging.WARNING))
    root.propagate = False
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before[0])
        root.propagate = before[1]


@contextlib.contextmanager
def show_phase(name: str, verbosity: int, is_counted: bool = False) -> Iterator[Progress]:
    """Show a phase of the work while it lasts, on a terminal, and log how long it took.

    Args:
        name: what is being done.
        verbosity: one of `QUIET`, `NORMAL` and `VERBOSE`.
        is_counted: whether the phase says how far it is, so that its end can be estimated.

    Yields:
        What the phase calls to say how far it is.
    """
    start = time.perf_counter()
    if verbosity == QUIET or not sys.stderr.isatty():
        yield lambda done, total: None
    else:
        with _show_bar(name, is_counted) as show:
            yield show
    logger.info("%s: %.1f s", name, time.perf_counter() - start)


@contextlib.contextmanager
def _show_bar(name: str, is_counted: bool) -> Iterator[Progress]:
    """Show a phase on a terminal; see `show_phase`."""
    # Imported here, because most runs of this module show nothing.
    from tqdm import tqdm

    with tqdm(
        desc=name,
        bar_format=BAR_FORMAT if is_counted else UNCOUNTED_FORMAT,
        leave=False,
        file=sys.stderr,
    ) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
