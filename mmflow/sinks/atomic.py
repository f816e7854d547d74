"""Renames that can't be seen half done, and directory entries that survive a power cut."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

__all__ = ["fsync_folder", "fsync_tree", "link_tree", "rename_new", "swap"]

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}

_libc = ctypes.CDLL(None, use_errno=True)


def _renameat2(source: Path, target: Path, flags: int) -> None:
    call: Callable[..., int] | None = getattr(_libc, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(target))
    done = call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags))
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def rename_new(source: Path, target: Path) -> None:
    """Rename to a name that must be free; a folder may also take the place of an empty folder.

    Raises:
        OSError: EEXIST or ENOTEMPTY: there is something at `target` already.
    """
    if source.is_dir():
        os.rename(source, target)  # the system itself refuses anything but an empty folder
        return
    try:
        _renameat2(source, target, _RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        # NFS and the like: create the name exclusively, then give up the old one.
        os.link(source, target)
        os.unlink(source)


def swap(source: Path, target: Path) -> bool:
    """Exchange two names in one step; False where the file system can't (nothing happened then)."""
    try:
        _renameat2(source, target, _RENAME_EXCHANGE)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def fsync_folder(path: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path) -> None:
    """Make the entries of a folder and all folders below it durable, the deepest first."""
    for here, _, _ in os.walk(root, topdown=False):
        fsync_folder(Path(here))


def link_tree(source: Path, target: Path) -> None:
    """Give every file of `source` a second name below `target` (hard links; symbolic links are kept as such).

    Names that exist in `target` already are left, so that it can be done again after a crash.

    Raises:
        OSError: EPERM, ENOTSUP, EMLINK: the file system has no hard links.
    """
    for here, folders, names in os.walk(source):
        there = target / os.path.relpath(here, source)
        there.mkdir(exist_ok=True)
        os.chmod(there, stat.S_IMODE(os.stat(here).st_mode))
        for name in [*names, *(f for f in folders if os.path.islink(os.path.join(here, f)))]:
            try:
                os.link(os.path.join(here, name), there / name, follow_symlinks=False)
            except FileExistsError:
                continue
