"""Leftovers of a test: processes, files, sockets.

Ray's daemons start sessions of their own, and lose their parents; workers overwrite their environment with their title.
So processes are found by descent: this process adopts every orphan below it (PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

__all__ = [
    "adopted_orphans",
    "descendants",
    "end",
    "mmflow_files",
    "nothing_left",
    "sockets_under",
]

_SET_CHILD_SUBREAPER = 36
_GET_CHILD_SUBREAPER = 37


@contextlib.contextmanager
def adopted_orphans() -> Iterator[None]:
    """Descendants whose parents end become children of this process, not of init; the dead are buried in the end."""
    before = ctypes.c_int()
    _prctl(_GET_CHILD_SUBREAPER, ctypes.byref(before))
    _prctl(_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        if not before.value:
            _prctl(_SET_CHILD_SUBREAPER, 0)
            _bury()


def _prctl(option: int, value: Any) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _bury() -> None:
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError):
            if _stat(int(name)) == (os.getpid(), "Z"):
                os.waitpid(int(name), os.WNOHANG)


def _stat(pid: int) -> tuple[int, str]:
    """Parent and state of a process."""
    text = Path(f"/proc/{pid}/stat").read_text()
    state, parent = text[text.rindex(")") + 2 :].split()[:2]
    return int(parent), state


def descendants() -> dict[int, str]:
    """Living processes below this one, with their command lines."""
    parents: dict[int, tuple[int, str]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                parents[int(name)] = _stat(int(name))
    below: dict[int, str] = {}
    for pid in parents:
        line = [pid]
        while line[-1] in parents and line[-1] != os.getpid():
            line.append(parents[line[-1]][0])
        if line[-1] != os.getpid() or len(line) == 1:
            continue
        if parents[pid][1] != "Z":
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                below[pid] = command.decode(errors="replace").strip()
    return below


def end(pids: Iterable[int]) -> None:
    """Kill what is left, so that one failure is not that of all tests after it."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def nothing_left(before: dict[int, str], seconds: float = 20) -> None:
    """Wait for all descendants to end that were not there before; those that don't are killed.

    Raises:
        AssertionError: Some had to be; says which.
    """
    left: dict[int, str] = {}

    def gone() -> bool:
        left.clear()
        left.update({p: c for p, c in descendants().items() if p not in before})
        return not left

    try:
        wait_until(gone, "processes to end", seconds)
    except AssertionError:
        end(left)
        raise AssertionError(f"processes are left: {left}") from None


def mmflow_files(*folders: str | os.PathLike[str]) -> list[str]:
    """Folders of runs in these folders, but for those of processes that live and are none of ours."""
    others = {name for name in os.listdir("/proc") if name.isdigit()}
    others -= {str(pid) for pid in (os.getpid(), *descendants())}
    found = (p for folder in folders for p in Path(folder).glob("mmflow-*"))
    return [os.fspath(p) for p in found if not others & set(p.name.split("-"))]


def sockets_under(folder: str | os.PathLike[str]) -> list[str]:
    """Unix sockets below a folder that a process has open."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    paths = [line.split(maxsplit=7)[7] for line in lines if len(line.split(maxsplit=7)) == 8]
    return [p for p in paths if p.startswith(os.fspath(folder))]
