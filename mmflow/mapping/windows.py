"""What mapping asks of Windows; see `system.System`. Mappings begin at multiples of 64 KiB, pages are of 4 KiB.

A file that is mapped can't be cut short here, so no guard is needed; nor can it be deleted.

Written by the documentation, and tested on Linux by running windows through it: no Windows was at hand.
"""

from __future__ import annotations

import contextlib
import errno
import mmap as _mmap
import os
import sys
import threading
import time

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

if sys.platform == "win32":
    import msvcrt

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

# Without O_BINARY, bytes are lost; without O_NOINHERIT, a child process keeps the file from being deleted.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
_reading = threading.Lock()
#: Locks are of bytes, which nobody else may read: of one that no lock file has (the C library takes 31 bits).
_LOCKED_BYTE = (1 << 31) - 2
_LOOK_AGAIN_SECONDS = 0.05


def open_file(path: str) -> int:
    """See `System.open_file`."""
    return os.open(path, _READ)


def read_at(fd: int, into: memoryview, offset: int) -> int:
    """See `System.read_at`. There is no pread: one thread at a time seeks, and reads."""
    with _reading:
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, len(into))
    into[: len(data)] = data
    return len(data)


def lock(fd: int, *, shared: bool, wait: bool) -> None:
    """See `System.lock`. There are no shared ones: whoever asks for one shuts out all others."""
    del shared
    if sys.platform == "win32":
        while True:
            with _reading, contextlib.suppress(PermissionError):
                os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
                return
            if not wait:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            time.sleep(_LOOK_AGAIN_SECONDS)


def soft_limit(which: str) -> int | None:
    """See `System.soft_limit`: there are none of these."""
    del which
    return None
