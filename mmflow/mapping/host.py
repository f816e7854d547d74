"""This host and its processes: whether who said something a while ago is still there."""

from __future__ import annotations

import os
import sys

from mmflow.mapping.system import system

__all__ = ["boot_id", "is_locked", "own_process", "process_began"]


def boot_id() -> str:
    """This machine, since it was started; the same in all of its containers. "": it can't be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def process_began(pid: int) -> int | None:
    """When a process began, in ticks since boot: process ids are used again. None: it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def own_process() -> int | None:
    """A descriptor of this process, which polls as readable once it has ended, in whichever process has it.

    None: there is no such thing (Linux before 5.3, a filter of system calls, another system).
    """
    if sys.platform == "linux":
        try:
            return os.pidfd_open(os.getpid())
        except OSError:
            pass
    return None


def is_locked(path: str) -> bool:
    """Does a process hold the lock (flock) of a file, or a part in it? The kernel takes it back when its holder dies.

    Raises:
        OSError: The file is missing, or can't be opened.
    """
    fd = os.open(path, os.O_RDWR)  # no child process gets it: that is Python's default
    try:
        system.lock(fd, shared=False, wait=False)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
