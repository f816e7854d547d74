"""How much of a file range is in the page cache."""

from __future__ import annotations

from mmflow.mapping.system import system

__all__ = ["resident_bytes"]

# mincore's vector has a byte per page; ask for this much of the file at a time (64 KiB of answers).
_SLICE = 65536 * system.PAGE_SIZE


def resident_bytes(fd: int, offset: int, length: int) -> int:
    """Bytes of `[offset, offset + length)` whose pages are in the page cache.

    Counts whole pages, clipped to the range. Files that the caller can't write to and doesn't own
    may read as fully resident (the kernel hides the truth, see mincore(2)).

    Raises:
        OSError: The file can be neither asked about nor mapped.
    """
    if length <= 0:
        return 0
    try:
        pages = system.cachestat(fd, offset, length)
    except OSError:  # no such call (before Linux 6.5), forbidden by seccomp, or not for this file system
        return _by_mincore(fd, offset, length)
    return min(pages * system.PAGE_SIZE, length)


def _by_mincore(fd: int, offset: int, length: int) -> int:
    total = 0
    begin = offset - offset % system.GRANULARITY
    while begin < offset + length:
        span = min(_SLICE, offset + length - begin)
        address = system.map_file(fd, begin, span)
        try:
            vector = system.mincore(address, span)
        finally:
            system.unmap(address, span)
        total += sum(byte & 1 for byte in vector)
        begin += span
    return min(total * system.PAGE_SIZE, length)
