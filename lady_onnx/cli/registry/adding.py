"""`lady-onnx registry add`: reads the fingerprints of models, and adds them in batches."""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path

from ...errors import LadyError, MissingFileError, to_one_line
from ...registry.cluster import join_cluster, map_on_cluster
from ...registry.identification import name_model, read_entry
from ...registry.store import Entry, Registry
from ...reporting import count_things
from ..console import print_headline, print_json, print_line
from ..files import Models, add_checkpoint_arguments
from ..progress import show_phase

BATCH, CLUSTER_BATCH = 64, 4096
"""So many models appear in the registry at once: from one process, and from a cluster."""
MODEL_ENDS = (".onnx",)
"""Files of a folder that are models, without `--graph`."""


def declare_registry(parser: argparse.ArgumentParser) -> None:
    """Declare what says which registry, and how checkpoints are read."""
    parser.add_argument("--db", metavar="FOLDER", required=True, help="the folder of the registry")
    add_checkpoint_arguments(parser)


def declare_add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `add`."""
    declare_registry(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="models, or folders of models")
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="work on a cluster of Ray: auto, HOST:PORT, or local"
    )


def list_ends(args: argparse.Namespace) -> tuple[str, ...]:
    """List how the names of files end that are models of a folder."""
    if args.graph is None:
        return MODEL_ENDS
    from ...checkpoints.files import CHECKPOINT_ENDS

    return tuple(CHECKPOINT_ENDS)


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


def run_add(args: argparse.Namespace) -> int:
    """Add models; the exit code is 2 where one cannot be read."""
    # an earlier call of this process may have read other files of these names
    _open_models.cache_clear()
    _open_models(_list_readers(args))
    paths = list_models(args.paths, list_ends(args))
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
