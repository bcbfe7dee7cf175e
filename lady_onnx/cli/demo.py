"""`lady-onnx demo`: a first minute with a small classifier of digits."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..pipeline.demonstration import run_demo
from .console import print_details, print_headline, print_json
from .progress import show_phase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", default="demo", help="where the files go (demo)"
    )


def run_command(args: argparse.Namespace) -> int:
    """Run the demonstration, and say what it did and what came of it."""
    with show_phase("shuffling and putting back", args.verbosity):
        found = run_demo(Path(args.folder))
    if args.json:
        print_json(found.to_dict())
        return 0
    print_headline(found.headline())
    print_details(found, args)
    return 0
