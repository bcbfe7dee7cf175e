"""`lady-onnx check`: the verdict alone, and a gate that lets some verdicts pass."""

from __future__ import annotations

import argparse
from pathlib import Path

import lady_onnx as lady

from ..errors import LadyError, UsageError
from ..pipeline.verdicts import ACCEPTED
from ..registry.policy import Policy, read_policy
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
        metavar="SHARE",
        help="the least share of units that must be recognised for exit code 0, 0 to 1 (0)",
    )
    parser.add_argument("--policy", metavar="P.toml", help="a file that says both of these")
    add_report_arguments(parser)
    add_limit_arguments(parser)
    add_custom_ops_argument(parser)
    add_state_argument(parser)
    add_threads_argument(parser)
    add_checkpoint_arguments(parser)


def run_command(args: argparse.Namespace) -> int:
    """Print the verdict on a suspect; return 0 where the gate lets it pass, else 1."""
    policy = _read_rules(args)
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
    refusal = policy.explain(found)
    passes = refusal is None
    fields = {**found.to_dict(), "accepted": passes, "left_out": source.left_out}
    reports.write(found, fields, args, models, {}, source.files)
    if args.json:
        print_json(fields)
        return 0 if passes else 1
    is_rare = refusal is not None and policy.accepts(found.verdict)
    print_headline(f"{found.headline()}{f'; {refusal}' if is_rare else ''}")
    print_left_out(source.left_out)
    if args.verbosity == VERBOSE:
        print_details(found, args)
    return 0 if passes else 1


def _read_rules(args: argparse.Namespace) -> Policy:
    """Return what passes, as the options or a file say it."""
    if args.policy is not None:
        if args.accept is not None or args.min_recognised is not None:
            what = "says what passes; leave --accept and --min-recognised out"
            raise UsageError(f"check --policy {args.policy}: {what}")
        return read_policy(Path(args.policy))
    accept = ACCEPTED if args.accept is None else [w.strip() for w in args.accept.split(",")]
    try:
        return Policy(tuple(accept), args.min_recognised or 0.0)
    except LadyError as error:
        raise UsageError(f"check --accept {args.accept}: {error}") from None
