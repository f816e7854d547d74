"""Reading of many small ranges of a file: copied one behind the other, or rows of one size at random places.

Invariant: memory is that of the bytes that are read. Pages are requested before they are touched, so that a disk has
many requests to work on at once.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from mmflow.errors import EngineError
from mmflow.lazy import array_types as npt
from mmflow.mapping.file import MappedFile
from mmflow.mapping.system import system

__all__ = ["load_rows", "read_ranges", "split_rows"]

I64 = npt.NDArray[np.int64]

#: Bytes of the file that hold the rows of one part: the most that is read where they can't be mapped.
_SPAN = 64 << 20
_PART_ROWS = 64 << 10
#: If one page in this many is needed, all are read, in order.
_DENSE = 4
_PART_BYTES = 16 << 20
#: A single range of at least this many bytes is mapped, not copied.
_MAP_BYTES = 1 << 20


def read_ranges(file: MappedFile, begins: I64, ends: I64) -> pa.Buffer:
    """Return the bytes of ranges `[begin, end)`, one behind the other: a copy, or a window if they are one range.

    Args:
        file: Open file.
        begins: Offsets in ascending order, shape (n,).
        ends: End of each range, in the file, and not past the next range's begin, shape (n,).

    Raises:
        SourceChangedError: The file shrank.
        SourceError: The bytes can't be read.
        EngineError: There is no memory for them.
    """
    if not len(begins):
        return pa.py_buffer(b"")
    # Adjacent ranges become one.
    cut = np.flatnonzero(begins[1:] != ends[:-1]) + 1
    begins, ends = begins[np.concatenate([[0], cut])], ends[np.concatenate([cut - 1, [len(ends) - 1]])]
    total = int((ends - begins).sum())
    if len(begins) == 1 and total >= _MAP_BYTES and file.decision.kind == "mmap":
        file.load(int(begins[0]), int(ends[0]))
        return file.window(int(begins[0]), total).buffer
    try:
        memory: Any = pa.allocate_buffer(total)
    except MemoryError as error:  # pa.ArrowMemoryError is one
        raise EngineError(f"no memory for {total:,} bytes of {file.path}", path=file.path) from error
    pinned = (
        file.pin(list(zip(begins.tolist(), (ends - begins).tolist(), strict=True))) if file.fetches else None
    )
    if len(begins) > 1:
        _request_pages(file, begins, ends)
    view = memoryview(memory).cast("B")
    done = 0
    for begin, length in zip(begins.tolist(), (ends - begins).tolist(), strict=True):
        file.read_into(begin, view[done : done + length])
        done += length
    del pinned
    return memory


def split_rows(numbers: I64, size: int) -> Iterator[I64]:
    """Split ascending numbers of rows of `size` bytes into parts for `load_rows`.

    >>> [part.tolist() for part in split_rows(np.array([0, 5, 1 << 40]), 8)]
    [[0, 5], [1099511627776]]
    """
    most = max(1, min(_PART_ROWS, _PART_BYTES // size))
    spans = numbers // max(1, _SPAN // size)
    edges = [0, *(np.flatnonzero(spans[1:] != spans[:-1]) + 1).tolist(), len(numbers)]
    for begin, end in itertools.pairwise(edges):
        for first in range(begin, end, most):
            yield numbers[first : min(first + most, end)]


def load_rows(file: MappedFile, begin: int, size: int, numbers: I64) -> tuple[pa.Buffer, I64]:
    """Return a buffer of whole rows of a file that holds the rows with these numbers, and their places in it.

    Args:
        file: Open file.
        begin: Offset of row 0, in bytes.
        size: Size of a row, in bytes.
        numbers: Row numbers, ascending; one part of `split_rows`.

    Returns:
        The buffer: a window, of which only the touched pages come into memory, or a copy of just these rows. The
        place of each row in it, shape (n,).

    Raises:
        SourceChangedError: The file shrank.
        SourceError: The bytes can't be read.
    """
    begins = begin + numbers * size
    if file.fetches or file.decision.kind != "mmap":  # a window would be fetched whole
        return read_ranges(file, begins, begins + size), np.arange(len(numbers))
    if len(numbers) > 1:
        _request_pages(file, begins, begins + size)
    span = int(begins[-1] - begins[0]) + size
    return file.window(int(begins[0]), span, populate=False).buffer, numbers - numbers[0]


def _request_pages(file: MappedFile, begins: I64, ends: I64) -> None:
    """Start reading the pages of ascending ranges in, unless the file fetches its bytes. Never fails."""
    if file.fetches:
        return
    first, last = begins // system.page_size, (ends - 1) // system.page_size
    span = int(ends[-1] - begins[0])
    if span <= _SPAN and file.resident(int(begins[0]), int(ends[-1])) >= span:
        return
    edges = np.flatnonzero(first[1:] > last[:-1] + 1) + 1
    if span <= _SPAN and int((last - first + 1).sum()) * system.page_size * _DENSE >= span:
        file.load(int(begins[0]), int(ends[-1]))
        return
    starts = first[np.concatenate([[0], edges])] * system.page_size
    stops = (last[np.concatenate([edges - 1, [len(last) - 1]])] + 1) * system.page_size
    with contextlib.suppress(OSError):  # only speed is lost
        for start, length in zip(starts.tolist(), (stops - starts).tolist(), strict=True):
            system.advise_file(file.fd, start, length, "load")
