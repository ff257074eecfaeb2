"""Work in threads, results in order, never more than a few results ahead of whoever takes them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Cores this process may use (containers and taskset included)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[T], R], inputs: Iterable[T], *, threads: int = 0, ahead: int = 0) -> Iterator[R]:
    """`map` with `threads` workers (0: one per core) and at most `ahead` results in flight (default 4 per worker).

    Inputs are drawn lazily. An exception in a worker reaches the caller at that input's place; leaving early
    (an exception, Ctrl-C, `close`) drops the work that has not begun and waits for the few calls that have.
    """
    threads = threads or cores()
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="neocog-data")
    try:
        for item in inputs:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= (ahead or 4 * threads):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
