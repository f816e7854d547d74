"""What mapping and arrays ask of Windows; see `system.System`. Mappings begin at multiples of 64 KiB,
pages are of 4 KiB.

A file that is mapped can't be cut short here, so no guard is needed; nor can it be deleted. Files have no holes, unless
they are told to. There are no locks on ranges that leave readers alone.

Written by the documentation, and tested on Linux by running windows and arrays through it: no Windows was at hand.
"""

from __future__ import annotations

import contextlib
import errno
import mmap as _mmap
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from mmflow.mapping.portable import (
    advise,
    advise_file,
    cachestat,
    clone,
    copy_range,
    drop_copies,
    file_system_name,
    map_file,
    map_writable,
    mincore,
    private_copies,
    punch,
    reopen,
    unmap,
    written,
)

if TYPE_CHECKING:
    from mmflow.mapping.system import RangeLock

if sys.platform == "win32":
    import msvcrt

__all__ = [
    "DELETES_OPEN",
    "GRANULARITY",
    "LOCKS_RANGES",
    "OPEN_FLAGS",
    "PAGE_SIZE",
    "advise",
    "advise_file",
    "cachestat",
    "clone",
    "copy_range",
    "drop_copies",
    "file_system_name",
    "find_data",
    "lock",
    "lock_range",
    "map_file",
    "map_writable",
    "mincore",
    "open_file",
    "preallocate",
    "private_copies",
    "punch",
    "read_at",
    "read_bytes",
    "rename",
    "reopen",
    "soft_limit",
    "sync",
    "sync_folder",
    "unmap",
    "write_at",
    "written",
]

GRANULARITY = _mmap.ALLOCATIONGRANULARITY
PAGE_SIZE = _mmap.PAGESIZE
# Without O_BINARY, bytes are lost; without O_NOINHERIT, a child process keeps the file from being deleted.
OPEN_FLAGS: int = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
DELETES_OPEN = False
LOCKS_RANGES = False

_seeking = threading.Lock()
#: Locks are of bytes, which nobody else may read: of one that no lock file has (the C library takes 31 bits).
_LOCKED_BYTE = (1 << 31) - 2
_LOOK_AGAIN_SECONDS = 0.05


@contextlib.contextmanager
def _at(fd: int, offset: int) -> Iterator[None]:
    """There is no pread: one thread at a time seeks, does what it does, and seeks back."""
    with _seeking:
        before = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, offset, os.SEEK_SET)
        try:
            yield
        finally:
            os.lseek(fd, before, os.SEEK_SET)


def open_file(path: str) -> int:
    """See `System.open_file`."""
    return os.open(path, os.O_RDONLY | OPEN_FLAGS)


def read_at(fd: int, into: memoryview, offset: int) -> int:
    """See `System.read_at`."""
    data = read_bytes(fd, len(into), offset)
    into[: len(data)] = data
    return len(data)


def read_bytes(fd: int, length: int, offset: int) -> bytes:
    """See `System.read_bytes`."""
    with _at(fd, offset):
        return os.read(fd, length)


def write_at(fd: int, data: memoryview, offset: int) -> int:
    """See `System.write_at`."""
    with _at(fd, offset):
        return os.write(fd, data)


def preallocate(fd: int, offset: int, length: int) -> None:
    """See `System.preallocate`: what a file is long is its own."""
    if os.fstat(fd).st_size < offset + length:
        os.ftruncate(fd, offset + length)


def sync(fd: int, *, content_only: bool = False) -> None:
    """See `System.sync`."""
    del content_only
    os.fsync(fd)


def sync_folder(path: str) -> None:
    """See `System.sync_folder`: folders can't be opened; the file system's journal has their entries."""
    del path


def rename(source: str, target: str, how: Literal["new", "swap"]) -> None:
    """See `System.rename`: a plain one replaces nothing here."""
    if how == "swap":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), target)
    os.rename(source, target)


def find_data(fd: int, offset: int) -> tuple[int, int]:
    """See `System.find_data`; it can't be told."""
    del fd, offset
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def lock_range(fd: int, begin: int, length: int, kind: RangeLock, *, wait: bool = True) -> None:
    """See `System.lock_range`; there are none."""
    del fd, begin, length, kind, wait
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def lock(fd: int, *, shared: bool, wait: bool) -> None:
    """See `System.lock`. There are no shared ones: whoever asks for one shuts out all others."""
    del shared
    if sys.platform == "win32":
        while True:
            with contextlib.suppress(PermissionError), _at(fd, _LOCKED_BYTE):
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
                return
            if not wait:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            time.sleep(_LOOK_AGAIN_SECONDS)


def soft_limit(which: str) -> int | None:
    """See `System.soft_limit`: there are none of these."""
    del which
    return None
