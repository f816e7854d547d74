"""Threads that fetch: a bounded number for the process, whatever asks for them.

Invariant: a thread lives only while there is work: nothing is left behind, and a child process (fork) begins with none.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["PARALLEL", "submit"]

#: Requests at once, of a process. Each holds up to `fetcher.REQUEST` bytes, twice where its file system copies.
PARALLEL = 8
_T = TypeVar("_T")


class _Pool:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = 0

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        with self._lock:
            self._work.append((future, call))
            if self._threads == PARALLEL:
                return future
            self._threads += 1
        try:
            # A daemon: a request that hangs must not keep the process from ending.
            threading.Thread(target=self._serve, name="mmflow-fetch", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            self._serve()
        return future

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._work:
                    self._threads -= 1
                    return
                future, call = self._work.popleft()
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001  (whoever waits gets it)
                future.set_exception(error)
            else:
                del call  # whoever waits may be the last to need what it holds
                future.set_result(result)
                del result
            del future


_lock = threading.Lock()
_pool: _Pool | None = None


def submit(call: Callable[[], _T]) -> Future[_T]:
    """Call it in one of the threads, in order."""
    global _pool  # noqa: PLW0603  (one for the process, made at its first use)
    with _lock:
        if _pool is None or _pool.pid != os.getpid():
            _pool = _Pool()
        pool = _pool
    return pool.submit(call)
