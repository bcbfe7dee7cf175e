"""The entry point: finds the command, runs it, and turns errors into one line and an exit code.

Exit codes: 0 done or yes, 1 no, 2 an unusable call or input, 130 interrupted, 141 nobody reads the
output any more. Nothing is imported here that `--version` and `--help` do not need.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Protocol

import lady_onnx as lady

from ..errors import LadyError, UsageError, suggest_name
from ..reporting import SCHEMA_VERSION, to_printable
from .arguments import CommandParser, add_common_arguments
from .progress import show_log

COMMANDS = {
    "groups": "find the groups of interchangeable units of a model",
    "permute": "apply a random, or a given, element of a model's permutation symmetry",
    "attack": "alter a model's weights: noise, pruning, quantisation, factors, training",
    "resync": "find where every unit of the reference went in the suspect, and put it back",
    "check": "what is the suspect to the reference: identical, permuted, rescaled, derived, "
    "altered, tampered, unrelated",
    "canonicalize": "write the one file that all shuffled copies of a model have in common",
    "fingerprint": "hash what a model computes and holds, whatever the order of its units",
    "registry": "keep the fingerprints of many models, and tell what a suspect is to them",
    "verify": "do two models give the same outputs under onnxruntime?",
    "watermark": "write a mark into a model's weights, and read it from a suspect",
    "stamp": "write a payload into the order of a model's units, and read it from a suspect",
    "trace": "whose stamped copy was a suspect made of?",
    "demo": "a first minute: shuffle a small classifier of digits, and put it back",
}
"""What each command does. The module of the same name declares its arguments and runs it."""
FOLDERS = {
    **dict.fromkeys(("canonicalize", "fingerprint", "registry"), "registry"),
    **dict.fromkeys(("watermark", "stamp", "trace"), "marks"),
}
"""By command the folder that its module lies in, where it is not this one."""

OBJECTS_PER_COLLECTION = 50_000
"""Cycles of objects are looked for once so many are new.

A graph is many objects in no cycle, and to look at all of them ever again takes a tenth of the time
of a small model.
"""
INTERRUPTED, CLOSED_PIPE = 130, 141
"""Exit codes as a shell gives them for the signals of an interrupt and of a closed pipe."""


class Command(Protocol):
    """The module of a command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments of the command."""

    def run_command(self, args: argparse.Namespace) -> int:
        """Run the command, and return its exit code."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Build the parser of the command line.

    Args:
        command: the only command whose module is loaded, so that its arguments are known; None for
            none.
    """
    description = (lady.__doc__ or "").split("\n")[0]
    parser = CommandParser(prog="lady-onnx", description=description)
    parser.add_argument("--version", action="version", version=f"lady-onnx {lady.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        own = commands.add_parser(name, help=text, description=text)
        if name == command:
            module: Command = importlib.import_module(_locate_module(name), __package__)
            module.add_arguments(own)
            add_common_arguments(own)
            own.set_defaults(run=module.run_command)
    return parser


def _locate_module(command: str) -> str:
    """Return the name of a command's module, relative to this package."""
    folder = f".{FOLDERS[command]}" if command in FOLDERS else ""
    return f"{folder}.{command}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments, by default those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _collect_seldom()
    # Kernels of BLAS read beside what they compute, and raise this flag for numbers that are finite
    # (numpy/numpy#24067). Results are checked for NaN where it matters.
    warnings.filterwarnings("ignore", r"invalid value encountered in (dot|matmul)", RuntimeWarning)
    # a stream that was closed before the start is None, and cannot be printed to
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    try:
        return _run(arguments)
    except BrokenPipeError:
        # whoever reads the output has seen enough; what is buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE


def _run(arguments: list[str]) -> int:
    """Do what `main` says, and report whatever goes wrong but a closed pipe."""
    # An error may come before the arguments are parsed, and has to be told as JSON all the same.
    has_json = "--json" in arguments
    try:
        # Options that stand before a command take no value.
        command = next((a for a in arguments if not a.startswith("-")), None)
        if command is not None and command not in COMMANDS:
            known = f"{suggest_name(command, COMMANDS)}the commands are {', '.join(COMMANDS)}"
            raise UsageError(f"no command '{command}'; {known}")
        _spare_threads(command)
        try:
            args = build_parser(command).parse_args(arguments)
        except SystemExit as stop:
            # argparse ends so after it has printed a help or the version
            return int(stop.code or 0)
        with show_log(args.verbosity):
            for file in args.rules:
                rules = importlib.import_module("lady_onnx.rules")
                rules.load_rules_file(file)
            code = int(args.run(args))
            # A closed pipe shows here, and not at the end of the process, where nothing catches it.
            sys.stdout.flush()
            return code
    except SystemExit as stop:
        # whoever reads the exit code takes 0 for a yes, and only a result may give that
        what = f"a rule ended the process ({stop.code}); mend the rules, or remove the package"
        return _report_error("unusable", what, has_json)
    except LadyError as error:
        return _report_error(error.code, str(error), has_json)
    except BrokenPipeError:
        raise
    except OSError as error:
        what = f"{error.filename or ''}: {error.strerror or error}; check the path and the disk"
        return _report_error("io", what, has_json)
    except MemoryError:
        return _report_error(
            "memory", "out of memory; free some, or use a larger machine", has_json
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001
        # an exit code of 1 would be an answer
        if "-v" in arguments or "--verbose" in arguments:
            import traceback

            traceback.print_exc()
        what = f"{type(error).__name__}: {error}; a fault of lady-onnx: please report it"
        return _report_error("internal", f"{what}, with what -v prints", has_json)


def _collect_seldom() -> None:
    """Look for cycles of objects seldom, and not at all when the process ends."""
    gc.set_threshold(OBJECTS_PER_COLLECTION)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def _spare_threads(command: str | None) -> None:
    """Let numpy start no threads for products, where a command has only small ones.

    They take longer to start than numpy takes to load, if other programs use the processors.
    """
    if command not in FOLDERS and "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _report_error(code: str, message: str, has_json: bool) -> int:
    """Print an error in one line, and as a JSON object where that was asked for; return 2.

    Args:
        code: one of the codes in the table of `lady_onnx.errors`.
        message: the message.
        has_json: whether the command was called with `--json`.
    """
    line = to_printable(" ".join(message.split()))
    print(f"lady-onnx: {line}", file=sys.stderr)
    if has_json:
        error = {"code": code, "message": line}
        print(json.dumps({"schema_version": SCHEMA_VERSION, "error": error}), flush=True)
    return 2
