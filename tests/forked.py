"""Work in a forked child of a test: as another user, or with mounts that only it sees, of which nothing stays."""

from __future__ import annotations

import ctypes
import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["become_nobody", "in_fork", "mount_privately"]

_T = TypeVar("_T")
_NOBODY = 65534
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def in_fork(work: Callable[[], _T]) -> _T:
    """Return what the work returns in a forked child of this process.

    Raises:
        AssertionError: It raised there, or the child died.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result: tuple[Any, str] = work(), ""
        except BaseException:
            result = None, traceback.format_exc()
        try:
            with open(writing, "wb") as pipe:
                pickle.dump(result, pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert answer, f"the child ended with {os.waitstatus_to_exitcode(status)}"
    value, problem = pickle.loads(answer)
    assert not problem, problem
    return value  # type: ignore[no-any-return]  # the child's


def become_nobody() -> None:
    """Give up root's rights, for good: only in a child."""
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)


def mount_privately(folder: Path | str, options: str = "") -> None:
    """Mount an empty file system of memory on a folder, as this process alone sees it: only in a child, as root."""
    _check(_libc.unshare(_CLONE_NEWNS))
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    _check(_libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, options.encode()))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
