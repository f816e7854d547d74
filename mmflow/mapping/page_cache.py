"""Residency of a file range in the page cache."""

from __future__ import annotations

from mmflow.mapping.system import system

__all__ = ["resident_bytes"]

# mincore's vector has a byte per page, so 64 KiB for this many bytes of the file.
_SLICE = 65536 * system.page_size


def resident_bytes(fd: int, offset: int, length: int) -> int:
    """Return the bytes of `[offset, offset + length)` whose pages are in the page cache.

    Counts whole pages, clipped to the range. Files that the caller can't write to and doesn't own
    may seem fully resident (the kernel hides the truth, see mincore(2)).

    Raises:
        OSError: The system does not tell, and the file can't be mapped.
    """
    if length <= 0:
        return 0
    try:
        pages = system.cachestat(fd, offset, length)
    except OSError:  # no such call (before Linux 6.5), forbidden by seccomp, or not for this file system
        return _by_mincore(fd, offset, length)
    return min(pages * system.page_size, length)


def _by_mincore(fd: int, offset: int, length: int) -> int:
    total = 0
    begin = offset - offset % system.granularity
    while begin < offset + length:
        span = min(_SLICE, offset + length - begin)
        address = system.map_file(fd, begin, span)
        try:
            vector = system.mincore(address, span)
        finally:
            system.unmap(address, span)
        total += sum(byte & 1 for byte in vector)
        begin += span
    return min(total * system.page_size, length)
