"""Blocks as files: an Arrow IPC stream and a trailer, written once and mapped back without a copy.

    | IPC stream ...          | magic  rows  length  crc32 |
    0                    length                    size of the file

The stream format, not the file format: dictionaries may change between batches. The trailer tells
a whole block from one that was cut short, which an IPC stream can't.

Invariant: a block file is never changed after `BlockWriter.finish`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from mmflow.errors import BlockLostError, EngineError
from mmflow.exec.streams import DamagedError, StreamFile, stream_batches

__all__ = ["BlockWriter", "Tier", "read_block", "stream_of", "write_block"]

_MAGIC = b"mmflowB1"
_TRAILER = struct.Struct("<8sQQI")
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Tier:
    """A folder for block files.

    Attributes:
        room: May a file grow to so many bytes there, now? None: as long as it fits.
        checked: Keep a checksum (disks; memory needs none).
        setting: What to change when it is full.
    """

    folder: str
    room: Callable[[int], bool] | None
    checked: bool
    setting: str


class BlockWriter(StreamFile):
    """A file-like sink that moves to the next tier when one is full.

    Args:
        name: File name in whichever folder.
        tiers: First choice first.
    """

    def __init__(self, name: str, tiers: Sequence[Tier]) -> None:
        super().__init__()
        self._name = name
        self._tiers = tiers
        self._level = 0
        self._crc = 0
        self._fd = self._open()

    @property
    def path(self) -> str:
        return os.path.join(self._tier.folder, self._name)

    @property
    def _tier(self) -> Tier:
        return self._tiers[self._level]

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise EngineError(f"{self._tier.folder} is gone: the run has ended or was swept") from None
        except OSError as error:
            raise EngineError(f"can't make {self.path}: {error.strerror}", path=self.path) from error

    def _put(self, view: memoryview) -> None:
        while len(view):
            more_tiers = self._level + 1 < len(self._tiers)
            room = self._tier.room
            if more_tiers and room is not None and not room(self._length + len(view)):
                self._move_on()
                continue
            try:
                written = os.write(self._fd, view)
            except OSError as error:
                if error.errno in _FULL and more_tiers:
                    self._move_on()
                    continue
                raise self._failure(error, len(view)) from error
            if self._tier.checked:
                self._crc = zlib.crc32(view[:written], self._crc)
            self._length += written
            view = view[written:]

    def _move_on(self) -> None:
        """Go on in the next tier, with what was written so far."""
        old_fd, old_path, length = self._fd, self.path, self._length
        self._fd = -1
        self._level += 1
        self._length = 0
        self._crc = 0
        try:
            self._fd = self._open()
            os.unlink(old_path)
            for begin in range(0, length, 1 << 22):
                self._put(memoryview(os.pread(old_fd, min(1 << 22, length - begin), begin)))
        finally:
            os.close(old_fd)

    def _failure(self, error: OSError, wanted: int) -> EngineError:
        if error.errno in _FULL:
            text = (
                f"no room left in {self._tier.folder} for a block of intermediate rows: "
                f"{self._length:,} bytes of it were written, {wanted:,} more don't fit; {self._tier.setting}"
            )
        else:
            text = f"can't write {self.path}: {error.strerror}"
        return EngineError(text, path=self.path)

    def finish(self, rows: int) -> int:
        """Write the trailer and close.

        Returns:
            Size of the file in bytes.
        """
        self.write_out()
        length, crc = self._length, self._crc if self._tier.checked else 0
        self._put(memoryview(_TRAILER.pack(_MAGIC, rows, length, crc)))
        os.close(self._fd)
        self.closed = True
        return self._length

    def discard(self) -> None:
        """Close and remove an unfinished file."""
        if not self.closed and self._fd >= 0:
            os.close(self._fd)
        self.closed = True
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def write_block(writer: BlockWriter, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> tuple[int, int]:
    """Write batches as they come.

    Returns:
        Rows, and size of the file in bytes.

    Raises:
        EngineError: No room; the unfinished file is removed.
    """
    rows = 0
    try:
        with pa.ipc.new_stream(pa.PythonFile(writer, mode="w"), schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
                rows += batch.num_rows
        return rows, writer.finish(rows)
    except BaseException:
        writer.discard()
        raise


def read_block(path: str, *, check: bool) -> list[pa.RecordBatch]:
    """Map a block file; batches alias the mapping, and hold it.

    Args:
        path: The file.
        check: Compare the checksum: reads all of it.

    Raises:
        EngineError: It is gone.
        BlockLostError: It is cut short, or damaged.
    """
    stream, rows = _mapped(path, check=check)
    try:
        return stream_batches(stream, rows)
    except DamagedError as error:
        raise _damaged(path, str(error)) from error


def stream_of(path: str) -> pa.Buffer:
    """The Arrow IPC stream of a block file, mapped and checked.

    Raises:
        EngineError: It is gone.
        BlockLostError: It is cut short, or damaged.
    """
    return _mapped(path, check=True)[0]


def _mapped(path: str, *, check: bool) -> tuple[pa.Buffer, int]:
    """The stream of a block file, and how many rows it was given."""
    try:
        source = pa.memory_map(path)
    except FileNotFoundError:
        raise EngineError(f"a block of intermediate rows is gone: {path}", path=path) from None
    except OSError as error:
        raise EngineError(f"can't map {path}: {error}", path=path) from error
    size = source.size()
    if size < _TRAILER.size:
        raise _damaged(path, f"it has {size:,} bytes")
    magic, rows, length, crc = _TRAILER.unpack(source.read_at(_TRAILER.size, size - _TRAILER.size))
    if magic != _MAGIC or length != size - _TRAILER.size:
        raise _damaged(path, "it is cut short")
    source.seek(0)
    stream = source.read_buffer(length)
    if check and zlib.crc32(memoryview(stream)) != crc:
        raise _damaged(path, "its checksum differs")
    return stream, int(rows)


def _damaged(path: str, why: str) -> BlockLostError:
    return BlockLostError(
        f"a block of intermediate rows was damaged on disk: {path}: {why}; check the disk, and run again",
        kept=path,
    )
