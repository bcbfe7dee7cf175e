"""`lady-onnx registry`: many models, and what a suspect is to them; one sub-command a job."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import (
    LadyError,
    MissingFileError,
    OutputError,
    UnknownNameError,
    to_one_line,
)
from ...graph.files import open_atomically
from ...registry.identification import DEFAULT_CHECKS, identify, name_model, read_entry
from ...registry.store import Registry
from ...reporting import count_things, format_table
from ..arguments import (
    QUIET,
    Job,
    add_jobs,
    add_limit_arguments,
    add_threads_argument,
    parse_amount,
    parse_positive,
)
from ..console import print_headline, print_json, print_line, print_report
from ..files import Models, claim_destination
from ..progress import show_phase
from .adding import declare_add, declare_registry, list_ends, run_add
from .gates import (
    declare_claims,
    declare_gate,
    declare_webhook,
    run_claims,
    run_gate,
    run_webhook,
)

SHOWN_DIGITS = 12
"""So many digits of a hash tell copies apart at a glance; `--json` has them all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one sub-command a job."""
    add_jobs(parser, JOBS)


def run_command(args: argparse.Namespace) -> int:
    """Run a job."""
    return JOBS[args.job][2](args)


def _declare_remove(parser: argparse.ArgumentParser) -> None:
    declare_registry(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="models, as they were added")


def _declare_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--db", metavar="FOLDER", required=True, help="the folder of the registry")


def _declare_identify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suspect", metavar="SUSPECT")
    _declare_checks(parser)


def _declare_checks(parser: argparse.ArgumentParser) -> None:
    declare_registry(parser)
    parser.add_argument(
        "--checks",
        type=parse_positive,
        default=DEFAULT_CHECKS,
        metavar="N",
        help=f"compare the N nearest models ({DEFAULT_CHECKS})",
    )
    add_limit_arguments(parser)
    add_threads_argument(parser)


def _declare_scan(parser: argparse.ArgumentParser) -> None:
    _declare_checks(parser)
    parser.add_argument("--dot", metavar="FILE.dot", help="draw the families, for Graphviz")


def _declare_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument(
        "--interval", type=parse_amount, default=5.0, metavar="SECONDS", help="look that often (5)"
    )
    parser.add_argument("--once", action="store_true", help="end once all files are known")
    _declare_checks(parser)


def _run_remove(args: argparse.Namespace) -> int:
    registry = Registry(args.db)
    names = list(dict.fromkeys(name_model(path) for path in args.paths))
    unknown = [n for n in names if n not in registry.find(names)]
    if unknown:
        raise UnknownNameError(f"{args.db}: has no model '{unknown[0]}'; nothing was removed")
    registry.remove(names)
    if args.json:
        print_json({"schema_version": 1, "removed": len(names), "size": len(registry)})
    else:
        many = count_things(len(names), "model")
        print_headline(f"{args.db}: {many} removed, {len(registry)} are left")
    return 0


def _run_list(args: argparse.Namespace) -> int:
    # a million fingerprints do not fit into memory, but what is printed of them does
    listed = sorted(
        (e.path, e.bytes, e.added, e.sha256, e.fingerprint.structure, e.fingerprint.exact)
        for e in Registry(args.db).list_entries()
    )
    if args.json:
        names = ("path", "bytes", "added", "sha256", "structure", "exact")
        models = [dict(zip(names, row, strict=True)) for row in listed]
        print_json({"schema_version": 1, "models": models})
        return 0
    print_headline(f"{args.db}: {count_things(len(listed), 'model')}")
    rows = [
        (path, size, time.strftime("%Y-%m-%d %H:%M", time.gmtime(added)), exact[:SHOWN_DIGITS])
        for path, size, added, _, _, exact in listed
    ]
    if args.verbosity > QUIET:
        for line in format_table(("path", "bytes", "added (UTC)", "exact hash"), rows):
            print_line(line)
    return 0


def _list_options(args: argparse.Namespace) -> dict[str, Any]:
    return {n: getattr(args, n) for n in ("threads", "timeout", "memory")}


def _run_identify(args: argparse.Namespace) -> int:
    registry, models = Registry(args.db), Models(args)
    with show_phase("identifying", args.verbosity):
        found = identify(
            args.suspect, registry, checks=args.checks, load=models.load, **_list_options(args)
        )
    print_report(found, args)
    if not found.is_answered:
        return 2
    return 0 if found.relatives else 1


def _run_scan(args: argparse.Namespace) -> int:
    # it loads what no other job needs
    from ...registry.families import find_families

    registry, models = Registry(args.db), Models(args)
    out = _claim_drawing(args, registry, models) if args.dot else None
    with show_phase("scanning", args.verbosity):
        found = find_families(registry, checks=args.checks, load=models.load, **_list_options(args))
    if out is not None:
        with open_atomically(out) as file:
            file.write(found.to_dot().encode())
    print_report(found, args, args.db)
    return 2 if found.unread else 0


def _claim_drawing(args: argparse.Namespace, registry: Registry, models: Models) -> Path:
    """Return where the drawing goes: no file of the registry, and no model that it knows."""
    out = claim_destination(Path(args.dot), models.list_files())
    place = out.resolve()
    if place.is_relative_to(Path(args.db).resolve()) or registry.find([str(place)]):
        raise OutputError(f"{out}: would overwrite a model, or the registry; choose another name")
    return out


def _run_watch(args: argparse.Namespace) -> int:
    registry, models = Registry(args.db, is_new=True), Models(args)
    code = 0
    for path in _wait_for_files(Path(args.folder), list_ends(args), args.interval, args.once):
        try:
            known = registry.find([name_model(path)]).values()
            entry = read_entry(path, models.load, next((e.sha256 for e in known), None))
            if entry is None:
                continue
            found = identify(
                path, registry, checks=args.checks, load=models.load, **_list_options(args)
            )
        except LadyError as error:
            line = {"suspect": path, "error": to_one_line(error)}
            print_line(json.dumps(line) if args.json else f"left out: {line['error']}")
            code = 2
            continue
        # what was read before: a file that is exchanged meanwhile is identified at the next look
        registry.add([entry])
        code = code if found.is_answered else 2
        if args.json:
            print_line(json.dumps(found.to_dict(), allow_nan=False))
        else:
            print_line(f"{path}: {found.headline()}")
    return code


def _wait_for_files(
    folder: Path, ends: tuple[str, ...], interval: float, is_once: bool
) -> Iterator[str]:
    """Yield files that are new or changed, once they are written."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder; give the folder to watch")
    done: dict[Path, tuple[int, int]] = {}
    before: dict[Path, tuple[int, int]] = {}
    while True:
        files = (p for p in sorted(folder.rglob("*")) if p.name.endswith(ends) and p.is_file())
        now = {p: _stamp(p) for p in files}
        for path, stamp in now.items():
            # a file that still grows has another stamp at the next look
            if stamp != done.get(path) and (is_once or stamp == before.get(path)):
                done[path] = stamp
                yield str(path)
        if is_once:
            return
        before = now
        time.sleep(interval)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


JOBS: dict[str, Job] = {
    "add": ("add models, or folders of models", declare_add, run_add),
    "remove": ("take models out; their files stay", _declare_remove, _run_remove),
    "list": ("list the models that it has", _declare_list, _run_list),
    "identify": ("which models is a suspect a copy of?", _declare_identify, _run_identify),
    "scan": ("which models of the registry are relatives?", _declare_scan, _run_scan),
    "watch": ("identify and add what appears in a folder", _declare_watch, _run_watch),
    "claims": ("are models made of what their cards claim?", declare_claims, run_claims),
    "gate": ("may a version of a model in MLflow pass?", declare_gate, run_gate),
    "serve-webhook": ("put each new version in MLflow to the gate", declare_webhook, run_webhook),
}
"""The jobs by name."""
