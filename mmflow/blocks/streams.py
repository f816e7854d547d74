"""Arrow IPC streams in files, as blocks are: writing, reading and checking them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable

import pyarrow as pa

from mmflow.mapping.system import system
from mmflow.mapping.system.huge import map_whole_file

__all__ = ["DamagedError", "StreamFile", "mapped", "read_range", "stream_batches", "write_stream"]

_GATHER = 1 << 16
#: Shorter ranges are read: mapping one takes longer, and mappings are limited in number.
_SHORT = 1 << 16


class DamagedError(ValueError):
    """Stream that is not what was written."""


class StreamFile:
    """File that pyarrow writes streams to, through `pa.PythonFile`; it gathers small writes."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._length = 0  # bytes that were put
        self.closed = False

    def tell(self) -> int:
        return self._length + len(self._held)

    def flush(self) -> None:
        """Do nothing: part of the file protocol. `write_out` writes."""

    def close(self) -> None:
        """Do nothing: part of the file protocol. The maker of the file closes it."""

    def write(self, data: bytes | pa.Buffer) -> int:
        view = memoryview(data)
        size = len(view)
        if size < _GATHER:
            self._held += view
            if len(self._held) >= _GATHER:
                self.write_out()
        else:
            self.write_out()
            self._put(view)
        return size

    def write_out(self) -> None:
        """Put what is held back."""
        if self._held:
            held, self._held = self._held, bytearray()
            self._put(memoryview(held))

    def _put(self, view: memoryview) -> None:
        """Write all of it, and count it in `_length`: what a subclass is for."""
        raise NotImplementedError


def write_stream(
    sink: StreamFile | pa.NativeFile, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> int:
    """Write batches as one stream to a file of pyarrow's, or a `StreamFile`, and return their rows."""
    rows = 0
    with pa.ipc.new_stream(sink, schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
            rows += batch.num_rows
    return rows


def mapped(path: str | int) -> pa.Buffer:
    """Return all bytes of a local file, given by path or by descriptor, which is not kept: mapped, or else read.

    Raises:
        OSError: As the system says.
    """
    if not isinstance(path, str):
        return _range(path, 0, None)
    fd = system.open_file(path)
    try:
        return _range(fd, 0, None)
    finally:
        os.close(fd)


def read_range(path: str, offset: int, length: int) -> pa.Buffer:
    """Return bytes of a local file: mapped, or read if they are few; fewer, if the file ends before.

    Raises:
        OSError: As the system says.
    """
    fd = system.open_file(path)
    try:
        return _range(fd, offset, length)
    finally:
        os.close(fd)


def _range(fd: int, offset: int, length: int | None) -> pa.Buffer:
    """Return bytes of an open file; None: all that are behind the offset, and mapped even if they are few."""
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):  # of no bytes on some file systems, where nothing would be read
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    size = status.st_size
    begin = min(offset, size)
    is_mapped = length is None or length > _SHORT
    length = min(size if length is None else length, size - begin)
    if is_mapped:
        # Whatever the reason (its file system maps no files, mappings have run out), reading gives the same bytes, or
        # the error that matters.
        with contextlib.suppress(OSError):
            return map_whole_file(fd)[0].slice(begin, length)
    buffer = pa.allocate_buffer(length)
    view, done = memoryview(buffer), 0
    while done < length and (count := system.read_at(fd, view[done:], begin + done)):
        done += count
    return buffer.slice(0, done)


def stream_batches(stream: pa.Buffer, rows: int) -> list[pa.RecordBatch]:
    """Return the batches of a stream, over its bytes.

    Raises:
        DamagedError: They can't be read, or are not so many rows.
    """
    try:
        batches = list(pa.ipc.open_stream(stream))
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedError(str(error)) from error
    if sum(b.num_rows for b in batches) != rows:
        raise DamagedError(f"it doesn't hold the {rows:,} rows that were put there")
    return batches
