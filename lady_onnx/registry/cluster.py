"""The work of a registry on many machines, by Ray."""

from __future__ import annotations

import importlib
import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import LadyError, UsageError, to_one_line

LOCAL = "local"
"""The address that starts a cluster on this machine."""
CONNECT_TIMEOUT_S = 10
WAITING_TASKS = 64
"""So many tasks are handed to the cluster before the first is done."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def join_cluster(address: str) -> Iterator[None]:
    """Use a cluster.

    Args:
        address: as `ray.init` takes it: `auto`, `HOST:PORT`, `ray://HOST:PORT`; `local` starts one
            on this machine.

    Raises:
        UsageError: Ray is not installed.
        LadyError: there is no cluster at the address.
    """
    ray = _import_ray()
    try:
        _reach(address)
        ray.init(address=address, logging_level="error", log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        what = f"--ray {address}: no cluster there ({to_one_line(error)})"
        raise LadyError(f"{what}; start one with `ray start --head`") from None
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Check that something listens at an address: Ray itself would wait for minutes.

    Raises:
        OSError: nothing does.
        ValueError: it is no address.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()


def map_on_cluster(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Call a function with each of some items, on all machines; yield results as they come.

    The machines must have lady-onnx, and see the files that items name. A task whose machine dies
    is run again on another one.

    Args:
        function: the function. It raises nothing.
        items: the items.

    Raises:
        LadyError: the cluster fails.
    """
    ray = _import_ray()

    def run(item: Item) -> Result:
        return function(item)

    task = ray.remote(max_retries=3)(run)
    left = iter(items)
    waiting = [task.remote(item) for item in itertools.islice(left, WAITING_TASKS)]
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            for found in done:
                yield ray.get(found)
                waiting += [task.remote(item) for item in itertools.islice(left, 1)]
    except ray.exceptions.RayError as error:
        raise LadyError(f"the cluster fails: {to_one_line(error)}") from None


def build_index(uri: str, column: str, partitions: int, workers: int | None = None) -> None:
    """Index the vectors of a table on all machines.

    Args:
        uri: where the table lies.
        column: its vectors.
        partitions: into how many parts they are divided.
        workers: how many tasks build the index; one a processor of the cluster by default.

    Raises:
        UsageError: lance-ray is not installed.
    """
    ray = _import_ray()
    import lance_ray

    count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    lance_ray.create_index(
        uri,
        column,
        "IVF_SQ",
        metric="cosine",
        num_partitions=partitions,
        num_workers=count,
        replace=True,
    )


def _import_ray() -> Any:
    try:
        # both are told to lack before any work is done
        importlib.import_module("lance_ray")
        return importlib.import_module("ray")
    except ImportError:
        what = "--ray needs the extra `ray`: pip install 'lady-onnx[ray]'"
        raise UsageError(what) from None
