"""`lady-onnx permute`: an element of a model's permutation symmetry applied to it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import lady_onnx as lady

from ..errors import UsageError
from ..graph.model import Graph
from .arguments import add_output_argument, add_state_argument, parse_natural
from .console import print_headline, print_json
from .files import Models, add_checkpoint_arguments, claim_destination
from .progress import show_phase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_common_arguments(parser)
    parser.add_argument("--seed", type=parse_natural, help="of the random permutations (0)")
    parser.add_argument(
        "--group", action="append", metavar="ID", help="permute this group only; may be repeated"
    )
    parser.add_argument("--permutation", metavar="P.json", help="apply this, not a random one")
    parser.add_argument("--inverse", action="store_true", help="undo the given permutation")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what all commands take that write a model with its units in another order."""
    parser.add_argument("model", metavar="MODEL")
    add_output_argument(parser)
    add_state_argument(parser)
    parser.add_argument("--save-permutation", metavar="P.json", help="write what was applied")
    add_checkpoint_arguments(parser)


def run_command(args: argparse.Namespace) -> int:
    """Permute a model and write it."""
    if args.inverse and not args.permutation:
        raise UsageError("--inverse undoes a --permutation file; give one")
    if args.permutation and (args.group or args.seed is not None):
        what = "--permutation says what becomes of which group; leave --group and --seed out"
        raise UsageError(what)

    def permute(model: Graph) -> lady.Permuted:
        return lady.permute(
            model,
            args.seed or 0,
            groups=args.group,
            permutations=args.permutation,
            inverse=args.inverse,
        )

    return write_permuted(args, "permuting", permute, args.permutation)


def write_permuted(
    args: argparse.Namespace,
    phase: str,
    permute: Callable[[Graph], lady.Permuted],
    read: str | None = None,
) -> int:
    """Load a model, put its units in another order, and write it.

    Args:
        args: the arguments of the call.
        phase: what is being done, for progress.
        permute: puts the units in another order.
        read: the path of another file that the call reads.

    Returns:
        The exit code.
    """
    source = Models(args)
    model = source.load(args.model, args.state)
    taken = source.list_files(model) | ({Path(read).resolve()} if read else set())
    out = claim_destination(Path(args.output), taken)
    record = None
    if args.save_permutation:
        record = claim_destination(Path(args.save_permutation), taken)
    with show_phase(phase, args.verbosity):
        result = permute(model)
    source.save(result, args.model, out)
    if record:
        result.save_permutation(record)
    if args.json:
        written = {"output": str(out), "permutation": str(record) if record else None}
        print_json({**result.to_dict(), **written})
    else:
        print_headline(f"{out}: {result.headline()}")
    return 0
