"""The undo log: the old content of changed pages, so that a crash leaves either the old content or the new.

    .NAME.mmflow~undo-PID-RANDOM beside the file, locked (flock) by the process that writes

    | magic | size, inode |  offset  length  crc32 | bytes |  offset  length  crc32 | bytes | ...
                                                   ("bytes" of a hole: none, and its length has the top bit set)

Write-ahead: a page's old content is durable in the log before the page is changed, so a record that is cut short
belongs to a change that was never made. The changes count once the log is gone. An unlocked log is of a dead writer;
the next process that opens the file restores its content.

(No name of a run has a `~`, so no commit of a sink mistakes the log for a file of a stale run.)

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

from mmflow.arrays.holes import find_data_extents, punch_hole, write_at
from mmflow.errors import SinkError
from mmflow.lazy import array_types as npt
from mmflow.mapping.system import system
from mmflow.mapping.system.owner_lock import try_lock
from mmflow.sinks.commit.atomic import fsync_folder
from mmflow.sinks.commit.failpoints import failpoint
from mmflow.storage import disk
from mmflow.storage.format_versions import UNDO_LOG
from mmflow.storage.os_errors import write_errors

__all__ = [
    "Record",
    "UndoLog",
    "has_live_writers",
    "is_live",
    "list_logs",
    "log_range",
    "read_records",
    "restore_content",
    "roll_back_dead_writers",
    "start_log",
]

_MAGIC = b"mmfundo"
_HEAD = struct.Struct("<8sQQ")
_RECORD = struct.Struct("<QQI")
_HOLE = 1 << 63
_INODE = (1 << 64) - 1  # Windows has longer ones
_CHUNK = 1 << 16  # pages whose bits share an array
_AT_ONCE = 8 << 20


def _prefix(path: str) -> str:
    return f".{os.path.basename(path)}.mmflow~undo-"


def _folder(path: str) -> Path:
    return Path(path).absolute().parent


class UndoLog:
    """Log of one writer, from its first change until `clear`.

    Args:
        path: File that is changed.
        fd: Its descriptor, for reading and writing.
        page: Size of a page, in bytes.

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
        """Log the old content of the pages of `[begin, end)`, unless it is logged already, and make it durable.

        Raises:
            SinkError: The disk is full, or there is no permission.
        """
        self._forget_removed()
        pages = list(self._unsaved(begin // self._page, -(-end // self._page)))
        if not pages:
            return
        with write_errors(self._path, "log the old content of"):
            if self._log < 0:
                self._open()
            size = os.fstat(self._fd).st_size
            for first, stop in pages:
                log_range(self._log, self._fd, first * self._page, min(stop * self._page, size))
            system.sync(self._log, content_only=True)
        for first, stop in pages:
            self._mark(first, stop)
        failpoint("saved")

    def _unsaved(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield runs of pages that are not in the log."""
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
            # A name that no other log ever had: other writers remember their position in it (`arrays.writers`).
            self.name = str(_folder(self._path) / f"{_prefix(self._path)}{os.getpid()}-{os.urandom(6).hex()}")
            try:
                log = disk.open(self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR | system.open_flags, 0o600)
            except FileExistsError:
                continue
            system.lock(log, shared=False, wait=True)
            if os.fstat(log).st_nlink:
                break
            disk.close(log)  # before it was locked, another process removed it as a dead writer's
        self._log = log
        start_log(log, self._fd)
        fsync_folder(_folder(self._path))
        failpoint("opened")

    def clear(self) -> None:
        """Delete the old content, so that the durable changes count. Idempotent.

        Raises:
            SinkError: The log can't be removed.
        """
        self._forget_removed()
        if self._log >= 0:
            with write_errors(self._path, "finish the change of"):
                _remove_log(self._log, self.name)
            self.abandon()
            _unlink_closed(self.name)

    def _forget_removed(self) -> None:
        """Close a log that `clear` removed before Ctrl-C interrupted it: its changes count."""
        if self._log >= 0 and not os.fstat(self._log).st_nlink:
            self.abandon()

    def roll_back(self) -> None:
        """Restore the old content of the file that was changed, whatever is at its path now. Idempotent.

        Raises:
            SinkError: The file can't be written.
        """
        self._forget_removed()
        if self._log >= 0:
            with write_errors(self._path, "restore the old content of"):
                restore_content(self._log, self._path, self._fd)
            self.clear()

    def abandon(self) -> None:
        """Leave the log to the next process that opens the file, as a dead writer's. Idempotent.

        In a forked child it stays that of the parent.
        """
        if self._log >= 0:
            self._saved.clear()
            log, self._log = self._log, -1
            disk.close(log)


def roll_back_dead_writers(path: str) -> int:
    """Undo the unfinished changes of a file's dead writers.

    Returns:
        The number of writers.

    Raises:
        SinkError: The old content can't be written.
    """
    count = 0
    for name in list_logs(path):
        with write_errors(path, "restore the old content of"):
            try:
                log = disk.open(name, os.O_RDWR | system.open_flags)
            except FileNotFoundError:
                continue
            try:
                # Otherwise its writer lives, or another process was first.
                begun = not is_live(log) and os.fstat(log).st_nlink
                if begun:
                    restore_content(log, path)
                    _remove_log(log, name)
                    count += 1
            finally:
                disk.close(log)
            if begun:
                _unlink_closed(name)
    return count


def list_logs(path: str) -> list[str]:
    """Return the paths of all undo logs of a file, in order; none where its folder can't be listed."""
    folder, prefix = _folder(path), _prefix(path)
    try:
        return [str(folder / name) for name in sorted(os.listdir(folder)) if name.startswith(prefix)]
    except OSError:
        return []


def has_live_writers(path: str) -> bool:
    """Return whether a log has a live writer, whose changes are neither final nor abandoned."""
    for name in list_logs(path):
        with contextlib.suppress(FileNotFoundError):
            log = disk.open(name, os.O_RDWR | system.open_flags)
            try:
                if is_live(log):
                    return True
            finally:
                disk.close(log)
    return False


def _remove_log(log: int, name: str) -> None:
    """Delete a locked log, or empty it where an open file can't be deleted."""
    if system.deletes_open:
        disk.unlink(name)
    else:
        disk.ftruncate(log, 0)
        system.sync(log)
    failpoint("unlinked")
    fsync_folder(Path(name).parent)


def _unlink_closed(name: str) -> None:
    """Delete a log that was only emptied, unless another process has it open, which then deletes it."""
    if not system.deletes_open:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            disk.unlink(name)


# ---- the format of a log ------------------------------------------------------------------------------


class Record(NamedTuple):
    """Old content of `length` bytes from `offset` on, in the log at `position` (None: a hole) up to `end`."""

    offset: int
    length: int
    position: int | None
    crc: int
    end: int


def start_log(log: int, fd: int) -> None:
    """Write the head of the log of an open file."""
    status = os.fstat(fd)
    disk.write_all(log, _HEAD.pack(UNDO_LOG.mark(_MAGIC), status.st_size, status.st_ino & _INODE))


def log_range(log: int, fd: int, begin: int, end: int) -> None:
    """Write the content of `[begin, end)` of a file to its log, holes as such.

    Raises:
        OSError: The disk is full, or a read or write fails.
    """
    at = begin
    for first, last in [*find_data_extents(fd, begin, end), (end, end)]:
        if at < first:
            hole = first - at | _HOLE
            disk.write_all(log, _RECORD.pack(at, hole, zlib.crc32(struct.pack("<QQ", at, hole))))
        for offset in range(first, last, _AT_ONCE):
            old = system.read_bytes(fd, min(_AT_ONCE, last - offset), offset)
            disk.write_all(log, _RECORD.pack(offset, len(old), zlib.crc32(old)) + old)
            failpoint("logged")
        at = last


def read_records(log: int, start: int = 0) -> Iterator[Record]:
    """Yield the records of a log, up to one that is cut short, whose pages were not changed yet.

    Args:
        log: Descriptor of the log.
        start: `end` of the record before; 0: the first record.
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


def restore_content(log: int, path: str, fd: int | None = None) -> None:
    """Write all complete records of a log back to the file, and make that durable.

    Args:
        log: Descriptor of the log.
        path: File.
        fd: Its descriptor, open for writing; None: `path` is opened.

    Raises:
        SinkError: The file was cut short or replaced, or its log is of another version.
        OSError: The file can't be written.
    """
    head = system.read_bytes(log, _HEAD.size, 0)
    if len(head) < _HEAD.size or not any(head):
        return  # not even a head, or a power cut left its size without its bytes: nothing was changed
    magic, size, inode = _HEAD.unpack(head)
    if other := UNDO_LOG.other_version(magic, _MAGIC):
        folder, name = os.path.split(path)
        raise UNDO_LOG.refuse(SinkError, os.path.join(folder, f".{name}.mmflow~…"), other)
    now = os.stat(path if fd is None else fd)
    if magic != UNDO_LOG.mark(_MAGIC) or now.st_size < size or now.st_ino & _INODE != inode:
        raise SinkError(
            f"{path} was cut short or replaced while it was being changed; its old pages are in the hidden files "
            f".{os.path.basename(path)}.mmflow~… beside it: restore the file from a copy, unless it is whole as it is, "
            "then delete them",
            path=path,
        )
    if fd is not None:
        _restore(log, fd)
        return
    opened = disk.open(path, os.O_WRONLY | system.open_flags)
    try:
        _restore(log, opened)
    finally:
        disk.close(opened)


def _restore(log: int, fd: int) -> None:
    for record in read_records(log):
        if record.position is None:
            punch_hole(fd, record.offset, record.offset + record.length)
        else:
            old = system.read_bytes(log, record.length, record.position)
            if zlib.crc32(old) != record.crc:
                break
            write_at(fd, old, record.offset)
        failpoint("restored")
    system.sync(fd)


def is_live(log: int) -> bool:
    """Return whether the writer of an open log lives; if not, lock the log until its descriptor is closed."""
    return not try_lock(log)
