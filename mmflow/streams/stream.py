"""A stream: one thread reads it into blocks, and tasks decode these while it reads on.

    bytes     |  block, cut behind a line break  |  block  |  being filled ...
              ^released                          ^verified           ^end

A block is a shard. Where its cut lies inside of a quoted field, the scan of the block before reads on into the next
one, and the boundary check has the next one read again from the right place, as with shards of files.

Invariant: no more than `StreamLimits.capacity` bytes are kept, and a block; beside the head, which planning looked at,
and what a scan waits for to finish a record that is longer than that (`max_record` at most).
"""

from __future__ import annotations

import contextlib
import lzma
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from mmflow.errors import MmflowError, SourceError
from mmflow.formats.compression import damaged_error, decompress_stream, detect_compression
from mmflow.lazy.dataclasses import dataclass
from mmflow.mapping import FileIdentity, MappedFile
from mmflow.mapping.streams import STREAM_TAG
from mmflow.storage.os_errors import read_error
from mmflow.streams.polled_reader import PolledReader, StoppedReading

__all__ = ["Block", "Stream", "StreamLimits"]

#: First bytes of compressions, and how many bytes tell which one it is.
_MARKS = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\xfd7zXZ\0", b"BZh", b"PK\3\4")
_PROBED = 10
#: Bytes of the first block; each one is twice as large as the one before, up to the limit.
_FIRST_BLOCK = 1 << 20
#: Bytes that are asked of a decompressor at once.
_UNPACKED = 256 << 10
#: A line is handed on at the latest so many seconds after it came, even if its block is not full.
_PATIENCE = 0.25
#: Seconds after which a waiting thread looks around: signals that other threads were given don't wake it.
_LOOK = 0.1
_LOOKED_BACK = 64 << 10
_JOIN_SECONDS = 1.0
_NEWLINE = 10


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits of a stream that is read: bytes that it may keep, and bytes of a block."""

    BLOCK: ClassVar[int] = 16 << 20

    capacity: int
    block: int

    @classmethod
    def of(cls, memory: int, workers: int, shard_size: int | None = None, most: int = BLOCK) -> StreamLimits:
        """Return limits that keep all workers busy: two blocks for each, within an eighth of the memory.

        >>> StreamLimits.of(1 << 30, 2)
        StreamLimits(capacity=100663296, block=16777216)
        """
        count = 2 * workers + 2
        block = max(64 << 10, min(most, memory // 8 // count))
        block = min(block, shard_size or block)
        return cls(count * block, block)


@dataclass(frozen=True, slots=True)
class Block:
    """Part of a stream: its bytes, their offset, and the lines before them where these are counted."""

    begin: int
    data: pa.Buffer
    lines_before: int = 0

    @property
    def end(self) -> int:
        return self.begin + len(self.data)


class Stream:
    """Stream that is read once. Thread-safe.

    Args:
        path: Path as the user gave it.
        number: Number of the stream in this process.
        reader: Reader of a descriptor, which is owned from now on; None: a subclass reads something else.
        close: Called with the stream's end, after the descriptor was closed.

    Attributes:
        compression: Compression that was undone; None: there was none, or nothing is known yet.
        reason: Why it is read as it is, for reports.
    """

    reason = "a stream: it is read once, by one thread"

    def __init__(
        self, path: str, number: int, reader: PolledReader | None, close: Callable[[], None] = lambda: None
    ) -> None:
        self.path = path
        self.identity = FileIdentity(0, number, 0, 0, STREAM_TAG + os.urandom(8).hex())
        self.compression: str | None = None
        self._reader = reader
        self._on_close = close
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._limits: StreamLimits | None = None  # while planning looks at the head
        self._wanted = 0  # end of what is waited for: read whatever the capacity
        self._head: list[Block] = []
        self._kept: deque[Block] = deque()
        self._ready: deque[Block] = deque()
        self._released = 0
        self._counts_lines = self._releases_behind = False
        self._head_end = 0
        self._lines = 0
        self._block = _FIRST_BLOCK
        self._begin = 0  # of what is being filled
        self._fill_new(b"")
        self._since: float | None = None  # when the first byte of it came
        self._at_end = False
        self._error: MmflowError | None = None
        self._closed = False

    # ---- planning, and tasks -----------------------------------------------------------------------

    def open(self) -> MappedFile:
        """Return the stream as a file.

        Raises:
            SourceError: It was read before.
        """
        from mmflow.streams.file import StreamFile  # noqa: PLC0415  (it holds a stream)

        self._check_open()
        return StreamFile(self)

    @property
    def size(self) -> int | None:
        """Bytes of the stream; None: its end has not come yet."""
        return self.end if self._at_end else None

    @property
    def end(self) -> int:
        """Bytes that have come so far."""
        return self._begin + self._filled

    def window(self, offset: int, length: int) -> pa.Buffer:
        """Return the bytes `[offset, offset + length)`, fewer only at the end. Waits until they have come.

        Raises:
            SourceError: The stream can't be read, is closed, or these bytes were released.
        """
        end = offset + length
        if self._releases_behind:
            self.release(offset)
        with self._changed:
            self._start_thread()
            self._wanted = max(self._wanted, end)
            self._changed.notify_all()
            while self.end < end and not self._at_end:
                self._check_open()
                if self._error is not None:
                    raise self._error
                self._changed.wait(_LOOK)
            self._check_open()
            parts = list(self._parts(offset, min(end, self.end)))
        if len(parts) == 1:
            return parts[0]
        return pa.py_buffer(b"".join(memoryview(part) for part in parts))

    def _parts(self, offset: int, end: int) -> Iterator[pa.Buffer]:
        filling = Block(self._begin, self._memory.slice(0, self._filled))
        for block in (*self._head, *self._kept, filling):
            if block.begin <= offset < min(end, block.end):
                yield block.data.slice(offset - block.begin, min(end, block.end) - offset)
                offset = min(end, block.end)
        if offset < end:
            raise SourceError(
                f"can't read {self.path}: it is a stream, and its bytes from {offset:,} on were read before; a stream "
                "is read once: save it to a file first, and read that",
                path=self.path,
            )

    # ---- the run that reads it ----------------------------------------------------------------------

    def begin(self, limits: StreamLimits, *, count_lines: bool = False, release_behind: bool = False) -> None:
        """Begin to read on, and to cut blocks.

        Args:
            limits: Bytes that may be kept.
            count_lines: Whether blocks say how many lines are before them.
            release_behind: Whether a window releases what is before it; else `release` does.

        Raises:
            SourceError: Another run has read it, or does.
        """
        with self._changed:
            self._check_open()
            if self._limits is not None:
                raise self._read_before()
            self._limits, self._counts_lines, self._releases_behind = limits, count_lines, release_behind
            self._block = min(self._block, limits.block)
            self._head_end = max(1, self._wanted)  # each task looks for a mark at the start
            self._start_thread()
            self._changed.notify_all()

    def take(self) -> Block | None:
        """Return the next block; None: there is none yet, or no more."""
        with self._changed:
            if not self._ready:
                return None
            block = replace(self._ready.popleft(), lines_before=self._lines)
        if self._counts_lines:
            self._lines += int(np.count_nonzero(np.frombuffer(block.data, np.uint8) == _NEWLINE))
        return block

    @property
    def exhausted(self) -> bool:
        """Return whether all blocks were taken."""
        with self._changed:
            return not self._ready and (self._at_end or self._error is not None or self._closed)

    @property
    def error(self) -> MmflowError | None:
        """Error that ended it early."""
        return self._error

    @property
    def is_closed(self) -> bool:
        return self._closed

    def wait(self, seconds: float) -> None:
        """Wait until there is a block to take, or the end."""
        with self._changed:
            if not self._ready and not (self._at_end or self._error is not None or self._closed):
                self._changed.wait(seconds)

    def release(self, end: int) -> None:
        """Release the bytes before `end`, which nobody asks for again."""
        with self._changed:
            while self._kept and self._kept[0].end <= end:
                block = self._kept.popleft()
                self._released = block.end
                if block.begin < self._head_end:
                    self._head.append(block)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop reading, and close the descriptor: the process that writes is ended by SIGPIPE. Idempotent."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
            if self._reader is not None:
                self._reader.stop()
        if thread is not None:
            thread.join(_JOIN_SECONDS)
        with self._changed:
            self._head.clear()
            self._kept.clear()
            self._ready.clear()
        if thread is None or not thread.is_alive():
            if self._reader is not None:
                self._reader.release()
            self._on_close()

    def _check_open(self) -> None:
        if self._closed:
            raise self._read_before()

    def _read_before(self) -> SourceError:
        return SourceError(
            f"can't read {self.path}: it is a stream, and it was read before; a stream is read once: save it to a file "
            "first (`cat > data.csv`), and read that",
            path=self.path,
        )

    # ---- the thread that reads ----------------------------------------------------------------------

    def _start_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="mmflow-stream", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        try:
            with contextlib.ExitStack() as opened:
                read = self._reading(opened)
                while self._fill(read):
                    pass
        except StoppedReading:
            return
        except MmflowError as error:
            self._fail(error)
        except (pa.ArrowInvalid, EOFError, OSError, lzma.LZMAError) as error:
            if self.compression is not None:
                self._fail(damaged_error(self.path, self.compression, error))
            elif isinstance(error, OSError):
                self._fail(read_error(self.path, error))
            else:
                raise

    def _reading(self, opened: contextlib.ExitStack) -> Callable[[memoryview, float | None], int | None]:
        """Return the function that reads some bytes, with any compression undone."""
        start = b""
        assert self._reader is not None  # a subclass reads something else
        while len(start) < _PROBED and any(mark[: len(start)] == start[: len(mark)] for mark in _MARKS):
            self._wait_until_wanted()
            more = memoryview(bytearray(_PROBED))
            found = self._reader.readinto(more)
            if not found:
                break
            start += bytes(more[:found])
        self._reader.unread(start)
        self.compression = detect_compression(start, self.path)
        if self.compression is None:
            return self._reader.read_some
        if self.compression == "zip":
            raise SourceError(
                f"can't read {self.path}: it is a zip archive, whose list of files is at its end, and a stream; unpack "
                "it first (`unzip -p archive.zip | ...`)",
                path=self.path,
            )
        source = pa.PythonFile(self._reader, mode="r")
        unpacked: Any = opened.enter_context(decompress_stream(source, self.compression, self.path))
        return lambda target, _: unpacked.readinto(target[:_UNPACKED])

    def _wait_until_wanted(self) -> None:
        with self._changed:
            while not self._may_read():
                self._cut_while_full()
                self._changed.wait()
            if self._closed:
                raise StoppedReading

    def _may_read(self) -> bool:
        if self._closed or self.end < self._wanted:
            return True
        return self._limits is not None and self.end - self._released < self._limits.capacity

    def _fill(self, read: Callable[[memoryview, float | None], int | None]) -> bool:
        """Read some bytes; return False at the end."""
        self._wait_until_wanted()
        cuts = self._limits is not None
        assert self._reader is not None  # a subclass reads something else
        target = self._view[self._filled :]
        if cuts and self.compression is None and self.end >= self._wanted:
            # Nobody waits for the next few bytes, so a block comes in one call, which needs no interpreter meanwhile.
            left = 0.0 if self._since is None else _PATIENCE - (time.monotonic() - self._since)
            seconds = left if left > 0 else _PATIENCE
            got = self._reader.fill(target, seconds, came_before=self._since is not None)
            late = got is None or 0 < got < len(target)
        else:
            got = read(target, _PATIENCE if cuts and self._filled else None)
            late = got is None
        with self._changed:
            if self._closed:
                raise StoppedReading
            if got == 0:
                self._cut(self._filled)
                self._at_end = True
            elif got is not None:
                self._since = time.monotonic() if self._since is None else self._since
                self._filled += got
            if not self._at_end:
                self._cut_if_due(late=late)
            self._changed.notify_all()
        return not self._at_end

    def _cut_if_due(self, *, late: bool) -> None:
        full = self._filled == len(self._view)
        late = late or (self._since is not None and time.monotonic() - self._since > _PATIENCE)
        if full or (late and self._limits is not None):
            behind = self._behind_line()
            if behind or full:
                self._cut(behind or self._filled)

    def _cut_while_full(self) -> None:
        """Hand on what has come, where no more may be read before it is released."""
        if self._limits is None or self._ready:
            return
        length = self._behind_line() or (0 if self._kept else self._filled)
        if length:
            self._cut(length)
            self._changed.notify_all()

    def _behind_line(self) -> int:
        """Return the length of what is being filled up to its last line break; 0: it has none."""
        end = self._filled
        while end > 0:
            begin = max(0, end - _LOOKED_BACK)
            found = bytes(self._view[begin:end]).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return 0

    def _cut(self, length: int) -> None:
        """Make a block of the first `length` bytes of what is being filled; the others are the start of the next."""
        if length:
            block = Block(self._begin, self._memory.slice(0, length))
            self._kept.append(block)
            self._ready.append(block)
        if self._limits is not None:
            self._block = min(2 * self._block, self._limits.block)
        self._begin += length
        self._fill_new(self._view[length : self._filled])
        self._since = None if not self._filled else time.monotonic()

    def _fill_new(self, start: bytes | memoryview) -> None:
        """Begin to fill other memory, with `start`."""
        self._memory = pa.allocate_buffer(max(self._block, 2 * len(start)))
        self._view = memoryview(self._memory).cast("B")
        self._view[: len(start)] = start
        self._filled = len(start)

    def _fail(self, error: MmflowError) -> None:
        with self._changed:
            self._cut(self._filled)
            self._error = error
            self._changed.notify_all()
