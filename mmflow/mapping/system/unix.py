"""The system calls that Linux and macOS have in common."""

from __future__ import annotations

import fcntl
import os
import resource

from mmflow.mapping.system.portable import ResourceLimit, System
from mmflow.mapping.system.waiting import wait_until_free
from mmflow.storage import disk

__all__ = ["PosixSystem"]

_LIMITS = {"address space": resource.RLIMIT_AS, "open files": resource.RLIMIT_NOFILE}


class PosixSystem(System):
    """A system with pread, pwrite, flock and resource limits."""

    open_flags = os.O_CLOEXEC

    def open_file(self, path: str) -> int:
        # O_NONBLOCK: opening a pipe must not wait for its writer; no effect on regular files.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def read_bytes(self, fd: int, length: int, offset: int) -> bytes:
        return os.pread(fd, length, offset)

    def write_at(self, fd: int, data: memoryview, offset: int) -> int:
        return disk.pwrite(fd, data, offset)

    def sync_folder(self, path: str) -> None:
        descriptor = disk.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            disk.fsync(descriptor)
        finally:
            disk.close(descriptor)

    def find_data(self, fd: int, offset: int) -> tuple[int, int]:
        begin = os.lseek(fd, offset, os.SEEK_DATA)
        return begin, os.lseek(fd, begin, os.SEEK_HOLE)

    def lock(self, fd: int, *, shared: bool, wait: bool) -> None:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        wait_until_free(lambda: fcntl.flock(fd, kind | fcntl.LOCK_NB), wait=wait)

    def soft_limit(self, limit: ResourceLimit) -> int | None:
        soft, _ = resource.getrlimit(_LIMITS[limit])
        return None if soft == resource.RLIM_INFINITY else soft
