"""What Python offers on every system, for those whose calls mmflow does not make itself; see `system.System`.

Mappings are Python's own, known by their address. An mmap object keeps a duplicate of the descriptor as long as it
lives: a window costs one. There is no advice, and nothing is known of the page cache.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mmflow.mapping.system import FileAdvice, PageAdvice

__all__ = [
    "advise",
    "advise_file",
    "cachestat",
    "clone",
    "copy_range",
    "drop_copies",
    "file_system_name",
    "map_file",
    "map_writable",
    "mincore",
    "private_copies",
    "punch",
    "rename",
    "reopen",
    "unmap",
    "written",
]

_AT_ONCE = 8 << 20
_lock = threading.Lock()
_mappings: dict[int, mmap.mmap] = {}


def map_file(fd: int, offset: int, length: int, align: int = 0) -> int:
    """See `System.map_file`; it lies where it falls."""
    del align
    try:
        mapping = mmap.mmap(fd, length, access=mmap.ACCESS_READ, offset=offset)
    except ValueError as error:  # the file ends before
        raise OSError(errno.EINVAL, str(error)) from error
    address = int(np.frombuffer(mapping, np.uint8).ctypes.data)
    with _lock:
        _mappings[address] = mapping
    return address


def unmap(address: int, length: int) -> None:
    """See `System.unmap`."""
    del length
    with _lock:
        mapping = _mappings.pop(address, None)
    if mapping is None:
        raise OSError(errno.EINVAL, "nothing is mapped there")
    mapping.close()


def reopen(fd: int) -> int:
    """See `System.reopen`: there is no way from a descriptor to its file."""
    del fd
    raise _not_offered("reopening")


def advise(address: int, length: int, advice: PageAdvice) -> None:
    """See `System.advise`; none is given."""
    del address, length
    raise _not_offered(f"advice ({advice})")


def advise_file(fd: int, offset: int, length: int, advice: FileAdvice) -> None:
    """See `System.advise_file`; there is none."""
    del fd, offset, length, advice


def mincore(address: int, length: int) -> bytes:
    """See `System.mincore`; it can't be told."""
    del address, length
    raise _not_offered("mincore")


def cachestat(fd: int, offset: int, length: int) -> int:
    """See `System.cachestat`; it can't be told."""
    del fd, offset, length
    raise _not_offered("cachestat")


def file_system_name(fd: int) -> str:
    """See `System.file_system_name`; it is not looked for."""
    del fd
    return ""


def map_writable(fd: int, offset: int, length: int, *, private: bool) -> mmap.mmap:
    """See `System.map_writable`."""
    access = mmap.ACCESS_COPY if private else mmap.ACCESS_WRITE
    try:
        return mmap.mmap(fd, length, access=access, offset=offset)
    except ValueError as error:  # the file ends before
        raise OSError(errno.EINVAL, str(error)) from error


def written(mapping: mmap.mmap) -> None:
    """See `System.written`: nobody promises that syncing a file finds what its mappings changed."""
    mapping.flush()


def private_copies(mapping: mmap.mmap) -> npt.NDArray[np.int64] | None:
    """See `System.private_copies`; it can't be told."""
    del mapping
    return None


def drop_copies(mapping: mmap.mmap, fd: int) -> mmap.mmap:
    """See `System.drop_copies`. With views of it the mapping stays, and what differs is copied from the file: so the
    views are right, too."""
    other = map_writable(fd, 0, len(mapping), private=True)
    try:
        mapping.close()
    except BufferError:
        with other, memoryview(mapping) as mine, memoryview(other) as file:
            for begin in range(0, len(mine), _AT_ONCE):
                if mine[begin : begin + _AT_ONCE] != file[begin : begin + _AT_ONCE]:
                    mine[begin : begin + _AT_ONCE] = file[begin : begin + _AT_ONCE]
        return mapping
    return other


def rename(source: str, target: str, how: Literal["new", "swap"]) -> None:
    """See `System.rename`; the names are as they were."""
    del source, target
    raise _not_offered(f"rename ({how})")


def punch(fd: int, offset: int, length: int) -> None:
    """See `System.punch`."""
    del fd, offset, length
    raise _not_offered("holes")


def clone(source: int, target: int) -> None:
    """See `System.clone`."""
    del source, target
    raise _not_offered("clones")


def copy_range(source: int, target: int, offset: int, length: int) -> int:
    """See `System.copy_range`."""
    del source, target, offset, length
    raise _not_offered("copy_file_range")


def _not_offered(what: str) -> OSError:
    return OSError(errno.ENOSYS, f"{what}: {os.strerror(errno.ENOSYS)}")
