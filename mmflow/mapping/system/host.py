"""This host and its processes, to check whether a recorded process still lives."""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["machine_id", "open_own_process", "read_boot_id", "read_process_start", "read_stat"]


def read_boot_id() -> str:
    """Return the id of this machine's current boot, the same in all of its containers; "": unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def machine_id() -> str:
    """Return an id of this boot and this pid namespace, within which a pid means the same; "": unknown."""
    boot = read_boot_id()
    with contextlib.suppress(OSError):
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}" if boot else ""
    return ""


def read_stat(path: str) -> list[str]:
    """Return the fields of a `stat` file in /proc behind the name, the state first; none: there is no such process.

    The name stands in brackets, and may hold anything: brackets, spaces, bytes that are no text.
    """
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def read_process_start(pid: int) -> int | None:
    """Return the start of a process in ticks since boot, since process ids are reused; None: it has ended."""
    fields = read_stat(f"/proc/{pid}/stat")
    return None if not fields or fields[0] in ("Z", "X") else int(fields[19])


def open_own_process() -> int | None:
    """Open a descriptor of this process, which polls as readable once the process has ended.

    Returns:
        None where the system offers none (Linux before 5.3, a filter of system calls, another system).
    """
    if sys.platform == "linux":
        try:
            return os.pidfd_open(os.getpid())
        except OSError:
            pass
    return None
