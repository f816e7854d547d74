"""The undo log: what pages held before they were changed, so that a crash leaves the old content or the new.

    .NAME.mmflow-undo-PID-N beside the file, locked (flock) by the process that writes

    | magic | size of the file |  offset  length  crc32 | bytes |  offset  length  crc32 | bytes | ...

Write-ahead: a page's old content is durable in the log before the page is changed, so a record that is cut short
belongs to a change that was never made. The changes count once the log is gone; a log that nobody has locked is of a
dead writer, and is played back by whoever opens the file next.

Several writers of one file each have a log, and must not change the same page.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmflow.arrays.failures import writing
from mmflow.errors import SinkError
from mmflow.sinks.atomic import fsync_folder
from mmflow.sinks.checkpoints import checkpoint

__all__ = ["UndoLog", "roll_back_dead"]

_MAGIC = b"mmfundo1"
_HEAD = struct.Struct("<8sQ")
_RECORD = struct.Struct("<QQI")
_CHUNK = 1 << 16  # pages whose bits are kept together
_AT_ONCE = 8 << 20


def _prefix(path: str) -> str:
    return f".{os.path.basename(path)}.mmflow-undo-"


def _folder(path: str) -> Path:
    return Path(path).absolute().parent


class UndoLog:
    """The log of one writer, from its first change on until `clear`.

    Args:
        path: The file that is changed.
        fd: Its descriptor, for reading.
        page: Bytes of a page.
    """

    def __init__(self, path: str, fd: int, page: int) -> None:
        self._path = path
        self._fd = fd
        self._page = page
        self._log = -1
        self._name = ""
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
                for offset in range(first * self._page, min(stop * self._page, size), _AT_ONCE):
                    length = min(_AT_ONCE, min(stop * self._page, size) - offset)
                    old = os.pread(self._fd, length, offset)
                    _write(self._log, _RECORD.pack(offset, len(old), zlib.crc32(old)) + old)
                    checkpoint("logged")
            os.fdatasync(self._log)
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
        bits = self._saved.setdefault(chunk, np.zeros(_CHUNK, bool))
        bits[first - chunk * _CHUNK : stop - chunk * _CHUNK] = True

    def _open(self) -> None:
        number = 0
        while True:
            self._name = str(_folder(self._path) / f"{_prefix(self._path)}{os.getpid()}-{number}")
            number += 1
            with contextlib.suppress(FileExistsError):
                self._log = os.open(self._name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
                break
        fcntl.flock(self._log, fcntl.LOCK_EX)
        _write(self._log, _HEAD.pack(_MAGIC, os.fstat(self._fd).st_size))
        fsync_folder(_folder(self._path))
        checkpoint("opened")

    def clear(self) -> None:
        """Forget the old content: the changes are durable, and count. Idempotent.

        Raises:
            SinkError: The log can't be removed.
        """
        if self._log >= 0:
            with writing(self._path, "finish the change of"):
                os.unlink(self._name)
                checkpoint("unlinked")
                fsync_folder(_folder(self._path))
            os.close(self._log)
            self._log = -1
            self._saved.clear()

    def roll_back(self) -> None:
        """Put the old content back. Idempotent.

        Raises:
            SinkError: It can't be written.
        """
        if self._log >= 0:
            with writing(self._path, "put back the old content of"):
                _play_back(self._log, self._path)
            self.clear()


def roll_back_dead(path: str) -> int:
    """Put back what dead writers of a file left half changed.

    Returns:
        How many of them there were.

    Raises:
        SinkError: The old content can't be written.
    """
    folder, count = _folder(path), 0
    try:
        names = [n for n in sorted(os.listdir(folder)) if n.startswith(_prefix(path))]
    except OSError:
        return 0
    for name in names:
        with writing(path, "put back the old content of"):
            try:
                log = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                if (
                    _locked(log) and os.fstat(log).st_nlink
                ):  # else its writer lives, or somebody else was here first
                    _play_back(log, path)
                    os.unlink(os.path.join(folder, name))
                    fsync_folder(_folder(path))
                    count += 1
            finally:
                os.close(log)
    return count


def _play_back(log: int, path: str) -> None:
    """Write all whole records of a log back to the file, and make that durable."""
    head = os.pread(log, _HEAD.size, 0)
    if len(head) < _HEAD.size:
        return  # not even begun: nothing was changed
    magic, size = _HEAD.unpack(head)
    if magic != _MAGIC or os.stat(path).st_size < size:
        raise SinkError(
            f"{path} was cut short or replaced after a writer of it died; its old pages are in the hidden "
            f"{_prefix(path)}… files beside it: restore the file from a copy, then delete them",
            path=path,
        )
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        position = _HEAD.size
        while len(record := os.pread(log, _RECORD.size, position)) == _RECORD.size:
            offset, length, crc = _RECORD.unpack(record)
            old = os.pread(log, length, position + _RECORD.size) if length <= _AT_ONCE else b""
            if len(old) != length or zlib.crc32(old) != crc:
                break  # cut short: its page was not changed yet
            _write_at(fd, old, offset)
            checkpoint("restored")
            position += _RECORD.size + length
        os.fsync(fd)
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    """Take the lock; False: somebody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
