"""Many small ranges of a file: copied one behind the other, or rows of one size at random places.

Invariant: memory is that of the bytes asked for. Pages are asked for before they are touched, so that a disk has many
requests to work on at once.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmflow.errors import EngineError
from mmflow.mapping.file import MappedFile
from mmflow.mapping.system import system

__all__ = ["read_ranges", "row_parts", "rows_in_memory"]

I64 = npt.NDArray[np.int64]

#: Rows of one part lie within so many bytes of the file: were they read instead of mapped, it would be no more.
_SPAN = 64 << 20
_PART_ROWS = 64 << 10
#: One page of so many: from there on all are read, in order.
_DENSE = 4
_PART_BYTES = 16 << 20
#: One range of so many bytes is mapped rather than copied.
_WHOLE = 1 << 20


def read_ranges(file: MappedFile, begins: I64, ends: I64) -> pa.Buffer:
    """The bytes of ranges `[begin, end)`, one behind the other: a copy, or a window where they are one range.

    Args:
        file: Open.
        begins: Ascending, shape (n,).
        ends: Each in the file, and not past the next range's begin, shape (n,).

    Raises:
        SourceChangedError: The file shrank.
        SourceError: The bytes can't be read.
        EngineError: No memory for them.
    """
    if not len(begins):
        return pa.py_buffer(b"")
    # Neighbours are one range.
    cut = np.flatnonzero(begins[1:] != ends[:-1]) + 1
    begins, ends = begins[np.concatenate([[0], cut])], ends[np.concatenate([cut - 1, [len(ends) - 1]])]
    total = int((ends - begins).sum())
    if len(begins) == 1 and total >= _WHOLE and file.decision.kind == "mmap":
        file.load(int(begins[0]), int(ends[0]))
        return file.window(int(begins[0]), total).buffer
    try:
        memory: Any = pa.allocate_buffer(total)
    except MemoryError as error:  # pa.ArrowMemoryError is one
        raise EngineError(f"no memory for {total:,} bytes of {file.path}", path=file.path) from error
    held = (
        file.hold(list(zip(begins.tolist(), (ends - begins).tolist(), strict=True))) if file.remote else None
    )
    if len(begins) > 1:
        _ask_for(file, begins, ends)
    view = memoryview(memory).cast("B")
    done = 0
    for begin, length in zip(begins.tolist(), (ends - begins).tolist(), strict=True):
        file.read_into(begin, view[done : done + length])
        done += length
    del held
    return memory


def row_parts(numbers: I64, size: int) -> Iterator[I64]:
    """Ascending numbers of rows of `size` bytes in parts that `rows_in_memory` takes.

    >>> [part.tolist() for part in row_parts(np.array([0, 5, 1 << 40]), 8)]
    [[0, 5], [1099511627776]]
    """
    most = max(1, min(_PART_ROWS, _PART_BYTES // size))
    spans = numbers // max(1, _SPAN // size)
    edges = [0, *(np.flatnonzero(spans[1:] != spans[:-1]) + 1).tolist(), len(numbers)]
    for begin, end in itertools.pairwise(edges):
        for first in range(begin, end, most):
            yield numbers[first : min(first + most, end)]


def rows_in_memory(file: MappedFile, begin: int, size: int, numbers: I64) -> tuple[pa.Buffer, I64]:
    """A buffer of whole rows of a file that holds those wanted, and their places in it.

    Args:
        file: Open.
        begin: Offset of row 0.
        size: Bytes of a row.
        numbers: Of the rows, ascending; one of `row_parts`.

    Returns:
        The buffer: a window, of which only what is touched comes into memory, or a copy of just these rows. The
        number of each wanted row in it, shape (n,).

    Raises:
        SourceChangedError: The file shrank.
        SourceError: The bytes can't be read.
    """
    begins = begin + numbers * size
    if file.remote or file.decision.kind != "mmap":  # a window of a remote one would be fetched whole
        return read_ranges(file, begins, begins + size), np.arange(len(numbers))
    if len(numbers) > 1:
        _ask_for(file, begins, begins + size)
    span = int(begins[-1] - begins[0]) + size
    return file.window(int(begins[0]), span, populate=False).buffer, numbers - numbers[0]


def _ask_for(file: MappedFile, begins: I64, ends: I64) -> None:
    """Start loading the pages of ascending ranges of a local file. Never fails."""
    if file.remote:
        return
    first, last = begins // system.PAGE_SIZE, (ends - 1) // system.PAGE_SIZE
    span = int(ends[-1] - begins[0])
    if span <= _SPAN and file.resident(int(begins[0]), int(ends[-1])) >= span:
        return
    edges = np.flatnonzero(first[1:] > last[:-1] + 1) + 1
    if span <= _SPAN and int((last - first + 1).sum()) * system.PAGE_SIZE * _DENSE >= span:
        file.load(int(begins[0]), int(ends[-1]))
        return
    starts = first[np.concatenate([[0], edges])] * system.PAGE_SIZE
    stops = (last[np.concatenate([edges - 1, [len(last) - 1]])] + 1) * system.PAGE_SIZE
    with contextlib.suppress(OSError):  # only a favour
        for start, length in zip(starts.tolist(), (stops - starts).tolist(), strict=True):
            system.advise_file(file.fd, start, length, "load")
