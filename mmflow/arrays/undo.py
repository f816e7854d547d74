"""The undo log: what pages held before they were changed, so that a crash leaves the old content or the new.

    .NAME.mmflow~undo-PID-RANDOM beside the file, locked (flock) by the process that writes

    | magic | size, inode |  offset  length  crc32 | bytes |  offset  length  crc32 | bytes | ...
                                                   ("bytes" of a hole: none, and its length has the top bit set)

Write-ahead: a page's old content is durable in the log before the page is changed, so a record that is cut short
belongs to a change that was never made. The changes count once the log is gone; a log that nobody has locked is of a
dead writer, and is played back by whoever opens the file next.

(The `~` is in no name of a run, so no commit of a sink takes the log for what a run has left.)

Several writers of one file each have a log; `arrays.writers` keeps them from changing the same page.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmflow.arrays.failures import writing
from mmflow.arrays.holes import data_extents, punch, write_at
from mmflow.errors import SinkError
from mmflow.mapping.system import system
from mmflow.sinks.atomic import fsync_folder
from mmflow.sinks.checkpoints import checkpoint

__all__ = [
    "Record",
    "UndoLog",
    "is_live",
    "live_writers",
    "log_names",
    "log_range",
    "play_back",
    "records",
    "roll_back_dead",
    "start_log",
]

_MAGIC = b"mmfundo2"
_HEAD = struct.Struct("<8sQQ")
_RECORD = struct.Struct("<QQI")
_HOLE = 1 << 63
_INODE = (1 << 64) - 1  # Windows has longer ones
_CHUNK = 1 << 16  # pages whose bits are kept together
_AT_ONCE = 8 << 20


def _prefix(path: str) -> str:
    return f".{os.path.basename(path)}.mmflow~undo-"


def _folder(path: str) -> Path:
    return Path(path).absolute().parent


class UndoLog:
    """The log of one writer, from its first change on until `clear`.

    Args:
        path: The file that is changed.
        fd: Its descriptor, for reading and writing.
        page: Bytes of a page.

    Attributes:
        name: Path of the log; "" before the first change.
    """

    def __init__(self, path: str, fd: int, page: int) -> None:
        self._path = path
        self._fd = fd
        self._page = page
        self._log = -1
        self.name = ""
        self._saved: dict[int, npt.NDArray[np.bool_]] = {}

    def save(self, begin: int, end: int) -> None:
        """Make the old content of the pages of `[begin, end)` durable, as far as it is not yet.

        Raises:
            SinkError: No room, no permission.
        """
        pages = list(self._unsaved(begin // self._page, -(-end // self._page)))
        if not pages:
            return
        with writing(self._path, "keep the old content of"):
            if self._log < 0:
                self._open()
            size = os.fstat(self._fd).st_size
            for first, stop in pages:
                log_range(self._log, self._fd, first * self._page, min(stop * self._page, size))
            system.sync(self._log, content_only=True)
        for first, stop in pages:
            self._mark(first, stop)
        checkpoint("saved")

    def _unsaved(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Runs of pages that are not in the log."""
        for chunk in range(first // _CHUNK, -(-stop // _CHUNK)):
            bits = self._saved.get(chunk)
            base = chunk * _CHUNK
            low, high = max(first, base) - base, min(stop, base + _CHUNK) - base
            if bits is None:
                yield base + low, base + high
                continue
            edges = np.flatnonzero(np.diff(np.concatenate(([True], bits[low:high], [True])).astype(np.int8)))
            for begin, end in edges.reshape(-1, 2).tolist():
                yield base + low + begin, base + low + end

    def _mark(self, first: int, stop: int) -> None:
        chunk = first // _CHUNK
        bits = self._saved.get(chunk)
        if bits is None:
            bits = self._saved[chunk] = np.zeros(_CHUNK, bool)
        bits[first - chunk * _CHUNK : stop - chunk * _CHUNK] = True

    def _open(self) -> None:
        while True:
            # A name that no other log had: other writers remember how far they have read it (`arrays.writers`).
            self.name = str(_folder(self._path) / f"{_prefix(self._path)}{os.getpid()}-{os.urandom(6).hex()}")
            try:
                log = os.open(self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR | system.OPEN_FLAGS, 0o600)
            except FileExistsError:
                continue
            system.lock(log, shared=False, wait=True)
            if os.fstat(log).st_nlink:
                break
            os.close(log)  # before it was locked, somebody took it for that of a dead writer
        self._log = log
        start_log(log, self._fd)
        fsync_folder(_folder(self._path))
        checkpoint("opened")

    def clear(self) -> None:
        """Forget the old content: the changes are durable, and count. Idempotent.

        Raises:
            SinkError: The log can't be removed.
        """
        if self._log >= 0:
            with writing(self._path, "finish the change of"):
                _forget(self._log, self.name)
            os.close(self._log)
            _unlink_closed(self.name)
            self._log = -1
            self._saved.clear()

    def roll_back(self) -> None:
        """Put the old content back, into the file that was changed, whatever stands at its path now. Idempotent.

        Raises:
            SinkError: It can't be written.
        """
        if self._log >= 0:
            with writing(self._path, "put back the old content of"):
                play_back(self._log, self._path, self._fd)
            self.clear()

    def abandon(self) -> None:
        """Leave the log as that of a dead writer, for whoever opens the file next; in a forked child, as its parent's.
        Idempotent."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
            self._saved.clear()


def roll_back_dead(path: str) -> int:
    """Put back what dead writers of a file left half changed.

    Returns:
        How many of them there were.

    Raises:
        SinkError: The old content can't be written.
    """
    count = 0
    for name in log_names(path):
        with writing(path, "put back the old content of"):
            try:
                log = os.open(name, os.O_RDWR | system.OPEN_FLAGS)
            except FileNotFoundError:
                continue
            try:
                # Else its writer lives, or somebody else was here first.
                begun = not is_live(log) and os.fstat(log).st_nlink
                if begun:
                    play_back(log, path)
                    _forget(log, name)
                    count += 1
            finally:
                os.close(log)
            if begun:
                _unlink_closed(name)
    return count


def log_names(path: str) -> list[str]:
    """Return the paths of all undo logs of a file, in order; none where its folder can't be listed."""
    folder, prefix = _folder(path), _prefix(path)
    try:
        return [str(folder / name) for name in sorted(os.listdir(folder)) if name.startswith(prefix)]
    except OSError:
        return []


def live_writers(path: str) -> bool:
    """Is there a log whose writer lives? Its changes are neither final nor given up."""
    for name in log_names(path):
        with contextlib.suppress(FileNotFoundError):
            log = os.open(name, os.O_RDWR | system.OPEN_FLAGS)
            try:
                if is_live(log):
                    return True
            finally:
                os.close(log)
    return False


def _forget(log: int, name: str) -> None:
    """Let a log that is locked say nothing any more: deleted, or, where it can't be while it is open, emptied."""
    if system.DELETES_OPEN:
        os.unlink(name)
    else:
        os.ftruncate(log, 0)
        system.sync(log)
    checkpoint("unlinked")
    fsync_folder(Path(name).parent)


def _unlink_closed(name: str) -> None:
    """Delete a log that was only emptied. Somebody who looks into it just now deletes it in our place."""
    if not system.DELETES_OPEN:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            os.unlink(name)


# ---- the format of a log ------------------------------------------------------------------------------


class Record(NamedTuple):
    """The old content of `length` bytes from `offset` on: in the log at `position`; None: a hole. The next record
    begins at `end`."""

    offset: int
    length: int
    position: int | None
    crc: int
    end: int


def start_log(log: int, fd: int) -> None:
    """Write the head of the log of an open file."""
    status = os.fstat(fd)
    _write(log, _HEAD.pack(_MAGIC, status.st_size, status.st_ino & _INODE))


def log_range(log: int, fd: int, begin: int, end: int) -> None:
    """Write what `[begin, end)` of a file holds to its log, holes as such.

    Raises:
        OSError: No room, for one.
    """
    at = begin
    for first, last in [*data_extents(fd, begin, end), (end, end)]:
        if at < first:
            hole = first - at | _HOLE
            _write(log, _RECORD.pack(at, hole, zlib.crc32(struct.pack("<QQ", at, hole))))
        for offset in range(first, last, _AT_ONCE):
            old = system.read_bytes(fd, min(_AT_ONCE, last - offset), offset)
            _write(log, _RECORD.pack(offset, len(old), zlib.crc32(old)) + old)
            checkpoint("logged")
        at = last


def records(log: int, start: int = 0) -> Iterator[Record]:
    """The records of a log, up to one that is cut short: its pages were not changed yet.

    Args:
        log: Descriptor of the log.
        start: The `end` of the record before; 0: all of them.
    """
    position = start or _HEAD.size
    size = os.fstat(log).st_size
    while len(found := system.read_bytes(log, _RECORD.size, position)) == _RECORD.size:
        offset, length, crc = _RECORD.unpack(found)
        position += _RECORD.size
        if length & _HOLE:
            if crc != zlib.crc32(struct.pack("<QQ", offset, length)):
                return
            yield Record(offset, length ^ _HOLE, None, crc, position)
            continue
        if length > _AT_ONCE or position + length > size:
            return
        yield Record(offset, length, position, crc, position + length)
        position += length


def play_back(log: int, path: str, fd: int | None = None) -> None:
    """Write all whole records of a log back to the file, and make that durable.

    Args:
        log: Descriptor of the log.
        path: The file.
        fd: Its descriptor, open for writing; None: `path` is opened.

    Raises:
        SinkError: The file is not what it was.
        OSError: It can't be written.
    """
    head = system.read_bytes(log, _HEAD.size, 0)
    if len(head) < _HEAD.size:
        return  # not even begun: nothing was changed
    magic, size, inode = _HEAD.unpack(head)
    now = os.stat(path if fd is None else fd)
    if magic != _MAGIC or now.st_size < size or now.st_ino & _INODE != inode:
        raise SinkError(
            f"{path} was cut short or replaced after a writer of it died; its old pages are in the hidden files "
            f".{os.path.basename(path)}.mmflow~… beside it: restore the file from a copy, unless it is whole as it is, "
            "then delete them",
            path=path,
        )
    if fd is not None:
        _restore(log, fd)
        return
    opened = os.open(path, os.O_WRONLY | system.OPEN_FLAGS)
    try:
        _restore(log, opened)
    finally:
        os.close(opened)


def _restore(log: int, fd: int) -> None:
    for record in records(log):
        if record.position is None:
            punch(fd, record.offset, record.offset + record.length)
        else:
            old = system.read_bytes(log, record.length, record.position)
            if zlib.crc32(old) != record.crc:
                break
            write_at(fd, old, record.offset)
        checkpoint("restored")
    system.sync(fd)


def is_live(log: int) -> bool:
    """Is the writer of an open log alive? Where it is not, its lock is taken, for as long as the descriptor is open."""
    try:
        system.lock(log, shared=False, wait=False)
    except BlockingIOError:
        return True
    return False


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
