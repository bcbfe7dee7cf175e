"""`lady-onnx trace`: whose stamped copy a suspect was made of."""

from __future__ import annotations

import argparse

from ...watermark.stamping import open_original
from ...watermark.tracing import trace_copies
from ..console import print_report
from ..progress import show_phase
from .keys import add_key_argument, load_key
from .stamp import list_customers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("suspect", metavar="SUSPECT")
    parser.add_argument(
        "--original", metavar="M", required=True, help="the model that was stamped, as it was"
    )
    add_key_argument(parser)
    parser.add_argument(
        "--customers",
        metavar="FILE.csv",
        help="all customers, one a line: also finds those whose copies were mixed",
    )


def run_command(args: argparse.Namespace) -> int:
    """Name the customers; return 1 where none is likely."""
    key = load_key(args)
    customers = list_customers(args.customers)
    with show_phase("tracing", args.verbosity):
        found = trace_copies(open_original(args.original, key), args.suspect, customers)
    print_report(found, args, args.suspect)
    return 0 if found.named else 1
