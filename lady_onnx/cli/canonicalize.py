"""`lady-onnx canonicalize`: the one file that all shuffled copies of a model have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

import lady_onnx as lady

from .arguments import add_output_argument, add_state_argument
from .console import print_headline, print_json
from .files import Models, add_checkpoint_arguments, claim_destination
from .progress import show_phase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("model", metavar="MODEL")
    add_output_argument(parser)
    add_state_argument(parser)
    parser.add_argument("--save-permutation", metavar="P.json", help="write what was applied")
    add_checkpoint_arguments(parser)


def run_command(args: argparse.Namespace) -> int:
    """Put the units of a model in canonical order and write it."""
    source = Models(args)
    model = source.load(args.model, args.state)
    taken = source.list_files(model)
    out = claim_destination(Path(args.output), taken)
    record = None
    if args.save_permutation:
        record = claim_destination(Path(args.save_permutation), taken)
    with show_phase("ordering", args.verbosity):
        result = lady.canonicalize(model)
    source.save(result, args.model, out)
    if record:
        result.save_permutation(record)
    if args.json:
        written = {"output": str(out), "permutation": str(record) if record else None}
        print_json({**result.to_dict(), **written})
    else:
        print_headline(f"{out}: {result.headline()}")
    return 0
