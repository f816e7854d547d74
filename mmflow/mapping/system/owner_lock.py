"""Lock that says that the owner of something lives: an flock on a file, which the kernel releases when it dies.

Invariant: a file that is not locked has no owner. Unlike a process id, a lock means the same in every container that
shares the folder. The text of the file only tells people who holds the lock.

A folder that is its owner's has the lock as a file in it. That file is durable before anything else is there
(`sync_names`), and goes last, once it is durable that all else has gone: so a folder with anything in it, but without
the file, is somebody else's, whatever its name, and no crash makes one of ours.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable

from mmflow.mapping.system import system
from mmflow.mapping.system.forks import disown_in_children
from mmflow.storage import disk

__all__ = [
    "GRACE_SECONDS",
    "HeldError",
    "OwnerLock",
    "drop_unowned",
    "is_locked",
    "open_held",
    "remove_dead",
    "remove_owned",
    "sync_names",
    "try_lock",
]

#: Age from which on a folder without a lock file is not one that is being made right now.
GRACE_SECONDS = 60.0

_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)  # Windows has none


class HeldError(BlockingIOError):
    """Another owner holds the lock. `holder` names it for people, as far as it is known."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class OwnerLock:
    """Lock of this process from here until `release`, or until it dies. A forked child has no part in it.

    Args:
        path: File to lock; created if missing.
        owner: Name of the owner, which the file then tells people.
        mode: Permissions of a new file.
        remove: Whether `release` deletes the file.

    Raises:
        HeldError: Another owner lives.
        OSError: The file can't be created, or is a symbolic link.
    """

    def __init__(
        self, path: str | os.PathLike[str], owner: str = "", *, mode: int = 0o600, remove: bool = False
    ) -> None:
        self._path = path
        self._remove = remove
        self._fd = _open_locked(path, mode)
        disown_in_children(self)
        text = f"{owner} (process {os.getpid()} on {socket.gethostname()})\n" if owner else ""
        # Only for people. On a full disk, the error of the write of results is the better one.
        with contextlib.suppress(OSError):
            disk.ftruncate(self._fd, 0)
            system.write_at(self._fd, memoryview(text.encode()), 0)

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if self.held and self._remove:
            with contextlib.suppress(OSError):  # an unlocked file that stays is harmless
                disk.unlink(self._path)
        self.disown()

    def disown(self) -> None:
        """Close the descriptor: a forked child must not keep the lock once its parent is dead."""
        # It is closed whatever `close` says, and its number may soon be another file's.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                disk.close(fd)


def _open_locked(path: str | os.PathLike[str], mode: int) -> int:
    def take(fd: int) -> None:
        if not try_lock(fd):
            raise HeldError(
                system.read_bytes(fd, 4096, 0).decode(errors="replace").strip() or "another process"
            )

    while True:
        fd = open_held(path, os.O_RDWR | os.O_CREAT | _NOFOLLOW | system.open_flags, mode, take)
        if fd is not None:
            return fd


def open_held(path: str | os.PathLike[str], flags: int, mode: int, take: Callable[[int], None]) -> int | None:
    """Open a file, or make it, and take its lock: nobody who asks for that removes it from now on.

    Args:
        path: The file.
        flags: Flags of `os.open`.
        mode: Permissions of a new file.
        take: Takes the lock of a descriptor.

    Returns:
        The descriptor; None: whoever had the lock before has removed the file between the two.
    """
    fd = disk.open(path, flags, mode)
    try:
        take(fd)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
    except BaseException:
        disk.close(fd)
        raise
    disk.close(fd)
    return None


def try_lock(fd: int) -> bool:
    """Lock a file exclusively until its descriptor is closed; return False if another one holds it."""
    try:
        system.lock(fd, shared=False, wait=False)
    except BlockingIOError:
        return False
    return True


def is_locked(path: str) -> bool:
    """Return whether a process holds the lock of a file, or shares it.

    Raises:
        OSError: The file is missing, or can't be opened.
    """
    fd = disk.open(path, os.O_RDWR)  # no child process gets it: that is Python's default
    try:
        return not try_lock(fd)
    finally:
        disk.close(fd)


def drop_unowned(path: str | os.PathLike[str]) -> bool:
    """Remove a file if no process has it locked; return whether that was so.

    Raises:
        OSError: It can't be locked, or can't be removed.
    """
    try:
        fd = disk.open(path, os.O_RDWR | _NOFOLLOW | system.open_flags)
    except OSError:  # another one removed it; or out of descriptors: the next sweep will
        return False
    with contextlib.ExitStack() as open_file:
        open_file.callback(disk.close, fd)
        if not try_lock(fd):
            return False
        if not system.deletes_open:
            open_file.close()
        try:
            disk.unlink(path)
        except FileNotFoundError:
            return False
        return True


# ---- folders of owners ------------------------------------------------------------------------------------


def sync_names(folder: str | os.PathLike[str]) -> None:
    """Make the entries of a folder durable; where that fails, only a power cut may leave it behind."""
    with contextlib.suppress(OSError):
        system.sync_folder(os.fspath(folder))


def remove_owned(folder: str | os.PathLike[str], lock: str) -> None:
    """Remove a folder, as far as possible, and its lock file last: by it, the folder is still known if this dies."""
    for _ in range(3):  # another thread may add a file meanwhile
        with contextlib.suppress(OSError):
            others = _others(folder, lock)
            for entry in others:
                if entry.is_dir(follow_symlinks=False):
                    disk.remove_tree(entry.path)
                else:
                    with contextlib.suppress(OSError):
                        disk.unlink(entry.path)
            if others:
                sync_names(folder)
                if _others(folder, lock):
                    continue
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(os.path.join(folder, lock))
            disk.rmdir(folder)
        if not os.path.exists(folder):  # nor where the disk does not tell
            return


def _others(folder: str | os.PathLike[str], lock: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if entry.name != lock]


def remove_dead(folder: str | os.PathLike[str], lock: str) -> bool:
    """Remove a folder if nobody holds its lock; return whether.

    Raises:
        OSError: It is somebody else's, or was removed just now.
    """
    try:
        fd = disk.open(os.path.join(folder, lock), os.O_RDWR | _NOFOLLOW | system.open_flags)
    except FileNotFoundError:
        if time.time() - os.stat(folder).st_mtime < GRACE_SECONDS:
            return False
        disk.rmdir(folder)  # fails if it is not empty: then it is a folder of the user's with such a name
        return True
    try:
        if not try_lock(fd):
            return False
        remove_owned(folder, lock)
        return True
    finally:
        disk.close(fd)
