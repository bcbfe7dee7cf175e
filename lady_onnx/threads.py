"""Work by several threads, and products of numpy that use one.

Threads, and what limits those of BLAS, are loaded where they are used: small work needs neither.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import threadpoolctl

Item = TypeVar("Item")
Result = TypeVar("Result")

MIN_SHARED_ELEMENTS = 1 << 16
"""Work on fewer elements is over before another thread has begun."""


@contextmanager
def limit_products() -> Iterator[None]:
    """Let numpy's products use one thread each inside.

    Most products are small. Threads of BLAS spend more time on waiting for each other than on
    multiplying, and many times more if other programs use the processors.
    """
    with _load_blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _load_blas() -> threadpoolctl.ThreadpoolController:
    """Return what limits the threads of the libraries behind numpy's products."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


_thread_count: ContextVar[int | None] = ContextVar("thread_count", default=None)


@contextmanager
def limit_threads(count: int | None) -> Iterator[None]:
    """Let `map_in_threads` use so many threads inside.

    Args:
        count: how many; None: as many as outside, by default one a processor.
    """
    token = _thread_count.set(count or _thread_count.get())
    try:
        yield
    finally:
        _thread_count.reset(token)


@cache
def _count_processors() -> int:
    """Return the number of processors; the system is asked once, as it reads a file for that."""
    return os.cpu_count() or 1


@cache
def _start_threads(count: int) -> ThreadPoolExecutor:
    """Return threads that are there already, since they take longer to start than small work."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(count)


if hasattr(os, "register_at_fork"):
    # the threads of a process are not those of its child
    os.register_at_fork(after_in_child=_start_threads.cache_clear)


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], elements: int = MIN_SHARED_ELEMENTS
) -> list[Result]:
    """Call a function with each of some items, several at a time.

    Args:
        function: the function; it spends its time in numpy, which lets others run. What it maps
            itself runs one at a time.
        items: the items.
        elements: about how many elements of arrays the function works on in all items together.

    Returns:
        The results in the order of the items.
    """
    count = min(_thread_count.get() or _count_processors(), len(items))
    if count < 2 or elements < MIN_SHARED_ELEMENTS:
        return [function(item) for item in items]
    from concurrent.futures import wait

    results: dict[int, Result] = {}
    # Each thread takes the next item when it is done with one, so that small ones cost little.
    waiting = deque(range(len(items)))

    def work() -> None:
        while True:
            try:
                number = waiting.popleft()
            except IndexError:
                return
            try:
                results[number] = function(items[number])
            finally:
                # after an error the others end with the item that they have
                if number not in results:
                    waiting.clear()

    # a product that used all processors itself would wait for those of the other threads
    with limit_threads(1), limit_products():
        # numpy's handling of errors belongs to the context, which threads do not inherit
        contexts = [copy_context() for _ in range(count)]
        others = [_start_threads(count - 1).submit(context.run, work) for context in contexts[1:]]
        try:
            contexts[0].run(work)
        finally:
            # Nothing is left to do for what has not begun. It may wait for the very thread that
            # waits here, if an item maps others itself.
            begun = [other for other in others if not other.cancel()]
            wait(begun)
    for other in begun:
        other.result()
    return [results[number] for number in range(len(items))]
