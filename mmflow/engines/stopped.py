"""Processes that are stopped (SIGSTOP, SIGTSTP), and signals that they catch, by /proc."""

from __future__ import annotations

from pathlib import Path

from mmflow.mapping.system.host import read_stat

__all__ = ["catches", "is_stopped"]


def is_stopped(process: int) -> bool:
    """Return whether a process is stopped, and not by a debugger; False where that is not known."""
    return read_stat(f"/proc/{process}/stat")[:1] == ["T"]


def catches(process: int, signal: int) -> bool:
    """Return whether a process runs, and has a handler for a signal; False where that is not known."""
    try:
        status = Path("/proc", str(process), "status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    except (OSError, IndexError):
        return False
    return bool(caught >> signal - 1 & 1) and not is_stopped(process)
