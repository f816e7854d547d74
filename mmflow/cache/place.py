"""The folder of the cache: one of the user's own, on a local disk.

    cache_dir                       where it is given
    $XDG_CACHE_HOME/mmflow          else (~/.cache/mmflow)
    SPILL_DIR/mmflow-cache-UID      where that can't be written to, or lies on a file server

Invariant: whatever is read belongs to this user, as its folder does, and no other user can write to either.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from mmflow.mapping.access_policy import remote_name
from mmflow.mapping.system import system
from mmflow.storage import disk

__all__ = ["is_own_file", "own_folder", "places", "user_folder"]

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def user_folder() -> str:
    """Return the folder of this user for all that mmflow may make again."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "mmflow")


def places(cache_dir: str, spill_dir: str) -> Iterator[str]:
    """Yield the folders in which the cache may be, best first; only `cache_dir` where it is given."""
    if cache_dir:
        yield cache_dir
        return
    yield user_folder()
    if spill_dir:
        user = os.geteuid() if hasattr(os, "geteuid") else ""
        yield os.path.join(spill_dir, f"mmflow-cache-{user}")


def own_folder(folder: str) -> None:
    """Make a folder unless it is there.

    Raises:
        OSError: It can't be made, is a link, belongs to another user, can be written to by others, or lies on a file
            server.
    """
    with contextlib.suppress(FileExistsError):
        disk.makedirs(folder, mode=0o700)
    fd = os.open(folder, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | system.open_flags)
    try:
        found = os.fstat(fd)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "is no folder", folder)
        if not _is_own(found):
            raise PermissionError(errno.EPERM, "belongs to another user, or others can write to it", folder)
        name = system.file_system_name(fd)
        # Locks hold between hosts late, partly or not at all there, so that nothing would be pinned for sure. What is
        # plain "fuse" is a process of this host, through which the kernel keeps the locks itself.
        if name != "fuse" and remote_name(name) is not None:
            raise OSError(
                errno.ENOTSUP, f"lies on a file server ({name}), whose locks can't be trusted", folder
            )
    finally:
        os.close(fd)


def is_own_file(found: os.stat_result) -> bool:
    """Return whether a file is a regular one of this user's, which no other user can write to."""
    return stat.S_ISREG(found.st_mode) and _is_own(found)


def _is_own(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE)
