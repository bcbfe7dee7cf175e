"""Looks fingerprints up among a million, indexes them by Ray, and kills a writer at random.

    python benchmarks/lookup.py million [--count N] [--workers 1 2 4] [--queries N]
    python benchmarks/lookup.py kills [--times N]

The vectors are those of the population (`population.py make` first): each is turned towards a
mixture of all of its architecture, so that the mean and the covariance stay. Recall is
that of the index against a scan of all vectors. `kills` ends `registry add` at random moments and
counts what is there in the end. Needs the extras `ray`, `test` and `bench`. Seeded.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import lady_onnx as lady
from benchmarks.population import POPULATION, list_models
from lady_onnx.registry.cluster import build_index
from lady_onnx.registry.fingerprints import Fingerprint
from lady_onnx.registry.store import PARTITION_ROWS, TABLE, VECTORS, Registry
from lady_onnx.registry.vectors import LENGTH

BLOCK, ROUNDING = 50_000, 1e-6
NEAREST = 10
TURNED = 0.5
"""So far vectors are turned from the one that they are made of: the sine of the angle."""


def read_vectors() -> dict[str, np.ndarray]:
    """The vectors of the population's networks, by architecture.

    Returns:
        float32 [networks, 2, LENGTH], of length one.
    """
    found: dict[str, list[np.ndarray]] = {}
    for entry in Registry(POPULATION / "registry").list_entries():
        architecture = Path(entry.path).stem.rpartition("-")[0]
        own = np.array(list_vectors(entry.fingerprint), np.float32)
        found.setdefault(architecture, []).append(own / np.linalg.norm(own, axis=1, keepdims=True))
    return {name: np.array(vectors) for name, vectors in found.items()}


def list_vectors(own: Fingerprint) -> list[np.ndarray]:
    """The vectors of a fingerprint, in the order of the columns."""
    return [getattr(own, name) for name in VECTORS]


def draw_blocks(count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Vectors with the statistics of the population, int8 [at most BLOCK, 2, LENGTH]."""
    families = list(read_vectors().values())
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        which = rng.integers(0, len(families), size)
        block = np.empty((size, len(VECTORS), LENGTH), np.float32)
        for number, own in enumerate(families):
            here = np.flatnonzero(which == number)
            mean = own.mean(0)
            apart = own - mean
            weights = rng.standard_normal((here.size, len(own)))
            mixed = np.tensordot(weights, apart, 1) / np.sqrt(len(own))
            first = apart[rng.integers(0, len(own), here.size)]
            block[here] = mean + np.sqrt(1 - TURNED**2) * first + TURNED * mixed
        block *= 127 / np.abs(block).max(2, keepdims=True)
        yield np.rint(block).astype(np.int8)


def fill(folder: Path, count: int) -> np.ndarray:
    """Fills a registry, and returns its vectors."""
    import pyarrow as pa

    rng = np.random.default_rng(0)
    registry = Registry(folder, is_new=True)
    blocks = []
    for start, block in zip(range(0, count, BLOCK), draw_blocks(count, rng), strict=True):
        size = len(block)
        names = [f"/models/{start + k}.onnx" for k in range(size)]
        flat = [pa.array(block[:, k].astype(np.float16).ravel()) for k in range(len(VECTORS))]
        columns = {
            "path": names,
            **{n: [rng.bytes(32).hex() for _ in range(size)] for n in ("sha256", "exact")},
            "structure": [rng.bytes(32).hex()] * size,
            "bytes": [0] * size,
            "is_normal": [True] * size,
            "undecided": pa.nulls(size, pa.string()),
            **{
                n: pa.FixedSizeListArray.from_arrays(own, LENGTH)
                for n, own in zip(VECTORS, flat, strict=True)
            },
            "added": [0.0] * size,
        }
        registry._table.add(pa.table(columns, schema=registry._schema))
        blocks.append(block)
    return np.concatenate(blocks)


def list_queries(count: int) -> list[Fingerprint]:
    """The fingerprints of altered models of the population."""
    models = [m for m in list_models() if m["relation"] != "itself"]
    chosen = np.random.default_rng(1).permutation(len(models))[:count]
    return [lady.fingerprint(POPULATION / models[k]["file"]) for k in chosen]


