"""What mapping asks of macOS; see `system.System`. Pages are of 16 KiB on Apple's processors.

Written by the documentation, and tested on Linux by running windows through it: no Mac was at hand.
"""

from __future__ import annotations

import fcntl
import mmap as _mmap
import os
import resource

from mmflow.mapping.portable import (
    advise,
    advise_file,
    cachestat,
    file_system_name,
    map_file,
    mincore,
    reopen,
    unmap,
)

__all__ = [
    "GRANULARITY",
    "PAGE_SIZE",
    "advise",
    "advise_file",
    "cachestat",
    "file_system_name",
    "lock",
    "map_file",
    "mincore",
    "open_file",
    "read_at",
    "reopen",
    "soft_limit",
    "unmap",
]

GRANULARITY = _mmap.ALLOCATIONGRANULARITY
PAGE_SIZE = _mmap.PAGESIZE

_LIMITS = {"address space": resource.RLIMIT_AS, "open files": resource.RLIMIT_NOFILE}


def open_file(path: str) -> int:
    """See `System.open_file`."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def read_at(fd: int, into: memoryview, offset: int) -> int:
    """See `System.read_at`."""
    data = os.pread(fd, len(into), offset)
    into[: len(data)] = data
    return len(data)


def lock(fd: int, *, shared: bool, wait: bool) -> None:
    """See `System.lock`."""
    fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def soft_limit(which: str) -> int | None:
    """See `System.soft_limit`."""
    soft, _ = resource.getrlimit(_LIMITS[which])
    return None if soft == resource.RLIM_INFINITY else soft
