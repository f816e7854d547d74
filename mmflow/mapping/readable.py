"""Mapped files as Arrow files, for pyarrow's own readers (Parquet, IPC).

Invariant: a read returns a view of a window (no copy for mmap), which lives as long as the view.
"""

from __future__ import annotations

import errno
import io
import threading

import pyarrow as pa

from mmflow.mapping.file import MappedFile
from mmflow.mapping.window import Window

__all__ = ["WindowReader", "as_arrow_file"]

# Small reads (footers, page headers, batch metadata) share a window of this many bytes: a mapping per
# read would cost more than the read.
_BLOCK = 256 << 10
_AHEAD = 16 << 20


class WindowReader:
    """File-like object over windows: `read` and `read_buffer` return Arrow buffers, not bytes."""

    def __init__(self, file: MappedFile, *, populate: bool = True, ahead: int = 0) -> None:
        self._file = file
        self._populate = populate
        self._ahead_end = ahead
        self._fetched_end = 0
        self._position = 0
        self._block: Window | None = None
        self._lock = threading.Lock()
        self.closed = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def size(self) -> int:
        return self._file.size

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            # As of files: zipfile tries it.
            raise OSError(errno.EINVAL, f"seek before the start of {self._file.path}")
        self._position = base + offset
        return self._position

    def read_buffer(self, nbytes: int = -1) -> pa.Buffer:
        with self._lock:
            begin = min(self._position, self._file.size)
            end = self._file.size if nbytes is None or nbytes < 0 else min(begin + nbytes, self._file.size)
            found = self._view(begin, end - begin)
            self._position = max(self._position, begin + found.size)
            return found

    read = read_buffer

    def unread(self, rest: pa.Buffer) -> None:
        """Give back the last bytes that were read: they come again."""
        self._position -= rest.size

    def _read_ahead(self, end: int) -> None:
        """Start fetching the bytes behind `end`, in pieces that are worth a request."""
        if end < self._ahead_end and end + _AHEAD // 2 > self._fetched_end:
            begin = max(end, self._fetched_end)
            self._fetched_end = min(end + _AHEAD, self._ahead_end)
            self._file.fetch([(begin, self._fetched_end - begin)])

    def _view(self, offset: int, length: int) -> pa.Buffer:
        self._read_ahead(offset + length)
        if length >= _BLOCK:
            return self._file.window(offset, length, populate=self._populate).buffer
        block = self._block
        if block is None or offset < block.offset or offset + length > block.end:
            begin = offset - offset % _BLOCK
            span = _BLOCK if offset + length <= begin + _BLOCK else 2 * _BLOCK
            block = self._block = self._file.window(begin, span)
        # A stream may end before.
        return block.buffer.slice(offset - block.offset, min(length, max(0, block.end - offset)))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        self._block = None


def as_arrow_file(file: MappedFile, *, populate: bool = True, ahead: int = 0) -> pa.NativeFile:
    """Open an Arrow random-access file over `file`, which must stay open while it is used.

    Args:
        file: Open file.
        populate: Whether pages are mapped at once, as in `MappedFile.window`.
        ahead: End of the bytes that are read in order, all of them, which `MappedFile.fetch` may bring in ahead.

    Buffers stay valid after both are closed.
    """
    return pa.PythonFile(WindowReader(file, populate=populate, ahead=ahead), mode="r")
