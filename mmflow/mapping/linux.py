"""The kernel calls that Python's standard library doesn't offer, for Linux.

Owns every platform fact of mapping: another system gets another module with these names.
Invariant: functions take and return plain integers, raise OSError with errno, and release the GIL
while the kernel works. Python's own `mmap` module isn't used for windows since its objects keep a
duplicate of the file descriptor for as long as they live.
"""

from __future__ import annotations

import ctypes
import mmap as _mmap
import os
import sys

__all__ = [
    "GRANULARITY",
    "MADV_DONTNEED",
    "MADV_POPULATE_READ",
    "MADV_RANDOM",
    "MADV_SEQUENTIAL",
    "MADV_WILLNEED",
    "PAGE_SIZE",
    "cachestat",
    "file_system_magic",
    "madvise",
    "map_file",
    "mincore",
    "unmap",
]

#: Offsets of mappings are multiples of this many bytes.
GRANULARITY = _mmap.ALLOCATIONGRANULARITY
#: Bytes that the page cache counts in.
PAGE_SIZE = _mmap.PAGESIZE

MADV_RANDOM = 1
MADV_SEQUENTIAL = 2
MADV_WILLNEED = 3
#: Pages of a shared mapping of a file are only let go: a touch maps them again, with what the file says.
MADV_DONTNEED = 4
#: Linux 5.14: fault a range in now, and say EFAULT instead of sending SIGBUS where that can't be done.
MADV_POPULATE_READ = 22

_PROT_READ = 1
_MAP_SHARED = 1
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


def map_file(fd: int, offset: int, length: int) -> int:
    """Map a range read-only and shared; returns its address.

    `offset` is a multiple of the granularity, `length` is positive; both in bytes.
    """
    address: int | None = _libc.mmap(None, length, _PROT_READ, _MAP_SHARED, fd, offset)
    if address is None or address == _MAP_FAILED:
        raise _failed("mmap")
    return address


def unmap(address: int, length: int) -> None:
    """Undo `map_file`."""
    if _libc.munmap(address, length) != 0:
        raise _failed("munmap")


def madvise(address: int, length: int, advice: int) -> None:
    """Advise the kernel on a mapped range; `address` is page aligned."""
    if _libc.madvise(address, length, advice) != 0:
        raise _failed("madvise")


def mincore(address: int, length: int) -> bytes:
    """One byte per page of a mapped range; its lowest bit: resident."""
    pages = -(-length // PAGE_SIZE)
    vector = ctypes.create_string_buffer(pages)
    if _libc.mincore(address, length, vector) != 0:
        raise _failed("mincore")
    return vector.raw[:pages]


def cachestat(fd: int, offset: int, length: int) -> int:
    """Pages of a file range that are in the page cache (ENOSYS before Linux 6.5)."""
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


def file_system_magic(fd: int) -> int:
    """`f_type` of the file system that an open file lives on (see statfs(2))."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.fstatfs(fd, buffer) != 0:
        raise _failed("fstatfs")
    # f_type is the first word; 32 bits are meaningful (CIFS' value has its top bit set).
    word = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)
    return word & 0xFFFFFFFF
