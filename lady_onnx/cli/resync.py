"""`lady-onnx resync`: the main job, a suspect with its units back in the reference's order."""

from __future__ import annotations

import argparse
from pathlib import Path

import lady_onnx as lady

from ..diagnosis.findings import TAMPERING
from ..errors import OutputError
from ..graph.files import lay_data
from ..matching.evidence.assignment import ASSIGNMENTS
from ..pipeline.options import EVIDENCE_CHOICES, VERIFY_CHOICES
from ..reporting import count_things
from ..runtime.providers import PROVIDERS
from .arguments import (
    add_custom_ops_argument,
    add_limit_arguments,
    add_state_argument,
    add_threads_argument,
)
from .console import print_details, print_headline, print_json, print_left_out
from .files import Models, add_checkpoint_arguments, claim_destination
from .progress import show_phase
from .reports import add_report_arguments, claim_reports

OUTCOME_OF_PRESERVED = {
    True: "computes what the suspect did",
    False: "does NOT compute what the suspect did",
    None: "not compared",
}
"""What is said of the result, by whether its outputs are those of the suspect."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("reference", metavar="REFERENCE")
    parser.add_argument("suspect", metavar="SUSPECT")
    parser.add_argument(
        "--repair", action="store_true", help="give what was tampered with the reference's values"
    )
    parser.add_argument(
        "--strip",
        action="store_true",
        help="take out inserted units that the function does not need",
    )
    _add_destinations(parser)
    parser.add_argument(
        "--verify", choices=VERIFY_CHOICES, default="auto", help="how outputs are compared (auto)"
    )
    parser.add_argument(
        "--provider", choices=PROVIDERS, default="auto", help="what runs them (auto)"
    )
    parser.add_argument(
        "--evidence",
        choices=EVIDENCE_CHOICES,
        default="all",
        help="all weights of a unit, or the paper's: incoming (all)",
    )
    parser.add_argument(
        "--assignment",
        choices=tuple(ASSIGNMENTS),
        default="optimal",
        help="with argmax, the paper's (optimal)",
    )
    add_limit_arguments(parser)
    add_custom_ops_argument(parser)
    add_state_argument(parser)
    add_threads_argument(parser)
    add_checkpoint_arguments(parser)


def _add_destinations(parser: argparse.ArgumentParser) -> None:
    """Declare what is written, and where."""
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="SUSPECT's name with .resynced.onnx by default"
    )
    parser.add_argument("--force", action="store_true", help="replace the default output")
    add_report_arguments(parser)
    parser.add_argument(
        "--save-permutation", metavar="P.json", help="write what was applied to the suspect"
    )


def run_command(args: argparse.Namespace) -> int:
    """Put a suspect's units back; return 1 where it is no copy, was tampered with, or differs."""
    source = Models(args)
    models = source.load(args.reference), source.load(args.suspect)
    taken = source.list_files(*models)
    out = _claim_output(args, source, taken)
    reports = claim_reports(args, taken)
    record = None
    if args.save_permutation:
        record = claim_destination(Path(args.save_permutation), taken)
    with lay_data(out):
        with show_phase("matching", args.verbosity, is_counted=True) as progress:
            result = lady.resync(
                *models,
                verify=args.verify,
                provider=args.provider,
                repair=args.repair,
                strip=args.strip,
                evidence=args.evidence,
                assignment=args.assignment,
                custom_ops=args.custom_ops,
                timeout=args.timeout,
                memory=args.memory,
                states=args.state,
                threads=args.threads,
                progress=progress,
            )
        source.save(result, args.suspect, out)
    fields = {"output": str(out), **result.to_dict(), "left_out": source.left_out}
    if record:
        result.save_permutation(record)
    written = {"output": out, "permutation": record}
    reports.write(result, fields, args, models, written, source.files)
    if args.json:
        print_json(fields)
    else:
        print_headline(result.headline())
        print_headline(f"{out}: {_describe_outcome(result)}")
        print_left_out(source.left_out)
        print_details(result, args)
    has_tampering = any(f.kind in TAMPERING for f in result.integrity)
    is_no = result.outputs_preserved is False or has_tampering or result.verdict == "unrelated"
    return 1 if is_no else 0


def _claim_output(args: argparse.Namespace, source: Models, taken: set[Path]) -> Path:
    """Return where the result goes. A default name that exists is replaced only with `--force`."""
    given = Path(args.output) if args.output else source.name_result(args.suspect, "resynced")
    out = claim_destination(given, taken)
    if not args.output and out.exists() and not args.force:
        raise OutputError(f"{out}: exists already; give -o, or --force to replace it")
    return out


def _describe_outcome(result: lady.Resync) -> str:
    """Say in one line what became of the suspect."""
    note = f": {result.verification_note}" if result.verification_note else ""
    by = f" (by {result.verified_by}{note})" if result.verified_by else ""
    # a repair changes what the suspect computed, and was done after the comparison
    before = " before the repair" if result.repaired else ""
    outcome = f"{OUTCOME_OF_PRESERVED[result.outputs_preserved]}{before}{by}"
    verified = f"{outcome}, {result.seconds:.1f} s"
    moved = f"{count_things(result.moved, 'unit was', 'units were')} moved"
    if result.verdict == "unrelated":
        return f"not a copy; {moved} to the likeliest places; {verified}"
    which = "all units" if result.common is None else "the units of the common part"
    in_place = f"about {result.psi_estimate:.2f} % of {which} are in place"
    difference = f"largest weight difference {result.max_weight_difference:.4g}"
    return f"{moved} back, {in_place}; {difference}; {verified}"
