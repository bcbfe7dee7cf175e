"""`lady-onnx fingerprint`: hashes that no order of units changes."""

from __future__ import annotations

import argparse

import lady_onnx as lady

from ..console import print_report
from ..files import Models, add_checkpoint_arguments
from ..progress import show_phase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("model", metavar="MODEL")
    add_checkpoint_arguments(parser)


def run_command(args: argparse.Namespace) -> int:
    """Print the fingerprint of a model."""
    model = Models(args).load(args.model)
    with show_phase("hashing", args.verbosity):
        found = lady.fingerprint(model)
    print_report(found, args, args.model)
    return 0
