"""The system calls of Linux.

They release the GIL while the kernel works. Python's own `mmap` module isn't used for windows, since its objects
keep a duplicate of the file descriptor for as long as they live, and give no address of what is read-only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import sys

import numpy as np

from mmflow.lazy import array_types as npt
from mmflow.mapping.system.mounts import find_file_system
from mmflow.mapping.system.pagemap import find_copied_pages
from mmflow.mapping.system.portable import FileAdvice, PageAdvice, RangeLock, RenameMode
from mmflow.mapping.system.unix import PosixSystem
from mmflow.mapping.system.waiting import wait_until_free
from mmflow.storage import disk

__all__ = ["LinuxSystem"]

_PAGES: dict[PageAdvice, int] = {
    "random": 1,
    "sequential": 2,
    # Releases the pages of a shared mapping only from it: a touch maps them again, with what the file says.
    "release": 4,
    # MADV_POPULATE_READ, Linux 5.14: says EFAULT instead of sending SIGBUS.
    "load": 22,
    "huge": 14,
    "small": 15,
    "collapse": 25,  # MADV_COLLAPSE, Linux 6.1: whatever /sys/kernel/mm/transparent_hugepage says
}
_FILES: dict[FileAdvice, int] = {
    "random": os.POSIX_FADV_RANDOM,
    "sequential": os.POSIX_FADV_SEQUENTIAL,
    "load": os.POSIX_FADV_WILLNEED,
    "evict": os.POSIX_FADV_DONTNEED,
}

_PROT_READ = 1
_MAP_SHARED = 1
_MAP_PRIVATE = 2
_MAP_FIXED = 0x10
_MAP_ANONYMOUS = 0x20
_MAP_NORESERVE = 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value
_AT_FDCWD = -100
_RENAMES: dict[RenameMode, int] = {"no_replace": 1, "exchange": 2}
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_FICLONE = 0x40049409
_FLOCK = "hhqqi4x"
_LOCKS: dict[RangeLock, int] = {"shared": fcntl.F_RDLCK, "exclusive": fcntl.F_WRLCK, "unlock": fcntl.F_UNLCK}
_SYS_CACHESTAT = 451  # Linux 6.5; one number on all architectures of the generic table
_CachedRange, _CachedCounts = (
    ctypes.c_uint64 * 2,
    ctypes.c_uint64 * 5,
)  # to make a type takes longer than the call

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]
_libc.syscall.restype = ctypes.c_long


def _failed(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


class LinuxSystem(PosixSystem):
    """Linux."""

    locks_ranges = True

    def reopen(self, fd: int) -> int:
        return self.open_file(f"/proc/self/fd/{fd}")

    def read_at(self, fd: int, into: memoryview, offset: int) -> int:
        return os.preadv(fd, [into], offset)

    def map_file(self, fd: int, offset: int, length: int, align: int = 0) -> int:
        if align <= self.granularity:
            return _map(None, length, _PROT_READ, _MAP_SHARED, fd, offset)
        # Map more than enough, wherever it falls, and unmap what lies around the aligned range.
        span = -(-length // self.page_size) * self.page_size
        room = _map(None, span + align, 0, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1, 0)
        address = -(-room // align) * align
        try:
            _map(address, length, _PROT_READ, _MAP_SHARED | _MAP_FIXED, fd, offset)
        except OSError:
            self.unmap(room, span + align)
            raise
        if address > room:
            self.unmap(room, address - room)
        self.unmap(address + span, room + align - address)
        return address

    def unmap(self, address: int, length: int) -> None:
        if _libc.munmap(address, length) != 0:
            raise _failed("munmap")

    def advise(self, address: int, length: int, advice: PageAdvice) -> None:
        if _libc.madvise(address, length, _PAGES[advice]) != 0:
            raise _failed("madvise")

    def advise_file(self, fd: int, offset: int, length: int, advice: FileAdvice) -> None:
        os.posix_fadvise(fd, offset, length, _FILES[advice])

    def preallocate(self, fd: int, offset: int, length: int) -> None:
        os.posix_fallocate(fd, offset, length)

    def map_writable(self, fd: int, offset: int, length: int, *, private: bool) -> mmap.mmap:
        """Map a range for reading and writing, without reserving memory for copies."""
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0) if private else mmap.MAP_SHARED
        return mmap.mmap(fd, length, flags, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)

    def flush_mapping(self, mapping: mmap.mmap) -> None:
        """Do nothing: fsync finds pages that were changed through mappings."""

    def sync(self, fd: int, *, content_only: bool = False) -> None:
        if content_only:
            disk.fdatasync(fd)
        else:
            disk.fsync(fd)

    def rename(self, source: str, target: str, mode: RenameMode) -> None:
        call = getattr(_libc, "renameat2", None)
        if call is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), target)
        names = os.fsencode(source), os.fsencode(target)
        if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAMES[mode])) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), target)

    def discard_copies(self, mapping: mmap.mmap, fd: int) -> mmap.mmap:
        """Drop the copies, so that the file's pages show."""
        del fd
        mapping.madvise(mmap.MADV_DONTNEED)
        return mapping

    def punch_hole(self, fd: int, offset: int, length: int) -> None:
        if _libc.fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length) != 0:
            raise _failed("fallocate")

    def clone(self, source: int, target: int) -> None:
        fcntl.ioctl(target, _FICLONE, source)

    def copy_range(self, source: int, target: int, offset: int, length: int) -> int:
        return os.copy_file_range(source, target, length, offset, offset)

    def lock_range(self, fd: int, begin: int, length: int, kind: RangeLock, *, wait: bool = True) -> None:
        """Lock bytes of the open file description, between processes and (NFS) hosts.

        Closing another descriptor of the file does not end the lock, unlike with POSIX locks.
        """

        def attempt() -> None:
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, _LOCKS[kind], 0, begin, length, 0))
            except PermissionError as error:  # EACCES and EAGAIN mean the same
                raise BlockingIOError(error.errno, error.strerror) from error

        wait_until_free(attempt, wait=wait)

    def mincore(self, address: int, length: int) -> bytes:
        pages = -(-length // self.page_size)
        vector = ctypes.create_string_buffer(pages)
        if _libc.mincore(address, length, vector) != 0:
            raise _failed("mincore")
        return vector.raw[:pages]

    def cachestat(self, fd: int, offset: int, length: int) -> int:
        """Count cached pages; ENOSYS before Linux 6.5."""
        where = _CachedRange(offset, length)
        counts = _CachedCounts()
        result = _libc.syscall(
            ctypes.c_long(_SYS_CACHESTAT),
            ctypes.c_long(fd),
            ctypes.byref(where),
            ctypes.byref(counts),
            ctypes.c_long(0),
        )
        if result != 0:
            raise _failed("cachestat")
        return int(counts[0])

    def file_system_name(self, fd: int) -> str:
        buffer = ctypes.create_string_buffer(256)
        kind = 0
        if _libc.fstatfs(fd, buffer) == 0:
            # f_type is the first word; 32 bits are meaningful (CIFS' value has its top bit set).
            word = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)
            kind = word & 0xFFFFFFFF
        return find_file_system(os.fstat(fd).st_dev, kind)

    def private_copies(self, mapping: mmap.mmap) -> npt.NDArray[np.int64] | None:
        return find_copied_pages(mapping)


def _map(at: int | None, length: int, protection: int, flags: int, fd: int, offset: int) -> int:
    address: int | None = _libc.mmap(at, length, protection, flags, fd, offset)
    if address is None or address == _MAP_FAILED:
        raise _failed("mmap")
    return address
