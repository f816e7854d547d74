"""Processes that are stopped (SIGSTOP, SIGTSTP), by /proc."""

from __future__ import annotations

from pathlib import Path

__all__ = ["is_stopped"]


def is_stopped(process: int) -> bool:
    """Return whether a process is stopped, and not by a debugger; False where that is not known."""
    try:
        # "123 (a name) T ...": a name may hold anything.
        return Path("/proc", str(process), "stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False
