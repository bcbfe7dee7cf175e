"""Declaring and reading arguments: one-line usage errors, number types, shared options."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

from ..errors import UsageError

QUIET, NORMAL, VERBOSE = -1, 0, 1
"""How much a command says: only its result, the worst of what is behind it, or all of it."""

Number = TypeVar("Number", int, float)


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are exceptions with a message of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the command and the way to its help."""
        command = self.prog.partition(" ")[2]
        where = f"{command}: " if command else ""
        raise UsageError(f"{where}{message}; see {self.prog} --help")


def _make_number_type(
    read: Callable[[str], Number], is_allowed: Callable[[Number], bool], description: str
) -> Callable[[str], Number]:
    """Return a type of arguments that are numbers within limits."""

    def parse(text: str) -> Number:
        try:
            value = read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not {description}") from None
        if not is_allowed(value):
            raise argparse.ArgumentTypeError(f"'{text}' is not {description}")
        return value

    return parse


parse_positive = _make_number_type(int, lambda n: n >= 1, "a positive integer")
parse_natural = _make_number_type(int, lambda n: n >= 0, "an integer of zero or more")
parse_magnitude = _make_number_type(
    float, lambda x: x >= 0 and math.isfinite(x), "a number of zero or more"
)
parse_amount = _make_number_type(float, lambda x: x > 0 and math.isfinite(x), "a number above zero")
parse_finite = _make_number_type(float, math.isfinite, "a number")
parse_share = _make_number_type(float, lambda x: 0 <= x <= 1, "a number from 0 to 1")


def add_common_arguments(parser: argparse.ArgumentParser, is_nested: bool = False) -> None:
    """Declare the options that every command has.

    Args:
        parser: the parser of a command, or of a part of one.
        is_nested: whether the command itself has these options too. They have no defaults then,
            which would take the place of what was given to the command.
    """
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if is_nested else False,
        help="one JSON object on standard output, also for errors, and nothing else there",
    )
    parser.add_argument(
        "--rules",
        metavar="FILE.py",
        action="append",
        default=argparse.SUPPRESS if is_nested else [],
        help="a Python file that registers rules of operators; it is run, so trust it",
    )
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action="store_const",
        const=VERBOSE,
        default=argparse.SUPPRESS if is_nested else NORMAL,
        help="list everything, and say on standard error what is being done",
    )
    volume.add_argument(
        "-q",
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=QUIET,
        default=argparse.SUPPRESS if is_nested else NORMAL,
        help="print the result alone",
    )


Declare = Callable[[argparse.ArgumentParser], None]
Job = tuple[str, Declare, Callable[[argparse.Namespace], int]]
"""A sub-command: its help, what declares its arguments, and what runs it."""


def add_jobs(
    parser: argparse.ArgumentParser, jobs: Mapping[str, Job], declare_more: Declare | None = None
) -> None:
    """Declare one sub-command a job.

    Args:
        parser: the parser of the command.
        jobs: the jobs by name.
        declare_more: what declares the arguments that all jobs have.
    """
    parsers = parser.add_subparsers(
        dest="job", required=True, metavar="JOB", parser_class=CommandParser
    )
    for name, (text, declare, _) in jobs.items():
        own = parsers.add_parser(name, help=text, description=text)
        declare(own)
        if declare_more is not None:
            declare_more(own)
        add_common_arguments(own, is_nested=True)


def add_custom_ops_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the libraries with kernels that onnxruntime does not have."""
    parser.add_argument(
        "--custom-ops",
        metavar="LIBRARY",
        action="append",
        default=[],
        help="a library with kernels of operators that onnxruntime does not have",
    )


def add_state_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the outputs that are fed back as inputs."""
    parser.add_argument(
        "--state",
        metavar="OUTPUT=INPUT",
        action="append",
        default=[],
        help="an output that is fed back as an input, beside those that their names tell; "
        "`none` where names are not to be believed",
    )


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the file that a command must be told to write."""
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the file to write")


def add_limit_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how long a run of models may take, and how much memory."""
    parser.add_argument(
        "--timeout", type=parse_amount, metavar="SECONDS", help="end the run of models after that"
    )
    parser.add_argument(
        "--memory", type=parse_amount, metavar="GB", help="end the run of models beyond that"
    )


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    """Declare how many weights are read at a time."""
    parser.add_argument(
        "--threads",
        type=parse_positive,
        metavar="N",
        help="weights that are worked on at a time (one a processor)",
    )
