"""Renames that are atomic, and directory entries that survive a power cut."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmflow.mapping.system import system
from mmflow.storage import disk

__all__ = ["fsync_folder", "fsync_tree", "link_tree", "rename_new", "swap", "walk"]

_FEW_FOLDERS = 4
#: Folders that are brought to the disk at once.
_SYNC_THREADS = 16
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def rename_new(source: Path, target: Path) -> None:
    """Rename to a name that must be free; a folder may also take the place of an empty folder.

    Raises:
        OSError: EEXIST or ENOTEMPTY: there is something at `target` already.
    """
    if source.is_dir():
        disk.rename(source, target)  # the system itself refuses anything but an empty folder
        return
    try:
        system.rename(str(source), str(target), "no_replace")
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        # NFS, macOS and the like: create the name exclusively, then give up the old one.
        disk.link(source, target)
        disk.unlink(source)


def swap(source: Path, target: Path) -> bool:
    """Exchange two names in one step; False where the file system can't (nothing happened then)."""
    try:
        system.rename(str(source), str(target), "exchange")
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def fsync_folder(path: Path) -> None:
    """Make the entries of a folder durable, where the system offers it."""
    system.sync_folder(str(path))


def walk(root: str | os.PathLike[str], *, topdown: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a folder as `os.walk` does, which takes a folder that can't be listed for an empty one.

    Raises:
        OSError: A folder can't be listed. One that is not there holds nothing.
    """

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    return os.walk(os.fspath(root), topdown, failed)


def fsync_tree(root: Path) -> None:
    """Make the entries of a folder and of all folders below it durable, the topmost last."""
    below = [Path(here) for here, _, _ in walk(root, topdown=False)][:-1]
    if len(below) < _FEW_FOLDERS:
        for folder in (*below, root):
            fsync_folder(folder)
        return
    # A file system writes its journal once for all that wait for it: 2,000 folders one after the other took 20 s.
    with ThreadPoolExecutor(_SYNC_THREADS, "mmflow-sync") as pool:
        for done in [pool.submit(fsync_folder, folder) for folder in below]:
            done.result()
    fsync_folder(root)


def link_tree(source: Path, target: Path) -> None:
    """Create hard links in `target` to every file of `source`; symbolic links are copied as links.

    Names that exist in `target` already are left, so that it can be done again after a crash.

    Raises:
        OSError: EPERM, ENOTSUP, EMLINK: the file system has no hard links.
    """
    for here, folders, names in walk(source):
        there = target / os.path.relpath(here, source)
        disk.make_folder(there)
        disk.chmod(there, stat.S_IMODE(os.stat(here).st_mode))
        for name in [*names, *(f for f in folders if os.path.islink(os.path.join(here, f)))]:
            try:
                disk.link(os.path.join(here, name), there / name, follow_symlinks=False)
            except FileExistsError:
                continue
