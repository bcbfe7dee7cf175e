"""`lady-onnx permute`: an element of a model's permutation symmetry applied to it."""

from __future__ import annotations

import argparse
from pathlib import Path

import lady_onnx as lady

from ..errors import UsageError
from .arguments import add_output_argument, add_state_argument, parse_natural
from .console import print_headline, print_json
from .files import Models, add_checkpoint_arguments, claim_destination
from .progress import show_phase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("model", metavar="MODEL")
    add_output_argument(parser)
    parser.add_argument("--seed", type=parse_natural, help="of the random permutations (0)")
    parser.add_argument(
        "--group", action="append", metavar="ID", help="permute this group only; may be repeated"
    )
    parser.add_argument("--permutation", metavar="P.json", help="apply this, not a random one")
    parser.add_argument("--inverse", action="store_true", help="undo the given permutation")
    add_state_argument(parser)
    parser.add_argument("--save-permutation", metavar="P.json", help="write what was applied")
    add_checkpoint_arguments(parser)


def run_command(args: argparse.Namespace) -> int:
    """Permute a model and write it."""
    source = Models(args)
    model = source.load(args.model, args.state)
    taken = source.list_files(model)
    if args.permutation:
        taken.add(Path(args.permutation).resolve())
    out = claim_destination(Path(args.output), taken)
    record = None
    if args.save_permutation:
        record = claim_destination(Path(args.save_permutation), taken)
    if args.inverse and not args.permutation:
        raise UsageError("--inverse undoes a --permutation file; give one")
    if args.permutation and (args.group or args.seed is not None):
        what = "--permutation says what becomes of which group; leave --group and --seed out"
        raise UsageError(what)
    with show_phase("permuting", args.verbosity):
        result = lady.permute(
            model,
            args.seed or 0,
            groups=args.group,
            permutations=args.permutation,
            inverse=args.inverse,
        )
    source.save(result, args.model, out)
    if record:
        result.save_permutation(record)
    if args.json:
        written = {"output": str(out), "permutation": str(record) if record else None}
        print_json({**result.to_dict(), **written})
    else:
        print_headline(f"{out}: {result.headline()}")
    return 0
