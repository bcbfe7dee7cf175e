"""Printing results: as lines for people, coloured on a terminal, or as one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..reporting import MAX_SHOWN_ENTRIES, Report, to_printable
from .arguments import QUIET, VERBOSE

RESET = "\033[0m"
GREEN, YELLOW, RED = "\033[32m", "\033[33m", "\033[31m"
COLOUR_OF_WORD = {
    "identical": GREEN,
    "permuted": GREEN,
    "rescaled": GREEN,
    "equal": GREEN,
    "derived": YELLOW,
    "altered": YELLOW,
    "tampered": RED,
    "unrelated": RED,
    "NOT equal": RED,
}
"""The colours of the words that results begin with."""


def has_colours() -> bool:
    """Tell whether standard output is a terminal with colours, and its user wants them.

    Source: https://no-color.org
    """
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return is_wanted and sys.stdout.isatty()


def colour_line(line: str) -> str:
    """Colour the word that a line begins with, up to its colon, where it is a verdict."""
    word, colon, rest = line.partition(":")
    colour = COLOUR_OF_WORD.get(word)
    return f"{colour}{word}{RESET}{colon}{rest}" if colour and has_colours() else line


def print_json(fields: Mapping[str, Any]) -> None:
    """Print one JSON object; the values are of plain JSON types, as `Report.to_dict` gives them."""
    print(json.dumps(fields, allow_nan=False))


def print_line(line: str) -> None:
    """Print a line at once, and nothing that controls a terminal."""
    print(to_printable(line), flush=True)


def print_headline(line: str) -> None:
    """Print the line with the result."""
    print(colour_line(to_printable(line)), flush=True)


def print_left_out(tensors: Sequence[str]) -> None:
    """Print of which tensors of a checkpoint the verdict says nothing, where there are some."""
    if tensors:
        shown = ", ".join(f"'{t}'" for t in tensors[:MAX_SHOWN_ENTRIES])
        more = f" and {len(tensors) - MAX_SHOWN_ENTRIES} more" * (len(tensors) > MAX_SHOWN_ENTRIES)
        print_line(f"left out, and compared by nobody: {shown}{more}")


def print_report(report: Report, args: argparse.Namespace, where: str = "") -> None:
    """Print a result, as a JSON object where that was asked for.

    Args:
        report: the result.
        args: the arguments of the call.
        where: what it is of, in front of its first line.
    """
    if args.json:
        print_json(report.to_dict())
    else:
        print_headline(f"{where}: {report.headline()}" if where else report.headline())
        print_details(report, args)


def print_details(report: Report, args: argparse.Namespace) -> None:
    """Print what is behind a result: the worst of it, all with `-v`, and nothing with `-q`."""
    if args.verbosity != QUIET:
        limit = None if args.verbosity == VERBOSE else MAX_SHOWN_ENTRIES
        for line in report.details(limit):
            print_line(line)
