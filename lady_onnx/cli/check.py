"""`lady-onnx check`: the verdict alone, and a gate that lets some verdicts pass."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import lady_onnx as lady

from ..errors import UsageError, suggest_name
from ..pipeline.verdicts import ACCEPTED, VERDICTS
from .arguments import (
    VERBOSE,
    add_custom_ops_argument,
    add_limit_arguments,
    add_state_argument,
    add_threads_argument,
    parse_share,
)
from .console import print_details, print_headline, print_json, print_left_out
from .files import Models, add_checkpoint_arguments
from .progress import show_phase
from .reports import add_report_arguments, claim_reports


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("reference", metavar="REFERENCE")
    parser.add_argument("suspect", metavar="SUSPECT")
    parser.add_argument(
        "--accept",
        metavar="VERDICTS",
        help=f"verdicts with exit code 0, separated by commas ({','.join(ACCEPTED)})",
    )
    parser.add_argument(
        "--min-recognised",
        type=parse_share,
        default=0.0,
        metavar="SHARE",
        help="the least share of units that must be recognised for exit code 0, 0 to 1 (0)",
    )
    add_report_arguments(parser)
    add_limit_arguments(parser)
    add_custom_ops_argument(parser)
    add_state_argument(parser)
    add_threads_argument(parser)
    add_checkpoint_arguments(parser)


def run_command(args: argparse.Namespace) -> int:
    """Print the verdict on a suspect; return 0 where the gate lets it pass, else 1."""
    accepted = _read_accepted(args.accept)
    source = Models(args)
    models = source.load(args.reference), source.load(args.suspect)
    reports = claim_reports(args, source.list_files(*models))
    with show_phase("matching", args.verbosity, is_counted=True) as progress:
        found = lady.check(
            *models,
            custom_ops=args.custom_ops,
            timeout=args.timeout,
            memory=args.memory,
            states=args.state,
            threads=args.threads,
            progress=progress,
        )
    passes = found.verdict in accepted and found.recognised >= args.min_recognised
    fields = {**found.to_dict(), "accepted": passes, "left_out": source.left_out}
    reports.write(found, fields, args, models, {}, source.files)
    if args.json:
        print_json(fields)
        return 0 if passes else 1
    is_rare = found.verdict in accepted and not passes
    share = f"{100 * found.recognised:.1f} % of the units are recognised, too few"
    print_headline(f"{found.headline()}{f'; {share}' if is_rare else ''}")
    print_left_out(source.left_out)
    if args.verbosity == VERBOSE:
        print_details(found, args)
    return 0 if passes else 1


def _read_accepted(text: str | None) -> Sequence[str]:
    """Return the verdicts that pass; an identical file passes wherever a permuted one does."""
    if text is None:
        return ACCEPTED
    names = [word.strip() for word in text.split(",")]
    for name in names:
        if name not in VERDICTS:
            known = f"{suggest_name(name, VERDICTS)}the verdicts are {', '.join(VERDICTS)}"
            raise UsageError(f"check --accept {text}: no verdict '{name}'; {known}")
    return ["identical", *names]
