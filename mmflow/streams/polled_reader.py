"""Bytes of a descriptor that may be silent: a read waits for them, and ends at once when it is stopped."""

from __future__ import annotations

import contextlib
import io
import os
import select
from typing import Any

import numpy as np

from mmflow.kernels import kernels

__all__ = ["PolledReader", "StoppedReading"]

#: Bytes that a pipe may hold: its reader is woken less often. The default is 64 KiB.
_PIPE_BYTES = 1 << 20
_END, _STOPPED, _FAILED = 1, 3, 4  # kernels/filling.h: FillEnd


class StoppedReading(Exception):  # noqa: N818  (it is no error)
    """End of a read that was stopped."""


class PolledReader(io.RawIOBase):
    """Reader of a descriptor, which it owns.

    Args:
        descriptor: Pipe, socket or terminal, open for reading; its flags are left as they are.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._start = b""
        self._released = False
        self._woken, self._wake = os.pipe()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        with contextlib.suppress(ImportError, AttributeError, OSError):  # no pipe, or another system
            import fcntl  # noqa: PLC0415

            if fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) < _PIPE_BYTES:
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        """Fill a part of `target`, and return its length; 0 at the end. Waits until there are bytes."""
        found = self.read_some(memoryview(target).cast("B"), None)
        assert found is not None  # it waited
        return found

    def read_some(self, target: memoryview, seconds: float | None) -> int | None:
        """Fill a part of `target`, and return its length: 0 at the end, None where nothing came within `seconds`.

        Raises:
            StoppedReading: `stop` was called.
            OSError: It can't be read.
        """
        if self._start:
            taken = self._start[: len(target)]
            target[: len(taken)] = taken
            self._start = self._start[len(taken) :]
            return len(taken)
        while True:
            # A pipe that nobody has opened for writing yet gives no event, one that all writers have closed does.
            ready = dict(self._poll.poll(None if seconds is None else 1000 * seconds))
            if self._woken in ready:
                raise StoppedReading
            if self._descriptor not in ready:
                return None
            with contextlib.suppress(BlockingIOError):  # another process took what had come
                return os.readv(self._descriptor, [target])

    def fill(self, target: memoryview, seconds: float, *, came_before: bool) -> int | None:
        """Fill `target` by a kernel, and return the length of what came: 0 at the end, None where nothing came.

        Returns before it is full where the stream ends, or `seconds` after its first byte came; of bytes that came
        before, `seconds` are those that are left.

        Raises:
            StoppedReading: `stop` was called.
            OSError: It can't be read.
        """
        if self._start:
            return self.read_some(target, None)
        size, end, number = kernels().fill(
            self._descriptor, self._woken, _address(target), len(target), max(0.0, seconds), came_before
        )
        if size or end == _END:
            return int(size)
        if end == _STOPPED:
            raise StoppedReading
        if end == _FAILED:
            raise OSError(number, os.strerror(number))
        return None

    def unread(self, start: bytes) -> None:
        """Give back bytes that were read: they come again."""
        self._start = start + self._start

    def stop(self) -> None:
        """Let a read in another thread, and every later one, raise `StoppedReading`."""
        os.write(self._wake, b"\0")

    def release(self) -> None:
        """Close the descriptor, once nobody reads any more: SIGPIPE tells those who write to a pipe. Idempotent.

        `close`, which decompressors call, leaves it open: it is closed by one thread, and once.
        """
        if not self._released:
            self._released = True
            for descriptor in (self._descriptor, self._woken, self._wake):
                os.close(descriptor)


def _address(target: memoryview) -> int:
    return int(np.frombuffer(target, np.uint8).ctypes.data)
