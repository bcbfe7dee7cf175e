"""`lady-onnx watermark`: a mark in a model's weights, one sub-command a job."""

from __future__ import annotations

import argparse
import importlib
import math
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ...errors import LadyError, OutputError, UsageError
from ...graph.loading import load_graph
from ...graph.model import Graph
from ...runtime.comparing.data import read_data
from ...watermark.embedding import (
    MAX_LOSS,
    Marked,
    count_capacity,
    embed_gently,
    embed_mark,
)
from ...watermark.extraction import Extraction, extract_mark
from ...watermark.impact import MARK_METRICS, Probe
from ...watermark.records import Commitment, read_mark
from ...watermark.schemes.interface import SCHEMES
from ...watermark.secrets.keys import Key, create_key, write_key
from ..arguments import Job, add_jobs, parse_amount, parse_magnitude
from ..console import print_details, print_headline, print_json
from ..files import claim_destination
from ..progress import show_phase
from .keys import add_key_argument, add_passphrase_argument, load_key, read_passphrase

NONCE_BYTES = 8
"""The length of a commitment's nonce."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one sub-command a job."""
    add_jobs(parser, JOBS)


def run_command(args: argparse.Namespace) -> int:
    """Run a job; return 1 where no mark was read."""
    return JOBS[args.job][2](args)


def _add_scheme_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scheme", choices=SCHEMES, default=SCHEMES[0], help=f"how bits are written ({SCHEMES[0]})"
    )


def _declare_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="KEY", help="the key file to create")
    add_passphrase_argument(parser)


def _declare_embed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the file to write")
    parser.add_argument(
        "--mark", metavar="M.json", required=True, help="the mark file to write; keep it by the key"
    )
    add_key_argument(parser)
    payload = parser.add_mutually_exclusive_group(required=True)
    payload.add_argument("--payload", metavar="TEXT", help="up to 64 bytes of text")
    payload.add_argument("--payload-hex", metavar="HEX", help="up to 64 bytes as digits")
    payload.add_argument(
        "--commit",
        metavar="OWNER",
        help="the hash of owner, model and time, which the mark file keeps",
    )
    _add_scheme_argument(parser)
    parser.add_argument(
        "--strength", type=parse_amount, help="how strongly, in the scheme's measure"
    )
    parser.add_argument(
        "--max-change", type=parse_magnitude, help="weaken the mark until outputs change by less"
    )
    parser.add_argument("--data", metavar="X.npz", help="inputs by name, and `labels`")
    parser.add_argument(
        "--metric",
        choices=MARK_METRICS,
        help="of the first output, against `labels`; `agreement` is with the model itself",
    )
    parser.add_argument(
        "--no-run",
        action="store_true",
        help="change all layers alike, and do not run the model to see which of them matter least",
    )
    parser.add_argument(
        "--train",
        type=parse_amount,
        metavar="PASSES",
        help="train the mark in, with PyTorch, in so many passes over the data",
    )
    parser.add_argument(
        "--max-loss",
        type=parse_magnitude,
        help=f"with a metric, weaken the mark until the metric loses no more ({MAX_LOSS:g})",
    )


