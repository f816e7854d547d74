"""What Linux and macOS have in common; see `system.System`."""

from __future__ import annotations

import fcntl
import mmap as _mmap
import os
import resource

__all__ = [
    "DELETES_OPEN",
    "GRANULARITY",
    "OPEN_FLAGS",
    "PAGE_SIZE",
    "find_data",
    "lock",
    "open_file",
    "read_bytes",
    "soft_limit",
    "sync_folder",
    "write_at",
]

GRANULARITY = _mmap.ALLOCATIONGRANULARITY
PAGE_SIZE = _mmap.PAGESIZE
OPEN_FLAGS = os.O_CLOEXEC
DELETES_OPEN = True

_LIMITS = {"address space": resource.RLIMIT_AS, "open files": resource.RLIMIT_NOFILE}


def open_file(path: str) -> int:
    """See `System.open_file`."""
    # O_NONBLOCK: opening a pipe must not wait for its writer; no effect on regular files.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def read_bytes(fd: int, length: int, offset: int) -> bytes:
    """See `System.read_bytes`."""
    return os.pread(fd, length, offset)


def write_at(fd: int, data: memoryview, offset: int) -> int:
    """See `System.write_at`."""
    return os.pwrite(fd, data, offset)


def find_data(fd: int, offset: int) -> tuple[int, int]:
    """See `System.find_data`."""
    begin = os.lseek(fd, offset, os.SEEK_DATA)
    return begin, os.lseek(fd, begin, os.SEEK_HOLE)


def lock(fd: int, *, shared: bool, wait: bool) -> None:
    """See `System.lock`."""
    fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def sync_folder(path: str) -> None:
    """See `System.sync_folder`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def soft_limit(which: str) -> int | None:
    """See `System.soft_limit`."""
    soft, _ = resource.getrlimit(_LIMITS[which])
    return None if soft == resource.RLIM_INFINITY else soft
