"""`lady-onnx stamp`: a payload in the order of a model's units, one sub-command a job."""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from pathlib import Path

from ...errors import LadyError, MissingFileError, OutputError, UsageError
from ...watermark.secrets.payloads import MAX_PAYLOAD_BYTES
from ...watermark.stamping import (
    Original,
    check_room,
    count_stamp_capacity,
    open_original,
    write_stamp,
)
from ...watermark.tracing import read_stamp
from ..arguments import Job, add_jobs
from ..console import print_details, print_headline, print_json
from ..files import claim_destination
from ..progress import show_phase
from .keys import add_key_argument, load_key

MAX_NAME_LENGTH = 40
"""A customer's name in the name of a file is cut to so many characters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one sub-command a job."""
    add_jobs(parser, JOBS, add_key_argument)


def run_command(args: argparse.Namespace) -> int:
    """Run a job; return 1 where no stamp was read, or none fits."""
    return JOBS[args.job][2](args)


def read_customers(path: Path) -> list[bytes]:
    """Read the payloads in the first column of a file of comma-separated values.

    A first line that says `customer` or `payload` is a heading. Empty lines are left out.

    Raises:
        MissingFileError: there is no such file.
        LadyError: it cannot be read as comma-separated values, is empty, or names one twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = [row[0].strip() for row in csv.reader(file) if row and row[0].strip()]
    except FileNotFoundError:
        what = "no such file; its first column holds the customers"
        raise MissingFileError(f"{path}: {what}") from None
    except (OSError, ValueError, csv.Error) as error:
        what = " ".join(str(error).split())
        mend = "save it as CSV in UTF-8"
        raise LadyError(f"{path}: cannot be read as CSV ({what}); {mend}") from None
    if names and names[0].lower() in ("customer", "payload"):
        names = names[1:]
    if not names:
        raise LadyError(f"{path}: names no customer; write one a line")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise LadyError(f"{path}: names '{twice}' twice; give every customer another payload")
    return [name.encode() for name in names]


def _declare_write(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="the file to write, or the folder"
    )
    payload = parser.add_mutually_exclusive_group(required=True)
    payload.add_argument("--payload", metavar="TEXT", help="such as the customer's name")
    payload.add_argument(
        "--payload-file", metavar="FILE.csv", help="one customer a line: writes a file for each"
    )


def _declare_read(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suspect", metavar="SUSPECT")
    parser.add_argument(
        "--original", metavar="M", required=True, help="the model that was stamped, as it was"
    )


def _declare_capacity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")


def _run_write(args: argparse.Namespace) -> int:
    key = load_key(args)
    out = Path(args.output)
    with show_phase("finding the groups", args.verbosity):
        original = open_original(args.model, key)
    others = (args.key, args.passphrase_file, args.payload_file)
    taken = original.graph.files | {Path(f).resolve() for f in others if f is not None}
    if args.payload_file is not None:
        return _write_many(original, read_customers(Path(args.payload_file)), out, args)
    out = claim_destination(out, taken)
    stamped = write_stamp(original, args.payload.encode("utf-8", "surrogateescape"))
    stamped.save(out)
    if args.json:
        print_json({"output": str(out), **stamped.to_dict()})
    else:
        print_headline(f"{out}: {stamped.headline()}")
    return 0


def _write_many(
    original: Original, customers: list[bytes], folder: Path, args: argparse.Namespace
) -> int:
    """Write a stamped model for every customer into a folder."""
    for customer in customers:
        check_room(original, len(customer))
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; with --payload-file, -o names a folder")
    folder.mkdir(parents=True, exist_ok=True)
    names = [_name_file(k, customer) for k, customer in enumerate(customers, 1)]
    taken = original.graph.files | {Path(args.key).resolve()}
    for name in names:
        if (folder / name).exists():
            raise OutputError(f"{folder / name}: exists; give a new folder")
        claim_destination(folder / name, taken)
    for name, customer in zip(names, customers, strict=True):
        with show_phase(f"stamping {name}", args.verbosity):
            write_stamp(original, customer).save(folder / name)
    if args.json:
        files = [
            {"text": c.decode(), "output": str(folder / n)}
            for n, c in zip(names, customers, strict=True)
        ]
        print_json({"schema_version": 1, "files": files})
    else:
        print_headline(f"{folder}: {len(names)} stamped models, one a customer")
    return 0


def _name_file(number: int, customer: bytes) -> str:
    """Return the name of a customer's file: a number, and the safe characters of the customer."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", customer.decode()).strip(".-")[:MAX_NAME_LENGTH]
    return f"{number:05d}-{safe}.onnx" if safe else f"{number:05d}.onnx"


def _run_read(args: argparse.Namespace) -> int:
    key = load_key(args)
    with show_phase("reading", args.verbosity):
        found = read_stamp(open_original(args.original, key), args.suspect)
    if args.json:
        print_json(found.to_dict())
    else:
        print_headline(f"{args.suspect}: {found.headline()}")
        print_details(found, args)
    return 0 if found.payload is not None else 1


def _run_capacity(args: argparse.Namespace) -> int:
    capacity = count_stamp_capacity(open_original(args.model, load_key(args)))
    if args.json:
        print_json(capacity.to_dict())
    else:
        print_headline(f"{args.model}: {capacity.headline()}")
    return 0 if capacity.payload_bytes else 1


JOBS: dict[str, Job] = {
    "write": ("write a payload into the order of the units", _declare_write, _run_write),
    "read": ("read the payload in the order of a suspect's units", _declare_read, _run_read),
    "capacity": ("how long a payload may be", _declare_capacity, _run_capacity),
}
"""The jobs by name."""


def list_customers(path: str | None) -> list[bytes]:
    """Return the customers in a file, none without a path.

    Raises:
        UsageError: one is too long.
    """
    customers = [] if path is None else read_customers(Path(path))
    odd = next((c for c in customers if len(c) > MAX_PAYLOAD_BYTES), None)
    if odd is not None:
        raise UsageError(f"{path}: '{odd.decode()}' has over {MAX_PAYLOAD_BYTES} bytes; shorten it")
    return customers
