"""Who drives a run: a lock on a file of its folder, which the kernel takes back when its holder dies.

    <run>/driver    locked (flock) for as long as the driver lives; its text says who that is

In a folder on an object store there are no locks: there, a run whose last event is recent is taken to be alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket

from mmflow.errors import EngineError
from mmflow.mapping.forks import disown_in_children
from mmflow.mapping.host import is_locked
from mmflow.runs.directory import RunDirectory

__all__ = ["DriverLock", "driver_lives"]

_NAME = "driver"


class DriverLock:
    """Held until `release`, or until the process dies.

    Raises:
        EngineError: The run has a driver, which lives.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._fd = -1
        if directory.remote:
            return
        fd = os.open(directory.path(_NAME), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 4096, 0).decode(errors="replace").strip()
            os.close(fd)
            raise EngineError(
                f"run {directory.name} is running ({holder}); wait for it, or stop it: mmflow cancel {directory.name}",
                run=directory.name,
            ) from None
        os.ftruncate(fd, 0)
        with contextlib.suppress(OSError):  # it is only for people
            os.pwrite(fd, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)
        self._fd = fd
        disown_in_children(self)

    def release(self) -> None:
        """Give the lock back; a forked child only drops its copy of it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    disown = release


def driver_lives(directory: RunDirectory) -> bool | None:
    """Does the run have a driver? None: that can't be told."""
    if directory.remote:
        return None
    try:
        return is_locked(directory.path(_NAME))
    except FileNotFoundError:
        return False
    except OSError:
        return None
