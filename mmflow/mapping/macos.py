"""What mapping asks of macOS; see `system.System`. Pages are of 16 KiB on Apple's processors.

Written by the documentation, and tested on Linux by running windows through it: no Mac was at hand.
"""

from __future__ import annotations

import fcntl
import mmap as _mmap
import os
import resource
from typing import TYPE_CHECKING

from mmflow.mapping.python_mmap import map_file, not_offered, unmap

if TYPE_CHECKING:
    from mmflow.mapping.system import FileAdvice, PageAdvice

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


def reopen(fd: int) -> int:
    """See `System.reopen`: /dev/fd gives a duplicate here, which shares its place, and is of no use."""
    del fd
    raise not_offered("reopening")


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


def advise(address: int, length: int, advice: PageAdvice) -> None:
    """See `System.advise`; none is given."""
    del address, length
    raise not_offered(f"advice ({advice})")


def advise_file(fd: int, offset: int, length: int, advice: FileAdvice) -> None:
    """See `System.advise_file`; there is none."""
    del fd, offset, length, advice


def mincore(address: int, length: int) -> bytes:
    """See `System.mincore`; it can't be told."""
    del address, length
    raise not_offered("mincore")


def cachestat(fd: int, offset: int, length: int) -> int:
    """See `System.cachestat`; it can't be told."""
    del fd, offset, length
    raise not_offered("cachestat")


def file_system_name(fd: int) -> str:
    """See `System.file_system_name`; it is not looked for."""
    del fd
    return ""
