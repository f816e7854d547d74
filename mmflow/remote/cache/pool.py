"""Threads that fetch: a number for the process that follows what its servers and its network give.

    requests in flight = bandwidth x latency / bytes of a request

Neither factor is known, so their product is looked for: the number grows for as long as more requests at once bring
more bytes a second, and is halved where a server asks for fewer.

Invariant: a thread lives only while there is work: nothing is left behind, and a child process (fork) begins with none.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from mmflow.remote.responses import Part

__all__ = ["FIRST", "MOST", "Width", "slow_down", "submit"]

#: Requests in flight of a process, to begin with and at most. Each holds up to `fetcher.REQUEST` bytes, twice where its
#: file system copies: 256 MiB at most.
FIRST, MOST = 8, 32
#: More requests are worth it where they bring so many times the bytes a second.
_WORTH = 1.1
_GROWTH = 1.5
#: Seconds after which a number that was found is tried anew: a network changes.
_SETTLED_SECONDS = 10.0
_T = TypeVar("_T")


class Width:
    """Number of requests in flight, from the bytes a second that came with earlier numbers. Not thread-safe.

    Attributes:
        limit: The number.

    >>> width = Width()
    >>> for second in range(1, 60):  # a network that carries 20 requests at once, of which each takes a second
    ...     for _ in range(width.limit):
    ...         width.came(min(width.limit, 20) * 1000 // width.limit, float(second))
    >>> 18 <= width.limit <= 30
    True
    """

    def __init__(self) -> None:
        self.limit = FIRST
        self._best = 0.0
        self._before = FIRST
        self._settled: float | None = None
        self._begun: float | None = None
        self._bytes = self._count = 0

    def idle(self) -> None:
        """Forget the round that is measured: there were fewer requests than the limit."""
        self._begun = None

    def came(self, nbytes: int, now: float) -> None:
        """Count the bytes of a request that ended while others waited for their turn."""
        if self._settled is not None:
            if now - self._settled < _SETTLED_SECONDS:
                return
            self._settled, self._best = None, 0.0
        if self._begun is None:
            self._begun, self._bytes, self._count = now, 0, 0
            return
        self._bytes += nbytes
        self._count += 1
        if self._count < self.limit or now <= self._begun:
            return
        rate = self._bytes / (now - self._begun)
        self._begun = None
        if rate < _WORTH * self._best:
            self.limit, self._settled = self._before, now
            return
        self._best, self._before = rate, self.limit
        if self.limit == MOST:
            self._settled = now
        self.limit = min(MOST, max(self.limit + 1, int(_GROWTH * self.limit)))

    def slow_down(self, now: float) -> None:
        """Halve the number: a server asks for fewer requests."""
        self.limit = self._before = max(1, self.limit // 2)
        self._begun, self._settled = None, now


class _Pool:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = 0
        self._width = Width()

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        with self._lock:
            self._work.append((future, call))
            if self._threads >= self._width.limit:
                return future
            self._threads += 1
        if not self._start():
            with self._lock:
                self._threads += 1
            self._serve()
        return future

    def _start(self) -> bool:
        """Start a thread that is counted already; False: the system has none left, and it is not counted any more."""
        try:
            # A daemon: a request that hangs must not keep the process from ending.
            threading.Thread(target=self._serve, name="mmflow-fetch", daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._threads -= 1
            return False
        return True

    def slow_down(self) -> None:
        with self._lock:
            self._width.slow_down(time.monotonic())

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._work or self._threads > self._width.limit:
                    self._threads -= 1
                    if not self._work:
                        self._width.idle()
                    return
                future, call = self._work.popleft()
                more = bool(self._work) and self._threads < self._width.limit
                self._threads += more
            if more:
                self._start()
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001  (whoever waits gets it)
                future.set_exception(error)
            else:
                del call  # whoever waits may be the last to need what it holds
                if isinstance(result, Part):
                    with self._lock:
                        if self._work:
                            self._width.came(len(result.data), time.monotonic())
                future.set_result(result)
                del result
            del future


_lock = threading.Lock()
_pool: _Pool | None = None


def _pool_of_process() -> _Pool:
    global _pool  # noqa: PLW0603  (one for the process, made at its first use)
    with _lock:
        if _pool is None or _pool.pid != os.getpid():
            _pool = _Pool()
        return _pool


def submit(call: Callable[[], _T]) -> Future[_T]:
    """Call it in one of the threads, in order."""
    return _pool_of_process().submit(call)


def slow_down() -> None:
    """Halve the number of requests in flight: a server asks for fewer."""
    _pool_of_process().slow_down()
