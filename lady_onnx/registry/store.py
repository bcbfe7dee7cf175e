"""A folder that keeps the fingerprints of many models, in a table of LanceDB.

Every change of the table appears whole or not at all: LanceDB writes new files and then a manifest
that names them. Two writers that add one path at the same moment would both add a row, so writers
wait for each other. What this module adds is that, and what a row says.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LadyError, MissingFileError, UsageError, to_one_line
from . import cluster
from .fingerprints import FORMAT, Fingerprint, compare_fingerprints
from .vectors import LENGTH

TABLE, LOCK = "models", ".lock"
VECTORS = ("vector", "pruned_vector")
"""The columns of vectors."""
MIN_INDEXED_ROWS = 1 << 16
"""A table with fewer rows is read whole, which is exact and takes less than half a second."""
PARTITION_ROWS = 4096
"""About so many vectors lie in one partition of the index."""
PROBES, REFINED = 40, 10
"""So many partitions are looked at, and so many times more vectors are compared in full."""
SPARE = 4
"""So many times more neighbours are asked for: LanceDB computes in half precision."""
WRITE_ATTEMPTS = 8
"""Writers that meet try so often."""


@dataclass(frozen=True)
class Entry:
    """A model that the registry knows.

    Attributes:
        path: its path, or its address.
        sha256: SHA-256 of its files, one after the other, as hexadecimal digits.
        bytes: the length of its files.
        fingerprint: its fingerprint.
        added: when it was added, UTC, seconds since 1970.
    """

    path: str
    sha256: str
    bytes: int
    fingerprint: Fingerprint
    added: float = 0.0


@dataclass(frozen=True)
class Neighbour:
    """A model that is near another one.

    Attributes:
        entry: the model.
        similarity: of the vectors; see `compare_fingerprints`.
    """

    entry: Entry
    similarity: float


class Registry:
    """The fingerprints of many models, by path.

    Args:
        folder: where they are kept: a folder, or an address that LanceDB knows. At an address
            writers do not wait for each other, so let one write at a time.
        is_new: whether the folder is made where it lacks.

    Raises:
        MissingFileError: there is no registry, and none is to be made.
        LadyError: it cannot be opened, or another version of lady-onnx made other fingerprints.
        UsageError: LanceDB is not installed.
    """

    def __init__(self, folder: str | Path, *, is_new: bool = False):
        try:
            import filelock
            import lancedb
            import pyarrow
        except ImportError:
            what = "the registry needs the extra `registry`: pip install 'lady-onnx[registry]'"
            raise UsageError(what) from None
        # it warns of forks, and what is forked here runs another program at once
        warnings.filterwarnings("ignore", "lance(db fork| is not fork)")
        self.folder = str(folder)
        if not self.folder:
            raise UsageError("an empty path; give the folder of the registry")
        self._lock: AbstractContextManager[Any] = nullcontext()
        if "://" not in self.folder:
            if is_new:
                try:
                    Path(folder).mkdir(parents=True, exist_ok=True)
                    inside = {p.name for p in Path(folder).iterdir()}
                except OSError as error:
                    what = f"cannot be a registry ({to_one_line(error)})"
                    raise LadyError(f"{folder}: {what}; give a folder") from None
                if inside and not inside & {LOCK, f"{TABLE}.lance"}:
                    what = "holds other files and no registry; give an empty folder, or a new name"
                    raise LadyError(f"{folder}: {what}")
            elif not Path(folder).is_dir():
                what = "no such registry; `lady-onnx registry add` makes one"
                raise MissingFileError(f"{folder}: {what}")
            # the system gives it back when its holder dies
            self._lock = filelock.FileLock(Path(folder) / LOCK)
        self._arrow = pyarrow
        self._schema = pyarrow.schema(
            [
                *((n, pyarrow.string()) for n in ("path", "sha256", "structure", "exact")),
                ("bytes", pyarrow.int64()),
                ("is_normal", pyarrow.bool_()),
                ("undecided", pyarrow.string()),
                *((n, pyarrow.list_(pyarrow.float16(), LENGTH)) for n in VECTORS),
                ("added", pyarrow.float64()),
            ],
            {"format": FORMAT},
        )
        try:
            database = lancedb.connect(self.folder)
            with self._lock if is_new else nullcontext():
                self._table = self._open_table(database, is_new)
        except (OSError, RuntimeError, ValueError) as error:
            what = f"cannot be opened as a registry ({to_one_line(error)})"
            raise LadyError(f"{folder}: {what}; `lady-onnx registry add` makes one") from None
        found = (self._table.schema.metadata or {}).get(b"format", b"").decode()
        if found != FORMAT:
            what = f"holds fingerprints of another format ('{found}'), not '{FORMAT}'"
            raise LadyError(f"{folder}: {what}; add the models to a new folder")

    def _open_table(self, database: Any, is_new: bool) -> Any:
        """Open the table, or make it where it lacks and may be made."""
        try:
            return database.open_table(TABLE)
        except (OSError, RuntimeError, ValueError):
            if not is_new:
                raise
            return database.create_table(TABLE, schema=self._schema)

    def __len__(self) -> int:
        self._table.checkout_latest()
        return int(self._table.count_rows())

    def add(self, entries: Sequence[Entry]) -> None:
        """Add models, or put them in the place of those that have their paths.

        All of them appear together, or none.
        """
        if not entries:
            return
        rows = [self._make_row(replace(e, added=e.added or time.time())) for e in entries]
        table = self._arrow.Table.from_pylist(rows, self._schema)
        for attempt in range(WRITE_ATTEMPTS):
            try:
                with self._lock:
                    self._table.checkout_latest()
                    merge = self._table.merge_insert("path").when_matched_update_all()
                    merge.when_not_matched_insert_all().execute(table)
                return
            except (OSError, RuntimeError) as error:
                # another writer was first; its change is read, and ours is tried again
                if "conflict" not in str(error).lower() or attempt == WRITE_ATTEMPTS - 1:
                    what = f"cannot be written ({to_one_line(error)})"
                    raise LadyError(f"{self.folder}: {what}; check the disk") from None
                time.sleep(0.05 * 2**attempt)

    def find(self, paths: Sequence[str]) -> dict[str, Entry]:
        """Return the models of some paths, those that are known."""
        found = self._search(f"path IN ({', '.join(_quote(p) for p in paths)})") if paths else []
        return {e.path: e for e in found}

    def find_copies(self, fingerprint: Fingerprint) -> list[Entry]:
        """Return the models that are equal, bit for bit, up to the order of units."""
        return self._search(f"exact = {_quote(fingerprint.exact)}")

    def find_nearest(self, fingerprint: Fingerprint, count: int) -> list[Neighbour]:
        """Return the models with the nearest vectors, the nearest first.

        Either model may have been pruned; see `compare_fingerprints`.

        Args:
            fingerprint: of the model that is looked for.
            count: how many.
        """
        if not fingerprint.vector.any():
            return []
        self._table.checkout_latest()
        indexed = self._list_indexed()
        own, pruned = fingerprint.vector, fingerprint.pruned_vector
        found: dict[str, Entry] = {}
        for vector, column in (own, VECTORS[0]), (own, VECTORS[1]), (pruned, VECTORS[0]):
            query = self._table.search(vector.astype(np.float32), column).distance_type("cosine")
            query = query.limit(SPARE * count)
            if column in indexed:
                query = query.nprobes(PROBES).refine_factor(REFINED)
            entries = map(self._read_row, query.to_arrow().to_pylist())
            found.update((e.path, e) for e in entries if e.fingerprint.vector.any())
        near = [
            Neighbour(e, compare_fingerprints(fingerprint, e.fingerprint)) for e in found.values()
        ]
        return sorted(near, key=lambda n: (-n.similarity, n.entry.path))[:count]

    def _list_indexed(self) -> set[str]:
        """List the columns that have an index."""
        return {column for index in self._table.list_indices() for column in index.columns}

    def list_entries(self) -> Iterator[Entry]:
        """Yield all models."""
        self._table.checkout_latest()
        for batch in self._table.search().limit(self._table.count_rows()).to_batches():
            for row in batch.to_pylist():
                yield self._read_row(row)

    def remove(self, paths: Sequence[str]) -> None:
        """Take models out."""
        if not paths:
            return
        with self._lock:
            self._table.checkout_latest()
            self._table.delete(f"path IN ({', '.join(_quote(p) for p in paths)})")

    def build_index(self, on_cluster: bool = False) -> bool:
        """Index the vectors where there are many; return whether there is an index.

        Args:
            on_cluster: whether Ray does it, on the cluster that was joined.
        """
        count = len(self)
        if count < MIN_INDEXED_ROWS:
            return False
        partitions = count // PARTITION_ROWS
        from lancedb.index import IvfSq

        with self._lock:
            indexed = self._list_indexed()
            if indexed:
                self._table.optimize()
            # one may lack where the building was ended in between
            for column in VECTORS:
                if column in indexed:
                    continue
                if on_cluster:
                    cluster.build_index(f"{self.folder}/{TABLE}.lance", column, partitions)
                    continue
                config = IvfSq(distance_type="cosine", num_partitions=partitions)
                self._table.create_index(column, config=config)
        return True

    def _search(self, condition: str) -> list[Entry]:
        self._table.checkout_latest()
        query = self._table.search().where(condition).limit(self._table.count_rows())
        return sorted(map(self._read_row, query.to_arrow().to_pylist()), key=lambda e: e.path)

    @staticmethod
    def _make_row(entry: Entry) -> dict[str, Any]:
        own = entry.fingerprint
        return {
            **{n: getattr(entry, n) for n in ("path", "sha256", "bytes", "added")},
            **{n: getattr(own, n) for n in ("structure", "exact", "is_normal", "undecided")},
            **{n: getattr(own, n).astype(np.float16) for n in VECTORS},
        }

    @staticmethod
    def _read_row(row: dict[str, Any]) -> Entry:
        vectors = (np.asarray(row[n], np.float32).astype(np.int8) for n in VECTORS)
        own = Fingerprint(
            row["structure"], row["exact"], row["is_normal"], row["undecided"], *vectors
        )
        return Entry(row["path"], row["sha256"], row["bytes"], own, row["added"])


def _quote(text: str) -> str:
    """Return a text as SQL has it."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"
