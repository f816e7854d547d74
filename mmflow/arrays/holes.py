"""Holes of sparse files: found, kept, and punched; and copies of files that share blocks.

Invariant: a hole reads as zeros, so holes change the space of a file, never its content.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import numpy as np

from mmflow.mapping.system import system
from mmflow.storage import disk

__all__ = ["clone_file", "find_data_extents", "has_holes", "punch_hole", "write_at", "write_sparsely"]

_UNSUPPORTED = {errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.ENOTTY, errno.EBADF}
_AT_ONCE = 8 << 20


def find_data_extents(fd: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of `[begin, end)` that are no holes, in order. Moves the descriptor's position."""
    while begin < end:
        try:
            start, stop = system.find_data(fd, begin)
        except OSError as error:
            if error.errno != errno.ENXIO:  # a (file) system that doesn't know holes: all is data
                yield begin, end
            return
        if start >= end:
            return
        yield start, min(stop, end)
        begin = stop


def has_holes(fd: int, begin: int, end: int) -> bool:
    """Return whether there is a hole in `[begin, end)`."""
    return next(find_data_extents(fd, begin, end), None) != (begin, end) if begin < end else False


def punch_hole(fd: int, begin: int, end: int) -> None:
    """Turn a range into a hole, or into zeros where there are no holes.

    Raises:
        OSError: The range can't be written.
    """
    try:
        system.punch_hole(fd, begin, end - begin)
        return
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    zeros = bytes(min(_AT_ONCE, end - begin))
    for offset in range(begin, end, _AT_ONCE):
        write_at(fd, memoryview(zeros)[: end - offset], offset)


def write_at(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `data` at an offset.

    Raises:
        OSError: The disk is full, or the write fails.
    """
    view = memoryview(data).cast("B")
    while view:
        written = system.write_at(fd, view, offset)
        view, offset = view[written:], offset + written


def write_sparsely(fd: int, data: bytes | bytearray | memoryview, offset: int, page: int) -> None:
    """Write `data` at an offset, but no zeros into holes.

    Raises:
        OSError: The disk is full, or the write fails.
    """
    view = memoryview(data).cast("B")
    end = offset + len(view)
    if not has_holes(fd, offset, end):
        write_at(fd, view, offset)
        return
    # Cut at the file's pages, since only whole pages stay holes.
    edges = [offset, *range(offset - offset % page + page, end, page), end]
    full = np.bitwise_or.reduceat(np.frombuffer(view, np.uint8), np.array(edges[:-1]) - offset) != 0
    for begin, stop in find_data_extents(fd, offset, end):
        full[np.searchsorted(edges, begin, "right") - 1 : np.searchsorted(edges, stop, "left")] = True
    steps = np.flatnonzero(np.diff(np.concatenate(([False], full, [False])).astype(np.int8)))
    for first, last in steps.reshape(-1, 2).tolist():
        write_at(fd, view[edges[first] - offset : edges[last] - offset], edges[first])


def clone_file(source: int, target: int) -> str:
    """Make an empty file a copy of another, holes included.

    Returns:
        The method: `reflink` (they share their blocks until one is changed) or `copy`.

    Raises:
        OSError: The disk is full, or a read or write fails.
    """
    try:
        system.clone(source, target)
        return "reflink"
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    size = os.fstat(source).st_size
    disk.ftruncate(target, size)
    for begin, end in list(find_data_extents(source, 0, size)):
        while begin < end:
            begin += _copy_range(source, target, begin, min(end - begin, _AT_ONCE))
    return "copy"


def _copy_range(source: int, target: int, offset: int, length: int) -> int:
    try:
        copied = system.copy_range(source, target, offset, length)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        copied = 0
    if not copied:
        data = system.read_bytes(source, length, offset)
        if not data:
            raise OSError(errno.EIO, "the file was cut short while it was copied")
        write_at(target, data, offset)
        copied = len(data)
    return copied
