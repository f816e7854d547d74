"""What mapping asks of Windows; see `system.System`. Mappings begin at multiples of 64 KiB, pages are of 4 KiB.

A file that is mapped can't be cut short here, so no guard is needed; nor can it be deleted.

Written by the documentation, and tested on Linux by running windows through it: no Windows was at hand.
"""

from __future__ import annotations

import mmap as _mmap
import os
import sys
import threading
from typing import TYPE_CHECKING

from mmflow.mapping.python_mmap import map_file, not_offered, unmap

if sys.platform == "win32":
    import msvcrt

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

# Without O_BINARY, bytes are lost; without O_NOINHERIT, a child process keeps the file from being deleted.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
_reading = threading.Lock()
#: Locks are of bytes, and nobody else may read them: of one that no file has.
_LOCKED_BYTE = 1 << 60


def open_file(path: str) -> int:
    """See `System.open_file`."""
    return os.open(path, _READ)


def reopen(fd: int) -> int:
    """See `System.reopen`: there is no way from a descriptor to a file."""
    del fd
    raise not_offered("reopening")


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
        with _reading:
            os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(fd, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except PermissionError as error:
                raise BlockingIOError(error.errno, error.strerror) from error


def soft_limit(which: str) -> int | None:
    """See `System.soft_limit`: there are none of these."""
    del which
    return None


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
