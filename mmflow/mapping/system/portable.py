"""The system calls that mmflow makes, by what Python offers everywhere; each system overrides what it does better.

    System              Python's own mappings; no advice; nothing is known of the page cache
      PosixSystem       pread and pwrite, SEEK_DATA, flock, resource limits
        LinuxSystem     system calls of its own: advice, page cache, holes, clones, locks of ranges
        MacSystem       F_FULLFSYNC
      WindowsSystem     one thread at a time seeks and reads; open files can't be deleted

Mappings are known by their address. A Python mmap object keeps a duplicate of the descriptor as long as it lives, so a
window costs a descriptor where this class maps it.
"""

from __future__ import annotations

import abc
import errno
import mmap
import os
import threading
from typing import Literal

import numpy as np

from mmflow.lazy import array_types as npt

__all__ = ["FileAdvice", "PageAdvice", "RangeLock", "RenameMode", "ResourceLimit", "System"]

#: Advice on a mapped range. `release`: the kernel may drop its pages. `load`: bring all of them in now. `huge`,
#: `small`: its pages may, or must not, become huge (2 MiB on most machines). `collapse`: make them huge now.
PageAdvice = Literal["random", "sequential", "release", "load", "huge", "small", "collapse"]
#: Advice on a file's range in the page cache. `load`: start to read it.
FileAdvice = Literal["random", "sequential", "load", "evict"]
RangeLock = Literal["shared", "exclusive", "unlock"]
RenameMode = Literal["no_replace", "exchange"]
ResourceLimit = Literal["address space", "open files"]

_COPY_BYTES = 8 << 20
_lock = threading.Lock()
_mappings: dict[int, mmap.mmap] = {}


