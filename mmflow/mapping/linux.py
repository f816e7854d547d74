"""What mapping and arrays ask of Linux; see `system.System`.

Functions release the GIL while the kernel works. Python's own `mmap` module isn't used for windows, since its objects
keep a duplicate of the file descriptor for as long as they live, and give no address of what is read-only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap as _mmap
import os
import struct
import sys
from typing import TYPE_CHECKING, Literal

from mmflow.mapping.mounts import FILE_SYSTEMS, file_system_of
from mmflow.mapping.pagemap import private_copies
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
    from mmflow.mapping.system import FileAdvice, PageAdvice, RangeLock

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

LOCKS_RANGES = True

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

_PROT_READ = 1
_MAP_SHARED = 1
_MAP_PRIVATE = 2
_MAP_FIXED = 0x10
_MAP_ANONYMOUS = 0x20
_MAP_NORESERVE = 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value
_AT_FDCWD = -100
_RENAMES = {"new": 1, "swap": 2}  # RENAME_NOREPLACE, RENAME_EXCHANGE
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_FICLONE = 0x40049409
_FLOCK = "hhqqi4x"
_LOCKS: dict[RangeLock, int] = {"shared": fcntl.F_RDLCK, "exclusive": fcntl.F_WRLCK, "none": fcntl.F_UNLCK}
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
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]
_libc.syscall.restype = ctypes.c_long


def _failed(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


def reopen(fd: int) -> int:
    """See `System.reopen`."""
    return open_file(f"/proc/self/fd/{fd}")


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


def preallocate(fd: int, offset: int, length: int) -> None:
    """See `System.preallocate`."""
    os.posix_fallocate(fd, offset, length)


def map_writable(fd: int, offset: int, length: int, *, private: bool) -> _mmap.mmap:
    """See `System.map_writable`. No memory is reserved for copies."""
    flags = _mmap.MAP_PRIVATE | getattr(_mmap, "MAP_NORESERVE", 0) if private else _mmap.MAP_SHARED
    return _mmap.mmap(fd, length, flags, _mmap.PROT_READ | _mmap.PROT_WRITE, offset=offset)


def written(mapping: _mmap.mmap) -> None:
    """See `System.written`: fsync finds pages that were changed through mappings."""
    del mapping


def sync(fd: int, *, content_only: bool = False) -> None:
    """See `System.sync`."""
    if content_only:
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def rename(source: str, target: str, how: Literal["new", "swap"]) -> None:
    """See `System.rename`."""
    call = getattr(_libc, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), target)
    names = os.fsencode(source), os.fsencode(target)
    if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAMES[how])) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def drop_copies(mapping: _mmap.mmap, fd: int) -> _mmap.mmap:
    """See `System.drop_copies`: the copies go, so the file's pages show."""
    del fd
    mapping.madvise(_mmap.MADV_DONTNEED)
    return mapping


def punch(fd: int, offset: int, length: int) -> None:
    """See `System.punch`."""
    if _libc.fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length) != 0:
        raise _failed("fallocate")


def clone(source: int, target: int) -> None:
    """See `System.clone`."""
    fcntl.ioctl(target, _FICLONE, source)


def copy_range(source: int, target: int, offset: int, length: int) -> int:
    """See `System.copy_range`."""
    return os.copy_file_range(source, target, length, offset, offset)


def lock_range(fd: int, begin: int, length: int, kind: RangeLock, *, wait: bool = True) -> None:
    """See `System.lock_range`: between threads, processes and (NFS) hosts. Of the open file description: closing
    another descriptor of the file lets go of nothing."""
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    try:
        fcntl.fcntl(fd, command, struct.pack(_FLOCK, _LOCKS[kind], 0, begin, length, 0))
    except PermissionError as error:  # EACCES and EAGAIN mean the same
        raise BlockingIOError(error.errno, error.strerror) from error


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
