"""Heap of this process: freed memory that allocators keep.

    malloc of glibc     an arena a thread: numpy, the kernels
    mimalloc            pyarrow's, which keeps freed pages for a second or more; DataFusion's own can't be reached

Where memory is ample this saves page faults. Where the budget is small it would count for more than the rows
themselves: a sort with a budget of 256 MiB held 150 MiB of it.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time

import pyarrow as pa

__all__ = ["HeapWatch", "anonymous_bytes", "release_memory"]

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: With less, freed memory that allocators keep matters.
_AMPLE = 2 << 30
#: Seconds between checks, and at most after checks that returned little, or found much room.
_PAUSE, _LONGEST = 0.02, 0.5
#: Bytes by which a process may grow in a second: with more room than that, a check is not due sooner.
_GROWTH = 4 << 30


def release_memory() -> None:
    """Return freed memory to the system, which allocators keep for later requests."""
    pa.default_memory_pool().release_unused()
    if _malloc_trim is not None:
        _malloc_trim(0)


def anonymous_bytes() -> int:
    """Return this process's anonymous memory in bytes; 0 without /proc. It takes 10 µs, a fifth of `process_memory`."""
    try:
        with open("/proc/self/statm", "rb") as file:
            fields = file.read().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * _PAGE


def _use_system_pool() -> None:
    """Make pyarrow allocate by malloc, which returns memory on request. A pool that the user chose stays.

    pyarrow 26's mimalloc keeps freed pages for a second, and those of other threads longer.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ and pa.default_memory_pool().backend_name == "mimalloc":
        pa.set_memory_pool(pa.system_memory_pool())


class HeapWatch:
    """Watch over a process that makes allocators return memory beyond half of its budget. Thread-safe.

    Args:
        budget: Bytes of anonymous memory, beyond those that the process has now.
    """

    def __init__(self, budget: int) -> None:
        if budget < _AMPLE:
            _use_system_pool()
        self._limit = anonymous_bytes() + budget // 2
        self._lock = threading.Lock()
        self._due = 0.0
        self._pause = _PAUSE

    def check(self) -> None:
        """Return freed memory if the process is over half of its budget. Check 50 times a second where it is near."""
        if time.monotonic() < self._due or not self._lock.acquire(blocking=False):
            return
        try:
            before = anonymous_bytes()
            if before > self._limit:
                release_memory()
                little = before - anonymous_bytes() < before // 32
                self._pause = min(_LONGEST, 2 * self._pause) if little else _PAUSE
            else:
                self._pause = min(_LONGEST, max(_PAUSE, (self._limit - before) / _GROWTH))
            self._due = time.monotonic() + self._pause
        finally:
            self._lock.release()
