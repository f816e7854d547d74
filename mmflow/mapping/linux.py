"""What mapping asks of Linux; see `system.System`.

Functions release the GIL while the kernel works. Python's own `mmap` module isn't used for windows, since its objects
keep a duplicate of the file descriptor for as long as they live, and give no address of what is read-only.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap as _mmap
import os
import resource
import sys
from typing import TYPE_CHECKING

from mmflow.mapping.mounts import FILE_SYSTEMS, file_system_of

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

_PAGES: dict[PageAdvice, int] = {
    "random": 1,
    "sequential": 2,
    # Pages of a shared mapping of a file are only let go: a touch maps them again, with what the file says.
    "let go": 4,
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
    "drop": os.POSIX_FADV_DONTNEED,
}
_LIMITS = {"address space": resource.RLIMIT_AS, "open files": resource.RLIMIT_NOFILE}
# O_NONBLOCK: opening a pipe must not wait for its writer; no effect on regular files.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK

_PROT_READ = 1
_MAP_SHARED = 1
_MAP_PRIVATE = 2
_MAP_FIXED = 0x10
_MAP_ANONYMOUS = 0x20
_MAP_NORESERVE = 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value
_SYS_CACHESTAT = 451  # Linux 6.5; one number on all architectures of the generic table

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
_libc.fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]
_libc.syscall.restype = ctypes.c_long


def _failed(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


def open_file(path: str) -> int:
    """See `System.open_file`."""
    return os.open(path, _READ)


def reopen(fd: int) -> int:
    """See `System.reopen`."""
    return os.open(f"/proc/self/fd/{fd}", _READ)


def read_at(fd: int, into: memoryview, offset: int) -> int:
    """See `System.read_at`."""
    return os.preadv(fd, [into], offset)


def map_file(fd: int, offset: int, length: int, align: int = 0) -> int:
    """See `System.map_file`."""
    if align <= GRANULARITY:
        return _map(None, length, _PROT_READ, _MAP_SHARED, fd, offset)
    # Room for it wherever it falls; what lies around it is given back.
    span = -(-length // PAGE_SIZE) * PAGE_SIZE
    room = _map(None, span + align, 0, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1, 0)
    address = -(-room // align) * align
    try:
        _map(address, length, _PROT_READ, _MAP_SHARED | _MAP_FIXED, fd, offset)
    except OSError:
        unmap(room, span + align)
        raise
    if address > room:
        unmap(room, address - room)
    unmap(address + span, room + align - address)
    return address


def _map(at: int | None, length: int, protection: int, flags: int, fd: int, offset: int) -> int:
    address: int | None = _libc.mmap(at, length, protection, flags, fd, offset)
    if address is None or address == _MAP_FAILED:
        raise _failed("mmap")
    return address


def unmap(address: int, length: int) -> None:
    """See `System.unmap`."""
    if _libc.munmap(address, length) != 0:
        raise _failed("munmap")


def advise(address: int, length: int, advice: PageAdvice) -> None:
    """See `System.advise`."""
    if _libc.madvise(address, length, _PAGES[advice]) != 0:
        raise _failed("madvise")


def advise_file(fd: int, offset: int, length: int, advice: FileAdvice) -> None:
    """See `System.advise_file`."""
    os.posix_fadvise(fd, offset, length, _FILES[advice])


def lock(fd: int, *, shared: bool, wait: bool) -> None:
    """See `System.lock`."""
    fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def soft_limit(which: str) -> int | None:
    """See `System.soft_limit`."""
    soft, _ = resource.getrlimit(_LIMITS[which])
    return None if soft == resource.RLIM_INFINITY else soft


def mincore(address: int, length: int) -> bytes:
    """See `System.mincore`."""
    pages = -(-length // PAGE_SIZE)
    vector = ctypes.create_string_buffer(pages)
    if _libc.mincore(address, length, vector) != 0:
        raise _failed("mincore")
    return vector.raw[:pages]


def cachestat(fd: int, offset: int, length: int) -> int:
    """See `System.cachestat`; ENOSYS before Linux 6.5."""
    where = (ctypes.c_uint64 * 2)(offset, length)
    counts = (ctypes.c_uint64 * 5)()
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


def file_system_name(fd: int) -> str:
    """See `System.file_system_name`."""
    named = file_system_of(os.fstat(fd).st_dev)
    if named is not None:
        return named
    buffer = ctypes.create_string_buffer(256)
    if _libc.fstatfs(fd, buffer) != 0:
        return ""
    # f_type is the first word; 32 bits are meaningful (CIFS' value has its top bit set).
    word = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)
    return FILE_SYSTEMS.get(word & 0xFFFFFFFF, "")
