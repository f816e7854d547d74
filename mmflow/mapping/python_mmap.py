"""Mappings by Python's mmap, known by their address: for systems whose calls mmflow does not make itself.

An mmap object keeps a duplicate of the descriptor as long as it lives: a window costs one.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading

import numpy as np

__all__ = ["map_file", "not_offered", "unmap"]

_lock = threading.Lock()
_mappings: dict[int, mmap.mmap] = {}


def map_file(fd: int, offset: int, length: int) -> int:
    """See `System.map_file`."""
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


def not_offered(what: str) -> OSError:
    """What is raised for what a system does not have."""
    return OSError(errno.ENOSYS, f"{what}: {os.strerror(errno.ENOSYS)}")
