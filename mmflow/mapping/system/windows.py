"""The system calls of Windows. Mappings begin at multiples of 64 KiB, pages are of 4 KiB.

A mapped file can't be cut short here, so no guard is needed; nor can it be deleted. Files have no holes unless they are
marked sparse. No locks of ranges leave readers alone.

Written by the documentation, and tested on Linux by running windows and arrays through it: no Windows was at hand.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Iterator

from mmflow.mapping.system.portable import RenameMode, System
from mmflow.mapping.system.waiting import wait_until_free

if sys.platform == "win32":
    import msvcrt

__all__ = ["WindowsSystem"]

_seeking = threading.Lock()
#: A locked byte can't be read by others: this is one that no lock file has (the C library takes 31 bits).
_LOCKED_BYTE = (1 << 31) - 2


class WindowsSystem(System):
    """Windows."""

    # Without O_BINARY, bytes are lost; without O_NOINHERIT, a child process keeps the file from being deleted.
    open_flags = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
    deletes_open = False

    def open_file(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | self.open_flags)

    def read_bytes(self, fd: int, length: int, offset: int) -> bytes:
        with _seek(fd, offset):
            return os.read(fd, length)

    def write_at(self, fd: int, data: memoryview, offset: int) -> int:
        with _seek(fd, offset):
            return os.write(fd, data)

    def preallocate(self, fd: int, offset: int, length: int) -> None:
        """Lengthen the file: all of its length is its own here."""
        if os.fstat(fd).st_size < offset + length:
            os.ftruncate(fd, offset + length)

    def sync_folder(self, path: str) -> None:
        """Do nothing: folders can't be opened, and the file system's journal has their entries."""

    def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Rename to a free name: an ordinary rename replaces nothing here."""
        if mode == "exchange":
            super().rename(source, target, mode)
        os.rename(source, target)

    def lock(self, fd: int, *, shared: bool, wait: bool) -> None:
        """Lock a file, exclusively: there are no shared locks."""
        del shared
        if sys.platform == "win32":

            def attempt() -> None:
                try:
                    with _seek(fd, _LOCKED_BYTE):
                        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
                except PermissionError as error:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

            wait_until_free(attempt, wait=wait)


@contextlib.contextmanager
def _seek(fd: int, offset: int) -> Iterator[None]:
    """Move a file's position during the block: there is no pread, so one thread at a time seeks and seeks back."""
    with _seeking:
        before = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, offset, os.SEEK_SET)
        try:
            yield
        finally:
            os.lseek(fd, before, os.SEEK_SET)
