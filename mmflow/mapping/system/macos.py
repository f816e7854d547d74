"""The system calls of macOS. Pages are of 16 KiB on Apple's processors.

Locks are on whole files. Space in holes is reserved by writing zeros: F_PREALLOCATE reserves it behind the end only.

Written by the documentation, and tested on Linux by running windows and arrays through it: no Mac was at hand.
"""

from __future__ import annotations

import errno
import fcntl
import os

from mmflow.mapping.system.portable import RangeLock
from mmflow.mapping.system.unix import PosixSystem
from mmflow.mapping.system.waiting import wait_until_free

__all__ = ["MacSystem"]

_ZEROS = memoryview(bytes(1 << 20))
_LOCKS: dict[RangeLock, int] = {
    "shared": fcntl.LOCK_SH,
    "exclusive": fcntl.LOCK_EX,
    "unlock": fcntl.LOCK_UN,
}
#: fsync leaves bytes in the disk's own memory.
_FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


class MacSystem(PosixSystem):
    """macOS."""

    def preallocate(self, fd: int, offset: int, length: int) -> None:
        end, size = offset + length, os.fstat(fd).st_size
        while offset < end:
            begin, stop = end, end  # of the next data
            if offset < size:
                try:
                    begin, stop = self.find_data(fd, offset)
                except OSError as error:
                    if error.errno != errno.ENXIO:  # holes are not known, so there are none
                        begin, stop = offset, size
            while offset < min(begin, end):
                offset += os.pwrite(fd, _ZEROS[: min(begin, end) - offset], offset)
            offset = max(offset, stop)

    def sync(self, fd: int, *, content_only: bool = False) -> None:
        del content_only
        if _FULL_FSYNC is not None:
            try:
                fcntl.fcntl(fd, _FULL_FSYNC)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                    raise
        os.fsync(fd)

    def lock_range(self, fd: int, begin: int, length: int, kind: RangeLock, *, wait: bool = True) -> None:
        del begin, length
        wait_until_free(lambda: fcntl.flock(fd, _LOCKS[kind] | fcntl.LOCK_NB), wait=wait)