class System(abc.ABC):
    """An operating system. Methods take and return plain integers, and raise OSError with its errno.

    Here, what Python offers on every system; the rest does nothing where it is advice, and raises ENOSYS otherwise.

    Attributes:
        granularity: Bytes of which the offset of a mapping is a multiple.
        page_size: Bytes of a page of the page cache.
        open_flags: Flags for `os.open` besides the mode, so that bytes stay as they are and children don't inherit it.
        deletes_open: Whether a file can be deleted, or replaced, while it is open.
        locks_ranges: Whether `lock_range` locks only the range.
    """

    granularity: int = mmap.ALLOCATIONGRANULARITY
    page_size: int = mmap.PAGESIZE
    open_flags: int = 0
    deletes_open: bool = True
    locks_ranges: bool = False

    # ---- reading ---------------------------------------------------------------------------------------

    @abc.abstractmethod
    def open_file(self, path: str) -> int:
        """Open a file for reading, without waiting for a pipe's writer. Child processes don't inherit it."""

    def reopen(self, fd: int) -> int:
        """Open the same file again, with a position and readahead of its own."""
        del fd
        raise _not_offered("reopening")

    def read_at(self, fd: int, into: memoryview, offset: int) -> int:
        """Read at an offset and return the number of bytes, 0 at the end of the file. Thread-safe."""
        data = self.read_bytes(fd, len(into), offset)
        into[: len(data)] = data
        return len(data)

    @abc.abstractmethod
    def read_bytes(self, fd: int, length: int, offset: int) -> bytes:
        """Read at an offset into new bytes. Thread-safe."""

    def map_file(self, fd: int, offset: int, length: int, align: int = 0) -> int:
        """Map a range (offset: a multiple of the granularity; length: positive) read-only and shared.

        Returns:
            Its address, a multiple of `align` where the system can do that. The descriptor may be closed.
        """
        del align
        mapping = _map(fd, offset, length, mmap.ACCESS_READ)
        address = int(np.frombuffer(mapping, np.uint8).ctypes.data)
        with _lock:
            _mappings[address] = mapping
        return address

    def unmap(self, address: int, length: int) -> None:
        """Undo `map_file`."""
        del length
        with _lock:
            mapping = _mappings.pop(address, None)
        if mapping is None:
            raise OSError(errno.EINVAL, "nothing is mapped there")
        mapping.close()

    def advise(self, address: int, length: int, advice: PageAdvice) -> None:
        """Advise the kernel on whole pages of a mapped range.

        Raises:
            OSError: The advice is not offered. EFAULT of `load`: a page is beyond the end of the file, or unreadable.
        """
        del address, length
        raise _not_offered(f"advice ({advice})")

    def advise_file(self, fd: int, offset: int, length: int, advice: FileAdvice) -> None:
        """Advise the kernel on a file's range (length 0: to its end), where the system takes advice."""
        del fd, offset, length, advice

    def mincore(self, address: int, length: int) -> bytes:
        """Return one byte for each page of a mapped range, whose lowest bit says that the page is in memory."""
        del address, length
        raise _not_offered("mincore")

    def cachestat(self, fd: int, offset: int, length: int) -> int:
        """Return the number of pages of a file's range that are in the page cache."""
        del fd, offset, length
        raise _not_offered("cachestat")

    def file_system_name(self, fd: int) -> str:
        """Return the type of an open file's file system, as Linux's mountinfo spells it; "": unknown."""
        del fd
        return ""

    # ---- writing ---------------------------------------------------------------------------------------

    @abc.abstractmethod
    def write_at(self, fd: int, data: memoryview, offset: int) -> int:
        """Write at an offset and return the number of bytes. Thread-safe."""

    @abc.abstractmethod
    def preallocate(self, fd: int, offset: int, length: int) -> None:
        """Reserve the space of a range (length: positive), so that writing to it can't fail for lack of it.

        The content stays, and the file becomes at least that long. Nobody else may write to the range meanwhile.
        """

    def map_writable(self, fd: int, offset: int, length: int, *, private: bool) -> mmap.mmap:
        """Map a range for reading and writing; `private`: into copies, which never reach the file."""
        return _map(fd, offset, length, mmap.ACCESS_COPY if private else mmap.ACCESS_WRITE)

    def flush_mapping(self, mapping: mmap.mmap) -> None:
        """Pass the changes of a mapping on to the file, so that `sync` finds them."""
        mapping.flush()

    def sync(self, fd: int, *, content_only: bool = False) -> None:
        """Make a file durable; `content_only`: without the times of its changes, where that is quicker."""
        del content_only
        os.fsync(fd)

    @abc.abstractmethod
    def sync_folder(self, path: str) -> None:
        """Make the entries of a folder durable, where the system needs it."""

    def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Rename atomically: only to a free name, or exchanging two names."""
        del source
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), target)

    # ---- copies of pages, holes ------------------------------------------------------------------------

    def private_copies(self, mapping: mmap.mmap) -> npt.NDArray[np.int64] | None:
        """Return the offsets of a private mapping's pages that may differ from the file's; None: unknown."""
        del mapping
        return None

    def discard_copies(self, mapping: mmap.mmap, fd: int) -> mmap.mmap:
        """Make a private mapping of a file, from its beginning, show the file's content again.

        Returns:
            The mapping that does: another one, or, while there are views of it, the same one.
        """
        other = self.map_writable(fd, 0, len(mapping), private=True)
        try:
            mapping.close()
        except BufferError:  # there are views: copy what differs, so that they are right, too
            with other, memoryview(mapping) as mine, memoryview(other) as file:
                for begin in range(0, len(mine), _COPY_BYTES):
                    if mine[begin : begin + _COPY_BYTES] != file[begin : begin + _COPY_BYTES]:
                        mine[begin : begin + _COPY_BYTES] = file[begin : begin + _COPY_BYTES]
            return mapping
        return other

    def find_data(self, fd: int, offset: int) -> tuple[int, int]:
        """Return the next range from an offset on that is no hole. Moves the descriptor's position.

        Raises:
            OSError: ENXIO: there is none; other errors: the system does not know.
        """
        del fd, offset
        raise _not_offered("SEEK_DATA")

    def punch_hole(self, fd: int, offset: int, length: int) -> None:
        """Turn a range into a hole."""
        del fd, offset, length
        raise _not_offered("holes")

    def clone(self, source: int, target: int) -> None:
        """Let an empty file share the content of another, until one of them is changed."""
        del source, target
        raise _not_offered("clones")

    def copy_range(self, source: int, target: int, offset: int, length: int) -> int:
        """Copy a range to the same place of another file within the kernel, and return the number of bytes."""
        del source, target, offset, length
        raise _not_offered("copy_file_range")

    # ---- locks, limits ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def lock(self, fd: int, *, shared: bool, wait: bool) -> None:
        """Lock an open file until it is closed, or its process dies.

        Raises:
            BlockingIOError: Another opening of the file holds the lock, and `wait` is False.
            TimeoutError: It held the lock for too long (`mapping.system.waiting`).
        """

    def lock_range(self, fd: int, begin: int, length: int, kind: RangeLock, *, wait: bool = True) -> None:
        """Lock or unlock bytes (length 0: to the end, wherever that is); without `locks_ranges`, the file.

        The owner is the opening of the file: threads share it, and another opening in the same process is another
        owner. The lock ends with `unlock`, or when the file is closed everywhere, mappings included. On Linux only,
        it is independent of `lock`.

        Raises:
            BlockingIOError: Another owner holds some of the bytes, and `wait` is False.
            TimeoutError: It held them for too long (`mapping.system.waiting`).
        """
        del fd, begin, length, kind, wait
        raise _not_offered("locks of ranges")

    def soft_limit(self, limit: ResourceLimit) -> int | None:
        """Return a resource limit of this process; None: there is none."""
        del limit
        return None


def _map(fd: int, offset: int, length: int, access: int) -> mmap.mmap:
    try:
        return mmap.mmap(fd, length, access=access, offset=offset)
    except ValueError as error:  # the file ends before
        raise OSError(errno.EINVAL, str(error)) from error


def _not_offered(call: str) -> OSError:
    return OSError(errno.ENOSYS, f"{call}: {os.strerror(errno.ENOSYS)}")