def _declare_extract(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suspect", metavar="SUSPECT")
    add_key_argument(parser)
    parser.add_argument(
        "--mark",
        metavar="M.json",
        action="append",
        required=True,
        help="a mark file; may be repeated",
    )
    parser.add_argument(
        "--unmarked",
        metavar="U",
        help="the model before it was marked: check that the mark was written into it, and put "
        "units back to it",
    )
    parser.add_argument(
        "--reference",
        metavar="R",
        help="the marked model in its own order: units are put back first",
    )


def _declare_capacity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    _add_scheme_argument(parser)


def _run_key(args: argparse.Namespace) -> int:
    path = claim_destination(Path(args.output), set())
    write_key(create_key(), path, read_passphrase(args, is_new=True))
    if args.json:
        print_json({"schema_version": 1, "key": str(path)})
    else:
        print_headline(f"{path}: a new key; without it and its passphrase no mark is read")
    return 0


def _run_embed(args: argparse.Namespace) -> int:
    _check_embed_arguments(args)
    graph = load_graph(args.model)
    others = (args.key, args.passphrase_file, args.data)
    taken = graph.files | {Path(f).resolve() for f in others if f is not None}
    out = claim_destination(Path(args.output), taken)
    record = claim_destination(Path(args.mark), taken)
    if record.exists():
        what = "exists, and no mark is read without its file; choose another name"
        raise OutputError(f"{record}: {what}")
    payload, key = _read_payload(args), load_key(args)
    with show_phase("marking", args.verbosity):
        result = _embed(graph, key, payload, args)
    # a marked model whose mark file is lost cannot be read, so that file comes first
    result.mark.save(record)
    result.save(out)
    if args.json:
        print_json({"output": str(out), "mark_file": str(record), **result.to_dict()})
    else:
        print_headline(f"{out}: {result.headline()}")
        print_details(result, args)
    return 0


def _check_embed_arguments(args: argparse.Namespace) -> None:
    """Raise UsageError where arguments of `embed` contradict each other."""
    is_bounded = args.max_change is not None or (args.data is not None and args.train is None)
    for option, value in (("--strength", args.strength is not None), ("--no-run", args.no_run)):
        if is_bounded and value:
            what = f"{option} cannot be combined with --max-change, --data or --max-loss"
            raise UsageError(f"watermark embed: {what}")
    for option, value in (("--metric", args.metric), ("--max-loss", args.max_loss)):
        if value is not None and not args.data:
            raise UsageError(f"watermark embed: {option} needs samples; give them with --data")
    if args.train is not None and not args.data:
        raise UsageError("watermark embed: --train needs samples and labels; give --data")
    if args.train is not None and args.max_change is not None:
        raise UsageError("watermark embed: training bounds no outputs; leave --max-change out")


def _embed(graph: Graph, key: Key, payload: bytes | Commitment, args: argparse.Namespace) -> Marked:
    """Write the mark in the way that the arguments ask for."""
    data = read_data(args.data) if args.data else None
    if args.train is not None:
        try:
            marking = importlib.import_module("lady_onnx.converters.marking")
        except ImportError as error:
            what = "needs PyTorch; pip install 'lady-onnx[torch,watermark]'"
            raise LadyError(f"watermark embed --train: {what}") from error
        trained: Marked = marking.train_mark(
            graph, key, payload, data, args.train, scheme=args.scheme, strength=args.strength
        )
        return replace(trained, impact=Probe(graph, data, args.metric).measure(trained.graph))
    if args.strength is not None or args.no_run:
        return embed_mark(graph, key, payload, scheme=args.scheme, strength=args.strength)
    return embed_gently(
        graph,
        key,
        payload,
        scheme=args.scheme,
        max_change=math.inf if args.max_change is None else args.max_change,
        max_loss=MAX_LOSS if args.max_loss is None else args.max_loss,
        data=data,
        metric=args.metric,
    )


def _run_extract(args: argparse.Namespace) -> int:
    key = load_key(args)
    suspect = load_graph(args.suspect)
    # a file that is none is told before any reading, which takes long
    for path in args.mark:
        read_mark(path)
    with show_phase("reading", args.verbosity):
        found = [
            extract_mark(
                suspect,
                key,
                path,
                reference=args.reference,
                marks_tried=len(args.mark),
                unmarked=args.unmarked,
            )
            for path in args.mark
        ]
    # the one that was read, else the one that fits best
    best: Extraction = min(found, key=lambda e: (not e.is_accepted, e.payload is None, e.p_value))
    if args.json:
        print_json({"mark_file": args.mark[found.index(best)], **best.to_dict()})
    else:
        print_headline(f"{args.suspect}: {best.headline()}")
        print_details(best, args)
    return 0 if best.is_accepted else 1


def _run_capacity(args: argparse.Namespace) -> int:
    bits, length = count_capacity(args.model, args.scheme)
    if args.json:
        print_json(
            {"schema_version": 1, "scheme": args.scheme, "bits": bits, "payload_bytes": length}
        )
    else:
        print_headline(f"{args.model}: room for {bits} bits, a payload of up to {length} bytes")
    return 0 if length else 1


JOBS: dict[str, Job] = {
    "key": ("create a key file", _declare_key, _run_key),
    "embed": ("write a mark into a model", _declare_embed, _run_embed),
    "extract": ("read a mark from a suspect", _declare_extract, _run_extract),
    "capacity": ("how much a model has room for", _declare_capacity, _run_capacity),
}
"""By name what a job does, what declares its arguments, and what runs it."""


def _read_payload(args: argparse.Namespace) -> bytes | Commitment:
    """Return the payload that the call gives.

    Raises:
        UsageError: it cannot be read.
    """
    if args.commit is not None:
        if not args.commit.isprintable():
            raise UsageError("watermark embed: --commit: give plain text")
        time = datetime.now(UTC).isoformat(timespec="seconds")
        return Commitment(args.commit, time, os.urandom(NONCE_BYTES).hex())
    if args.payload_hex is not None:
        try:
            return bytes.fromhex(args.payload_hex)
        except ValueError:
            what = f"'{args.payload_hex}' is not hexadecimal; give two digits for each byte"
            raise UsageError(f"watermark embed: --payload-hex: {what}") from None
    payload: bytes = args.payload.encode("utf-8", "surrogateescape")
    return payload
