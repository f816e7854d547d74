"""Short jobs on a few threads, their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

__all__ = ["run_in_order"]

T = TypeVar("T")
_WAIT_SECONDS = 0.1


def run_in_order(jobs: Iterator[Callable[[], T]], workers: int) -> Generator[T, None, None]:
    """Yield the results of jobs, in their order.

    At most `2 * workers` jobs run ahead of the consumer, at first only one, so that stopping early wastes little.
    Raises the error of a job; the remaining jobs are then dropped.
    """
    first = next(jobs, None)
    if first is None:
        return
    yield first()
    ahead = 2
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(workers, "mmflow-access")
    try:
        while True:
            while len(waiting) < ahead and (job := next(jobs, None)) is not None:
                waiting.append(pool.submit(job))
            if not waiting:
                return
            yield _result(waiting.popleft())
            ahead = min(2 * ahead, 2 * workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[T]) -> T:
    """Return a future's result. Polls, since a signal delivered to another thread doesn't wake a waiting one."""
    while True:
        try:
            return future.result(_WAIT_SECONDS)
        except FutureTimeoutError:
            if future.done():
                return future.result(0)  # or it is the job's own
