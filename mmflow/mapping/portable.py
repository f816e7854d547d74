"""What Python offers on every system, for those whose calls mmflow does not make itself; see `system.System`.

Mappings are Python's own, known by their address. An mmap object keeps a duplicate of the descriptor as long as it
lives: a window costs one. There is no advice, and nothing is known of the page cache.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mmflow.mapping.system import FileAdvice, PageAdvice

__all__ = [
    "advise",
    "advise_file",
    "cachestat",
    "file_system_name",
    "map_file",
    "mincore",
    "reopen",
    "unmap",
]

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


def _not_offered(what: str) -> OSError:
    return OSError(errno.ENOSYS, f"{what}: {os.strerror(errno.ENOSYS)}")
