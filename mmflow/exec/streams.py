"""Arrow IPC streams in files, as blocks are: what is written to, and how one is read and judged."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa

from mmflow.mapping.huge import whole_file
from mmflow.mapping.system import system

__all__ = ["DamagedError", "StreamFile", "mapped", "read_range", "stream_batches"]

_GATHER = 1 << 16
#: Shorter ranges are read: mapping one takes longer, and mappings are limited in number.
_SHORT = 1 << 16


class DamagedError(ValueError):
    """A stream is not what was written."""


class StreamFile:
    """A file that pyarrow writes streams to, through `pa.PythonFile`: puts small writes together."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._length = 0  # bytes that were put
        self.closed = False

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length + len(self._held)

    def flush(self) -> None:
        """Part of the file protocol; `write_out` is what writes."""

    def close(self) -> None:
        """Part of the file protocol; whoever made the file ends it."""

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
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


def mapped(path: str | int) -> pa.Buffer:
    """All bytes of a local file, given by path or by descriptor; no descriptor is kept.

    Raises:
        OSError: As the system says.
    """
    if not isinstance(path, str):
        return whole_file(path)[0]
    fd = system.open_file(path)
    try:
        return whole_file(fd)[0]
    finally:
        os.close(fd)


def read_range(path: str, offset: int, length: int) -> pa.Buffer:
    """Bytes of a local file: mapped, or read where they are few; fewer, where the file ends.

    Raises:
        OSError: As the system says.
    """
    if length > _SHORT:
        whole = mapped(path)
        begin = min(offset, whole.size)
        return whole.slice(begin, min(length, whole.size - begin))
    with pa.OSFile(os.fsencode(path)) as source:
        source.seek(offset)
        return source.read_buffer(length)


def stream_batches(stream: pa.Buffer, rows: int) -> list[pa.RecordBatch]:
    """The batches of a stream, over its bytes.

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
