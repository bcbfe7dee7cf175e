"""`lady-onnx registry`: many models, and what a suspect is to them; one sub-command a job."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import time
from collections.abc import Iterator, Sequence
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
from ...registry.cluster import join_cluster, map_on_cluster
from ...registry.identification import DEFAULT_CHECKS, identify, name_model, read_entry
from ...registry.store import Entry, Registry
from ...reporting import count_things
from ..arguments import (
    Job,
    add_jobs,
    add_limit_arguments,
    add_threads_argument,
    parse_amount,
    parse_positive,
)
from ..console import print_headline, print_json, print_line, print_report
from ..files import Models, add_checkpoint_arguments, claim_destination
from ..progress import show_phase
from .gates import (
    declare_claims,
    declare_gate,
    declare_webhook,
    run_claims,
    run_gate,
    run_webhook,
)

BATCH, CLUSTER_BATCH = 64, 4096
"""So many models appear in the registry at once: from one process, and from a cluster."""
MODEL_ENDS = (".onnx",)
"""Files of a folder that are models, without `--graph`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one sub-command a job."""
    add_jobs(parser, JOBS)


def run_command(args: argparse.Namespace) -> int:
    """Run a job."""
    return JOBS[args.job][2](args)


def _declare_registry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--db", metavar="FOLDER", required=True, help="the folder of the registry")
    add_checkpoint_arguments(parser)


def _declare_add(parser: argparse.ArgumentParser) -> None:
    _declare_registry(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="models, or folders of models")
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="work on a cluster of Ray: auto, HOST:PORT, or local"
    )


def _declare_remove(parser: argparse.ArgumentParser) -> None:
    _declare_registry(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="models, as they were added")


def _declare_identify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suspect", metavar="SUSPECT")
    _declare_checks(parser)


def _declare_checks(parser: argparse.ArgumentParser) -> None:
    _declare_registry(parser)
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


def list_models(paths: Sequence[str], ends: tuple[str, ...]) -> list[str]:
    """List the models of a call: files as they are given, and the models in folders, by name.

    Raises:
        MissingFileError: there is no model in a folder.
    """
    found: list[str] = []
    for given in paths:
        path = Path(given)
        if not given or not path.is_dir():
            found.append(given)
            continue
        inside = sorted(str(p) for p in path.rglob("*") if p.is_file() and p.name.endswith(ends))
        if not inside:
            what = f"no file in it ends with {' or '.join(ends)}"
            raise MissingFileError(f"{path}: {what}; give a folder of models")
        found += inside
    return list(dict.fromkeys(found))


class _Adder:
    """Adds models to a registry, in batches, and skips those that it has as they are.

    Args:
        args: the arguments of the call, which say which registry, and how models are read.

    Attributes:
        registry: the registry; None before it is made, by the first model that can be read.
        added: how many models are new.
        renewed: how many were known with other files.
        known: how many were known as they are.
        without_vector: how many of those that were added or renewed have no vector.
        errors: why others were left out.
    """

    def __init__(self, args: argparse.Namespace):
        is_there = "://" in args.db or Path(args.db).exists()
        self.registry = Registry(args.db, is_new=True) if is_there else None
        self._args = args
        self.errors: list[str] = []
        self.added = self.renewed = self.known = self.without_vector = 0

    def add(self, paths: Sequence[str]) -> None:
        """Add models; all of them appear in the registry together."""
        names: dict[str, str] = {}
        for path in paths:
            try:
                # one file may have several paths
                names.setdefault(name_model(path), path)
            except LadyError as error:
                self.errors.append(to_one_line(error))
        before = {} if self.registry is None else self.registry.find(list(names))
        known = {name: entry.sha256 for name, entry in before.items()}
        tasks = [(path, known.get(name)) for name, path in names.items()]
        read = functools.partial(_read_entry, _list_readers(self._args))
        found = list(map(read, tasks) if self._args.ray is None else map_on_cluster(read, tasks))
        new = [e for e in found if isinstance(e, Entry)]
        if new and self.registry is None:
            self.registry = Registry(self._args.db, is_new=True)
        if self.registry is not None:
            self.registry.add(new)
        self.added += sum(e.path not in known for e in new)
        self.renewed += sum(e.path in known for e in new)
        self.without_vector += sum(not e.fingerprint.vector.any() for e in new)
        self.known += sum(e is None for e in found)
        self.errors += [e for e in found if isinstance(e, str)]


Readers = tuple[str | None, str | None, tuple[str, ...]]
"""What checkpoints are read with: `--graph`, `--like` and `--ignore`."""


def _list_readers(args: argparse.Namespace) -> Readers:
    return args.graph, args.like, tuple(args.ignore)


@functools.lru_cache(maxsize=1)
def _open_models(readers: Readers) -> Models:
    """Read the graph of checkpoints, once for each call and process."""
    graph, like, ignore = readers
    return Models(argparse.Namespace(command="registry", graph=graph, like=like, ignore=ignore))


def _read_entry(readers: Readers, task: tuple[str, str | None]) -> Entry | str | None:
    """Read what the registry keeps of a model.

    Args:
        readers: what checkpoints are read with.
        task: its path, and the SHA-256 that it is known with.

    Returns:
        None where it is known as it is, and a line where it cannot be read.
    """
    path, known = task
    try:
        return read_entry(path, _open_models(readers).load, known)
    except LadyError as error:
        return to_one_line(error)


def _run_add(args: argparse.Namespace) -> int:
    # an earlier call of this process may have read other files of these names
    _open_models.cache_clear()
    _open_models(_list_readers(args))
    paths = list_models(args.paths, _list_ends(args))
    adder = _Adder(args)
    with contextlib.ExitStack() as stack:
        if args.ray is not None:
            stack.enter_context(join_cluster(args.ray))
        progress = stack.enter_context(show_phase("adding", args.verbosity, is_counted=True))
        batch = BATCH if args.ray is None else CLUSTER_BATCH
        for start in range(0, len(paths), batch):
            adder.add(paths[start : start + batch])
            progress(min(start + batch, len(paths)), len(paths))
        if adder.registry is None:
            more = len(adder.errors) - 1
            rest = f"; {count_things(more, 'more model')} cannot be read either" if more else ""
            raise LadyError(f"{adder.errors[0]}; nothing was added{rest}")
        adder.registry.build_index(on_cluster=args.ray is not None)
    _print_added(adder, len(adder.registry), args)
    return 2 if adder.errors else 0


def _print_added(adder: _Adder, size: int, args: argparse.Namespace) -> None:
    if args.json:
        counts = ("added", "renewed", "known", "without_vector")
        fields = {name: getattr(adder, name) for name in counts}
        print_json({"schema_version": 1, **fields, "size": size, "errors": adder.errors})
        return
    many = count_things(adder.added, "model")
    renewed = f", {adder.renewed} renewed" if adder.renewed else ""
    print_headline(f"{args.db}: {many} added{renewed}, {adder.known} known before, {size} in all")
    if adder.without_vector:
        print_line(f"{adder.without_vector} without a vector: only exact copies of them are found")
    for line in adder.errors:
        print_line(f"left out: {line}")


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


def _list_ends(args: argparse.Namespace) -> tuple[str, ...]:
    if args.graph is None:
        return MODEL_ENDS
    from ...checkpoints.files import CHECKPOINT_ENDS

    return tuple(CHECKPOINT_ENDS)


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
    for path in _wait_for_files(Path(args.folder), _list_ends(args), args.interval, args.once):
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
    "add": ("add models, or folders of models", _declare_add, _run_add),
    "remove": ("take models out; their files stay", _declare_remove, _run_remove),
    "identify": ("which models is a suspect a copy of?", _declare_identify, _run_identify),
    "scan": ("which models of the registry are relatives?", _declare_scan, _run_scan),
    "watch": ("identify and add what appears in a folder", _declare_watch, _run_watch),
    "claims": ("are models made of what their cards claim?", declare_claims, run_claims),
    "gate": ("may a version of a model in MLflow pass?", declare_gate, run_gate),
    "serve-webhook": ("put each new version in MLflow to the gate", declare_webhook, run_webhook),
}
"""The jobs by name."""
