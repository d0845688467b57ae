"""Read and decode a little ahead of the network, in threads, in order and in constant memory."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from gsp_deploy.base.cores import available_cores
from gsp_deploy.errors import DataError

MOST_THREADS = 8

T = TypeVar("T")
R = TypeVar("R")


def decoding_threads() -> int:
    """Return the usual number of threads that decode: one per core, up to 8."""
    return min(MOST_THREADS, available_cores())


def worked_ahead(
    items: Iterable[T], work: Callable[[T], R], ahead: int, threads: int
) -> Iterator[tuple[T, R | DataError]]:
    """Yield each item with its result, in order, while threads work on the next ones.

    Args:
        items: read one by one, as far ahead as the work.
        work: called in a thread; a `DataError` becomes the item's result.
        ahead: items that may wait for their turn, beside one per thread.
        threads: number of threads.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    waiting: deque[tuple[T, Future[R]]] = deque()
    rest = iter(items)
    try:
        while True:
            for item in islice(rest, ahead + threads - len(waiting)):
                waiting.append((item, pool.submit(work, item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            try:
                yield item, future.result()
            except DataError as error:
                yield item, error
    finally:  # also if the caller stops early, so that no thread keeps working
        pool.shutdown(wait=True, cancel_futures=True)


def read_ahead(items: Iterable[T], ahead: int) -> Iterator[T]:
    """Yield the items while a thread reads up to `ahead` further ones.

    An error of the reading is raised at its place among the items.
    """
    waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(ahead)
    stopped = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    end = StopIteration()

    def read() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, end))
        except BaseException as error:
            put((None, error))

    reader = threading.Thread(target=read, name="read ahead", daemon=True)
    reader.start()
    try:
        while True:
            item, error = waiting.get()
            if error is end:
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        reader.join()