def find_exactly(vectors: np.ndarray, queries: Sequence[Fingerprint]) -> list[float]:
    """How near the last of the nearest models of each query is, by a scan of all."""
    asked = np.array([list_vectors(q) for q in queries], np.float32)
    asked /= np.linalg.norm(asked, axis=2, keepdims=True)
    own, pruned = asked.transpose(1, 2, 0)
    best = np.full((len(queries), 0), 0.0, np.float32)
    for start in range(0, len(vectors), BLOCK):
        part = vectors[start : start + BLOCK].astype(np.float32)
        part /= np.linalg.norm(part, axis=2, keepdims=True)
        near = np.maximum(np.maximum(part[:, 0] @ own, part[:, 1] @ own), part[:, 0] @ pruned)
        scores = np.hstack([best, near.T])
        best = -np.partition(-scores, NEAREST, 1)[:, :NEAREST]
    return best.min(1).tolist()


class _Cluster:
    """The cluster of this process."""

    def close(self) -> None:
        import ray

        ray.shutdown()


class Memory:
    """Watches what this process and its children have in memory at most, in bytes."""

    def __init__(self) -> None:
        self.peak, self._stopped = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        while not self._stopped.wait(0.2):
            total = 0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try:
                    memory = process.memory_full_info()
                    total += memory.uss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def measure_lookup(registry: Registry, queries: Sequence[Fingerprint], truth: list[float]) -> str:
    """The time of a look-up, and the share of the nearest ones that it finds."""
    times, hits = [], 0
    registry.find_nearest(queries[0], NEAREST)
    for query, least in zip(queries, truth, strict=True):
        start = time.perf_counter()
        near = registry.find_nearest(query, NEAREST)
        times.append(time.perf_counter() - start)
        hits += sum(n.similarity > least - ROUNDING for n in near)
    recall = hits / (NEAREST * len(truth))
    return f"{np.median(times) * 1e3:.0f} | {max(times) * 1e3:.0f} | {recall:.2%}"


def measure_million(count: int, workers: list[int], queries: int) -> None:
    """Prints the time, memory and recall without an index, and with one built by Ray."""
    asked = list_queries(queries)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        vectors = fill(Path(folder) / "db", count)
        seconds = time.perf_counter() - start
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
        print(f"{count} fingerprints: written in {seconds:.0f} s, {size / 1e9:.2f} GB", flush=True)
        truth = find_exactly(vectors, asked)
        del vectors
        print("\n| index | seconds | memory, GB | look-up, ms | the slowest, ms | recall at 10 |")
        print("| --- " * 6 + "|")
        registry = Registry(Path(folder) / "db")
        print(f"| none | 0 | 0 | {measure_lookup(registry, asked, truth)} |", flush=True)
        uri = f"{folder}/db/{TABLE}.lance"
        import ray

        # more workers than processors may be asked for
        ray.init(num_cpus=max(workers), log_to_driver=False, logging_level="error")
        with contextlib.closing(_Cluster()):
            for number in workers:
                with Memory() as memory:
                    start = time.perf_counter()
                    for column in VECTORS:
                        build_index(uri, column, count // PARTITION_ROWS, number)
                    seconds = time.perf_counter() - start
                found = measure_lookup(Registry(Path(folder) / "db"), asked, truth)
                row = f"Ray, {number} workers | {seconds:.0f} | {memory.peak / 1e9:.1f} | {found}"
                print(f"| {row} |", flush=True)


def measure_kills(times: int) -> None:
    """Kills `registry add` at random moments, and prints what is there in the end."""
    rng = np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        models.mkdir()
        for k, model in enumerate(list_models()[: 40 * times]):
            shutil.copy(POPULATION / model["file"], models / f"{k:05}.onnx")
        command = [sys.executable, "-m", "lady_onnx", "registry", "add", str(models), "--db"]
        command.append(str(Path(folder) / "db"))
        sizes, killed = [], 0
        while killed < times:
            process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
            try:
                process.wait(float(rng.uniform(2, 20)))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            killed += 1
            paths = [e.path for e in _list_entries(Path(folder) / "db")]
            sizes.append(len(paths))
            assert len(paths) == len(set(paths)), "a model is there twice"
            assert sizes == sorted(sizes), "a model is lost"
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        paths = sorted(e.path for e in _list_entries(Path(folder) / "db"))
        wanted = sorted(str(p.resolve()) for p in models.iterdir())
        print(f"killed {killed} times, with {sizes} models in the registry then")
        print(f"in the end {len(paths)} of {len(wanted)}, all as they should be: {paths == wanted}")


def _list_entries(folder: Path) -> list[object]:
    try:
        return list(Registry(folder).list_entries())
    except lady.LadyError:
        # killed before there was a table
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("million", "kills"))
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--times", type=int, default=20)
    args = parser.parse_args()
    if args.what == "million":
        measure_million(args.count, args.workers, args.queries)
    else:
        measure_kills(args.times)


if __name__ == "__main__":
    main()
