"""One run at a time may commit to a destination.

The lock is an flock on a file beside the destination: the kernel gives it back when its holder dies, so a
lock file that nobody locks is no lock. Its text only tells people who holds it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from mmflow.errors import SinkError
from mmflow.mapping.forks import disown_in_children
from mmflow.mapping.system import system

__all__ = ["DestinationLock"]

_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)  # Windows has none


class DestinationLock:
    """Held from `acquire` until `release`, or until the process dies."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        disown_in_children(self)

    @classmethod
    def acquire(cls, path: Path, *, destination: str, run: str) -> DestinationLock:
        """Take the lock, or say who has it.

        Raises:
            SinkError: Another run, which lives, holds it.
            OSError: The lock file can't be made, or is a symbolic link.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NOFOLLOW | system.OPEN_FLAGS, 0o644)
            try:
                system.lock(descriptor, shared=False, wait=False)
            except BlockingIOError:
                holder = (
                    system.read_bytes(descriptor, 4096, 0).decode(errors="replace").strip() or "another run"
                )
                os.close(descriptor)
                raise SinkError(
                    f"{destination} is being written by {holder}; wait for it, or choose another output",
                    path=destination,
                ) from None
            except BaseException:
                os.close(descriptor)
                raise
            # Its last holder may have deleted the file between our open and our lock.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                    break
            os.close(descriptor)
        os.ftruncate(descriptor, 0)
        text = f"run {run} (process {os.getpid()} on {socket.gethostname()})\n"
        # Only for people: a full disk must not keep the run from saying so itself, later and better.
        with contextlib.suppress(OSError):
            system.write_at(descriptor, memoryview(text.encode()), 0)
        return cls(path, descriptor)

    def disown(self) -> None:
        """Leave the lock to the process that took it: a forked child must not keep it once that one is dead."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def release(self) -> None:
        """Delete the lock file and give the lock back. Idempotent."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # an unlocked file that stays is harmless
                os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = None
