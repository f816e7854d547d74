"""Blocks as files: an Arrow IPC stream and a trailer, written once and mapped back without a copy.

    | IPC stream ...          | magic  rows  length  crc32 |
    0                    length                    size of the file

The stream format, not the file format: dictionaries may change between batches. The trailer tells
a whole block from one that was cut short, which an IPC stream can't.

Files are filled by write(2), which makes room as it goes: no room is an error here, and never a SIGBUS later.

Invariant: a block file is never changed after `BlockWriter.finish`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa

from mmflow.blocks.streams import DamagedError, StreamFile, mapped, stream_batches, write_stream
from mmflow.errors import BlockLostError, EngineError
from mmflow.lazy.dataclasses import dataclass
from mmflow.storage.format_versions import BLOCK

__all__ = [
    "BlockWriter",
    "OtherVersionError",
    "Tier",
    "block_in",
    "read_block_file",
    "stream_of",
    "write_block_file",
]

_MAGIC = b"mmflowB"
_TRAILER = struct.Struct("<8sQQI")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)


class OtherVersionError(DamagedError):
    """Block of another version of their format, which its message is."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Folder for block files.

    Attributes:
        room: Returns whether a file may grow to so many bytes there, now; None: as long as it fits.
        setting: Advice for the error when it is full, and no tier is behind it.
        checked: Keep a checksum of the file (disks; memory needs none, nor do blocks that have their own).
    """

    folder: str
    room: Callable[[int], bool] | None
    setting: str = ""
    checked: bool = False

    def create(self, name: str) -> int:
        """Create a file, open for writing.

        Raises:
            OSError: As the system says.
        """
        return os.open(
            os.path.join(self.folder, name), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600
        )

    def seal(self, fd: int) -> None:
        """Protect a finished file against changes, where the kernel can."""


class BlockWriter(StreamFile):
    """File-like sink that moves to the next tier when one is full.

    Args:
        name: File name in whichever folder.
        tiers: First choice first.

    Attributes:
        fd: Descriptor of the file, until `finish` or `discard` closes it.
        moved: Why the file is not in the first tier; "": it is.
    """

    def __init__(self, name: str, tiers: Sequence[Tier]) -> None:
        super().__init__()
        self._name = name
        self._tiers = tiers
        self._level = 0
        self._crc = 0
        self.moved = ""
        self.fd = self._open()

    @property
    def path(self) -> str:
        return os.path.join(self._tier.folder, self._name)

    @property
    def _tier(self) -> Tier:
        return self._tiers[self._level]

    def _open(self) -> int:
        try:
            return self._tier.create(self._name)
        except FileNotFoundError:
            raise EngineError(
                f"no folder {self._tier.folder}: the run has ended or was swept, or spill_dir (MMFLOW_SPILL_DIR) names "
                "a folder that is not there"
            ) from None
        except OSError as error:
            raise EngineError(f"can't make {self.path}: {error.strerror}", path=self.path) from error

    def _put(self, view: memoryview) -> None:
        while len(view):
            more_tiers = self._level + 1 < len(self._tiers)
            room = self._tier.room
            if more_tiers and room is not None and not room(self._length + len(view)):
                self._move_on("memory is short, or its budget is used up")
                continue
            try:
                written = os.write(self.fd, view)
            except OSError as error:
                if error.errno in _FULL and more_tiers:
                    self._move_on(f"{self._tier.folder or 'memory'} is full")
                    continue
                raise self._failure(error, len(view)) from error
            if self._tier.checked:
                self._crc = zlib.crc32(view[:written], self._crc)
            self._length += written
            view = view[written:]

    def _move_on(self, why: str) -> None:
        """Move to the next tier, with what was written so far."""
        old_fd, old_path, length = self.fd, self.path, self._length
        self.moved = why
        self.fd = -1
        self._level += 1
        self._length = 0
        self._crc = 0
        try:
            self.fd = self._open()
            for begin in range(0, length, 1 << 22):
                self._put(memoryview(os.pread(old_fd, 1 << 22, begin)))
        finally:
            with contextlib.suppress(OSError):  # what was written there counts no more
                os.close(old_fd)
            with contextlib.suppress(OSError):  # it may have no name
                os.unlink(old_path)

    def _failure(self, error: OSError, wanted: int) -> EngineError:
        if error.errno in _FULL:
            text = (
                f"no room left in {self._tier.folder or 'memory'} for a block of rows: "
                f"{self._length:,} bytes of it were written, {wanted:,} more don't fit; {self._tier.setting}"
            )
        else:
            text = f"can't write {self.path}: {error.strerror}"
        return EngineError(text, path=self.path)

    def finish(self, rows: int, *, close: bool = True) -> int:
        """Write the trailer, and close; or leave `fd` to the caller.

        Returns:
            Size of the file in bytes.
        """
        self.write_out()
        self._put(memoryview(_TRAILER.pack(BLOCK.mark(_MAGIC), rows, self._length, self._crc)))
        self._tier.seal(self.fd)
        self.closed = True
        if close:
            try:
                os.close(self.fd)
            except OSError as error:  # file servers and quotas may tell only now
                raise self._failure(error, 0) from error
        return self._length

    def discard(self) -> None:
        """Close and remove an unfinished file."""
        was, self.closed = self.closed, True
        if not was and self.fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self.fd)
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def write_block_file(
    writer: BlockWriter, batches: Iterable[pa.RecordBatch], schema: pa.Schema, *, close: bool = True
) -> tuple[int, int]:
    """Write batches as they come, and `BlockWriter.finish`.

    Returns:
        Rows, and size of the file in bytes.

    Raises:
        EngineError: No room; the unfinished file is removed.
    """
    try:
        rows = write_stream(writer, schema, batches)
        return rows, writer.finish(rows, close=close)
    except BaseException:
        writer.discard()
        raise


def read_block_file(path: str, *, check: bool) -> list[pa.RecordBatch]:
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
    """Return the Arrow IPC stream of a block file, mapped and checked.

    Raises:
        EngineError: It is gone.
        BlockLostError: It is cut short, or damaged.
    """
    return _mapped(path, check=True)[0]


def _mapped(path: str, *, check: bool) -> tuple[pa.Buffer, int]:
    """Map a block file; return its stream, and the number of rows in its trailer."""
    try:
        return block_in(mapped(path), check=check)
    except FileNotFoundError:
        raise EngineError(f"a block of intermediate rows is gone: {path}", path=path) from None
    except OSError as error:
        raise EngineError(f"can't read {path}: {error.strerror or error}", path=path) from error
    except DamagedError as error:
        raise _damaged(path, str(error)) from error


def block_in(whole: pa.Buffer, *, check: bool) -> tuple[pa.Buffer, int]:
    """Return the stream in the bytes of a block file, and the number of rows in its trailer.

    Args:
        whole: The bytes.
        check: Compare the checksum: reads all of them.

    Raises:
        DamagedError: They are not, or not all of, a block; an OtherVersionError, if they are one of another version.
    """
    length = whole.size - _TRAILER.size
    if length < 0:
        raise DamagedError(f"it has {whole.size:,} bytes")
    magic, rows, noted, crc = _TRAILER.unpack(whole.slice(length))
    if other := BLOCK.other_version(magic, _MAGIC):
        raise OtherVersionError(other)
    if magic != BLOCK.mark(_MAGIC) or noted != length:
        raise DamagedError("it is cut short")
    stream = whole.slice(0, length)
    if check and zlib.crc32(stream) != crc:
        raise DamagedError("its checksum differs")
    return stream, int(rows)


def _damaged(path: str, why: str) -> BlockLostError:
    return BlockLostError(
        f"a block of intermediate rows was damaged on disk: {path}: {why}; check the disk, and run again",
        lost_file=path,
    )
