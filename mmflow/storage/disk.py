"""The seam to the local file system: calls of whatever must survive a crash.

    commits, journals, undo logs, checkpoints, cache entries, row indexes, locks  -->  disk  -->  the system
                                                                                         ^
    tests put others in place of these names: they record calls, fail, or end the process (tests/simulation)

The names are those of `os`, so that a call costs what it costs there. Callers write `disk.rename(...)` and never import
a name from here. Calls that only read need no seam: their answers follow from those that write. What Python has no name
for (exchanging names, holes) is a method of `mapping.system.system`, which tests replace likewise.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from os import (
    chmod,
    close,
    fsync,
    ftruncate,
    link,
    makedirs,
    mkdir,
    open,  # noqa: A004  (`disk.open`)
    rename,
    replace,
    rmdir,
    unlink,
    write,
)

if sys.platform != "win32":
    from os import pwrite
if sys.platform == "linux":
    from os import fdatasync

__all__ = [
    "chmod",
    "close",
    "fdatasync",
    "fsync",
    "ftruncate",
    "link",
    "make_folder",
    "makedirs",
    "mkdir",
    "open",
    "pwrite",
    "remove_tree",
    "rename",
    "replace",
    "rmdir",
    "sync_file",
    "unlink",
    "write",
    "write_all",
    "write_file",
]


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove a folder and all that is in it, as far as possible."""
    shutil.rmtree(path, ignore_errors=True)


def make_folder(path: str | os.PathLike[str], mode: int = 0o777) -> None:
    """Make a folder unless it is there.

    Raises:
        OSError: It can't be made: there is a file of that name, or no permission.
    """
    with contextlib.suppress(FileExistsError):
        mkdir(path, mode)
        return
    if not os.path.isdir(path):
        raise FileExistsError(path)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all bytes, however many the system takes at once.

    Raises:
        OSError: No space, or the disk fails.
    """
    view = memoryview(data)
    while view:
        view = view[write(fd, view) :]


def write_file(
    path: str | os.PathLike[str],
    data: bytes,
    *,
    flags: int = os.O_TRUNC,
    mode: int = 0o666,
    sync: bool = False,
) -> None:
    """Write a small file.

    Args:
        path: The file.
        data: All of its content.
        flags: Flags of the opening besides those that make and write it.
        mode: Permissions of a new file.
        sync: Whether its content is durable afterwards; its name is not.

    Raises:
        OSError: It can't be written.
    """
    fd = open(
        path,
        os.O_CREAT | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | flags,
        mode,
    )
    try:
        write_all(fd, data)
        if sync:
            fsync(fd)
    finally:
        close(fd)


def sync_file(path: str | os.PathLike[str]) -> None:
    """Make the content of a file survive a power cut, whoever wrote it.

    Raises:
        OSError: It can't be opened or synced.
    """
    fd = open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        fsync(fd)
    finally:
        close(fd)
