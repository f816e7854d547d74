"""What mapping and arrays ask of macOS; see `system.System`. Pages are of 16 KiB on Apple's processors.

Locks are on whole files. Room in holes is taken by writing zeros: F_PREALLOCATE takes it behind the end only.

Written by the documentation, and tested on Linux by running windows and arrays through it: no Mac was at hand.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

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
    rename,
    reopen,
    unmap,
    written,
)
from mmflow.mapping.unix import (
    DELETES_OPEN,
    GRANULARITY,
    OPEN_FLAGS,
    PAGE_SIZE,
    find_data,
    lock,
    open_file,
    read_bytes,
    soft_limit,
    sync_folder,
    write_at,
)

if TYPE_CHECKING:
    from mmflow.mapping.system import RangeLock

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

LOCKS_RANGES = False

_ZEROS = memoryview(bytes(1 << 20))
#: fsync leaves bytes in the disk's own memory.
_FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def read_at(fd: int, into: memoryview, offset: int) -> int:
    """See `System.read_at`."""
    data = os.pread(fd, len(into), offset)
    into[: len(data)] = data
    return len(data)


def preallocate(fd: int, offset: int, length: int) -> None:
    """See `System.preallocate`."""
    end, size = offset + length, os.fstat(fd).st_size
    while offset < end:
        begin, stop = end, end  # of the next data
        if offset < size:
            try:
                begin, stop = find_data(fd, offset)
            except OSError as error:
                if error.errno != errno.ENXIO:  # holes are not known, so there are none
                    begin, stop = offset, size
        while offset < min(begin, end):
            offset += os.pwrite(fd, _ZEROS[: min(begin, end) - offset], offset)
        offset = max(offset, stop)


def sync(fd: int, *, content_only: bool = False) -> None:
    """See `System.sync`."""
    del content_only
    if _FULL_FSYNC is not None:
        try:
            fcntl.fcntl(fd, _FULL_FSYNC)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(fd)


def lock_range(fd: int, begin: int, length: int, kind: RangeLock, *, wait: bool = True) -> None:
    """See `System.lock_range`: of the whole file."""
    del begin, length
    how = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX, "none": fcntl.LOCK_UN}[kind]
    fcntl.flock(fd, how | (0 if wait else fcntl.LOCK_NB))
